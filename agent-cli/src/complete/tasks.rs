//! Ids of tasks and names of nodes, from the service that the words name. One that does not answer at once offers none.

use std::time::Duration;

use serde_json::Value;

use crate::args::{Global, Last};
use crate::client::Client;
use crate::complete::{Candidate, Offer};

/// Tasks that are offered, newest first.
const MAX_TASKS: usize = 50;
/// Somebody waits with the hand on the key.
const PATIENCE: Duration = Duration::from_millis(700);

pub(super) fn offer(global: &Global, last: &Last) -> Offer {
    let path = format!("/api/v1/tasks?limit={MAX_TASKS}");
    let about = |task: &Value| format!("{} {}", text(task, "status"), text(task, "name"));
    listed(global, last, &path, "tasks", |task| Candidate::new(text(task, "id"), &about(task)))
}

/// The nodes of the service.
pub(super) fn offer_nodes(global: &Global, last: &Last) -> Offer {
    let about = |node: &Value| if node["connected"] == true { "connected" } else { "away" };
    listed(global, last, "/api/v1/nodes?limit=1000", "nodes", |node| {
        Candidate::new(text(node, "name"), about(node))
    })
}

fn listed(
    global: &Global,
    last: &Last,
    path: &str,
    what: &str,
    candidate: impl Fn(&Value) -> Candidate,
) -> Offer {
    let Ok(client) = Client::quiet(global, &last.to_server(), PATIENCE) else { return Offer::default() };
    let answer = client.get(path).unwrap_or_default();
    let found = answer[what].as_array().map(Vec::as_slice).unwrap_or_default();
    Offer::words(found.iter().map(candidate))
}

fn text(entry: &Value, name: &str) -> String {
    entry[name].as_str().unwrap_or_default().to_owned()
}
