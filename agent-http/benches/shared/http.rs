//! One HTTP connection that is kept.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use crate::Result;
use crate::site::token;

/// Most bytes of an answer in which something is looked for.
const MOST_BYTES: usize = 256 << 10;

/// A connection of a caller with all rights.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(at: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(at)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    pub(crate) fn get(&mut self, path: &str) -> Result<Value> {
        self.send("GET", path, "", None)?;
        self.answer()
    }

    /// Submits a task to the node of that name, or here; with what else is asked of the answer.
    pub(crate) fn submit(
        &mut self,
        script: &str,
        args: &[&str],
        node: Option<&str>,
        headers: &str,
    ) -> Result<Value> {
        let mut spec = json!({ "name": script, "args": args });
        if let Some(node) = node {
            spec["target"] = json!({ "node": node });
        }
        self.send("POST", "/api/v1/tasks", headers, Some(&spec))?;
        self.answer()
    }

    /// The task when it has ended.
    pub(crate) fn ended(&mut self, id: &str) -> Result<Value> {
        loop {
            let task = self.get(&format!("/api/v1/tasks/{id}?wait=60"))?;
            if !task["ended_at"].is_null() {
                return Ok(task);
            }
        }
    }

    /// Asks for something, and reads of the answer's body until this was in it. What comes behind that is not read, so that
    /// the connection is good for nothing after.
    pub(crate) fn get_until(&mut self, path: &str, headers: &str, text: &str) -> Result<()> {
        self.send("GET", path, headers, None)?;
        self.head()?;
        let mut body = Vec::new();
        while !body.windows(text.len()).any(|part| part == text.as_bytes()) {
            let more = self.stream.fill_buf()?;
            if more.is_empty() || body.len() > MOST_BYTES {
                return Err(format!("expected '{text}' at the beginning of {path}").into());
            }
            let length = more.len();
            body.extend_from_slice(more);
            self.stream.consume(length);
        }
        Ok(())
    }

    fn send(&mut self, method: &str, path: &str, headers: &str, body: Option<&Value>) -> Result<()> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let about = match body.is_empty() {
            true => String::new(),
            false => format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()),
        };
        let token = token("admin");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{headers}{about}\r\n{body}"
        );
        Ok(self.stream.get_mut().write_all(request.as_bytes())?)
    }

    /// The length of the body that comes.
    fn head(&mut self) -> Result<usize> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if !line.split(' ').nth(1).is_some_and(|status| status.starts_with('2')) {
            return Err(format!("expected success: {line}").into());
        }
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(length) };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        }
    }

    fn answer(&mut self) -> Result<Value> {
        let mut body = vec![0; self.head()?];
        self.stream.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }
}
