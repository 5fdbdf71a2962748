//! Asking a target.

use std::io::Read;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use tracing::Instrument as _;
use tracing::field::Empty;
use wire::client::{ClientError, HttpClient};

use crate::error::ScrapeError;

/// No body may be bigger, whatever the limits say.
const HARD_LIMIT: usize = 1 << 31;
const TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// How the targets of a job are asked.
#[derive(Clone)]
pub(crate) struct Fetcher {
    pub(crate) client: HttpClient,
    pub(crate) accept: HeaderValue,
    pub(crate) gzip: bool,
    /// Biggest body, bytes; 0 for none.
    pub(crate) limit: usize,
}

/// An answer whose body was read.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// Whether the body is still compressed.
    pub(crate) gzip: bool,
    pub(crate) content_type: String,
}

impl Fetcher {
    /// Asks `url` and reads the answer into `body`, as it comes: it may be compressed.
    pub(crate) async fn fetch(
        &self,
        url: &str,
        timeout: Duration,
        body: &mut Vec<u8>,
    ) -> Result<Fetched, ScrapeError> {
        body.clear();
        let span = tracing::info_span!("Scrape", otel.kind = "client", otel.status_code = Empty);
        let exchange = self.exchange(url, timeout, body).instrument(span.clone());
        let answer = tokio::time::timeout(timeout, exchange).await;
        if !matches!(answer, Ok(Ok(_))) {
            span.record("otel.status_code", "ERROR");
        }
        match answer {
            Ok(result) => result,
            Err(_) => Err(ClientError::Timeout(format!("Get {url:?}")).into()),
        }
    }

    async fn exchange(
        &self,
        url: &str,
        timeout: Duration,
        body: &mut Vec<u8>,
    ) -> Result<Fetched, ScrapeError> {
        let mut request = self.client.get(url)?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, self.accept.clone());
        let encoding = if self.gzip { "gzip" } else { "identity" };
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        if let Ok(seconds) = HeaderValue::try_from(timeout.as_secs_f64().to_string()) {
            headers.insert(TIMEOUT_HEADER, seconds);
        }
        let mut response = self.client.send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(ScrapeError::Status(response.status().to_string()));
        }
        let header = |name| {
            let value = response.headers().get(name).and_then(|v| v.to_str().ok());
            value.unwrap_or("").to_owned()
        };
        let gzip = header(CONTENT_ENCODING) == "gzip";
        let content_type = header(CONTENT_TYPE);
        // What is compressed is not bigger than what comes of it, but for a frame.
        let limit = self.limit().saturating_add(if gzip { 1024 } else { 0 });
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() >= limit {
                return Err(ScrapeError::BodySizeLimit);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Fetched { gzip, content_type })
    }

    fn limit(&self) -> usize {
        match self.limit {
            0 => HARD_LIMIT,
            limit => limit.min(HARD_LIMIT),
        }
    }

    /// Decompresses a body. Takes as long as it takes: not for async threads.
    pub(crate) fn inflate(&self, compressed: &[u8], body: &mut Vec<u8>) -> Result<(), ScrapeError> {
        body.clear();
        let limit = self.limit();
        // Expositions shrink to a tenth; saying so spares most of the growing.
        body.reserve(compressed.len().saturating_mul(10).min(limit).min(64 << 20));
        let mut decoder = flate2::read::MultiGzDecoder::new(compressed).take(limit as u64);
        decoder
            .read_to_end(body)
            .map_err(|e| ScrapeError::Body(format!("gzip: {e}")))?;
        if body.len() >= limit {
            return Err(ScrapeError::BodySizeLimit);
        }
        Ok(())
    }
}

fn broken(error: reqwest::Error) -> ScrapeError {
    use std::error::Error as _;
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    ScrapeError::Body(text)
}
