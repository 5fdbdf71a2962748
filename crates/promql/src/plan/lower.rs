//! From plan to operators: every part gets the grid it is evaluated on.

use std::sync::Arc;

use model::source::Aggregate as Column;
use model::{Hints, METRIC_NAME, MatchOp, Millis, Order, Projection, Select, TimeRange};

use super::hints::Around;
use super::{Map, Node, Over, Scalar, Selector, Subquery, downsampled, invariant, shared};
use crate::annotations::Annotations;
use crate::arith::changes_schema;
use crate::ast::{AggregateOp, BinaryOp, Cardinality, Matching, Span};
use crate::exec::aggregate::{Aggregate, Grouping, Op};
use crate::exec::collect::{CountValues, Quantile};
use crate::exec::exchange::Exchange;
use crate::exec::gather::{Gather, Unique};
use crate::exec::generate::{Absent, NoTrim, Vector};
use crate::exec::histogram::{Of, OfHistograms};
use crate::exec::info::Info;
use crate::exec::join::Join;
use crate::exec::limit::{Pick, TopK};
use crate::exec::pipe::{Feed, Pipe};
use crate::exec::remote::Remote;
use crate::exec::scalar::ScalarOp;
use crate::exec::scan::{Function, Kernel, Scan};
use crate::exec::selects::Question;
use crate::exec::set::Set;
use crate::exec::sort::{Sort, SortBy};
use crate::exec::stage::Stage;
use crate::exec::subquery;
use crate::exec::tally::{Part, Within};
use crate::grid::{Grid, Window};
use crate::kernels::histograms::Newest;
use crate::value::QueryOptions;

/// Makes operators, and the list of questions they ask.
pub(crate) struct Lowering {
    pub(crate) questions: Vec<Question>,
    pub(crate) annotations: Annotations,
    /// The parts of the plan that have steps of their own.
    pub(crate) parts: Vec<Part>,
    /// The part that the present node belongs to.
    part: usize,
    delayed_names: bool,
    /// The coarsest downsampled resolution that will do, ms.
    max_resolution: Millis,
    /// Whether the present part is a range: it ends at another time than it starts, even if there
    /// is a single step between.
    ranged: bool,
    /// How many nodes are around the present one.
    depth: usize,
    /// How many numbers its scalars are, each step counted.
    pub(crate) numbers: u64,
}

/// After so many levels a part of the plan becomes a task of its own.
const LEVELS: usize = 12;

impl Lowering {
    /// For a plan whose whole is evaluated on `grid`, which starts and ends at the same time unless
    /// it is `ranged`. Data may be downsampled to `max_resolution` ms.
    pub(crate) fn new(
        delayed_names: bool,
        max_resolution: Millis,
        grid: Grid,
        ranged: bool,
    ) -> Self {
        let within = Within::Root;
        Self {
            questions: Vec::new(),
            annotations: Annotations::default(),
            parts: vec![Part { grid, within }],
            part: 0,
            delayed_names,
            max_resolution,
            ranged,
            depth: 0,
            numbers: 0,
        }
    }

    /// The range that all questions together ask for.
    pub(crate) fn range(&self) -> TimeRange {
        self.questions
            .iter()
            .fold(TimeRange::EMPTY, |all, q| all.union(q.select.range))
    }

    /// Asks for a selector's series, whose samples `kernel` eats (none: they are shown); the answer is
    /// the question's number and the reach.
    pub(crate) fn ask(
        &mut self,
        selector: &Selector,
        grid: &Grid,
        kernel: Option<Kernel>,
        around: &Around,
    ) -> (usize, TimeRange) {
        let range_hint =
            kernel.is_none_or(|kernel| matches!(kernel, Kernel::Range(_) | Kernel::Extended(..)));
        let reach = selector.window().reach(grid);
        let mut select = Select::new(selector.matchers.clone(), reach);
        select.order = match around.ordered {
            true => Order::ByLabels {
                without: Vec::new(),
            },
            false => Order::Any,
        };
        let column = kernel.map_or(Column::Raw, |k| downsampled::column(k, around.eater()));
        if self.max_resolution > 0 {
            select.max_resolution = match kernel {
                Some(kernel) => {
                    downsampled::resolution(kernel, selector.range, self.max_resolution)
                }
                None => self.max_resolution,
            };
        }
        select.aggregates = match select.max_resolution {
            0 => Column::Raw as u8,
            _ => downsampled::bits(column),
        };
        select.hints = Hints {
            func: around.func.clone(),
            range: if range_hint { selector.range } else { 0 },
            step: if grid.count > 1 { grid.step } else { 0 },
            grouping: around.grouping.clone(),
            projection: around.projection.clone(),
            shard: None,
            limit: 0,
        };
        (shared::ask(&mut self.questions, select), reach)
    }

