//! Connections of a gRPC server, with or without TLS.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::TlsFiles;
use crate::server::ServerError;

/// A handshake is a few round trips; a client that needs longer only holds a slot.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Where a call came from; services find it among the extensions of a request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address, if the system knew it.
    pub address: Option<SocketAddr>,
}

impl Connected for Stream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        let stream = match self {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        };
        Peer {
            address: stream.peer_addr().ok(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

/// A TLS configuration that follows its files.
pub(super) struct Tls {
    files: TlsFiles,
    state: Mutex<State>,
}

struct State {
    config: Arc<ServerConfig>,
    seen: Vec<Option<(std::time::SystemTime, u64)>>,
    looked: Instant,
}

impl Tls {
    pub(super) fn open(files: TlsFiles) -> Result<Self, ServerError> {
        let config = Arc::new(crate::server::grpc_tls(&files)?);
        let seen = files.seen();
        let state = State {
            config,
            seen,
            looked: Instant::now(),
        };
        Ok(Self {
            files,
            state: Mutex::new(state),
        })
    }

    /// The configuration now. Files that cannot be read leave the last one in force.
    fn config(&self) -> Arc<ServerConfig> {
        let mut state = self.state.lock();
        if state.looked.elapsed() >= Duration::from_millis(500) {
            state.looked = Instant::now();
            let seen = self.files.seen();
            if seen != state.seen {
                match crate::server::grpc_tls(&self.files) {
                    Ok(config) => {
                        tracing::info!("certificates of the gRPC server were read again");
                        (state.config, state.seen) = (Arc::new(config), seen);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the old certificates of the gRPC server stay");
                    }
                }
            }
        }
        Arc::clone(&state.config)
    }
}

/// Accepts connections until the receiver is gone; handshakes run beside each other.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    send: mpsc::Sender<io::Result<Stream>>,
) {
    let mut failures = 0u32;
    loop {
        let accepted = tokio::select! {
            () = send.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::warn!(%error, "cannot accept a gRPC connection");
                tokio::time::sleep(Duration::from_millis(5u64 << failures.min(7))).await;
                continue;
            }
        };
        failures = 0;
        let _ = stream.set_nodelay(true);
        let Some(tls) = &tls else {
            if send.send(Ok(Stream::Plain(stream))).await.is_err() {
                return;
            }
            continue;
        };
        let acceptor = tokio_rustls::TlsAcceptor::from(tls.config());
        let send = send.clone();
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let _ = send.send(Ok(Stream::Tls(Box::new(stream)))).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
            }
        });
    }
}
