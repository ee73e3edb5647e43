//! Where a value stands, what is wrong with it, and the collection of all that is wrong.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// How many mistakes are told in full; a file of garbage would otherwise fill a screen many times over.
const TOLD: usize = 100;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nothing sets it, and it has no default.
    Unset,
    /// The default that is built in.
    Default {
        /// The line of the built-in file, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
    },
    /// The configuration file.
    File {
        /// The file, absolute when the current folder is.
        path: Arc<PathBuf>,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
    },
    /// A variable of the environment.
    Environment {
        /// The whole name of the variable.
        name: String,
    },
    /// A flag of the command line.
    Flag {
        /// The flag with its dashes.
        name: &'static str,
    },
}

/// One mistake in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where it stands.
    pub origin: Origin,
    /// The key, such as `http.port`; empty when the text is not TOML at this place.
    pub key: String,
    /// What is wrong, with what was found. Never the text of something that may be a secret.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

/// All mistakes found so far, up to a bound.
#[derive(Debug, Default)]
pub(crate) struct Mistakes {
    told: Vec<Mistake>,
    untold: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => f.write_str("not set"),
            Self::Default { line, column } => write!(f, "built-in default:{line}:{column}"),
            Self::File { path, line, column } => {
                write!(f, "{}:{line}:{column}", path.display())
            }
            Self::Environment { name } => f.write_str(name),
            Self::Flag { name } => f.write_str(name),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key.escape_debug())?;
        }
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

impl Mistakes {
    /// Adds what `make` makes, or only counts it when there are too many already.
    pub(crate) fn add(&mut self, make: impl FnOnce() -> Mistake) {
        if self.told.len() < TOLD {
            self.told.push(make());
        } else {
            self.untold += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// The mistakes in the order of their places, and how many more there are.
    pub(crate) fn into_parts(mut self) -> (Vec<Mistake>, usize) {
        self.told.sort();
        (self.told, self.untold)
    }
}
