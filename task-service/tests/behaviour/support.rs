//! Runners whose executions the tests drive, and a service on a temporary folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use task_service::{
    Clock, Execution, ExecutionDriver, ExecutionResult, Lane, ManualClock, Outcome, Plan, Records, Refusal,
    RetryPolicy, RunnerRegistry, ServiceSettings, ServiceStats, StartError, StartFuture, Task, TaskOrder,
    TaskRunner, TaskService, TaskSpec,
};
use tokio::sync::{Mutex, Semaphore, mpsc};

/// Long enough for any machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Gives up waiting with a panic that says so.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it should have happened long ago")
}

/// A task that the runner `manual` was told to start.
pub(crate) struct Started {
    pub(crate) order: TaskOrder,
    pub(crate) driver: ExecutionDriver,
}

impl Started {
    pub(crate) fn id(&self) -> String {
        self.order.id.to_string()
    }

    pub(crate) fn exit(self, code: i32) {
        self.driver.finish(exited(code));
    }
}

/// A runner that does what the test says, and what the spec's parameters say:
/// `busy`: so many starts find the workspace in use; `refuse`: the check fails; `panic`: `check` or `start` panics;
/// `fail`: the start fails with this errno; `hold`: the start waits for the test to let it go on; `lane`: name,
/// concurrency and perhaps queue as `l:1:5`; `retry_on`: the kinds that are tried again, as often as the spec says; `delay_ns`: after how long.
pub(crate) struct Manual {
    state: PathBuf,
    started: mpsc::UnboundedSender<Started>,
    next: Mutex<mpsc::UnboundedReceiver<Started>>,
    pub(crate) checks: AtomicUsize,
    pub(crate) starts: AtomicUsize,
    /// A start that is held takes one of these.
    pub(crate) gate: Semaphore,
}

impl Manual {
    pub(crate) fn new(state: &Path) -> Arc<Self> {
        let (started, next) = mpsc::unbounded_channel();
        let (checks, starts) = Default::default();
        Arc::new(Self {
            state: state.to_owned(),
            started,
            next: Mutex::new(next),
            checks,
            starts,
            gate: Semaphore::new(0),
        })
    }

    /// The next task that the service starts.
    pub(crate) async fn next(&self) -> Started {
        soon(self.next.lock().await.recv()).await.expect("the runner outlives the test")
    }

