//! A real Prometheus as a source: its remote read, its label endpoints, its status.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::StreamExt as _;
use model::source::Aggregate;
use model::{
    Answer, BoxFuture, Capabilities, ChunkRef, Encoding, Extent, Kind, LabelSelect, Labels,
    Matcher, Millis, Rows, Scope, Select, SeriesBatch, Source, SourceError, Str, TimeRange, View,
};
use parking_lot::RwLock;
use prost::Message as _;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;
use tracing::Instrument as _;
use wire::client::HttpClient;
use wire::convert;
use wire::proto::prometheus as pb;
use wire::proto::prometheus::read_request::ResponseType;

use crate::remote::Collected;
use crate::stream_of;

/// No frame of a streamed answer may be larger, bytes.
const MAX_FRAME: usize = 256 << 20;
/// No other answer may be larger, bytes.
const MAX_ANSWER: usize = 1 << 30;
/// A Prometheus, asked over HTTP.
pub struct Prometheus {
    client: HttpClient,
    /// Its URL, without a slash at the end.
    url: String,
    labels: RwLock<Labels>,
    /// Only samples from here on are answered for, ms.
    min_time: Millis,
    runtime: Handle,
}

/// What a Prometheus was started with, as far as a sidecar must know.
#[derive(Clone, Debug, Default)]
pub struct PrometheusFlags {
    /// `storage.tsdb.path`, as it was given.
    pub tsdb_path: String,
    /// `storage.tsdb.min-block-duration`.
    pub min_block: String,
    /// `storage.tsdb.max-block-duration`.
    pub max_block: String,
}

fn unavailable(e: impl std::fmt::Display) -> SourceError {
    SourceError::new(Kind::Unavailable, e.to_string())
}

#[derive(Deserialize)]
struct Envelope<T> {
    status: String,
    data: Option<T>,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
}

impl Prometheus {
    /// The Prometheus at `url`.
    pub fn new(client: HttpClient, url: &str, min_time: Millis, runtime: Handle) -> Self {
        Self {
            client,
            url: url.trim_end_matches('/').to_owned(),
            labels: RwLock::default(),
            min_time,
            runtime,
        }
    }

    /// Where its connections live.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Its external labels as they were read last.
    pub fn labels(&self) -> Labels {
        self.labels.read().clone()
    }

    /// Reads its external labels anew.
    pub async fn read_labels(&self) -> Result<Labels, SourceError> {
        #[derive(Deserialize)]
        struct Config {
            yaml: String,
        }
        #[derive(Deserialize, Default)]
        struct File {
            #[serde(default)]
            global: Option<Global>,
        }
        #[derive(Deserialize, Default)]
        struct Global {
            #[serde(default)]
            external_labels: Option<std::collections::BTreeMap<String, String>>,
        }
        let config: Config = self.get("/api/v1/status/config", &[]).await?.0;
        let file: File = wire::yaml(&config.yaml).map_err(unavailable)?;
        let labels = file
            .global
            .and_then(|g| g.external_labels)
            .unwrap_or_default();
        let labels = Labels::from_pairs(labels);
        *self.labels.write() = labels.clone();
        Ok(labels)
    }

    /// Whether it says that it is ready.
    pub async fn is_ready(&self) -> Result<(), SourceError> {
        let request = self
            .client
            .get(&format!("{}/-/ready", self.url))
            .map_err(unavailable)?;
        let answer = self.client.send(request).await.map_err(unavailable)?;
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(unavailable(format!(
                "Prometheus is not ready: {}",
                answer.status()
            ))),
        }
    }

    /// Its flags, as far as they matter here.
    pub async fn flags(&self) -> Result<PrometheusFlags, SourceError> {
        let flags: std::collections::BTreeMap<String, String> =
            self.get("/api/v1/status/flags", &[]).await?.0;
        let flag = |name: &str| flags.get(name).cloned().unwrap_or_default();
        Ok(PrometheusFlags {
            tsdb_path: flag("storage.tsdb.path"),
            min_block: flag("storage.tsdb.min-block-duration"),
            max_block: flag("storage.tsdb.max-block-duration"),
        })
    }

    pub(crate) async fn get<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        params: &[(&str, String)],
    ) -> Result<(T, Vec<String>), SourceError> {
        let mut request = self
            .client
            .get(&format!("{}{path}", self.url))
            .map_err(unavailable)?;
        if !params.is_empty() {
            request.url_mut().query_pairs_mut().extend_pairs(params);
        }
        let answer = self.client.send(request).await.map_err(unavailable)?;
        let status = answer.status();
        let body = wire::client::body(answer, MAX_ANSWER)
            .await
            .map_err(unavailable)?;
        let envelope: Envelope<T> = serde_json::from_slice(&body)
            .map_err(|e| unavailable(format!("Prometheus answered {status} to {path}: {e}")))?;
        match envelope.data {
            Some(data) if envelope.status == "success" => Ok((data, envelope.warnings)),
            _ => {
                let kind = if status.as_u16() == 400 {
                    Kind::Invalid
                } else {
                    Kind::Unavailable
                };
                Err(SourceError::new(
                    kind,
                    format!("Prometheus: {}", envelope.error),
                ))
            }
        }
    }
}

