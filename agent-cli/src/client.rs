//! The HTTP API as a client: one place that knows address, token and errors.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_config::Settings;
use serde_json::Value;
use task_runners::{Problem, error_chain};
use ureq::http::{Request, Response, StatusCode};
use ureq::{Agent, Body};

use crate::args::{Global, Server};
use crate::context;
use crate::failure::Failure;

/// Time to reach the service.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a whole answer, beside what the service was asked to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long nothing may come of a stream. A log that does not grow is asked for again; a service whose host is gone
/// says nothing for ever.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest token file, bytes.
const MAX_TOKEN_BYTES: u64 = 4096;
/// Largest answer that is read as JSON, bytes.
const MAX_JSON_BYTES: u64 = 64 << 20;
/// Name of the file with the token that a service makes at its first start.
const TOKEN_FILE: &str = "token";

/// A client of one service. It has no `Debug` form, since that would show the token.
pub(crate) struct Client {
    agent: Agent,
    base: String,
    token: String,
    answer_timeout: Duration,
    silence_timeout: Duration,
}

impl Client {
    /// The client for what the command line and the settings say.
    pub(crate) fn new(global: &Global, server: &Server) -> Result<Self, Failure> {
        Self::by(server, || context::settings(global))
    }

    /// The same where nothing is said to people, and nobody waits longer than this.
    pub(crate) fn quiet(global: &Global, server: &Server, patience: Duration) -> Result<Self, Failure> {
        let client = Self::by(server, || context::quiet_settings(global))?;
        Ok(Self { answer_timeout: patience, ..client })
    }

    fn by(server: &Server, settings: impl FnOnce() -> Result<Settings, Failure>) -> Result<Self, Failure> {
        let settings = match (&server.server, &server.token_file) {
            (Some(_), Some(_)) => None,
            _ => Some(settings()?),
        };
        let base = match (&server.server, &settings) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(settings)) => own_address(settings),
            (None, None) => String::new(),
        };
        refuse_clear_text(&base)?;
        let token_file = match (&server.token_file, &settings) {
            (Some(file), _) => file.clone(),
            (None, Some(settings)) => settings.script_executor.state_dir.join(TOKEN_FILE),
            (None, None) => PathBuf::new(),
        };
        Ok(Self::of(base, read_token(&token_file)?))
    }

    fn of(base: String, token: String) -> Self {
        let agent = agent(&base);
        Self { agent, base, token, answer_timeout: ANSWER_TIMEOUT, silence_timeout: SILENCE_TIMEOUT }
    }

    /// GETs JSON.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.get_within(path, Duration::ZERO)
    }

    /// GETs JSON that the service may take this long for.
    pub(crate) fn get_within(&self, path: &str, wait: Duration) -> Result<Value, Failure> {
        json(self.answer(self.send(self.request("GET", path).body(()), wait))?)
    }

    /// POSTs JSON, and gives the JSON that came back.
    pub(crate) fn post(&self, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let request = self.request("POST", path);
        let sent = match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
            None => request.body(String::new()),
        };
        json(self.answer(self.send(sent, Duration::ZERO))?)
    }

    /// GETs bytes from `offset` on, as they come. Where the service has none behind it, there are none.
    pub(crate) fn stream(&self, path: &str, offset: u64) -> Result<Box<dyn Read>, Failure> {
        let mut request = self.request("GET", path);
        if offset > 0 {
            request = request.header("range", format!("bytes={offset}-"));
        }
        let sent = request.body(()).map_err(ureq::Error::from).and_then(|request| {
            let limited = self.agent.configure_request(request).timeout_per_read(Some(self.silence_timeout));
            self.agent.run(limited.build())
        });
        if sent.as_ref().is_ok_and(|response| response.status() == StatusCode::RANGE_NOT_SATISFIABLE) {
            return Ok(Box::new(std::io::empty()));
        }
        let response = self.answer(sent)?;
        let is_whole = response.status() != StatusCode::PARTIAL_CONTENT;
        let mut body = response.into_body().into_reader();
        if is_whole && offset > 0 {
            // A range may be ignored (RFC 9110, section 14.2), by something in between for one.
            std::io::copy(&mut body.by_ref().take(offset), &mut std::io::sink())
                .map_err(|error| Failure::unreachable(format!("the log was cut off: {error}")))?;
        }
        Ok(Box::new(body))
    }

    /// Sends a request whose whole answer must be there in time.
    fn send<B: ureq::AsSendBody>(
        &self,
        request: Result<Request<B>, ureq::http::Error>,
        wait: Duration,
    ) -> Result<Response<Body>, ureq::Error> {
        let limited = self.agent.configure_request(request?).timeout_global(Some(wait + self.answer_timeout));
        self.agent.run(limited.build())
    }

    fn request(&self, method: &str, path: &str) -> ureq::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.token))
            .header("accept", "application/json, application/problem+json, */*")
    }

    fn answer(&self, sent: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Failure> {
        let response = sent.map_err(|error| {
            let message = format!("cannot reach the service at {}: {}", self.base, error_chain(&error));
            Failure::unreachable(message).with_hints(vec!["is it running? agent-http starts it".to_owned()])
        })?;
        if response.status().is_success() { Ok(response) } else { Err(refused(response)) }
    }
}

