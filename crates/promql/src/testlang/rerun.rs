//! The same query with its time written into it.

use model::Millis;

use crate::ast::{At, Expr, ExprKind, TimeShift};
use crate::features::Features;
use crate::parse::parse;

/// Functions whose result changes with the evaluation time though their arguments do not.
const TIME_DEPENDENT: &[&str] = &[
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "end",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
    "year",
];

/// `query` with every selector and subquery fixed at `at` (ms), and the times at which it must
/// give the same; nothing if the query depends on the time anyhow.
pub(super) fn pinned(query: &str, at: Millis) -> Option<(String, Vec<Millis>)> {
    let mut expr = parse(query, &Features::ALL).ok()?;
    if !pin(&mut expr, at) {
        return None;
    }
    let times = if at == 0 {
        vec![-1000, 0, 1000]
    } else {
        vec![at.saturating_mul(-10), 0, at / 5, at, at.saturating_mul(10)]
    };
    Some((expr.to_string(), times))
}

/// `false` if there is a function that depends on the time.
fn pin(expr: &mut Expr, at: Millis) -> bool {
    let set = |shift: &mut TimeShift| {
        if !matches!(shift.at, Some(At::Time(_))) {
            shift.at = Some(At::Time(at));
        }
    };
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => true,
        ExprKind::Vector(selector) => {
            set(&mut selector.at);
            true
        }
        ExprKind::Matrix(matrix) => {
            set(&mut matrix.selector.at);
            true
        }
        // What is inside a fixed subquery is fixed.
        ExprKind::Subquery(subquery) => {
            set(&mut subquery.at);
            true
        }
        ExprKind::Call(call) => {
            !TIME_DEPENDENT.contains(&call.func.name)
                && call.args.iter_mut().all(|arg| pin(arg, at))
        }
        ExprKind::Aggregate(aggregate) => {
            pin(&mut aggregate.expr, at) && aggregate.param.iter_mut().all(|param| pin(param, at))
        }
        ExprKind::Binary(binary) => pin(&mut binary.lhs, at) && pin(&mut binary.rhs, at),
        ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => pin(inner, at),
    }
}
