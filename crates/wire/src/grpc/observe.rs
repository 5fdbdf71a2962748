//! What happens around every call of the server: counting, and the encoding of messages.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::{Body, Frame, SizeHint};
use metrics::{Counter, Family, Histogram, Registry};
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::BoxError;
use super::listener::Peer;
use super::snappy::{self, Reframed};
use crate::request_log::{self, Grpc};
use crate::trace;

/// The instruments of a server or of the clients of a process, under the names that Thanos' dashboards
/// read.
#[derive(Clone)]
pub struct Meters {
    started: Family<Counter, 3>,
    handled: Family<Counter, 4>,
    seconds: Family<Histogram, 3>,
}

impl Meters {
    /// Those of the channels of a process.
    pub fn of_clients(registry: &Registry) -> Result<Self, metrics::Error> {
        let labels = ["grpc_method", "grpc_service", "grpc_type"];
        Ok(Self {
            started: registry.counters(
                "grpc_client_started_total",
                "Total number of RPCs started on the client.",
                labels,
            )?,
            handled: registry.counters(
                "grpc_client_handled_total",
                "Total number of RPCs completed by the client, regardless of success or failure.",
                ["grpc_code", "grpc_method", "grpc_service", "grpc_type"],
            )?,
            seconds: registry.histograms(
                "grpc_client_handling_seconds",
                "Histogram of response latency (seconds) of the gRPC until it is finished by the application.",
                labels,
                &[0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0],
            )?,
        })
    }

    /// A call to `path` begins.
    fn begin(&self, path: &str) -> Call {
        let names = names(path);
        self.started.with(&[names.1, names.0, names.2]).inc();
        Call {
            meters: self.clone(),
            names,
            start: Instant::now(),
            code: None,
            logged: None,
            span: Span::none(),
        }
    }

    /// Counts a call that another one makes, `span` being its; `answer` is what it waits for.
    pub(super) async fn client<E>(
        &self,
        path: String,
        span: Span,
        answer: impl Future<Output = Result<Response<tonic::body::Body>, E>>,
    ) -> Result<Response<tonic::body::Body>, E> {
        let mut call = self.begin(&path);
        call.span = span;
        match answer.await {
            Ok(response) => {
                call.ends(response.headers());
                Ok(response.map(|body| tonic::body::Body::new(Counted { body, call })))
            }
            Err(e) => {
                call.code = Some("Unavailable");
                Err(e)
            }
        }
    }

    pub(super) fn new(registry: &Registry) -> Result<Self, metrics::Error> {
        let labels = ["grpc_method", "grpc_service", "grpc_type"];
        Ok(Self {
            started: registry.counters(
                "grpc_server_started_total",
                "Total number of RPCs started on the server.",
                labels,
            )?,
            handled: registry.counters(
                "grpc_server_handled_total",
                "Total number of RPCs completed on the server, regardless of success or failure.",
                ["grpc_code", "grpc_method", "grpc_service", "grpc_type"],
            )?,
            seconds: registry.histograms(
                "grpc_server_handling_seconds",
                "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
                labels,
                &[0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0],
            )?,
        })
    }
}

/// Only what is served is counted by name: a stranger must not fill the registry.
const SERVICES: [&str; 12] = [
    "thanos.Store",
    "thanos.WriteableStore",
    "thanos.Rules",
    "thanos.Targets",
    "thanos.Metadata",
    "thanos.Exemplars",
    "thanos.Status",
    "thanos.Query",
    "thanos.info.Info",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

fn names(path: &str) -> (&'static str, &'static str, &'static str) {
    let (service, method) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or_default();
    let service = SERVICES
        .iter()
        .find(|s| **s == service)
        .copied()
        .unwrap_or("unknown");
    let (method, kind) = match method {
        "Series" => ("Series", "server_stream"),
        "LabelNames" => ("LabelNames", "unary"),
        "LabelValues" => ("LabelValues", "unary"),
        "Info" => ("Info", "unary"),
        "RemoteWrite" => ("RemoteWrite", "unary"),
        "Check" => ("Check", "unary"),
        "Watch" => ("Watch", "server_stream"),
        "Rules" => ("Rules", "server_stream"),
        "Targets" => ("Targets", "server_stream"),
        "MetricMetadata" => ("MetricMetadata", "server_stream"),
        "Exemplars" => ("Exemplars", "server_stream"),
        "TSDBStatistics" => ("TSDBStatistics", "server_stream"),
        "Query" => ("Query", "server_stream"),
        "QueryRange" => ("QueryRange", "server_stream"),
        "ServerReflectionInfo" => ("ServerReflectionInfo", "bidi_stream"),
        _ => ("unknown", "unary"),
    };
    (service, method, kind)
}

fn code(status: Option<&http::HeaderValue>) -> &'static str {
    const CODES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    let number = status
        .and_then(|s| s.to_str().ok())
        .and_then(|s| s.parse::<usize>().ok());
    number
        .and_then(|n| CODES.get(n))
        .copied()
        .unwrap_or("Unknown")
}

