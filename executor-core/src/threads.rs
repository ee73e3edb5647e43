//! Threads for executions, kept for a while when they are done: making one costs about as much as a twentieth of
//! a short script.

use std::io;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Stack of a thread, bytes; the largest buffers of an execution are on the heap.
const STACK_BYTES: usize = 512 << 10;
/// How long a thread waits for its next execution.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// What a thread is told: its next job, or that there will be none.
type Order = Option<Job>;

/// An idle thread's number, and where its next order goes.
type Idle = (u64, SyncSender<Order>);

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
            match sender.try_send(Some(job)) {
                // It gave up waiting just now.
                Err(TrySendError::Full(Some(back)) | TrySendError::Disconnected(Some(back))) => job = back,
                _ => return Ok(()),
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
        for (_, sender) in shared.idle.drain(..) {
            // One that gave up waiting needs no telling.
            let _ = sender.try_send(None);
        }
    }
}

/// One thread's life: its first job, then others as long as they come.
fn work(shared: &Mutex<Shared>, number: u64, first: Job) {
    let (sender, orders) = sync_channel(1);
    first();
    while list_as_idle(shared, number, &sender) {
        let order = match orders.recv_timeout(IDLE) {
            Ok(order) => order,
            Err(_) if take_off(shared, number) => return,
            // Somebody took it off the list just now and is about to send.
            Err(_) => orders.recv().unwrap_or_default(),
        };
        match order {
            Some(job) => job(),
            None => return,
        }
    }
}

/// Lists a thread as idle, unless there will be no more jobs.
fn list_as_idle(shared: &Mutex<Shared>, number: u64, sender: &SyncSender<Order>) -> bool {
    let mut shared = lock(shared);
    if !shared.closed {
        shared.idle.push((number, sender.clone()));
    }
    !shared.closed
}

/// Takes a thread off the list of those that are idle, if it still stands there.
fn take_off(shared: &Mutex<Shared>, number: u64) -> bool {
    let mut shared = lock(shared);
    let place = shared.idle.iter().position(|(idle, _)| *idle == number);
    place.map(|place| shared.idle.remove(place)).is_some()
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
