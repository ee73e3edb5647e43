//! Who submits tasks while everything falls: asks again until there is an answer, under the id of before.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{LONG, Reply, Site, read_reply, request_text};

/// Pause between two tasks, and before the same is asked again.
const PAUSE: Duration = Duration::from_millis(20);
const AGAIN: Duration = Duration::from_millis(50);

/// What is submitted.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) at: SocketAddr,
    /// The file in which scripts note their starts.
    pub(super) starts: PathBuf,
    pub(super) tasks: usize,
    pub(super) nodes: usize,
    /// How many faults there are to be while they are submitted.
    pub(super) faults: usize,
    pub(super) progress: Arc<Progress>,
}

/// How far both are: each waits for the other, so that neither ends before.
#[derive(Debug, Default)]
pub(super) struct Progress {
    submitted: AtomicUsize,
    raged: AtomicUsize,
}

impl Load {
    pub(super) fn id(number: usize) -> String {
        format!("storm-{number:04}")
    }

    /// The code with which a task's script ends if nothing comes between.
    pub(super) fn code(number: usize) -> i64 {
        if number.is_multiple_of(7) { 3 } else { 0 }
    }

    /// The node of a task, counted from 0.
    pub(super) fn node(&self, number: usize) -> usize {
        number % self.nodes
    }

    /// Whether somebody asks for the end of a task.
    pub(super) fn is_cancelled(number: usize) -> bool {
        number % 25 == 11
    }

    /// Submits all of them.
    pub(super) fn submit_all(&self) {
        for number in 0..self.tasks {
            while self.progress.raged.load(Ordering::SeqCst) * self.tasks < number * self.faults {
                thread::sleep(PAUSE);
            }
            self.submit(number);
            self.progress.submitted.fetch_add(1, Ordering::SeqCst);
            // Some of what came a little earlier.
            if let Some(earlier) = number.checked_sub(2).filter(|earlier| Self::is_cancelled(*earlier)) {
                let path = format!("/api/v1/tasks/{}/cancel", Self::id(earlier));
                until_answered(self.at, "POST", &path, Some(&json!({})));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Waits until it is time for the next fault; gives its number, counted from 0, if there is to be another one.
    pub(super) fn next_fault(&self) -> Option<usize> {
        let fault = self.progress.raged.load(Ordering::SeqCst);
        if fault == self.faults {
            return None;
        }
        while self.progress.submitted.load(Ordering::SeqCst) * self.faults < fault * self.tasks {
            thread::sleep(PAUSE);
        }
        self.progress.raged.fetch_add(1, Ordering::SeqCst);
        Some(fault)
    }

    fn submit(&self, number: usize) {
        let is_long = number.is_multiple_of(5) || Self::is_cancelled(number);
        let pause = if is_long { "1.5" } else { "0.01" };
        let args = json!([self.starts, pause, Self::code(number).to_string()]);
        let node = format!("node-{}", self.node(number) + 1);
        let spec =
            json!({ "id": Self::id(number), "name": "work.sh", "args": args, "target": { "node": node } });
        let reply = until_answered(self.at, "POST", "/api/v1/tasks", Some(&spec));
        assert!([200, 202].contains(&reply.status), "{}", reply.text());
    }
}

/// Calls until there is an answer.
pub(super) fn until_answered(at: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Reply {
    loop {
        match try_call(at, method, path, body) {
            Some(reply) if reply.status < 500 => return reply,
            _ => thread::sleep(AGAIN),
        }
    }
}

/// Calls once; none where the answer does not come whole.
fn try_call(at: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Option<Reply> {
    let text = request_text(method, path, Some(&Site::token("admin")), body);
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(LONG)).ok()?;
    stream.write_all(text.as_bytes()).ok()?;
    let reply = read_reply(&mut BufReader::new(stream), false)?;
    let length = reply.header("content-length").and_then(|length| length.parse().ok());
    (length == Some(reply.body.len())).then_some(reply)
}
