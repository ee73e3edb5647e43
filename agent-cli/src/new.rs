//! `agent-cli new`: a script to begin with, which describes itself, runs, and passes `lint`.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use executor_integrity::MANIFEST_NAME;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use task_runners::{NameError, ScriptName};

use crate::args::{Global, Interpreter, NewArgs};
use crate::context;
use crate::failure::Failure;
use crate::output::{self, say};

/// Mode of scripts, and of the folders that are made for them: nobody else may write what is run.
const MODE: u32 = 0o755;

/// Writes a new script below the scripts folder, and says what to do next.
pub(crate) fn new(global: &Global, args: &NewArgs) -> Result<ExitCode, Failure> {
    let name: ScriptName = args.script.parse().map_err(|NameError(problem)| {
        Failure::new(format!("'{}' can be no script's name", args.script.escape_debug()))
            .with_details(vec![problem.to_string()])
    })?;
    let folder = context::settings(global)?.script_executor.script_dir_prefix;
    let text = template(&name, args.interpreter);
    create(&folder, &name, text.as_bytes()).map_err(|error| failure(&error, &folder, &name))?;
    output::print(&folder.join(name.as_str()).display().to_string());
    say("its first lines say what it takes and does; change them first, and then:");
    say(&format!("  agent-cli lint {name}"));
    say(&format!("  agent-cli run --dry-run {name} x"));
    if folder.join(MANIFEST_NAME).exists() {
        say("  agent-cli manifest create");
    }
    Ok(ExitCode::SUCCESS)
}

fn template(name: &ScriptName, interpreter: Option<Interpreter>) -> String {
    let text = match interpreter.unwrap_or(of_ending(name)) {
        Interpreter::Bash => include_str!("new/template.bash"),
        Interpreter::Sh => include_str!("new/template.sh"),
        Interpreter::Python => include_str!("new/template.py"),
    };
    text.to_owned()
}

fn of_ending(name: &ScriptName) -> Interpreter {
    match Path::new(name.as_str()).extension() {
        Some(ending) if ending == "py" => Interpreter::Python,
        _ => Interpreter::Bash,
    }
}

/// Makes the file, and the folders above it. Every step is taken from the folder before it, and none through a link, so
/// that nothing is written outside the scripts folder; what is there already stays.
fn create(folder: &Path, name: &ScriptName, text: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut above: OwnedFd = File::open(folder)?.into();
    let mut segments = name.as_str().split('/').peekable();
    while let Some(segment) = segments.next() {
        if segments.peek().is_none() {
            return create_file(&above, segment, text);
        }
        let folders = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match mkdirat(&above, segment, Mode::from_bits_truncate(MODE)) {
            Ok(()) | Err(Errno::EEXIST) => above = openat(&above, segment, folders, Mode::empty())?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The file becomes executable when all of it is there.
fn create_file(above: &OwnedFd, file_name: &str, text: &[u8]) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file: File = openat(above, file_name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?.into();
    let written = file.write_all(text).and_then(|()| file.set_permissions(Permissions::from_mode(MODE)));
    if written.is_err() {
        // What cannot be finished must not lie in the way of the next try.
        let _ = unlinkat(above, file_name, UnlinkatFlags::NoRemoveDir);
    }
    written
}

fn failure(error: &io::Error, folder: &Path, name: &ScriptName) -> Failure {
    let path = folder.join(name.as_str());
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EEXIST) => {
            Failure::new(format!("{} is there already, and stays as it is", path.display()))
        }
        Some(Errno::ELOOP | Errno::ENOTDIR) => Failure::new(format!(
            "cannot make {}: what stands above it is a link or a file; expected folders",
            path.display()
        )),
        _ => Failure::new(format!("cannot make {}: {error}", path.display())),
    }
}
