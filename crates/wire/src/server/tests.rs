use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::sync::oneshot;

use super::{Server, Settings};

struct Running {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
    registry: metrics::Registry,
}

impl Running {
    async fn start(app: Router, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            listen: vec!["127.0.0.1:0".to_owned()],
            reload_interval: Duration::from_millis(20),
            ..Settings::default()
        };
        change(&mut settings);
        let registry = metrics::Registry::default();
        let server = Server::bind(settings, &registry).await.unwrap();
        let addr = server.addresses()[0];
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async { stopped.await.unwrap_or_default() };
            server.serve(app, stopped).await.unwrap();
        });
        Self {
            addr,
            stop,
            task,
            registry,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap();
    }

    fn metrics(&self) -> String {
        let mut text = Vec::new();
        metrics::encode(&self.registry.gather(), metrics::Format::Text, &mut text);
        String::from_utf8(text).unwrap()
    }
}

/// A client that trusts `roots` and shows `identity`.
fn client(
    roots: &[&Authority],
    identity: Option<(&rcgen::Certificate, &KeyPair)>,
) -> reqwest::Client {
    let mut store = rustls::RootCertStore::empty();
    for root in roots {
        store.add(root.issuer.der().clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(config)
        .build()
        .unwrap()
}

fn plain() -> reqwest::Client {
    client(&[], None)
}

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

#[tokio::test]
async fn several_addresses_counted_requests_and_unknown_paths() {
    let app = hello().route("/item/{name}", get(|| async { "item" }));
    let server = Running::start(app, |s| s.listen = vec!["127.0.0.1:0".into(), ":0".into()]).await;
    let http = plain();
    for path in ["/", "/item/a", "/item/b"] {
        assert_eq!(
            http.get(server.url(path)).send().await.unwrap().status(),
            200
        );
    }
    assert_eq!(
        http.get(server.url("/nowhere"))
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
    drop(http);
    let text = server.metrics();
    let line = "prometheus_http_requests_total{handler=\"/item/:name\",code=\"200\"} 2";
    assert!(text.contains(line), "{text}");
    assert!(
        text.contains("prometheus_http_request_duration_seconds_count{handler=\"/\"} 1"),
        "{text}"
    );
    assert!(
        text.contains("prometheus_http_response_size_bytes_sum{handler=\"/\"} 5"),
        "{text}"
    );
    assert!(text.contains("handler=\"unmatched\""), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn a_panic_ends_one_request_only() {
    let app = hello().route(
        "/boom",
        get(|| async {
            if true {
                panic!("boom")
            }
        }),
    );
    let server = Running::start(app, |_| {}).await;
    let http = plain();
    assert_eq!(
        http.get(server.url("/boom")).send().await.unwrap().status(),
        500
    );
    assert_eq!(
        http.get(server.url("/")).send().await.unwrap().status(),
        200
    );
    assert!(server.metrics().contains("epimetheus_http_panics_total 1"));
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_ask() {
    let app = Router::new().route("/", get(|| async { "x".repeat(100_000) }));
    let server = Running::start(app, |_| {}).await;
    let http = plain();
    let response = http.get(server.url("/")).send().await.unwrap();
    // reqwest asks for gzip by itself, decodes and then hides the header.
    assert_eq!(response.content_length(), None);
    assert_eq!(response.text().await.unwrap().len(), 100_000);
    let ask = |encoding: &'static str| {
        http.get(server.url("/"))
            .header("accept-encoding", encoding)
            .send()
    };
    let response = ask("deflate").await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "deflate");
    assert!(response.bytes().await.unwrap().len() < 2000);
    let response = ask("identity").await.unwrap();
    assert!(!response.headers().contains_key("content-encoding"));
    assert_eq!(response.content_length(), Some(100_000));
}

#[tokio::test]
async fn bodies_are_bounded() {
    let app = Router::new().route(
        "/",
        post(|body: bytes::Bytes| async move { body.len().to_string() }),
    );
    let server = Running::start(app, |s| {
        s.body_limit = 1000;
        s.read_timeout = Duration::from_millis(300);
    })
    .await;
    let http = plain();
    let send = |len: usize| http.post(server.url("/")).body(vec![0u8; len]).send();
    assert_eq!(send(1000).await.unwrap().text().await.unwrap(), "1000");
    assert_eq!(send(1001).await.unwrap().status(), 413);
    // A body that does not arrive ends the request.
    let slow = futures_util::stream::once(async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok::<_, std::io::Error>(bytes::Bytes::new())
    });
    let response = http
        .post(server.url("/"))
        .body(reqwest::Body::wrap_stream(slow))
        .send();
    let response = tokio::time::timeout(Duration::from_secs(10), response)
        .await
        .unwrap();
    assert!(response.map_or(true, |r| r.status().is_client_error()));
}

#[tokio::test]
async fn draining_finishes_what_runs_and_no_more() {
    let app = Router::new().route(
        "/{ms}",
        get(
            |axum::extract::Path(ms): axum::extract::Path<u64>| async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                "done"
            },
        ),
    );
    let server = Running::start(app, |s| s.grace = Duration::from_millis(700)).await;
    let ask = |ms: u32| {
        let request = plain().get(server.url(&format!("/{ms}"))).send();
        tokio::spawn(async move { request.await?.text().await })
    };
    let (short, long) = (ask(300), ask(60_000));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (url, began) = (server.url("/0"), std::time::Instant::now());
    server.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(short.await.unwrap().unwrap(), "done");
    assert!(long.await.unwrap().is_err());
    assert!(
        plain().get(url).send().await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn a_full_house_makes_others_wait() {
    let server = Running::start(hello(), |s| s.max_connections = 1).await;
    let first = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = tokio::spawn(plain().get(server.url("/")).send());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!second.is_finished());
    drop(first);
    assert_eq!(second.await.unwrap().unwrap().status(), 200);
}

/// bcrypt of "hello", cost 4.
fn hash(password: &str) -> String {
    bcrypt::hash(password, 4).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    // Replaced as a whole, as editors and Kubernetes do it.
    std::fs::write(folder.join("new"), text).unwrap();
    std::fs::rename(folder.join("new"), &path).unwrap();
    path
}

#[tokio::test]
async fn users_and_headers_follow_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "basic_auth_users:\n  alice: {}\nhttp_server_config:\n  headers:\n    X-Frame-Options: deny\n",
        hash("secret")
    );
    let path = write(folder.path(), "web.yml", &text);
    let server = Running::start(hello(), |s| s.web_config = Some(path)).await;
    let http = plain();
    let ask = |user: &'static str, password: &'static str| {
        let request = http
            .get(server.url("/"))
            .basic_auth(user, Some(password))
            .send();
        async move { request.await.unwrap() }
    };
    let anonymous = http.get(server.url("/")).send().await.unwrap();
    assert_eq!(anonymous.status(), 401);
    assert_eq!(anonymous.headers()["www-authenticate"], "Basic");
    assert_eq!(anonymous.headers()["x-frame-options"], "deny");
    for _ in 0..2 {
        assert_eq!(ask("alice", "secret").await.status(), 200);
        assert_eq!(ask("alice", "wrong").await.status(), 401);
        assert_eq!(ask("bob", "secret").await.status(), 401);
    }
    // A broken file changes nothing; a good one is in force at once.
    write(folder.path(), "web.yml", "basic_auth_users: [");
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(ask("alice", "secret").await.status(), 200);
    let text = format!("basic_auth_users:\n  bob: {}\n", hash("secret"));
    write(folder.path(), "web.yml", &text);
    for _ in 0..200 {
        if ask("bob", "secret").await.status() == 200 {
            assert_eq!(ask("alice", "secret").await.status(), 401);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the new user was never let in");
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

#[tokio::test]
async fn tls_with_http2_and_a_renewed_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    let put = |authority: &Authority| {
        let (certificate, key) = authority.issue("localhost");
        write(folder.path(), "a.key", &key.serialize_pem());
        write(folder.path(), "a.crt", &certificate.pem());
    };
    put(&old);
    let path = write(
        folder.path(),
        "web.yml",
        "tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n  min_version: TLS12\n  \
         cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_RSA_WITH_AES_128_GCM_SHA256]\n",
    );
    let server = Running::start(hello(), |s| s.web_config = Some(path)).await;
    let url = format!("https://localhost:{}/", server.addr.port());
    let response = client(&[&old], None).get(&url).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.version()),
        (200, http::Version::HTTP_2)
    );
    assert!(
        plain().get(&url).send().await.is_err(),
        "an unknown authority"
    );
    assert!(
        plain().get(server.url("/")).send().await.is_err(),
        "plain text"
    );
    put(&new);
    for _ in 0..200 {
        let http = client(&[&new], None);
        if http.get(&url).send().await.is_ok_and(|r| r.status() == 200) {
            return server.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the new certificate was never shown");
}

#[tokio::test]
async fn clients_show_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.issue("localhost");
    write(folder.path(), "a.key", &key.serialize_pem());
    write(folder.path(), "a.crt", &certificate.pem());
    write(folder.path(), "ca.crt", &ours.issuer.pem());
    let (good, stranger) = (ours.issue("good"), theirs.issue("good"));
    let other = ours.issue("other");
    let ca = "\n  client_ca_file: ca.crt";
    for (policy, nobody, good_name, other_name, unknown) in [
        ("RequestClientCert".to_owned(), true, true, true, true),
        ("RequireAnyClientCert".to_owned(), false, true, true, true),
        (
            format!("VerifyClientCertIfGiven{ca}"),
            true,
            true,
            true,
            false,
        ),
        (
            format!("RequireAndVerifyClientCert{ca}"),
            false,
            true,
            true,
            false,
        ),
        (
            format!("RequireAndVerifyClientCert{ca}\n  client_allowed_sans: [good]"),
            false,
            true,
            false,
            false,
        ),
    ] {
        let text = format!(
            "tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n  client_auth_type: {policy}\n\
             http_server_config:\n  http2: false\n"
        );
        let path = write(folder.path(), "web.yml", &text);
        let server = Running::start(hello(), |s| s.web_config = Some(path)).await;
        let url = format!("https://localhost:{}/", server.addr.port());
        for (identity, allowed) in [
            (None, nobody),
            (Some((&good.0, &good.1)), good_name),
            (Some((&other.0, &other.1)), other_name),
            (Some((&stranger.0, &stranger.1)), unknown),
        ] {
            let answer = client(&[&ours], identity).get(&url).send().await;
            assert_eq!(answer.is_ok(), allowed, "{policy} {:?}", answer.err());
            if let Ok(answer) = answer {
                assert_eq!(answer.version(), http::Version::HTTP_11);
            }
        }
    }
}

#[tokio::test]
async fn under_a_prefix() {
    let app = hello().route("/x", get(|| async { "x" }));
    let server = Running::start(super::prefix::mount(app, "/a/b"), |_| {}).await;
    let http = plain();
    for (path, status) in [
        ("/a/b", 200),
        ("/a/b/", 302),
        ("/a/b/x", 200),
        ("/", 302),
        ("/x", 404),
    ] {
        let response = http.get(server.url(path)).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
    }
}

#[tokio::test]
async fn other_origins() {
    let with = |pattern: &str| {
        let cors = super::Cors::new(pattern).unwrap();
        hello().layer(axum::middleware::from_fn_with_state(
            cors,
            super::cors::answer,
        ))
    };
    let http = plain();
    for (pattern, origin, allowed) in [
        (".*", "http://a.b", Some("*")),
        ("https?://(a|c)\\.b", "http://a.b", Some("http://a.b")),
        ("https?://(a|c)\\.b", "http://x.b", None),
    ] {
        let server = Running::start(with(pattern), |_| {}).await;
        let response = http
            .get(server.url("/"))
            .header("origin", origin)
            .send()
            .await
            .unwrap();
        let header = response.headers().get("access-control-allow-origin");
        assert_eq!(header.map(|h| h.to_str().unwrap()), allowed);
        assert!(
            response
                .headers()
                .contains_key("access-control-allow-methods")
        );
        let response = http.get(server.url("/")).send().await.unwrap();
        assert!(
            !response
                .headers()
                .contains_key("access-control-allow-methods")
        );
        assert_eq!(response.headers()["vary"], "Origin");
    }
    assert!(super::Cors::new("(").is_err());
}
