//! Pass: histograms of which only count and sum matter are read without their buckets.

use super::{Map, Node, Over};
use crate::ast::BinaryOp;

/// Marks the selectors below `node`.
pub(crate) fn leave_out(node: &mut Node) {
    mark(node, false, false);
}

/// `wanted`: a function of count and sum stands around `node`; `needed`: something that looks at
/// buckets does.
fn mark(node: &mut Node, wanted: bool, needed: bool) {
    let trims = |op: &BinaryOp| matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
    let (wanted, needed) = match node {
        Node::Map(_, Map::Histogram(name, _)) if reads_totals(name) => (true, needed),
        Node::Map(_, Map::Scalar { op, .. }) | Node::Join { op, .. } if trims(op) => (wanted, true),
        Node::HistogramQuantile { .. } | Node::HistogramFraction { .. } => (wanted, true),
        Node::Select(selector, _) => {
            selector.no_buckets = wanted && !needed;
            (wanted, needed)
        }
        Node::Range {
            over: Over::Selector(selector),
            ..
        } => {
            selector.no_buckets = wanted && !needed;
            (wanted, needed)
        }
        // Resets between the steps of a subquery are found from buckets.
        Node::Range {
            over: Over::Subquery(_),
            ..
        } => (wanted, true),
        _ => (wanted, needed),
    };
    node.children_mut(&mut |child| mark(child, wanted, needed));
}

fn reads_totals(name: &str) -> bool {
    matches!(name, "histogram_count" | "histogram_sum" | "histogram_avg")
}
