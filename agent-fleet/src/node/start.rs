//! The start of a task by the node's own task service, and what a refusal of that means.

use std::sync::Arc;

use task_runners::{ScriptName, Scripts};
use task_service::{SubmitError, TaskId, TaskService, TaskSpec};

use super::event::{Event, Verdict};
use super::follow::follow;
use super::work::{Input, Work};

impl Work {
    /// Submits a task to the task service, which starts an id once, and follows it.
    pub(super) fn start(&self, task: TaskId) {
        let Some(assignment) = self.assignments.get(&task) else { return };
        let (service, inputs) = (self.service.clone(), self.inputs.clone());
        let created_by = assignment.created_by.clone();
        let (scripts, wanted) = (self.scripts.clone(), assignment.script_sha256.clone());
        let spec = TaskSpec {
            id: Some(task.clone()),
            target: None,
            // Attempts would be tasks of their own for the API server, which knows of one.
            retries: Some(0),
            ..assignment.spec.clone()
        };
        tokio::spawn(async move {
            if let Some(verdict) = is_other_script(&service, scripts, &spec, wanted).await {
                // Nobody listens where the node stops.
                let _ = inputs.send(Input::Event(Event::Never { task, verdict })).await;
                return;
            }
            let event = match service.submit(spec, &created_by).await {
                Ok(_) => {
                    let begun = Event::Begun { task: task.clone(), header_bytes: 0 };
                    // Nobody listens where the node stops.
                    let _ = inputs.send(Input::Event(begun)).await;
                    return follow(task, service, inputs).await;
                }
                Err(error) => after(task, &error),
            };
            let _ = inputs.send(Input::Event(event)).await;
        });
    }
}

/// Why a task is not started, where its script is not the one that the API server has seen here. A task that the service
/// has by now runs what it was accepted with.
async fn is_other_script(
    service: &TaskService,
    scripts: Arc<Scripts>,
    spec: &TaskSpec,
    wanted: Option<String>,
) -> Option<Verdict> {
    let (wanted, id) = (wanted?, spec.id.as_ref()?);
    let name: ScriptName = spec.name.parse().ok()?;
    let found = tokio::task::spawn_blocking(move || scripts.get(&name)).await.ok()?.ok()??;
    // Mostly they are the same, and the history is not asked.
    if found.sha256 == wanted || !matches!(service.task(id).await, Ok(None)) {
        return None;
    }
    Some(Verdict {
        code: "script_changed".to_owned(),
        message:
            "the script on the node is not the one that the API server has seen there; submit the task again"
                .to_owned(),
    })
}

/// What a refused submission means: never, or not now.
fn after(task: TaskId, error: &SubmitError) -> Event {
    match error {
        SubmitError::Refused(task_service::Refusal::Unavailable(_))
        | SubmitError::ScriptFull { .. }
        | SubmitError::Full { .. }
        | SubmitError::SecretsFull { .. }
        | SubmitError::Draining
        | SubmitError::Unavailable(_) => Event::NotYet { task },
        // A task that is to wait for its workspace does not get this answer.
        SubmitError::Busy { .. } | SubmitError::Refused(_) | SubmitError::Conflict { .. } => {
            let code = match error.code() {
                // What the API server's task service calls a task that was accepted and is not allowed.
                "not_found" => "script_not_found",
                code => code,
            };
            Event::Never { task, verdict: Verdict { code: code.to_owned(), message: error.to_string() } }
        }
    }
}
