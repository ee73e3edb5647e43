//! The way of one execution, step by step: check, prepare, launch, supervise, collect, record.
//!
//! The seed does all of this in one function, `ExecuteScript`; here each step is a call. Everything from the
//! look-up on happens on the execution's own thread.

use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};

use crate::banner;
use crate::collect::result_of;
use crate::error::StartError;
use crate::execution::{Execution, ExecutionDriver, abandoned};
use crate::executor::Inner;
use crate::launch::{Running, launch};
use crate::names::TaskId;
use crate::prepare::{Equipment, Prepared, prepare, source};
use crate::problem::Problem;
use crate::request::{CheckedNames, ExecuteScriptRequest};
use crate::result::{Containment, ExecutionResult, LogSummary, Outcome};
use crate::scope::Scope;
use crate::script_source::ResolvedScript;
use crate::secret_files;
use crate::supervise::{DRAIN_LIMIT, LOOK_AGAIN, Rules, Supervised, supervise};
use crate::sys;

/// The code of a result whose execution the agent could not watch to its end.
const AGENT_FAILED: &str = "agent_failed";

/// Whom to tell, and when: each time that somebody is woken costs as much as making a file.
enum Answer {
    /// Once it runs.
    Started(Waiting<Execution>),
    /// Once it has ended.
    Ended(Waiting<Arc<ExecutionResult>>),
}

type Waiting<T> = oneshot::Sender<Result<T, StartError>>;

/// Checks a request and starts it on a thread of its own.
pub(crate) async fn start(inner: Arc<Inner>, request: ExecuteScriptRequest) -> Result<Execution, StartError> {
    let (answer, answered) = oneshot::channel();
    begin(inner, request, Answer::Started(answer))?;
    answered.await.unwrap_or_else(|_| Err(lost()))
}

/// The same, of a request that is made on that thread, where that may block.
pub(crate) async fn start_with(
    inner: Arc<Inner>,
    make: impl FnOnce() -> Result<ExecuteScriptRequest, StartError> + Send + 'static,
) -> Result<Execution, StartError> {
    let (answer, answered) = oneshot::channel();
    let answer = Answer::Started(answer);
    on_a_thread(inner, move |inner| {
        let made = make().and_then(|request| Ok((checked(inner, &request)?, request)));
        match made {
            Ok((names, request)) => carry_out(inner, &request, names, answer),
            Err(error) => refuse(answer, error),
        }
    })?;
    answered.await.unwrap_or_else(|_| Err(lost()))
}

/// The same, and waits for its end.
pub(crate) async fn execute(
    inner: Arc<Inner>,
    request: ExecuteScriptRequest,
) -> Result<Arc<ExecutionResult>, StartError> {
    let (answer, answered) = oneshot::channel();
    begin(inner, request, Answer::Ended(answer))?;
    answered.await.unwrap_or_else(|_| Err(lost()))
}

fn lost() -> StartError {
    let source = io::Error::other("the thread of the execution ended without an answer");
    StartError::host("start the script")(source)
}

fn begin(inner: Arc<Inner>, request: ExecuteScriptRequest, answer: Answer) -> Result<(), StartError> {
    let names = checked(&inner, &request)?;
    on_a_thread(inner, move |inner| carry_out(inner, &request, names, answer))
}

fn on_a_thread(inner: Arc<Inner>, work: impl FnOnce(&Inner) + Send + 'static) -> Result<(), StartError> {
    let counted = Counted::new(&inner);
    let pool = inner.pool.clone();
    let job = move || {
        work(&inner);
        // Whoever waits for the threads wants what they held to be given back by then.
        drop(inner);
        drop(counted);
    };
    pool.run(Box::new(job)).map_err(StartError::host("start a thread for the execution"))
}

/// One more execution that a thread is at work for, until it is dropped.
struct Counted(Arc<watch::Sender<usize>>);

