//! HTTP over a Unix socket of this host: what ureq calls a transport. Each request has a connection of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use socket2::{Domain, SockAddr, Socket, Type};
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use crate::listener;

/// Connects to the socket, whatever a request names as its host.
#[derive(Debug)]
pub(crate) struct SocketConnector {
    pub(crate) path: PathBuf,
    /// Whose file the token was read from, where one is sent: nobody else may listen.
    pub(crate) token: Option<Option<u32>>,
}

/// Looks nothing up: the socket is where it is.
#[derive(Debug)]
pub(crate) struct NoResolver;

/// A connection.
#[derive(Debug)]
pub(crate) struct SocketTransport {
    stream: UnixStream,
    buffers: LazyBuffers,
}

impl Connector for SocketConnector {
    type Out = SocketTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<SocketTransport>, Error> {
        let stream = connect(&self.path, details.timeout)?;
        if let Some(owner) = self.token {
            refuse_stranger(&stream, owner)?;
        }
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(SocketTransport { stream, buffers }))
    }
}

impl Resolver for NoResolver {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}

impl Transport for SocketTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        self.stream.set_write_timeout(timeout.not_zero().map(|time| *time))?;
        let output = &self.buffers.output()[..amount];
        self.stream.write_all(output).map_err(|error| or_timeout(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        self.stream.set_read_timeout(timeout.not_zero().map(|time| *time))?;
        let input = self.buffers.input_append_buf();
        let amount = loop {
            match self.stream.read(input) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read.map_err(|error| or_timeout(error, timeout))?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Not worth keeping: another connection on this host costs nothing.
        false
    }
}

/// Connects within a time: a service that accepts nobody any more lets only so many wait.
fn connect(path: &Path, timeout: NextTimeout) -> Result<UnixStream, Error> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // It holds for connect(2) as well (socket(7), SO_SNDTIMEO).
    socket.set_write_timeout(timeout.not_zero().map(|time| *time))?;
    socket.connect(&SockAddr::unix(path)?).map_err(|error| or_timeout(error, timeout))?;
    Ok(OwnedFd::from(socket).into())
}

/// Makes sure that the token goes to nobody else than who may know it (unix(7), SO_PEERCRED).
fn refuse_stranger(stream: &UnixStream, token_owner: Option<u32>) -> io::Result<()> {
    let listener = getsockopt(stream, PeerCredentials)?.uid();
    if listener::is_stranger(listener, token_owner) {
        let name = listener::name_of(listener);
        return Err(io::Error::other(format!(
            "{name} listens there, who would get the token; nothing was sent"
        )));
    }
    Ok(())
}

/// A socket whose time is over says that it would block.
fn or_timeout(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}
