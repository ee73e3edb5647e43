//! The handle of an execution under way: its id, its log, cancelling it, waiting for its result.
//!
//! Whoever carries the execution out holds the other end, an [`ExecutionDriver`]; the engine's supervisor is one,
//! and a runner that starts no script is another.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use tokio::sync::{Notify, watch};

use crate::log_reader::LogReader;
use crate::names::TaskId;
use crate::progress::{LogProgress, ProgressSender};
use crate::result::{ExecutionResult, Outcome};
use crate::wake::WakeUp;

/// An execution under way. Clones are handles of the same one; dropping them ends nothing.
#[derive(Debug, Clone)]
pub struct Execution {
    shared: Arc<Shared>,
}

/// The end of whoever carries an execution out. Dropped without a result, it leaves one that says so.
#[derive(Debug)]
pub struct ExecutionDriver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    id: TaskId,
    log_path: PathBuf,
    /// What the log is written to, for as long as it is.
    log: OnceLock<Weak<File>>,
    progress: ProgressSender,
    cancels: AtomicU32,
    cancel_notify: Notify,
    /// Wakes the thread that supervises it, where one does.
    wake: Option<WakeUp>,
    result: watch::Sender<Option<Arc<ExecutionResult>>>,
    node: OnceLock<String>,
}

impl Execution {
    /// Makes the two ends of an execution whose log stands at `log_path`.
    pub fn new(id: TaskId, log_path: PathBuf) -> (Self, ExecutionDriver) {
        Self::with_wake(id, log_path, None)
    }

    /// The same for an execution that is supervised by the thread that `wake` wakes.
    pub(crate) fn with_wake(id: TaskId, log_path: PathBuf, wake: Option<WakeUp>) -> (Self, ExecutionDriver) {
        let shared = Arc::new(Shared {
            id,
            log_path,
            log: OnceLock::new(),
            progress: ProgressSender::new(),
            cancels: AtomicU32::new(0),
            cancel_notify: Notify::new(),
            wake,
            result: watch::Sender::new(None),
            node: OnceLock::new(),
        });
        (Self { shared: shared.clone() }, ExecutionDriver { shared })
    }

    /// The task's id.
    pub fn id(&self) -> &TaskId {
        &self.shared.id
    }

    /// Says on which node it is carried out. What was said first stands.
    #[must_use]
    pub fn on_node(self, name: &str) -> Self {
        let _ = self.shared.node.set(name.to_owned());
        self
    }

    /// The node that carries it out; none for this agent.
    pub fn node(&self) -> Option<&str> {
        self.shared.node.get().map(String::as_str)
    }

    /// Whether the other is a handle of the same execution.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Where the log file stands.
    pub fn log_path(&self) -> &Path {
        &self.shared.log_path
    }

    /// How far the log has come.
    pub fn log_progress(&self) -> LogProgress {
        self.shared.progress.get()
    }

    /// A reader of the log that can follow it.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn log(&self) -> std::io::Result<LogReader> {
        match self.log_at_hand() {
            Some(reader) => Ok(reader),
            None => LogReader::live(&self.shared.log_path, &self.shared.progress),
        }
    }

    /// The same, for as long as the log is written: it reads through the writer's file, opens nothing and does not block.
    pub fn log_at_hand(&self) -> Option<LogReader> {
        let file = self.shared.log.get()?.upgrade()?;
        Some(LogReader::shared(file, &self.shared.log_path, &self.shared.progress))
    }

    /// Asks for the end: the first time politely, with the grace period; a second time at once.
    pub fn cancel(&self) {
        self.shared.cancels.fetch_add(1, Ordering::SeqCst);
        self.shared.cancel_notify.notify_waiters();
        if let Some(wake) = &self.shared.wake {
            wake.wake();
        }
    }

    /// Waits until somebody has asked for the end so often.
    pub async fn cancel_asked(&self, times: u32) {
        self.shared.cancelled_times(times).await;
    }

    /// The result, if there is one already.
    pub fn result(&self) -> Option<Arc<ExecutionResult>> {
        self.shared.result.borrow().clone()
    }

    /// Waits for the result. Any number of callers may.
    pub async fn wait(&self) -> Arc<ExecutionResult> {
        let mut receiver = self.shared.result.subscribe();
        match receiver.wait_for(Option::is_some).await {
            Ok(result) => result.clone().expect("waited until there is a result"),
            // The sender lives in `self.shared`, so this cannot be reached while `self` is borrowed.
            Err(_) => Arc::new(abandoned()),
        }
    }
}

impl Shared {
    async fn cancelled_times(&self, times: u32) {
        loop {
            let notified = self.cancel_notify.notified();
            if self.cancels.load(Ordering::SeqCst) >= times {
                return;
            }
            notified.await;
        }
    }
}

impl ExecutionDriver {
    /// The task's id.
    pub fn id(&self) -> &TaskId {
        &self.shared.id
    }

    /// How often somebody asked for the end.
    pub fn cancels(&self) -> u32 {
        self.shared.cancels.load(Ordering::SeqCst)
    }

    /// Waits until somebody asks for the end.
    pub async fn cancelled(&self) {
        self.cancelled_times(1).await;
    }

    /// Waits until somebody has asked for the end so often.
    pub async fn cancelled_times(&self, times: u32) {
        self.shared.cancelled_times(times).await;
    }

    /// Another handle of the execution.
    pub fn handle(&self) -> Execution {
        Execution { shared: self.shared.clone() }
    }

    /// Says what the log is written to.
    pub(crate) fn log_is(&self, file: &Arc<File>) {
        // Each execution has one log.
        let _ = self.shared.log.set(Arc::downgrade(file));
    }

    /// Tells everybody who follows how far the log has come.
    pub(crate) fn progress(&self) -> &ProgressSender {
        &self.shared.progress
    }

    /// Gives the result to everybody who waits.
    pub fn finish(self, result: ExecutionResult) {
        self.publish(result);
    }

    /// Lets go of the execution without a result: it stays open, and whoever waits goes on waiting.
    pub(crate) fn leave(self) {
        // What the two ends share is not freed. Whoever does this is about to stop.
        std::mem::forget(self);
    }

    /// Gives the result to everybody who waits, unless there is one already; gives the one that counts.
    pub(crate) fn publish(&self, result: ExecutionResult) -> Arc<ExecutionResult> {
        self.shared.progress.update(|progress| progress.ended = true);
        let result = Arc::new(result);
        let mut counts = result.clone();
        self.shared.result.send_if_modified(|slot| match slot {
            Some(earlier) => {
                counts = earlier.clone();
                false
            }
            None => {
                *slot = Some(result);
                true
            }
        });
        counts
    }
}

impl Drop for ExecutionDriver {
    fn drop(&mut self) {
        if self.shared.result.borrow().is_none() {
            self.publish(abandoned());
        }
    }
}

/// The result of an execution that nobody carries out any more.
pub(crate) fn abandoned() -> ExecutionResult {
    ExecutionResult::without_run(
        Outcome::Interrupted,
        "agent_failed",
        "the agent stopped watching this execution; its log shows how far it came",
    )
}
