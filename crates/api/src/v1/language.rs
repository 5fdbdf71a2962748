//! `format_query` and `parse_query`.

use axum::extract::State;
use axum::response::Response;
use promql::ast::Expr;

use super::{Api, tree};
use crate::error::{ApiError, success};
use crate::params::Params;

fn read(api: &Api, params: &Params) -> Result<Expr, ApiError> {
    promql::parse::parse(params.get("query"), &api.features)
        .map_err(|why| ApiError::param("query", why))
}

pub(super) async fn format(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    success(&promql::prettify::prettify(&read(&api, &params)?))
}

pub(super) async fn parse(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    success(&tree::node(&read(&api, &params)?))
}