impl Counted {
    fn new(inner: &Inner) -> Self {
        inner.under_way.send_modify(|count| *count += 1);
        Self(inner.under_way.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Checks a request, and that its script is there and can be executed, without making or starting anything.
pub(crate) fn check(inner: &Inner, request: &ExecuteScriptRequest) -> Result<ResolvedScript, StartError> {
    let names = checked(inner, request)?;
    source(inner, request).resolve(&names.script)
}

pub(crate) fn checked(inner: &Inner, request: &ExecuteScriptRequest) -> Result<CheckedNames, StartError> {
    let checked = request.checked();
    let mut problems = checked.as_ref().err().cloned().unwrap_or_default();
    let (ceiling, whose) = match request.time_limit {
        Some(limit) => (limit, "the script's own limit"),
        None => (inner.settings.max_timeout, "the agent's max_timeout"),
    };
    if request.timeout.is_some_and(|timeout| timeout > ceiling) {
        let expected = format!("at most {}s, {whose}", ceiling.as_secs());
        problems.push(Problem::new("timeout", "maximum", expected));
    }
    match checked {
        Ok(names) if problems.is_empty() => Ok(names),
        _ => Err(StartError::Invalid(problems)),
    }
}

/// The execution's thread from beginning to end.
fn carry_out(inner: &Inner, request: &ExecuteScriptRequest, names: CheckedNames, answer: Answer) {
    let prepared = match prepare(inner, request, names) {
        Ok(prepared) => prepared,
        Err(error) => return refuse(answer, error),
    };
    let id = &prepared.accepted.id;
    let wake = prepared.equipment.wake.clone();
    let (execution, driver) = Execution::with_wake(id.clone(), inner.records.log_path(id), Some(wake));
    let mut running = match launch(inner, request, &prepared, &driver) {
        Ok(running) => running,
        Err((error, log)) => return refuse(answer, not_started(inner, prepared, log, error)),
    };
    note_main(&prepared, &mut running);
    let listed = Listed::new(inner, &execution);
    let mut awaited = answer.started(execution);
    let watched = catch_unwind(AssertUnwindSafe(|| watch(inner, request, &prepared, &driver, &mut running)));
    let mut result = watched.unwrap_or_else(|_| {
        let message = "a defect in the agent ended the watch over this script; it was killed, and its log shows how far \
            it came";
        ended_by_force(&mut running, message.to_owned())
    });
    if !request.secrets.is_empty() {
        secret_files::remove(&prepared.equipment.scratch);
    }
    let accepted = &prepared.accepted;
    let mut running = Some(running);
    accepted.record_result(inner, &mut result, || drop(running.take()));
    drop(listed);
    // Whoever waits for the result may want the same workspace next. What can be removed behind it is: that may take
    // long, and nobody has to wait for it.
    let Prepared { accepted, equipment: Equipment { scratch, .. } } = prepared;
    drop(accepted);
    awaited.tell(driver.publish(result));
    drop(running);
    drop(scratch);
}

/// Gives an execution that could not be started its result. Its scratch goes first, its place in the instance's file last.
fn not_started(inner: &Inner, prepared: Prepared<'_>, log: LogSummary, error: StartError) -> StartError {
    let Prepared { accepted, equipment: Equipment { scratch, .. } } = prepared;
    drop(scratch);
    accepted.not_started(inner, log, error)
}

fn refuse(answer: Answer, error: StartError) {
    tracing::info!(code = error.code(), %error, "not started");
    // Whoever asked may have gone away.
    let _ = match answer {
        Answer::Started(waiting) => waiting.send(Err(error)).is_ok(),
        Answer::Ended(waiting) => waiting.send(Err(error)).is_ok(),
    };
}

impl Answer {
    /// Tells whoever waits for the start; gives back who waits for the end.
    fn started(self, execution: Execution) -> AwaitedEnd {
        match self {
            Self::Started(waiting) => {
                // Whoever asked may have gone away; the execution goes on all the same.
                let _ = waiting.send(Ok(execution));
                AwaitedEnd(None)
            }
            Self::Ended(waiting) => AwaitedEnd(Some(waiting)),
        }
    }
}

/// Who waits for the end of an execution that runs, if anybody; told when it is dropped, whatever happens to the thread.
struct AwaitedEnd(Option<Waiting<Arc<ExecutionResult>>>);

impl AwaitedEnd {
    fn tell(&mut self, result: Arc<ExecutionResult>) {
        if let Some(waiting) = self.0.take() {
            // Whoever asked may have gone away.
            let _ = waiting.send(Ok(result));
        }
    }
}

impl Drop for AwaitedEnd {
    fn drop(&mut self) {
        self.tell(Arc::new(abandoned()));
    }
}

/// An execution's place in the table of those under way; given up when dropped, whatever happens to its thread.
struct Listed<'a> {
    inner: &'a Inner,
    id: TaskId,
}

impl<'a> Listed<'a> {
    fn new(inner: &'a Inner, execution: &Execution) -> Self {
        let id = execution.id().clone();
        inner.running().insert(id.clone(), execution.clone());
        Self { inner, id }
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.inner.running().remove(&self.id);
    }
}

/// Watches the script to its end and collects what it leaves.
fn watch(
    inner: &Inner,
    request: &ExecuteScriptRequest,
    prepared: &Prepared<'_>,
    driver: &ExecutionDriver,
    running: &mut Running,
) -> ExecutionResult {
    let id = &prepared.accepted.id;
    tracing::info!(task_id = %id, script = prepared.accepted.script_name, pid = running.child.pid, "started");
    let rules = Rules {
        started: running.started,
        timeout: prepared.accepted.timeout,
        kill_grace: request.kill_grace.unwrap_or(inner.settings.kill_grace),
        leftovers: inner.settings.leftovers,
        group_signal: request.process_group && request.group_kill,
        cancellation: request.cancellation.clone(),
    };
    let ended = supervise(Supervised {
        child: &running.child,
        scope: &running.scope,
        output: running.output.as_fd(),
        log: &mut running.log,
        driver,
        wake: &prepared.equipment.wake,
        rules,
    });
    let (mut result, ended_at) = match ended {
        Ok(ended) => {
            let at = ended.at;
            running.scope.let_go();
            (result_of(inner, request, prepared, running, ended), Some(at))
        }
        Err(error) => {
            let message = format!("the agent could not watch the script to its end, and killed it: {error}");
            (ended_by_force(running, message), None)
        }
    };
    let footer = banner::finished(Timestamp::now(), &result);
    result.log = running.log.finish(&footer, &prepared.accepted.record, driver.progress());
    running.callbacks.wait(id, ended_at);
    tracing::info!(task_id = %id, outcome = ?result.outcome, duration_ms = result.duration_ms, "ended");
    result
}

/// Notes which process is the main one, where it takes that to find the others.
fn note_main(prepared: &Prepared<'_>, running: &mut Running) {
    running.scope.set_main(running.child.pid);
    if let Scope::Marker(marker) = &running.scope
        && let Err(error) = prepared.accepted.slot.set_main(running.child.pid, marker.main_start())
    {
        let id = &prepared.accepted.id;
        tracing::warn!(task_id = %id, %error, "could not note the main process in the state folder");
    }
}

/// Ends an execution that nobody watches any more, by an error or by a defect: neither must leave its processes behind
/// nor its task without a result.
fn ended_by_force(running: &mut Running, message: String) -> ExecutionResult {
    running.scope.kill();
    // It may have been reaped before; either way it is gone afterwards.
    let _ = sys::pidfd_send_signal(running.child.pidfd.as_fd(), libc::SIGKILL);
    let _ = sys::reap(running.child.pidfd.as_fd());
    let deadline = Instant::now() + DRAIN_LIMIT;
    let mut is_empty = running.scope.is_empty_after_kill();
    while !is_empty && Instant::now() < deadline {
        std::thread::sleep(LOOK_AGAIN);
        is_empty = running.scope.is_empty_after_kill();
    }
    let mut result = ExecutionResult::without_run(Outcome::Interrupted, AGENT_FAILED, message);
    result.command.clone_from(&running.command);
    result.kill_scope = Some(running.scope.kind());
    result.containment = Some(Containment::of(running.scope.kind(), is_empty));
    result.log = running.log.summary().clone();
    result.log.incomplete = Some("the agent stopped reading the output".to_owned());
    result
}
