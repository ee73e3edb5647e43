//! Accepts tasks: checked by their runner, then written, then said to be accepted.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::Timestamp;
use task_runners::{Plan, Problem, Refusal, Secrets, Target, Task, TaskId, TaskSpec, TaskStatus};
use tokio::sync::oneshot;

use crate::digest;
use crate::keeper::Event;
use crate::search::words_of;
use crate::service::{Inner, TaskService};
use crate::store::{self, NewTask};

/// A submission that led to a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    /// The task, new or as it stands.
    pub task: Task,
    /// Whether this submission made it; otherwise the same spec was accepted under this id before.
    pub created: bool,
}

/// Why a submission left no task.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The spec is wrong, or cannot be run as things are.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The id belongs to a task with another spec.
    #[error(
        "the id '{id}' belongs to another task; submit the same spec under it, or this spec under another id"
    )]
    Conflict {
        /// The id.
        id: TaskId,
    },
    /// The shared workspace is in use, and the spec says not to wait for it.
    #[error(
        "the shared workspace '{workspace}' is in use; try again later, or wait for it with \"on_busy\": \"wait\""
    )]
    Busy {
        /// The workspace.
        workspace: String,
    },
    /// As many tasks of the script wait as may.
    #[error(
        "the queue of the script '{script}' is full: {waiting} of its tasks wait, as many as it declares by `#TASK queue=N`; try again when some have ended"
    )]
    ScriptFull {
        /// The script.
        script: String,
        /// How many wait.
        waiting: usize,
    },
    /// As many tasks wait as may.
    #[error("the queue is full: {waiting} tasks wait; try again when some have ended")]
    Full {
        /// How many wait.
        waiting: usize,
    },
    /// The secrets of all tasks that have not ended are as many as are kept, and this task brings more.
    #[error(
        "the tasks that have not ended hold as many secrets as are kept in memory, {most} bytes; try again when some have ended"
    )]
    SecretsFull {
        /// Most bytes of them.
        most: usize,
    },
    /// The service is stopping.
    #[error("the service is stopping and accepts no tasks; try again when it is back")]
    Draining,
    /// The task could not be written down.
    #[error("the task could not be accepted: {0}; try again later")]
    Unavailable(String),
}

impl SubmitError {
    /// The stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Conflict { .. } => "id_conflict",
            Self::Busy { .. } => "work_dir_busy",
            Self::ScriptFull { .. } => "script_queue_full",
            Self::Full { .. } => "queue_full",
            Self::SecretsFull { .. } => "secrets_full",
            Self::Draining => "draining",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// What a task has to be pinned to, where that matters: a digest, or nothing.
pub type WantedPin = Option<Option<String>>;

/// Why nothing came of a look at a spec.
enum Refused<E> {
    /// The caller wants no such task.
    Unwanted(E),
    /// It cannot be accepted.
    Not(SubmitError),
}

impl<E, F: Into<SubmitError>> From<F> for Refused<E> {
    fn from(error: F) -> Self {
        Self::Not(error.into())
    }
}

/// What a look at a spec led to, before anything is written.
enum Prepared {
    New(Box<NewTask>),
    Existing(Box<Task>),
}

impl TaskService {
    /// Accepts a task. Once this says so the task is on disk and will reach exactly one terminal state.
    ///
    /// The spec's `name` is that of a registered runner, or else of a script, which the runner `script` carries out;
    /// where a script without a dot in its name has the name of a runner, the runner wins. A submission under an id
    /// that exists gives that task when it asks for the same, whatever has become of the script meanwhile.
    ///
    /// # Errors
    /// See [`SubmitError`]; in all cases there is no new task.
    pub async fn submit(&self, spec: TaskSpec, created_by: &str) -> Result<Submitted, SubmitError> {
        let submitted = self.submit_if(spec, created_by, |_| Ok::<_, Infallible>(None)).await;
        submitted.unwrap_or_else(|never| match never {})
    }

    /// The same, of what the caller still wants after a look of its own, which may read the disk: where its runner would pin
    /// the task to something else, it is refused as one that is to be tried again. A task that exists is not looked at, and
    /// given as it stands.
    ///
    /// # Errors
    /// What the look says against it; inside, as [`submit`](Self::submit).
    pub async fn submit_if<E: Send + 'static>(
        &self,
        spec: TaskSpec,
        created_by: &str,
        look: impl FnOnce(&TaskSpec) -> Result<WantedPin, E> + Send + 'static,
    ) -> Result<Result<Submitted, SubmitError>, E> {
        let (inner, created_by) = (self.inner.clone(), created_by.to_owned());
        let prepared = tokio::task::spawn_blocking(move || prepare(&inner, spec, created_by, look));
        Ok(match prepared.await {
            Ok(Ok(Prepared::New(new))) => self.accept(new).await,
            Ok(Ok(Prepared::Existing(task))) => Ok(Submitted { task: self.completed(*task), created: false }),
            Ok(Err(Refused::Unwanted(why))) => return Err(why),
            Ok(Err(Refused::Not(error))) => Err(error),
            Err(error) => Err(SubmitError::Unavailable(format!("it could not be checked: {error}"))),
        })
    }

