//! Pass: a matcher on one side of a join holds on the other side too.
//!
//! Only where no answer and no error can change: series that are left out must not have been able
//! to take part, not even in a duplicate match. So set operators always qualify, and arithmetic
//! where the other side cannot have duplicates, being an aggregation by the matching labels.

use model::{METRIC_NAME, MatchOp, Matcher};

use super::lower::one_name;
use super::{Map, Node, Over, Selector};
use crate::arith::changes_schema;
use crate::ast::{AggregateOp, BinaryOp, Cardinality, Matching};
use crate::kernels::RangeFn;

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
/// it reads, and where nothing can be said of the series that are left out; whether it did.
fn push(node: &mut Node, matcher: &Matcher) -> bool {
    if may_collide(node) || may_say_something(node) {
        return false;
    }
    match node {
        Node::Select(selector, _)
        | Node::Range {
            over: Over::Selector(selector),
            ..
        } => {
            add(selector, matcher);
            true
        }
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
            push(input, matcher)
        }
        Node::Set {
            op,
            matching,
            sides,
        } if *op != BinaryOp::Or => {
            let restricted = push(&mut sides.0, matcher);
            // What `unless` takes away from a left side that is whole must be whole, too.
            if in_common(matching, &matcher.name) && (restricted || *op == BinaryOp::And) {
                push(&mut sides.1, matcher);
            }
            restricted
        }
        _ => false,
    }
}

/// Whether series of `node` may become equal, which is an error even of those left out.
fn may_collide(node: &Node) -> bool {
    let drops_name = match node {
        Node::Range { drops_name, .. } => *drops_name,
        Node::Map(
            _,
            Map::Scalar {
                op, bool_modifier, ..
            },
        ) => *bool_modifier || changes_schema(*op),
        Node::Map(..) => true,
        _ => false,
    };
    drops_name && !one_name(node)
}

/// Whether a function would say something of the series left out: `rate`, that a metric might not
/// be a counter; a quantile, that it is none.
fn may_say_something(node: &Node) -> bool {
    let Node::Range { func, over, .. } = node else {
        return false;
    };
    let is_counter = |m: &Matcher| {
        let ends = ["_total", "_sum", "_count", "_bucket"];
        m.op == MatchOp::Equal
            && &*m.name == METRIC_NAME
            && ends.iter().any(|end| m.value.ends_with(end))
    };
    let counter = match over {
        Over::Selector(selector) => selector.matchers.iter().any(is_counter),
        // What a subquery yields may have kept any name.
        Over::Subquery(_) => false,
    };
    match func {
        RangeFn::Rate | RangeFn::Increase => !counter,
        RangeFn::Quantile => true,
        _ => false,
    }
}

fn add(selector: &mut Selector, matcher: &Matcher) {
    if !selector.matchers.contains(matcher) {
        // In front: the name's matcher stays last.
        selector.matchers.insert(0, matcher.clone());
        selector.narrowed += 1;
    }
}
