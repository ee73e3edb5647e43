//! The thread that writes the audit log: a disk that hangs holds up those who wait for their line, and nobody else.

use std::io;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc as queue;
use tokio::sync::oneshot;

use crate::metrics::Metrics;

/// Most lines that wait to be written; further requests wait for room.
const MAX_WAITING: usize = 1024;
/// Time that the last lines have to be written when the agent ends.
const LAST_LINES: Duration = Duration::from_secs(2);

/// What lines are handed to. Dropped, it waits for those that are under way.
#[derive(Debug)]
pub(super) struct Writer {
    lines: Option<queue::Sender<Entry>>,
    ended: Mutex<Receiver<()>>,
    metrics: Arc<Metrics>,
}

/// Which of the two files a line belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Of a request with a token that is accepted.
    Main,
    /// Of anybody else's.
    Refused,
}

/// Room for one line.
pub(super) struct Room<'a>(queue::Permit<'a, Entry>);

#[derive(Debug)]
struct Entry {
    place: Place,
    text: Vec<u8>,
    /// Told, by being dropped, that the line was written, or cannot be.
    done: Option<oneshot::Sender<()>>,
}

impl Writer {
    /// Starts the thread. Lines that `write` fails at are counted.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub(super) fn start(
        mut write: impl FnMut(Place, &[u8]) -> io::Result<()> + Send + 'static,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let (lines, mut waiting) = queue::channel::<Entry>(MAX_WAITING);
        let (end, ended) = mpsc::channel::<()>();
        let counter = metrics.clone();
        thread::Builder::new().name("audit".to_owned()).spawn(move || {
            let _end = end;
            let mut is_failing = false;
            while let Some(Entry { place, text, done }) = waiting.blocking_recv() {
                let written = write(place, &text);
                say(&written, is_failing);
                is_failing = written.is_err();
                if is_failing {
                    counter.audit_lost();
                }
                drop(done);
            }
        })?;
        Ok(Self { lines: Some(lines), ended: Mutex::new(ended), metrics })
    }

    /// Waits for room for a line; none when the thread has ended.
    pub(super) async fn room(&self) -> Option<Room<'_>> {
        let room = match &self.lines {
            Some(lines) => lines.reserve().await.ok(),
            None => None,
        };
        if room.is_none() {
            self.metrics.audit_lost();
        }
        room.map(Room)
    }

    /// Hands over a line that nobody can wait for.
    pub(super) fn leave(&self, place: Place, text: Vec<u8>) {
        let entry = Entry { place, text, done: None };
        let left = self.lines.as_ref().map(|lines| lines.try_send(entry));
        if !matches!(left, Some(Ok(()))) {
            self.metrics.audit_lost();
        }
    }
}

impl Room<'_> {
    /// Hands the line over at once, and gives what waits until it is written, or cannot be.
    pub(super) fn put(self, place: Place, text: Vec<u8>) -> impl Future<Output = ()> + Send + use<> {
        let (done, written) = oneshot::channel();
        self.0.send(Entry { place, text, done: Some(done) });
        async {
            // An error is how it is told.
            let _ = written.await;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.lines.take());
        // Ended or not: a disk that hangs does not keep the agent from ending.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(LAST_LINES);
    }
}

fn say(written: &io::Result<()>, was_failing: bool) {
    match written {
        Err(error) if !was_failing => tracing::error!(%error, "the audit log cannot be written"),
        Ok(()) if was_failing => tracing::info!("the audit log can be written again"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    async fn is_pending(line: &mut (impl Future + Unpin)) -> bool {
        let mut line = std::pin::pin!(line);
        std::future::poll_fn(|context| Poll::Ready(line.as_mut().poll(context).is_pending())).await
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_up_nobody_but_who_waits_for_a_line() {
        let (let_go, hangs) = mpsc::channel::<()>();
        let (told, written) = mpsc::channel();
        let write = move |place, text: &[u8]| {
            let _ = hangs.recv();
            told.send((place, text.to_vec())).map_err(io::Error::other)
        };
        let writer = Writer::start(write, Metrics::new().unwrap()).unwrap();
        // On this one thread all others go on meanwhile.
        let line = writer.room().await.unwrap().put(Place::Main, b"waited for".to_vec());
        writer.leave(Place::Refused, b"left".to_vec());
        let mut line = std::pin::pin!(line);
        assert!(is_pending(&mut line).await);
        tokio::task::yield_now().await;
        assert!(is_pending(&mut line).await);
        drop(let_go);
        line.await;
        drop(writer);
        let told: Vec<_> = written.iter().collect();
        assert_eq!(told, [(Place::Main, b"waited for".to_vec()), (Place::Refused, b"left".to_vec())]);
    }
}
