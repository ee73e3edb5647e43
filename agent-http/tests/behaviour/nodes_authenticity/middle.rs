//! Somebody between a node and its API server, who reads everything, and changes, keeps back, repeats and makes up what it
//! likes. It speaks WebSocket (RFC 6455) as both ends do.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::nodes_storm::read_frame;

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    ToNode,
    ToServer,
}

/// What a control message becomes: any number of others.
type Rewrite = Box<dyn FnMut(Way, String) -> Vec<String> + Send>;

/// Somebody on a port of its own.
#[derive(Clone)]
pub(super) struct Middle {
    pub(super) at: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    rewrite: Mutex<Rewrite>,
    /// The newest connection's two ends: that of the node, that of the API server.
    line: Mutex<Option<(TcpStream, TcpStream)>>,
    seen: Mutex<Vec<(Way, String)>>,
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;

impl Middle {
    /// Somebody who only listens, for now.
    pub(super) fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            rewrite: Mutex::new(Box::new(|_, text| vec![text])),
            line: Mutex::default(),
            seen: Mutex::default(),
        });
        let serving = shared.clone();
        // It ends with the test.
        thread::spawn(move || listener.incoming().flatten().for_each(|node| serving.connect(&node)));
        Self { at, shared }
    }

    /// Does that to all control messages from now on.
    pub(super) fn rewrite(&self, rewrite: impl FnMut(Way, String) -> Vec<String> + Send + 'static) {
        *self.shared.rewrite.lock().unwrap() = Box::new(rewrite);
    }

    /// Says a control message of its own.
    pub(super) fn say(&self, way: Way, text: &str) {
        self.shared.write(way, &frame(way, TEXT, text.as_bytes())).unwrap();
    }

    /// Sends bytes of a log of its own many times at once; whether the line still stood.
    pub(super) fn flood(&self, way: Way, bytes: &[u8], times: usize) -> bool {
        self.shared.write(way, &frame(way, BINARY, bytes).repeat(times)).is_ok()
    }

    /// Sends bytes of a log of its own.
    pub(super) fn send_bytes(&self, way: Way, bytes: &[u8]) {
        self.shared.write(way, &frame(way, BINARY, bytes)).unwrap();
    }

    /// The control messages that either end said.
    pub(super) fn seen(&self, way: Way) -> Vec<String> {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().filter(|(went, _)| *went == way).map(|(_, text)| text.clone()).collect()
    }

    /// Cuts the line.
    pub(super) fn cut(&self) {
        if let Some((node, server)) = self.shared.line.lock().unwrap().take() {
            // They may be gone already.
            let _ = (node.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
        }
    }
}

impl Shared {
    fn connect(self: &Arc<Self>, node: &TcpStream) {
        let Ok(server) = TcpStream::connect(self.server) else { return };
        let again = |stream: &TcpStream| stream.try_clone().unwrap();
        for stream in [node, &server] {
            stream.set_nodelay(true).unwrap();
        }
        *self.line.lock().unwrap() = Some((again(node), again(&server)));
        for (way, from, to) in
            [(Way::ToServer, again(node), again(&server)), (Way::ToNode, again(&server), again(node))]
        {
            let shared = self.clone();
            thread::spawn(move || {
                // Whatever it was, the connection is over.
                let _ = shared.pass(way, &from, &to);
                let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
            });
        }
    }

    /// Passes one direction on: the head of HTTP as it is, then message by message.
    fn pass(&self, way: Way, from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while line != b"\r\n" {
            line.clear();
            if from.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            to.write_all(&line)?;
        }
        loop {
            let whole = read_frame(&mut from)?;
            if whole[0] & 0x0f != TEXT {
                self.write(way, &whole)?;
                continue;
            }
            let text = text_of(&whole);
            self.seen.lock().unwrap().push((way, text.clone()));
            let instead = (self.rewrite.lock().unwrap())(way, text);
            for text in instead {
                self.write(way, &frame(way, TEXT, text.as_bytes()))?;
            }
        }
    }

    /// Writes a whole frame, so that nothing of another stands in it.
    fn write(&self, way: Way, bytes: &[u8]) -> io::Result<()> {
        let line = self.line.lock().unwrap();
        let (node, server) = line.as_ref().ok_or_else(|| io::Error::other("there is no line"))?;
        match way {
            Way::ToNode => { node }.write_all(bytes),
            Way::ToServer => { server }.write_all(bytes),
        }
    }
}

/// The text of a whole frame, without its mask.
fn text_of(whole: &[u8]) -> String {
    let head = match whole[1] & 0x7f {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let mut rest = &whole[head..];
    let mut mask = [0; 4];
    if whole[1] & 0x80 != 0 {
        rest.read_exact(&mut mask).unwrap();
    }
    let bytes = rest.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    String::from_utf8(bytes.collect()).unwrap()
}

/// A frame; that of a node has a mask, here one that changes nothing.
fn frame(way: Way, kind: u8, bytes: &[u8]) -> Vec<u8> {
    let masked = if way == Way::ToServer { 0x80 } else { 0 };
    let mut frame = vec![0x80 | kind];
    match bytes.len() {
        length @ 0..126 => frame.push(masked | u8::try_from(length).unwrap()),
        length @ 126..0x1_0000 => {
            frame.push(masked | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            frame.push(masked | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    if masked != 0 {
        frame.extend([0; 4]);
    }
    frame.extend(bytes);
    frame
}
