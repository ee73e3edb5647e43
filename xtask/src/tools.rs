//! Programs that tests use and that Debian does not have: got from registries of packages, each in one known version, into
//! the folder of everything that is built. Nobody's own programs are touched, and none is got twice.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::programs::is_installed;
use crate::step::{Steps, cargo, say};

/// One such program.
struct Tool {
    name: &'static str,
    version: &'static str,
    /// What needs it.
    purpose: &'static str,
    /// Gets it into a folder that is empty, or not there yet.
    get: fn(&Path, &Path, &str) -> Option<PathBuf>,
}

const TOOLS: &[Tool] = &[
    Tool {
        name: "usage",
        version: "7.1.5",
        purpose: "the shipped scripts under `usage bash`",
        get: by_cargo,
    },
    Tool { name: "mise", version: "2026.9.15", purpose: "the shipped scripts as tasks of mise", get: by_npm },
    Tool {
        name: "schemathesis",
        version: "4.32.5",
        purpose: "the service against its own description",
        get: by_pip,
    },
];

/// The versions of what schemathesis needs.
const CONSTRAINTS: &str = "xtask/schemathesis.txt";

/// Gets what is missing. What cannot be had is said; the tests that need it fail and name it.
pub(crate) fn ensure(folder: &Path) {
    let Some(tools) = tools_folder() else {
        say("xtask: cannot tell where this program was built, and so where to put other programs");
        return;
    };
    for tool in TOOLS {
        if let Err(why) = ensure_one(folder, &tools, tool) {
            say(&format!(
                "xtask: {} {} cannot be had here ({why}); tests fail that need {}",
                tool.name, tool.version, tool.purpose
            ));
        }
    }
}

fn ensure_one(folder: &Path, tools: &Path, tool: &Tool) -> Result<(), String> {
    let link = tools.join("bin").join(tool.name);
    let home = tools.join(format!("{}-{}", tool.name, tool.version));
    // A link to another version is as good as none.
    if link.exists() && fs::read_link(&link).is_ok_and(|target| target.starts_with(&home)) {
        return Ok(());
    }
    let program = (tool.get)(folder, &home, tool.version).filter(|program| program.exists());
    let program = program.ok_or("its installation failed")?;
    relink(&program, &link).map_err(|error| format!("linking {}: {error}", link.display()))
}

fn relink(program: &Path, link: &Path) -> io::Result<()> {
    fs::create_dir_all(link.parent().unwrap_or(Path::new(".")))?;
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => symlink(program, link),
    }
}

/// Beside what this program was built into: `target/tools` beside `target/debug`. This program's own tests say another.
fn tools_folder() -> Option<PathBuf> {
    let named = env::var_os("XTASK_TOOLS").map(PathBuf::from);
    named.or_else(|| Some(env::current_exe().ok()?.parent()?.parent()?.join("tools")))
}

/// Compiled without what would only make it faster or easier to debug, which takes two minutes on two cores; what that
/// leaves behind is removed.
fn by_cargo(folder: &Path, home: &Path, version: &str) -> Option<PathBuf> {
    let build = home.join("build");
    let mut command = cargo();
    command.args(["install", "usage-cli", "--locked", "--profile", "dev", "--version", version]);
    command.args(["--config", "profile.dev.debug=false", "--root"]).arg(home).arg("--target-dir").arg(&build);
    let installed = Steps::new(folder).run(&mut command);
    // What stays there costs nothing but room.
    let _ = fs::remove_dir_all(&build);
    installed.then(|| home.join("bin/usage"))
}

/// As its authors built it.
fn by_npm(folder: &Path, home: &Path, version: &str) -> Option<PathBuf> {
    let machine = match env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        _ => return None,
    };
    if !is_installed("npm") {
        say("xtask: npm is missing, by which mise is got (package npm)");
        return None;
    }
    let package = format!("@jdxcode/mise-linux-{machine}");
    let mut command = Command::new("npm");
    command.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]).arg(home);
    command.arg(format!("{package}@{version}"));
    // It takes the folder above for its own, where that holds a package of npm's.
    fs::create_dir_all(home).ok()?;
    let installed = Steps::new(folder).run(&mut command);
    installed.then(|| home.join("node_modules").join(package).join("bin/mise"))
}

/// Into a virtual environment of its own, with all that it needs in the versions that a file beside this program names.
fn by_pip(folder: &Path, home: &Path, version: &str) -> Option<PathBuf> {
    let mut steps = Steps::new(folder);
    // What an installation left that did not come to its end is made anew.
    let mut environment = Command::new("python3");
    environment.args(["-m", "venv", "--clear"]).arg(home);
    if !steps.run(&mut environment) {
        say("xtask: python3 makes no virtual environment; Debian has that in the package python3-venv");
        return None;
    }
    let mut command = Command::new(home.join("bin/pip"));
    command.args(["install", "--quiet", "--disable-pip-version-check", "--constraint", CONSTRAINTS]);
    command.arg(format!("schemathesis=={version}"));
    steps.run(&mut command).then(|| home.join("bin/schemathesis"))
}
