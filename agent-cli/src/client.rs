//! The HTTP API as a client: one place that knows address, token and errors.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use agent_config::Settings;
use serde_json::Value;
use task_runners::{Problem, error_chain};
use ureq::http::{Request, Response, StatusCode};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};

use crate::address::{Address, Token, read_token};
use crate::args::{Global, Server};
use crate::context;
use crate::failure::Failure;
use crate::local::{NoResolver, SocketConnector};
use crate::output::say;
use crate::trust;

/// Time to reach the service.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a whole answer, beside what the service was asked to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long nothing may come of a stream. A log that does not grow is asked for again; a service whose host is gone
/// says nothing for ever.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer that is read as JSON, bytes.
const MAX_JSON_BYTES: u64 = 64 << 20;
/// What the service calls it that it does not know a token.
const UNKNOWN_TOKEN: &str = "token_invalid";
/// Pages of a list that are followed.
const MAX_PAGES: usize = 1000;

/// A client of one service. It has no `Debug` form, since that would show the token.
pub(crate) struct Client {
    agent: Agent,
    address: Address,
    /// None where a certificate or the user says who calls.
    token: Option<String>,
    /// Where that was read.
    token_file: Option<PathBuf>,
    answer_timeout: Duration,
    silence_timeout: Duration,
}

impl Client {
    /// The client for what the command line and the settings say.
    pub(crate) fn new(global: &Global, server: &Server) -> Result<Self, Failure> {
        Self::by(server, || context::settings(global), say)
    }

    /// The same where nothing is said to people, and nobody waits longer than this.
    pub(crate) fn quiet(global: &Global, server: &Server, patience: Duration) -> Result<Self, Failure> {
        let client = Self::by(server, || context::quiet_settings(global), |_| ())?;
        Ok(Self { answer_timeout: patience, ..client })
    }

    fn by(
        server: &Server,
        settings: impl FnOnce() -> Result<Settings, Failure>,
        say: fn(&str),
    ) -> Result<Self, Failure> {
        let is_proven = server.token_file.is_some() || server.trust.cert.is_some();
        let asked = server.server.as_deref().map(Address::parse).transpose()?;
        let (address, settings) = match asked {
            Some(address) if is_proven => (address, None),
            // Over a socket the user may be proof enough, so that settings which cannot be read are none.
            Some(address @ Address::Socket(_)) => (address, settings().ok()),
            Some(address) => (address, Some(settings()?)),
            None => {
                let settings = settings()?;
                (Address::of_service(&settings, is_proven)?, Some(settings))
            }
        };
        if matches!(address, Address::Socket(_)) && (server.trust.ca.is_some() || server.trust.cert.is_some())
        {
            let expected = "leave out --ca and --cert, or name the service by https://";
            return Err(Failure::new(format!("there is no TLS over a Unix socket; {expected}")));
        }
        let token = match (&server.token_file, &server.trust.cert, &settings) {
            (Some(file), _, _) => Some(read_token(file)?),
            (None, None, Some(settings)) => address.own_token(settings)?,
            _ => None,
        };
        if let Some(token) = &token {
            address.refuse_strangers(token)?;
            token.note.as_deref().into_iter().for_each(say);
        }
        Ok(Self::of(address, token, trust::config(&server.trust)?))
    }

    fn of(address: Address, token: Option<Token>, tls: TlsConfig) -> Self {
        let agent = agent(&address, token.as_ref().map(|token| token.owner), tls);
        let (token, token_file) = token.map(|token| (token.text, token.file)).unzip();
        let (answer_timeout, silence_timeout) = (ANSWER_TIMEOUT, SILENCE_TIMEOUT);
        Self { agent, address, token, token_file, answer_timeout, silence_timeout }
    }

    /// GETs JSON.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.get_within(path, Duration::ZERO)
    }

    /// GETs JSON that the service may take this long for.
    pub(crate) fn get_within(&self, path: &str, wait: Duration) -> Result<Value, Failure> {
        json(self.answer(self.send(self.request("GET", path).body(()), wait))?)
    }

    /// GETs all that a list has, page after page, and what stands on its last page beside. `what` is the list's name.
    pub(crate) fn all(&self, first: &str, what: &str) -> Result<(Vec<Value>, Value), Failure> {
        let mut all = Vec::new();
        let mut path = first.to_owned();
        for _ in 0..MAX_PAGES {
            let mut page = self.get(&path)?;
            match page[what].take() {
                Value::Array(found) => all.extend(found),
                _ => return Err(Failure::new(format!("the service's answer is no list of {what}"))),
            }
            match page["next"].as_str() {
                Some(next) => path = format!("{first}&cursor={}", segment(next)),
                None => return Ok((all, page)),
            }
        }
        Err(Failure::new(format!("the service's list of {what} does not end")))
    }

    /// Where the service is.
    pub(crate) fn address(&self) -> &Address {
        &self.address
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

    /// DELETEs what is there.
    pub(crate) fn delete(&self, path: &str) -> Result<(), Failure> {
        self.answer(self.send(self.request("DELETE", path).body(()), Duration::ZERO)).map(drop)
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
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address.base()))
            .header("accept", "application/json, application/problem+json, */*");
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn answer(&self, sent: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Failure> {
        let response = sent.map_err(|error| {
            let message = format!("cannot reach the service at {}: {}", self.address, error_chain(&error));
            match trust::hint(&error) {
                // Trying again would not help.
                Some(hint) => Failure::new(message).with_hints(vec![hint.to_owned()]),
                None => {
                    // The system's resolver has no kind of error of its own.
                    let is_unknown_name = message.contains("failed to lookup address information");
                    let hint = match is_unknown_name {
                        true => "no address is known for that name; is it the right one?",
                        false => "is it running? agent-http starts it",
                    };
                    Failure::unreachable(message).with_hints(vec![hint.to_owned()])
                }
            }
        })?;
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response)) }
    }

    /// What a refusal says, and which token was sent where that is not the right one.
    fn refused(&self, response: Response<Body>) -> Failure {
        let failure = refused(response);
        match &self.token_file {
            Some(file) if failure.refusal() == UNKNOWN_TOKEN => {
                let hint = format!("that in {} was sent; name another with --token-file", file.display());
                failure.with_hints(vec![hint])
            }
            _ => failure,
        }
    }
}

/// What sends requests. Redirects are not followed, since they would take the token along.
fn agent(address: &Address, token: Option<Option<u32>>, tls: TlsConfig) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .max_redirects(0)
        .tls_config(tls);
    // Through a proxy, plain HTTP would leave this host after all; over https:// it is only a tunnel.
    let is_by_tls = address.base().starts_with("https:");
    let config = if is_by_tls { config.build() } else { config.proxy(None).build() };
    match address {
        Address::Url(_) => config.into(),
        Address::Socket(path) => {
            Agent::with_parts(config, SocketConnector { path: path.clone(), token }, NoResolver)
        }
    }
}

/// One path segment, percent-encoded (RFC 3986, 2.1).
pub(crate) fn segment(text: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|b| if is_plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
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
    let code = text("code").unwrap_or_default();
    let failure = Failure::refused(status.as_u16(), &code, message).with_details(details);
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
        let address = Address::Url(format!("http://{}", listener.local_addr().unwrap()));
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
        let token = Token { text: "dag_token".to_owned(), owner: None, file: PathBuf::new(), note: None };
        let client = Client {
            answer_timeout: timeout,
            silence_timeout: timeout,
            ..Client::of(address, Some(token), TlsConfig::default())
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
