//! The service as its callers hold it: opening, reading, waiting.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::Instant;

use rusqlite::Connection;
use task_runners::{Records, RunnerRegistry, Task, TaskId, TaskStatus};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, broadcast, watch};

use crate::clock::Clock;
use crate::elsewhere::Awaited;
use crate::held::Held;
use crate::keeper::{Board, Event, Keeper, MAX_EVENTS, Vault};
use crate::live::{Live, Phase, TaskChange};
use crate::lock::{LockError, ServiceLock};
use crate::recovery;
use crate::run::Context;
use crate::settings::ServiceSettings;
use crate::steady::Steady;
use crate::store::{self, Readers, StoreError};
use crate::workspaces::Sizes;

/// The task service. Clones are handles of the same one. When the last is dropped the service accepts and starts
/// nothing more, and closes its database when what runs has ended; [`TaskService::drain`] does that in the open.
#[derive(Debug, Clone)]
pub struct TaskService {
    pub(crate) inner: Arc<Inner>,
}

/// What the handles share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) events: Sender<Event>,
    /// One of these is held by each submission that the keeper has not taken up.
    pub(crate) submissions: Arc<Semaphore>,
    pub(crate) readers: Readers,
    pub(crate) records: Records,
    pub(crate) registry: RunnerRegistry,
    pub(crate) stats: watch::Receiver<ServiceStats>,
    pub(crate) held: Held,
    pub(crate) clock: Clock,
    pub(crate) steady: Steady,
    pub(crate) sizes: Sizes,
    pub(crate) awaited: watch::Receiver<Awaited>,
    /// Closed when the keeper has gone.
    stopped: watch::Receiver<()>,
    live: Arc<Live>,
}

/// The service in numbers, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServiceStats {
    /// Tasks that wait.
    pub queued: usize,
    /// Tasks that run here, and those that have ended and could not be written yet.
    pub running: usize,
    /// Tasks that run on other agents.
    pub elsewhere: usize,
    /// Tasks that have ended and could not be written yet.
    pub unwritten: usize,
    /// Most tasks that run at once.
    pub slots: usize,
    /// Transactions that were written since the service was opened.
    pub commits: u64,
    /// Attempts since then that were followed by another one.
    pub retries: u64,
}

/// Why a service was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another service works on the state folder.
    #[error("{holder} runs a service on the state folder {}; stop it first, or use another state folder", .state_dir.display())]
    Held {
        /// The folder.
        state_dir: PathBuf,
        /// Who, in words.
        holder: String,
    },
    /// The state folder cannot be used.
    #[error("cannot use the state folder {}: {source}", .state_dir.display())]
    StateDir {
        /// The folder.
        state_dir: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tasks of the last run cannot be taken over.
    #[error("cannot take over the tasks of the last run: {0}")]
    Recover(rusqlite::Error),
    /// The thread that writes cannot be started.
    #[error("cannot start the thread that keeps the tasks: {0}")]
    Thread(io::Error),
}

/// Why tasks could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the history cannot be read: {0}; try again later")]
pub struct ReadError(String);

impl Inner {
    /// Whether the service has stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.has_changed().is_err()
    }
}

impl TaskService {
    /// Opens the service on a state folder: takes its lock, opens the database, brings the tasks of the last run to
    /// where they belong, and goes on with those that wait.
    ///
    /// The engine's own recovery must have ended what a dead agent left behind before this is called. Tasks run on the
    /// runtime that this is called on.
    ///
    /// # Errors
    /// See [`OpenError`]. A damaged database is none: it is set aside, and the start goes on.
    pub async fn open(settings: ServiceSettings, registry: RunnerRegistry) -> Result<Self, OpenError> {
        Self::open_with_clock(settings, registry, Clock::default()).await
    }

