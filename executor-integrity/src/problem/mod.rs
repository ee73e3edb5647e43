//! What can be wrong with a scripts folder: a stable code for programs, and for people what is wrong and
//! what would be right. Problems are collected, never only the first one told.

mod file;
mod line;
mod manifest;

use std::fmt;

pub use file::FileFault;
pub use line::LineFault;
pub use manifest::ManifestFault;

use crate::MANIFEST_NAME;

/// The most problems that are kept of one folder; more are only counted, so that a folder full of rubbish
/// costs no memory.
pub const MAX_PROBLEMS: usize = 10_000;

/// One thing that is wrong with a scripts folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A file or folder beneath the scripts folder, or the folder itself, which is named `.`.
    File {
        /// Its name relative to the scripts folder, control characters escaped.
        name: String,
        /// What is wrong with it.
        fault: FileFault,
    },
    /// A line of the manifest.
    Line {
        /// Its number, counted from 1.
        line: usize,
        /// What is wrong with it.
        fault: LineFault,
    },
    /// The manifest as a whole, or its signature.
    Manifest(ManifestFault),
}

impl Problem {
    pub(crate) fn file_fault(name: impl Into<String>, fault: FileFault) -> Self {
        Self::File { name: name.into(), fault }
    }

    pub(crate) fn line_fault(line: usize, fault: LineFault) -> Self {
        Self::Line { line, fault }
    }

    pub(crate) fn is_bad_header(&self) -> bool {
        matches!(self, Self::Line { fault: LineFault::BadHeader { .. }, .. })
    }

    /// The kind of problem, in snake_case. Stable: programs may compare it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::File { fault, .. } => fault.code(),
            Self::Line { fault, .. } => fault.code(),
            Self::Manifest(fault) => fault.code(),
        }
    }

    /// The file that it is about, relative to the scripts folder; `.` is the folder itself.
    #[must_use]
    pub fn file(&self) -> &str {
        match self {
            Self::File { name, .. } => name,
            Self::Line { .. } => MANIFEST_NAME,
            Self::Manifest(fault) => fault.file(),
        }
    }

    /// The line of the manifest that it is about, counted from 1.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Line { line, .. } => Some(*line),
            Self::File { .. } | Self::Manifest(_) => None,
        }
    }

    /// What is wrong, in words.
    #[must_use]
    pub fn wrong(&self) -> String {
        match self {
            Self::File { fault, .. } => fault.wrong(),
            Self::Line { fault, .. } => fault.wrong(),
            Self::Manifest(fault) => fault.wrong(),
        }
    }

    /// What would be right, in words.
    #[must_use]
    pub fn right(&self) -> String {
        match self {
            Self::File { fault, .. } => fault.right().to_owned(),
            Self::Line { fault, .. } => fault.right(),
            Self::Manifest(fault) => fault.right(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.file())?;
        if let Some(line) = self.line() {
            write!(formatter, ":{line}")?;
        }
        write!(formatter, ": {} [{}]: {}", self.wrong(), self.code(), self.right())
    }
}

/// The problems of one folder: at most [`MAX_PROBLEMS`], the rest is counted. Shown one to a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    more: usize,
}

impl Problems {
    /// The problems, in the order in which they were found: the manifest's, then the files' by name.
    #[must_use]
    pub fn as_slice(&self) -> &[Problem] {
        &self.list
    }

    /// How many there are beside those that are kept.
    #[must_use]
    pub fn more(&self) -> usize {
        self.more
    }

    pub(crate) fn push(&mut self, problem: Problem) {
        if self.list.len() < MAX_PROBLEMS {
            self.list.push(problem);
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            write!(formatter, "\n  {problem}")?;
        }
        if self.more > 0 {
            write!(formatter, "\n  and {} more", self.more)?;
        }
        Ok(())
    }
}
