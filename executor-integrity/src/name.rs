//! Names of scripts and of the files beside them: relative paths of a grammar so narrow that a name can
//! neither leave its folder nor mean anything to a shell, a terminal or `sha256sum`.

use std::borrow::Borrow;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name, in bytes.
const MAX_BYTES: usize = 255;
/// The most segments that a name has.
const MAX_SEGMENTS: usize = 8;

/// A file's name relative to its folder: at most 8 segments of `[A-Za-z0-9_][A-Za-z0-9._-]*` with slashes
/// between them, at most 255 bytes in all. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativeName(Arc<str>);

/// Why a text is not a [`RelativeName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is no text.
    #[error("the name is empty, a name like deploy/web.sh is needed")]
    Empty,
    /// It is over 255 bytes long.
    #[error("the name is {bytes} bytes long, at most {MAX_BYTES} are allowed")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// It has over 8 segments.
    #[error("the name has {segments} segments, at most {MAX_SEGMENTS} are allowed")]
    TooDeep {
        /// How many it has.
        segments: usize,
    },
    /// A segment is empty, starts wrongly, or holds a character that is not allowed.
    #[error(
        "the segment {segment:?} of the name is not made of letters, digits, '_', '.' and '-' \
         that start with a letter, a digit or '_', as in deploy/web.sh"
    )]
    BadSegment {
        /// The first such segment.
        segment: String,
    },
}

impl RelativeName {
    /// Takes `text` for a name.
    ///
    /// # Errors
    ///
    /// [`NameError`] when it is outside the grammar; nothing is corrected.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_BYTES {
            return Err(NameError::TooLong { bytes: text.len() });
        }
        let segments = text.split('/').count();
        if segments > MAX_SEGMENTS {
            return Err(NameError::TooDeep { segments });
        }
        match text.split('/').find(|segment| !is_segment(segment)) {
            Some(segment) => Err(NameError::BadSegment { segment: segment.to_owned() }),
            None => Ok(Self(text.into())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_segment(segment: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = segment.bytes();
    bytes.next().is_some_and(word) && bytes.all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

impl fmt::Display for RelativeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for RelativeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RelativeName({:?})", &*self.0)
    }
}

impl AsRef<Path> for RelativeName {
    fn as_ref(&self) -> &Path {
        Path::new(&*self.0)
    }
}

impl Borrow<str> for RelativeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for RelativeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl Serialize for RelativeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelativeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}