    /// Has a task written that was checked.
    async fn accept(&self, new: Box<NewTask>) -> Result<Submitted, SubmitError> {
        // While the keeper is held up, by a slow disk for one, specs wait with their callers and not in its channel.
        let place = self.inner.submissions.clone().acquire_owned().await;
        let place = place.map_err(|_| SubmitError::Draining)?;
        let (answer, answered) = oneshot::channel();
        self.inner.events.send(Event::Submit { new, answer, place }).map_err(|_| SubmitError::Draining)?;
        // A keeper that has gone without an answer has stopped.
        let submitted = answered.await.unwrap_or(Err(SubmitError::Draining))?;
        Ok(Submitted { task: self.completed(submitted.task), ..submitted })
    }
}

/// Checks a spec. It may block: runners look into the scripts folder.
fn prepare<E>(
    inner: &Inner,
    mut spec: TaskSpec,
    created_by: String,
    look: impl FnOnce(&TaskSpec) -> Result<WantedPin, E>,
) -> Result<Prepared, Refused<E>> {
    if let Some(id) = &spec.id
        && let Some(task) = existing(inner, id, &spec)?
    {
        return Ok(Prepared::Existing(Box::new(task)));
    }
    let wanted = look(&spec).map_err(Refused::Unwanted)?;
    let (runner, plan) = check(inner, &spec)?;
    if wanted.is_some_and(|pin| plan.pinned != pin) {
        return Err(Refusal::Unavailable("what it names has changed meanwhile".to_owned()).into());
    }
    let secrets = take_secrets(&mut spec, &plan)?;
    let digest = digest::of_spec(&spec).map_err(unencodable)?;
    let spec_json = serde_json::to_string(&spec).map_err(unencodable)?;
    let retries = (plan.retry.retries > 0).then(|| serde_json::to_string(&plan.retry));
    let retry_json = retries.transpose().map_err(unencodable)?;
    let task = Task {
        id: spec.id.clone().unwrap_or_else(TaskId::generate),
        name: spec.name.clone(),
        node: spec.target.as_ref().and_then(Target::node).map(str::to_owned),
        spec: spec.into(),
        status: TaskStatus::Queued,
        attempt: 1,
        attempts: Vec::new(),
        created_by,
        created_at: Timestamp::now(),
        started_at: None,
        ended_at: None,
        log_bytes: 0,
        unreachable_since: None,
        result: None,
        late_result: None,
    };
    let words = words_of(&task);
    let new = NewTask { task, runner, plan, secrets, digest, spec_json, words, retry_json };
    Ok(Prepared::New(Box::new(new)))
}

/// Takes the values of secret parameters out of a checked spec: from here on it is written and shown. What a caller holds
/// to be secret and the runner does not is no task, since the runner would not keep it.
fn take_secrets(spec: &mut TaskSpec, plan: &Plan) -> Result<Secrets, Refusal> {
    spec.keep_secret(plan.secrets.iter().map(String::as_str));
    let unknown = spec.secrets.names().filter(|name| !plan.secrets.iter().any(|known| known == name));
    let expected = "a secret that the runner takes";
    let problem =
        |name: &str| Problem::new(format!("secrets.{}", name.escape_debug()), "undeclared", expected);
    let problems: Vec<Problem> = unknown.map(problem).collect();
    if problems.is_empty() { Ok(spec.secrets.take_values()) } else { Err(Refusal::Invalid(problems)) }
}

/// Whether a spec asks for the same as a task that was accepted for a spec with this digest. What is secret in the task is
/// no part of that: nobody kept it, and a caller may not have it any more.
fn asks_the_same(spec: &TaskSpec, task: &Task, digest: &[u8; 32]) -> Result<bool, SubmitError> {
    let mut spec = spec.clone();
    spec.keep_secret(task.spec.secrets.names());
    Ok(digest::of_spec(&spec).map_err(unencodable)? == *digest)
}

/// The task that was accepted under this id for the same spec.
fn existing(inner: &Inner, id: &TaskId, spec: &TaskSpec) -> Result<Option<Task>, SubmitError> {
    // First the folder, then the row: a task's row is written before its folder is made.
    let has_record = inner.records.folder(id).exists();
    let known = inner
        .readers
        .read_here(|db| Ok(store::digest_by_id(db, id)?.zip(store::by_id(db, id)?)))
        .map_err(|error| SubmitError::Unavailable(format!("the history cannot be read: {error}")))?;
    match known {
        Some((known, task)) if asks_the_same(spec, &task, &known)? => Ok(Some(task)),
        Some(_) => Err(SubmitError::Conflict { id: id.clone() }),
        // The history that knew this task was damaged and set aside, or it ran beside this service. Nothing runs twice.
        None if has_record => Err(SubmitError::Conflict { id: id.clone() }),
        None => Ok(None),
    }
}

/// Name of the runner, and what it says about the spec.
fn check(inner: &Inner, spec: &TaskSpec) -> Result<(String, Plan), Refusal> {
    let runner = inner.registry.for_spec(spec)?;
    let plan = catch_unwind(AssertUnwindSafe(|| runner.check(spec)))
        .unwrap_or_else(|_| Err(Refusal::Unavailable(format!("the runner '{}' failed", runner.name()))))?;
    // A runner of an embedder need not know of retries, but nothing that was asked for is left out in silence.
    let most = plan.retry.retries;
    if spec.retries.is_some_and(|asked| asked > most) {
        let expected = format!("at most {most}, what the runner '{}' allows", runner.name());
        return Err(Refusal::invalid("retries", "maximum", expected));
    }
    Ok((runner.name().to_owned(), plan))
}

#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
fn unencodable(error: serde_json::Error) -> SubmitError {
    Refusal::Unavailable(format!("the spec cannot be written as JSON: {error}")).into()
}
