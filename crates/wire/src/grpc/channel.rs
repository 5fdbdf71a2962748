//! Calling others.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::transport::Endpoint;
use tower::Service;

use super::BoxError;
use super::observe::{self, Meters};
use super::snappy::{self, Reframed};
use crate::client::{ClientError, TlsSettings, client_tls};
use crate::trace;

/// How it is noticed that nobody is at the other end any more, though the connection was not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// After so long without a word the other end is asked for one.
    pub interval: Duration,
    /// If none comes within this time, the connection is given up.
    pub timeout: Duration,
}

impl KeepAlive {
    /// What Thanos' clients do. They, and channels, ask only while a call is in flight: servers of Go's gRPC take other
    /// questions for an attack.
    pub const CLIENT: Self = Self {
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(5),
    };
    /// What servers do, with calls and without.
    pub const SERVER: Self = Self {
        interval: Duration::from_secs(30),
        timeout: Duration::from_secs(20),
    };
}

/// How an endpoint is called.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelSettings {
    /// TLS; none: plain text.
    pub tls: Option<TlsSettings>,
    /// Compress messages with snappy.
    pub snappy: bool,
    /// When a connection is given up.
    pub keep_alive: KeepAlive,
}

impl Default for ChannelSettings {
    fn default() -> Self {
        Self {
            tls: None,
            snappy: false,
            keep_alive: KeepAlive::CLIENT,
        }
    }
}

/// A connection to one endpoint, made when it is first used and again when it was lost. Clones
/// share it.
#[derive(Clone)]
pub struct Channel {
    inner: tonic::transport::Channel,
    snappy: bool,
    meters: Option<Meters>,
    /// Where it leads, for spans.
    address: Arc<str>,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Channel {
    /// A channel to `host:port`. Must be called within a tokio runtime.
    pub fn new(address: &str, settings: &ChannelSettings) -> Result<Self, ClientError> {
        let wrong =
            |e: &dyn std::fmt::Display| ClientError::Invalid(format!("endpoint {address:?}: {e}"));
        // TLS is our connector's affair; tonic must not look for its own.
        let mut endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|e| wrong(&e))?
            .user_agent(concat!("Epimetheus/", env!("CARGO_PKG_VERSION")))
            .map_err(|e| wrong(&e))?
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(settings.keep_alive.interval)
            .keep_alive_timeout(settings.keep_alive.timeout)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(16 << 20);
        if endpoint.uri().port_u16().is_none() {
            return Err(wrong(&"missing port in address"));
        }
        let tls = match &settings.tls {
            None => None,
            Some(tls) => {
                let mut config = client_tls(tls, true)?;
                config.alpn_protocols = vec![b"h2".to_vec()];
                let origin: Uri = format!("https://{address}")
                    .parse()
                    .map_err(|e| wrong(&e))?;
                endpoint = endpoint.origin(origin);
                Some(Arc::new(config))
            }
        };
        let connector = tower::service_fn(move |uri: Uri| {
            let tls = tls.clone();
            async move { connect(uri, tls).await.map(TokioIo::new) }
        });
        Ok(Self {
            inner: endpoint.connect_with_connector_lazy(connector),
            snappy: settings.snappy,
            meters: None,
            address: address.into(),
        })
    }

    /// The bare connection: calls go out as they are, and nothing counts them.
    pub fn bare(self) -> tonic::transport::Channel {
        self.inner
    }

    /// The same channel, its calls counted.
    pub fn counted(mut self, meters: &Meters) -> Self {
        self.meters = Some(meters.clone());
        self
    }
}

async fn connect(
    uri: Uri,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> Result<Box<dyn Io>, BoxError> {
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, uri.port_u16().unwrap_or(443))).await?;
    let _ = stream.set_nodelay(true);
    match tls {
        None => Ok(Box::new(stream)),
        Some(config) => {
            let name = ServerName::try_from(bare.to_owned())?;
            let stream = tokio_rustls::TlsConnector::from(config)
                .connect(name, stream)
                .await?;
            Ok(Box::new(stream))
        }
    }
}

impl Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<tonic::body::Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<tonic::body::Body>) -> Self::Future {
        if self.snappy {
            snappy::announce(request.headers_mut());
            request = request.map(|body| snappy::boxed(Reframed::compress(body, true)));
        } else {
            snappy::accept(request.headers_mut());
        }
        let path = request.uri().path().to_owned();
        // Only what is done for somebody is a part of a trace: not that we look who is there.
        let span = match tracing::Span::current().is_disabled() {
            true => tracing::Span::none(),
            false => observe::span(&path, "client"),
        };
        span.record("server.address", &*self.address);
        trace::tell(&span, request.headers_mut());
        let answer = self.inner.call(request);
        let meters = self.meters.clone();
        Box::pin(async move {
            let mut response = match meters {
                Some(meters) => meters.client(path, span, answer).await?,
                None => answer.await?,
            };
            let packed = snappy::take(response.headers_mut());
            Ok(match packed {
                true => response.map(|body| snappy::boxed(Reframed::decompress(body, true))),
                false => response,
            })
        })
    }
}
