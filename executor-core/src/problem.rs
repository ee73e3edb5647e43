//! What was wrong with an input, in the words that every front shows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One mistake in an input: which field, which rule it broke, and what would be right.
///
/// The library, the command line, the HTTP API and the page all show these same three texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The field as the caller wrote it, such as `name`, `args[2]` or `env.LD_PRELOAD`.
    pub field: String,
    /// The rule in `snake_case`; stable, for programs.
    pub rule: String,
    /// What would be right, a sentence for people.
    pub expected: String,
}

impl Problem {
    /// Makes a problem of its three texts.
    pub fn new(field: impl Into<String>, rule: &str, expected: impl Into<String>) -> Self {
        Self { field: field.into(), rule: rule.to_owned(), expected: expected.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.field, self.expected, self.rule)
    }
}

/// Joins problems for a one-line message.
pub(crate) fn join(problems: &[Problem]) -> String {
    let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
    texts.join("; ")
}
