use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;

use super::*;

fn settings(yaml: &str) -> Result<HttpSettings, String> {
    serde_saphyr::from_str(yaml).map_err(|e| e.to_string())
}

async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route(
        "/",
        get(|headers: HeaderMap| async move {
            let mut all: BTreeMap<String, String> = BTreeMap::new();
            for (name, value) in &headers {
                let text = all.entry(name.to_string()).or_default();
                *text = format!("{text}{};", value.to_str().unwrap());
            }
            serde_json::to_string(&all).unwrap()
        }),
    );
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}/")
}

async fn ask(client: &HttpClient, url: &str) -> Result<BTreeMap<String, String>, ClientError> {
    let response = client.send(client.get(url)?).await?;
    let text = response
        .text()
        .await
        .map_err(|e| ClientError::Failed(e.to_string()))?;
    Ok(serde_json::from_str(&text).unwrap())
}

#[test]
fn settings_are_judged() {
    for (yaml, message) in [
        (
            "bearer_token: a\nbearer_token_file: b",
            "at most one of bearer_token & bearer_token_file",
        ),
        (
            "basic_auth: {username: a}\nbearer_token: b",
            "at most one of basic_auth, oauth2, bearer",
        ),
        (
            "basic_auth: {password: a, password_file: b}",
            "at most one of basic_auth password",
        ),
        ("authorization: {type: Basic}", "use \"basic_auth\" instead"),
        (
            "oauth2: {client_id: a}",
            "oauth2 token_url must be configured",
        ),
        (
            "no_proxy: a",
            "if no_proxy is configured, proxy_url must also be configured",
        ),
        ("tls_config: {cert: a}", "exactly one of key or key_file"),
        (
            "tls_config: {min_version: TLS14}",
            "unknown TLS version: TLS14",
        ),
        (
            "http_headers: {Host: {values: [a]}}",
            "setting header \"Host\" is not allowed",
        ),
        (
            "basic_auth: {user: a}",
            "field user not found in type config.BasicAuth",
        ),
    ] {
        let error = settings(yaml).unwrap_err();
        assert!(error.contains(message), "{yaml}: {error}");
    }
    let old = settings("bearer_token: t").unwrap();
    assert_eq!(old.authorization.unwrap().kind, "Bearer");
    assert_eq!(settings("{}").unwrap(), HttpSettings::default());
    assert_eq!(
        settings("oauth2: {client_id: a, token_url: b, client_secret_ref: c}")
            .unwrap()
            .unsupported(),
        ["oauth2.client_secret_ref"]
    );
}

#[test]
fn secrets_are_not_shown() {
    let all = settings(
        "basic_auth: {username: u, password: S3CRET}\n\
         proxy_url: http://me:S3CRET@proxy:1/\n\
         http_headers: {X-A: {secrets: [S3CRET]}}",
    )
    .unwrap();
    let yaml = serde_saphyr::to_string(&all).unwrap();
    assert!(
        !yaml.contains("S3CRET") && !format!("{all:?}").contains("S3CRET"),
        "{yaml}"
    );
    assert!(
        yaml.contains("<secret>") && yaml.contains("http://me:xxxxx@proxy:1/"),
        "{yaml}"
    );
}

#[tokio::test]
async fn credentials_and_headers_are_sent_and_files_read_again() {
    let url = echo().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pw"), "one\n").unwrap();
    let mut basic = settings(
        "basic_auth: {username: u, password_file: pw}\nhttp_headers: {X-A: {values: [v], secrets: [s]}}",
    )
    .unwrap();
    basic.set_folder(folder.path());
    let client = HttpClient::new(&basic, ClientOptions::default()).unwrap();
    let seen = ask(&client, &url).await.unwrap();
    assert_eq!(seen["authorization"], "Basic dTpvbmU=;");
    assert_eq!(seen["x-a"], "v;s;");
    assert!(seen["user-agent"].starts_with("Epimetheus/"));
    std::fs::write(folder.path().join("pw"), "two").unwrap();
    assert_eq!(
        ask(&client, &url).await.unwrap()["authorization"],
        "Basic dTp0d28=;"
    );
    std::fs::remove_file(folder.path().join("pw")).unwrap();
    let error = ask(&client, &url).await.unwrap_err().to_string();
    assert!(
        error.contains("unable to read basic auth password file"),
        "{error}"
    );

    let bearer = settings("authorization: {type: Token, credentials: abc}").unwrap();
    let client = HttpClient::new(&bearer, ClientOptions::default()).unwrap();
    assert_eq!(
        ask(&client, &url).await.unwrap()["authorization"],
        "Token abc;"
    );
}

#[tokio::test]
async fn failures_name_the_url_without_its_password() {
    let client = HttpClient::new(&HttpSettings::default(), ClientOptions::default()).unwrap();
    let error = ask(&client, "http://u:S3CRET@127.0.0.1:1/x")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("Get \"http://u:xxxxx@127.0.0.1:1/x\": "),
        "{error}"
    );
    assert!(
        error.to_lowercase().contains("connection refused"),
        "{error}"
    );
    let oauth2 = settings("oauth2: {client_id: a, token_url: b, client_secret_ref: c}").unwrap();
    let error = HttpClient::new(&oauth2, ClientOptions::default())
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "oauth2.client_secret_ref is not supported yet"
    );
}

