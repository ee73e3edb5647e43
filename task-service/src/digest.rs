//! The digest by which two submissions of one id are told apart.

use serde_json::Value;
use sha2::{Digest, Sha256};
use task_runners::TaskSpec;

/// SHA-256 of a spec's canonical JSON: object keys sorted, no blanks, what was left out left out.
///
/// Two specs have the same digest when they ask for the same, in whatever order their fields were written.
pub(crate) fn of_spec(spec: &TaskSpec) -> Result<[u8; 32], serde_json::Error> {
    let canonical = sorted(serde_json::to_value(spec)?);
    Ok(Sha256::digest(serde_json::to_vec(&canonical)?).into())
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(json: &str) -> [u8; 32] {
        of_spec(&serde_json::from_str(json).unwrap()).unwrap()
    }

    #[test]
    fn the_order_of_fields_does_not_matter_and_every_value_does() {
        let one = digest(r#"{"name": "a.sh", "params": {"x": 1, "y": {"b": 1, "a": [1, 2]}}}"#);
        assert_eq!(
            one,
            digest(r#"{"params": {"y": {"a": [1, 2], "b": 1}, "x": 1}, "name": "a.sh", "args": []}"#)
        );
        for other in [
            r#"{"name": "a.sh", "params": {"x": "1", "y": {"b": 1, "a": [1, 2]}}}"#,
            r#"{"name": "a.sh", "params": {"x": 1, "y": {"b": 1, "a": [2, 1]}}}"#,
            r#"{"name": "b.sh", "params": {"x": 1, "y": {"b": 1, "a": [1, 2]}}}"#,
        ] {
            assert_ne!(one, digest(other), "{other}");
        }
    }
}
