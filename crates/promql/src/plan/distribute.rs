//! Which parts of an expression peers evaluate.
//!
//! Peers whose data differ in the value of an external label (the *partition labels* are the names of
//! these) have no series in common. An aggregation that can be made of aggregations (`sum` of `sum`s) is
//! sent to each, by the partition labels too, and what comes back is aggregated once more. What keeps the
//! partition labels all the way (`topk by (cluster) (1, ...)`) is sent as it is, and what comes back is put
//! side by side. Everything else is evaluated here, and so is the whole if it is not certain that the
//! parts do not overlap.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use model::{Labels, METRIC_NAME, Str};

use super::Node;
use super::build::{Query, unparen};
use super::remote::Remote;
use crate::ast::{Aggregate, AggregateOp, Binary, BinaryOp, Call, Expr, ExprKind, ValueType};
use crate::ast::{Grouping, Matching, Span, VectorSelector};
use crate::peers::{Parties, Peer};

/// What peers do, by expression. Expressions are told apart by where they lie in memory, so this is of
/// use only beside the tree that it was made of.
#[derive(Clone, Default)]
pub(crate) struct Pushes(HashMap<usize, Push>);

/// What peers do instead of one expression.
#[derive(Clone)]
pub(crate) enum Push {
    /// All of it; results are put side by side.
    Whole(Arc<Remote>),
    /// The same by more labels; results are aggregated again, as this.
    Again(AggregateOp, Arc<Remote>),
    /// Sums and counts, of which averages are made.
    Average {
        sum: Arc<Remote>,
        count: Arc<Remote>,
    },
}

impl Push {
    /// What becomes of the results of peers. `here` is how it would be done without them.
    pub(crate) fn merged(&self, here: &Node, span: Span) -> Node {
        let again = |as_op: AggregateOp, question: &Arc<Remote>| {
            let input = Box::new(Node::Remote(Arc::clone(question)));
            match here {
                Node::Aggregate {
                    grouping,
                    param,
                    label,
                    spans,
                    ..
                } => Node::Aggregate {
                    op: as_op,
                    grouping: grouping.clone(),
                    input,
                    param: param.clone(),
                    label: label.clone(),
                    spans: *spans,
                },
                // Only aggregations are done in two steps.
                _ => *input,
            }
        };
        match self {
            Push::Whole(question) => Node::Remote(Arc::clone(question)),
            Push::Again(op, question) => again(*op, question),
            Push::Average { sum, count } => Node::Join {
                op: BinaryOp::Div,
                bool_modifier: false,
                matching: Matching::default(),
                sides: Box::new((again(AggregateOp::Sum, sum), again(AggregateOp::Sum, count))),
                span,
            },
        }
    }
}

fn place(expr: &Expr) -> usize {
    std::ptr::from_ref(expr) as usize
}

impl Pushes {
    /// What peers do instead of `expr`.
    pub(crate) fn get(&self, expr: &Expr) -> Option<&Push> {
        match self.0.is_empty() {
            true => None,
            false => self.0.get(&place(expr)),
        }
    }

    /// Decides for the whole tree.
    pub(crate) fn plan(expr: &Expr, query: &Query, parties: &Parties) -> Self {
        let mut partition: BTreeSet<Str> = parties.partition.iter().cloned().collect();
        if partition.is_empty() {
            let sets = parties.peers.iter().flat_map(|p| &p.labels);
            let names = sets.flat_map(|set| set.iter().map(|(name, _)| Str::from(name)));
            partition.extend(names);
        }
        let mut pushes = Self::default();
        // The service that asks peers counts in seconds.
        if parties.peers.is_empty()
            || query.lookback % 1000 != 0
            || !are_apart(&parties.peers, &partition)
        {
            return pushes;
        }
        let planner = Planner {
            query,
            parties,
            partition,
        };
        planner.visit(expr, &mut pushes);
        pushes
    }
}

