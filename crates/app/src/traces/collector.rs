//! Sending spans to a collector: OTLP over gRPC, or over HTTP as protobuf.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_http::HttpError;
use opentelemetry_otlp::{
    Compression, SpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as Export};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use wire::client::{ClientOptions, HttpClient, HttpSettings, Method, TlsSettings};
use wire::grpc::{Channel, ChannelSettings, MetadataMap};

/// How long sending may take, if nothing is said: OpenTelemetry's default.
const TIMEOUT: Duration = Duration::from_secs(10);
/// No answer of a collector is longer, bytes.
const MOST: usize = 4 << 20;

/// Where traces are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Collector {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// `host:port`.
    pub endpoint: String,
    /// Without TLS.
    pub insecure: bool,
    /// TLS.
    pub tls: TlsSettings,
    /// Headers to add.
    pub headers: BTreeMap<String, String>,
    /// Whether requests are compressed with gzip.
    pub gzip: bool,
    /// How long sending may take.
    pub timeout: Option<Duration>,
}

/// How a collector is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP, protobuf.
    Http {
        /// The path of its requests.
        path: String,
    },
}

impl Collector {
    /// What sends spans there, on the runtime that this is called within.
    pub(super) fn exporter(&self) -> Result<impl Export + use<>> {
        let why = Arc::<Mutex<String>>::default();
        let exporter = match &self.protocol {
            Protocol::Grpc => self.grpc(),
            Protocol::Http { path } => self.http(path, Arc::clone(&why)),
        };
        let exporter = exporter.with_context(|| format!("tracing: collector {}", self.endpoint))?;
        Ok(OnRuntime {
            exporter: Arc::new(exporter),
            runtime: Handle::current(),
            endpoint: self.endpoint.clone(),
            why,
        })
    }

    fn grpc(&self) -> Result<SpanExporter> {
        let settings = ChannelSettings {
            tls: (!self.insecure).then(|| self.tls.clone()),
            ..ChannelSettings::default()
        };
        // Go's client takes the port of HTTPS where none is given.
        let bare = self.endpoint.rsplit(']').next().unwrap_or_default();
        let address = match bare.contains(':') {
            true => self.endpoint.clone(),
            false => format!("{}:443", self.endpoint),
        };
        let mut builder = SpanExporter::builder()
            .with_tonic()
            .with_channel(Channel::new(&address, &settings)?.bare())
            .with_metadata(MetadataMap::from_headers(self.headers()?))
            .with_timeout(self.timeout.unwrap_or(TIMEOUT));
        if self.gzip {
            builder = builder.with_compression(Compression::Gzip);
        }
        Ok(builder.build()?)
    }

    fn http(&self, path: &str, why: Arc<Mutex<String>>) -> Result<SpanExporter> {
        let scheme = if self.insecure { "http" } else { "https" };
        let url = format!(
            "{scheme}://{}/{}",
            self.endpoint,
            path.trim_start_matches('/')
        );
        let settings = HttpSettings {
            tls_config: self.tls.clone(),
            proxy_from_environment: true,
            ..HttpSettings::default()
        };
        let timeout = self.timeout.unwrap_or(TIMEOUT);
        let options = ClientOptions {
            timeout: Some(timeout),
            ..ClientOptions::default()
        };
        // Judged here, so that a wrong one is an error and not a header less.
        self.headers()?;
        let headers: HashMap<String, String> = self.headers.clone().into_iter().collect();
        let mut builder = SpanExporter::builder()
            .with_http()
            .with_http_client(Posts {
                client: HttpClient::new(&settings, options)?,
                why,
            })
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_endpoint(url)
            .with_headers(headers)
            .with_timeout(timeout);
        if self.gzip {
            builder = builder.with_compression(Compression::Gzip);
        }
        Ok(builder.build()?)
    }

    fn headers(&self) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let wrong = || format!("header {name:?}");
            let key = HeaderName::try_from(name.as_str()).with_context(wrong)?;
            let mut value = HeaderValue::try_from(value.as_str()).with_context(wrong)?;
            value.set_sensitive(true);
            headers.append(key, value);
        }
        Ok(headers)
    }
}

/// Our HTTP client, as OpenTelemetry's exporter asks for one.
struct Posts {
    client: HttpClient,
    /// Why the last request failed: the exporter only says that it did.
    why: Arc<Mutex<String>>,
}

impl std::fmt::Debug for Posts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Posts")
    }
}

#[wire::grpc::async_trait]
impl opentelemetry_http::HttpClient for Posts {
    async fn send_bytes(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let mut request = self.client.request(Method::POST, &head.uri.to_string())?;
        *request.headers_mut() = head.headers;
        *request.body_mut() = Some(body.into());
        let answer = self.client.send(request).await.inspect_err(|e| {
            *self.why.lock() = e.to_string();
        })?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut response = http::Response::new(wire::client::body(answer, MOST).await?);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// The batches come on a thread of their own; what sends them needs a runtime.
#[derive(Debug)]
struct OnRuntime {
    exporter: Arc<SpanExporter>,
    runtime: Handle,
    endpoint: String,
    why: Arc<Mutex<String>>,
}

impl Export for OnRuntime {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let (exporter, spans) = (Arc::clone(&self.exporter), batch.len());
        let sending = self
            .runtime
            .spawn(async move { exporter.export(batch).await });
        let sent = sending
            .await
            .unwrap_or_else(|e| Err(OTelSdkError::InternalFailure(e.to_string())));
        if let Err(error) = &sent {
            let why = std::mem::take(&mut *self.why.lock());
            tracing::warn!(collector = %self.endpoint, spans, %error, why, "traces could not be sent");
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Nothing is sent yet, so nobody else holds it.
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}
