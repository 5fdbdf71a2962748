//! What happens around every request: counting, compression, the body limit, and panics that
//! end one request instead of the process.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use metrics::{Counter, Family, Histogram, Registry};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate as _};
use tower_http::limit::RequestBodyLimitLayer;

/// The instruments of a server, under Prometheus' names.
#[derive(Clone)]
pub(super) struct HttpMetrics {
    requests: Family<Counter, 2>,
    seconds: Family<Histogram, 1>,
    bytes: Family<Histogram, 1>,
    panics: Counter,
    accepted: Counter,
    closed: Counter,
}

impl HttpMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, metrics::Error> {
        Ok(Self {
            requests: registry.counters(
                "prometheus_http_requests_total",
                "Counter of HTTP requests.",
                ["handler", "code"],
            )?,
            seconds: registry.histograms(
                "prometheus_http_request_duration_seconds",
                "Histogram of latencies for HTTP requests.",
                ["handler"],
                &[0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0],
            )?,
            bytes: registry.histograms(
                "prometheus_http_response_size_bytes",
                "Histogram of response size for HTTP requests.",
                ["handler"],
                &metrics::exponential_buckets(100.0, 10.0, 8),
            )?,
            panics: registry.counter(
                "epimetheus_http_panics_total",
                "HTTP requests that ended in a panic, which is a defect.",
            )?,
            accepted: registry
                .counters(
                    "net_conntrack_listener_conn_accepted_total",
                    "Total number of connections opened to the listener of a given name.",
                    ["listener_name"],
                )?
                .with(&["http"]),
            closed: registry
                .counters(
                    "net_conntrack_listener_conn_closed_total",
                    "Total number of connections closed that were made to the listener of a given name.",
                    ["listener_name"],
                )?
                .with(&["http"]),
        })
    }

    /// Counts a connection, and its end when the answer is dropped.
    pub(super) fn connection(&self) -> Connection {
        self.accepted.inc();
        Connection(self.closed.clone())
    }
}

pub(super) struct Connection(Counter);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.inc();
    }
}

/// Puts counting, panic isolation, the body limit and compression in front of every route.
pub(super) fn wrap(app: Router, metrics: HttpMetrics, body_limit: usize) -> Router {
    let panics = metrics.panics.clone();
    // Chunks of a remote read hold nothing that gzip could leave out, and wait for nobody.
    let worth = DefaultPredicate::new().and(NotForContentType::const_new(
        "application/x-streamed-protobuf",
    ));
    let compression = CompressionLayer::new().quality(CompressionLevel::Fastest);
    app.layer(compression.compress_when(worth))
        .layer(RequestBodyLimitLayer::new(body_limit))
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(move |request, next| {
            catch(panics.clone(), request, next)
        }))
        .layer(from_fn_with_state(metrics, count))
}

async fn catch(panics: Counter, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            panics.inc();
            let message = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message");
            tracing::error!(path, panic = message, "a request ended in a panic");
            (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n").into_response()
        }
    }
}

async fn count(State(metrics): State<HttpMetrics>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let handler = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| handler_name(path.as_str()).into_owned())
        .unwrap_or_else(|| "unmatched".to_owned());
    let response = next.run(request).await;
    let code = response.status();
    metrics.requests.with(&[&handler, code.as_str()]).inc();
    let finish = Finish {
        start,
        sent: 0,
        seconds: metrics.seconds.with(&[&handler]),
        bytes: metrics.bytes.with(&[&handler]),
    };
    response.map(|body| Body::new(Counted { body, finish }))
}

/// A route as Prometheus writes it: `:name` and `*path` where axum has braces.
fn handler_name(path: &str) -> Cow<'_, str> {
    if !path.contains('{') {
        return Cow::Borrowed(path);
    }
    Cow::Owned(path.replace("{*", "*").replace('{', ":").replace('}', ""))
}

/// Observes duration and size when the response has been sent or given up.
struct Finish {
    start: Instant,
    sent: u64,
    seconds: Histogram,
    bytes: Histogram,
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.seconds.observe_duration(self.start.elapsed());
        self.bytes.observe(self.sent as f64);
    }
}

struct Counted {
    body: Body,
    finish: Finish,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = self.body.frame().poll_unpin(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.finish.sent += data.len() as u64;
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

#[cfg(test)]
mod tests {
    #[test]
    fn handlers_read_as_in_prometheus() {
        let name = super::handler_name;
        assert_eq!(name("/metrics"), "/metrics");
        assert_eq!(
            name("/api/v1/label/{name}/values"),
            "/api/v1/label/:name/values"
        );
        assert_eq!(name("/assets/{*path}"), "/assets/*path");
    }
}
