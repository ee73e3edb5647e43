//! A node in this process, with functions for scripts, and an API server that says what a test likes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_fleet::accepted;
use agent_fleet::assignment::{self, Order};
use agent_fleet::frame::LogFrame;
use agent_fleet::greeting::{challenge, check_hello};
use agent_fleet::keys::{Nonce, SigningKey};
use agent_fleet::link::{Frame, LinkReceiver, LinkSender};
use agent_fleet::message::{Hello, Standing, ToNode, ToServer, decode, encode};
use agent_fleet::node::{Access, Address, Node, NodeNumbers, NodeSettings};
use agent_fleet::opens::Opens;
use agent_fleet::websocket::{accept_key, accepted};
use jiff::Timestamp;
use rustls::{ClientConfig, RootCertStore};
use task_runners::{
    Completion, FunctionRunner, Records, RunnerRegistry, Scripts, ScriptsSettings, TaskHandle, TaskOrder,
    VerificationMode,
};
use task_service::{ServiceSettings, TaskId, TaskService, TaskSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, duplex, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Longest time that anything in here may take; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is on its way at a time, and how much of it passes a slow line at once.
const ON_THE_WAY: usize = 1 << 20;
const PART: usize = 4 << 10;

/// An API server that is a script of the test, with its key.
pub(crate) struct Server {
    pub(crate) at: SocketAddr,
    key: SigningKey,
    listener: TcpListener,
}

/// A connection of a node that was let in.
pub(crate) struct Line {
    pub(crate) hello: Hello,
    sender: accepted::Sender<DuplexStream>,
    receiver: accepted::Receiver<DuplexStream>,
    /// What came of logs.
    pub(crate) log: Vec<u8>,
    /// Milliseconds that a part takes to the node.
    pub(crate) slowness: Arc<AtomicU64>,
}

/// A node at work.
pub(crate) struct Running {
    service: TaskService,
    counts: agent_fleet::node::NodeCounts,
    work: JoinHandle<()>,
}

pub(crate) fn task(id: &str) -> TaskId {
    id.parse().unwrap()
}

/// Gives up waiting with a panic that says so.
pub(crate) async fn soon<T>(what: &str, coming: impl Future<Output = T>) -> T {
    let come = tokio::time::timeout(PATIENCE, coming).await;
    come.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// `quick` writes a line and ends, `gate` waits to be let go on or cancelled, `long` returns a text that is as long as its
/// parameter says.
fn registry(records: &Records, gate: &Arc<Semaphore>) -> RunnerRegistry {
    let quick = |_: TaskOrder, task: TaskHandle| async move {
        task.write("quick\n").await;
        Completion::default()
    };
    let gate = gate.clone();
    let gated = move |_: TaskOrder, task: TaskHandle| {
        let gate = gate.clone();
        async move {
            task.write("waiting\n").await;
            tokio::select! {
                _ = gate.acquire() => Completion::default(),
                () = task.cancelled() => Completion::failed("cancelled"),
            }
        }
    };
    let long = |order: TaskOrder, _: TaskHandle| async move {
        let bytes = usize::try_from(order.spec.params["bytes"].as_u64().unwrap()).unwrap();
        Completion { output_params: BTreeMap::from([("TEXT".to_owned(), "x".repeat(bytes))]), failure: None }
    };
    let mut registry = RunnerRegistry::new();
    registry.register(Arc::new(FunctionRunner::new("quick", "", records.clone(), quick))).unwrap();
    registry.register(Arc::new(FunctionRunner::new("gate", "", records.clone(), gated))).unwrap();
    registry.register(Arc::new(FunctionRunner::new("long", "", records.clone(), long))).unwrap();
    registry
}

impl Running {
    /// A node of these API servers on a state folder, which connects to the first.
    pub(crate) async fn start(state: &Path, servers: &[&Server]) -> Self {
        Self::start_with(state, servers, 100).await
    }

    /// The same with room for so many tasks that wait.
    pub(crate) async fn start_with(state: &Path, servers: &[&Server], queue: usize) -> Self {
        let (records, gate) = (Records::open(state).unwrap(), Arc::new(Semaphore::new(0)));
        let settings = ServiceSettings { state_dir: state.to_owned(), concurrent: 1000, queue };
        let service = TaskService::open(settings, registry(&records, &gate)).await.unwrap();
        let folder = state.join("scripts");
        std::fs::create_dir_all(&folder).unwrap();
        let scripts = ScriptsSettings {
            folder,
            state_dir: state.to_owned(),
            verification: VerificationMode::Never,
            public_keys: Vec::new(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let tls = Arc::new(tls);
        let access = move || {
            Ok(Access { token: Some("token".to_owned()), tls: tls.clone(), proxy_authorization: None })
        };
        let settings = NodeSettings {
            name: "node".to_owned(),
            labels: BTreeMap::new(),
            agent: "0.0.0".to_owned(),
            capacity: 8,
            opens: Opens::default(),
            address: Address {
                api_server: format!("ws://{}", servers[0].at),
                proxy: None,
                access: Arc::new(access),
            },
            accepted: servers.iter().map(|server| server.key.public()).collect(),
            state_dir: state.to_owned(),
        };
        let node = Node::open(settings, &service, Arc::new(Scripts::open(scripts).unwrap())).unwrap();
        let counts = node.counts();
        Self { service, counts, work: tokio::spawn(node.run()) }
    }

    pub(crate) fn numbers(&self) -> NodeNumbers {
        self.counts.now()
    }

    /// Waits until a task has ended here.
    pub(crate) async fn ended(&self, id: &str) {
        let ended = soon("the end of a task", self.service.wait(&task(id))).await;
        assert!(ended.unwrap().is_some_and(|ended| ended.status.is_terminal()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl Server {
    /// An API server whose key is in a folder.
    pub(crate) async fn new(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let key = SigningKey::open(&folder.join("server.key")).unwrap();
        Self { at: listener.local_addr().unwrap(), key, listener }
    }

    /// The next connection, let in; nothing is held of the tasks that the node names.
    pub(crate) async fn connected(&self) -> Line {
        soon("a connection", self.accept()).await
    }

    /// The next one that says so of itself: another may come from a node that is on its way out.
    pub(crate) async fn connected_to(&self, is_meant: impl Fn(&Hello) -> bool) -> Line {
        loop {
            let line = self.connected().await;
            if is_meant(&line.hello) {
                return line;
            }
        }
    }

    async fn accept(&self) -> Line {
        let (mut tcp, _) = self.listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let key = accept_key(&asked_key(&mut tcp).await);
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {key}\r\n\r\n"
        );
        tcp.write_all(answer.as_bytes()).await.unwrap();
        let slowness = Arc::<AtomicU64>::default();
        let (mut sender, mut receiver) = accepted(line(tcp, slowness.clone())).await;
        let challenge = challenge(&self.key).unwrap();
        say(&mut sender, &ToNode::Challenge(challenge.clone())).await;
        let ToServer::Hello(signed) = next(&mut receiver).await else { panic!("no hello") };
        let hello = check_hello(&signed, &challenge, "node").unwrap();
        let standing = |task: TaskId| Standing { task, held: 0 };
        let tasks = hello.unsettled.iter().map(|named| standing(named.task.clone())).collect();
        say(&mut sender, &ToNode::Welcome { tasks, wants_catalogue: false }).await;
        Line { hello, sender, receiver, log: Vec::new(), slowness }
    }

    /// An assignment for whoever is at the other end of a line.
    pub(crate) fn assignment(&self, line: &Line, id: &str, nonce: Nonce, spec: &TaskSpec) -> ToNode {
        let order = Order {
            node: "node",
            node_key: line.hello.key,
            sealing: line.hello.sealing,
            task: &task(id),
            nonce,
            script_sha256: None,
            spec,
            created_by: "a test",
            accepted: Timestamp::now(),
        };
        ToNode::Assign(assignment::sign(&self.key, &order, Timestamp::now()).unwrap())
    }
}

impl Line {
    pub(crate) async fn say(&mut self, message: &ToNode) {
        say(&mut self.sender, message).await;
    }

    /// Hands a task out.
    pub(crate) async fn assign(&mut self, server: &Server, id: &str, name: &str) {
        let message = server.assignment(self, id, Nonce::random().unwrap(), &TaskSpec::new(name));
        self.say(&message).await;
    }

    /// The next thing that the node says. Log bytes are kept.
    pub(crate) async fn next(&mut self) -> ToServer {
        loop {
            match self.receiver.receive().await.unwrap() {
                Frame::Control(text) => return decode(&text).unwrap(),
                Frame::Log(frame) => self.log.extend(LogFrame::decode(&frame).unwrap().bytes),
                Frame::Ping => {}
            }
        }
    }

    /// The first thing said that is wanted.
    pub(crate) async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(ToServer) -> Option<T>) -> T {
        soon(what, async {
            loop {
                if let Some(found) = wanted(self.next().await) {
                    return found;
                }
            }
        })
        .await
    }

    /// Of which task the next end is told.
    pub(crate) async fn any_end(&mut self) -> String {
        let is_end = |said| match said {
            ToServer::Ended(ended) => Some(ended.task.to_string()),
            _ => None,
        };
        self.until("an end", is_end).await
    }

    /// How a task ended.
    pub(crate) async fn ended(&mut self, id: &str) -> agent_fleet::message::Ended {
        let is_it = |said| match said {
            ToServer::Ended(ended) if ended.task.as_str() == id => Some(*ended),
            _ => None,
        };
        self.until("the end", is_it).await
    }
}

/// The key of a request for a WebSocket, which is read to the end of its head.
async fn asked_key(tcp: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    key.unwrap().as_bytes().to_owned()
}

/// A line that is as slow as that says towards the node.
fn line(tcp: TcpStream, slowness: Arc<AtomicU64>) -> DuplexStream {
    let (near, far) = duplex(ON_THE_WAY);
    let ((mut from_node, mut to_node), (from_server, mut to_server)) = (tcp.into_split(), split(far));
    tokio::spawn(async move { tokio::io::copy(&mut from_node, &mut to_server).await });
    tokio::spawn(async move { pass(from_server, &mut to_node, &slowness).await });
    near
}

async fn pass(
    mut from: ReadHalf<DuplexStream>,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    slowness: &AtomicU64,
) -> std::io::Result<()> {
    let mut part = vec![0; PART];
    loop {
        let count = from.read(&mut part).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        let slowness = slowness.load(Ordering::Relaxed);
        if slowness > 0 {
            tokio::time::sleep(Duration::from_millis(slowness)).await;
        }
        to.write_all(&part[..count]).await?;
    }
}

async fn say(sender: &mut accepted::Sender<DuplexStream>, message: &ToNode) {
    sender.send(Frame::Control(encode(message).unwrap())).await.unwrap();
}

async fn next(receiver: &mut accepted::Receiver<DuplexStream>) -> ToServer {
    loop {
        if let Frame::Control(text) = receiver.receive().await.unwrap() {
            return decode(&text).unwrap();
        }
    }
}

/// A copy of a state folder as a crash of this moment would leave it.
pub(crate) fn crashed(state: &Path, to: &Path) -> PathBuf {
    copy(state, to);
    to.to_owned()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&entry.path(), &to),
            // A file may go while this looks.
            kind if kind.is_file() => drop(std::fs::copy(entry.path(), &to)),
            _ => {}
        }
    }
}
