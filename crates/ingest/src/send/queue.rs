//! Shards: each sends its series' samples in order, a request after the other, until the receiver
//! has taken them or says that it never will.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use model::histogram::Histogram;
use model::report::Metadata;
use model::time::Clock;
use model::{Labels, Millis};
use reqwest::Method;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use wire::client::HttpClient;

use super::Settings;
use super::counters::Counters;
use super::encode::Encoder;
use super::track::Tracker;
use crate::receive::Message;

/// Says in the headers of a request which message its body is.
pub(super) fn say_message(headers: &mut HeaderMap, message: Message) {
    let (kind, version) = match message {
        Message::V1 => ("application/x-protobuf", "0.1.0"),
        Message::V2 => (
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            "2.0.0",
        ),
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    headers.insert(
        "x-prometheus-remote-write-version",
        HeaderValue::from_static(version),
    );
}

/// Something to send.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) labels: Labels,
    pub(super) ts: Millis,
    pub(super) start: Millis,
    pub(super) value: Value,
    pub(super) metadata: Option<Arc<Metadata>>,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Float(f64),
    Histogram(Box<Histogram>),
    Exemplar(Box<(Labels, f64)>),
}

impl Item {
    /// Its place in [`super::counters::KINDS`].
    fn kind(&self) -> usize {
        match self.value {
            Value::Float(_) => 0,
            Value::Exemplar(_) => 1,
            Value::Histogram(_) => 2,
        }
    }
}

/// What one request will hold.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    /// Which stretches of the log they are from, and how many each.
    pub(super) stretches: Vec<(u64, u64)>,
    /// Some of it may have been sent by the process before.
    pub(super) resumed: bool,
}

impl Batch {
    pub(super) fn push(&mut self, stretch: u64, item: Item) {
        self.items.push(item);
        match self.stretches.last_mut() {
            Some((last, count)) if *last == stretch => *count += 1,
            _ => self.stretches.push((stretch, 1)),
        }
    }
}

/// How many of each kind.
pub(super) fn kinds(items: &[Item]) -> [u64; 3] {
    let mut counts = [0; 3];
    for item in items {
        if let Some(count) = counts.get_mut(item.kind()) {
            *count += 1;
        }
    }
    counts
}

/// What all shards of a queue share.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) client: HttpClient,
    pub(super) counters: Counters,
    pub(super) tracker: Tracker,
    pub(super) clock: Arc<dyn Clock>,
    /// Nothing is waited for any more.
    pub(super) abort: CancellationToken,
    pub(super) progress: Progress,
}

/// What the shards did, for deciding how many there should be.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) sent: std::sync::atomic::AtomicU64,
    pub(super) micros: std::sync::atomic::AtomicU64,
    /// When a request was answered last, ms.
    pub(super) last: std::sync::atomic::AtomicI64,
    /// Timestamp of the newest sample sent, ms.
    pub(super) highest: std::sync::atomic::AtomicI64,
    /// The oldest segment of the log that is not settled.
    pub(super) segment: std::sync::atomic::AtomicU64,
}

