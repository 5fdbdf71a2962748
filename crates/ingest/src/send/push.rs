//! One request of remote write, for tools that push what they have at once.

use std::sync::Arc;

use model::report::Metadata;
use model::{Labels, Millis};
use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};
use wire::client::HttpClient;

use super::encode::Encoder;
use super::queue::{Item, Value, say_message};
use crate::receive::Message;

/// A sample to push.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// Its series.
    pub labels: Labels,
    /// When, ms.
    pub ts: Millis,
    /// The value.
    pub value: f64,
    /// What is known of its metric.
    pub metadata: Option<Arc<Metadata>>,
}

/// Sends all samples in one request. The error is what the server, or the way to it, says.
pub async fn push(
    client: &HttpClient,
    url: &str,
    message: Message,
    samples: &[Pushed],
    headers: &[(HeaderName, HeaderValue)],
) -> Result<(), String> {
    let items: Vec<Item> = samples
        .iter()
        .map(|sample| Item {
            labels: sample.labels.clone(),
            ts: sample.ts,
            start: 0,
            value: Value::Float(sample.value),
            metadata: sample.metadata.clone(),
        })
        .collect();
    let mut encoder = Encoder::default();
    let body = match message {
        Message::V1 => encoder.both(&items),
        Message::V2 => encoder.samples(message, &items),
    };
    let mut request = client
        .request(Method::POST, url)
        .map_err(|e| e.to_string())?;
    say_message(request.headers_mut(), message);
    for (name, value) in headers {
        request.headers_mut().insert(name.clone(), value.clone());
    }
    *request.body_mut() = Some(body.into());
    let answer = client.send(request).await.map_err(|e| e.to_string())?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let text = wire::client::body(answer, 64 << 10)
        .await
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    Err(format!("server returned HTTP status {status}: {text}"))
}
