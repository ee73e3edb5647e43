//! What a connection is spoken over: the socket as it is, or TLS on top of it. A Unix socket is as it is: nobody is between
//! its ends.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;
use tokio_rustls::server::TlsStream;

use super::ServerLimits;
use super::io::last_answer;
use super::listeners::Socket;
use super::patient::PatientSocket;
use crate::error::ApiError;
use crate::tls::{ClientCertificate, Tls};

/// Most bytes of plain HTTP that are read and dropped, so that the answer is not lost with them.
const MAX_DROPPED_BYTES: u64 = 64 << 10;

/// A connection over which HTTP can be spoken.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(PatientSocket),
    Local(PatientSocket<UnixStream>),
    // Boxed, since it is large and the other one is not.
    Tls(Box<TlsStream<PatientSocket>>),
}

impl Transport {
    /// Shakes hands where TLS is spoken, and gives the certificate of a caller that has one. Whoever speaks plain HTTP
    /// there is told.
    ///
    /// # Errors
    /// When the two do not agree, or the caller says nothing that could be TLS.
    pub(super) async fn open(
        socket: Socket,
        limits: &ServerLimits,
        tls: Option<&Tls>,
    ) -> io::Result<(Self, Option<ClientCertificate>)> {
        let mut socket = match socket {
            Socket::Tcp(stream) => PatientSocket::new(stream, limits),
            Socket::Unix(stream) => return Ok((Self::Local(PatientSocket::new(stream, limits)), None)),
        };
        let Some(tls) = tls else { return Ok((Self::Plain(socket), None)) };
        // A handshake begins with the byte 22, and the name of each method with a capital letter.
        if socket.first_byte().await?.is_some_and(|byte| byte.is_ascii_uppercase()) {
            refuse_plain_http(&mut socket).await?;
            return Err(io::Error::other("plain HTTP was spoken where TLS is expected"));
        }
        let stream = tls.accept(socket).await?;
        let (_, session) = stream.get_ref();
        let presented = session.peer_certificates().and_then(<[_]>::first);
        let certificate = presented.map(ClientCertificate::of).transpose().map_err(io::Error::other)?;
        Ok((Self::Tls(Box::new(stream)), certificate))
    }
}

async fn refuse_plain_http(socket: &mut PatientSocket) -> io::Result<()> {
    let detail = "this port speaks TLS; write https:// in place of http://";
    let error = ApiError::new(StatusCode::BAD_REQUEST, "tls_required", detail);
    socket.write_all(last_answer(&error).as_bytes()).await?;
    socket.shutdown().await?;
    // Closed with bytes that nobody has read, the kernel would take the answer back.
    tokio::io::copy(&mut socket.take(MAX_DROPPED_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}

/// Hands a call on to what is spoken over.
macro_rules! forward {
    ($self:ident . $method:ident ( $($argument:expr),* )) => {
        match $self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Self::Local(stream) => Pin::new(stream).$method($($argument),*),
            Self::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        forward!(self.poll_read(context, buffer))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self.poll_shutdown(context))
    }
}