/// What sends requests. Redirects are not followed, since they would take the token along.
fn agent(base: &str) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .max_redirects(0);
    // Through a proxy, plain HTTP would leave this host after all; over https:// it is only a tunnel.
    let config = if base.starts_with("https:") { config } else { config.proxy(None) };
    config.build().into()
}

/// One path segment, percent-encoded (RFC 3986, 2.1).
pub(crate) fn segment(text: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|b| if is_plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn own_address(settings: &Settings) -> String {
    let host = match settings.http.host {
        IpAddr::V4(address) if address.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(address) if address.is_unspecified() => "[::1]".to_owned(),
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    format!("http://{host}:{}", settings.http.port)
}

/// A token is not sent over plain HTTP but to this host itself.
fn refuse_clear_text(base: &str) -> Result<(), Failure> {
    let uri: ureq::http::Uri = base
        .parse()
        .map_err(|_| Failure::new(format!("'{base}' is no address; write it as https://HOST:PORT")))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let is_loopback =
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_loopback => Ok(()),
        Some("http") => Err(Failure::new(format!(
            "a token is not sent in clear to {host}; use https://, or a tunnel that ends on this host"
        ))),
        _ => Err(Failure::new(format!("'{base}' is no address; write it as https://HOST:PORT"))),
    }
}

fn read_token(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_TOKEN_BYTES).read_to_string(&mut text));
    read.map_err(|error| {
        let hint =
            "name it with --token-file; a service without configured tokens makes one at its first start";
        Failure::new(format!("cannot read the token in {}: {error}", path.display()))
            .with_hints(vec![hint.to_owned()])
    })?;
    let token = text.trim();
    if token.is_empty() || token.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(Failure::new(format!("there is no token in {}: expected one word", path.display())));
    }
    Ok(token.to_owned())
}

fn json(response: Response<Body>) -> Result<Value, Failure> {
    let read = response.into_body().into_with_config().limit(MAX_JSON_BYTES).read_json();
    read.map_err(|error| Failure::new(format!("cannot read the service's answer: {error}")))
}

/// What a refusal says (RFC 9457), in the service's own words.
fn refused(response: Response<Body>) -> Failure {
    let status = response.status();
    let problem = json(response).unwrap_or_default();
    let text = |name: &str| problem[name].as_str().map(str::to_owned);
    let errors: Vec<Problem> = serde_json::from_value(problem["errors"].clone()).unwrap_or_default();
    let message = match errors.is_empty() {
        true => text("detail").or_else(|| text("title")).unwrap_or_else(|| status.to_string()),
        // The detail says the same in one line.
        false => "the service refused this; mend the following".to_owned(),
    };
    let mut details: Vec<String> = errors.iter().map(Problem::to_string).collect();
    // What is wrong with the scripts folder, and the command that mends it.
    details.extend(serde_json::from_value::<Vec<String>>(problem["problems"].clone()).unwrap_or_default());
    let hints = text("mend").map(|mend| format!("on the service's host: {mend}"));
    let failure = Failure::refused(status.as_u16(), message).with_details(details);
    failure.with_hints(hints.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    use super::*;

    /// A service that takes requests, sends `first` and says nothing more; and a client that is soon out of patience.
    /// The connections that it took are kept open for as long as they are not taken from the receiver.
    fn with_silent_service(first: &'static str) -> (Client, Receiver<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (keep, kept) = channel();
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                stream.write_all(first.as_bytes()).unwrap();
                if keep.send(stream).is_err() {
                    return;
                }
            }
        });
        let timeout = Duration::from_millis(200);
        let client = Client {
            answer_timeout: timeout,
            silence_timeout: timeout,
            ..Client::of(base, "dag_token".to_owned())
        };
        (client, kept)
    }

    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n";

    #[test]
    fn an_answer_that_does_not_come_or_does_not_end_is_given_up() {
        for first in ["", "HTTP/1.1 200", HEAD] {
            let (client, _kept) = with_silent_service(first);
            assert!(client.get("/x").is_err());
            assert!(client.post("/x", None).is_err());
        }
        let (client, _kept) = with_silent_service("");
        assert!(client.get("/x").unwrap_err().is_unreachable());
        assert!(client.stream("/x", 0).map(drop).unwrap_err().is_unreachable());
    }

    #[test]
    fn a_stream_is_given_up_only_when_nothing_comes() {
        let (client, kept) = with_silent_service(HEAD);
        let mut stream = client.stream("/x", 0).unwrap();
        let mut service = kept.recv().unwrap();
        let mut byte = [0];
        service.write_all(b"a").unwrap();
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
        let error = stream.read(&mut byte).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
        assert!(error.to_string().contains("timeout"), "{error}");
    }
}
