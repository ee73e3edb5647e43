//! Names that callers choose: scripts, tasks, workspaces. Checked when they are made, so that no other
//! code has to ask again whether a name could leave its folder.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// Longest script name in bytes.
const MAX_SCRIPT_NAME_BYTES: usize = 255;
/// Most folders and file together in one script name.
const MAX_SCRIPT_NAME_SEGMENTS: usize = 8;
/// Longest task id or workspace name in bytes.
const MAX_ID_BYTES: usize = 64;

/// The path of a script relative to the scripts folder, such as `deploy/web.sh`.
///
/// Segments match `[A-Za-z0-9_][A-Za-z0-9._-]*`, at most 8 of them and 255 bytes in all; so no name is
/// absolute, hidden, or leads upwards.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ScriptName(String);

/// The id of a task: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId(String);

/// The name of a shared workspace; the grammar is that of [`TaskId`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkspaceName(String);

/// Why a text is not a name of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {}: {}", .0.field, .0.rule, .0.expected)]
pub struct NameError(pub Problem);

impl TaskId {
    /// A new id: a UUID version 7 (RFC 9562), so that ids sort by the time at which they were made.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }
}

macro_rules! name_type {
    ($type:ident, $field:literal, $check:path) => {
        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text)
                    .map(|()| Self(text.to_owned()))
                    .map_err(|(rule, expected)| NameError(Problem::new($field, rule, expected)))
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(ScriptName, "name", check_script_name);
name_type!(TaskId, "id", check_id);
name_type!(WorkspaceName, "work_dir", check_id);

type Rule = (&'static str, &'static str);

fn check_script_name(text: &str) -> Result<(), Rule> {
    const EXPECTED: &str = "the path of a script below the scripts folder: segments of letters, digits, '_', \
        '.' and '-' that start with a letter, a digit or '_', divided by '/', at most 8 segments and 255 bytes";
    if text.is_empty() {
        return Err(("required", EXPECTED));
    }
    let segments: Vec<&str> = text.split('/').collect();
    let fits = text.len() <= MAX_SCRIPT_NAME_BYTES && segments.len() <= MAX_SCRIPT_NAME_SEGMENTS;
    let well_formed = segments
        .iter()
        .all(|segment| is_segment(segment, |first| first.is_ascii_alphanumeric() || first == b'_'));
    if fits && well_formed { Ok(()) } else { Err(("script_name", EXPECTED)) }
}

fn check_id(text: &str) -> Result<(), Rule> {
    const EXPECTED: &str = "1 to 64 letters, digits, '.', '_' and '-' that start with a letter or a digit";
    if text.len() <= MAX_ID_BYTES && is_segment(text, |first| first.is_ascii_alphanumeric()) {
        Ok(())
    } else {
        Err(("id", EXPECTED))
    }
}

fn is_segment(segment: &str, is_first: impl Fn(u8) -> bool) -> bool {
    let bytes = segment.as_bytes();
    bytes.first().is_some_and(|&first| is_first(first))
        && bytes.iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_accepted_script_name_leaves_its_folder(text in "\\PC*") {
            if let Ok(name) = text.parse::<ScriptName>() {
                let path = std::path::Path::new(name.as_str());
                prop_assert!(path.components().all(|c| matches!(c, std::path::Component::Normal(_))));
                prop_assert!(!name.as_str().contains('\0'));
            }
        }
    }

    #[test]
    fn names_on_the_edge_of_the_grammar_are_told_apart() {
        for good in ["a", "_x.sh", "deploy/web.sh", "a/b/c/d/e/f/g/h", "x..y", &"a".repeat(255)] {
            assert!(good.parse::<ScriptName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/../b",
            ".hidden",
            "-x",
            "a b",
            "a\0",
            "ä",
            "a/b/c/d/e/f/g/h/i",
            "a\n",
            "a\\b",
            "%2e%2e/a",
            &"a".repeat(256),
        ] {
            assert!(bad.parse::<ScriptName>().is_err(), "{bad}");
        }
        for bad in ["", ".", "_a", "-a", "a/b", &"a".repeat(65)] {
            assert!(bad.parse::<TaskId>().is_err(), "{bad}");
        }
    }
}
