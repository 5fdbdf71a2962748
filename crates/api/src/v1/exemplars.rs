//! `query_exemplars`: exemplars of the series that the selectors of an expression match.

use axum::extract::State;
use axum::response::Response;
use model::{Answer, Matcher};
use promql::ast::{Expr, ExprKind};
use promql::features::Features;
use serde::Serialize;

use super::language::on_deep_stack;
use super::targets::Object;
use super::{Api, reports};
use crate::error::{ApiError, success, success_with};
use crate::json::{self, Number};
use crate::params::Params;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfSeries<'a> {
    series_labels: Object<'a>,
    exemplars: Vec<One<'a>>,
}

#[derive(Serialize)]
struct One<'a> {
    labels: Object<'a>,
    value: String,
    timestamp: Number,
}

pub(super) async fn query(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    let range = params.range()?;
    if range.max < range.min {
        let why = "end timestamp must not be before start timestamp";
        return Err(ApiError::bad(why));
    }
    let selectors = selectors_of(params.get("query").to_owned(), api.features).await?;
    if selectors.is_empty() {
        return success(&None::<()>);
    }
    let Answer {
        value: found,
        warnings,
    } = reports::exemplars(&api, &params, selectors, range).await?;
    let spelled = |value| {
        let mut out = Vec::new();
        json::float(&mut out, value);
        String::from_utf8_lossy(&out).trim_matches('"').to_owned()
    };
    let shown: Vec<OfSeries<'_>> = found
        .iter()
        .map(|(labels, all)| OfSeries {
            series_labels: Object(labels),
            exemplars: all
                .iter()
                .map(|e| One {
                    labels: Object(&e.labels),
                    value: spelled(e.value),
                    timestamp: Number(e.ts as f64 / 1000.0),
                })
                .collect(),
        })
        .collect();
    success_with(&shown, &warnings)
}

/// The matchers of every selector of an expression, for a report that is asked by its text.
pub async fn selectors(text: String) -> Result<Vec<Vec<Matcher>>, ApiError> {
    selectors_of(text, Features::ALL).await
}

async fn selectors_of(text: String, features: Features) -> Result<Vec<Vec<Matcher>>, ApiError> {
    on_deep_stack(move || {
        let expr =
            promql::parse::parse(&text, &features).map_err(|why| ApiError::bad(why.to_string()))?;
        let mut selectors = Vec::new();
        gather(expr, &mut selectors);
        Ok(selectors)
    })
    .await
}

/// The matchers of every selector of an expression, however deep it is nested.
fn gather(expr: Expr, found: &mut Vec<Vec<Matcher>>) {
    let mut left = vec![expr];
    while let Some(expr) = left.pop() {
        match expr.kind {
            ExprKind::Number(_) | ExprKind::String(_) => {}
            ExprKind::Vector(v) => found.push(v.matchers),
            ExprKind::Matrix(m) => found.push(m.selector.matchers),
            ExprKind::Subquery(s) => left.push(s.expr),
            ExprKind::Call(c) => left.extend(c.args),
            ExprKind::Aggregate(a) => {
                left.push(a.expr);
                left.extend(a.param);
            }
            ExprKind::Binary(b) => left.extend([b.lhs, b.rhs]),
            ExprKind::Unary(_, e) | ExprKind::Paren(e) => left.push(*e),
        }
    }
}
