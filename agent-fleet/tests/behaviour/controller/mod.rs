//! The API server's end with its disk around it: nodes that this test plays say what they like, tasks come as the task
//! service hands them over, and the agent dies and starts again.

mod away;
mod crowding;
mod ending;
mod given_up;
mod ids;
mod lost;
mod offering;

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agent_fleet::controller::Fleet;
use agent_fleet::frame::LogFrame;
use agent_fleet::greeting::sign_hello;
use agent_fleet::heard::Heard;
use agent_fleet::keys::{NodeKeys, Nonce};
use agent_fleet::link::{Frame, LinkError, LinkReceiver, LinkSender};
use agent_fleet::message::{
    AcceptedAt, CataloguePart, CatalogueScript, Ended, Hello, OTHER_ASSIGNMENT, Standing, ToNode, ToServer,
    Unsettled, VERSION, decode, encode,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use task_runners::{Execution, StartError, TaskRunner};
use task_service::{ExecutionResult, Outcome, Records, TaskId, TaskOrder, TaskSpec};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

/// Longest time that anything in here may take; the machine may be busy.
const LONG: Duration = Duration::from_secs(60);

/// The state folder of an API server.
struct Place {
    folder: TempDir,
}

/// An API server that runs.
struct Agent {
    runtime: Runtime,
    fleet: Fleet,
    records: Records,
}

/// A node that a test plays, at the end of a line that is whole until this is dropped.
struct FakeNode {
    name: String,
    says: UnboundedSender<Frame>,
    hears: UnboundedReceiver<Frame>,
    welcome: Vec<Standing>,
    /// What it has taken: that may be said again.
    taken: Vec<String>,
    /// Bytes of its messages that the API server has taken from the line.
    heard: Arc<AtomicUsize>,
    /// When the tasks that it has were accepted.
    accepted: HashMap<String, AcceptedAt>,
}

struct Sender(UnboundedSender<Frame>);

/// Counts the bytes that were taken from the line.
struct Receiver(UnboundedReceiver<Frame>, Arc<AtomicUsize>);

fn cut() -> LinkError {
    LinkError::Cut("the test has cut it".to_owned())
}

impl LinkSender for Sender {
    async fn feed(&mut self, frame: Frame) -> Result<(), LinkError> {
        self.0.send(frame).map_err(|_| cut())
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        Ok(())
    }
}

impl LinkReceiver for Receiver {
    async fn receive(&mut self) -> Result<Frame, LinkError> {
        let frame = self.0.recv().await.ok_or_else(cut)?;
        let length = match &frame {
            Frame::Control(text) => text.len(),
            Frame::Log(bytes) => bytes.len(),
            Frame::Ping => 0,
        };
        self.1.fetch_add(length, Ordering::Relaxed);
        Ok(frame)
    }

    fn heard(&self) -> Heard {
        Heard::new()
    }
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn agent(&self) -> Agent {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let records = Records::open(self.folder.path()).unwrap();
        let fleet = runtime.block_on(async { Fleet::open(self.folder.path(), records.clone()).unwrap() });
        Agent { runtime, fleet, records }
    }

    /// The record of a task is removed, as that of one that was kept long enough.
    fn forget(&self, task: &str) {
        std::fs::remove_dir_all(self.path("tasks").join(task)).unwrap();
    }
}

impl Agent {
    fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { timeout(LONG, what).await.expect("waited in vain") })
    }

    /// It dies.
    fn dies(self) {
        // Nothing of it writes to its files any more.
        drop(self.fleet);
        self.runtime.shutdown_timeout(LONG);
    }

    fn try_start(&self, order: TaskOrder) -> Result<Execution, StartError> {
        self.wait(self.fleet.runner().start(order))
    }

    fn start(&self, order: TaskOrder) -> Execution {
        self.try_start(order).unwrap()
    }

    fn node(&self, name: &str, keys: &NodeKeys) -> FakeNode {
        self.node_with(name, keys, &[])
    }

    /// A node connects that names these tasks as begun, and does not say when they were accepted: an older one.
    fn node_with(&self, name: &str, keys: &NodeKeys, begun: &[&str]) -> FakeNode {
        let begun: Vec<_> = begun.iter().map(|task| (*task, None)).collect();
        self.node_that_says(name, keys, &begun)
    }

    /// A node connects that names these tasks as begun, and offers `where.sh` to whoever wants the role `db`.
    fn node_that_says(&self, name: &str, keys: &NodeKeys, begun: &[(&str, AcceptedAt)]) -> FakeNode {
        let (node, offer) = (self.node_before_its_offer(name, keys, begun, '0'), "1".repeat(64));
        node.offers('0', &offer);
        let offers = |fleet: &Fleet| fleet.node(name).is_some_and(|node| !node.scripts.is_empty());
        self.eventually("the node's catalogue", || offers(&self.fleet).then_some(()));
        node
    }

    /// The same before it has said what it offers, of which the digest consists of this digit.
    fn node_before_its_offer(
        &self,
        name: &str,
        keys: &NodeKeys,
        begun: &[(&str, AcceptedAt)],
        digit: char,
    ) -> FakeNode {
        let (says, heard) = unbounded_channel();
        let (said, hears) = unbounded_channel();
        let (fleet, served) = (self.fleet.clone(), name.to_owned());
        let taken_off = Arc::new(AtomicUsize::new(0));
        let receiver = Receiver(heard, taken_off.clone());
        self.runtime.spawn(async move { fleet.serve(&served, Sender(said), receiver).await });
        let (name, welcome, taken) = (name.to_owned(), Vec::new(), Vec::new());
        let accepted = begun.iter().map(|(task, accepted)| ((*task).to_owned(), *accepted)).collect();
        let mut node = FakeNode { name, says, hears, welcome, taken, heard: taken_off, accepted };
        self.wait(async {
            let ToNode::Challenge(challenge) = node.next().await else { panic!("no challenge") };
            let named = |(task, accepted): &(&str, AcceptedAt)| Unsettled {
                task: id(task),
                is_begun: true,
                accepted: *accepted,
            };
            let unsettled = begun.iter().map(named).collect();
            let hello = Hello {
                version: VERSION,
                nonce: challenge.nonce,
                name: node.name.clone(),
                agent: "test".to_owned(),
                key: keys.public(),
                sealing: keys.sealing_key(),
                labels: [("role".to_owned(), "db".to_owned())].into(),
                runners: Vec::new(),
                capacity: 4,
                catalogue: digit.to_string().repeat(64),
                unsettled,
                opens: None,
            };
            node.say(&ToServer::Hello(sign_hello(keys, &hello).unwrap()));
            let ToNode::Welcome { tasks, .. } = node.next().await else { panic!("no welcome") };
            node.welcome = tasks;
        });
        node
    }

    fn eventually<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let began = std::time::Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(began.elapsed() < LONG, "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts a task as soon as there is a node for it.
    fn start_when_possible(&self, order: &TaskOrder) -> Execution {
        self.eventually("a node for a task", || self.try_start(order.clone()).ok())
    }

    /// The node's line is cut, and that is known.
    fn loses(&self, node: FakeNode) {
        let name = node.name.clone();
        drop(node);
        let is_gone = || self.fleet.node(&name).is_some_and(|node| !node.connected);
        self.eventually("the cut line", || is_gone().then_some(()));
    }
}