/// Seconds with three decimals, as the API reads times; far ends are left out.
pub(crate) fn seconds(name: &'static str, ms: Millis) -> Option<(&'static str, String)> {
    // Beyond the year 9999 (or before the year 1) Prometheus does not read it.
    const FAR: Millis = 253_402_300_799_000;
    (ms > -62_135_596_800_000 && ms < FAR).then(|| {
        (
            name,
            format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000)),
        )
    })
}

pub(crate) fn selector(matchers: &[Matcher]) -> String {
    let list: Vec<String> = matchers.iter().map(|m| m.to_string()).collect();
    match list.is_empty() {
        true => r#"{__name__=~".+"}"#.to_owned(),
        false => format!("{{{}}}", list.join(",")),
    }
}

/// The same Prometheus as one query sees it.
struct PrometheusView {
    inner: Arc<Prometheus>,
    scope: Arc<Scope>,
}

/// A Prometheus as a source; its series come without its external labels.
pub struct PrometheusSource(pub Arc<Prometheus>);

impl Source for PrometheusSource {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        scope.check()?;
        Ok(Box::new(PrometheusView {
            inner: Arc::clone(&self.0),
            scope,
        }))
    }

    fn extent(&self) -> Arc<Extent> {
        Arc::new(Extent {
            parts: vec![(
                Labels::default(),
                TimeRange::new(self.0.min_time, Millis::MAX),
            )],
            capabilities: Capabilities::default(),
        })
    }
}

impl PrometheusView {
    fn names(&self, path: String, select: LabelSelect) -> Names {
        let inner = Arc::clone(&self.inner);
        let mut params: Vec<(&str, String)> = Vec::new();
        if !select.matchers.is_empty() {
            params.push(("match[]", selector(&select.matchers)));
        }
        params.extend(seconds("start", select.range.min.max(self.inner.min_time)));
        params.extend(seconds("end", select.range.max));
        let (scope, runtime) = (Arc::clone(&self.scope), self.inner.runtime.clone());
        Box::pin(async move {
            let task = async move {
                let ask = inner.get::<Vec<String>>(&path, &params);
                crate::remote::until(&scope, ask).await
            };
            let task = runtime.spawn(task.in_current_span());
            let _ends = crate::Guard(task.abort_handle());
            let answer = task
                .await
                .map_err(|e| SourceError::new(Kind::Internal, e.to_string()))?;
            let (mut names, warnings) = answer?;
            names.sort_unstable();
            names.dedup();
            if select.limit > 0 {
                names.truncate(select.limit);
            }
            Ok(Answer {
                value: convert::strs(&names),
                warnings: convert::strs(&warnings),
            })
        })
    }
}

type Names = BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>>;

impl View for PrometheusView {
    fn select(&self, select: Select) -> Rows {
        let (inner, scope) = (Arc::clone(&self.inner), Arc::clone(&self.scope));
        stream_of(&self.inner.runtime, move |send| async move {
            if select.skip_chunks {
                return inner.series(select, &scope, &send).await;
            }
            let range = TimeRange::new(select.range.min.max(inner.min_time), select.range.max);
            let endpoint = Endpoint {
                client: &inner.client,
                url: format!("{}/api/v1/read", inner.url),
                headers: &[],
                without: &[],
            };
            endpoint.read(&select, range, &scope, &send).await
        })
    }

    fn label_names(&self, select: LabelSelect) -> Names {
        self.names("/api/v1/labels".to_owned(), select)
    }

    fn label_values(&self, name: Str, select: LabelSelect) -> Names {
        let mut escaped = String::new();
        // What does not fit into a path is written as Prometheus' own escape.
        if model::labels::is_legacy_label_name(&name) {
            escaped.push_str(&name);
        } else {
            escaped.push_str("U__");
            for c in name.chars() {
                match c {
                    '_' => escaped.push_str("__"),
                    c if c.is_ascii_alphanumeric() => escaped.push(c),
                    c => escaped.push_str(&format!("_{:x}_", c as u32)),
                }
            }
        }
        self.names(format!("/api/v1/label/{escaped}/values"), select)
    }
}

