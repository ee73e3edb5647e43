//! One parameter of a script: its name, its form in arguments, and what its values must be like.

use std::fmt;
use std::sync::OnceLock;

use regex::Regex;

use crate::description::{Effect, Limit, ValueType};

/// Most times that a counted flag can be given: its value becomes as many arguments.
const MAX_COUNT: usize = 100;

/// A parameter as it was declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name everywhere: `params.<name>`, `type.<name>` in the header, `usage_<name>` in the environment.
    pub name: String,
    /// How it stands among arguments.
    pub form: Form,
    /// What its values are.
    pub value_type: ValueType,
    /// Whether it must be given.
    pub required: bool,
    /// Where it takes several values: how many.
    pub repeat: Option<Repeat>,
    /// What the environment says where it is not given.
    pub default: Vec<String>,
    /// The values that it takes, where they are listed.
    pub choices: Vec<Choice>,
    /// What else its values must be like.
    pub rules: Rules,
    /// Whether its value is a secret: handed over in a file, kept and shown nowhere.
    pub secret: bool,
    /// What it has to do with other parameters.
    pub relations: Relations,
    /// What giving it makes the script do, where that is more than the script's own effect.
    pub effect: Option<Effect>,
    /// What it means.
    pub help: Option<String>,
    /// Whether help leaves it out.
    pub hidden: bool,
}

/// What a parameter has to do with others, by their names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Relations {
    /// With these it cannot be given.
    pub conflicts: Vec<String>,
    /// Where it is given, each of these has a value: a given one or a default.
    pub requires: Vec<String>,
    /// It must be given where one of these is.
    pub required_if: Vec<String>,
    /// It must be given where none of these is.
    pub required_unless: Vec<String>,
}

/// How a parameter stands among arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// By its place.
    Positional(DoubleDash),
    /// `--name value`.
    Value {
        /// How it is spelled.
        flag: Flag,
        /// Whether only `--name=value` is read.
        require_equals: bool,
        /// Whether the word behind the flag is its value whatever it looks like.
        hyphen_values: bool,
    },
    /// `--name`, and perhaps `--no-name`.
    Switch {
        /// How it is spelled.
        flag: Flag,
        /// The spelling that means false.
        negate: Option<String>,
    },
    /// `-vvv`: its value is how often it is given.
    Count(Flag),
}

/// The spellings of a flag with their hyphens, the one to write first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag(pub Vec<String>);

/// What `--` has to do with a positional parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoubleDash {
    /// It may stand before its value.
    Optional,
    /// It must stand before its value.
    Required,
    /// It is as if it stood behind its first value.
    Automatic,
}

/// How many values a parameter takes that takes several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repeat {
    /// At least so many, where it is given at all.
    pub min: usize,
    /// At most so many.
    pub max: Option<usize>,
}

/// A value that a parameter takes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Choice {
    /// The value.
    pub value: String,
    /// What it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// What values must be like beside their type.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules {
    /// Smallest value.
    pub min: Option<Limit>,
    /// Greatest value.
    pub max: Option<Limit>,
    /// Least characters.
    pub min_length: Option<usize>,
    /// Most characters.
    pub max_length: Option<usize>,
    /// What a whole value must match.
    pub pattern: Option<Pattern>,
}

/// A regular expression that a whole value must match. Most patterns of a large catalogue are never asked, and a
/// compiled one takes a hundred times its text, so it is compiled when it is used.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Parameter {
    /// The variable that tells the script its value, or, for a secret, the path of the file that holds it.
    pub fn variable(&self) -> String {
        if self.secret { format!("usage_{}_file", self.name) } else { format!("usage_{}", self.name) }
    }

    /// Whether it has a value where it is not given.
    pub(crate) fn has_default(&self) -> bool {
        !self.default.is_empty()
    }

    /// The spelling that messages name it by.
    pub fn spelling(&self) -> &str {
        self.form.flag().and_then(|flag| flag.0.first()).map_or(self.name.as_str(), String::as_str)
    }

    /// Most values that it takes.
    pub(crate) fn max_values(&self) -> usize {
        let unlimited = if matches!(self.form, Form::Count(_)) { MAX_COUNT } else { usize::MAX };
        self.repeat.map_or(1, |repeat| repeat.max.unwrap_or(unlimited).min(unlimited))
    }
}

impl Form {
    /// Its spellings, where it is a flag.
    pub fn flag(&self) -> Option<&Flag> {
        match self {
            Self::Positional(_) => None,
            Self::Value { flag, .. } | Self::Switch { flag, .. } | Self::Count(flag) => Some(flag),
        }
    }

    /// Whether it takes a value, and so has a type that can be said.
    pub fn takes_value(&self) -> bool {
        matches!(self, Self::Positional(_) | Self::Value { .. })
    }
}

impl Pattern {
    /// Reads a pattern in what Rust's and ECMA's regular expressions have in common, so that every front reads it
    /// alike.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn new(text: &str) -> Result<Self, String> {
        const APART: [&str; 5] = ["(?", "[[:", "&&", "--", "~~"];
        let apart = APART.iter().find(|apart| text.replace("(?:", "").contains(**apart));
        if let Some(apart) = apart.map(|apart| (*apart).to_owned()).or_else(|| escape_apart(text)) {
            let instead = "write it out, such as [0-9] or [A-Za-z0-9_]";
            return Err(format!(
                "it holds `{apart}`, which not every reader of patterns reads alike; {instead}"
            ));
        }
        // By itself first: a parenthesis that closes none of its own would close the one that makes it match as a whole.
        let by_itself =
            regex_syntax::ast::parse::Parser::new().parse(text).map_err(|error| error.to_string());
        match by_itself.and_then(|_| Self::compile(text).map_err(|error| error.to_string())) {
            Ok(_) => Ok(Self { text: text.to_owned(), compiled: OnceLock::new() }),
            Err(error) => Err(error.lines().last().unwrap_or_default().trim().to_owned()),
        }
    }

    fn compile(text: &str) -> Result<Regex, regex::Error> {
        regex::RegexBuilder::new(&format!("^(?:{text})$")).size_limit(1 << 20).build()
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole value matches.
    pub fn matches(&self, value: &str) -> bool {
        // It was compiled once when it was read, so that there is one; none would let no value pass.
        let compiled = self.compiled.get_or_init(|| Self::compile(&self.text).ok());
        compiled.as_ref().is_some_and(|whole| whole.is_match(value))
    }
}

/// The first escape that means something other than its own character, but for the few that all readers know.
fn escape_apart(text: &str) -> Option<String> {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            continue;
        }
        let escaped = characters.next()?;
        let has_meaning = escaped.is_ascii_alphanumeric() || "<>".contains(escaped);
        if has_meaning && !"ntr".contains(escaped) {
            return Some(format!("\\{escaped}"));
        }
    }
    None
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