    /// The operators of `node` on `grid`.
    pub(crate) fn node(&mut self, node: &Node, grid: Grid, around: &Around) -> Pipe {
        self.depth += 1;
        let task = self.depth.is_multiple_of(LEVELS);
        let pipe = self.operators(node, grid, around);
        self.depth -= 1;
        if task {
            return Pipe::of(Exchange { input: pipe }, grid);
        }
        pipe
    }

    fn operators(&mut self, node: &Node, grid: Grid, around: &Around) -> Pipe {
        match node {
            Node::Select(selector, kernel) => {
                let function = Function {
                    kernel: *kernel,
                    params: Vec::new(),
                    spans: vec![selector.span],
                    drops_name: takes_time(*kernel),
                };
                let unique = !takes_time(*kernel) || one_name(node);
                let around = self.comparable(around, unique);
                let pipe = self.scan(selector, function, grid, &around);
                self.unique(pipe, unique, false)
            }
            Node::Range {
                func,
                over,
                params,
                span,
                drops_name,
            } => {
                let extension = match over {
                    Over::Selector(selector) => selector.extension,
                    Over::Subquery(_) => None,
                };
                let function = Function {
                    kernel: match extension {
                        Some(extension) => Kernel::Extended(*func, extension),
                        None => Kernel::Range(*func),
                    },
                    params: params.iter().map(|p| self.scalar(p, grid)).collect(),
                    spans: vec![*span],
                    drops_name: *drops_name,
                };
                let unique = !drops_name || one_name(node);
                let pipe = match over {
                    Over::Selector(selector) => {
                        let mut around = self.comparable(around, unique);
                        around.func = Some(func.name().into());
                        self.scan(selector, function, grid, &around)
                    }
                    Over::Subquery(subquery) => self.subquery(subquery, function, grid),
                };
                self.unique(pipe, unique, true)
            }
            Node::Map(input, map) => self.map(node, input, map, grid, around),
            Node::Vector(scalar) => {
                let scalar = self.scalar(scalar, grid);
                Pipe::of(Vector { scalar, grid }, grid)
            }
            Node::Aggregate {
                op,
                grouping,
                input,
                param,
                label,
                spans,
            } => {
                let input = self.node(input, grid, &Around::aggregate(*op, grouping));
                let param = param
                    .as_ref()
                    .map(|(s, span)| (self.scalar(s, grid), *span));
                let once = grid.count == 1 && !self.ranged;
                let label = label.clone();
                aggregate(*op, grouping, (input, *spans), param, label, (grid, once))
            }
            Node::Join {
                op,
                bool_modifier,
                matching,
                sides,
                span,
            } => {
                let none = Around::default();
                let join = Join {
                    span: *span,
                    op: *op,
                    bool_modifier: *bool_modifier,
                    matching: matching.clone(),
                    lhs: self.node(&sides.0, grid, &none),
                    rhs: self.node(&sides.1, grid, &none),
                };
                let unique = results_differ(*op, matching, &sides.0, &sides.1);
                self.unique_always(Pipe::of(join, grid), unique)
            }
            Node::Set {
                op,
                matching,
                sides,
            } => {
                let none = Around::default();
                let set = Set {
                    op: *op,
                    matching: matching.clone(),
                    lhs: self.node(&sides.0, grid, &none),
                    rhs: self.node(&sides.1, grid, &none),
                };
                Pipe::of(set, grid)
            }
            Node::Absent {
                labels,
                drops_name,
                input,
            } => {
                let input = self.node(input, grid, &Around::default());
                let absent = Absent {
                    labels: labels.clone(),
                    drops_name: *drops_name,
                    input,
                    grid,
                };
                Pipe::of(absent, grid)
            }
            Node::Sort { by, input, span } => {
                let input = self.node(input, grid, &Around::default());
                // Without a step nothing is sorted, nor said.
                if self.ranged && grid.count > 0 {
                    self.annotations.sort_in_range_query(*span);
                    // Sorting by value leaves histograms out, even where it sorts nothing.
                    return match by {
                        SortBy::Value { .. } => input.then(Stage::Floats),
                        SortBy::Labels { .. } => input.then(Stage::All),
                    };
                }
                Pipe::of(
                    Sort {
                        by: by.clone(),
                        input,
                    },
                    grid,
                )
            }
            Node::HistogramQuantile {
                quantiles,
                label,
                input,
                span,
            } => {
                let of = Of::Quantiles(
                    quantiles
                        .iter()
                        .map(|(q, span)| (self.scalar(q, grid), *span))
                        .collect(),
                    label.clone(),
                );
                self.histogram(of, input, *span, grid)
            }
            Node::HistogramFraction {
                lower,
                upper,
                input,
                span,
            } => {
                let of = Of::Fraction(self.scalar(lower, grid), self.scalar(upper, grid));
                self.histogram(of, input, *span, grid)
            }
            Node::Info {
                base,
                info,
                names,
                data,
                ..
            } => {
                let function = Function {
                    kernel: Kernel::Newest(Newest::InfoTime),
                    params: Vec::new(),
                    spans: Vec::new(),
                    drops_name: false,
                };
                let around = Around {
                    func: Some("info".into()),
                    ..Around::default()
                };
                let joined = Info {
                    base: self.node(base, grid, &Around::default()),
                    info: self.scan(info, function, grid, &around),
                    names: names.clone(),
                    data: data.clone(),
                    grid,
                    part: self.part,
                    meter: Arc::default(),
                };
                self.unique_always(Pipe::of(joined, grid), false)
            }
            Node::Distributed { here, merged } => match asks_on(merged, &grid) {
                true => self.node(merged, grid, &Around::default()),
                false => self.operators(here, grid, around),
            },
            Node::Remote(question) => {
                let question = Arc::clone(question);
                Pipe::of(Remote { question, grid }, grid)
            }
            Node::Invariant(inner) => {
                let ranged = std::mem::replace(&mut self.ranged, false);
                if grid.count <= 1 {
                    let once = self.node(inner, grid, around);
                    self.ranged = ranged;
                    return once;
                }
                let first = grid.first();
                let around_part = self.enter(first, Within::Invariant(self.part));
                let once = self.node(inner, first, around);
                self.part = around_part;
                self.ranged = ranged;
                Pipe::of(once, grid).then(Stage::Repeat(grid.count))
            }
        }
    }

