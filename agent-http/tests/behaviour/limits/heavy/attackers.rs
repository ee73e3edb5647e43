//! Ways to a service, plain and by TLS, and those who come by them to hold on to what they can.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::json;

use crate::measuring::value;
use crate::support::{Authority, Reply, Site, TlsConnection, connect, read_reply, request_text, tls_connect};

/// How many of each kind come with a wave: 1,000 slow ones, and watchers in each of the two forms of a log.
pub(super) const HEADERS: usize = 400;
const BODIES: usize = 300;
pub(super) const SILENT: usize = 200;
const READERS: usize = 100;
pub(super) const WATCHERS_OF_EACH_FORM: usize = 100;

/// A way to the service.
pub(super) enum Way<'a> {
    Plain(SocketAddr),
    Tls(SocketAddr, &'a Authority),
}

/// A connection that was made by one of them.
pub(super) enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsConnection>),
}

/// Who holds on to a connection.
pub(super) struct Attacker {
    pub(super) connection: Connection,
    /// What it does from time to time.
    drips: Drips,
}

#[derive(Clone, Copy, PartialEq)]
enum Drips {
    /// It sends a byte.
    Sends,
    /// It takes a few bytes.
    Takes,
    Never,
}

impl Way<'_> {
    fn at(&self) -> SocketAddr {
        match self {
            Self::Plain(at) | Self::Tls(at, _) => *at,
        }
    }

    fn connect(&self) -> Connection {
        match self {
            Self::Plain(at) => Connection::Plain(connect(*at)),
            Self::Tls(at, authority) => Connection::Tls(Box::new(tls_connect(*at, authority, None))),
        }
    }

    /// A connection over which this was sent.
    pub(super) fn sent(&self, text: &str) -> Connection {
        let mut connection = self.connect();
        connection.write(text.as_bytes());
        connection
    }

    pub(super) fn get(&self, path: &str) -> Reply {
        self.sent(&get_text(path)).reply()
    }

    pub(super) fn submit(&self, name: &str, args: &[&str], prefer: &str) -> Reply {
        let spec = json!({ "name": name, "args": args });
        let text = request_text("POST", "/api/v1/tasks", Some(&Site::token("admin")), Some(&spec));
        self.sent(&with_header(&text, &format!("Prefer: {prefer}"))).reply()
    }

    /// How many follow a log as bytes, and how many as events, as the service counts them.
    pub(super) fn followers(&self) -> [usize; 2] {
        let text = self.get("/metrics").text();
        ["bytes", "events"].map(|form| {
            let series = format!("devops_agent_log_followers{{form=\"{form}\"}}");
            value(&text, &series).unwrap() as usize
        })
    }

    /// A wave, all of it connected. Its readers and watchers are those of this log.
    pub(super) fn wave(&self, log: &str) -> Vec<Attacker> {
        let token = Site::token("admin");
        let slow_header = "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
        let slow_body = format!(
            "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{{"
        );
        let read = get_text(log);
        let watch_bytes = get_text(&format!("{log}?follow=true"));
        let watch_events = with_header(&read, "Accept: text/event-stream");
        let mut attackers: Vec<_> = (0..SILENT).map(|_| self.silent()).collect();
        let slow = |text, drips| Attacker { connection: self.sent(text), drips };
        attackers.extend((0..HEADERS).map(|_| slow(slow_header, Drips::Sends)));
        attackers.extend((0..BODIES).map(|_| slow(&slow_body, Drips::Sends)));
        attackers.extend((0..READERS).map(|_| slow(&read, Drips::Takes)));
        for watch in [watch_bytes, watch_events] {
            attackers.extend((0..WATCHERS_OF_EACH_FORM).map(|_| self.watcher(&watch)));
        }
        attackers
    }

    /// Its answer has begun, and it takes no more of it.
    fn watcher(&self, text: &str) -> Attacker {
        let mut connection = self.sent(text);
        connection.read_one();
        Attacker { connection, drips: Drips::Never }
    }

    /// Of TLS it has said half of the first message, and of HTTP nothing.
    fn silent(&self) -> Attacker {
        let mut stream = connect(self.at());
        if matches!(self, Way::Tls(..)) {
            stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
        }
        Attacker { connection: Connection::Plain(stream), drips: Drips::Never }
    }
}

impl Connection {
    /// Sends what it can: the other end may have closed.
    fn write(&mut self, bytes: &[u8]) {
        let _ = match self {
            Self::Plain(stream) => stream.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        };
    }

    fn read_one(&mut self) {
        match self {
            Self::Plain(stream) => stream.read_exact(&mut [0]),
            Self::Tls(stream) => stream.read_exact(&mut [0]),
        }
        .unwrap();
    }

    pub(super) fn reply(self) -> Reply {
        match self {
            Self::Plain(stream) => read_reply(&mut BufReader::new(stream), false),
            Self::Tls(stream) => read_reply(&mut BufReader::new(stream), false),
        }
        .unwrap()
    }

    pub(super) fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &mut stream.sock,
        }
    }
}

impl Attacker {
    pub(super) fn drip(&mut self) {
        match self.drips {
            Drips::Sends => self.connection.write(b" "),
            Drips::Takes => {
                let socket = self.connection.socket();
                socket.set_nonblocking(true).unwrap();
                // Nothing there, or all over: both are as good as a few bytes.
                let _ = socket.read(&mut [0; 512]);
            }
            Drips::Never => {}
        }
    }
}

pub(super) fn get_text(path: &str) -> String {
    request_text("GET", path, Some(&Site::token("admin")), None)
}

fn with_header(text: &str, header: &str) -> String {
    text.replacen("\r\n", &format!("\r\n{header}\r\n"), 1)
}
