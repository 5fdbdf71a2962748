//! The receiving end of remote write and OTLP.
//!
//! Media types, status codes, headers and texts are Prometheus' (`storage/remote/write_handler.go`,
//! `write_otlp_handler.go`): 1.x is taken as a whole or not at all; of 2.0 and OTLP what can be
//! taken is, and the rest is named.

mod keys;
mod negotiate;
mod otlp;
mod v1;
mod v2;
mod write;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use metrics::{Counter, Registry};
use model::Sink;
use model::time::{Clock, WallClock};
use tokio::runtime::Handle;
use wire::Turns;

use keys::Keys;
pub use negotiate::Message;
pub use otlp::{OtlpSettings, Strategy};

/// What a receiver takes.
#[derive(Clone)]
pub struct Options {
    /// Which remote write messages are taken; none: remote write is off.
    pub accepted: Vec<Message>,
    /// Whether metadata of remote write 2.0 goes to the sink.
    pub metadata: bool,
    /// Largest request, bytes, compressed and not.
    pub max_bytes: usize,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            accepted: Vec::new(),
            metadata: false,
            max_bytes: 256 << 20,
            clock: Arc::new(WallClock),
        }
    }
}

/// Takes pushed samples into a sink; clones share all.
#[derive(Clone)]
pub struct Receiver(Arc<Inner>);

struct Inner {
    sink: Arc<dyn Sink>,
    options: Options,
    keys: Keys,
    otlp: ArcSwap<OtlpSettings>,
    /// How many requests are decoded at the same time.
    workers: Turns,
    counters: Counters,
}

struct Counters {
    invalid_labels: Counter,
    /// As in Prometheus, whatever was wrong with them.
    otlp_exemplars_refused: Counter,
}

/// Why a request is not answered with success.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    message: String,
}

impl Refused {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::error!(error = %self.message, "a remote write request failed");
        } else {
            tracing::debug!(error = %self.message, "a remote write request was refused");
        }
        let kind = [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        (self.status, kind, format!("{}\n", self.message)).into_response()
    }
}

impl Receiver {
    /// A receiver in front of `sink`.
    pub fn new(
        sink: Arc<dyn Sink>,
        options: Options,
        registry: &Registry,
    ) -> Result<Self, metrics::Error> {
        Ok(Self(Arc::new(Inner {
            sink,
            options,
            keys: Keys::default(),
            otlp: ArcSwap::default(),
            workers: Turns::new(0),
            counters: Counters {
                invalid_labels: registry.counter(
                    "prometheus_api_remote_write_invalid_labels_samples_total",
                    "The total number of received remote write samples and histogram samples which were rejected due to invalid labels.",
                )?,
                otlp_exemplars_refused: registry.counter(
                    "prometheus_api_otlp_out_of_order_exemplars_total",
                    "The total number of received OTLP exemplars which were rejected because they were out of order.",
                )?,
            },
        })))
    }

    /// `/write`, to stand below `/api/v1`.
    pub fn remote_write(&self) -> Router {
        Router::new()
            .route("/write", post(write_request))
            .with_state(self.clone())
    }

    /// `/otlp/v1/metrics`, to stand below `/api/v1`.
    pub fn otlp(&self) -> Router {
        Router::new()
            .route("/otlp/v1/metrics", post(otlp::request))
            .with_state(self.clone())
    }

    /// Takes OTLP as `settings` say from now on.
    pub fn set_otlp(&self, settings: OtlpSettings) {
        self.0.otlp.store(Arc::new(settings));
    }

    /// Waits for a processor, then runs `work` on a thread that may be held.
    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let inner = Arc::clone(&self.0);
        let runtime = Handle::current();
        let done = self.0.workers.run(&runtime, move || work(&inner));
        done.await.map_err(|e| {
            Refused::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("internal error: {e}"),
            )
        })
    }
}

async fn write_request(State(receiver): State<Receiver>, request: Request) -> Response {
    match receiver.write(request).await {
        Ok(response) => response,
        Err(refused) => refused.into_response(),
    }
}

impl Receiver {
    async fn write(&self, request: Request) -> Result<Response, Refused> {
        let message = negotiate::message(request.headers(), &self.0.options.accepted)?;
        let body = self.body(request.into_body()).await?;
        let (taken, refused) = self
            .on_thread(move |inner| {
                let plain = match inner.unsnap(&body) {
                    Ok(plain) => plain,
                    Err(refused) => return (write::Taken::default(), Some(refused)),
                };
                drop(body);
                match message {
                    Message::V1 => inner.write_v1(&plain),
                    Message::V2 => inner.write_v2(&plain),
                }
            })
            .await?;
        let mut response = match refused {
            None => StatusCode::NO_CONTENT.into_response(),
            Some(refused) => refused.into_response(),
        };
        if message == Message::V2 {
            for (name, count) in [
                ("samples", taken.samples),
                ("histograms", taken.histograms),
                ("exemplars", taken.exemplars),
            ] {
                let name = format!("x-prometheus-remote-write-{name}-written");
                if let Ok(name) = HeaderName::try_from(name) {
                    response
                        .headers_mut()
                        .insert(name, HeaderValue::from(count));
                }
            }
        }
        Ok(response)
    }

    async fn body(&self, body: Body) -> Result<bytes::Bytes, Refused> {
        let limit = self.0.options.max_bytes;
        match http_body_util::Limited::new(body, limit).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(e) if e.is::<http_body_util::LengthLimitError>() => Err(Refused::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request has more than {limit} bytes"),
            )),
            Err(e) => Err(Refused::bad(format!("reading the request: {e}"))),
        }
    }
}

impl Inner {
    fn unsnap(&self, body: &[u8]) -> Result<Vec<u8>, Refused> {
        let len = snap::raw::decompress_len(body)
            .map_err(|e| Refused::bad(format!("decompressing the request: {e}")))?;
        if len > self.options.max_bytes {
            return Err(Refused::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!(
                    "the request has {len} bytes, more than {} are not taken",
                    self.options.max_bytes
                ),
            ));
        }
        snap::raw::Decoder::new()
            .decompress_vec(body)
            .map_err(|e| Refused::bad(format!("decompressing the request: {e}")))
    }
}
