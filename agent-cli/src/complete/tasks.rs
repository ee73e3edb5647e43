//! Ids of tasks, from the service that the words name. One that does not answer at once offers none.

use std::time::Duration;

use serde_json::Value;

use crate::args::{Global, Last, Server};
use crate::client::Client;
use crate::complete::{Candidate, Offer};

/// Tasks that are offered, newest first.
const MAX_TASKS: usize = 50;
/// Somebody waits with the hand on the key.
const PATIENCE: Duration = Duration::from_millis(700);

pub(super) fn offer(global: &Global, last: &Last) -> Offer {
    let server = Server { server: last.server.clone(), token_file: last.token_file.clone() };
    let Ok(client) = Client::quiet(global, &server, PATIENCE) else { return Offer::default() };
    let answer = client.get(&format!("/api/v1/tasks?limit={MAX_TASKS}")).unwrap_or_default();
    let tasks = answer["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |task: &Value, name: &str| task[name].as_str().unwrap_or_default().to_owned();
    Offer::words(tasks.iter().map(|task| {
        Candidate::new(text(task, "id"), &format!("{} {}", text(task, "status"), text(task, "name")))
    }))
}
