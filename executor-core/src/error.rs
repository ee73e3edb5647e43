//! Why an execution was not started. What ran and failed is a result, never one of these.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

use crate::names::ScriptName;
use crate::problem::{Problem, join};

/// The code where the scripts folder has no such file.
const NOT_FOUND: &str = "script_not_found";
/// The code of a host that failed in another way than those below.
const HOST_FAILED: &str = "host_failed";
/// The code where secrets would have to be written to a disk.
const NO_MEMORY_FILE_SYSTEM: &str = "no_memory_filesystem";
/// What the kernel says when the host lacks something, and the code for it.
const HOST_FAULTS: [(i32, &str); 8] = [
    (libc::EMFILE, "out_of_descriptors"),
    (libc::ENFILE, "out_of_descriptors"),
    (libc::EAGAIN, "out_of_processes"),
    (libc::ENOMEM, "out_of_memory"),
    (libc::ENOSPC, "disk_full"),
    (libc::EDQUOT, "disk_full"),
    (libc::EROFS, "read_only_file_system"),
    (libc::EIO, "io_error"),
];

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The request breaks rules; all of them are named.
    #[error("the request is invalid: {}", join(.0))]
    Invalid(Vec<Problem>),
    /// The scripts folder has no such file.
    #[error("there is no script '{0}' in the scripts folder")]
    NotFound(ScriptName),
    /// The file is there but cannot be executed as it is.
    #[error("cannot run the script '{name}': {fault}")]
    Script {
        /// The script.
        name: ScriptName,
        /// What is wrong with it.
        fault: ScriptFault,
    },
    /// Whoever vouches for scripts does not vouch for this one.
    #[error("cannot run unverified scripts: {0}")]
    Unverified(String),
    /// The shared workspace is in use by another execution.
    #[error("the shared workspace '{0}' is in use by another task; try again when it has ended")]
    WorkspaceBusy(String),
    /// What would carry it out is not there now, or has no room. The text names what is waited for: tasks that wait for the
    /// same are let in together.
    #[error("what would carry it out is not there now, or has no room; the task waits for it: {0}")]
    Away(String),
    /// The execution has secrets, and there is no memory file system to hand them over on.
    #[error(
        "the task has secrets, which are kept in memory only, and the scratch folder {} is on a disk; give the service a \
         RuntimeDirectory=, or mount a tmpfs without noexec at /dev/shm",
        .scratch.display()
    )]
    NoMemoryFileSystem {
        /// Where they would have been written.
        scratch: PathBuf,
    },
    /// The host did not let the agent do what it needed.
    #[error("cannot {operation}: {source}{}", hint(.source))]
    Host {
        /// What the agent was about to do, with the path or name that it was about.
        operation: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What is wrong with a script's file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptFault {
    /// It is a link, a folder, a device or a pipe.
    #[error("it is {0}; scripts are regular files")]
    NotAFile(&'static str),
    /// Its mode or owner lets others change it.
    #[error("{0}")]
    Unsafe(String),
    /// It lacks the executable bit, or the kernel does not execute it.
    #[error("{0}")]
    NotExecutable(String),
    /// It lies on a file system that is mounted noexec.
    #[error("it lies on a file system that is mounted noexec; move the scripts folder or remount it")]
    OnNoexec,
    /// Its first line does not say how to run it, or its header says what cannot be.
    #[error("{message}")]
    FirstLine {
        /// Which way the first line is wrong; stable.
        code: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
    /// Argument list or environment are longer than the kernel takes.
    #[error(
        "its arguments and environment are too long: the kernel takes 128 KiB for one of them and a few MiB in all"
    )]
    TooLong,
}

impl ScriptFault {
    /// The stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAFile(_) => "script_not_a_file",
            Self::Unsafe(_) => "script_unsafe",
            Self::NotExecutable(_) => "script_not_executable",
            Self::OnNoexec => "script_on_noexec",
            Self::FirstLine { code, .. } => code,
            Self::TooLong => "arguments_too_long",
        }
    }
}

impl StartError {
    /// The stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::NotFound(_) => NOT_FOUND,
            Self::Script { fault, .. } => fault.code(),
            Self::Unverified(_) => "scripts_unverified",
            Self::WorkspaceBusy(_) => "work_dir_busy",
            Self::Away(_) => "node_away",
            Self::NoMemoryFileSystem { .. } => NO_MEMORY_FILE_SYSTEM,
            Self::Host { source, .. } => host_code(source),
        }
    }

    /// Whether the same request may succeed a little later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::WorkspaceBusy(_) | Self::Away(_) | Self::Host { .. })
    }

    /// The exit code for a command line: 127 no such script, 126 refused or not executable, 125 the agent failed.
    pub fn command_line_code(&self) -> i32 {
        command_line_code(self.code())
    }

    /// One mistake in one field of the request.
    pub(crate) fn invalid(field: impl Into<String>, rule: &str, expected: impl Into<String>) -> Self {
        Self::Invalid(vec![Problem::new(field, rule, expected)])
    }

    /// For `map_err`: says what the agent was about to do; nothing is made of it before there is an error.
    pub(crate) fn host(operation: impl Display) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Host { operation: operation.to_string(), source }
    }
}

/// The exit code of a command line for why nothing was started: 127 no such script, 125 the host or the agent failed,
/// 126 everything else.
pub(crate) fn command_line_code(code: &str) -> i32 {
    match code {
        NOT_FOUND => 127,
        code if code == NO_MEMORY_FILE_SYSTEM || is_host_fault(code) => 125,
        _ => 126,
    }
}

/// Whether a code says that the host did not let the agent do what it needed.
pub(crate) fn is_host_fault(code: &str) -> bool {
    code == HOST_FAILED || HOST_FAULTS.iter().any(|(_, fault)| *fault == code)
}

fn host_code(error: &io::Error) -> &'static str {
    let fault = HOST_FAULTS.iter().find(|(number, _)| error.raw_os_error() == Some(*number));
    fault.map_or(HOST_FAILED, |(_, code)| code)
}

fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => {
            "; raise the limit of open files (LimitNOFILE=), or run fewer tasks at once"
        }
        Some(libc::EAGAIN) => {
            "; raise the limit of processes (TasksMax=, ulimit -u), or run fewer tasks at once"
        }
        Some(libc::ENOSPC | libc::EDQUOT) => "; free some space",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExecutionResult, Outcome};

    /// A task that was accepted and then not started ends as one that is refused at once.
    #[test]
    fn a_result_of_what_was_not_started_has_the_exit_code_of_the_error() {
        let host = |number| StartError::host("start")(io::Error::from_raw_os_error(number));
        let name = || "x.sh".parse::<ScriptName>().unwrap();
        for (error, code) in [
            (StartError::NotFound(name()), 127),
            (StartError::Script { name: name(), fault: ScriptFault::OnNoexec }, 126),
            (StartError::Unverified("it is not".to_owned()), 126),
            (StartError::invalid("timeout", "duration", "a time"), 126),
            (StartError::NoMemoryFileSystem { scratch: "/var/tmp".into() }, 125),
            (host(libc::EMFILE), 125),
            (host(libc::EDQUOT), 125),
            (host(libc::EACCES), 125),
        ] {
            let result = ExecutionResult::without_run(Outcome::NotStarted, error.code(), error.to_string());
            assert_eq!((error.command_line_code(), result.command_line_code()), (code, code), "{error}");
        }
    }
}