/// A TLS server for `names` that wants a client certificate of its own authority if `mutual`.
async fn tls_server(names: &[&str], mutual: bool) -> (String, String, String, String) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::from_params(&params, &authority_key);
    let issue = |names: &[&str]| {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let params = rcgen::CertificateParams::new(names).unwrap();
        (
            params.signed_by(&key, &issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    };
    let (cert, key) = issue(names);
    let (client_cert, client_key) = issue(&["client"]);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match mutual {
        false => builder.with_no_client_auth(),
        true => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider,
            );
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = builder.with_single_cert(chain, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let Ok(mut tls) = acceptor.accept(socket).await else {
                    return;
                };
                let mut buffer = [0; 4096];
                if tls.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                    let _ = tls
                        .write_all(
                            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
                        )
                        .await;
                    let _ = tls.shutdown().await;
                }
            });
        }
    });
    (
        format!("https://{address}/"),
        authority.pem(),
        client_cert,
        client_key,
    )
}

#[tokio::test]
async fn tls_with_own_authority_name_and_client_certificate() {
    let (url, ca, cert, key) = tls_server(&["metrics.example"], true).await;
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("ca", &ca), ("cert", &cert), ("key", &key)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let with = |yaml: &str| {
        let mut settings = settings(&format!("tls_config: {{{yaml}}}")).unwrap();
        settings.set_folder(folder.path());
        HttpClient::new(&settings, ClientOptions::default())
    };
    let both = "cert_file: cert, key_file: key";
    let good = with(&format!(
        "ca_file: ca, server_name: metrics.example, {both}"
    ))
    .unwrap();
    ask(&good, &url).await.unwrap();
    let insecure = with(&format!(
        "insecure_skip_verify: true, min_version: TLS13, {both}"
    ))
    .unwrap();
    ask(&insecure, &url).await.unwrap();
    for bad in [
        format!("ca_file: ca, {both}"),
        format!("server_name: metrics.example, {both}"),
        "ca_file: ca, server_name: metrics.example".to_owned(),
    ] {
        let error = ask(&with(&bad).unwrap(), &url).await;
        assert!(error.is_err(), "{bad}");
    }
    let error = with("ca_file: absent").err().unwrap().to_string();
    assert!(error.contains("unable to read CA cert file"), "{error}");
    let error = with("max_version: TLS11").err().unwrap().to_string();
    assert!(error.contains("max_version below TLS12"), "{error}");
}

#[tokio::test]
async fn rotated_certificates_are_taken_up() {
    let (url, ca, cert, key) = tls_server(&["localhost"], true).await;
    let (_, _, other_cert, other_key) = tls_server(&["localhost"], true).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("ca", &ca);
    write("cert", &other_cert);
    write("key", &other_key);
    let mut settings = settings(
        "tls_config: {ca_file: ca, cert_file: cert, key_file: key, server_name: localhost}",
    )
    .unwrap();
    settings.set_folder(folder.path());
    let client = HttpClient::new(&settings, ClientOptions::default()).unwrap();
    assert!(ask(&client, &url).await.is_err());
    // Longer than before, so that even a coarse clock shows the change.
    write("cert", &format!("{cert}\n\n"));
    write("key", &format!("{key}\n\n"));
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    ask(&client, &url).await.unwrap();
}

#[tokio::test]
async fn tokens_are_fetched_once_and_used() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let fetched = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&fetched);
    let token = move |headers: axum::http::HeaderMap, body: String| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            // `a b:s` with the blank escaped.
            assert_eq!(headers["authorization"], "Basic YStiOnM=");
            assert!(body.contains("grant_type=client_credentials"), "{body}");
            assert!(body.contains("scope=x+y"), "{body}");
            r#"{"access_token": "T", "token_type": "bearer", "expires_in": 3600}"#
        }
    };
    let used = |headers: axum::http::HeaderMap| async move {
        headers["authorization"].to_str().unwrap().to_owned()
    };
    let app = axum::Router::new()
        .route("/token", axum::routing::post(token))
        .route("/", axum::routing::get(used));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let settings = settings(&format!(
        "oauth2: {{client_id: a b, client_secret: s, token_url: '{url}/token', scopes: [x, y]}}"
    ))
    .unwrap();
    let client = HttpClient::new(&settings, ClientOptions::default()).unwrap();
    for _ in 0..3 {
        let request = client.get(&format!("{url}/")).unwrap();
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "Bearer T");
    }
    assert_eq!(fetched.load(Ordering::SeqCst), 1);
}

#[test]
fn credentials_in_a_url_go_into_the_header() {
    let request = |url: &str| Request::new(Method::GET, url.parse().unwrap());
    let mut asked = request("http://ada:p%40ss@host/path");
    authorize_by_url(&mut asked).unwrap();
    assert_eq!(asked.headers()[AUTHORIZATION], "Basic YWRhOnBAc3M=");
    assert_eq!(asked.url().as_str(), "http://host/path");
    // What is said already stays.
    let mut asked = request("http://ada@host/");
    let said = HeaderValue::from_static("Bearer t");
    asked.headers_mut().insert(AUTHORIZATION, said);
    authorize_by_url(&mut asked).unwrap();
    assert_eq!(asked.headers()[AUTHORIZATION], "Bearer t");
    assert_eq!(asked.url().as_str(), "http://host/");
    let mut asked = request("http://host/");
    authorize_by_url(&mut asked).unwrap();
    assert!(asked.headers().is_empty());
}