impl Prometheus {
    /// Labels only.
    async fn series(
        &self,
        select: Select,
        scope: &Arc<Scope>,
        send: &Sender<Result<SeriesBatch, SourceError>>,
    ) -> Result<(), SourceError> {
        let mut params = vec![("match[]", selector(&select.matchers))];
        params.extend(seconds("start", select.range.min.max(self.min_time)));
        params.extend(seconds("end", select.range.max));
        let ask =
            self.get::<Vec<std::collections::BTreeMap<String, String>>>("/api/v1/series", &params);
        let (sets, warnings) = crate::remote::until(scope, ask).await?;
        let mut collected = Collected::new(scope, false)?;
        collected.batch.warnings = convert::strs(&warnings);
        for set in sets {
            let from = collected.batch.len();
            let labels = Labels::from_pairs(set);
            scope
                .symbols
                .intern_labels(&labels, &mut collected.batch.labels);
            collected.batch.finish_series();
            if let Some(full) = collected.took(from, 0, true)?
                && send.send(Ok(full)).await.is_err()
            {
                return Ok(());
            }
        }
        if let Some(last) = collected.finish(true)? {
            let _ = send.send(Ok(last)).await;
        }
        Ok(())
    }
}

/// Where remote read is answered.
pub(crate) struct Endpoint<'a> {
    pub(crate) client: &'a HttpClient,
    pub(crate) url: String,
    /// Headers to add.
    pub(crate) headers: &'a [(String, String)],
    /// Labels to take away from the series.
    pub(crate) without: &'a [Str],
}