    fn scan(
        &mut self,
        selector: &Selector,
        function: Function,
        grid: Grid,
        around: &Around,
    ) -> Pipe {
        let (question, reach) = self.ask(selector, &grid, Some(function.kernel), around);
        let mut function = function;
        let column = match self.max_resolution {
            0 => Column::Raw,
            _ => downsampled::column(function.kernel, around.eater()),
        };
        function.kernel = downsampled::kernel(function.kernel, column);
        let scan = Scan {
            question,
            text: selector.to_string(),
            window: selector.window(),
            reach,
            column,
            function,
            no_buckets: selector.no_buckets,
            part: self.part,
        };
        Pipe::new(Feed::Scan(scan), grid)
    }

    /// Begins a part with steps of its own; the answer is the part around it.
    fn enter(&mut self, grid: Grid, within: Within) -> usize {
        self.parts.push(Part { grid, within });
        std::mem::replace(&mut self.part, self.parts.len() - 1)
    }

    fn subquery(&mut self, subquery: &Subquery, function: Function, grid: Grid) -> Pipe {
        let inner = subquery.grid(&grid);
        let window = Window {
            range: subquery.range,
            offset: subquery.offset,
            at: subquery.at,
        };
        let part = self.enter(inner, Within::Subquery(self.part, window));
        let mut input = self.inside(subquery, &grid);
        self.part = part;
        if in_pieces(&subquery.inner) {
            input = Pipe::of(Gather { input }, inner);
        }
        let feed = subquery::Subquery {
            input: Arc::new(input),
            inner,
            window,
            function,
            part,
        };
        Pipe::new(Feed::Subquery(feed), grid)
    }

    /// What is inside a subquery, on its own grid.
    pub(crate) fn inside(&mut self, subquery: &Subquery, outer: &Grid) -> Pipe {
        let inner = subquery.grid(outer);
        let ranged = subquery.end(outer) != inner.start;
        let around = std::mem::replace(&mut self.ranged, ranged);
        let pipe = self.node(&subquery.inner, inner, &Around::default());
        self.ranged = around;
        pipe
    }

