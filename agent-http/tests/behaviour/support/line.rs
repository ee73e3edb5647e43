//! What stands between a node and its API server: a proxy that knows where frames begin and end, and can do to them what
//! networks, proxies and people on the way can do.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::frames::{Frame, Way};

/// Frames of each direction that are how both ends get to know each other: they come once on every connection.
const GREETING: usize = 2;
/// Most frames that are held back to come behind later ones.
const MOST_HELD: usize = 3;

/// Pause between two looks whether something is still held.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a frame becomes: any number of others.
type Change = Box<dyn FnMut(Way, Frame) -> Vec<Frame> + Send>;

/// A line, on a port of its own.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) at: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    plan: Mutex<Plan>,
    change: Mutex<Change>,
    connections: Mutex<Vec<Arc<Connection>>>,
    is_cut: AtomicBool,
    /// Where connections are taken and lead nowhere, those.
    swallowed: Mutex<Option<Vec<TcpStream>>>,
    /// Silence of a direction after which its connection is closed.
    idle: Option<Duration>,
    idle_cuts: AtomicUsize,
    count: AtomicUsize,
}

/// Both ends of a connection.
struct Connection {
    node: TcpStream,
    server: TcpStream,
    /// Who writes to an end does so alone, so that nothing of another frame stands in one.
    to_node: Mutex<()>,
    to_server: Mutex<()>,
    /// Whether the node's end is gone, of which the other one hears nothing.
    is_left_behind: AtomicBool,
}

/// What is to happen to frames.
#[derive(Default)]
struct Plan {
    /// Nothing passes until then.
    stalled_until: Option<Instant>,
    /// Every frame takes that long, until then.
    delay: Option<(Duration, Instant)>,
    /// So many bytes a second pass in each direction.
    rate: Option<u32>,
    /// Nothing more is read of what goes that way.
    deaf: Option<Way>,
    /// So many frames are sent twice, and so many come behind later ones.
    repeat: usize,
    reorder: usize,
    /// The next frame is cut in its middle, and the connection with it.
    cut: bool,
}

/// What happens to one frame.
enum Fate {
    Pass,
    Twice,
    Later,
    Cut,
}

impl Line {
    /// A line to an API server.
    pub(crate) fn to(server: SocketAddr) -> Self {
        Self::new(server, None)
    }

    /// One whose connections are closed when they are idle for so long.
    pub(crate) fn new(server: SocketAddr, idle: Option<Duration>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            plan: Mutex::default(),
            change: Mutex::new(Box::new(|_, frame| vec![frame])),
            connections: Mutex::default(),
            is_cut: AtomicBool::new(false),
            swallowed: Mutex::default(),
            idle,
            idle_cuts: AtomicUsize::new(0),
            count: AtomicUsize::new(0),
        });
        let serving = shared.clone();
        // It ends with the test.
        thread::spawn(move || listener.incoming().flatten().for_each(|node| serving.connect(node)));
        Self { at, shared }
    }

    /// Cuts everything now.
    pub(crate) fn cut_now(&self) {
        self.shared.connections.lock().unwrap().drain(..).for_each(|connection| connection.close());
    }

    /// The same, and lets none through any more.
    pub(crate) fn cut(&self) {
        self.shared.is_cut.store(true, Ordering::SeqCst);
        self.cut_now();
    }

    /// Lets connections through again.
    pub(crate) fn mend(&self) {
        self.shared.is_cut.store(false, Ordering::SeqCst);
    }

    /// Cuts it towards the node only: at the other end all seems to be well.
    pub(crate) fn leave_behind(&self) {
        for connection in self.shared.connections.lock().unwrap().iter() {
            connection.is_left_behind.store(true, Ordering::SeqCst);
            // It may be gone already.
            let _ = connection.node.shutdown(Shutdown::Both);
        }
    }

    /// Takes connections from now on that lead nowhere; or lets those that come through again.
    pub(crate) fn swallow(&self, is_on: bool) {
        *self.shared.swallowed.lock().unwrap() = is_on.then(Vec::new);
    }

    /// Reads nothing more of what goes that way, until it is calm.
    pub(crate) fn deafen(&self, way: Way) {
        self.shared.plan.lock().unwrap().deaf = Some(way);
    }

    /// Lets so many bytes a second pass in each direction, until it is calm.
    pub(crate) fn throttle(&self, rate: u32) {
        self.shared.plan.lock().unwrap().rate = Some(rate);
    }

    pub(crate) fn cut_in_a_frame(&self) {
        self.shared.plan.lock().unwrap().cut = true;
    }

    pub(crate) fn stall(&self, time: Duration) {
        let mut plan = self.shared.plan.lock().unwrap();
        plan.stalled_until = plan.stalled_until.max(Some(Instant::now() + time));
    }

    pub(crate) fn delay(&self, each: Duration, time: Duration) {
        self.shared.plan.lock().unwrap().delay = Some((each, Instant::now() + time));
    }

    pub(crate) fn repeat(&self, frames: usize) {
        self.shared.plan.lock().unwrap().repeat = frames;
    }

    pub(crate) fn reorder(&self, frames: usize) {
        self.shared.plan.lock().unwrap().reorder = frames;
    }

    /// Does nothing of that any more.
    pub(crate) fn calm(&self) {
        *self.shared.plan.lock().unwrap() = Plan::default();
    }

    /// Makes all frames into others from now on, as no network does.
    pub(crate) fn change(&self, change: impl FnMut(Way, Frame) -> Vec<Frame> + Send + 'static) {
        *self.shared.change.lock().unwrap() = Box::new(change);
    }

    /// Sends a frame of its own on the newest connection.
    pub(crate) fn send(&self, way: Way, frame: &Frame) -> io::Result<()> {
        let newest = self.shared.connections.lock().unwrap().last().cloned();
        newest.ok_or_else(|| io::Error::other("there is no line"))?.write(way, frame.bytes())
    }

    /// The same for frames that come together.
    pub(crate) fn send_together(&self, way: Way, frames: &[Frame]) -> io::Result<()> {
        let newest = self.shared.connections.lock().unwrap().last().cloned();
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes()).copied().collect();
        newest.ok_or_else(|| io::Error::other("there is no line"))?.write(way, &bytes)
    }

    /// How many connections there were, and how many of them were closed for being idle.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        (count(&self.shared.count), count(&self.shared.idle_cuts))
    }
}

