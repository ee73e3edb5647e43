//! Where a service is: at a URL, or behind a Unix socket of this host. And where its own token is found.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use agent_config::Settings;

use crate::failure::Failure;
use crate::listener;

/// What the address of a Unix socket begins with.
const SOCKET_PREFIX: &str = "unix:";
/// What requests over a socket name as their host; nothing is looked up by it.
const SOCKET_BASE: &str = "http://127.0.0.1";
/// Longest token file, bytes.
const MAX_TOKEN_BYTES: u64 = 4096;
/// The bit of a file's mode by which all others may read it.
const OTHERS_READ: u32 = 0o004;
/// Name of the file with the token that a service makes at its first start.
const TOKEN_FILE: &str = "token";

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// Without a slash at its end.
    Url(String),
    /// A Unix socket of this host.
    Socket(PathBuf),
}

impl Address {
    /// Reads what somebody wrote. A token is not sent over plain HTTP but to this host itself.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let Some(path) = text.strip_prefix(SOCKET_PREFIX) else { return Self::of_url(text) };
        // As a URL has it: unix:///run/agent.sock.
        let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
        match path {
            "" => Err(Failure::new(format!("'{text}' is no address; write it as unix:/path/of/the.sock"))),
            path => Ok(Self::Socket(PathBuf::from(path))),
        }
    }

    /// The service of these settings: by its socket, where it has one and nothing else is asked for.
    pub(crate) fn of_service(settings: &Settings, is_by_url: bool) -> Result<Self, Failure> {
        match &settings.http.socket {
            Some(path) if !is_by_url => Ok(Self::Socket(path.clone())),
            _ => Self::of_url(&own_url(settings)),
        }
    }

    /// What the paths of its API are put behind.
    pub(crate) fn base(&self) -> &str {
        match self {
            Self::Url(url) => url,
            Self::Socket(_) => SOCKET_BASE,
        }
    }

    /// The token that the service of these settings made at its first start, which is sent to that service only. Over a
    /// socket there may be none: another service has another token, where callers are configured none is accepted that was
    /// made, and who may not read it may be known by its user.
    pub(crate) fn own_token(&self, settings: &Settings) -> Result<Option<Token>, Failure> {
        let file = settings.script_executor.state_dir.join(TOKEN_FILE);
        match self {
            Self::Url(url) if !is_of_service(url, settings) => {
                let hint = "name the file that has it with --token-file";
                let message = format!(
                    "which token does the service at {url} take? It is not the one of these settings"
                );
                Err(Failure::new(message).with_hints(vec![hint.to_owned()]))
            }
            Self::Url(_) => read_token(&file).map(Some),
            Self::Socket(path) if is_socket_of_service(path, settings) && settings.auth.tokens.is_empty() => {
                Ok(read_token(&file).ok())
            }
            Self::Socket(_) => Ok(None),
        }
    }

    /// Refuses to send a token in clear to whoever happens to listen on this host.
    pub(crate) fn refuse_strangers(&self, token: &Token) -> Result<(), Failure> {
        match self {
            Self::Url(url) if url.starts_with("http:") => match Place::of(url).map(|place| place.port) {
                Some(port) => listener::refuse_strangers(port, token.owner),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn of_url(text: &str) -> Result<Self, Failure> {
        let url = text.trim_end_matches('/');
        let no_address = || {
            let expected = "https://HOST:PORT, or unix:PATH for a socket of this host";
            Failure::new(format!("'{url}' is no address; write it as {expected}"))
        };
        let uri: ureq::http::Uri = url.parse().map_err(|_| no_address())?;
        let host = host_of(&uri);
        match uri.scheme_str() {
            Some("https") => Ok(Self::Url(url.to_owned())),
            Some("http") if is_loopback(host) => Ok(Self::Url(url.to_owned())),
            Some("http") => Err(Failure::new(format!(
                "a token is not sent in clear to {host}; use https://, or a tunnel that ends on this host"
            ))),
            _ => Err(no_address()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Socket(path) => write!(f, "{SOCKET_PREFIX}{}", path.display()),
        }
    }
}

/// What tells one service from another in their addresses.
#[derive(PartialEq, Eq)]
struct Place {
    scheme: String,
    /// One name for all of loopback.
    host: String,
    port: u16,
}

impl Place {
    fn of(url: &str) -> Option<Self> {
        let uri: ureq::http::Uri = url.parse().ok()?;
        let scheme = uri.scheme_str()?.to_owned();
        let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        let host = host_of(&uri);
        let host = if is_loopback(host) { "localhost".to_owned() } else { host.to_ascii_lowercase() };
        Some(Self { scheme, host, port })
    }
}

/// Whether a URL is that of the service of these settings.
fn is_of_service(url: &str, settings: &Settings) -> bool {
    Place::of(url).is_some_and(|place| Some(place) == Place::of(&own_url(settings)))
}

/// Whether a socket is that of the service of these settings.
fn is_socket_of_service(path: &Path, settings: &Settings) -> bool {
    let own = settings.http.socket.as_deref();
    own.is_some_and(|own| std::path::absolute(path).is_ok_and(|path| path == own))
}

fn host_of(uri: &ureq::http::Uri) -> &str {
    uri.host().unwrap_or_default().trim_matches(['[', ']'])
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn own_url(settings: &Settings) -> String {
    let host = match settings.http.host {
        IpAddr::V4(address) if address.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(address) if address.is_unspecified() => "[::1]".to_owned(),
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let scheme = if settings.tls.certificate.is_some() { "https" } else { "http" };
    format!("{scheme}://{host}:{}", settings.http.port)
}

/// A token, and whose file it was read from. It has no `Debug` form, which would show it.
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) owner: Option<u32>,
    /// That file.
    pub(crate) file: PathBuf,
    /// What its reader should hear.
    pub(crate) note: Option<String>,
}

/// Reads the token in a file: one word.
pub(crate) fn read_token(path: &Path) -> Result<Token, Failure> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| {
        let metadata = file.metadata()?;
        file.take(MAX_TOKEN_BYTES).read_to_string(&mut text)?;
        Ok(metadata)
    });
    let metadata = read.map_err(|error| {
        let hint =
            "name it with --token-file; a service without configured tokens makes one at its first start";
        Failure::new(format!("cannot read the token in {}: {error}", path.display()))
            .with_hints(vec![hint.to_owned()])
    })?;
    let token = text.trim();
    if token.is_empty() || token.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(Failure::new(format!("there is no token in {}: expected one word", path.display())));
    }
    let is_exposed = metadata.is_file() && metadata.mode() & OTHERS_READ != 0;
    let note =
        || format!("note: every user of this host may read the token in {0}; chmod 600 {0}", path.display());
    Ok(Token {
        text: token.to_owned(),
        owner: metadata.is_file().then(|| metadata.uid()),
        file: path.to_owned(),
        note: is_exposed.then(note),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_a_path_behind_its_prefix() {
        for (text, path) in [
            ("unix:/run/a.sock", "/run/a.sock"),
            ("unix:///run/a.sock", "/run/a.sock"),
            ("unix:a.sock", "a.sock"),
            ("unix://a.sock", "//a.sock"),
        ] {
            assert_eq!(Address::parse(text).unwrap(), Address::Socket(path.into()), "{text}");
        }
        assert!(Address::parse("unix:").is_err());
    }
}