/// Whether no two peers can have a series in common.
fn are_apart(peers: &[Peer], partition: &BTreeSet<Str>) -> bool {
    let differ = |a: &Labels, b: &Labels| {
        partition.iter().any(|name| {
            let (a, b) = (a.get(name), b.get(name));
            matches!((a, b), (Some(a), Some(b)) if a != b)
        })
    };
    let apart = |a: &Peer, b: &Peer| {
        let mut pairs = a
            .labels
            .iter()
            .flat_map(|a| b.labels.iter().map(move |b| (a, b)));
        !a.labels.is_empty() && !b.labels.is_empty() && pairs.all(|(a, b)| differ(a, b))
    };
    let rest = |i: usize| peers.iter().skip(i + 1);
    peers
        .iter()
        .enumerate()
        .all(|(i, a)| rest(i).all(|b| apart(a, b)))
}

struct Planner<'a> {
    query: &'a Query,
    parties: &'a Parties,
    partition: BTreeSet<Str>,
}

impl Planner<'_> {
    fn visit(&self, expr: &Expr, pushes: &mut Pushes) {
        let expr = unparen(expr);
        if let Some(push) = self.push(expr) {
            pushes.0.insert(place(expr), push);
            return;
        }
        expr.each_child(&mut |child| self.visit(child, pushes));
    }

    /// What peers can do instead of `expr`, if that is worth it.
    fn push(&self, expr: &Expr) -> Option<Push> {
        if expr.value_type() != ValueType::Vector || !aggregates(expr) {
            return None;
        }
        if self.is_whole(expr) {
            return Some(Push::Whole(self.remote(expr.clone())?));
        }
        let ExprKind::Aggregate(aggregate) = &expr.kind else {
            return None;
        };
        if !self.is_whole(&aggregate.expr) || !aggregate.param.as_ref().is_none_or(is_constant) {
            return None;
        }
        let by_more = |op: AggregateOp| {
            let kind = ExprKind::Aggregate(Box::new(Aggregate {
                op,
                grouping: self.by_more(&aggregate.grouping),
                ..Aggregate::clone(aggregate)
            }));
            self.remote(Expr {
                kind,
                span: expr.span,
            })
        };
        use AggregateOp::*;
        Some(match aggregate.op {
            op @ (Sum | Min | Max | Group | Topk | Bottomk) => Push::Again(op, by_more(op)?),
            Count => Push::Again(Sum, by_more(Count)?),
            // A join of both would drop the name.
            Avg if !aggregate
                .grouping
                .labels
                .iter()
                .any(|l| &**l == METRIC_NAME) =>
            {
                Push::Average {
                    sum: by_more(Sum)?,
                    count: by_more(Count)?,
                }
            }
            Avg | Stddev | Stdvar | Quantile | CountValues | Limitk | LimitRatio => return None,
        })
    }

    /// The grouping that keeps partition labels, too.
    fn by_more(&self, grouping: &Grouping) -> Grouping {
        let mut labels = grouping.labels.clone();
        match grouping.without {
            true => labels.retain(|l| !self.partition.contains(l)),
            false => {
                let more = self
                    .partition
                    .iter()
                    .filter(|l| !grouping.labels.contains(l));
                labels.extend(more.cloned());
            }
        }
        Grouping {
            without: grouping.without,
            labels,
        }
    }

    /// The question to the peers that may have something of it. None if others may, too.
    fn remote(&self, expr: Expr) -> Option<Arc<Remote>> {
        let mut selectors: Vec<&VectorSelector> = Vec::new();
        expr.for_each(|e| match &e.kind {
            ExprKind::Vector(selector) => selectors.push(selector),
            ExprKind::Matrix(matrix) => selectors.push(&matrix.selector),
            _ => {}
        });
        let concerns = |set: &Labels| selectors.iter().any(|s| may_match(s, set));
        if self.parties.others.iter().any(concerns) {
            return None;
        }
        let peers = self.parties.peers.iter();
        let peers: Vec<Peer> = peers
            .filter(|p| p.labels.is_empty() || p.labels.iter().any(concerns))
            .cloned()
            .collect();
        Remote::new(expr, self.query, peers).map(Arc::new)
    }

    /// Whether the results of peers, side by side, are the result: every series is made of series of one
    /// peer, and keeps its partition labels.
    fn is_whole(&self, expr: &Expr) -> bool {
        match &expr.kind {
            ExprKind::Vector(selector) => selector.extension.is_none(),
            ExprKind::Matrix(matrix) => matrix.selector.extension.is_none(),
            ExprKind::Subquery(subquery) => self.is_whole(&subquery.expr),
            ExprKind::Call(call) => self.is_whole_call(call),
            ExprKind::Aggregate(aggregate) => {
                let grouping = &aggregate.grouping;
                let keeps = |l: &Str| grouping.labels.contains(l) != grouping.without;
                self.partition.iter().all(keeps)
                    && !aggregate.op.is_experimental()
                    // Of a label of this name there may be one already.
                    && aggregate.op != AggregateOp::CountValues
                    && aggregate.param.as_ref().is_none_or(is_constant)
                    && self.is_whole(&aggregate.expr)
            }
            ExprKind::Binary(binary) => self.is_whole_binary(binary),
            ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => self.is_whole(inner),
            ExprKind::Number(_) | ExprKind::String(_) => false,
        }
    }

    fn is_whole_call(&self, call: &Call) -> bool {
        // They look at all series at once, or give some that are made of none.
        const NOT: [&str; 9] = [
            "absent",
            "absent_over_time",
            "scalar",
            "vector",
            "sort",
            "sort_desc",
            "sort_by_label",
            "sort_by_label_desc",
            "info",
        ];
        let name = call.func.name;
        let known = crate::functions::lookup(name).is_some() && !call.func.experimental;
        if !known || NOT.contains(&name) {
            return false;
        }
        let takes = |label: &str| self.partition.iter().any(|l| **l == *label);
        let changes = match name {
            "label_replace" | "label_join" => match call.args.get(1).map(|a| &unparen(a).kind) {
                Some(ExprKind::String(label)) => takes(label),
                _ => true,
            },
            _ => name.starts_with("histogram_") && takes("le"),
        };
        let mut series = 0;
        let each = call.args.iter().all(|arg| match arg.value_type() {
            ValueType::Vector | ValueType::Matrix => {
                series += 1;
                self.is_whole(arg)
            }
            ValueType::Scalar => is_constant(arg),
            ValueType::String => true,
        });
        !changes && each && series > 0
    }

    fn is_whole_binary(&self, binary: &Binary) -> bool {
        if matches!(binary.op, BinaryOp::TrimUpper | BinaryOp::TrimLower) {
            return false;
        }
        let (lhs, rhs) = (&binary.lhs, &binary.rhs);
        let Some(matching) = &binary.matching else {
            return (is_constant(lhs) && self.is_whole(rhs))
                || (is_constant(rhs) && self.is_whole(lhs));
        };
        let matched = |l: &Str| matching.labels.contains(l) == matching.on;
        let copied = |l: &Str| matching.include.contains(l);
        self.partition.iter().all(|l| matched(l) && !copied(l))
            && matching.fill == (None, None)
            && self.is_whole(lhs)
            && self.is_whole(rhs)
    }
}

/// Whether there is an aggregation in it: else what peers would send is no less than their samples.
fn aggregates(expr: &Expr) -> bool {
    let mut any = false;
    expr.for_each(|e| any |= matches!(e.kind, ExprKind::Aggregate(_)));
    any
}

/// Whether it is a number that every peer finds alone.
fn is_constant(expr: &Expr) -> bool {
    let mut constant = true;
    expr.for_each(|e| {
        constant &= match &e.kind {
            ExprKind::Number(_) | ExprKind::String(_) => true,
            ExprKind::Call(call) => matches!(call.func.name, "time" | "pi"),
            ExprKind::Binary(_) | ExprKind::Unary(..) | ExprKind::Paren(_) => true,
            _ => false,
        }
    });
    constant
}

/// Whether series with these external labels may be selected.
fn may_match(selector: &VectorSelector, labels: &Labels) -> bool {
    let mut matchers = selector.matchers.iter();
    matchers.all(|m| labels.get(&m.name).is_none_or(|value| m.matches(value)))
}
