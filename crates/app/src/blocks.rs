//! `/api/v1/blocks`: the blocks of a bucket, as Thanos' block viewer asks for them, what will become of
//! them, and marks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Form, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bucket::catalog::CatalogBlock;
use bucket::marks::{self, DeletionMark, NoCompactMark};
use bucket::{Bucket, Catalog};
use model::Millis;
use model::time::{Clock as _, WallClock};
use serde::Deserialize;
use serde_json::{Value, json};
use ulid::Ulid;

/// What the viewer is told.
#[derive(Clone)]
pub struct Blocks {
    /// The bucket.
    pub bucket: Arc<Bucket>,
    /// The external label by which the page groups blocks.
    pub label: String,
    /// All blocks.
    pub global: Arc<Catalog>,
    /// The blocks that the role works with; none: it works with none.
    pub loaded: Option<Arc<Catalog>>,
    /// What will be done, for `/api/v1/blocks/plan`.
    pub plan: Option<Arc<dyn Fn() -> Value + Send + Sync>>,
    /// Whether blocks can be marked.
    pub admin: bool,
}

/// The routes, from the root.
pub fn router(blocks: Blocks) -> Router {
    Router::new()
        .route("/api/v1/blocks", get(list))
        .route("/api/v1/blocks/plan", get(plan))
        .route("/api/v1/blocks/mark", post(mark))
        .with_state(blocks)
}

fn success(data: Value) -> Response {
    Json(json!({ "status": "success", "data": data })).into_response()
}

fn bad(message: impl std::fmt::Display) -> Response {
    let body = json!({ "status": "error", "errorType": "bad_data", "error": message.to_string() });
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    (StatusCode::BAD_REQUEST, no_store, Json(body)).into_response()
}

fn rfc3339(ms: Option<Millis>) -> String {
    let time = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    // Go's moment before the first.
    time.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |t| t.to_string())
}

async fn list(
    State(blocks): State<Blocks>,
    Query(params): Query<BTreeMap<String, String>>,
) -> Response {
    let view = params.get("view").map(String::as_str);
    let catalog = match view {
        Some("loaded") => blocks.loaded.as_ref(),
        _ => Some(&blocks.global),
    };
    let snapshot = catalog.map(|c| c.snapshot()).unwrap_or_default();
    let shown: Vec<Value> = snapshot.blocks.iter().map(|b| shown(b)).collect();
    let unreadable = snapshot.unreadable.first();
    success(json!({
        "label": blocks.label,
        "blocks": shown,
        "refreshedAt": rfc3339(snapshot.taken),
        "err": unreadable.map(|(ulid, why)| format!("{ulid}: {why}")),
    }))
}

/// The meta.json, and beside what Thanos tells the marks of the block.
fn shown(block: &CatalogBlock) -> Value {
    let mut meta = serde_json::to_value(&block.meta).unwrap_or_default();
    let of = |kind: &str, reason: &str, details: &str, time: i64| json!({ "kind": kind, "reason": reason, "details": details, "time": time });
    let mut marks = Vec::new();
    if let Some(mark) = &block.marks.deletion {
        marks.push(of("deletion", "", &mark.details, mark.deletion_time));
    }
    if let Some(mark) = &block.marks.no_compact {
        marks.push(of(
            "no-compact",
            &mark.reason,
            &mark.details,
            mark.no_compact_time,
        ));
    }
    if let Some(mark) = &block.marks.no_downsample {
        marks.push(of(
            "no-downsample",
            &mark.reason,
            &mark.details,
            mark.no_downsample_time,
        ));
    }
    if let (Value::Object(meta), false) = (&mut meta, marks.is_empty()) {
        meta.insert("marks".to_owned(), marks.into());
    }
    meta
}

async fn plan(State(blocks): State<Blocks>) -> Response {
    match &blocks.plan {
        Some(plan) => success(plan()),
        None => bad("there is no compactor here"),
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Marking {
    id: String,
    action: String,
    detail: String,
}

async fn mark(State(blocks): State<Blocks>, Form(form): Form<Marking>) -> Response {
    if !blocks.admin {
        return bad("Admin operations are disabled");
    }
    if form.id.is_empty() {
        return bad("ID cannot be empty");
    }
    let ulid = match Ulid::from_string(&form.id) {
        Ok(ulid) => ulid,
        Err(e) => return bad(format!("ULID {:?} is not valid: {e}", form.id)),
    };
    let now = WallClock.now();
    let bucket = &blocks.bucket;
    let written = match form.action.as_str() {
        "" => return bad("Action cannot be empty"),
        "DELETION" => marks::write(bucket, ulid, &DeletionMark::new(ulid, form.detail, now)).await,
        "NO_COMPACTION" => {
            let mark = NoCompactMark::new(ulid, "manual", form.detail, now);
            marks::write(bucket, ulid, &mark).await
        }
        other => return bad(format!("not supported marker {other}")),
    };
    match written {
        Ok(_) => {
            // So that whoever looks next sees it; a bucket that takes long shows it later.
            let look = blocks.global.sync();
            let _ = tokio::time::timeout(Duration::from_secs(5), look).await;
            StatusCode::NO_CONTENT.into_response()
        }
        Err(e) => bad(e),
    }
}
