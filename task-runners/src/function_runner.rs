//! A runner made of an async function: the short way for embedders to register something that is no script.
//!
//! The function runs as a task of its own, and a second one watches over it: that one alone writes the record, so that
//! the task ends when its time is over or somebody insists on its end, whatever the function is doing then.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use executor_core::{Completion, Outcome, Problem, Recorder, Records, StartError};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use crate::refusal::Refusal;
use crate::runner::{Plan, StartFuture, TaskOrder, TaskRunner};
use crate::spec::TaskSpec;

/// Writes to the log that may wait for the disk before the function does.
const WRITES: usize = 16;

type Work = Arc<dyn Fn(TaskOrder, TaskHandle) -> WorkFuture + Send + Sync>;
type WorkFuture = Pin<Box<dyn Future<Output = Completion> + Send>>;
type Check = Arc<dyn Fn(&TaskSpec) -> Vec<Problem> + Send + Sync>;

/// How long tasks of a function may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionLimits {
    /// The time limit of a task whose spec names none.
    pub default_timeout: Duration,
    /// The longest time limit that a spec may name.
    pub max_timeout: Duration,
    /// How long a function that was asked to end may go on before it is given up.
    pub grace: Duration,
}

impl Default for FunctionLimits {
    /// What scripts have where nothing else is set: an hour, a day, ten seconds.
    fn default() -> Self {
        Self {
            default_timeout: Duration::from_secs(60 * 60),
            max_timeout: Duration::from_secs(24 * 60 * 60),
            grace: Duration::from_secs(10),
        }
    }
}

/// What a function has of its task while it runs. Clones are handles of the same task.
#[derive(Debug, Clone)]
pub struct TaskHandle {
    log: mpsc::Sender<Vec<u8>>,
    stop: watch::Receiver<bool>,
}

impl TaskHandle {
    /// Appends to the log. Nothing is appended any more once the task has ended.
    pub async fn write(&self, bytes: impl Into<Vec<u8>>) {
        // Nobody takes it when the task has ended without its function.
        let _ = self.log.send(bytes.into()).await;
    }

    /// Waits until the function is asked to end, because its time is over or somebody cancelled the task. It has the
    /// grace period from then on.
    pub async fn cancelled(&self) {
        // Without a sender the task has ended, which is as good a reason to end.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }
}

/// A runner that carries tasks out by an async function. Such a task has log, banners, result, time limit and history
/// like any other; see `examples/embedders_runner.rs`.
#[derive(Clone)]
pub struct FunctionRunner {
    name: String,
    description: String,
    records: Records,
    limits: FunctionLimits,
    check: Check,
    work: Work,
}

impl FunctionRunner {
    /// A runner of that name. The function gets the order and a handle of the task, and what it returns ends the task; it
    /// runs on the tokio runtime of whoever starts tasks.
    pub fn new<W, F>(name: &str, description: &str, records: Records, work: W) -> Self
    where
        W: Fn(TaskOrder, TaskHandle) -> F + Send + Sync + 'static,
        F: Future<Output = Completion> + Send + 'static,
    {
        Self {
            name: name.to_owned(),
            description: description.to_owned(),
            records,
            limits: FunctionLimits::default(),
            check: Arc::new(|_| Vec::new()),
            work: Arc::new(move |order, handle| Box::pin(work(order, handle))),
        }
    }

    /// Checks specs by this function, which names every mistake.
    #[must_use]
    pub fn check_with(mut self, check: impl Fn(&TaskSpec) -> Vec<Problem> + Send + Sync + 'static) -> Self {
        self.check = Arc::new(check);
        self
    }

    /// Sets how long tasks may take.
    #[must_use]
    pub fn limits(mut self, limits: FunctionLimits) -> Self {
        self.limits = limits;
        self
    }

    /// What is wrong with a spec whatever the function is.
    fn problems(&self, spec: &TaskSpec) -> Vec<Problem> {
        let has_no = [
            ("env", !spec.env.is_empty(), "environment"),
            ("work_dir", spec.work_dir.is_some(), "workspace"),
            ("stdin", spec.stdin.is_some(), "standard input"),
            ("retries", spec.retries.is_some_and(|retries| retries > 0), "retries"),
            ("debug_script", spec.debug_script, "script that reproduces it"),
        ];
        let unsupported = has_no.into_iter().filter(|(_, given, _)| *given).map(|(field, _, what)| {
            Problem::new(field, "unsupported", format!("left out: the runner '{}' has no {what}", self.name))
        });
        let mut problems: Vec<Problem> = unsupported.collect();
        if spec.timeout.is_some_and(|timeout| timeout > self.limits.max_timeout) {
            let expected =
                format!("at most {}s, the runner's max_timeout", self.limits.max_timeout.as_secs());
            problems.push(Problem::new("timeout", "maximum", expected));
        }
        problems
    }
}

impl TaskRunner for FunctionRunner {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> &str {
        &self.description
    }

