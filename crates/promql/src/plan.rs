//! What has to be done: the tree of an expression with its times, durations and arguments resolved.
//!
//! [`build`](build::build) makes a plan of the syntax tree, the passes (one file each) change it
//! without changing any answer, and [`lower`](lower) makes operators of it, once the grid each
//! part is evaluated on is known.

pub(crate) mod buckets;
pub(crate) mod build;
pub(crate) mod distribute;
pub(crate) mod downsampled;
pub(crate) mod hints;
pub(crate) mod invariant;
pub(crate) mod lower;
pub(crate) mod propagate;
pub(crate) mod remote;
pub(crate) mod shared;

use std::sync::Arc;

use model::{Labels, Matcher, Millis, Str};

use crate::ast::{AggregateOp, BinaryOp, Matching, Span};
use crate::exec::aggregate::Grouping;
use crate::exec::scan::Kernel;
use crate::exec::sort::SortBy;
use crate::histogram::Histogram;
use crate::kernels::RangeFn;
use crate::kernels::extended::Extension;
use crate::labels_fn::{LabelJoin, LabelReplace};

/// An expression that is a vector at each step.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// A selector: instant ([`Kernel::Newest`]).
    Select(Selector, Kernel),
    /// A function over a range.
    Range {
        func: RangeFn,
        over: Over,
        params: Vec<Scalar>,
        span: Span,
        drops_name: bool,
    },
    /// Something done to each series alone.
    Map(Box<Node>, Map),
    /// `vector(scalar)`
    Vector(Scalar),
    Aggregate {
        op: AggregateOp,
        grouping: Grouping,
        input: Box<Node>,
        param: Option<(Scalar, Span)>,
        /// The label of `count_values`.
        label: Option<Str>,
        /// Where the aggregation and its input were written.
        spans: (Span, Span),
    },
    /// Arithmetic and comparisons between vectors.
    Join {
        op: BinaryOp,
        bool_modifier: bool,
        matching: Matching,
        sides: Box<(Node, Node)>,
        span: Span,
    },
    /// `and`, `or`, `unless`.
    Set {
        op: BinaryOp,
        matching: Matching,
        sides: Box<(Node, Node)>,
    },
    Absent {
        labels: Labels,
        drops_name: bool,
        input: Box<Node>,
    },
    Sort {
        by: SortBy,
        input: Box<Node>,
        span: Span,
    },
    HistogramQuantile {
        quantiles: Vec<(Scalar, Span)>,
        label: Option<Str>,
        input: Box<Node>,
        span: Span,
    },
    HistogramFraction {
        lower: Scalar,
        upper: Scalar,
        input: Box<Node>,
        span: Span,
    },
    /// `info(base, {data})`: `info` selects the info metrics.
    Info {
        base: Box<Node>,
        info: Selector,
        /// Whether the second argument, if there is one, is at a fixed time.
        fixed: bool,
        names: Vec<Matcher>,
        data: Vec<Matcher>,
    },
    /// The same at every step: computed once.
    Invariant(Box<Node>),
    /// What peers can do, and how it is done here where they cannot be asked.
    Distributed { here: Box<Node>, merged: Box<Node> },
    /// What peers do.
    Remote(Arc<remote::Remote>),
}

/// A selector of series.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    pub(crate) matchers: Vec<Matcher>,
    /// Range or lookback, ms.
    pub(crate) range: Millis,
    pub(crate) offset: Millis,
    pub(crate) at: Option<Millis>,
    /// `anchored` or `smoothed`; range and offset are wider already.
    pub(crate) extension: Option<Extension>,
    /// Where it was written.
    pub(crate) span: Span,
    /// Of histograms, only counts and sums matter.
    pub(crate) no_buckets: bool,
    /// How many of the first matchers were not written here: they hold on the other side of a join.
    pub(crate) narrowed: usize,
}

/// What a range function reads.
#[derive(Clone, Debug)]
pub(crate) enum Over {
    Selector(Selector),
    Subquery(Box<Subquery>),
}

/// `inner[range:step]`
#[derive(Clone, Debug)]
pub(crate) struct Subquery {
    pub(crate) inner: Node,
    pub(crate) range: Millis,
    pub(crate) step: Millis,
    pub(crate) offset: Millis,
    pub(crate) at: Option<Millis>,
}