impl FakeNode {
    /// The next message.
    async fn next(&mut self) -> ToNode {
        loop {
            if let Frame::Control(text) = self.hears.recv().await.expect("the line is cut") {
                return decode(&text).unwrap();
            }
        }
    }

    /// The next message that is wanted.
    async fn next_that<T>(&mut self, mut wanted: impl FnMut(&ToNode) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(&self.next().await) {
                return found;
            }
        }
    }

    fn say(&self, message: &ToServer) {
        self.says.send(Frame::Control(encode(message).unwrap())).unwrap();
    }

    /// Offers this version of `where.sh`, by a catalogue whose digest consists of this digit.
    fn offers(&self, digit: char, sha256: &str) {
        let script = CatalogueScript {
            name: "where.sh".to_owned(),
            sha256: sha256.to_owned(),
            header: "#!/bin/sh\n".to_owned(),
            verified: false,
        };
        let (digest, scripts) = (digit.to_string().repeat(64), vec![script]);
        self.say(&ToServer::Catalogue(CataloguePart { digest, scripts, is_last: true }));
    }

    /// Takes the next assignment, which is of this task; gives its nonce.
    async fn takes(&mut self, task: &str) -> Nonce {
        let known = std::mem::take(&mut self.taken);
        let assignment = self.next_that(|message| {
            let ToNode::Assign(signed) = message else { return None };
            let payload: Value = serde_json::from_str(&signed.payload).unwrap();
            (!known.iter().any(|known| payload["task"] == **known)).then_some(payload)
        });
        let assignment = assignment.await;
        assert_eq!(assignment["task"], task);
        let accepted = Some(assignment["accepted"].as_str().unwrap().parse().unwrap());
        self.accepted.insert(task.to_owned(), accepted);
        self.say(&ToServer::Taken { task: id(task), accepted });
        self.taken = [known, vec![task.to_owned()]].concat();
        assignment["nonce"].as_str().unwrap().parse().unwrap()
    }

    /// Sends a log, and waits until it is held.
    async fn sends_log(&mut self, task: &str, offset: u64, bytes: &[u8]) {
        let frame = LogFrame { task: id(task), attempt: 1, offset, bytes };
        self.says.send(Frame::Log(frame.encode())).unwrap();
        let end = offset + bytes.len() as u64;
        let is_held = |message: &ToNode| {
            matches!(message, ToNode::Held { task: held, bytes, again: false, .. } if held.as_str() == task && *bytes == end)
                .then_some(())
        };
        self.next_that(is_held).await;
    }

    /// Says that it does not take a task because of another one that it has under its id.
    fn has_another(&self, task: &str) {
        let (accepted, code) = (self.accepted[task], OTHER_ASSIGNMENT.to_owned());
        let (task, message) = (Some(id(task)), "there is another".to_owned());
        self.say(&ToServer::Complaint { task, accepted, code, message });
    }

    /// Says how a task ended, and waits until that is settled.
    async fn ends(&mut self, task: &str, log_bytes: u64, code: i32) {
        self.says_the_end(task, log_bytes, code);
        self.is_settled(task).await;
    }

    fn says_the_end(&self, task: &str, log_bytes: u64, code: i32) {
        let (attempts, debug_script) = (Vec::new(), None);
        let (accepted, result) = (self.accepted.get(task).copied().flatten(), exited(code));
        let ended = Ended { task: id(task), accepted, log_bytes, result, attempts, debug_script };
        self.say(&ToServer::Ended(Box::new(ended)));
    }

    /// Waits until the task that it has under an id is settled.
    async fn is_settled(&mut self, task: &str) {
        let accepted = self.accepted.get(task).copied().flatten();
        let is_it = |settled: &TaskId, which: AcceptedAt| {
            settled.as_str() == task && (accepted.is_none() || which == accepted)
        };
        self.next_that(|message| match message {
            ToNode::Settled { task, accepted } if is_it(task, *accepted) => Some(()),
            _ => None,
        })
        .await;
    }

    async fn is_cancelled(&mut self, task: &str) {
        self.next_that(|message| match message {
            ToNode::Cancel { task: cancelled, .. } if cancelled.as_str() == task => Some(()),
            _ => None,
        })
        .await;
    }
}

