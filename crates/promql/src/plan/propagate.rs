//! Pass: a matcher on one side of a join holds on the other side too.
//!
//! Only where no answer and no error can change: series that are left out must not have been able
//! to take part, not even in a duplicate match. So set operators always qualify, and arithmetic
//! where the other side cannot have duplicates, being an aggregation by the matching labels.

use model::{METRIC_NAME, Matcher};

use super::{Node, Over, Selector};
use crate::ast::{AggregateOp, BinaryOp, Cardinality, Matching};

/// Adds matchers to selectors below `node`.
pub(crate) fn matchers(node: &mut Node) {
    match node {
        Node::Set {
            op,
            matching,
            sides,
        } => {
            let (lhs, rhs) = &mut **sides;
            if *op != BinaryOp::Or {
                exchange(lhs, rhs, matching);
            }
            if *op == BinaryOp::And {
                exchange(rhs, lhs, matching);
            }
        }
        Node::Join {
            matching, sides, ..
        } if matching.fill == (None, None) => {
            let (lhs, rhs) = &mut **sides;
            let (many, one) = match matching.card {
                Cardinality::OneToMany => (rhs, lhs),
                _ => (lhs, rhs),
            };
            if cannot_repeat(one, matching) {
                exchange(one, many, matching);
                exchange(many, one, matching);
            }
        }
        _ => {}
    }
    node.children_mut(&mut matchers);
}

/// Gives `to` what holds of every series of `from`.
fn exchange(from: &Node, to: &mut Node, matching: &Matching) {
    let mut known = Vec::new();
    holds(from, &mut known);
    for matcher in known {
        if in_common(matching, &matcher.name) {
            push(to, &matcher);
        }
    }
}

fn in_common(matching: &Matching, name: &str) -> bool {
    name != METRIC_NAME && matching.on == matching.labels.iter().any(|l| &**l == name)
}

/// Whether at no step two series of `node` can have equal matching labels.
fn cannot_repeat(node: &Node, matching: &Matching) -> bool {
    match node {
        Node::Map(input, map) => map.keeps_labels() && cannot_repeat(input, matching),
        Node::Aggregate { op, grouping, .. } => {
            is_reducing(*op)
                && !grouping.without
                && grouping.labels.iter().all(|l| in_common(matching, l))
        }
        _ => false,
    }
}

fn is_reducing(op: AggregateOp) -> bool {
    use AggregateOp::*;
    !matches!(op, Topk | Bottomk | Limitk | LimitRatio | CountValues)
}

/// Matchers that every series of `node` satisfies.
fn holds(node: &Node, out: &mut Vec<Matcher>) {
    match node {
        Node::Select(selector, _)
        | Node::Range {
            over: Over::Selector(selector),
            ..
        } => out.extend_from_slice(&selector.matchers),
        Node::Map(input, map) if map.keeps_labels() => holds(input, out),
        Node::Sort { input, .. } => holds(input, out),
        Node::Aggregate {
            op,
            grouping,
            input,
            ..
        } if *op != AggregateOp::CountValues => {
            let mut inner = Vec::new();
            holds(input, &mut inner);
            if is_reducing(*op) {
                inner.retain(|m| {
                    m.name.as_ref() != METRIC_NAME
                        && grouping.without != grouping.labels.contains(&m.name)
                });
            }
            out.append(&mut inner);
        }
        Node::Set { op, sides, .. } if *op != BinaryOp::Or => holds(&sides.0, out),
        _ => {}
    }
}

/// Restricts `node` to series that satisfy `matcher`, where that is the same as restricting what
/// it reads.
fn push(node: &mut Node, matcher: &Matcher) {
    match node {
        Node::Select(selector, _)
        | Node::Range {
            over: Over::Selector(selector),
            ..
        } => add(selector, matcher),
        Node::Range {
            over: Over::Subquery(subquery),
            ..
        } => push(&mut subquery.inner, matcher),
        Node::Map(input, map) if map.keeps_labels() => push(input, matcher),
        Node::Sort { input, .. } => push(input, matcher),
        Node::Aggregate {
            op,
            grouping,
            input,
            ..
        } if *op != AggregateOp::CountValues
            && grouping.without != grouping.labels.contains(&matcher.name) =>
        {
            push(input, matcher);
        }
        Node::Set {
            op,
            matching,
            sides,
        } if *op != BinaryOp::Or => {
            push(&mut sides.0, matcher);
            if in_common(matching, &matcher.name) {
                push(&mut sides.1, matcher);
            }
        }
        _ => {}
    }
}

fn add(selector: &mut Selector, matcher: &Matcher) {
    if !selector.matchers.contains(matcher) {
        // In front: the name's matcher stays last.
        selector.matchers.insert(0, matcher.clone());
    }
}
