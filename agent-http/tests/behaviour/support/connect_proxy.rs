//! An HTTP proxy of a test's own, which answers `CONNECT` as the test wants.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a proxy does when it is asked for a place.
pub(crate) enum Answer {
    /// It lets the caller through to that address, wherever the caller wants to go.
    Through(SocketAddr),
    /// It says that, and closes.
    Says(&'static str),
    /// It says that again and again, and never ends.
    Endless(&'static str),
    /// It says nothing, and keeps the connection.
    Silent,
}

/// A proxy on a port of its own.
pub(crate) struct Proxy {
    pub(crate) at: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

/// What passed.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// The heads of the requests.
    pub(crate) asked: Vec<String>,
    /// What callers sent behind them, of all connections together.
    pub(crate) sent: Vec<u8>,
    /// How many endless answers have ended: the caller closed.
    pub(crate) given_up: usize,
}

impl Proxy {
    pub(crate) fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let (seen, answer) = (Arc::<Mutex<Seen>>::default(), Arc::new(answer));
        let shared = seen.clone();
        // It ends with the test.
        thread::spawn(move || {
            for caller in listener.incoming().map_while(Result::ok) {
                let (seen, answer) = (shared.clone(), answer.clone());
                thread::spawn(move || serve(caller, &seen, &*answer));
            }
        });
        Self { at, seen }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(mut caller: TcpStream, seen: &Arc<Mutex<Seen>>, answer: &dyn Fn(&str) -> Answer) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match caller.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let answer = answer(&head);
    seen.lock().unwrap().asked.push(head);
    match answer {
        Answer::Through(to) => through(caller, to, seen),
        // Who does not listen any more has heard enough.
        Answer::Says(text) => drop(caller.write_all(text.as_bytes())),
        Answer::Endless(text) => {
            while caller.write_all(text.as_bytes()).is_ok() {}
            seen.lock().unwrap().given_up += 1;
        }
        Answer::Silent => drop(caller.read(&mut byte)),
    }
}

fn through(mut caller: TcpStream, to: SocketAddr, seen: &Arc<Mutex<Seen>>) {
    let Ok(mut target) = TcpStream::connect(to) else {
        return drop(caller.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"));
    };
    caller.write_all(b"HTTP/1.1 200 Connection established\r\nVia: a test\r\n\r\n").unwrap();
    let (mut back_from, mut back_to) = (target.try_clone().unwrap(), caller.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut back_from, &mut back_to);
        let _ = back_to.shutdown(Shutdown::Both);
    });
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = caller.read(&mut buffer) {
        seen.lock().unwrap().sent.extend(&buffer[..count]);
        if target.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = target.shutdown(Shutdown::Both);
}
