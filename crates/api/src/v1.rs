//! Prometheus' HTTP API, version 1.
//!
//! Each endpoint is a function of the request's parameters and of one dependency; where the
//! dependency is absent the endpoint answers `not_found`. JSON, error texts and status codes are
//! Prometheus' own (`web/api/v1/api.go`); what we add is additive.

use std::sync::Arc;

use axum::Router;
use axum::extract::{OriginalUri, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};
use http::{HeaderValue, StatusCode};

use crate::Options;
use crate::error::{ApiError, ErrorType};
use crate::ready::State as Readiness;

mod admin;
mod exemplars;
mod explain;
mod gather;
mod head;
mod language;
mod openapi;
mod query;
mod read;
mod reports;
mod rules;
mod search;
mod series;
mod state;
mod stats;
mod status;
mod targets;
mod time;

pub use exemplars::selectors;
pub(crate) use gather::lookback_at;
pub use gather::{Gathering, PartialReports, StoreStatus};
pub use read::ReadLimits;
pub use state::{FeatureTable, Replay};
pub use stats::statistics;
pub use status::{BuildInfo, RuntimeInfo};
pub use targets::{ScrapePool, ScrapePools};
pub(crate) use time::Time;

type Api = Arc<Options>;

/// The routes below `/api/v1`.
pub(crate) fn router(options: Api) -> Router {
    let questions = Router::new()
        .route("/query", both(query::instant))
        .route("/query_range", both(query::range))
        .route("/query_exemplars", both(exemplars::query))
        .route("/query_explain", both(explain::instant))
        .route("/query_range_explain", both(explain::range))
        .route("/format_query", both(language::format))
        .route("/parse_query", both(language::parse))
        .route("/labels", both(series::label_names))
        .route("/label/{name}/values", get(series::label_values))
        .route("/series", both(series::series))
        .route("/search/metric_names", both(search::metric_names))
        .route("/search/label_names", both(search::label_names))
        .route("/search/label_values", both(search::label_values))
        .route("/read", post(read::read))
        .route("/rules", get(rules::rules))
        .route("/alerts", get(rules::alerts))
        .route("/alertmanagers", get(rules::alertmanagers))
        .layer(from_fn_with_state(Arc::clone(&options), unless_agent));
    let asked = Router::new()
        .route("/targets", get(targets::targets))
        .route("/targets/metadata", get(targets::target_metadata))
        .route("/targets/relabel_steps", get(targets::relabel_steps))
        .route("/scrape_pools", get(targets::scrape_pools))
        .route("/scrape_pools/config", get(targets::scrape_pool_config))
        .route("/features", get(state::features))
        .route("/status/self_metrics", get(state::self_metrics))
        .route("/metadata", get(targets::metadata))
        .route("/stores", get(gather::stores))
        .route("/status/config", get(status::config))
        .route("/status/tsdb", get(head::tsdb))
        .route("/status/tsdb/blocks", get(head::blocks))
        .route("/status/bucket", get(head::bucket))
        .route("/admin/tsdb/delete_series", posted(admin::delete_series))
        .route(
            "/admin/tsdb/clean_tombstones",
            posted(admin::clean_tombstones),
        )
        .route("/admin/tsdb/snapshot", posted(admin::snapshot))
        .merge(questions)
        .merge(pushed(&options))
        .layer(from_fn_with_state(Arc::clone(&options), when_ready));
    // What can be told while the process is still starting.
    let known = Router::new()
        .route("/status/flags", get(status::flags))
        .route("/status/runtimeinfo", get(status::runtime))
        .route("/status/buildinfo", get(status::build))
        .route("/status/walreplay", get(state::replay))
        .route("/openapi.yaml", get(openapi::document))
        .route("/notifications", get(state::notifications))
        .route("/notifications/live", get(state::live));
    asked
        .merge(known)
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn(options_request))
        .layer(from_fn_with_state(
            options.cors.clone(),
            wire::server::cors::answer,
        ))
        .with_state(options)
}

fn both<H, T>(handler: H) -> MethodRouter<Api>
where
    H: axum::handler::Handler<T, Api>,
    T: 'static,
{
    get(handler.clone()).post(handler)
}

fn posted<H, T>(handler: H) -> MethodRouter<Api>
where
    H: axum::handler::Handler<T, Api>,
    T: 'static,
{
    post(handler.clone()).put(handler)
}

/// What takes samples, and what is said where it is switched off.
fn pushed(options: &Options) -> Router<Api> {
    let off = |path: &str, text: &'static str| {
        let answer = move || async move { (StatusCode::NOT_FOUND, text) };
        Router::new().route(path, post(answer))
    };
    let write = options.remote_write.clone().unwrap_or_else(|| {
        let text =
            "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n";
        off("/write", text)
    });
    let otlp = options.otlp.clone().unwrap_or_else(|| {
        let text = "otlp write receiver needs to be enabled with --web.enable-otlp-receiver\n";
        off("/otlp/v1/metrics", text)
    });
    write.merge(otlp).with_state(())
}

/// An agent keeps nothing that could be asked for.
async fn unless_agent(State(api): State<Api>, request: Request, next: Next) -> Response {
    if api.agent {
        return ApiError::new(ErrorType::Execution, "unavailable with Prometheus Agent")
            .into_response();
    }
    next.run(request).await
}

/// 503 until the process can answer.
async fn when_ready(State(api): State<Api>, request: Request, next: Next) -> Response {
    let state = api.ready.get();
    if state == Readiness::Ready {
        return next.run(request).await;
    }
    let mut response = ApiError::new(ErrorType::Unavailable, "Service Unavailable").into_response();
    let stopping = HeaderValue::from_static(if state == Readiness::Stopping {
        "true"
    } else {
        "false"
    });
    response
        .headers_mut()
        .insert("x-prometheus-stopping", stopping);
    response
}

/// `OPTIONS` on any path is answered without content; the CORS headers are what it is for.
async fn options_request(request: Request, next: Next) -> Response {
    if request.method() == http::Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    next.run(request).await
}

async fn nowhere(OriginalUri(uri): OriginalUri) -> Response {
    if let Some(there) = wire::server::prefix::tidied(&uri) {
        return there;
    }
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

async fn wrong_method() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n").into_response()
}
