//! Why a command ended without success. Written by hand, so that this program builds in a moment.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// Why a command ended without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments name nothing that can be done.
    Usage { help: String },
    /// Programs that are needed are absent and cannot be installed here.
    Missing { report: String },
    /// Steps that ran and did not succeed.
    Steps { names: Vec<String> },
    /// A made file is not what would be made now.
    Stale { path: PathBuf },
    /// Something that a step does by itself failed.
    Step { action: &'static str, what: PathBuf, why: String },
    /// A file cannot be read or written.
    File { operation: &'static str, path: PathBuf, source: io::Error },
}

impl Failure {
    /// 2 for wrong arguments, 1 for everything else.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage { .. } => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage { help } => f.write_str(help),
            Self::Missing { report } => f.write_str(report),
            Self::Steps { names } => write!(f, "failed: {}", names.join(", ")),
            Self::Stale { path } => {
                write!(f, "{} is out of date; `cargo xtask docs` makes it anew", path.display())
            }
            Self::Step { action, what, why } => write!(f, "{action} {}: {why}", what.display()),
            Self::File { operation, path, source } => write!(f, "{operation} {}: {source}", path.display()),
        }
    }
}
