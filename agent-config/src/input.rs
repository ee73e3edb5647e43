//! One given value, from a file, the environment or a flag, and its conversion into what a setting needs.
//!
//! A conversion that fails says what was found and what would be right; where it stands is known to the caller.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use toml::de::DeValue;

/// How much of a wrong value is repeated in a message, in characters.
const SHOWN: usize = 60;

/// One given value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    /// From a file.
    Toml(&'a DeValue<'a>),
    /// From the environment or a flag.
    Text(&'a str),
    /// From a flag.
    Path(&'a Path),
}

/// Why a value cannot be taken.
#[derive(Debug)]
pub(crate) struct Wrong {
    /// Byte offset in the file, when it is a part of the value that is wrong.
    pub(crate) offset: Option<usize>,
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

/// A converted value, or everything that is wrong with it.
pub(crate) type Checked<T> = Result<T, Vec<Wrong>>;

impl Wrong {
    pub(crate) fn one<T>(found: &str, right: &str) -> Checked<T> {
        Err(vec![Self::found(found, right)])
    }

    /// Places what is wrong with a part of a value, where the part does not say it more exactly.
    pub(crate) fn at(wrongs: Vec<Self>, offset: usize) -> impl Iterator<Item = Self> {
        wrongs.into_iter().map(move |wrong| Self { offset: wrong.offset.or(Some(offset)), ..wrong })
    }

    fn found(found: &str, right: &str) -> Self {
        Self { offset: None, problem: format!("found {found}"), remedy: format!("expected {right}") }
    }
}

impl<'a> Input<'a> {
    /// A text that `parse` takes; `right` describes those in words.
    pub(crate) fn text<T>(self, right: &str, parse: impl Fn(&str) -> Option<T>) -> Checked<T> {
        match self.as_text().and_then(parse) {
            Some(value) => Ok(value),
            None => Wrong::one(&self.describe(), right),
        }
    }

    /// As [`text`](Self::text), for what may be a secret: a message tells its length only.
    pub(crate) fn secret<T>(self, right: &str, parse: impl Fn(&str) -> Option<T>) -> Checked<T> {
        let Some(text) = self.as_text() else {
            return Wrong::one(self.kind(), right);
        };
        match parse(text) {
            Some(value) => Ok(value),
            None => Wrong::one(&format!("{} characters", text.chars().count()), right),
        }
    }

    /// A whole number in a range.
    pub(crate) fn integer(self, least: u64, most: u64) -> Checked<u64> {
        match self.as_number().filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(number),
            None => Wrong::one(&self.describe(), &format!("a whole number from {least} to {most}")),
        }
    }

    /// `true` or `false`.
    pub(crate) fn boolean(self) -> Checked<bool> {
        match self {
            Self::Toml(DeValue::Boolean(value)) => Ok(*value),
            Self::Text("true") => Ok(true),
            Self::Text("false") => Ok(false),
            _ => Wrong::one(&self.describe(), "true or false"),
        }
    }

    /// A path that is neither empty nor holds a NUL byte.
    pub(crate) fn path(self) -> Checked<PathBuf> {
        const RIGHT: &str = "a path";
        if let Self::Path(path) = self {
            return match path.as_os_str().as_encoded_bytes() {
                [] => Wrong::one("an empty path", RIGHT),
                _ => Ok(path.to_path_buf()),
            };
        }
        self.text(RIGHT, |text| (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text)))
    }

    /// A moment as in RFC 3339, as text or as TOML's own form.
    pub(crate) fn instant(self) -> Checked<Timestamp> {
        let right = "a moment as in RFC 3339, such as \"2027-01-01T00:00:00Z\"";
        match self {
            Self::Toml(DeValue::Datetime(given)) => match given.to_string().parse() {
                Ok(instant) => Ok(instant),
                Err(_) => Wrong::one(&format!("{given}, which has no offset"), right),
            },
            _ => self.text(right, |text| text.parse().ok()),
        }
    }

    /// A list of texts that `parse` takes, each; `right` describes one in words.
    pub(crate) fn list<T>(self, right: &str, parse: impl Fn(&str) -> Option<T>) -> Checked<Vec<T>> {
        self.items(right, |item| item.as_text().and_then(&parse))
    }

    /// A list of whole numbers that `take` takes, each; `right` describes one in words.
    pub(crate) fn numbers<T>(self, right: &str, take: impl Fn(u64) -> Option<T>) -> Checked<Vec<T>> {
        self.items(right, |item| item.as_number().and_then(&take))
    }

    fn items<T>(self, right: &str, take: impl Fn(Input<'_>) -> Option<T>) -> Checked<Vec<T>> {
        let items: Vec<(Option<usize>, Input<'_>)> = match self {
            Self::Toml(DeValue::Array(items)) => {
                items.iter().map(|item| (Some(item.span().start), Self::Toml(item.get_ref()))).collect()
            }
            Self::Text("") => Vec::new(),
            Self::Text(text) => text.split(',').map(|item| (None, Input::Text(item.trim()))).collect(),
            _ => {
                let right = format!("a list, each item being {right}");
                return Wrong::one(&self.describe(), &right);
            }
        };
        let mut values = Vec::with_capacity(items.len());
        let mut wrongs = Vec::new();
        for (offset, item) in items {
            match take(item) {
                Some(value) => values.push(value),
                None => wrongs.push(Wrong { offset, ..Wrong::found(&item.describe(), right) }),
            }
        }
        if wrongs.is_empty() { Ok(values) } else { Err(wrongs) }
    }

    fn as_number(self) -> Option<u64> {
        match self {
            Self::Toml(DeValue::Integer(integer)) => {
                u64::from_str_radix(integer.as_str(), integer.radix()).ok()
            }
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn as_text(self) -> Option<&'a str> {
        match self {
            Self::Toml(value) => value.as_str(),
            Self::Text(text) => Some(text),
            Self::Path(path) => path.to_str(),
        }
    }

    fn describe(self) -> String {
        match self {
            Self::Toml(DeValue::String(text)) => quote(text),
            Self::Toml(DeValue::Integer(integer)) => {
                format!("the number {}", shorten(integer.as_str()))
            }
            Self::Toml(DeValue::Float(float)) => format!("the number {}", shorten(float.as_str())),
            Self::Toml(DeValue::Boolean(value)) => format!("the truth value {value}"),
            Self::Text(text) => quote(text),
            Self::Toml(_) | Self::Path(_) => self.kind().to_owned(),
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Toml(DeValue::String(_)) | Self::Text(_) => "a text",
            Self::Toml(DeValue::Integer(_) | DeValue::Float(_)) => "a number",
            Self::Toml(DeValue::Boolean(_)) => "a truth value",
            Self::Toml(DeValue::Datetime(_)) => "a time without quotes",
            Self::Toml(DeValue::Array(items)) if items.is_empty() => "an empty list",
            Self::Toml(DeValue::Array(_)) => "a list",
            Self::Toml(DeValue::Table(_)) => "a section",
            Self::Path(_) => "a path that is not UTF-8",
        }
    }
}

/// The text in quotes, shortened, with control characters escaped so that a message cannot play tricks on a terminal.
pub(crate) fn quote(text: &str) -> String {
    format!("{:?}", shorten(text))
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
