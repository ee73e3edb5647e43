//! Every operation that the service's own description lists, and what it says that each needs. The description is made of
//! the routes themselves, so that none can be missing here.

use serde_json::{Value, json};

use crate::support::Reply;

/// What an operation needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// A signature by a secret of its own, one of several kinds.
    Signature,
    /// Nothing, and with a token of that scope it shows more. A token that is sent must be right.
    NothingOr(String),
    Scope(String),
}

/// An operation.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) needs: Needs,
    /// Whether its answers have a tag.
    pub(crate) is_tagged: bool,
}

/// Fewer than these would be no description of this service.
const LEAST: usize = 26;
/// How requests to hooks are signed.
const SCHEMES: [&str; 3] = ["github", "gitlab", "standard"];

/// All of them, by a description. Its operations for single scripts are another form of one that is there, and differ by
/// who asks.
pub(crate) fn operations(document: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    let is_of_one_script = |path: &str| path.starts_with("/api/v1/scripts/") && !path.contains('{');
    for (path, item) in document["paths"].as_object().unwrap() {
        if is_of_one_script(path) {
            continue;
        }
        for (method, about) in item.as_object().unwrap() {
            let needs = needs(about).unwrap_or_else(|| panic!("{method} {path} does not say what it needs"));
            let is_tagged = about["responses"]["304"].is_object();
            operations.push(Operation {
                method: method.to_uppercase(),
                path: path.clone(),
                needs,
                is_tagged,
            });
        }
    }
    assert!(operations.len() >= LEAST, "{} operations", operations.len());
    operations
}

/// The one scope that an operation names, or nothing where it says so, or that either will do; or one of the signatures.
fn needs(about: &Value) -> Option<Needs> {
    match about["security"].as_array()?.as_slice() {
        [one] if is_nothing(one) => Some(Needs::Nothing),
        [one] => scope(one).map(Needs::Scope),
        [first, second] if is_nothing(first) => scope(second).map(Needs::NothingOr),
        ways if ways.len() == SCHEMES.len() => {
            let is_signed = SCHEMES.iter().zip(ways).all(|(scheme, way)| way.get(scheme).is_some());
            is_signed.then_some(Needs::Signature)
        }
        _ => None,
    }
}

fn is_nothing(requirement: &Value) -> bool {
    requirement.as_object().is_some_and(|requirement| requirement.is_empty())
}

fn scope(requirement: &Value) -> Option<String> {
    let [scope] = requirement["token"].as_array()?.as_slice() else { return None };
    scope.as_str().map(str::to_owned)
}

impl Operation {
    /// Its path and query for a task of `hello.sh`.
    pub(crate) fn target(&self, id: &str) -> String {
        let path =
            self.path.replace("{id}", id).replace("{name}", "hello.sh").replace("{file}", "swagger-ui.css");
        assert!(!path.contains('{'), "{path}: say here what stands in it");
        let query = match self.path.as_str() {
            search if search.ends_with("/search") => "?q=hello",
            "/api/v1/tasks:cancel" => "?name=hello.sh",
            _ => "",
        };
        path + query
    }

    /// A body with which it can be done.
    pub(crate) fn body(&self) -> Option<Value> {
        let takes_one = ["/api/v1/tasks", "/hooks/{name}"].contains(&self.path.as_str());
        (self.method == "POST" && takes_one).then(|| json!({ "name": "hello.sh" }))
    }

    /// Whether it is about one task or script.
    pub(crate) fn names_something(&self) -> bool {
        self.path.contains('{') || self.body().is_some()
    }
}

/// It was let through: done, or refused for what only a caller who was let through learns.
pub(crate) fn has_passed(reply: &Reply) -> bool {
    // There is no node, and what asks is no WebSocket.
    let told = ["already_ended", "not_on_a_node", "node_not_found", "upgrade_required"];
    reply.status < 400 || [404, 409, 426].contains(&reply.status) && told.contains(&reply.code().as_str())
}
