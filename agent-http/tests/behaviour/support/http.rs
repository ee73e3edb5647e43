//! HTTP/1.1 by hand, so that a test can send what no client library would.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::LONG;

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The value of a header; its name in small letters.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The code of a refusal, whose form is checked on the way.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status, "{json}");
        for member in ["type", "title", "detail", "code"] {
            assert!(json[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {json}");
        }
        json["code"].as_str().unwrap().to_owned()
    }

    /// The id of the task in it.
    pub(crate) fn id(&self) -> String {
        self.json()["id"].as_str().unwrap_or_else(|| panic!("no task: {}", self.text())).to_owned()
    }
}

pub(crate) fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

/// The text of a request whose connection ends behind the answer.
pub(crate) fn request_text(method: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> String {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let (body, about) = match body {
        None => (String::new(), String::new()),
        Some(body) => {
            let body = body.to_string();
            let about = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
            (body, about)
        }
    };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}{about}\r\n{body}")
}

/// Sends bytes and reads one answer.
pub(crate) fn exchange(at: SocketAddr, bytes: &[u8]) -> Reply {
    exchange_over(connect(at), bytes)
}

/// The same over a connection.
pub(crate) fn exchange_over(mut stream: impl Read + Write, bytes: &[u8]) -> Reply {
    stream.write_all(bytes).unwrap();
    let is_head = bytes.starts_with(b"HEAD ");
    read_reply(&mut BufReader::new(stream), is_head).expect("an answer")
}

/// Connects to a Unix socket.
pub(crate) fn connect_local(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

/// Reads one answer; none when the connection ended without one.
pub(crate) fn read_reply(stream: &mut impl BufRead, is_head: bool) -> Option<Reply> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut reply = Reply { status, headers, body: Vec::new() };
    if status == 100 {
        return read_reply(stream, is_head);
    }
    if is_head || status == 204 {
        return Some(reply);
    }
    if reply.header("transfer-encoding") == Some("chunked") {
        read_chunks(stream, &mut reply.body);
    } else {
        let length =
            reply.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(u64::MAX);
        stream.take(length).read_to_end(&mut reply.body).ok()?;
    }
    Some(reply)
}

fn read_chunks(stream: &mut impl BufRead, body: &mut Vec<u8>) {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let length = u64::from_str_radix(line.trim(), 16).expect("a chunk's length");
        stream.by_ref().take(length).read_to_end(body).unwrap();
        stream.read_line(&mut line).unwrap();
        if length == 0 {
            return;
        }
    }
}
