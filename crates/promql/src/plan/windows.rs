//! Whether a plan gives the same when it is run for some of its steps after the others.

use super::lower::one_name;
use super::{Node, Over, Root, Scalar};
use crate::ast::AggregateOp;

/// What is the same for a query that is run in windows of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Divisible {
    /// Not even the answer: something looks at all steps at once.
    No,
    /// The answer and what is said of it. Samples of subqueries are counted again in each window that looks
    /// at them, and so is what does not depend on the step.
    Recounted,
    /// The number of samples, too.
    Whole,
}

impl Root {
    /// Whether the plan can be run in windows of steps. With `delayed_names` whether a series drops its name
    /// hangs on all of its steps.
    pub(crate) fn divisible(&mut self, delayed_names: bool) -> Divisible {
        if delayed_names {
            return Divisible::No;
        }
        let mut all = Divisible::Whole;
        self.nodes_mut(&mut |node| look(node, &mut all));
        all
    }
}

fn look(node: &mut Node, all: &mut Divisible) {
    if *all == Divisible::No {
        return;
    }
    match of(node) {
        Divisible::Whole => {}
        less => *all = less,
    }
    node.children_mut(&mut |inner| look(inner, all));
}

fn of(node: &Node) -> Divisible {
    let constant = |scalar: &Scalar| matches!(scalar, Scalar::Const(_));
    match node {
        // Parameters are judged by their extremes over all steps, or by the first.
        Node::Aggregate {
            param: Some((param, _)),
            op,
            ..
        } if *op != AggregateOp::CountValues && !constant(param) => Divisible::No,
        Node::HistogramQuantile {
            quantiles,
            label: Some(_),
            ..
        } if !quantiles.iter().all(|(q, _)| constant(q)) => Divisible::No,
        // Two series that become equal are an error even if they share no step.
        Node::Range { drops_name, .. } if *drops_name && !one_name(node) => Divisible::No,
        // What peers find wrong with all steps they may not find in a few.
        Node::Remote(_) => Divisible::No,
        Node::Range {
            over: Over::Subquery(_),
            ..
        }
        | Node::Invariant(_) => Divisible::Recounted,
        _ => Divisible::Whole,
    }
}
