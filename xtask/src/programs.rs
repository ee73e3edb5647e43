//! Programs that tests and checks use, where Debian has them, and how they are got.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::failure::Failure;
use crate::step::{Steps, say};

/// One program that is not part of Rust.
struct Program {
    /// What is looked for in `PATH`.
    name: &'static str,
    /// The Debian package that has it.
    package: &'static str,
    /// What needs it.
    purpose: &'static str,
}

const PROGRAMS: &[Program] = &[
    Program { name: "bash", package: "bash", purpose: "the scripts that ship with the agent" },
    Program { name: "curl", package: "curl", purpose: "scripts, and calls to the service from outside" },
    Program { name: "faketime", package: "faketime", purpose: "a clock that steps" },
    Program { name: "fish", package: "fish", purpose: "completion in this shell" },
    Program { name: "git", package: "git", purpose: "the script that checks repositories out" },
    Program { name: "groff", package: "groff", purpose: "the manual without a warning" },
    Program { name: "man", package: "man-db", purpose: "the manual as people read it" },
    Program {
        name: "minisign",
        package: "minisign",
        purpose: "signatures made and checked by another program",
    },
    Program { name: "prometheus", package: "prometheus", purpose: "its promtool, which checks metrics" },
    Program {
        name: "python3",
        package: "python3",
        purpose: "scripts that fork and open sockets by themselves",
    },
    Program { name: "shellcheck", package: "shellcheck", purpose: "lints of shell scripts" },
    Program { name: "sqlite3", package: "sqlite3", purpose: "a look at the database from outside" },
    Program { name: "strace", package: "strace", purpose: "the order of system calls" },
    Program { name: "tmux", package: "tmux", purpose: "programs that talk to a terminal" },
    Program { name: "webhook", package: "webhook", purpose: "the peer that measurements compare with" },
    Program { name: "zsh", package: "zsh", purpose: "completion in this shell" },
    Program { name: "zstd", package: "zstd", purpose: "the script that packs folders" },
];

/// Makes sure that all programs are there: installs what is missing where that is possible, which is as root on Debian
/// and its relatives.
pub(crate) fn ensure(folder: &Path) -> Result<(), Failure> {
    let search = env::var_os("PATH").unwrap_or_default();
    let absent = missing(&search);
    if absent.is_empty() {
        return Ok(());
    }
    if is_root() && is_in(&search, "apt-get") {
        let names: Vec<&str> = absent.iter().map(|program| program.name).collect();
        say(&format!("xtask: not installed yet: {}", names.join(", ")));
        install(folder, &absent);
    }
    match missing(&search) {
        absent if absent.is_empty() => Ok(()),
        absent => Err(Failure::Missing { report: report(&absent) }),
    }
}

/// Whether this program is in `PATH`.
pub(crate) fn is_installed(name: &str) -> bool {
    is_in(&env::var_os("PATH").unwrap_or_default(), name)
}

/// What `apt-get` says is its answer; whether the programs are there afterwards is looked at anew.
fn install(folder: &Path, absent: &[&Program]) {
    let mut steps = Steps::new(folder);
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-q");
        command
    };
    steps.run(apt().arg("update"));
    let packages = absent.iter().map(|program| program.package);
    steps.run(apt().args(["install", "-y", "--no-install-recommends"]).args(packages));
}

fn missing(search: &OsStr) -> Vec<&'static Program> {
    PROGRAMS.iter().filter(|program| !is_in(search, program.name)).collect()
}

fn is_in(search: &OsStr, name: &str) -> bool {
    env::split_paths(search).any(|folder| {
        fs::metadata(folder.join(name))
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}

fn report(absent: &[&Program]) -> String {
    let mut report = "these programs are missing:".to_owned();
    for program in absent {
        report += &format!("\n  {:<10} (package {}): {}", program.name, program.package, program.purpose);
    }
    let packages: Vec<&str> = absent.iter().map(|program| program.package).collect();
    report + &format!("\ninstall them with: apt-get update && apt-get install -y {}", packages.join(" "))
}

/// The kernel gives this folder to the process's effective user.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_counts_only_when_it_can_be_executed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("strace");
        let search = folder.path().as_os_str();
        fs::write(&path, "").unwrap();
        assert!(!is_in(search, "strace"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(is_in(search, "strace"));
        let names: Vec<&str> = missing(search).iter().map(|program| program.name).collect();
        assert_eq!(names.len(), PROGRAMS.len() - 1);
        assert!(!names.contains(&"strace"));
    }

    #[test]
    fn a_report_names_program_package_purpose_and_the_command_that_helps() {
        let absent: Vec<&Program> = PROGRAMS.iter().filter(|program| program.name != "bash").collect();
        let report = report(&absent);
        for program in &absent {
            assert!(report.contains(program.name) && report.contains(program.purpose), "{report}");
        }
        assert!(report.contains("apt-get install -y curl faketime fish git"), "{report}");
        assert!(!report.contains("bash"), "{report}");
    }
}
