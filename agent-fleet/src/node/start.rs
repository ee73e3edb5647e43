//! The start of a task by the node's own task service, and what a refusal of that means.

use jiff::Timestamp;
use serde_json::Value;
use task_runners::{SCRIPT_RUNNER, ScriptEntry, ScriptName, Scripts};
use task_service::{Refusal, SubmitError, Task, TaskId, TaskSpec, WantedPin};

use super::event::{Event, Verdict};
use super::follow::follow;
use super::work::{Input, Work};
use crate::assignment::CLOCK_DIFFERENCE;
use crate::opens::Opens;

/// What was found of a script, with what pins it, or why it cannot be looked up now.
type Looked = Result<(Option<ScriptEntry>, Option<String>), Refusal>;

impl Work {
    /// Submits a task to the task service, which starts an id once, and follows it.
    pub(super) fn start(&self, task: TaskId) {
        let Some(assignment) = self.assignments.of(&task) else { return };
        let (service, inputs) = (self.service.clone(), self.inputs.clone());
        let (created_by, accepted) = (assignment.created_by.clone(), assignment.accepted);
        let (scripts, opens) = (self.scripts.clone(), self.opens.clone());
        let wanted = assignment.script_sha256.clone();
        let spec = TaskSpec {
            id: Some(task.clone()),
            target: None,
            // Attempts would be tasks of their own for the API server, which knows of one.
            retries: Some(0),
            ..assignment.spec.clone()
        };
        let looked = task.clone();
        let look = move |spec: &TaskSpec| seen_script(looked, &scripts, spec, wanted.as_deref(), &opens);
        tokio::spawn(async move {
            let event = match service.submit_if(spec, &created_by, look).await {
                Ok(Ok(submitted)) if is_of_before(&submitted.task, accepted) => {
                    Event::Never { task, verdict: of_before() }
                }
                Ok(Ok(_)) => {
                    let begun = Event::Begun { task: task.clone(), header_bytes: 0 };
                    // Nobody listens where the node stops.
                    let _ = inputs.send(Input::Event(begun)).await;
                    return follow(task, service, inputs).await;
                }
                Ok(Err(error)) => after(task, &error),
                Err(event) => event,
            };
            let _ = inputs.send(Input::Event(event)).await;
        });
    }
}

/// Makes sure that the script is the one that the API server has seen here, and that the task asks for nothing that is not
/// open; gives what the task must be pinned to for that, if anything: what cannot be compared is not started.
fn seen_script(
    task: TaskId,
    scripts: &Scripts,
    spec: &TaskSpec,
    wanted: Option<&str>,
    opens: &Opens,
) -> Result<WantedPin, Event> {
    if wanted.is_none() && opens.problems(spec, &[]).is_empty() {
        return Ok(None);
    }
    match looked_up(scripts, spec) {
        Ok((found, pin)) => match wrong(spec, found.as_ref(), wanted, opens) {
            None => Ok(found.is_some().then_some(pin)),
            Some(verdict) => Err(Event::Never { task, verdict }),
        },
        Err(refusal) => Err(after(task, &SubmitError::Refused(refusal))),
    }
}

/// The script that a spec names, by itself or through the runner of scripts, with what pins it.
fn looked_up(scripts: &Scripts, spec: &TaskSpec) -> Looked {
    let through = spec.params.get("script").and_then(Value::as_str);
    let name = if spec.name == SCRIPT_RUNNER { through.unwrap_or_default() } else { &spec.name };
    // What is no name of a script is refused as such.
    let Ok(name) = name.parse::<ScriptName>() else { return Ok((None, None)) };
    scripts.get_with_pin(&name)
}

/// Why a task is not started by this script, if that is so.
fn wrong(
    spec: &TaskSpec,
    found: Option<&ScriptEntry>,
    wanted: Option<&str>,
    opens: &Opens,
) -> Option<Verdict> {
    let is_name = spec.name.parse::<ScriptName>().is_ok();
    match (found, wanted) {
        (None, Some(_)) if is_name => {
            let refusal = Refusal::NotFound { name: spec.name.clone() };
            return Some(verdict(&SubmitError::Refused(refusal)));
        }
        (Some(found), Some(wanted)) if found.sha256 != wanted => return Some(script_changed()),
        _ => {}
    }
    let by_script =
        found.and_then(|found| found.declared.as_deref()).map_or(&[][..], |declared| &declared.env);
    let closed = opens.problems(spec, by_script);
    (!closed.is_empty()).then(|| verdict(&SubmitError::Refused(Refusal::Invalid(closed))))
}

/// Whether a task of this node is not the one that is assigned, but an older one of its id: it was here before the API server
/// accepted that, however much the clocks of both differ.
pub(super) fn is_of_before(found: &Task, accepted: Option<Timestamp>) -> bool {
    accepted.is_some_and(|accepted| accepted.duration_since(found.created_at) > CLOCK_DIFFERENCE)
}

/// What becomes of a task in whose place there is an older one.
pub(super) fn of_before() -> Verdict {
    let message =
        "the node still has an older task of this id; nothing was started; submit it under another id";
    Verdict { code: "id_conflict".to_owned(), message: message.to_owned() }
}

fn script_changed() -> Verdict {
    let message =
        "the script on the node is not the one that the API server has seen there; submit the task again";
    Verdict { code: "script_changed".to_owned(), message: message.to_owned() }
}

/// What a refused submission means: never, or not now.
fn after(task: TaskId, error: &SubmitError) -> Event {
    match error {
        SubmitError::Refused(Refusal::Unavailable(_))
        | SubmitError::ScriptFull { .. }
        | SubmitError::Full { .. }
        | SubmitError::SecretsFull { .. }
        | SubmitError::Draining
        | SubmitError::Unavailable(_) => Event::NotYet { task },
        // A task that is to wait for its workspace does not get this answer.
        SubmitError::Busy { .. } | SubmitError::Refused(_) | SubmitError::Conflict { .. } => {
            Event::Never { task, verdict: verdict(error) }
        }
    }
}

/// What a refusal for good is called, and why it was.
fn verdict(error: &SubmitError) -> Verdict {
    let code = match error.code() {
        // What the API server's task service calls a task that was accepted and is not allowed.
        "not_found" => "script_not_found",
        code => code,
    };
    Verdict { code: code.to_owned(), message: error.to_string() }
}
