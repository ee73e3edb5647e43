//! What a signed request asks for: its payload, whether the hook's rules hold for it, and the task spec that it becomes.

use agent_config::{HookParam, HookPlace, HookRule, HookScheme, HookTarget, HookTest, HookValue};
use axum::http::HeaderMap;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Hook;
use super::schemes::{Delivery, single};
use crate::body;
use crate::error::ApiError;

/// The label of a task that has the id of its delivery, and the longest id that is kept so, bytes.
const LABEL: &str = "delivery";
const LABEL_BYTES: usize = 255;
/// The field of a form that holds the JSON.
const FORM_FIELD: &str = "payload";
/// Bytes of the digest that make a task's id: as many as nobody finds two deliveries for.
const ID_BYTES: usize = 16;

/// What a signed request brings.
#[derive(Debug)]
pub(crate) struct Payload<'a> {
    headers: &'a HeaderMap,
    json: Value,
}

impl<'a> Payload<'a> {
    /// Reads a body that was found signed: JSON, or the form in which GitHub sends it where that was chosen there.
    ///
    /// # Errors
    /// 415 for a form of another scheme, 400 for what is no JSON.
    pub(crate) fn read(scheme: HookScheme, headers: &'a HeaderMap, bytes: &[u8]) -> Result<Self, ApiError> {
        if !body::is_form(headers) {
            return Ok(Self { headers, json: body::parsed(bytes)? });
        }
        if scheme != HookScheme::GitHub {
            return Err(body::unsupported());
        }
        let mut fields = form_urlencoded::parse(bytes).filter(|(name, _)| name == FORM_FIELD);
        match (fields.next(), fields.next()) {
            (Some((_, json)), None) => Ok(Self { headers, json: body::parsed(json.as_bytes())? }),
            _ => Err(body::not_json("the form has no field `payload`, or several")),
        }
    }

    /// The value at a place; what is null is not there.
    fn at(&self, place: &HookPlace) -> Option<Value> {
        match place {
            HookPlace::Body(pointer) => self.json.pointer(pointer).filter(|value| !value.is_null()).cloned(),
            HookPlace::Header(name) => single(self.headers, name).map(Value::from),
        }
    }

    fn keeps(&self, rule: &HookRule) -> bool {
        let value = self.at(&rule.place);
        match &rule.test {
            HookTest::OneOf(values) => {
                value.is_some_and(|found| values.iter().any(|one| json_of(one) == found))
            }
            HookTest::StartsWith(beginning) => {
                value.as_ref().and_then(Value::as_str).is_some_and(|text| text.starts_with(beginning))
            }
        }
    }
}

impl Hook {
    /// Why a request starts nothing, if it does not: the first rule that does not hold. What was found is not repeated.
    pub(crate) fn ignores(&self, payload: &Payload<'_>, delivery: &Delivery) -> Option<String> {
        if delivery.is_ping {
            return Some("a ping starts nothing".to_owned());
        }
        let broken = self.settings.when.iter().position(|rule| !payload.keeps(rule))?;
        let place = match &self.settings.when[broken].place {
            HookPlace::Body(pointer) => format!("at {pointer:?} of the body"),
            HookPlace::Header(name) => format!("in the header {name}"),
        };
        Some(format!(
            "rule {} of the hook does not hold: what is {place} is not what it asks for",
            broken + 1
        ))
    }

    /// The task spec that a request becomes, not yet read as one.
    pub(crate) fn spec(&self, payload: &Payload<'_>, delivery: &Delivery) -> Value {
        let hook = &self.settings;
        let value = |param: &HookParam| match param {
            HookParam::Fixed(value) => Some(json_of(value)),
            HookParam::From(place) => payload.at(place),
        };
        let params = hook.params.iter().filter_map(|(name, param)| Some((name.clone(), value(param)?)));
        let mut labels = hook.labels.clone();
        if let Some(id) = delivery.id.as_ref().filter(|id| id.len() <= LABEL_BYTES) {
            labels.entry(LABEL.to_owned()).or_insert_with(|| id.clone());
        }
        let target = hook.target.as_ref().map(|target| match target {
            HookTarget::Node(name) => json!({ "node": name }),
            HookTarget::Labels(labels) => json!({ "labels": labels }),
        });
        // What is null is left out.
        json!({
            "name": hook.script,
            "id": delivery.id.as_deref().map(|id| task_id(&hook.name, id)),
            "params": params.collect::<Map<_, _>>(),
            "labels": labels,
            "target": target,
            "confirm": hook.confirm,
        })
    }
}