    /// Waits until so many starts have begun.
    pub(crate) async fn begun(&self, starts: usize) {
        soon(async {
            while self.starts.load(Ordering::SeqCst) < starts {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Whether nothing was started beyond what `next` gave.
    pub(crate) async fn is_idle(&self) -> bool {
        self.next.lock().await.is_empty()
    }
}

impl TaskRunner for Manual {
    fn name(&self) -> &str {
        "manual"
    }

    fn description(&self) -> &str {
        "does what the test says"
    }

    fn check(&self, spec: &TaskSpec) -> Result<Plan, Refusal> {
        self.checks.fetch_add(1, Ordering::SeqCst);
        assert!(spec.params.get("panic").is_none_or(|when| when != "check"), "as the test wanted");
        match spec.params.get("refuse") {
            Some(_) => Err(Refusal::invalid("params.refuse", "test", "left out")),
            None => Ok(Plan {
                pinned: Some("snapshot".to_owned()),
                workspace: spec.work_dir.clone(),
                secrets: ["token"]
                    .into_iter()
                    .filter(|name| spec.params.contains_key(*name) || spec.secrets.contains(name))
                    .map(str::to_owned)
                    .collect(),
                lane: spec.params.get("lane").map(|lane| self::lane(lane.as_str().unwrap())),
                retry: retry(spec),
                door: None,
                is_shut: false,
            }),
        }
    }

    fn start(&self, order: TaskOrder) -> StartFuture<'_> {
        let earlier = self.starts.fetch_add(1, Ordering::SeqCst) as u64;
        let number = |name: &str| order.spec.params.get(name).and_then(serde_json::Value::as_u64);
        let busy = number("busy").is_some_and(|times| earlier < times);
        let errno = number("fail");
        let panics = order.spec.params.get("panic").is_some_and(|when| when == "start");
        Box::pin(async move {
            assert!(!panics, "as the test wanted");
            if order.spec.params.contains_key("hold") {
                self.gate.acquire().await.unwrap().forget();
            }
            if busy {
                return Err(StartError::WorkspaceBusy("w".to_owned()));
            }
            if let Some(errno) = errno {
                let source = std::io::Error::from_raw_os_error(errno as i32);
                return Err(StartError::Host { operation: "start".to_owned(), source });
            }
            let records = Records::open(&self.state).unwrap();
            records.create(&order.id).expect("a task is started once");
            let log = records.log_path(&order.id);
            std::fs::write(&log, log_of(order.attempt)).unwrap();
            let (execution, driver) = Execution::new(order.id.clone(), log);
            self.started.send(Started { order, driver }).unwrap_or_else(|_| panic!("the test has gone"));
            Ok(execution)
        })
    }
}

fn lane(text: &str) -> Lane {
    let mut parts = text.split(':');
    let name = parts.next().unwrap().to_owned();
    let concurrency = parts.next().unwrap().parse().unwrap();
    Lane { name, concurrency, queue: parts.next().map(|queue| queue.parse().unwrap()) }
}

fn retry(spec: &TaskSpec) -> RetryPolicy {
    let mut policy = RetryPolicy { retries: spec.retries.unwrap_or(0), ..RetryPolicy::default() };
    if let Some(kinds) = spec.params.get("retry_on") {
        policy.on = serde_json::from_value(kinds.clone()).unwrap();
    }
    if let Some(delay) = spec.params.get("delay_ns") {
        policy.delay = Duration::from_nanos(delay.as_u64().unwrap());
    }
    policy
}

/// The log that the runner `manual` writes.
pub(crate) fn log_of(attempt: u32) -> String {
    if attempt == 1 { "hello\n".to_owned() } else { format!("try {attempt}\n") }
}

/// A runner whose tasks succeed at once.
pub(crate) struct Instant;

impl TaskRunner for Instant {
    fn name(&self) -> &str {
        "instant"
    }

    fn description(&self) -> &str {
        "succeeds at once"
    }

    fn check(&self, _: &TaskSpec) -> Result<Plan, Refusal> {
        Ok(Plan::default())
    }

    fn start(&self, order: TaskOrder) -> StartFuture<'_> {
        Box::pin(async move {
            let (execution, driver) = Execution::new(order.id, PathBuf::from("/nonexistent"));
            driver.finish(exited(0));
            Ok(execution)
        })
    }
}

/// The code of the error in a task's result.
pub(crate) fn error_code(task: &Task) -> &str {
    &task.result.as_ref().unwrap().error.as_ref().unwrap().code
}

pub(crate) fn exited(code: i32) -> ExecutionResult {
    let mut result = ExecutionResult::without_run(Outcome::Exited { code }, "", "");
    result.success = code == 0;
    result.exit_code = Some(code);
    result.error = None;
    result.log.bytes = 6;
    result
}

/// A service with the runners `manual` and `instant` on a temporary folder.
pub(crate) struct Bench {
    pub(crate) service: TaskService,
    pub(crate) manual: Arc<Manual>,
    pub(crate) folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn new(concurrent: usize, queue: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (service, manual) = open(folder.path(), concurrent, queue).await;
        Self { service, manual, folder }
    }

    /// The same with a clock that only the test moves.
    pub(crate) async fn stopped(concurrent: usize, queue: usize) -> (Self, ManualClock) {
        let (folder, clock) = (tempfile::tempdir().unwrap(), ManualClock::new());
        let (service, manual) = open_at(folder.path(), concurrent, queue, clock.clock()).await;
        (Self { service, manual, folder }, clock)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Submits a spec of the runner `manual` and gives the new task.
    pub(crate) async fn submit(&self, spec: TaskSpec) -> Task {
        let submitted = soon(self.service.submit(spec, "tester")).await.unwrap();
        assert!(submitted.created);
        submitted.task
    }

    pub(crate) async fn wait(&self, id: &str) -> Task {
        soon(self.service.wait(&id.parse().unwrap())).await.unwrap().unwrap()
    }

    pub(crate) async fn status(&self, id: &str) -> String {
        let task = soon(self.service.task(&id.parse().unwrap())).await.unwrap().unwrap();
        task.status.to_string()
    }

    /// Waits until the service counts this: what is written is counted a moment later.
    pub(crate) async fn counted(&self, is_so: impl Fn(ServiceStats) -> bool) {
        soon(async {
            while !is_so(self.service.stats()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Stops the service and opens another one on its folder.
    pub(crate) async fn reopen(self, concurrent: usize, queue: usize) -> Self {
        soon(self.service.drain(Duration::ZERO)).await;
        let (service, manual) = open(self.folder.path(), concurrent, queue).await;
        Self { service, manual, folder: self.folder }
    }
}

pub(crate) async fn open(state: &Path, concurrent: usize, queue: usize) -> (TaskService, Arc<Manual>) {
    open_at(state, concurrent, queue, Clock::default()).await
}

pub(crate) async fn open_at(
    state: &Path,
    concurrent: usize,
    queue: usize,
    clock: Clock,
) -> (TaskService, Arc<Manual>) {
    let manual = Manual::new(state);
    let mut registry = RunnerRegistry::new();
    registry.register(manual.clone()).unwrap();
    registry.register(Arc::new(Instant)).unwrap();
    let service = TaskService::open_with_clock(settings(state, concurrent, queue), registry, clock);
    let service = service.await.unwrap();
    (service, manual)
}

pub(crate) fn settings(state: &Path, concurrent: usize, queue: usize) -> ServiceSettings {
    ServiceSettings { state_dir: state.to_owned(), concurrent, queue }
}

/// A spec of the runner `manual` from JSON fields.
pub(crate) fn spec(fields: serde_json::Value) -> TaskSpec {
    let serde_json::Value::Object(mut fields) = fields else { panic!("a spec is an object") };
    fields.insert("name".to_owned(), "manual".into());
    TaskSpec::from_json(fields.into()).unwrap()
}

pub(crate) fn with_id(id: &str) -> TaskSpec {
    spec(serde_json::json!({"id": id}))
}

/// Copies what a crash at this moment would leave. No commit may be under way.
pub(crate) fn crashed(state: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(state, copy.path());
    copy
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
