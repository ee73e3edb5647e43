//! What a script says of itself: the result of reading its header, and all that validation works with.

mod parameter;
mod value_type;

use std::time::Duration;

pub use parameter::{Choice, DoubleDash, Flag, Form, Parameter, Pattern, Relations, Repeat, Rules};
pub use value_type::{Limit, ValueType};

use crate::retry::RetryPolicy;

/// What a script does to the world. The order is that of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It changes nothing.
    Read,
    /// It changes something that can be changed back.
    Write,
    /// What it does cannot be undone; whoever runs it confirms it by its name.
    Destructive,
}

/// An output parameter that a script says it writes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Output {
    /// Its key.
    pub name: String,
    /// What it holds.
    pub description: String,
    /// What its value is.
    #[serde(rename = "type")]
    pub value_type: ValueType,
}

/// What a script's header declares.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScriptDescription {
    /// One sentence: `description` of `#TASK`, else `about` of `#USAGE`.
    pub description: Option<String>,
    /// A longer help in Markdown.
    pub help: Option<String>,
    /// The group that lists show it in.
    pub group: Option<String>,
    /// Free words for filters.
    pub tags: Vec<String>,
    /// Whether lists leave it out; it runs all the same.
    pub hidden: bool,
    /// What it does to the world; none where nothing is said.
    pub effect: Option<Effect>,
    /// Its time limit: default and ceiling at once.
    pub timeout: Option<Duration>,
    /// Time between TERM and KILL.
    pub grace: Option<Duration>,
    /// Most tasks of it that run at once in one service.
    pub concurrency: Option<u32>,
    /// Most tasks of it that wait there.
    pub queue: Option<u32>,
    /// What is tried again; its number of retries is default and ceiling at once.
    pub retry: RetryPolicy,
    /// Variables that callers may set.
    pub env: Vec<String>,
    /// Its parameters in the order of their declaration.
    pub parameters: Vec<Parameter>,
    /// The output parameters that it says it writes.
    pub outputs: Vec<Output>,
    /// Whether a word that looks like a flag and is none is passed on as a value.
    pub takes_unknown_flags: bool,
}

impl ScriptDescription {
    /// The names of its secret parameters.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().filter(|parameter| parameter.secret).map(|parameter| parameter.name.as_str())
    }

    /// The parameter of that name.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }
}

impl Effect {
    /// The effect of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "read" => Some(Self::Read),
            "write" => Some(Self::Write),
            "destructive" => Some(Self::Destructive),
            _ => None,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Destructive => "destructive",
        }
    }
}