    /// The same, but no task starts before [`begin`](Self::begin): a start that fails elsewhere has started none then.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_held(settings: ServiceSettings, registry: RunnerRegistry) -> Result<Self, OpenError> {
        open_off_the_runtime(settings, registry, Clock::default()).await
    }

    /// Lets tasks start. Of a service that was not opened as held they do already.
    pub fn begin(&self) {
        // A keeper that has gone starts nothing, as whoever has stopped it wants.
        let _ = self.inner.events.send(Event::Begin);
    }

    /// The same with a clock by which waiting tasks become due.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with_clock(
        settings: ServiceSettings,
        registry: RunnerRegistry,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let service = open_off_the_runtime(settings, registry, clock).await?;
        service.begin();
        Ok(service)
    }

    /// One task as it stands.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn task(&self, id: &TaskId) -> Result<Option<Task>, ReadError> {
        let wanted = id.clone();
        let records = self.inner.records.clone();
        let read = move |db: &Connection| {
            Ok(store::by_id(db, &wanted)?.map(|task| with_late_result(&records, task)))
        };
        Ok(self.read(read).await?.map(|task| self.completed(task)))
    }

    /// Waits until a task has ended, and gives it with its result; none when there is no such task. A task that still
    /// waits when the service stops is given as it stands.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn wait(&self, id: &TaskId) -> Result<Option<Task>, ReadError> {
        loop {
            let mut turns = self.inner.stats.clone();
            turns.mark_unchanged();
            if let Some(mut phase) = self.live().follow(id) {
                let ended = phase.wait_for(|phase| matches!(phase, Phase::Ended(_))).await;
                if let Ok(Phase::Ended(task)) = ended.as_deref() {
                    return Ok(Some(Task::clone(task)));
                }
            }
            let task = self.task(id).await?;
            let open = task.as_ref().is_some_and(|task| !task.status.is_terminal());
            // An open task that nobody can follow: the keeper is about to tell of it, or has stopped.
            if !open || turns.changed().await.is_err() {
                return Ok(task);
            }
        }
    }

    /// Waits until one attempt of a task is over, and gives the task as it stands then: ended, or on the way to the next
    /// attempt. None when there is no such task; one that still waits when the service stops is given as it stands.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn wait_attempt(&self, id: &TaskId, attempt: u32) -> Result<Option<Task>, ReadError> {
        loop {
            let mut turns = self.inner.stats.clone();
            turns.mark_unchanged();
            let phase = self.live().follow(id);
            let Some(task) = self.task(id).await? else { return Ok(None) };
            if task.is_over(attempt) {
                return Ok(Some(task));
            }
            let is_told = match phase.as_ref().map(|phase| phase.borrow().clone()) {
                Some(Phase::Queued) => task.status == TaskStatus::Queued,
                Some(Phase::Starting(_) | Phase::Running { .. }) => task.status == TaskStatus::Running,
                Some(Phase::Undecided) => true,
                Some(Phase::Ended(_)) | None => false,
            };
            match phase {
                // A phase that is gone is one that has changed: the keeper has stopped.
                Some(mut phase) if is_told => drop(phase.changed().await),
                // Its row was written a moment ago, or the keeper has stopped.
                _ if turns.changed().await.is_err() => return Ok(Some(task)),
                _ => {}
            }
        }
    }

    /// The snapshots that tasks which have not ended must run from: pruning has to leave these.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn pinned(&self) -> Result<BTreeSet<String>, ReadError> {
        self.read(store::pinned).await
    }

    /// The runners that tasks may name.
    pub fn runners(&self) -> &RunnerRegistry {
        &self.inner.registry
    }

    /// The service in numbers, as they stand.
    pub fn stats(&self) -> ServiceStats {
        *self.inner.stats.borrow()
    }

    /// Waits until the service has stopped: it was drained, or the thread that decides and writes has panicked. Nothing is
    /// accepted any more then, and no end of a task is written; the next start finds how those that ran have ended.
    pub async fn stopped(&self) {
        // The other end never says anything: it goes.
        let _ = self.inner.stopped.clone().changed().await;
    }

    /// Follows every change of a task's state from now on, each after it was written. Who is more than 1,024 changes
    /// behind is told that it has missed some, and no task waits for it.
    pub fn changes(&self) -> broadcast::Receiver<TaskChange> {
        self.live().changes()
    }

    pub(crate) fn live(&self) -> &Live {
        &self.inner.live
    }

    /// The task with what only its execution knows.
    pub(crate) fn completed(&self, mut task: Task) -> Task {
        self.live().complete(&mut task);
        task
    }

    /// Reads something off the runtime's own threads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let readers = self.inner.readers.clone();
        match tokio::task::spawn_blocking(move || readers.read_here(read)).await {
            Ok(outcome) => outcome.map_err(|error| ReadError(error.to_string())),
            Err(error) => Err(ReadError(error.to_string())),
        }
    }
}

