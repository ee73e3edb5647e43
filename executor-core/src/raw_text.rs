//! Text of the outside that need not be text: arguments, values and paths are any bytes but the null byte. JSON gets a
//! string where it is UTF-8, and an array of bytes where it is not, so that nothing is lost in a record.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize, Serializer};

/// Bytes that are text as a rule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "Written")]
pub(crate) struct RawText<'a>(pub(crate) Cow<'a, [u8]>);

/// How it stands in JSON.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<Written> for RawText<'_> {
    fn from(written: Written) -> Self {
        match written {
            Written::Text(text) => Self(text.into_bytes().into()),
            Written::Bytes(bytes) => Self(bytes.into()),
        }
    }
}

impl<'a> From<&'a OsStr> for RawText<'a> {
    fn from(text: &'a OsStr) -> Self {
        Self(text.as_bytes().into())
    }
}

impl Serialize for RawText<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => out.serialize_str(text),
            Err(_) => self.0.serialize(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_stands_as_text_and_other_bytes_as_numbers() {
        assert_eq!(serde_json::to_string(&RawText("a\"ä".as_bytes().into())).unwrap(), r#""a\"ä""#);
        assert_eq!(serde_json::to_string(&RawText(vec![b'a', 255].into())).unwrap(), "[97,255]");
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_as_they_were(bytes: Vec<u8>) {
            let text = RawText(bytes.into());
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(serde_json::from_str::<RawText<'_>>(&json).unwrap(), text);
        }
    }
}