    fn map(&mut self, node: &Node, input: &Node, map: &Map, grid: Grid, around: &Around) -> Pipe {
        let known = one_name(input);
        let around = self.comparable(&around.below(node), known);
        let below = self.node(input, grid, &around);
        let (stage, drops_name) = match map {
            Map::Value(name, f) => (Stage::Value(name, *f), true),
            Map::Negate => (Stage::Negate, true),
            Map::Histogram(name, f) => (Stage::Histogram(name, *f), true),
            Map::Nothing => (Stage::Nothing, false),
            Map::Clamp(a, b) => (
                Stage::Clamp(self.scalar(a, grid), self.scalar(b, grid)),
                true,
            ),
            Map::Round(s) => (Stage::Round(self.scalar(s, grid)), true),
            Map::StepTime => (Stage::StepTime, true),
            Map::Scalar {
                op,
                scalar,
                swapped,
                bool_modifier,
                span,
            } => {
                if *swapped && matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower) {
                    return Pipe::of(
                        NoTrim {
                            op: *op,
                            span: *span,
                            input: below,
                        },
                        grid,
                    );
                }
                let stage = Stage::Scalar {
                    span: *span,
                    op: *op,
                    scalar: self.scalar(scalar, grid),
                    swapped: *swapped,
                    bool_modifier: *bool_modifier,
                };
                (stage, changes_schema(*op) || *bool_modifier)
            }
            Map::LabelReplace(f) => {
                let pipe = below.then(Stage::LabelReplace(Arc::clone(f)));
                return self.unique_always(pipe, false);
            }
            Map::LabelJoin(f) => {
                let pipe = below.then(Stage::LabelJoin(Arc::clone(f)));
                return self.unique_always(pipe, false);
            }
        };
        let pipe = below.then(stage);
        self.unique(pipe, !drops_name || known, false)
    }

    /// Where series will be compared, all of their labels are wanted.
    fn comparable(&self, around: &Around, unique: bool) -> Around {
        let mut around = around.clone();
        if !unique && !self.delayed_names {
            around.projection = Projection::All;
        }
        around
    }

    fn histogram(&mut self, of: Of, input: &Node, span: Span, grid: Grid) -> Pipe {
        let unique = one_name(input);
        // The same quantile may be asked for twice.
        let repeats = matches!(&of, Of::Quantiles(all, Some(_)) if all.len() > 1);
        let input = self.node(input, grid, &Around::default());
        let histogram = OfHistograms {
            of,
            input,
            span,
            grid,
        };
        if repeats && (self.ranged || !self.delayed_names) {
            return self.unique_always(Pipe::of(histogram, grid), false);
        }
        self.unique(Pipe::of(histogram, grid), unique, false)
    }

    /// Checks that dropping names made no two series equal, unless that is known. With delayed
    /// removal names are still there, and the result is checked.
    fn unique(&self, pipe: Pipe, known: bool, strict: bool) -> Pipe {
        if known || self.delayed_names {
            return pipe;
        }
        let grid = pipe.grid;
        let input = pipe;
        Pipe::of(Unique { input, strict }, grid)
    }

    fn unique_always(&self, pipe: Pipe, known: bool) -> Pipe {
        if known {
            return pipe;
        }
        let grid = pipe.grid;
        let unique = Unique {
            input: pipe,
            strict: false,
        };
        Pipe::of(unique, grid)
    }

    /// The operators of a scalar on `grid`.
    pub(crate) fn scalar(&mut self, scalar: &Scalar, grid: Grid) -> ScalarOp {
        self.numbers = self.numbers.saturating_add(grid.count as u64);
        match scalar {
            Scalar::Const(v) => ScalarOp::Const(*v),
            same if grid.count > 1 && invariant::constant(same) => {
                let ranged = std::mem::replace(&mut self.ranged, false);
                let first = grid.first();
                let around = self.enter(first, Within::Invariant(self.part));
                let once = self.scalar(same, first);
                self.part = around;
                self.ranged = ranged;
                ScalarOp::Once(Arc::new(once), first)
            }
            Scalar::Time => ScalarOp::Time,
            Scalar::Of(node) => ScalarOp::Of(Arc::new(self.node(node, grid, &Around::default()))),
            Scalar::Neg(a) => ScalarOp::Neg(Arc::new(self.scalar(a, grid))),
            Scalar::Binary(op, ab) => {
                let (a, b) = self.pair(ab, grid);
                ScalarOp::Binary(*op, a, b)
            }
            Scalar::Max(ab) => {
                let (a, b) = self.pair(ab, grid);
                ScalarOp::Max(a, b)
            }
            Scalar::Min(ab) => {
                let (a, b) = self.pair(ab, grid);
                ScalarOp::Min(a, b)
            }
        }
    }

    fn pair(&mut self, ab: &(Scalar, Scalar), grid: Grid) -> (Arc<ScalarOp>, Arc<ScalarOp>) {
        let a = Arc::new(self.scalar(&ab.0, grid));
        (a, Arc::new(self.scalar(&ab.1, grid)))
    }
}

