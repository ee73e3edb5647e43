//! What is listened on, and a connection as it comes from there: TCP, and the Unix socket where there is one.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::local::LocalSocket;
use crate::peer::{Peer, PeerUser};

/// Most bytes that wait in the kernel for one slow reader; a Unix socket's own bound is of that size.
const MAX_UNSENT_BYTES: u32 = 128 << 10;
/// Silence after which the kernel asks whether the other end is still there, and how often it asks in vain.
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBES: u32 = 3;

/// What is listened on.
#[derive(Debug)]
pub(super) struct Listeners {
    tcp: TcpListener,
    local: Option<LocalSocket>,
}

/// A connection as it was accepted.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listeners {
    pub(super) async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { tcp: TcpListener::bind(address).await?, local: None })
    }

    pub(super) fn with_local(self, local: Option<LocalSocket>) -> Self {
        Self { local, ..self }
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The next connection of either.
    pub(super) async fn accept(&self) -> io::Result<Socket> {
        let local = async {
            match &self.local {
                Some(local) => local.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.tcp.accept() => accepted.map(|(stream, _)| Socket::Tcp(stream)),
            accepted = local => accepted.map(Socket::Unix),
        }
    }
}

impl Socket {
    /// Who is at the other end, if the kernel says.
    pub(super) fn peer(&self) -> Option<Peer> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok().map(Peer::Address),
            Self::Unix(stream) => stream.peer_cred().ok().map(|found| {
                let pid = found.pid().filter(|pid| *pid > 0);
                Peer::User(PeerUser { uid: found.uid(), pid })
            }),
        }
    }

    /// Sets what each connection has.
    pub(super) fn prepare(&self) -> io::Result<()> {
        let Self::Tcp(stream) = self else { return Ok(()) };
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        let probes = TcpKeepalive::new()
            .with_time(PROBE_AFTER)
            .with_interval(PROBE_AFTER / PROBES)
            .with_retries(PROBES);
        socket.set_tcp_keepalive(&probes)?;
        // Otherwise the kernel buffers megabytes for a caller who reads nothing.
        socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_answered_leaves_at_once() {
        let listeners = Listeners::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let _caller = TcpStream::connect(listeners.address().unwrap()).await.unwrap();
        let socket = listeners.accept().await.unwrap();
        let nodelay = |socket: &Socket| match socket {
            Socket::Tcp(stream) => stream.nodelay().unwrap(),
            Socket::Unix(_) => panic!("it came over TCP"),
        };
        assert!(!nodelay(&socket));
        socket.prepare().unwrap();
        assert!(nodelay(&socket));
    }
}
