//! `query_explain` and `query_range_explain`: how a query would be answered.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header;
use promql::{Description, Explain};

use super::{Api, query, stats};
use crate::encode::JSON;
use crate::error::{ApiError, ErrorType};
use crate::params::Params;

pub(super) async fn instant(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    let ts = params.time_or("time", api.clock.now())?;
    answer(&api, &params, (ts, ts), None)
}

pub(super) async fn range(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    let (start, end, step) = query::grid(&api, &params)?;
    answer(&api, &params, (start, end), Some(step))
}

/// As JSON, or as text with `format=text`.
fn answer(
    api: &Api,
    params: &Params,
    (start, end): (i64, i64),
    step: Option<i64>,
) -> Result<Response, ApiError> {
    let (options, _guard) = query::options(params)?;
    let explain = Explain {
        expr: params.get("query").into(),
        start,
        end,
        step,
        options,
    };
    let plan: Description = query::evaluator(api)?
        .explain(&explain)
        .ok_or_else(|| ApiError::new(ErrorType::BadData, "Query not explainable"))??;
    if params.get("format") == "text" {
        return Ok(plan.to_string().into_response());
    }
    let mut out = b"{\"status\":\"success\",\"data\":".to_vec();
    stats::plan(&mut out, &plan, false);
    out.push(b'}');
    Ok(([(header::CONTENT_TYPE, JSON)], Body::from(out)).into_response())
}