/// Puts [`Observed`] around a service.
#[derive(Clone)]
pub(super) struct Observe {
    pub(super) meters: Meters,
    /// What is logged of calls.
    pub(super) log: Option<Grpc>,
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed {
            inner,
            meters: self.meters.clone(),
            log: self.log.clone(),
        }
    }
}

#[derive(Clone)]
pub(super) struct Observed<S> {
    inner: S,
    meters: Meters,
    log: Option<Grpc>,
}

/// One call; counted as handled when its last byte was sent, or when nobody wants it any more.
struct Call {
    meters: Meters,
    names: (&'static str, &'static str, &'static str),
    start: Instant,
    code: Option<&'static str>,
    logged: Option<request_log::Call>,
    /// Ends with the call.
    span: Span,
}

/// The span of a call to `path`, that we make (`client`) or answer (`server`).
pub(super) fn span(path: &str, kind: &'static str) -> Span {
    tracing::info_span!(
        "call",
        otel.name = path,
        otel.kind = kind,
        otel.status_code = Empty,
        rpc.system = "grpc",
        rpc.grpc.status_code = Empty,
        server.address = Empty,
    )
}

impl Call {
    fn ends(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code = Some(code(Some(status)));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let (service, method, kind) = self.names;
        let code = self.code.unwrap_or("Canceled");
        self.span.record("rpc.grpc.status_code", code);
        if code != "OK" {
            self.span.record("otel.status_code", "ERROR");
        }
        self.meters
            .handled
            .with(&[code, method, service, kind])
            .inc();
        let seconds = self.meters.seconds.with(&[method, service, kind]);
        seconds.observe_duration(self.start.elapsed());
        if let Some(logged) = self.logged.take() {
            logged.ends(code);
        }
    }
}

impl<S, B> Service<Request<tonic::body::Body>> for Observed<S>
where
    S: Service<Request<tonic::body::Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<tonic::body::Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<tonic::body::Body>) -> Self::Future {
        let mut call = self.meters.begin(request.uri().path());
        if let Some(log) = &self.log {
            let peer = request.extensions().get::<Peer>().and_then(|p| p.address);
            let peer = peer.map_or_else(String::new, |peer| peer.to_string());
            call.logged = log.begins(request.uri().path(), call.names.2, peer);
        }
        call.span = span(request.uri().path(), "server");
        trace::adopt(&call.span, request.headers());
        // As Go's server does it: who sends snappy gets snappy.
        let packed = snappy::take(request.headers_mut());
        let request = match packed {
            true => request.map(|body| snappy::boxed(Reframed::decompress(body, true))),
            false => request,
        };
        let answer = {
            let _entered = call.span.enter();
            self.inner.call(request)
        };
        let answer = answer.instrument(call.span.clone());
        Box::pin(async move {
            let mut response = answer.await?;
            call.ends(response.headers());
            if packed {
                snappy::announce(response.headers_mut());
            }
            Ok(response.map(|body| {
                let counted = Counted { body, call };
                match packed {
                    true => snappy::boxed(Reframed::compress(counted, true)),
                    false => snappy::boxed(Reframed::same(counted)),
                }
            }))
        })
    }
}

struct Counted<B> {
    body: B,
    call: Call,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call.ends(trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
