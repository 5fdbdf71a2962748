//! Remote read: samples, or the chunks themselves in a stream of frames.
//!
//! What Prometheus does (`storage/remote/read_handler.go`): matchers on external labels are taken
//! out where they match ours, and external labels are added to the series that have none of their
//! own. A client that accepts streamed chunks gets frames of at most so many bytes, each of one
//! series; Thanos' sidecar is one.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use chunk::samples::{Samples, Value};
use futures_util::StreamExt as _;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use model::source::Aggregate;
use model::{
    Encoding, Hints, Labels, MatchOp, Matcher, Order, Rows, Scope, Select, SeriesBatch,
    SourceError, TimeRange, View,
};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use wire::proto::prometheus as pb;
use wire::proto::prometheus::read_request::ResponseType;
use wire::put;

use super::Api;
use crate::rows::Sorted;

/// Largest request, bytes.
const MAX_REQUEST: usize = 32 << 20;
/// Frames that wait for the client.
const WAITING: usize = 4;

/// Limits of remote read (`--storage.remote.read-*`).
#[derive(Clone)]
pub struct ReadLimits {
    /// Most samples of an answer that is no stream; 0 for no limit.
    pub samples: u64,
    /// How many requests are answered at the same time.
    pub concurrent: Arc<Semaphore>,
    /// Most bytes of chunks in a frame.
    pub frame_bytes: usize,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            samples: 50_000_000,
            concurrent: Arc::new(Semaphore::new(10)),
            frame_bytes: 1 << 20,
        }
    }
}

/// An answer in plain text, as Go's `http.Error` writes it.
struct Failed(StatusCode, String);

impl From<SourceError> for Failed {
    fn from(e: SourceError) -> Self {
        let status = match e.kind {
            model::Kind::Invalid | model::Kind::Limit => StatusCode::BAD_REQUEST,
            model::Kind::Unavailable | model::Kind::Timeout => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, e.message)
    }
}

pub(super) async fn read(State(api): State<Api>, body: Body) -> Response {
    match answer(&api, body).await {
        Ok(response) => response,
        Err(Failed(status, text)) => (status, format!("{text}\n")).into_response(),
    }
}

async fn answer(api: &Api, body: Body) -> Result<Response, Failed> {
    let bad = |text: String| Failed(StatusCode::BAD_REQUEST, text);
    let body = Limited::new(body, MAX_REQUEST)
        .collect()
        .await
        .map_err(|e| bad(format!("reading the request: {e}")))?
        .to_bytes();
    let request: pb::ReadRequest = wire::remote::decode(&body, MAX_REQUEST).map_err(bad)?;
    let source = api.local.as_ref().or(api.source.as_ref()).ok_or_else(|| {
        let text = "remote read is not served by this process".to_owned();
        Failed(StatusCode::NOT_FOUND, text)
    })?;
    let asked = api.counters.reads.in_flight();
    let permit = Arc::clone(&api.read.concurrent).acquire_owned().await;
    let ours = (api.external_labels)();
    let mut range = TimeRange::EMPTY;
    let mut queries = Vec::with_capacity(request.queries.len());
    for query in &request.queries {
        let wanted = TimeRange::new(query.start_timestamp_ms, query.end_timestamp_ms);
        range = range.union(wanted);
        let matchers = wire::convert::from_remote_matchers(&query.matchers)
            .map_err(|e| bad(e.to_string()))?
            .into_iter()
            .filter(|m| !is_ours(m, &ours))
            .collect();
        queries.push(Select {
            order: Order::ByLabels {
                without: Vec::new(),
            },
            hints: Hints {
                func: query.hints.as_ref().map(|h| h.func.as_str().into()),
                ..Hints::default()
            },
            ..Select::new(matchers, wanted)
        });
    }
    let budget = api.budget.child("one remote read", api.budget.limit());
    let scope = Arc::new(Scope::new(range, budget).with_timeout(api.timeout));
    let view = source.open(Arc::clone(&scope))?;
    let work = Work {
        view,
        scope,
        queries,
        ours,
        limits: api.read.clone(),
        runtime: Handle::current(),
    };
    let accepted = &request.accepted_response_types;
    let first = accepted
        .iter()
        .find_map(|t| ResponseType::try_from(*t).ok());
    if first == Some(ResponseType::StreamedXorChunks) {
        let (send, receive) = mpsc::channel::<Result<Bytes, std::io::Error>>(WAITING);
        tokio::task::spawn_blocking(move || {
            let (_permit, _asked) = (permit, asked);
            let _guard = work.scope.cancel.clone().on_drop();
            if let Err(Failed(_, text)) = work.stream(&send) {
                tracing::error!(error = text, "a remote read was broken off");
                let _ = send.blocking_send(Err(std::io::Error::other(text)));
            }
        });
        let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
        let stream = futures_util::stream::unfold(receive, |mut receive| async {
            receive.recv().await.map(|frame| (frame, receive))
        });
        // Compression asks once more after the end.
        let body = Body::from_stream(stream.fuse());
        return Ok(([(header::CONTENT_TYPE, kind)], body).into_response());
    }
    let body = tokio::task::spawn_blocking(move || {
        let (_permit, _asked) = (permit, asked);
        work.samples()
    })
    .await
    .map_err(|e| Failed(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))??;
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        ),
        (header::CONTENT_ENCODING, HeaderValue::from_static("snappy")),
    ];
    Ok((headers, body).into_response())
}

