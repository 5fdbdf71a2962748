use std::sync::atomic::{AtomicU32, Ordering};

use axum::routing::any;
use tower::ServiceExt as _;
use wire::client::{ClientOptions, HttpSettings};

use super::*;

/// A querier that fails as often as it is told, and says what it was asked.
async fn downstream(failures: u32) -> String {
    let left = Arc::new(AtomicU32::new(failures));
    let app = Router::new().fallback(any(move |request: Request| {
        let left = Arc::clone(&left);
        async move {
            let fails = left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok();
            if fails {
                return (StatusCode::BAD_GATEWAY, "down").into_response();
            }
            let headers = format!("{:?}", request.headers().get(TENANT));
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let text = String::from_utf8_lossy(&body);
            let echo = format!("{} {} {text} {headers}", parts.method, parts.uri);
            let answer = [
                ("x-own", "kept"),
                ("connection", "x-hop"),
                ("x-hop", "gone"),
                ("access-control-allow-origin", "*"),
            ];
            (answer, echo).into_response()
        }
    }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

fn options(downstream: String) -> FrontendOptions {
    FrontendOptions {
        downstream,
        rewriting: Rewriting::default(),
        range_tries: 5,
        instant_tries: 5,
        labels_tries: 2,
        tenant_header: TENANT.to_owned(),
        slow: Slow::Always,
        user_header: String::new(),
        org_headers: Vec::new(),
        statistics: false,
        cors: true,
        head_timeout: None,
    }
}

async fn ask(options: FrontendOptions, request: http::request::Builder) -> (Response, Registry) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let registry = Registry::new();
    let settings = ClientOptions {
        gzip: false,
        ..ClientOptions::default()
    };
    let client = HttpClient::new(&HttpSettings::default(), settings).unwrap();
    let frontend = Frontend::new(client, options, &registry).unwrap();
    let app = Arc::new(frontend).router();
    let response = app
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    (response, registry)
}

async fn text(response: Response) -> String {
    let body = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn what_it_does_not_know_goes_through_untouched() {
    let url = downstream(0).await;
    let request = Request::get("/some/page?a=%20b").header("accept", "x");
    let (response, _) = ask(options(url), request).await;
    assert_eq!(response.headers()["x-own"], "kept");
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert!(response.headers().get("x-hop").is_none());
    assert_eq!(text(response).await, "GET /some/page?a=%20b  None");
}

#[tokio::test]
async fn failures_are_tried_again_but_mistakes_are_not() {
    let url = downstream(4).await;
    let (response, registry) = ask(options(url), Request::get("/x/api/v1/query?query=up")).await;
    assert_eq!(response.status(), StatusCode::OK);
    let said = text(response).await;
    assert!(
        said.starts_with("GET /x/api/v1/query?query=up&partial_response=false"),
        "{said}"
    );
    let mut body = Vec::new();
    metrics::encode(&registry.gather(), metrics::Format::Text, &mut body);
    let counted = String::from_utf8(body).unwrap();
    assert!(counted.contains("thanos_query_frontend_queries_total{op=\"query\"} 1\n"));
    assert!(counted.contains("thanos_query_frontend_queries_total{op=\"series\"} 0\n"));
    assert!(
        counted.contains("cortex_query_frontend_retries_sum{tripperware=\"query_instant\"} 4\n")
    );

    // It is the querier's last word that is passed on.
    let url = downstream(2).await;
    let (response, _) = ask(options(url.clone()), Request::get("/api/v1/labels")).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(text(response).await, "down");
    // What is not a question is not asked twice.
    let url = downstream(1).await;
    let (response, _) = ask(options(url), Request::get("/api/v1/rules")).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn a_querier_that_is_away_is_said_to_be() {
    let (response, _) = ask(
        options("http://127.0.0.1:1".to_owned()),
        Request::get("/api/v1/query?query=up"),
    )
    .await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(text(response).await.contains("the querier does not answer"));
}

#[tokio::test]
async fn tenants_and_cors_are_converted() {
    let url = downstream(0).await;
    let options = FrontendOptions {
        tenant_header: "x-team".to_owned(),
        cors: false,
        ..options(url)
    };
    let (response, _) = ask(options, Request::get("/").header("x-team", "a")).await;
    assert!(
        response
            .headers()
            .get("access-control-allow-origin")
            .is_none()
    );
    assert_eq!(text(response).await, "GET /  Some(\"a\")");
}

#[test]
fn operations_are_known_by_their_paths() {
    let of = |path| Operation::of(&Method::GET, path);
    assert_eq!(of("/prefix/api/v1/query"), Some(Operation::Instant));
    assert_eq!(of("/api/v1/query_range"), Some(Operation::Range));
    assert_eq!(of("/api/v1/label/job/values"), Some(Operation::LabelValues));
    assert_eq!(of("/api/v1/label//values"), None);
    assert_eq!(of("/api/v1/query/x"), None);
    assert_eq!(Operation::of(&Method::DELETE, "/api/v1/series"), None);
}
