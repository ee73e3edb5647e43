//! Hands the log to callbacks. Each has a thread of its own that follows the file, so that none of them can hold
//! the script or another one up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::execution::Execution;
use crate::log_reader::LogReader;
use crate::names::TaskId;
use crate::request::LogCallback;

/// Time that all callbacks together may hold a result up.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same, counted from the end of the main process: the result is promised a tenth of a second later, however long
/// its output was held open.
const PATIENCE_AFTER_END: Duration = Duration::from_millis(2400);
/// Bytes handed to a callback at once.
const CHUNK_BYTES: usize = 64 << 10;

/// The callbacks of one execution.
#[derive(Debug)]
pub(crate) struct Callbacks {
    started: usize,
    done: mpsc::Receiver<()>,
}

impl Callbacks {
    /// Starts one thread a callback.
    pub(crate) fn start(callbacks: &[LogCallback], execution: &Execution) -> std::io::Result<Self> {
        let (sender, done) = mpsc::channel();
        for callback in callbacks {
            let reader = execution.log()?;
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            let (callback, sender, id) = (callback.clone(), sender.clone(), execution.id().clone());
            std::thread::Builder::new().name("log-callback".to_owned()).spawn(move || {
                follow(reader, &runtime, &callback, &id);
                // Nobody listens any more when the patience is over.
                let _ = sender.send(());
            })?;
        }
        Ok(Self { started: callbacks.len(), done })
    }

    /// Waits until all have seen the whole log, or the patience is over.
    pub(crate) fn wait(&self, id: &TaskId, main_ended: Option<Instant>) {
        let patience = Instant::now() + PATIENCE;
        let deadline = main_ended.map_or(patience, |ended| patience.min(ended + PATIENCE_AFTER_END));
        for finished in 0..self.started {
            if self.done.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
                let stuck = self.started - finished;
                tracing::warn!(task_id = %id, stuck, "log callbacks are behind; the result does not wait for them");
                return;
            }
        }
    }
}

fn follow(mut reader: LogReader, runtime: &tokio::runtime::Runtime, callback: &LogCallback, id: &TaskId) {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    loop {
        let progress = runtime.block_on(reader.wait_beyond(offset));
        match reader.read_at(offset, &mut buffer) {
            Ok(0) if progress.is_complete() => return,
            Ok(0) => {
                tracing::error!(task_id = %id, offset, "a log was cut short by somebody else; its callback ends here");
                return;
            }
            Ok(read) => {
                offset += read as u64;
                if catch_unwind(AssertUnwindSafe(|| callback(&buffer[..read]))).is_err() {
                    tracing::error!(task_id = %id, "a log callback panicked and is not called again");
                    return;
                }
            }
            Err(error) => {
                tracing::error!(task_id = %id, %error, "could not read a log for its callback");
                return;
            }
        }
    }
}