/// Whether a matcher only says what our external labels say.
fn is_ours(matcher: &Matcher, ours: &Labels) -> bool {
    matcher.op == MatchOp::Equal && ours.get(&matcher.name) == Some(&*matcher.value)
}

struct Work {
    view: Box<dyn View>,
    scope: Arc<Scope>,
    queries: Vec<Select>,
    ours: Labels,
    limits: ReadLimits,
    runtime: Handle,
}

impl Work {
    fn rows(&self, select: &Select) -> Result<Sorted<'_>, SourceError> {
        let rows: Rows = self.view.select(select.clone());
        Sorted::new(vec![rows], &self.scope.symbols, self.runtime.clone())
    }

    /// Sends frames until all is sent or nobody listens.
    fn stream(&self, send: &mpsc::Sender<Result<Bytes, std::io::Error>>) -> Result<(), Failed> {
        for (index, select) in self.queries.iter().enumerate() {
            let mut rows = self.rows(select)?;
            let mut gone = false;
            let more = |labels: &Labels, found: &[(&SeriesBatch, usize)]| -> Result<(), Failed> {
                self.scope.check().map_err(SourceError::from)?;
                let mut frame = Frame::new(&self.ours.overlay(labels), index);
                for (batch, i) in found {
                    for chunk in batch.chunks_of(*i) {
                        let (range, bytes) = (select.range, batch.bytes_of(chunk));
                        if chunk.max < range.min || chunk.min > range.max {
                            continue;
                        }
                        let known = [
                            Encoding::XOR,
                            Encoding::HISTOGRAM,
                            Encoding::FLOAT_HISTOGRAM,
                        ];
                        if known.contains(&chunk.encoding) && chunk.aggregate == Aggregate::Raw {
                            frame.chunk(chunk.min, chunk.max, chunk.encoding, bytes);
                        } else {
                            recode(&mut frame, chunk.encoding, bytes)?;
                        }
                        if frame.chunk_bytes >= self.limits.frame_bytes {
                            gone |= send.blocking_send(Ok(frame.take())).is_err();
                        }
                    }
                }
                if frame.chunk_bytes > 0 {
                    gone |= send.blocking_send(Ok(frame.take())).is_err();
                }
                Ok(())
            };
            let mut more = more;
            while rows.next(&mut more)? {
                if send.is_closed() {
                    return Ok(());
                }
            }
            if gone {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The whole answer, compressed.
    fn samples(&self) -> Result<Vec<u8>, Failed> {
        let mut out = Vec::new();
        let mut left = match self.limits.samples {
            0 => u64::MAX,
            limit => limit,
        };
        let limit = self.limits.samples;
        let mut held = self
            .scope
            .budget
            .reserve("a remote read", 0)
            .map_err(SourceError::from)?;
        for select in &self.queries {
            let mut rows = self.rows(select)?;
            let mut result = Vec::new();
            let mut more =
                |labels: &Labels, found: &[(&SeriesBatch, usize)]| -> Result<(), Failed> {
                    self.scope.check().map_err(SourceError::from)?;
                    let mut samples = Samples::default();
                    for (batch, i) in found {
                        for chunk in batch.chunks_of(*i) {
                            samples
                                .add(chunk.encoding, batch.bytes_of(chunk))
                                .map_err(SourceError::from)?;
                        }
                    }
                    samples.retain(|ts| select.range.contains(ts));
                    if samples.is_empty() {
                        return Ok(());
                    }
                    let count = samples.as_slice().len() as u64;
                    left = left.checked_sub(count).ok_or_else(|| {
                        Failed(
                            StatusCode::BAD_REQUEST,
                            format!("exceeded sample limit ({limit})"),
                        )
                    })?;
                    put::nested(&mut result, 1, |out| {
                        put_labels(out, &self.ours.overlay(labels));
                        put_samples(out, &samples);
                    });
                    held.resize("a remote read", result.len() as u64)
                        .map_err(SourceError::from)?;
                    Ok(())
                };
            while rows.next(&mut more)? {}
            put::bytes(&mut out, 1, &result);
        }
        snap::raw::Encoder::new()
            .compress_vec(&out)
            .map_err(|e| Failed(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
    }
}

fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    for (name, value) in labels {
        put::nested(out, 1, |out| {
            put::bytes(out, 1, name.as_bytes());
            put::bytes(out, 2, value.as_bytes());
        });
    }
}

fn put_samples(out: &mut Vec<u8>, samples: &Samples) {
    for sample in samples.as_slice() {
        match &sample.value {
            Value::Float(value) => put::nested(out, 2, |out| {
                put::double(out, 1, *value);
                put::number(out, 2, sample.ts as u64);
            }),
            Value::Histogram(h) => {
                put::nested(out, 4, |out| wire::histogram::write(out, sample.ts, 0, h));
            }
        }
    }
}

/// Chunks that remote read has no name for are written again in ones that it has.
fn recode(frame: &mut Frame, encoding: Encoding, bytes: &[u8]) -> Result<(), SourceError> {
    let mut samples = Samples::default();
    samples.add(encoding, bytes)?;
    let mut chunker = chunk::Chunker::default();
    for sample in samples.as_slice() {
        match &sample.value {
            Value::Float(value) => chunker.float(sample.ts, 0, *value),
            Value::Histogram(h) => chunker.histogram(&chunk::HistogramRow {
                ts: sample.ts,
                start: 0,
                value: (**h).clone(),
            })?,
        }
    }
    for chunk in chunker.finish() {
        frame.chunk(
            chunk.range.min,
            chunk.range.max,
            chunk.encoding,
            &chunk.data,
        );
    }
    Ok(())
}

/// A frame of a stream: `uvarint length | u32 CRC32C, big-endian | ChunkedReadResponse`.
struct Frame {
    labels: Vec<u8>,
    chunks: Vec<u8>,
    chunk_bytes: usize,
    index: usize,
}

impl Frame {
    fn new(labels: &Labels, index: usize) -> Self {
        let mut bytes = Vec::with_capacity(256);
        put_labels(&mut bytes, labels);
        Self {
            labels: bytes,
            chunks: Vec::new(),
            chunk_bytes: 0,
            index,
        }
    }

    fn chunk(&mut self, min: i64, max: i64, encoding: Encoding, bytes: &[u8]) {
        self.chunk_bytes += bytes.len();
        put::nested(&mut self.chunks, 2, |out| {
            put::number(out, 1, min as u64);
            put::number(out, 2, max as u64);
            put::number(out, 3, u64::from(encoding.0));
            put::bytes(out, 4, bytes);
        });
    }

    /// The frame as it stands; the next one is of the same series.
    fn take(&mut self) -> Bytes {
        let mut message = Vec::with_capacity(self.labels.len() + self.chunks.len() + 16);
        put::nested(&mut message, 1, |out| {
            out.extend_from_slice(&self.labels);
            out.extend_from_slice(&self.chunks);
        });
        put::number(&mut message, 2, self.index as u64);
        self.chunks.clear();
        self.chunk_bytes = 0;
        let mut frame = Vec::with_capacity(message.len() + 9);
        put::varint(&mut frame, message.len() as u64);
        frame.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
        frame.extend_from_slice(&message);
        frame.into()
    }
}