fn id(task: &str) -> TaskId {
    task.parse().unwrap()
}

fn keys(place: &Place, name: &str) -> NodeKeys {
    NodeKeys::open(&place.path(&format!("{name}.key"))).unwrap()
}

fn named(node: &str) -> Value {
    json!({ "node": node })
}

fn pool() -> Value {
    json!({ "labels": { "role": "db" } })
}

/// A task whose turn has come, accepted at that hour.
fn order(task: &str, hour: u8, target: &Value) -> TaskOrder {
    let created_at: Timestamp = format!("2030-01-01T{hour:02}:00:00Z").parse().unwrap();
    TaskOrder {
        id: id(task),
        spec: Arc::new(TaskSpec::from_json(json!({ "name": "where.sh", "target": target })).unwrap()),
        pinned: None,
        attempt: 1,
        created_by: "tester".to_owned(),
        created_at,
        unreachable_since: None,
        is_taken_up: false,
        node: target["node"].as_str().map(str::to_owned),
    }
}

/// The same at a later start of the agent.
fn taken_up(order: &TaskOrder, node: Option<&str>) -> TaskOrder {
    TaskOrder { is_taken_up: true, node: node.map(str::to_owned), ..order.clone() }
}

fn exited(code: i32) -> ExecutionResult {
    let result = ExecutionResult::without_run(Outcome::Exited { code }, "", "");
    ExecutionResult { success: code == 0, exit_code: Some(code), error: None, ..result }
}

fn code(result: &ExecutionResult) -> Option<&str> {
    result.error.as_ref().map(|error| error.code.as_str())
}
