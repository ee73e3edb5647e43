//! Where a task is to run.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Reader;

/// What a target looks like.
const TARGET: &str =
    "an object with either `node`, the name of a node, or `labels`, which a node must have all of";
/// What a node's name looks like.
const NODE: &str = "a node's name: 1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit; 'connect', by \
    which nodes come, is no node's name";
/// What stands in the place of a node's name where nodes come, so that none could be shown or drained that is called so.
const WHERE_NODES_COME: &str = "connect";

/// Where a task is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// On the node of this name.
    Node(String),
    /// On one of the nodes that have all these labels.
    Labels(BTreeMap<String, String>),
}

impl Target {
    /// The node that it names, if it names one.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Node(name) => Some(name),
            Self::Labels(_) => None,
        }
    }

    /// Whether it means the node of this name with these labels.
    pub fn means(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Node(wanted) => wanted == name,
            Self::Labels(wanted) => wanted.iter().all(|(key, value)| labels.get(key) == Some(value)),
        }
    }
}

impl fmt::Display for Target {
    /// As it stands behind "there is no node".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "'{name}'"),
            Self::Labels(labels) => {
                let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(f, "with the labels '{}'", pairs.join(","))
            }
        }
    }
}

impl Reader {
    pub(super) fn target(&mut self, value: Option<Value>) -> Option<Target> {
        let mut fields = match value? {
            Value::Object(fields) => fields,
            _ => {
                self.problem("target", "object", TARGET);
                return None;
            }
        };
        let mut take = |name: &str| fields.remove(name).filter(|value| !value.is_null());
        let (node, labels) = (take("node"), take("labels"));
        for field in fields.keys() {
            self.problem(&format!("target.{}", field.escape_debug()), "unknown_field", TARGET);
        }
        match (node, labels) {
            (Some(node), None) => self.node(node),
            (None, Some(labels)) => self.labels(labels),
            (Some(_), Some(_)) => {
                self.problem("target", "exclusive", TARGET);
                None
            }
            (None, None) => {
                self.problem("target", "required", TARGET);
                None
            }
        }
    }

    fn node(&mut self, value: Value) -> Option<Target> {
        let name = self.string("target.node", Some(value))?;
        if !is_node_name(&name) {
            self.problem("target.node", "name", NODE);
            return None;
        }
        Some(Target::Node(name))
    }

    fn labels(&mut self, value: Value) -> Option<Target> {
        let is_empty = value.as_object().is_some_and(Map::is_empty);
        let labels = self.string_map("target.labels", Some(value));
        if is_empty {
            self.problem("target.labels", "required", "one label at least, which the node must have");
        }
        (!labels.is_empty()).then_some(Target::Labels(labels))
    }
}

fn is_node_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text != WHERE_NODES_COME
        && text.len() <= 64
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}