fn aggregate(
    op: AggregateOp,
    grouping: &Grouping,
    (input, spans): (Pipe, (Span, Span)),
    param: Option<(ScalarOp, Span)>,
    label: Option<model::Str>,
    (grid, once): (Grid, bool),
) -> Pipe {
    let key = grouping.clone();
    // The parser gives a parameter to each operation that has one.
    let (param, span) = param.unwrap_or((ScalarOp::Const(f64::NAN), Span::default()));
    let (whole, input_span) = spans;
    let reduce = |op, key, input| {
        let span = input_span;
        Pipe::of(
            Aggregate {
                op,
                key,
                input,
                span,
            },
            grid,
        )
    };
    let pick = |pick, key, input, k| {
        Pipe::of(
            TopK {
                pick,
                k,
                key,
                input,
                grid,
                span: whole,
            },
            grid,
        )
    };
    match op {
        AggregateOp::Sum => reduce(Op::Sum, key, input),
        AggregateOp::Avg => reduce(Op::Avg, key, input),
        AggregateOp::Count => reduce(Op::Count, key, input),
        AggregateOp::Min => reduce(Op::Min, key, input),
        AggregateOp::Max => reduce(Op::Max, key, input),
        AggregateOp::Group => reduce(Op::Group, key, input),
        AggregateOp::Stddev => reduce(Op::Stddev, key, input),
        AggregateOp::Stdvar => reduce(Op::Stdvar, key, input),
        AggregateOp::Topk => pick(Pick::Topk, key, input, param),
        AggregateOp::Bottomk => pick(Pick::Bottomk, key, input, param),
        AggregateOp::Limitk => pick(Pick::Limitk, key, input, param),
        AggregateOp::LimitRatio if once => Pipe::of(
            TopK {
                pick: Pick::Ratio,
                k: param,
                key,
                input,
                grid,
                span,
            },
            grid,
        ),
        AggregateOp::LimitRatio => input.then(Stage::Ratio(param, span)),
        AggregateOp::Quantile => Pipe::of(
            Quantile {
                q: param,
                q_span: span,
                key,
                input,
                span: input_span,
                grid,
            },
            grid,
        ),
        AggregateOp::CountValues => Pipe::of(
            CountValues {
                label: label.unwrap_or_default(),
                key,
                input,
            },
            grid,
        ),
    }
}

/// Whether peers can be asked at the steps of `grid` for all that is to be merged.
fn asks_on(merged: &Node, grid: &Grid) -> bool {
    match merged {
        Node::Remote(question) => question.on(grid, QueryOptions::default()).is_some(),
        Node::Aggregate { input, .. } => asks_on(input, grid),
        Node::Join { sides, .. } => asks_on(&sides.0, grid) && asks_on(&sides.1, grid),
        _ => false,
    }
}

/// Whether a selector gives times of samples instead of samples.
fn takes_time(kernel: Kernel) -> bool {
    matches!(kernel, Kernel::Newest(Newest::Time | Newest::Start))
}

