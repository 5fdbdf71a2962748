//! A small collector: OTLP over gRPC with TLS and over HTTP, which keeps what it is sent.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use parking_lot::Mutex;
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::codec::CompressionEncoding;
use tonic::transport::{Identity, ServerTlsConfig};

/// A span as it came.
#[derive(Clone, Debug)]
pub struct Span {
    pub service: String,
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub failed: bool,
    pub attributes: BTreeMap<String, String>,
}

#[derive(Default)]
pub struct Kept {
    spans: Mutex<Vec<Span>>,
    /// The values of `x-tenant` and whether the body came as gzip.
    headers: Mutex<Vec<(String, bool)>>,
    bytes: Mutex<Vec<u8>>,
}

/// The collector; it ends with the runtime of the test.
#[derive(Clone)]
pub struct Collector {
    pub kept: Arc<Kept>,
    pub grpc: u16,
    pub http: u16,
    /// Who signed the certificate of the gRPC side.
    pub ca: PathBuf,
}

impl Collector {
    pub async fn start(dir: &Path) -> Self {
        let kept = Arc::<Kept>::default();
        let ca = dir.join("collector-ca.pem");
        let tls = identity(&ca);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc = listener.local_addr().unwrap().port();
        let service = TraceServiceServer::new(Service(Arc::clone(&kept)))
            .accept_compressed(CompressionEncoding::Gzip);
        let server = tonic::transport::Server::builder()
            .tls_config(ServerTlsConfig::new().identity(tls))
            .unwrap()
            .add_service(service);
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(server.serve_with_incoming(incoming));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap().port();
        let app = axum::Router::new().route(
            "/v1/traces",
            post({
                let kept = Arc::clone(&kept);
                move |headers: HeaderMap, body: Bytes| async move {
                    kept.take_http(&headers, &body);
                    ExportTraceServiceResponse::default().encode_to_vec()
                }
            }),
        );
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            kept,
            grpc,
            http,
            ca,
        }
    }

    /// What has come so far.
    pub fn spans(&self) -> Vec<Span> {
        self.kept.spans.lock().clone()
    }

    pub fn headers(&self) -> Vec<(String, bool)> {
        self.kept.headers.lock().clone()
    }

    /// Whether a text is anywhere in what has come.
    pub fn holds(&self, text: &str) -> bool {
        let bytes = self.kept.bytes.lock();
        bytes.windows(text.len()).any(|w| w == text.as_bytes())
    }
}

fn identity(ca: &Path) -> Identity {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(ca, issuer.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let cert = params.signed_by(&key, &issuer).unwrap();
    Identity::from_pem(cert.pem(), key.serialize_pem())
}

struct Service(Arc<Kept>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let tenant = request.metadata().get("x-tenant");
        let tenant = tenant.map_or("", |t| t.to_str().unwrap()).to_owned();
        let gzip = request.metadata().get("grpc-encoding");
        let gzip = gzip.is_some_and(|e| e == "gzip");
        self.0.headers.lock().push((tenant, gzip));
        self.0.take(request.into_inner());
        Ok(tonic::Response::new(Default::default()))
    }
}

impl Kept {
    fn take_http(&self, headers: &HeaderMap, body: &[u8]) {
        let text = |name: &str| headers.get(name).map_or("", |v| v.to_str().unwrap());
        assert_eq!(text("content-type"), "application/x-protobuf");
        let gzip = text("content-encoding") == "gzip";
        self.headers
            .lock()
            .push((text("x-tenant").to_owned(), gzip));
        let mut plain = Vec::new();
        match gzip {
            true => {
                let mut decoder = flate2::read::GzDecoder::new(body);
                decoder.read_to_end(&mut plain).unwrap();
            }
            false => plain.extend_from_slice(body),
        }
        self.take(ExportTraceServiceRequest::decode(plain.as_slice()).unwrap());
    }

    fn take(&self, request: ExportTraceServiceRequest) {
        self.bytes.lock().extend(request.encode_to_vec());
        for resource in request.resource_spans {
            let about = attributes(&resource.resource.unwrap().attributes);
            for span in resource.scope_spans.into_iter().flat_map(|s| s.spans) {
                self.spans.lock().push(Span {
                    service: about["service.name"].clone(),
                    name: span.name,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    failed: span.status.is_some_and(|s| s.code == 2),
                    attributes: attributes(&span.attributes),
                });
            }
        }
    }
}

fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |kv: &KeyValue| match kv.value.clone().and_then(|v| v.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    list.iter().map(|kv| (kv.key.clone(), text(kv))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
