//! Types of values, and how texts of these types are read.

use std::fmt;

use executor_core::DURATION_EXPECTED;

use crate::spec::parse_duration;

/// What the values of a parameter are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    /// Any text.
    #[default]
    String,
    /// A whole number of 64 bits.
    Int,
    /// A decimal number.
    Number,
    /// `true` or `false`.
    Bool,
    /// A time with its unit.
    Duration,
    /// A path.
    Path,
}

/// A bound of numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Of whole ones.
    Int(i64),
    /// Of decimal ones.
    Number(f64),
}

impl ValueType {
    /// All types with their names.
    const NAMES: [(&str, Self); 6] = [
        ("string", Self::String),
        ("int", Self::Int),
        ("number", Self::Number),
        ("bool", Self::Bool),
        ("duration", Self::Duration),
        ("path", Self::Path),
    ];

    /// The type of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, found)| found)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, known)| *known == self).map_or("string", |(name, _)| name)
    }

    /// The rule that a text breaks which is of another type, and what would be right.
    pub(crate) fn rule(self) -> (&'static str, &'static str) {
        match self {
            Self::String => ("string", "text"),
            Self::Int => ("int", "a whole number, such as 5 or -5, that fits 64 bits"),
            Self::Number => ("number", "a number, such as 5 or -0.5"),
            Self::Bool => ("boolean", "true or false"),
            Self::Duration => ("duration", DURATION_EXPECTED),
            Self::Path => ("path", "a path: text that is not empty"),
        }
    }

    /// Whether a text is a value of this type.
    pub(crate) fn reads(self, text: &str) -> bool {
        match self {
            Self::String => true,
            Self::Int => int(text).is_some(),
            Self::Number => number(text).is_some(),
            Self::Bool => matches!(text, "true" | "false"),
            Self::Duration => parse_duration(text).is_some(),
            Self::Path => !text.is_empty(),
        }
    }

    /// Whether its values have an order that bounds can be set in.
    pub(crate) fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Number)
    }

    /// Whether its values are text, which has a length and can match a pattern.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Self::String | Self::Path)
    }
}

impl Limit {
    /// Whether the value that this text states is below it.
    pub(crate) fn is_above(self, text: &str) -> bool {
        match self {
            Self::Int(limit) => int(text).is_some_and(|value| value < limit),
            Self::Number(limit) => number(text).is_some_and(|value| value < limit),
        }
    }

    /// Whether the value that this text states is above it.
    pub(crate) fn is_below(self, text: &str) -> bool {
        match self {
            Self::Int(limit) => int(text).is_some_and(|value| value > limit),
            Self::Number(limit) => number(text).is_some_and(|value| value > limit),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(limit) => limit.fmt(f),
            Self::Number(limit) => limit.fmt(f),
        }
    }
}

/// `-?(0|[1-9]\d*)` within 64 bits: what shells, JSON and people all read alike, so no `007` and no `+5`.
fn int(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// A number as JSON writes it (RFC 8259, section 6).
fn number(text: &str) -> Option<f64> {
    // A reader of JSON takes blanks around a number too.
    let plain = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    if plain { serde_json::from_str(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_json_reads_them_and_no_other_way() {
        for good in ["0", "-0", "5", "-17", "9223372036854775807", "-9223372036854775808"] {
            assert!(ValueType::Int.reads(good), "{good}");
            assert!(ValueType::Number.reads(good), "{good}");
        }
        for bad in ["", "-", "+5", "007", " 5", "5 ", "5.0", "0x5", "1e3", "9223372036854775808", "٣"] {
            assert!(!ValueType::Int.reads(bad), "{bad}");
        }
        for good in ["0.5", "-0.5", "1e3", "1E-3"] {
            assert!(ValueType::Number.reads(good), "{good}");
        }
        for bad in ["", ".5", "5.", "1e999", "NaN", "inf", " 1", "1\n", "0x1", "--1"] {
            assert!(!ValueType::Number.reads(bad), "{bad}");
        }
    }
}
