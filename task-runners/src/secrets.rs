//! Values of secret parameters. They are told apart from other parameters as early as it is known which they are, so that
//! whatever writes, shows or compares a spec meets their names only.

use std::collections::BTreeMap;
use std::fmt;

use executor_core::SecretString;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Secret parameters by name, each with its value for as long as somebody needs it.
///
/// As JSON, in debugging output and where two are compared it is the list of names. Values are overwritten in memory when
/// they are dropped.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, Option<SecretString>>);

impl Secrets {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parameters' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether there is a secret of that name, its value known or not.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The value of a secret; none where there is no such secret, or only its name is left.
    pub fn get(&self, name: &str) -> Option<&SecretString> {
        self.0.get(name)?.as_ref()
    }

    /// Sets a secret.
    pub fn set(&mut self, name: impl Into<String>, value: SecretString) {
        self.0.insert(name.into(), Some(value));
    }

    /// Whether there is one of which only the name is left.
    pub fn lacks_values(&self) -> bool {
        self.0.values().any(Option::is_none)
    }

    /// Takes the values out, and leaves the names.
    #[must_use]
    pub fn take_values(&mut self) -> Self {
        let names = self.0.keys().map(|name| (name.clone(), None)).collect();
        Self(std::mem::replace(&mut self.0, names))
    }

    /// Takes a parameter out of `params`. One that is not among them leaves its name here, if it has no value here
    /// already.
    pub(crate) fn take_from(&mut self, params: &mut Map<String, Value>, name: &str) {
        match params.shift_remove(name).and_then(text) {
            Some(text) => self.set(name, text.into()),
            None => drop(self.0.entry(name.to_owned()).or_default()),
        }
    }
}

/// A single value as text.
fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl PartialEq for Secrets {
    fn eq(&self, other: &Self) -> bool {
        self.names().eq(other.names())
    }
}

impl Eq for Secrets {}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl Serialize for Secrets {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(self.names())
    }
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(input)?;
        let count = names.len();
        let secrets: BTreeMap<_, _> = names.into_iter().map(|name| (name, None)).collect();
        // Nobody writes such a list.
        if secrets.len() < count { Err(D::Error::custom("a name is there twice")) } else { Ok(Self(secrets)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_written_shown_and_compared() {
        let mut secrets = Secrets::default();
        secrets.set("token", "c4n4ry".to_owned().into());
        let shown = format!("{secrets:?} {}", serde_json::to_string(&secrets).unwrap());
        assert_eq!(shown, r#"{"token"} ["token"]"#);
        let read: Secrets = serde_json::from_str(r#"["token"]"#).unwrap();
        assert_eq!(read, secrets);
        assert!(read.lacks_values() && !secrets.lacks_values());
        let taken = secrets.take_values();
        assert!(taken.get("token").is_some() && secrets.get("token").is_none() && secrets.contains("token"));
    }
}