impl Plan {
    fn holds(&self, way: Way) -> bool {
        self.deaf == Some(way) || self.stalled_until.is_some_and(|until| Instant::now() < until)
    }
}

impl Connection {
    fn end(&self, way: Way) -> (&TcpStream, &Mutex<()>) {
        match way {
            Way::ToNode => (&self.node, &self.to_node),
            Way::ToServer => (&self.server, &self.to_server),
        }
    }

    fn write(&self, way: Way, bytes: &[u8]) -> io::Result<()> {
        let (mut end, alone) = self.end(way);
        let _alone = alone.lock().unwrap();
        end.write_all(bytes)
    }

    fn close(&self) {
        if self.is_left_behind.load(Ordering::SeqCst) {
            return;
        }
        // Either may be gone already.
        let _ = (self.node.shutdown(Shutdown::Both), self.server.shutdown(Shutdown::Both));
    }
}

impl Shared {
    /// Connects a node on; without an API server that listens, it is hung up on.
    fn connect(self: &Arc<Self>, node: TcpStream) {
        if let Some(swallowed) = &mut *self.swallowed.lock().unwrap() {
            return swallowed.push(node);
        }
        let Ok(server) = TcpStream::connect(self.server) else { return };
        for stream in [&node, &server] {
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(self.idle).unwrap();
        }
        let (to_node, to_server, is_left_behind) = Default::default();
        let connection = Arc::new(Connection { node, server, to_node, to_server, is_left_behind });
        let mut connections = self.connections.lock().unwrap();
        if self.is_cut.load(Ordering::SeqCst) {
            return;
        }
        connections.push(connection.clone());
        self.count.fetch_add(1, Ordering::SeqCst);
        for way in [Way::ToNode, Way::ToServer] {
            let (shared, connection) = (self.clone(), connection.clone());
            thread::spawn(move || {
                // Whatever it was, the connection is over.
                if let Err(error) = shared.pass(way, &connection)
                    && matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
                {
                    shared.idle_cuts.fetch_add(1, Ordering::SeqCst);
                }
                connection.close();
            });
        }
    }

    /// Passes one direction on: the head of HTTP as it is, then frame by frame.
    fn pass(&self, way: Way, connection: &Connection) -> io::Result<()> {
        let mut from = BufReader::new(match way {
            Way::ToNode => &connection.server,
            Way::ToServer => &connection.node,
        });
        let mut line = Vec::new();
        while line != b"\r\n" {
            line.clear();
            if from.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            connection.write(way, &line)?;
        }
        let (mut count, mut held) = (0, Vec::new());
        loop {
            let frame = Frame::read(&mut from)?;
            self.wait(way, frame.bytes().len());
            let instead = (self.change.lock().unwrap())(way, frame);
            for frame in instead {
                count += usize::from(frame.is_data());
                let bytes = frame.bytes();
                match self.fate(frame.is_data() && count > GREETING, held.len()) {
                    Fate::Pass => connection.write(way, bytes)?,
                    Fate::Twice => connection.write(way, &bytes.repeat(2))?,
                    Fate::Cut => return connection.write(way, &bytes[..bytes.len() / 2]),
                    Fate::Later => {
                        held.push(frame);
                        continue;
                    }
                }
                for frame in held.drain(..).rev() {
                    connection.write(way, frame.bytes())?;
                }
            }
        }
    }

    /// Waits for as long as a frame takes, is delayed or held.
    fn wait(&self, way: Way, bytes: usize) {
        let (delay, rate) = {
            let plan = self.plan.lock().unwrap();
            (plan.delay, plan.rate)
        };
        if let Some((each, until)) = delay
            && Instant::now() < until
        {
            thread::sleep(each);
        }
        if let Some(rate) = rate {
            thread::sleep(Duration::from_secs(1) * u32::try_from(bytes).unwrap() / rate);
        }
        while self.plan.lock().unwrap().holds(way) {
            thread::sleep(LOOK_EVERY);
        }
    }

    fn fate(&self, is_said_in_session: bool, held: usize) -> Fate {
        let mut plan = self.plan.lock().unwrap();
        if std::mem::take(&mut plan.cut) {
            return Fate::Cut;
        }
        if !is_said_in_session {
            return Fate::Pass;
        }
        if plan.reorder > 0 && held < MOST_HELD {
            plan.reorder -= 1;
            return Fate::Later;
        }
        if plan.repeat > 0 {
            plan.repeat -= 1;
            return Fate::Twice;
        }
        Fate::Pass
    }
}