/// The id of the task that a delivery becomes: the same each time that it is sent, another for each hook.
fn task_id(hook: &str, delivery: &str) -> String {
    // No name of a hook has the byte between.
    let digest = Sha256::digest(format!("{hook}\0{delivery}"));
    format!("hook-{}", hex::encode(&digest[..ID_BYTES]))
}

fn json_of(value: &HookValue) -> Value {
    match value {
        HookValue::Text(text) => text.as_str().into(),
        HookValue::Integer(number) => (*number).into(),
        HookValue::Truth(truth) => (*truth).into(),
        HookValue::List(items) => items.iter().map(json_of).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any JSON, not too deep.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    /// Every value of a document with the pointer that leads there, as RFC 6901 writes it.
    fn pointers(value: &Value, here: String, found: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                let name = name.replace('~', "~0").replace('/', "~1");
                pointers(value, format!("{here}/{name}"), found);
            }),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .for_each(|(index, value)| pointers(value, format!("{here}/{index}"), found)),
            _ => {}
        }
        found.push((here, value.clone()));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_pointer_leads_to_every_value_that_there_is(json in any_json()) {
            let mut found = Vec::new();
            pointers(&json, String::new(), &mut found);
            let headers = HeaderMap::new();
            let payload = Payload { headers: &headers, json };
            for (pointer, value) in found {
                let place = HookPlace::Body(pointer);
                prop_assert_eq!(payload.at(&place), (!value.is_null()).then_some(value));
            }
        }

        #[test]
        fn whatever_a_pointer_says_there_is_an_answer(json in any_json(), text in "(/[~01a-z+-]{0,4}){0,5}") {
            let headers = HeaderMap::new();
            Payload { headers: &headers, json }.at(&HookPlace::Body(text));
        }
    }

    #[test]
    fn values_are_compared_with_their_types() {
        let headers = HeaderMap::new();
        let json = json!({ "number": 1, "text": "1", "truth": true, "none": null, "list": [1] });
        let payload = Payload { headers: &headers, json };
        let keeps = |pointer: &str, test: HookTest| {
            payload.keeps(&HookRule { place: HookPlace::Body(pointer.to_owned()), test })
        };
        let text = |text: &str| HookValue::Text(text.to_owned());
        for (pointer, value, expected) in [
            ("/number", HookValue::Integer(1), true),
            ("/number", text("1"), false),
            ("/text", text("1"), true),
            ("/text", HookValue::Integer(1), false),
            ("/truth", HookValue::Truth(true), true),
            ("/truth", text("true"), false),
            ("/none", text(""), false),
            ("/list", HookValue::Integer(1), false),
            ("/list/0", HookValue::Integer(1), true),
            ("/absent", text(""), false),
        ] {
            assert_eq!(keeps(pointer, HookTest::OneOf(vec![text("x"), value])), expected, "{pointer}");
        }
        assert!(keeps("/text", HookTest::StartsWith("1".to_owned())));
        assert!(!keeps("/number", HookTest::StartsWith("1".to_owned())));
    }

    #[test]
    fn a_task_is_called_by_hook_and_delivery() {
        assert_eq!(task_id("a", "b"), task_id("a", "b"));
        assert_ne!(task_id("a", "b"), task_id("ab", ""));
        assert_ne!(task_id("a", "b"), task_id("b", "b"));
        assert!(task_id("a", "any / thing").parse::<task_service::TaskId>().is_ok());
    }
}
