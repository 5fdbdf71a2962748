//! Accepting connections and serving them until they end or the server drains.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::Request;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::observe::HttpMetrics;
use super::san::ClientCertificate;
use super::targets::Targets;
use super::web_config::Watched;
use crate::grpc::KeepAlive;

/// What all connections of a server share.
pub(super) struct Shell {
    pub(super) app: parking_lot::RwLock<Router>,
    pub(super) web: Option<Arc<Watched>>,
    pub(super) slots: Arc<Semaphore>,
    pub(super) read_timeout: Duration,
    pub(super) grace: Duration,
    pub(super) metrics: HttpMetrics,
}

/// A handshake is a few round trips; a client that needs longer only holds a slot.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Accepts until `stopped` turns true, then drains.
pub(super) async fn accept(
    listener: TcpListener,
    shell: Arc<Shell>,
    mut stopped: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut failures = 0u32;
    loop {
        let next = async {
            // The semaphore is never closed, so the permit is always given.
            let slot = Arc::clone(&shell.slots).acquire_owned().await.ok();
            (slot, listener.accept().await)
        };
        tokio::select! {
            biased;
            () = told(&mut stopped) => break,
            Some(_) = connections.join_next() => {}
            (slot, accepted) = next => match accepted {
                Ok((stream, peer)) => {
                    failures = 0;
                    let watcher = graceful.watcher();
                    connections.spawn(serve(stream, peer, Arc::clone(&shell), watcher, slot));
                }
                Err(error) => {
                    // Out of file descriptors, or a client that was gone before its turn.
                    failures = failures.saturating_add(1);
                    tracing::warn!(%error, "cannot accept a connection");
                    let pause = Duration::from_millis(5u64 << failures.min(7));
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
    drop(listener);
    let finished = async {
        graceful.shutdown().await;
        while connections.join_next().await.is_some() {}
    };
    if tokio::time::timeout(shell.grace, finished).await.is_err() {
        tracing::warn!(
            grace_seconds = shell.grace.as_secs(),
            "requests still running after the grace period were ended"
        );
    }
    // Dropping the set ends what is left.
}

/// Finishes when the server is to stop. The guard that `wait_for` gives must not be held.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn serve(
    stream: TcpStream,
    peer: std::net::SocketAddr,
    shell: Arc<Shell>,
    watcher: Watcher,
    _slot: Option<OwnedSemaphorePermit>,
) {
    let _counted = shell.metrics.connection();
    let _ = stream.set_nodelay(true);
    let web = shell.web.as_ref().map(|w| w.current());
    let http2 = web.as_ref().is_none_or(|w| w.http2());
    let result = match web.as_ref().and_then(|w| w.tls()) {
        None => talk(stream, (peer, None), &shell, watcher, http2).await,
        Some(config) => {
            let acceptor = tokio_rustls::TlsAcceptor::from(config);
            let limit = HANDSHAKE_TIMEOUT.min(shell.read_timeout);
            match tokio::time::timeout(limit, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let shown = stream.get_ref().1.peer_certificates();
                    let shown = shown.and_then(<[_]>::first);
                    let shown = shown.map(|c| ClientCertificate(c.to_vec().into()));
                    talk(stream, (peer, shown), &shell, watcher, http2).await
                }
                Ok(Err(error)) => {
                    tracing::debug!(%peer, %error, "TLS handshake failed");
                    return;
                }
                Err(_) => {
                    tracing::debug!(%peer, "TLS handshake took too long");
                    return;
                }
            }
        }
    };
    if let Err(error) = result {
        // Clients that go away are everyday life.
        tracing::debug!(%peer, %error, "connection ended");
    }
}

async fn talk<S>(
    stream: S,
    (peer, certificate): (std::net::SocketAddr, Option<ClientCertificate>),
    shell: &Arc<Shell>,
    watcher: Watcher,
    http2: bool,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    if !http2 {
        builder = builder.http1_only();
    }
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(shell.read_timeout)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(250)
        .keep_alive_interval(KeepAlive::SERVER.interval)
        .keep_alive_timeout(KeepAlive::SERVER.timeout);
    let service = {
        let shell = Arc::clone(shell);
        hyper::service::service_fn(move |request: Request<Incoming>| {
            let app = shell.app.read().clone();
            let timeout = shell.read_timeout;
            let certificate = certificate.clone();
            async move {
                let mut request = request.map(|body| {
                    if body.is_end_stream() {
                        return Body::empty();
                    }
                    Body::new(Timed {
                        body,
                        timer: Box::pin(tokio::time::sleep(timeout)),
                    })
                });
                request.extensions_mut().insert(ConnectInfo(peer));
                if let Some(certificate) = certificate {
                    request.extensions_mut().insert(certificate);
                }
                app.oneshot(request).await
            }
        })
    };
    let connection = builder.serve_connection(TokioIo::new(Targets::new(stream)), service);
    watcher.watch(connection).await
}

/// A request's body that fails when it has not arrived in time.
struct Timed {
    body: Incoming,
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(frame.map(|f| f.map_err(Into::into))),
            Poll::Pending => match self.timer.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    Poll::Ready(Some(Err("the request's body took too long".into())))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