impl Endpoint<'_> {
    /// Reads the series of `range`.
    pub(crate) async fn read(
        &self,
        select: &Select,
        range: TimeRange,
        scope: &Arc<Scope>,
        send: &Sender<Result<SeriesBatch, SourceError>>,
    ) -> Result<(), SourceError> {
        let (start, end) = (range.min, range.max);
        let hints = &select.hints;
        let message = pb::ReadRequest {
            queries: vec![pb::Query {
                start_timestamp_ms: start,
                end_timestamp_ms: end,
                matchers: convert::to_remote_matchers(&select.matchers),
                hints: Some(pb::ReadHints {
                    step_ms: hints.step,
                    func: hints.func.as_deref().unwrap_or_default().to_owned(),
                    start_ms: start,
                    end_ms: end,
                    range_ms: hints.range,
                    ..Default::default()
                }),
            }],
            accepted_response_types: vec![
                ResponseType::StreamedXorChunks as i32,
                ResponseType::Samples as i32,
            ],
        };
        let body = wire::remote::encode(&message).map_err(unavailable)?;
        let mut request =
            wire::remote::read_request(self.client, &self.url, body).map_err(unavailable)?;
        for (name, value) in self.headers {
            let name = http::HeaderName::try_from(name.as_str()).map_err(unavailable)?;
            let value = http::HeaderValue::try_from(value.as_str()).map_err(unavailable)?;
            request.headers_mut().insert(name, value);
        }
        let ask = async { self.client.send(request).await.map_err(unavailable) };
        let answer = crate::remote::until(scope, ask).await?;
        let status = answer.status();
        if !status.is_success() {
            let text = wire::client::body(answer, 4096).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            return Err(unavailable(format!(
                "Prometheus answered {status} to remote read: {}",
                text.trim()
            )));
        }
        let streamed = answer
            .headers()
            .get("content-type")
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.starts_with("application/x-streamed-protobuf"));
        let mut collected = Collected::new(scope, false)?;
        if !streamed {
            let body = crate::remote::until(scope, async {
                wire::client::body(answer, MAX_ANSWER)
                    .await
                    .map_err(unavailable)
            })
            .await?;
            let answer: pb::ReadResponse =
                wire::remote::decode(&body, MAX_ANSWER).map_err(unavailable)?;
            for series in answer.results.into_iter().flat_map(|r| r.timeseries) {
                let from = collected.batch.len();
                let labels = self.shown(&series.labels);
                let bytes = samples(&labels, &series, scope, &mut collected.batch)?;
                if let Some(full) = collected.took(from, bytes, true)?
                    && send.send(Ok(full)).await.is_err()
                {
                    return Ok(());
                }
            }
        } else {
            let mut stream = answer.bytes_stream();
            let mut held = BytesMut::new();
            loop {
                while let Some(frame) = frame(&mut held)? {
                    let (from, len) = (collected.batch.len(), frame.len() as u64);
                    model::Statistics::add(&scope.statistics.bytes, len);
                    self.chunks(frame, scope, &mut collected.batch)?;
                    if let Some(full) = collected.took(from, len, true)?
                        && send.send(Ok(full)).await.is_err()
                    {
                        return Ok(());
                    }
                }
                let next = async { Ok(stream.next().await) };
                match crate::remote::until(scope, next).await? {
                    Some(bytes) => held.extend_from_slice(&bytes.map_err(unavailable)?),
                    None if held.is_empty() => break,
                    None => {
                        return Err(unavailable(
                            "Prometheus' answer to remote read ends in the middle",
                        ));
                    }
                }
            }
        }
        if let Some(last) = collected.finish(true)? {
            let _ = send.send(Ok(last)).await;
        }
        Ok(())
    }

    /// Labels without those that are taken away.
    fn shown(&self, labels: &[pb::Label]) -> Labels {
        let labels = convert::remote_labels(labels);
        if self.without.is_empty() {
            return labels;
        }
        let kept = labels
            .iter()
            .filter(|(n, _)| !self.without.iter().any(|w| **w == **n));
        Labels::from_sorted(kept)
    }

    /// The series of a streamed frame; their chunks stay in it.
    fn chunks(
        &self,
        frame: Bytes,
        scope: &Scope,
        batch: &mut SeriesBatch,
    ) -> Result<(), SourceError> {
        let answer =
            wire::remote::chunked(frame).map_err(|e| SourceError::new(Kind::Corrupt, e))?;
        for series in answer.chunked_series {
            let labels = self.shown(&series.labels);
            scope.symbols.intern_labels(&labels, &mut batch.labels);
            for chunk in series.chunks {
                let buffer = batch.buffers.len() as u32;
                batch.chunks.push(ChunkRef {
                    min: chunk.min_time_ms,
                    max: chunk.max_time_ms,
                    // An encoding that cannot be is found out when the chunk is opened.
                    encoding: Encoding(u8::try_from(chunk.r#type).unwrap_or(0)),
                    aggregate: Aggregate::Raw,
                    lane: 0,
                    buffer,
                    offset: 0,
                    // A frame has less than 4 GiB.
                    len: chunk.data.len() as u32,
                });
                batch.buffers.push(chunk.data);
            }
            batch.finish_series();
        }
        Ok(())
    }
}

/// The next whole frame: `uvarint length | u32 CRC32C, big-endian | message`.
fn frame(held: &mut BytesMut) -> Result<Option<Bytes>, SourceError> {
    let corrupt = |what: &str| SourceError::new(Kind::Corrupt, format!("remote read: {what}"));
    let (mut len, mut at) = (0u64, 0usize);
    loop {
        let Some(byte) = held.get(at) else {
            return match at < 10 {
                true => Ok(None),
                false => Err(corrupt("a frame's length is damaged")),
            };
        };
        len |= u64::from(byte & 0x7f)
            .checked_shl(7 * at as u32)
            .unwrap_or(0);
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let len = usize::try_from(len).ok().filter(|len| *len <= MAX_FRAME);
    let len = len.ok_or_else(|| corrupt("a frame is too large"))?;
    if held.len() < at + 4 + len {
        return Ok(None);
    }
    held.advance(at);
    let crc = held.get_u32();
    let message = held.split_to(len).freeze();
    match crc32c::crc32c(&message) == crc {
        true => Ok(Some(message)),
        false => Err(corrupt("a frame's checksum is wrong")),
    }
}

/// A series of samples as chunks; returns their bytes.
fn samples(
    labels: &Labels,
    series: &pb::TimeSeries,
    scope: &Scope,
    batch: &mut SeriesBatch,
) -> Result<u64, SourceError> {
    scope.symbols.intern_labels(labels, &mut batch.labels);
    let buffer = batch.buffers.len() as u32;
    let mut bytes = Vec::new();
    let mut chunker = chunk::Chunker::default();
    let mut histograms = series.histograms.iter().peekable();
    let mut histogram = |chunker: &mut chunk::Chunker, before: Millis| {
        while let Some(message) = histograms.next_if(|h| h.timestamp < before) {
            let read = wire::histogram::read(&message.encode_to_vec());
            let sample = read.map_err(|e| SourceError::new(Kind::Corrupt, e.to_string()))?;
            chunker.histogram(&chunk::HistogramRow {
                ts: sample.ts,
                start: 0,
                value: sample.value,
            })?;
        }
        Ok::<(), SourceError>(())
    };
    for sample in &series.samples {
        histogram(&mut chunker, sample.timestamp)?;
        chunker.float(sample.timestamp, 0, sample.value);
    }
    histogram(&mut chunker, Millis::MAX)?;
    for chunk in chunker.finish() {
        batch.chunks.push(ChunkRef {
            min: chunk.range.min,
            max: chunk.range.max,
            encoding: chunk.encoding,
            aggregate: Aggregate::Raw,
            lane: 0,
            buffer,
            // An answer has less than 4 GiB, and chunks are smaller than samples.
            offset: bytes.len() as u32,
            len: chunk.data.len() as u32,
        });
        bytes.extend_from_slice(&chunk.data);
    }
    batch.finish_series();
    let len = bytes.len() as u64;
    batch.buffers.push(bytes.into());
    Ok(len)
}

/// How long a sidecar waits between two tries to reach its Prometheus.
pub const RETRY: Duration = Duration::from_secs(2);
