//! Threads for executions, kept for a while when they are done: making one costs about as much as a twentieth of
//! a short script.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Stack of a thread, bytes; the largest buffers of an execution are on the heap.
const STACK_BYTES: usize = 512 << 10;
/// How long a thread waits for its next execution.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// An idle thread's number, and where its next job goes.
type Idle = (u64, SyncSender<Job>);

/// The threads of one executor. They end when it is dropped, each after its execution.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    idle: Vec<Idle>,
    next: u64,
    closed: bool,
}

impl Threads {
    /// Runs a job on an idle thread, or on a new one.
    pub(crate) fn run(&self, mut job: Job) -> io::Result<()> {
        // The one that waits for the shortest time has the warmest caches.
        while let Some((_, sender)) = lock(&self.shared).idle.pop() {
            match sender.try_send(job) {
                Ok(()) => return Ok(()),
                // It gave up waiting just now.
                Err(error) => {
                    job = match error {
                        std::sync::mpsc::TrySendError::Full(job)
                        | std::sync::mpsc::TrySendError::Disconnected(job) => job,
                    }
                }
            }
        }
        let number = {
            let mut shared = lock(&self.shared);
            shared.next += 1;
            shared.next
        };
        let shared = self.shared.clone();
        std::thread::Builder::new()
            .name("execution".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || work(&shared, number, job))
            .map(drop)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.closed = true;
        shared.idle.clear();
    }
}

/// One thread's life: its first job, then others as long as they come.
fn work(shared: &Mutex<Shared>, number: u64, first: Job) {
    first();
    loop {
        let Some(jobs) = wait(shared, number) else { return };
        match jobs.recv_timeout(IDLE) {
            Ok(job) => job(),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let mut shared = lock(shared);
                match shared.idle.iter().position(|(idle, _)| *idle == number) {
                    Some(place) => {
                        shared.idle.remove(place);
                        return;
                    }
                    // Somebody took its place in the list just now and is about to send.
                    None => {
                        drop(shared);
                        match jobs.recv() {
                            Ok(job) => job(),
                            Err(_) => return,
                        }
                    }
                }
            }
        }
    }
}

/// Lists a thread as idle; none when there will be no more jobs.
fn wait(shared: &Mutex<Shared>, number: u64) -> Option<Receiver<Job>> {
    let mut shared = lock(shared);
    if shared.closed {
        return None;
    }
    let (sender, jobs) = sync_channel(1);
    shared.idle.push((number, sender));
    Some(jobs)
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Nobody panics while holding it.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_thread_that_is_done_takes_the_next_job_and_ends_with_its_owner() {
        let threads = Threads::default();
        let (sender, names) = channel();
        let mut ids = std::collections::HashSet::new();
        for _ in 0..50 {
            let sender = sender.clone();
            threads.run(Box::new(move || sender.send(std::thread::current().id()).unwrap())).unwrap();
            ids.insert(names.recv().unwrap());
        }
        assert!(ids.len() < 50, "no thread was used twice");
        let shared = threads.shared.clone();
        drop(threads);
        assert!(lock(&shared).idle.is_empty());
    }
}
