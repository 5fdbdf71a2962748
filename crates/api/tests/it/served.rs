//! The API on a real port.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::{Lifecycle, Options};
use model::BoxFuture;
use wire::server::{Server, Settings};

use crate::fakes::{Fake, options, request, send};

/// Serves `options` until the test ends.
async fn serve(options: Options, prefix: &str) -> String {
    let settings = Settings {
        listen: vec!["127.0.0.1:0".to_owned()],
        ..Settings::default()
    };
    let server = Server::bind(settings, &options.registry).await.unwrap();
    let url = format!("http://{}", server.addresses()[0]);
    let app = wire::server::prefix::mount(api::router(options), prefix);
    tokio::spawn(server.serve(app, std::future::pending()));
    url
}

pub fn client() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(tls)
        .build()
        .unwrap()
}

/// The status line and the rest of what a request line is answered, as it stands.
async fn raw(url: &str, target: &str) -> (String, String) {
    let address = url.strip_prefix("http://").unwrap().to_owned();
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    let (line, rest) = answer.split_once("\r\n").unwrap();
    (line.to_owned(), rest.to_owned())
}

#[tokio::test]
async fn what_people_type_is_understood() {
    let url = serve(options(), "/prom").await;
    let (line, rest) = raw(&url, "/prom/api/v1/format_query?query=up{a=\"é\",b=`c`}>0").await;
    assert_eq!(line, "HTTP/1.1 200 OK");
    assert!(
        rest.contains(r#""data":"up{a=\"é\",b=\"c\"} > 0""#),
        "{rest}"
    );
    let form = "--x\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\na>0\r\n--x\r\nContent-Disposition: form-data; name=\"query\"; filename=\"f\"\r\n\r\nb\r\n--x--\r\n";
    for (body, expected) in [(form, "a > 0"), ("--y--", "error parsing form values: ")] {
        let answer = client()
            .post(format!("{url}/prom/api/v1/format_query"))
            .header("content-type", "multipart/form-data; boundary=x")
            .body(body);
        let text = answer.send().await.unwrap().text().await.unwrap();
        assert!(text.contains(expected), "{text}");
    }
    for (target, there) in [
        ("/prom//api/v1/query?query=1", "/prom/api/v1/query?query=1"),
        ("/prom/api/v1/query/", "/prom/api/v1/query"),
        ("/prom/metrics/", "/prom/metrics"),
    ] {
        let (line, rest) = raw(&url, target).await;
        assert_eq!(line, "HTTP/1.1 307 Temporary Redirect", "{target}");
        assert!(rest.contains(&format!("location: {there}\r\n")), "{rest}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_query() {
    let fake = Fake::default();
    let cancelled = Arc::clone(&fake.cancelled);
    let url = serve(
        Options {
            evaluator: Some(Arc::new(fake)),
            ..options()
        },
        "",
    )
    .await;
    let asking = client()
        .get(format!("{url}/api/v1/query?query=endless"))
        .timeout(Duration::from_millis(200))
        .send();
    assert!(asking.await.is_err());
    for _ in 0..200 {
        if cancelled.load(Ordering::SeqCst) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the query was not cancelled");
}

#[tokio::test]
async fn a_panic_in_a_query_ends_nothing_else() {
    let url = serve(options(), "").await;
    let http = client();
    let ask = |query: &str| http.get(format!("{url}/api/v1/query?query={query}")).send();
    assert_eq!(ask("panic").await.unwrap().status(), 500);
    assert_eq!(ask("up").await.unwrap().status(), 200);
}

#[tokio::test]
async fn under_a_prefix_with_metrics_of_it() {
    let url = serve(
        Options {
            external_path: "/prom".to_owned(),
            ..options()
        },
        "/prom",
    )
    .await;
    let http = client();
    let get = |path: &str| http.get(format!("{url}{path}")).send();
    for (path, status) in [
        ("/prom/api/v1/label/job/values", 200),
        ("/prom/-/healthy", 200),
        ("/prom/query", 200),
        ("/api/v1/labels", 404),
    ] {
        assert_eq!(get(path).await.unwrap().status(), status, "{path}");
    }
    let response = get("/prom").await.unwrap();
    assert_eq!(response.headers()["location"], "/prom/query");
    let text = get("/prom/metrics").await.unwrap().text().await.unwrap();
    let line = "prometheus_http_requests_total{handler=\"/prom/api/v1/label/:name/values\",code=\"200\"} 1";
    assert!(text.contains(line), "{text}");
}

#[tokio::test]
async fn large_answers_arrive_whole_however_they_are_encoded() {
    let url = serve(options(), "").await;
    let url = format!("{url}/api/v1/query_range?query=wide&start=0&end=1000&step=1");
    let plain = client().get(&url).header("accept-encoding", "identity");
    let plain = plain.send().await.unwrap().bytes().await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&plain).unwrap();
    assert_eq!(json["data"]["result"].as_array().unwrap().len(), 500);
    // Without a word from us the client asks for gzip, and unpacks it.
    let response = client().get(&url).send().await.unwrap();
    assert!(plain == response.bytes().await.unwrap());
}

struct Life;

impl Lifecycle for Life {
    fn reload(&self) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async { Err("line 3: unknown key".to_owned()) })
    }

    fn quit(&self) {}
}

#[tokio::test]
async fn lifecycle_only_when_it_is_on() {
    for path in ["/-/reload", "/-/quit"] {
        assert_eq!(send(options(), request("GET", path)).await.status, 405);
        let answer = send(options(), request("POST", path)).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (403, "Lifecycle API is not enabled.")
        );
    }
    let on = Options {
        lifecycle: Some(Arc::new(Life)),
        ..options()
    };
    let answer = send(on.clone(), request("PUT", "/-/reload")).await;
    assert_eq!(answer.status, 500);
    assert_eq!(
        answer.body,
        "failed to reload config: line 3: unknown key\n"
    );
    assert_eq!(send(on, request("POST", "/-/quit")).await.status, 200);
}
