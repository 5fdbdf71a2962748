//! What happens around every request: counting, compression, the body limit, and panics that
//! end one request instead of the process.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use metrics::{Counter, Registry};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate as _};
use tower_http::limit::RequestBodyLimitLayer;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::{request_log, trace};

mod requests;

use requests::{Finish, Requests};

/// As whose requests are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// `prometheus_http_requests_total` and its kin, by route.
    #[default]
    Prometheus,
    /// `http_requests_total` and its kin, by Thanos' names of handlers.
    Thanos {
        /// The handler of everything that is passed on, for a proxy.
        proxy: Option<&'static str>,
    },
}

/// The instruments of a server.
#[derive(Clone)]
pub(super) struct HttpMetrics {
    requests: Requests,
    panics: Counter,
    accepted: Counter,
    closed: Counter,
}

impl HttpMetrics {
    pub(super) fn new(names: Names, registry: &Registry) -> Result<Self, metrics::Error> {
        Ok(Self {
            requests: Requests::new(names, registry)?,
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

/// Puts counting, logging, panic isolation, the body limit and compression in front of every route.
pub(super) fn wrap(
    app: Router,
    metrics: HttpMetrics,
    body_limit: usize,
    log: Option<request_log::Http>,
) -> Router {
    let panics = metrics.panics.clone();
    // Chunks of a remote read hold nothing that gzip could leave out, and wait for nobody.
    let worth = DefaultPredicate::new().and(NotForContentType::const_new(
        "application/x-streamed-protobuf",
    ));
    let compression = CompressionLayer::new().quality(CompressionLevel::Fastest);
    let app = app
        .layer(compression.compress_when(worth))
        .layer(RequestBodyLimitLayer::new(body_limit))
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(move |request, next| {
            catch(panics.clone(), request, next)
        }));
    let app = match log {
        None => app,
        Some(log) => {
            let requests = metrics.requests.clone();
            app.layer(from_fn(move |request: Request, next| {
                let handler = requests.handler(&request);
                log.clone().around(handler, request, next)
            }))
        }
    };
    app.layer(from_fn_with_state(metrics, count))
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
    let begun = metrics.requests.begin(&request);
    let span = tracing::info_span!(
        "request",
        otel.name = metrics.requests.span_name(&request),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = request.method().as_str(),
        // Nothing behind it: what is asked for stands in the spans of the query.
        url.path = request.uri().path(),
        http.response.status_code = Empty,
        thanos.force_tracing = trace::forced(request.headers()),
    );
    trace::adopt(&span, request.headers());
    let mut response = next.run(request).instrument(span.clone()).await;
    if let Some(ids) = trace::ids(&span).filter(|ids| ids.sampled) {
        let status = response.status();
        span.record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            span.record("otel.status_code", "ERROR");
        }
        if let (true, Ok(id)) = (metrics.requests.tells_trace(), ids.trace.try_into()) {
            response.headers_mut().insert(trace::TRACE_ID, id);
        }
    }
    let finish = begun.answered(response.status());
    response.map(|body| {
        Body::new(Counted {
            body,
            finish,
            _span: span,
        })
    })
}

struct Counted {
    body: Body,
    finish: Finish,
    /// Ends when the last byte was sent.
    _span: Span,
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
            self.finish.sends(data.len());
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
