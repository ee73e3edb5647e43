//! What stands between a node and its API server: a proxy that knows where WebSocket's frames (RFC 6455) begin and end, and
//! can do to them what networks and proxies do.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Frames of each direction that are how both ends get to know each other: they come once on every connection.
const GREETING: usize = 2;
/// Most frames that are held back to come behind later ones.
const MOST_HELD: usize = 3;

/// A proxy on a port of its own.
pub(super) struct Proxy {
    pub(super) at: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    plan: Mutex<Plan>,
    lines: Mutex<Vec<TcpStream>>,
    /// Silence of a direction after which its connection is closed.
    idle: Option<Duration>,
    idle_cuts: AtomicUsize,
    connections: AtomicUsize,
}

/// What is to happen to frames.
#[derive(Default)]
struct Plan {
    /// Nothing passes until then.
    stalled_until: Option<Instant>,
    /// Every frame takes that long, until then.
    delay: Option<(Duration, Instant)>,
    /// So many frames are sent twice, and so many come behind later ones.
    repeat: usize,
    reorder: usize,
    /// The next frame is cut in its middle, and the connection with it.
    cut: bool,
    /// The last byte of frames of logs is turned round: no network does that, and no test passes over it.
    damage: bool,
}

/// What happens to one frame.
enum Fate {
    Pass,
    Twice,
    Later,
    Cut,
}

impl Proxy {
    /// A proxy in front of an API server that closes connections which are idle for so long.
    pub(super) fn new(server: SocketAddr, idle: Option<Duration>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            plan: Mutex::default(),
            lines: Mutex::default(),
            idle,
            idle_cuts: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        });
        let serving = shared.clone();
        // It ends with the test.
        thread::spawn(move || listener.incoming().flatten().for_each(|node| serving.connect(node)));
        Self { at, shared }
    }

    /// Cuts everything now.
    pub(super) fn cut_now(&self) {
        for line in self.shared.lines.lock().unwrap().drain(..) {
            // It may be gone already.
            let _ = line.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn cut_in_a_frame(&self) {
        self.shared.plan.lock().unwrap().cut = true;
    }

    pub(super) fn stall(&self, time: Duration) {
        self.shared.plan.lock().unwrap().stalled_until = Some(Instant::now() + time);
    }

    pub(super) fn delay(&self, each: Duration, time: Duration) {
        self.shared.plan.lock().unwrap().delay = Some((each, Instant::now() + time));
    }

    pub(super) fn repeat(&self, frames: usize) {
        self.shared.plan.lock().unwrap().repeat = frames;
    }

    pub(super) fn reorder(&self, frames: usize) {
        self.shared.plan.lock().unwrap().reorder = frames;
    }

    pub(super) fn damage_logs(&self) {
        self.shared.plan.lock().unwrap().damage = true;
    }

    /// Does nothing to frames any more.
    pub(super) fn calm(&self) {
        *self.shared.plan.lock().unwrap() = Plan::default();
    }

    /// How many connections there were, and how many of them were closed for being idle.
    pub(super) fn counts(&self) -> (usize, usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        (count(&self.shared.connections), count(&self.shared.idle_cuts))
    }
}

impl Shared {
    /// Connects a node on; without an API server that listens, it is hung up on.
    fn connect(self: &Arc<Self>, node: TcpStream) {
        let Ok(server) = TcpStream::connect(self.server) else { return };
        self.connections.fetch_add(1, Ordering::SeqCst);
        for stream in [&node, &server] {
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(self.idle).unwrap();
            self.lines.lock().unwrap().push(stream.try_clone().unwrap());
        }
        let (back, forth) = (node.try_clone().unwrap(), server.try_clone().unwrap());
        for (from, to) in [(node, forth), (server, back)] {
            let shared = self.clone();
            thread::spawn(move || {
                // Whatever it was, the connection is over.
                if let Err(error) = shared.pass(&from, &to)
                    && matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
                {
                    shared.idle_cuts.fetch_add(1, Ordering::SeqCst);
                }
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    }

    /// Passes one direction on: the head of HTTP as it is, then frame by frame.
    fn pass(&self, from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut from = BufReader::new(from);
        loop {
            let mut line = Vec::new();
            from.read_until(b'\n', &mut line)?;
            to.write_all(&line)?;
            match line.as_slice() {
                b"\r\n" => break,
                [] => return Ok(()),
                _ => {}
            }
        }
        let (mut count, mut held) = (0, Vec::new());
        loop {
            let mut frame = read_frame(&mut from)?;
            let is_data = frame[0] & 0x0f < 8;
            count += usize::from(is_data);
            self.wait();
            match self.fate(&mut frame, is_data && count > GREETING, held.len()) {
                Fate::Pass => to.write_all(&frame)?,
                Fate::Twice => to.write_all(&[frame.as_slice(), &frame].concat())?,
                Fate::Cut => return to.write_all(&frame[..frame.len() / 2]),
                Fate::Later => {
                    held.push(frame);
                    continue;
                }
            }
            for frame in held.drain(..).rev() {
                to.write_all(&frame)?;
            }
        }
    }

    /// Waits for as long as a frame is delayed or held.
    fn wait(&self) {
        let delay = match self.plan.lock().unwrap().delay {
            Some((each, until)) if Instant::now() < until => each,
            _ => Duration::ZERO,
        };
        thread::sleep(delay);
        loop {
            let until = self.plan.lock().unwrap().stalled_until;
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(left) if !left.is_zero() => thread::sleep(left),
                _ => return,
            }
        }
    }

    fn fate(&self, frame: &mut [u8], is_said_in_session: bool, held: usize) -> Fate {
        let mut plan = self.plan.lock().unwrap();
        if std::mem::take(&mut plan.cut) {
            return Fate::Cut;
        }
        if !is_said_in_session {
            return Fate::Pass;
        }
        if plan.damage && frame[0] & 0x0f == 2 {
            *frame.last_mut().unwrap() ^= 1;
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

/// The bytes of a whole frame.
pub(crate) fn read_frame(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 2];
    from.read_exact(&mut frame)?;
    let (more, mask) = match frame[1] & 0x7f {
        126 => (2, frame[1] >> 7),
        127 => (8, frame[1] >> 7),
        _ => (0, frame[1] >> 7),
    };
    let mut length = vec![0; more];
    from.read_exact(&mut length)?;
    let bytes = match more {
        0 => u64::from(frame[1] & 0x7f),
        _ => length.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)),
    };
    frame.extend(length);
    let head = frame.len();
    frame.resize(head + 4 * usize::from(mask) + usize::try_from(bytes).unwrap(), 0);
    from.read_exact(&mut frame[head..])?;
    Ok(frame)
}