impl Progress {
    /// The oldest segment of the log that is still needed.
    pub(super) fn needs(&self) -> u64 {
        self.segment.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The time of the newest sample sent, ms.
    pub(super) fn sent(&self) -> Millis {
        self.highest.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Why a request was not taken.
enum Failure {
    /// It may be, later; perhaps the receiver said when.
    Later(String, Option<Duration>),
    /// It never will.
    Never(String, u16),
}

impl Shared {
    /// Sends what comes until nothing comes any more.
    pub(super) async fn run(self: Arc<Self>, mut batches: mpsc::Receiver<Batch>) {
        let mut encoder = Encoder::default();
        while let Some(batch) = batches.recv().await {
            let Batch {
                items,
                stretches,
                resumed,
            } = batch;
            let counts = kinds(&items);
            let done = self.send(&mut encoder, items, resumed).await;
            for (gauge, count) in self.counters.pending.iter().zip(counts) {
                gauge.add(-(count as i64));
            }
            if !done {
                // What is left will be read from the log again.
                return;
            }
            self.tracker.settle(&stretches);
        }
    }

    /// Sends items; false if that was broken off.
    async fn send(&self, encoder: &mut Encoder, items: Vec<Item>, resumed: bool) -> bool {
        // What is still to be sent, the first last.
        let mut parts = vec![items];
        while let Some(mut part) = parts.pop() {
            let mut wait = self.settings.queue.min_backoff;
            let mut attempt = 0u32;
            loop {
                self.drop_old(&mut part);
                if part.is_empty() {
                    break;
                }
                let body = encoder.samples(self.settings.message, &part);
                let bytes = body.len() as u64;
                let began = Instant::now();
                let result = tokio::select! {
                    result = self.post(body, attempt) => result,
                    () = self.abort.cancelled() => return false,
                };
                self.counters.durations.observe_duration(began.elapsed());
                match result {
                    Ok(()) => {
                        self.sent(&part, bytes, began.elapsed());
                        break;
                    }
                    Err(Failure::Later(error, after)) => {
                        for (counter, count) in self.counters.retried.iter().zip(kinds(&part)) {
                            counter.add(count);
                        }
                        let after = after
                            .unwrap_or(wait)
                            .max(wait.min(self.settings.queue.max_backoff));
                        tracing::warn!(remote = %self.settings.name, url = %self.settings.shown_url, %error, "Failed to send batch, retrying");
                        tokio::select! {
                            () = tokio::time::sleep(after) => {}
                            () = self.abort.cancelled() => return false,
                        }
                        wait = (wait * 2).min(self.settings.queue.max_backoff);
                        attempt += 1;
                    }
                    // One sample that was taken before spoils a whole request of 1.x.
                    Err(Failure::Never(_, 400)) if resumed && part.len() > 1 => {
                        let second = part.split_off(part.len() / 2);
                        parts.push(second);
                        parts.push(part);
                        break;
                    }
                    Err(Failure::Never(error, _)) => {
                        if !resumed {
                            tracing::error!(
                                remote = %self.settings.name,
                                url = %self.settings.shown_url,
                                %error,
                                count = part.len(),
                                "non-recoverable error"
                            );
                        }
                        for (counter, count) in self.counters.failed.iter().zip(kinds(&part)) {
                            counter.add(count);
                        }
                        break;
                    }
                }
            }
        }
        true
    }

    fn drop_old(&self, items: &mut Vec<Item>) {
        let limit = self.settings.queue.sample_age_limit;
        if limit.is_zero() {
            return;
        }
        let oldest = self.clock.now() - limit.as_millis() as Millis;
        items.retain(|item| {
            let keep = item.ts >= oldest;
            if !keep {
                self.counters.dropped(item.kind(), "too_old");
            }
            keep
        });
    }

    fn sent(&self, items: &[Item], bytes: u64, took: Duration) {
        use std::sync::atomic::Ordering::Relaxed;
        for (counter, count) in self.counters.sent.iter().zip(kinds(items)) {
            counter.add(count);
        }
        self.counters.bytes.add(bytes);
        let progress = &self.progress;
        progress.sent.fetch_add(items.len() as u64, Relaxed);
        progress.micros.fetch_add(took.as_micros() as u64, Relaxed);
        progress.last.store(self.clock.now(), Relaxed);
        let newest = items.iter().map(|i| i.ts).max().unwrap_or(0);
        let before = progress.highest.fetch_max(newest, Relaxed);
        self.counters
            .highest_sent
            .set(before.max(newest) as f64 / 1000.0);
    }

    /// Sends metadata of 1.x, as often as it takes.
    pub(super) async fn send_metadata(&self, entries: &[(model::Str, Metadata)]) {
        let mut encoder = Encoder::default();
        let mut wait = self.settings.queue.min_backoff;
        let count = entries.len() as u64;
        // Metadata is sent again soon anyway.
        for attempt in 0..10 {
            let body = encoder.metadata(entries);
            let bytes = body.len() as u64;
            match self.post(body, attempt).await {
                Ok(()) => {
                    self.counters.metadata.add(count);
                    self.counters.metadata_bytes.add(bytes);
                    return;
                }
                Err(Failure::Later(..)) => {
                    self.counters.metadata_retried.add(count);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.abort.cancelled() => return,
                    }
                    wait = (wait * 2).min(self.settings.queue.max_backoff);
                }
                Err(Failure::Never(error, _)) => {
                    tracing::error!(remote = %self.settings.name, %error, "metadata was refused");
                    break;
                }
            }
        }
        self.counters.metadata_failed.add(count);
    }

    async fn post(&self, body: Vec<u8>, attempt: u32) -> Result<(), Failure> {
        let never = |e: &dyn std::fmt::Display| Failure::Never(e.to_string(), 0);
        let mut request = self
            .client
            .request(Method::POST, &self.settings.url)
            .map_err(|e| never(&e))?;
        *request.timeout_mut() = Some(self.settings.timeout);
        let headers = request.headers_mut();
        say_message(headers, self.settings.message);
        if attempt > 0 {
            headers.insert("retry-attempt", HeaderValue::from(attempt));
        }
        for (name, value) in &self.settings.headers {
            let name = HeaderName::try_from(name.as_str()).map_err(|e| never(&e))?;
            let value = HeaderValue::try_from(value.as_str()).map_err(|e| never(&e))?;
            headers.insert(name, value);
        }
        *request.body_mut() = Some(body.into());
        // A connection that cannot be made may be made later, whatever is wrong with it.
        let span = tracing::info_span!(
            "Remote Store",
            remote.name = %self.settings.name,
            retries = attempt,
            request_size = request.body().and_then(reqwest::Body::as_bytes).map(<[u8]>::len),
        );
        let answer = match self.client.send(request).instrument(span).await {
            Ok(answer) => answer,
            Err(e) => return Err(Failure::Later(e.to_string(), None)),
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let after = answer
            .headers()
            .get(RETRY_AFTER)
            .and_then(|v| v.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let text = wire::client::body(answer, 64 << 10)
            .await
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().next().unwrap_or_default();
        let error = format!("server returned HTTP status {status}: {line}");
        let again = status.is_server_error()
            || (status == StatusCode::TOO_MANY_REQUESTS && self.settings.queue.retry_on_429);
        if again {
            return Err(Failure::Later(error, after));
        }
        Err(Failure::Never(error, status.as_u16()))
    }
}
