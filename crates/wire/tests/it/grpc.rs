//! A server and a channel, over real sockets.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use wire::client::TlsSettings;
use wire::grpc::{Channel, ChannelSettings, Server, Settings, TlsFiles};
use wire::proto::thanos::info::info_client::InfoClient;
use wire::proto::thanos::info::info_server::{Info, InfoServer};
use wire::proto::thanos::info::{InfoRequest, InfoResponse};

struct Who;

#[tonic::async_trait]
impl Info for Who {
    async fn info(&self, request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        assert!(request.metadata().get("grpc-encoding").is_none());
        Ok(Response::new(InfoResponse {
            component_type: "store".repeat(1000),
            ..Default::default()
        }))
    }
}

async fn serve(
    tls: Option<TlsFiles>,
) -> (String, tokio::sync::oneshot::Sender<()>, metrics::Registry) {
    let registry = metrics::Registry::new();
    let settings = Settings {
        listen: "127.0.0.1:0".into(),
        tls,
        grace: Duration::from_secs(1),
        ..Settings::default()
    };
    let server = Server::bind(settings, &registry).await.unwrap();
    let address = server.address();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let routes = Routes::new(InfoServer::from_arc(Arc::new(Who)));
    tokio::spawn(server.serve(routes, async {
        let _ = stopped.await;
    }));
    (format!("localhost:{}", address.port()), stop, registry)
}

async fn ask(address: &str, settings: ChannelSettings) -> Result<String, Status> {
    let channel = Channel::new(address, &settings).unwrap();
    let answer = InfoClient::new(channel).info(InfoRequest {}).await?;
    Ok(answer.into_inner().component_type)
}

#[tokio::test]
async fn plain_and_snappy_calls_are_answered_and_counted() {
    let (address, _stop, registry) = serve(None).await;
    for snappy in [false, true] {
        let settings = ChannelSettings {
            snappy,
            ..Default::default()
        };
        assert_eq!(ask(&address, settings).await.unwrap(), "store".repeat(1000));
    }
    let mut text = Vec::new();
    metrics::encode(&registry.gather(), metrics::Format::Text, &mut text);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains(r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Info",grpc_service="thanos.info.Info",grpc_type="unary"} 2"#), "{text}");
}

#[tokio::test]
async fn health_is_told() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let (address, stop, _) = serve(None).await;
    let channel = Channel::new(&address, &ChannelSettings::default()).unwrap();
    let mut client = HealthClient::new(channel);
    let answer = client.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().status, 1);
    stop.send(()).unwrap();
    let ended = async {
        while client
            .check(HealthCheckRequest::default())
            .await
            .is_ok_and(|a| a.into_inner().status == 1)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .unwrap();
}

#[tokio::test]
async fn services_are_listed_to_those_who_ask() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let (address, _stop, _) = serve(None).await;
    let channel = Channel::new(&address, &ChannelSettings::default()).unwrap();
    let mut client = ServerReflectionClient::new(channel);
    let ask = |message| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message),
    };
    let asked = futures_util::stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("thanos.Store".into())),
    ]);
    let answers = client.server_reflection_info(asked).await.unwrap();
    let mut answers = answers.into_inner();
    let listed = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(listed)) = listed else {
        panic!("{listed:?}");
    };
    let names: Vec<&str> = listed.service.iter().map(|s| s.name.as_str()).collect();
    for name in ["thanos.Store", "thanos.info.Info", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let described = answers.message().await.unwrap().unwrap().message_response;
    assert!(
        matches!(&described, Some(MessageResponse::FileDescriptorResponse(_))),
        "{described:?}"
    );
}

struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.crt"), cert.pem()).unwrap();
        Self {
            dir,
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file(&format!("{name}.crt")), cert.pem()).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

#[tokio::test]
async fn tls_with_client_certificates() {
    let authority = Authority::new();
    authority.sign("server");
    authority.sign("client");
    let files = TlsFiles {
        cert: authority.file("server.crt").into(),
        key: authority.file("server.key").into(),
        client_ca: Some(authority.file("ca.crt").into()),
        ..TlsFiles::default()
    };
    let (address, _stop, _) = serve(Some(files)).await;
    let mut tls = TlsSettings {
        ca_file: authority.file("ca.crt"),
        ..TlsSettings::default()
    };
    let without = ChannelSettings {
        tls: Some(tls.clone()),
        snappy: false,
        ..ChannelSettings::default()
    };
    assert!(
        ask(&address, without).await.is_err(),
        "a client without a certificate"
    );
    assert!(
        ask(&address, ChannelSettings::default()).await.is_err(),
        "a client without TLS"
    );
    tls.cert_file = authority.file("client.crt");
    tls.key_file = authority.file("client.key");
    let with = ChannelSettings {
        tls: Some(tls),
        snappy: true,
        ..ChannelSettings::default()
    };
    assert_eq!(ask(&address, with).await.unwrap(), "store".repeat(1000));
}