/// A task that was given up with what came of it after all.
fn with_late_result(records: &Records, task: Task) -> Task {
    if task.status != TaskStatus::Lost {
        return task;
    }
    let late_result = records.late_result(&task.id).unwrap_or_else(|error| {
        tracing::warn!(task_id = %task.id, %error, "what came of a task that was given up cannot be read");
        None
    });
    Task { late_result: late_result.map(Arc::new), ..task }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The keeper has gone already when the service was drained.
        let _ = self.events.send(Event::Close { answer: None });
    }
}

/// Opens on a thread for blocking work.
async fn open_off_the_runtime(
    settings: ServiceSettings,
    registry: RunnerRegistry,
    clock: Clock,
) -> Result<TaskService, OpenError> {
    let runtime = Handle::current();
    let opened = tokio::task::spawn_blocking(move || open(&settings, registry, runtime, clock));
    opened.await.unwrap_or_else(|error| Err(OpenError::Thread(io::Error::other(error))))
}

fn open(
    settings: &ServiceSettings,
    registry: RunnerRegistry,
    runtime: Handle,
    clock: Clock,
) -> Result<TaskService, OpenError> {
    let state_dir = &settings.state_dir;
    let unusable = |source| OpenError::StateDir { state_dir: state_dir.clone(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(unusable)?;
    let lock = ServiceLock::take(state_dir).map_err(|error| match error {
        LockError::Held(holder) => OpenError::Held { state_dir: state_dir.clone(), holder },
        LockError::Io(source) => unusable(source),
    })?;
    let records = Records::open(state_dir).map_err(unusable)?;
    let mut db = store::open(state_dir)?;
    let undecided = match recovery::recover(&mut db, &records, &registry, clock.now()) {
        Ok(undecided) => undecided,
        Err(error) if store::is_damage(&error) => {
            db = store::open_anew(state_dir, db, &error)?;
            Vec::new()
        }
        Err(error) => return Err(OpenError::Recover(error)),
    };
    let unfinished = store::unfinished(&db, &registry).map_err(OpenError::Recover)?.tasks;

    // From here on the steps of its clock are known.
    let steady = Steady::default();
    steady.trusted(clock.now().wall);
    let live = Arc::new(Live::new());
    for task in unfinished.iter().filter(|task| task.status == TaskStatus::Queued) {
        live.queued(&task.id);
    }
    undecided.iter().for_each(|task| live.undecided(&task.id));
    let mut board = Board::new(settings.slots(), settings.queue);
    board.reload(unfinished.clone(), clock.now());
    let (events, receiver) = mpsc::channel();
    let tick: Sender<Event> = events.clone();
    // A keeper that has gone does not need to know the time.
    clock.on_advance(move || drop(tick.send(Event::Tick)));
    let first = ServiceStats { slots: settings.slots(), ..ServiceStats::default() };
    let (stats, watched) = watch::channel(first);
    let (alive, stopped) = watch::channel(());
    let (doors, awaited) = watch::channel(Awaited::new());
    let context = Context { live: live.clone(), records: records.clone(), events: events.clone() };
    let mut keeper = Keeper {
        db,
        board,
        vault: Vault::default(),
        live: live.clone(),
        stats,
        awaited: doors,
        registry: registry.clone(),
        context,
        runtime,
        clock: clock.clone(),
        receiver,
        unwritten: Vec::new(),
        ending: BTreeSet::new(),
        failing_alone: false,
        undecided,
        look_again: Instant::now(),
        stale: false,
        failing: false,
        orphaned: false,
        _alive: alive,
        _lock: lock,
    };
    keeper.leave_out();
    keeper.take_up_elsewhere(&unfinished).map_err(OpenError::Recover)?;
    keeper.publish();
    keeper.spawn().map_err(OpenError::Thread)?;
    let readers = Readers::new(state_dir);
    let submissions = Arc::new(Semaphore::new(MAX_EVENTS));
    store::check_in_background(readers.clone());
    let inner = Inner {
        events,
        submissions,
        readers,
        records,
        registry,
        stats: watched,
        held: Held::default(),
        clock,
        steady,
        sizes: Sizes::default(),
        awaited,
        stopped,
        live,
    };
    Ok(TaskService { inner: Arc::new(inner) })
}
