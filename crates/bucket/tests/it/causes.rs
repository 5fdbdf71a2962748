//! Why a bucket cannot be reached is said, down to the certificate.

use std::path::Path;
use std::sync::Arc;

use bucket::Config;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use crate::kit::policy;

/// A server with a certificate of its own for `name`, which lies in `dir`; gives its port.
async fn tls(dir: &Path, name: &str) -> u16 {
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    std::fs::write(dir.join("ca.pem"), made.cert.pem()).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { acceptor.accept(stream).await.map(drop) });
        }
    });
    port
}

/// What reading an object says.
async fn said(port: u16, http: &str) -> String {
    let yaml = format!(
        "type: S3\nconfig:\n  bucket: b\n  endpoint: localhost:{port}\n  access_key: x\n  secret_key: y\n  http_config: {{{http}}}\n"
    );
    let config = Config::parse(&yaml).unwrap();
    let bucket = bucket::open_with(&config, policy(), &metrics::Registry::new()).unwrap();
    let error = bucket.get("some/key").await.unwrap_err().to_string();
    assert!(
        error.starts_with("b: get some/key ") && error.contains("attempts"),
        "{error}"
    );
    error
}

#[tokio::test]
async fn why_a_bucket_cannot_be_reached_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let port = tls(dir.path(), "localhost").await;
    let error = said(port, "").await;
    assert!(
        error.contains("invalid peer certificate: UnknownIssuer"),
        "{error}"
    );

    let port = tls(dir.path(), "elsewhere.example").await;
    let ca_file = dir.path().join("ca.pem");
    let trusted = format!("tls_config: {{ca_file: {}}}", ca_file.display());
    let error = said(port, &trusted).await;
    let other = error.contains("certificate not valid for name") && error.contains("localhost");
    assert!(other && error.contains("elsewhere.example"), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // It takes connections, and never a word.
    let error = said(port, "").await;
    assert!(error.contains("no answer within 500ms"), "{error}");
    drop(listener);
    let error = said(port, "").await;
    assert!(error.contains("Connection refused"), "{error}");
}
