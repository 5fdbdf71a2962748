//! What changes the data: deleting series, cleaning up after that, snapshots.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use model::report::Admin;
use model::{BoxFuture, SourceError};
use serde::Serialize;

use super::Api;
use crate::error::{ApiError, ErrorType, success};
use crate::params::{Params, quoted};

fn admin(api: &Api) -> Result<Arc<dyn Admin>, ApiError> {
    api.admin
        .clone()
        .ok_or_else(|| ApiError::new(ErrorType::Disabled, "admin APIs disabled"))
}

/// Runs `work` on the blocking pool: a database may do everything before it gives its future.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> BoxFuture<'static, Result<T, SourceError>> + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |why: String| ApiError::new(ErrorType::Internal, why);
    let handle = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || handle.block_on(work()))
        .await
        .map_err(|panic| failed(panic.to_string()))?
        .map_err(|e| failed(e.message.to_string()))
}

pub(super) async fn delete_series(
    State(api): State<Api>,
    params: Params,
) -> Result<Response, ApiError> {
    let admin = admin(&api)?;
    params.whole()?;
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad("no match[] parameter provided"));
    }
    let range = params.range()?;
    let selectors: Result<Vec<_>, _> = params
        .all("match[]")
        .map(promql::parse::parse_selector)
        .collect();
    // All of them are read before the first deletes anything.
    for matchers in selectors.map_err(|e| ApiError::param("match[]", e))? {
        let admin = Arc::clone(&admin);
        aside(move || admin.delete_series(matchers, range)).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn clean_tombstones(State(api): State<Api>) -> Result<Response, ApiError> {
    let admin = admin(&api)?;
    aside(move || admin.clean_tombstones()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn snapshot(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Snapshot {
        name: String,
    }
    let admin = admin(&api)?;
    // As Go reads a boolean.
    let skip_head = match params.get("skip_head") {
        "" | "0" | "f" | "F" | "false" | "False" | "FALSE" => false,
        "1" | "t" | "T" | "true" | "True" | "TRUE" => true,
        other => {
            let why = format!(
                "unable to parse boolean: strconv.ParseBool: parsing {}: invalid syntax",
                quoted(other)
            );
            return Err(ApiError::param("skip_head", why));
        }
    };
    let name = aside(move || admin.snapshot(skip_head)).await?;
    success(&Snapshot { name })
}