    fn check(&self, spec: &TaskSpec) -> Result<Plan, Refusal> {
        let mut problems = self.problems(spec);
        problems.extend((self.check)(spec));
        if problems.is_empty() { Ok(Plan::default()) } else { Err(Refusal::Invalid(problems)) }
    }

    fn start(&self, order: TaskOrder) -> StartFuture<'_> {
        Box::pin(async move {
            let (records, name) = (self.records.clone(), self.name.clone());
            let (id, created_by) = (order.id.clone(), order.created_by.clone());
            let begun =
                tokio::task::spawn_blocking(move || Recorder::begin(&records, &id, &name, &created_by));
            let begun = begun.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            let (execution, recorder) = begun.map_err(|source| StartError::Host {
                operation: format!("make the record of task {}", order.id),
                source,
            })?;
            let (log, written) = mpsc::channel(WRITES);
            let (stop, stopped) = watch::channel(false);
            let timeout = order.spec.timeout.unwrap_or(self.limits.default_timeout);
            let work = tokio::spawn((self.work)(order, TaskHandle { log, stop: stopped }));
            let watch = Watch { recorder, work, written, stop, grace: self.limits.grace };
            // It runs on by itself; whoever wants its result waits on the handle.
            drop(tokio::spawn(watch.until_the_end(Instant::now() + timeout)));
            Ok(execution)
        })
    }
}

impl std::fmt::Debug for FunctionRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FunctionRunner").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What watches over a function that runs.
struct Watch {
    recorder: Recorder,
    work: JoinHandle<Completion>,
    written: mpsc::Receiver<Vec<u8>>,
    stop: watch::Sender<bool>,
    grace: Duration,
}

/// Why a function was asked to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    TimedOut,
    Cancelled,
}

impl Watch {
    async fn until_the_end(mut self, mut deadline: Instant) {
        let mut asked = None;
        let completion = loop {
            tokio::select! {
                biased;
                () = self.recorder.cancelled(), if asked.is_none() => {
                    asked = Some(Stop::Cancelled);
                    deadline = self.ask();
                }
                () = self.recorder.cancelled_times(2), if asked.is_some() => break None,
                () = tokio::time::sleep_until(deadline) => {
                    if asked.is_some() {
                        break None;
                    }
                    asked = Some(Stop::TimedOut);
                    deadline = self.ask();
                }
                Some(bytes) = self.written.recv() => self.recorder.write(&bytes),
                ended = &mut self.work => break Some(ended),
            }
        };
        self.work.abort();
        while let Ok(bytes) = self.written.try_recv() {
            self.recorder.write(&bytes);
        }
        // The result is flushed, which may take as long as the disk likes.
        let written = tokio::task::spawn_blocking(move || finish(self.recorder, completion, asked));
        if let Err(error) = written.await {
            tracing::error!(%error, "the result of a function was not written");
        }
    }

    /// Asks the function to end, and gives the time until which it may take.
    fn ask(&self) -> Instant {
        self.stop.send_replace(true);
        Instant::now() + self.grace
    }
}

/// Ends the task by what its function came to, if it came to anything in time.
fn finish(recorder: Recorder, completion: Option<Result<Completion, JoinError>>, asked: Option<Stop>) {
    match (asked, completion) {
        (Some(Stop::TimedOut), _) => {
            recorder.finish_as(Outcome::TimedOut, "timed_out", "the time limit of this task was over");
        }
        (_, Some(Ok(completion))) => recorder.finish(completion),
        (Some(Stop::Cancelled), None) => {
            recorder.finish_as(Outcome::Cancelled, "cancelled", "it was cancelled and did not end by itself");
        }
        // It panicked, or its runtime is being shut down: dropped, the recorder says that nobody watches any more.
        (_, Some(Err(_)) | None) => drop(recorder),
    }
}