/// Whether all series of `node` had one metric name, so that dropping it makes none equal.
pub(super) fn one_name(node: &Node) -> bool {
    let named = |selector: &Selector| {
        selector
            .matchers
            .iter()
            .any(|m| m.op == MatchOp::Equal && &*m.name == METRIC_NAME)
    };
    match node {
        Node::Select(selector, _) => named(selector),
        Node::Range { over, .. } => match over {
            Over::Selector(selector) => named(selector),
            Over::Subquery(subquery) => one_name(&subquery.inner),
        },
        Node::Map(input, map) => map.keeps_labels() && one_name(input),
        Node::Vector(_) | Node::Absent { .. } => true,
        Node::Aggregate {
            op,
            grouping,
            input,
            ..
        } => match op {
            AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio => one_name(input),
            _ => grouping.without || !grouping.labels.iter().any(|l| &**l == METRIC_NAME),
        },
        Node::Set { op, sides, .. } => *op != BinaryOp::Or && one_name(&sides.0),
        Node::Sort { input, .. } | Node::Invariant(input) => one_name(input),
        Node::HistogramQuantile { input, .. } | Node::HistogramFraction { input, .. } => {
            one_name(input)
        }
        Node::Distributed { here, .. } => one_name(here),
        Node::Join { .. } | Node::Info { .. } | Node::Remote(_) => false,
    }
}

/// Whether different matches of a join surely have different results.
fn results_differ(op: BinaryOp, matching: &Matching, lhs: &Node, rhs: &Node) -> bool {
    let named = matching.labels.iter().any(|l| &**l == METRIC_NAME);
    if named {
        return !matching.on && matching.card == Cardinality::OneToOne;
    }
    if matching.card == Cardinality::OneToOne {
        return true;
    }
    // Group modifiers keep the many side, whose series differ in labels that are matched, kept, or
    // copied over.
    let many = match matching.card {
        Cardinality::OneToMany => rhs,
        _ => lhs,
    };
    matching.include.is_empty() && (!changes_schema(op) || one_name(many))
}

/// Whether one series of `node` may come as several rows.
fn in_pieces(node: &Node) -> bool {
    match node {
        Node::Select(..) | Node::Range { .. } | Node::Vector(_) | Node::Absent { .. } => false,
        Node::Map(input, map) => {
            // Dropping the name may unite series that are apart in time.
            !map.keeps_labels() || in_pieces(input) || !one_name(input)
        }
        Node::Aggregate { op, input, .. } => match op {
            AggregateOp::LimitRatio => in_pieces(input),
            _ => false,
        },
        // What is apart in time with equal labels comes of different peers, if anything.
        Node::Distributed { here, .. } => in_pieces(here),
        Node::Join { .. } | Node::Info { .. } | Node::Remote(_) => true,
        Node::Set { op, sides, .. } => *op == BinaryOp::Or || in_pieces(&sides.0),
        Node::Sort { input, .. } | Node::Invariant(input) => in_pieces(input),
        Node::HistogramQuantile { input, .. } | Node::HistogramFraction { input, .. } => {
            !one_name(input)
        }
    }
}

impl Selector {
    pub(crate) fn window(&self) -> Window {
        Window {
            range: self.range,
            offset: self.offset,
            at: self.at,
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let matchers: Vec<String> = self.matchers.iter().map(ToString::to_string).collect();
        write!(f, "{{{}}} range={}ms", matchers.join(","), self.range)?;
        if self.offset != 0 {
            write!(f, " offset={}ms", self.offset)?;
        }
        if let Some(at) = self.at {
            write!(f, " at={at}")?;
        }
        match matchers.get(..self.narrowed) {
            Some(by) if !by.is_empty() => {
                write!(f, " narrowed by the other side's {{{}}}", by.join(","))
            }
            _ => Ok(()),
        }
    }
}

impl Subquery {
    /// Where the inner evaluation ends at the latest.
    fn end(&self, outer: &Grid) -> model::Millis {
        let last = self.at.unwrap_or_else(|| outer.end());
        last.saturating_sub(self.offset)
    }

    /// The inner grid: absolute multiples of the step, the first strictly after the window's start.
    pub(crate) fn grid(&self, outer: &Grid) -> Grid {
        if outer.count == 0 {
            return Grid { count: 0, ..*outer };
        }
        let (first, last) = match self.at {
            Some(at) => (at, at),
            None => (outer.start, outer.end()),
        };
        let end = last.saturating_sub(self.offset);
        let before = first.saturating_sub(self.offset).saturating_sub(self.range);
        let step = self.step.max(1);
        // Division truncates towards zero, as Go's does.
        let mut start = step.saturating_mul(before / step);
        if start <= before {
            start = start.saturating_add(step);
        }
        Grid::range(start, end, step)
    }
}
