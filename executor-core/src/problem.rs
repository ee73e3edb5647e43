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

/// Most mistakes of one input that are told, and most bytes of a field's name.
const MAX_TOLD: usize = 100;
const MAX_FIELD_BYTES: usize = 256;

/// The mistakes of one input as they are found. The first hundred are kept, more are only counted, so that an input made
/// of nothing but mistakes costs neither memory nor a large answer.
#[derive(Debug, Default)]
pub struct Problems {
    told: Vec<Problem>,
    more: usize,
}

impl Problems {
    /// Notes a mistake.
    pub fn push(&mut self, mut problem: Problem) {
        if self.told.len() == MAX_TOLD {
            self.more += 1;
            return;
        }
        if problem.field.len() > MAX_FIELD_BYTES {
            problem.field.truncate(problem.field.floor_char_boundary(MAX_FIELD_BYTES));
            problem.field.push('…');
        }
        self.told.push(problem);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// Whether one of a field was noted.
    pub fn is_about(&self, field: &str) -> bool {
        self.told.iter().any(|problem| problem.field == field)
    }

    /// What is told; where there are more, how many stands at the end.
    pub fn into_vec(mut self) -> Vec<Problem> {
        if self.more > 0 {
            let expected = format!("no mistakes; there are {} more", self.more);
            self.told.push(Problem::new("body", "more", expected));
        }
        self.told
    }
}

impl Extend<Problem> for Problems {
    fn extend<T: IntoIterator<Item = Problem>>(&mut self, problems: T) {
        problems.into_iter().for_each(|problem| self.push(problem));
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.field, self.expected, self.rule)
    }
}

/// Joins problems for a one-line message.
pub fn join(problems: &[Problem]) -> String {
    let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
    texts.join("; ")
}
