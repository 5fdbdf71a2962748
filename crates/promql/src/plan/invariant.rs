//! Pass: what is the same at every step is computed once.

use super::{Map, Node, Over, Scalar};
use crate::kernels::RangeFn;

const CALENDAR: [&str; 8] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "year",
];

/// Wraps the largest parts that do not depend on the step.
pub(crate) fn fold(node: &mut Node) {
    if is_invariant(node) {
        inner_subqueries(node);
        let whole = std::mem::replace(node, Node::Vector(Scalar::Const(0.0)));
        *node = Node::Invariant(Box::new(whole));
        return;
    }
    node.children_mut(&mut fold);
}

/// A subquery has a grid of its own: what is invariant on it is folded too.
fn inner_subqueries(node: &mut Node) {
    if let Node::Range {
        over: Over::Subquery(subquery),
        ..
    } = node
    {
        fold(&mut subquery.inner);
    } else {
        node.children_mut(&mut inner_subqueries);
    }
}

fn is_invariant(node: &Node) -> bool {
    match node {
        Node::Select(selector, _) => selector.at.is_some(),
        Node::Range {
            func, over, params, ..
        } => {
            let fixed = match over {
                Over::Selector(selector) => selector.at.is_some(),
                Over::Subquery(subquery) => subquery.at.is_some(),
            };
            // predict_linear looks from the time of the step.
            fixed && *func != RangeFn::PredictLinear && params.iter().all(constant)
        }
        Node::Map(input, map) => {
            is_invariant(input)
                && match map {
                    Map::StepTime => false,
                    // As in Prometheus, whose calendar functions are never taken for invariant. No
                    // value depends on it, but whether a sort around one warns.
                    Map::Value(name, _) => !CALENDAR.contains(name),
                    Map::Clamp(a, b) => constant(a) && constant(b),
                    Map::Round(s) | Map::Scalar { scalar: s, .. } => constant(s),
                    Map::Negate
                    | Map::Histogram(..)
                    | Map::Nothing
                    | Map::LabelReplace(_)
                    | Map::LabelJoin(_) => true,
                }
        }
        Node::Vector(scalar) => constant(scalar),
        // As in Prometheus, the parameter does not count: it is then taken at the first step.
        Node::Aggregate { input, .. } => is_invariant(input),
        Node::Join { sides, .. } | Node::Set { sides, .. } => {
            is_invariant(&sides.0) && is_invariant(&sides.1)
        }
        Node::Absent { input, .. } | Node::Sort { input, .. } | Node::Invariant(input) => {
            is_invariant(input)
        }
        Node::Distributed { here, .. } => is_invariant(here),
        Node::Remote(_) => false,
        Node::Info { base, fixed, .. } => *fixed && is_invariant(base),
        Node::HistogramQuantile {
            quantiles, input, ..
        } => is_invariant(input) && quantiles.iter().all(|(s, _)| constant(s)),
        Node::HistogramFraction {
            lower,
            upper,
            input,
            ..
        } => is_invariant(input) && constant(lower) && constant(upper),
    }
}

/// Whether it is the same at every step.
pub(super) fn constant(scalar: &Scalar) -> bool {
    match scalar {
        Scalar::Const(_) => true,
        Scalar::Time => false,
        Scalar::Of(node) => is_invariant(node),
        Scalar::Neg(a) => constant(a),
        Scalar::Binary(_, ab) | Scalar::Max(ab) | Scalar::Min(ab) => {
            constant(&ab.0) && constant(&ab.1)
        }
    }
}