/// Something done to each series alone.
#[derive(Clone, Debug)]
pub(crate) enum Map {
    Value(&'static str, fn(f64) -> f64),
    Negate,
    Histogram(&'static str, fn(&Histogram) -> f64),
    /// Nothing passes.
    Nothing,
    Clamp(Scalar, Scalar),
    Round(Scalar),
    StepTime,
    Scalar {
        op: BinaryOp,
        scalar: Scalar,
        swapped: bool,
        bool_modifier: bool,
        span: Span,
    },
    LabelReplace(Arc<LabelReplace>),
    LabelJoin(Arc<LabelJoin>),
}

/// An expression that is one number at each step.
#[derive(Clone, Debug)]
pub(crate) enum Scalar {
    Const(f64),
    Time,
    Of(Box<Node>),
    Neg(Box<Scalar>),
    Binary(BinaryOp, Box<(Scalar, Scalar)>),
    Max(Box<(Scalar, Scalar)>),
    Min(Box<(Scalar, Scalar)>),
}

/// A whole query.
#[derive(Clone, Debug)]
pub(crate) enum Root {
    Vector(Node),
    Scalar(Scalar),
    String(String),
    /// `selector[range]`, instant queries only.
    Samples(Selector),
    /// `expr[range:step]`, instant queries only.
    Subquery(Subquery),
}

impl Node {
    /// Calls `f` with each node directly below, those inside scalars included.
    pub(crate) fn children_mut(&mut self, f: &mut dyn FnMut(&mut Node)) {
        match self {
            Node::Select(..) | Node::Remote(_) => {}
            Node::Distributed { here, .. } => f(here),
            Node::Range { over, params, .. } => {
                if let Over::Subquery(subquery) = over {
                    f(&mut subquery.inner);
                }
                params.iter_mut().for_each(|s| s.nodes_mut(f));
            }
            Node::Map(input, map) => {
                f(input);
                map.scalars_mut(&mut |s| s.nodes_mut(f));
            }
            Node::Vector(scalar) => scalar.nodes_mut(f),
            Node::Aggregate { input, param, .. } => {
                f(input);
                if let Some((scalar, _)) = param {
                    scalar.nodes_mut(f);
                }
            }
            Node::Join { sides, .. } | Node::Set { sides, .. } => {
                f(&mut sides.0);
                f(&mut sides.1);
            }
            Node::Absent { input, .. } | Node::Sort { input, .. } | Node::Invariant(input) => {
                f(input);
            }
            Node::Info { base, .. } => f(base),
            Node::HistogramQuantile {
                quantiles, input, ..
            } => {
                f(input);
                quantiles.iter_mut().for_each(|(s, _)| s.nodes_mut(f));
            }
            Node::HistogramFraction {
                lower,
                upper,
                input,
                ..
            } => {
                f(input);
                lower.nodes_mut(f);
                upper.nodes_mut(f);
            }
        }
    }
}

impl Map {
    fn scalars_mut(&mut self, f: &mut dyn FnMut(&mut Scalar)) {
        match self {
            Map::Clamp(a, b) => {
                f(a);
                f(b);
            }
            Map::Round(s) | Map::Scalar { scalar: s, .. } => f(s),
            Map::Value(..)
            | Map::Negate
            | Map::Histogram(..)
            | Map::Nothing
            | Map::StepTime
            | Map::LabelReplace(_)
            | Map::LabelJoin(_) => {}
        }
    }

    /// Whether labels other than the name pass unchanged.
    pub(crate) fn keeps_labels(&self) -> bool {
        !matches!(self, Map::LabelReplace(_) | Map::LabelJoin(_))
    }
}

impl Scalar {
    fn nodes_mut(&mut self, f: &mut dyn FnMut(&mut Node)) {
        match self {
            Scalar::Const(_) | Scalar::Time => {}
            Scalar::Of(node) => f(node),
            Scalar::Neg(a) => a.nodes_mut(f),
            Scalar::Binary(_, ab) | Scalar::Max(ab) | Scalar::Min(ab) => {
                ab.0.nodes_mut(f);
                ab.1.nodes_mut(f);
            }
        }
    }
}

impl Root {
    /// Calls `f` with each topmost node.
    pub(crate) fn nodes_mut(&mut self, f: &mut dyn FnMut(&mut Node)) {
        match self {
            Root::Vector(node) => f(node),
            Root::Scalar(scalar) => scalar.nodes_mut(f),
            Root::Subquery(subquery) => f(&mut subquery.inner),
            Root::String(_) | Root::Samples(_) => {}
        }
    }

    /// Runs all passes.
    pub(crate) fn optimize(&mut self) {
        self.nodes_mut(&mut propagate::matchers);
        self.nodes_mut(&mut invariant::fold);
        self.nodes_mut(&mut buckets::leave_out);
    }
}
