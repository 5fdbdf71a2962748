//! What stands beside the API: health, lifecycle, `/metrics`, `/version`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::Options;
use crate::ready::State as Readiness;

type Web = Arc<Options>;

pub(crate) fn router(options: Web) -> Router {
    Router::new()
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .route("/-/reload", any(reload))
        .route("/-/quit", any(quit))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .route("/federate", get(crate::federate::federate))
        .with_state(options)
}

/// Health and metrics alone.
pub(crate) fn health(options: Web) -> Router {
    Router::new()
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(options)
}

async fn healthy() -> &'static str {
    "Epimetheus is Healthy.\n"
}

async fn ready(State(web): State<Web>) -> Response {
    let stopping = match web.ready.get() {
        Readiness::Ready => return "Epimetheus is Ready.\n".into_response(),
        Readiness::Starting => "false",
        Readiness::Stopping => "true",
    };
    (
        StatusCode::SERVICE_UNAVAILABLE,
        [("x-prometheus-stopping", stopping)],
        "Service Unavailable",
    )
        .into_response()
}

/// The answer to those who may not change the process' life, or do not ask properly.
fn refused(web: &Web, method: &Method) -> Option<Response> {
    if !matches!(*method, Method::POST | Method::PUT) {
        let text = "Only POST or PUT requests allowed";
        return Some((StatusCode::METHOD_NOT_ALLOWED, text).into_response());
    }
    if web.lifecycle.is_none() {
        let text = "Lifecycle API is not enabled.";
        return Some((StatusCode::FORBIDDEN, text).into_response());
    }
    None
}

async fn reload(State(web): State<Web>, method: Method) -> Response {
    if let Some(refusal) = refused(&web, &method) {
        return refusal;
    }
    let Some(lifecycle) = &web.lifecycle else {
        return StatusCode::FORBIDDEN.into_response();
    };
    match lifecycle.reload().await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(why) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("failed to reload config: {why}\n"),
        )
            .into_response(),
    }
}

async fn quit(State(web): State<Web>, method: Method) -> Response {
    if let Some(refusal) = refused(&web, &method) {
        return refusal;
    }
    if let Some(lifecycle) = &web.lifecycle {
        if !lifecycle.may_quit() {
            return StatusCode::NOT_FOUND.into_response();
        }
        lifecycle.quit();
    }
    "Requesting termination... Goodbye!".into_response()
}

async fn metrics(State(web): State<Web>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let format = metrics::Format::negotiate(accept);
    let counters = web.counters.clone();
    let _served = counters.scrapes.in_flight();
    // Collectors may count what they report, so not on a thread that serves.
    let gathered = tokio::task::spawn_blocking(move || {
        let mut body = Vec::new();
        metrics::encode(&web.registry.gather(), format, &mut body);
        body
    });
    match gathered.await {
        Ok(body) => {
            counters.scrapes_ok.inc();
            let kind = HeaderValue::from_static(format.content_type());
            ([(header::CONTENT_TYPE, kind)], body).into_response()
        }
        Err(panic) => {
            counters.scrapes_failed.inc();
            tracing::error!(%panic, "gathering our own metrics failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn version(State(web): State<Web>) -> Response {
    axum::Json(&web.build).into_response()
}
