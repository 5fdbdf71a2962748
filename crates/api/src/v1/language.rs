//! `format_query` and `parse_query`.

use axum::extract::State;
use axum::response::Response;
use promql::ast::Expr;
use serde::Serialize;

use super::Api;
use crate::error::{ApiError, ErrorType, success};
use crate::params::Params;

pub(super) async fn format(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    answer(api, params, promql::prettify::prettify).await
}

pub(super) async fn parse(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    answer(api, params, promql::parse_tree::to_json).await
}

/// Reads the query and answers what `f` makes of its tree. Reading, making, writing and dropping
/// all go as deep as the query is nested.
async fn answer<T: Serialize>(
    api: Api,
    params: Params,
    f: impl FnOnce(&Expr) -> T + Send + 'static,
) -> Result<Response, ApiError> {
    // Too short to be deep.
    const SHALLOW: usize = 100;
    let deep = params.get("query").len() > SHALLOW;
    let work = move || {
        let expr = promql::parse::parse(params.get("query"), &api.features)
            .map_err(|why| ApiError::param("query", why))?;
        success(&f(&expr))
    };
    if deep {
        on_deep_stack(work).await
    } else {
        work()
    }
}

/// Runs `work` on a thread whose stack (only what is touched becomes memory) holds the deepest
/// tree that the parser makes.
pub(super) async fn on_deep_stack<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    const STACK: usize = 64 << 20;
    let internal = |why: String| ApiError::new(ErrorType::Internal, why);
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("query-reader".to_owned())
        .stack_size(STACK)
        // If the client has gone, nobody waits for the answer.
        .spawn(move || drop(done.send(work())))
        .map_err(|e| internal(format!("no thread to read the query on: {e}")))?;
    result
        .await
        .map_err(|_| internal("reading the query failed".to_owned()))?
}
