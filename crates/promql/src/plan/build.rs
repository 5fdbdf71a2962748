//! From syntax tree to plan: times, durations and arguments resolved.

use std::sync::Arc;

use model::regex::Regex;
use model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, Millis, Str};

use super::distribute::Pushes;
use super::{Map, Node, Over, Root, Scalar, Selector, Subquery};
use crate::ast::{
    At, Binary, BinaryOp, Call, Duration, DurationExpr, DurationKind, Expr, ExprKind,
    MatrixSelector, RangeExtension, Span, StringLiteral, TimeShift, UnaryOp, ValueType,
    VectorSelector,
};
use crate::exec::aggregate::Grouping;
use crate::exec::scan::Kernel;
use crate::exec::sort::SortBy;
use crate::histogram::quantile::variance;
use crate::kernels::RangeFn;
use crate::kernels::extended::Extension;
use crate::kernels::histograms::Newest;
use crate::labels_fn::{LabelJoin, LabelReplace};
use crate::numbers::{go_max, go_min};
use crate::value::QueryError;
use crate::{arith, functions_map};

/// What the whole query knows.
#[derive(Clone)]
pub(crate) struct Query {
    /// First and last step, ms.
    pub(crate) start: Millis,
    pub(crate) end: Millis,
    /// Distance of steps, ms; 0 for an instant query.
    pub(crate) step: Millis,
    /// How far an instant selector looks back, ms.
    pub(crate) lookback: Millis,
    /// The step of a subquery of this range that has none.
    pub(crate) subquery_step: Arc<dyn Fn(Millis) -> Millis + Send + Sync>,
    /// Whether start timestamps are used.
    pub(crate) start_timestamps: bool,
    /// What peers do of the expression.
    pub(crate) pushes: Pushes,
}

type Built<T> = Result<T, QueryError>;

fn failed<T>(text: impl Into<String>) -> Built<T> {
    Err(QueryError::Execution(text.into()))
}

/// What is written but not built yet.
fn missing<T>(name: &str) -> Built<T> {
    failed(format!("not implemented: {name}"))
}

pub(super) fn unparen(mut expr: &Expr) -> &Expr {
    while let ExprKind::Paren(inner) = &expr.kind {
        expr = inner;
    }
    expr
}

/// Where a note about the argument `arg` of `whole` stands: it starts with the argument, and ends
/// with what says it, which decides which of two places of one text is shown.
fn said_at(arg: &Expr, whole: Span) -> Span {
    Span {
        start: arg.span.start,
        end: whole.end,
    }
}

/// The plan of a whole expression.
pub(crate) fn build(expr: &Expr, query: &Query) -> Built<Root> {
    let inner = unparen(expr);
    Ok(match expr.value_type() {
        ValueType::Vector => Root::Vector(query.node(inner)?),
        ValueType::Scalar => Root::Scalar(query.scalar(inner)?),
        ValueType::String => match &inner.kind {
            ExprKind::String(text) => Root::String(text.as_str().to_owned()),
            _ => return failed("unexpected string expression"),
        },
        ValueType::Matrix => match &inner.kind {
            ExprKind::Matrix(m) => Root::Samples(query.range_selector(m)?),
            ExprKind::Subquery(s) => Root::Subquery(query.subquery(s)?),
            _ => return failed("unexpected range vector expression"),
        },
    })
}

impl Query {
    fn node(&self, expr: &Expr) -> Built<Node> {
        let here = self.node_here(expr)?;
        Ok(match self.pushes.get(expr) {
            None => here,
            Some(push) => Node::Distributed {
                merged: Box::new(push.merged(&here, expr.span)),
                here: Box::new(here),
            },
        })
    }

    fn node_here(&self, expr: &Expr) -> Built<Node> {
        match &expr.kind {
            ExprKind::Paren(inner) => self.node(inner),
            ExprKind::Vector(selector) => {
                // A smoothed selector looks back and forth by the lookback, which is no range.
                let smoothed = selector.extension == Some(RangeExtension::Smoothed);
                let range = if smoothed { 0 } else { self.lookback };
                let selector = self.selector(selector, range, expr.span)?;
                let kernel = if smoothed {
                    Kernel::InstantSmoothed(self.lookback)
                } else {
                    Kernel::Newest(Newest::Value)
                };
                Ok(Node::Select(selector, kernel))
            }
            ExprKind::Unary(op, inner) => {
                let node = self.node(inner)?;
                Ok(match op {
                    UnaryOp::Plus => node,
                    UnaryOp::Minus => Node::Map(Box::new(node), Map::Negate),
                })
            }
            ExprKind::Call(call) => self.call(call, expr.span),
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate, expr.span),
            ExprKind::Binary(binary) => self.binary(binary, expr.span),
            ExprKind::Number(_)
            | ExprKind::String(_)
            | ExprKind::Matrix(_)
            | ExprKind::Subquery(_) => failed("expected an instant vector"),
        }
    }

    fn selector(&self, selector: &VectorSelector, range: Millis, span: Span) -> Built<Selector> {
        let (mut offset, at) = self.shift(&selector.at)?;
        let mut range = range;
        let lookback = self.lookback;
        let extension = selector.extension.map(|e| Extension {
            smoothed: e == RangeExtension::Smoothed,
            lookback,
        });
        if let Some(extension) = extension {
            range = range.saturating_add(lookback);
            if extension.smoothed {
                range = range.saturating_add(lookback);
                offset = offset.saturating_sub(lookback);
            }
        }
        Ok(Selector {
            matchers: selector.matchers.clone(),
            range,
            offset,
            at,
            extension,
            span,
            no_buckets: false,
            narrowed: 0,
        })
    }

    fn shift(&self, shift: &TimeShift) -> Built<(Millis, Option<Millis>)> {
        let offset = match &shift.offset {
            Some(offset) => self.duration(offset, true)?,
            None => 0,
        };
        let at = shift.at.map(|at| match at {
            At::Time(t) => t,
            At::Start => self.start,
            At::End => self.end,
        });
        Ok((offset, at))
    }

    fn range_selector(&self, matrix: &MatrixSelector) -> Built<Selector> {
        let range = self.duration(&matrix.range, false)?;
        self.selector(&matrix.selector, range, Span::default())
    }

    fn subquery(&self, subquery: &crate::ast::Subquery) -> Built<Subquery> {
        let range = self.duration(&subquery.range, false)?;
        let step = match &subquery.step {
            Some(step) => self.duration(step, false)?,
            None => 0,
        };
        let step = if step == 0 {
            (self.subquery_step)(range)
        } else {
            step
        };
        let (offset, at) = self.shift(&subquery.at)?;
        let inner = unparen(&subquery.expr);
        let inner = match inner.value_type() {
            ValueType::Scalar => Node::Vector(self.scalar(inner)?),
            _ => self.node(inner)?,
        };
        Ok(Subquery {
            inner,
            range,
            step,
            offset,
            at,
        })
    }

    pub(super) fn duration(&self, duration: &Duration, may_be_negative: bool) -> Built<Millis> {
        let expr = match duration {
            Duration::Known(ms) => return Ok(*ms),
            Duration::Expr(expr) => expr,
        };
        let seconds = self.seconds(expr)?;
        let Span { start, end } = expr.span;
        // Prometheus computes durations when it takes the query, not while it runs it.
        let wrong = |what: &str| Err(QueryError::BadData(format!("{start}:{end}: {what}")));
        if !seconds.is_finite() {
            return wrong("duration is NaN or infinite");
        }
        if seconds <= 0.0 && !may_be_negative {
            return wrong("duration must be greater than 0");
        }
        // Go keeps durations as nanoseconds in 63 bits.
        if seconds.abs() > 9_223_372_036.854_775 {
            return wrong("duration is out of range");
        }
        Ok((seconds * 1000.0) as Millis)
    }

    fn seconds(&self, expr: &DurationExpr) -> Built<f64> {
        let Span { start, end } = expr.span;
        let by_zero = |what: &str| {
            Err(QueryError::BadData(format!(
                "{start}:{end}: {what} by zero"
            )))
        };
        Ok(match &expr.kind {
            DurationKind::Literal(number) => number.value,
            DurationKind::Step => self.step as f64 / 1000.0,
            DurationKind::Range => self.end.saturating_sub(self.start) as f64 / 1000.0,
            DurationKind::MinOf(a, b) => go_min(self.seconds(a)?, self.seconds(b)?),
            DurationKind::MaxOf(a, b) => go_max(self.seconds(a)?, self.seconds(b)?),
            DurationKind::Unary(UnaryOp::Plus, a) => self.seconds(a)?,
            DurationKind::Unary(UnaryOp::Minus, a) => -self.seconds(a)?,
            DurationKind::Binary(op, a, b) => {
                let (a, b) = (self.seconds(a)?, self.seconds(b)?);
                match op {
                    BinaryOp::Div if b == 0.0 => {
                        return by_zero("division");
                    }
                    BinaryOp::Mod if b == 0.0 => {
                        return by_zero("modulo");
                    }
                    _ => arith::scalar_function(*op)(a, b),
                }
            }
        })
    }

    fn scalar(&self, expr: &Expr) -> Built<Scalar> {
        match &expr.kind {
            ExprKind::Paren(inner) => self.scalar(inner),
            ExprKind::Number(number) => Ok(Scalar::Const(number.value)),
            ExprKind::Unary(op, inner) => {
                let inner = self.scalar(inner)?;
                Ok(match op {
                    UnaryOp::Plus => inner,
                    UnaryOp::Minus => Scalar::Neg(Box::new(inner)),
                })
            }
            ExprKind::Binary(binary) => {
                if let BinaryOp::TrimUpper | BinaryOp::TrimLower = binary.op {
                    return failed(format!(
                        "operator \"{}\" not allowed for Scalar operations",
                        binary.op.as_str()
                    ));
                }
                let sides = (self.scalar(&binary.lhs)?, self.scalar(&binary.rhs)?);
                Ok(Scalar::Binary(binary.op, Box::new(sides)))
            }
            ExprKind::Call(call) => {
                let pair = || -> Built<Box<(Scalar, Scalar)>> {
                    Ok(Box::new((
                        self.scalar_arg(call, 0)?,
                        self.scalar_arg(call, 1)?,
                    )))
                };
                let seconds = |ms: Millis| Scalar::Const(ms as f64 / 1000.0);
                match call.func.name {
                    "time" => Ok(Scalar::Time),
                    "pi" => Ok(Scalar::Const(std::f64::consts::PI)),
                    "scalar" => Ok(Scalar::Of(Box::new(self.node_arg(call, 0)?))),
                    "max_of" => Ok(Scalar::Max(pair()?)),
                    "min_of" => Ok(Scalar::Min(pair()?)),
                    "start" => Ok(seconds(self.start)),
                    "end" => Ok(seconds(self.end)),
                    "range" => Ok(seconds(self.end.saturating_sub(self.start))),
                    "step" if self.start == self.end => Ok(Scalar::Const(0.0)),
                    "step" => Ok(seconds(self.step)),
                    name => missing(name),
                }
            }
            _ => failed("expected a scalar"),
        }
    }

    fn arg<'a>(&self, call: &'a Call, i: usize) -> Built<&'a Expr> {
        match call.args.get(i) {
            Some(arg) => Ok(unparen(arg)),
            // The parser counts arguments.
            None => failed(format!("{} needs more arguments", call.func.name)),
        }
    }

    fn scalar_arg(&self, call: &Call, i: usize) -> Built<Scalar> {
        self.scalar(self.arg(call, i)?)
    }

    fn node_arg(&self, call: &Call, i: usize) -> Built<Node> {
        self.node(self.arg(call, i)?)
    }

    fn string_arg<'a>(&self, call: &'a Call, i: usize) -> Built<&'a StringLiteral> {
        match &self.arg(call, i)?.kind {
            ExprKind::String(text) => Ok(text),
            _ => failed(format!("{} needs a string", call.func.name)),
        }
    }

    fn call(&self, call: &Call, span: Span) -> Built<Node> {
        let name = call.func.name;
        if let Some(f) = functions_map::value_function(name) {
            let input = match call.args.first() {
                Some(_) => self.node_arg(call, 0)?,
                // The functions of time take the evaluation's own.
                None => Node::Vector(Scalar::Time),
            };
            return Ok(Node::Map(Box::new(input), Map::Value(name, f)));
        }
        let map = |input: Node, map: Map| Ok(Node::Map(Box::new(input), map));
        match name {
            "clamp" => {
                let (min, max) = (self.scalar_arg(call, 1)?, self.scalar_arg(call, 2)?);
                map(self.node_arg(call, 0)?, Map::Clamp(min, max))
            }
            "clamp_min" => {
                let (min, max) = (self.scalar_arg(call, 1)?, Scalar::Const(f64::INFINITY));
                map(self.node_arg(call, 0)?, Map::Clamp(min, max))
            }
            "clamp_max" => {
                let (min, max) = (Scalar::Const(f64::NEG_INFINITY), self.scalar_arg(call, 1)?);
                map(self.node_arg(call, 0)?, Map::Clamp(min, max))
            }
            "round" => {
                let to = match call.args.get(1) {
                    Some(_) => self.scalar_arg(call, 1)?,
                    None => Scalar::Const(1.0),
                };
                map(self.node_arg(call, 0)?, Map::Round(to))
            }
            "timestamp" | "start_timestamp" => match &self.arg(call, 0)?.kind {
                ExprKind::Vector(selector) => {
                    // Its times are those of samples, however values are found.
                    let plain = VectorSelector {
                        extension: None,
                        ..selector.clone()
                    };
                    let mut selector = self.selector(&plain, self.lookback, span)?;
                    selector.at_alone();
                    let what = if name == "timestamp" {
                        Newest::Time
                    } else {
                        Newest::Start
                    };
                    let node = Node::Select(selector, Kernel::Newest(what));
                    if what == Newest::Start && !self.start_timestamps {
                        return map(node, Map::Nothing);
                    }
                    Ok(node)
                }
                // Only samples have a start.
                _ if name == "start_timestamp" => map(self.node_arg(call, 0)?, Map::Nothing),
                _ => map(self.node_arg(call, 0)?, Map::StepTime),
            },
            "histogram_count" => map(
                self.node_arg(call, 0)?,
                Map::Histogram(name, |h| h.scalars.count),
            ),
            "histogram_sum" => map(
                self.node_arg(call, 0)?,
                Map::Histogram(name, |h| h.scalars.sum),
            ),
            "histogram_avg" => map(
                self.node_arg(call, 0)?,
                Map::Histogram(name, |h| h.scalars.sum / h.scalars.count),
            ),
            "histogram_stddev" => map(
                self.node_arg(call, 0)?,
                Map::Histogram(name, |h| variance(h).sqrt()),
            ),
            "histogram_stdvar" => map(self.node_arg(call, 0)?, Map::Histogram(name, variance)),
            "vector" => Ok(Node::Vector(self.scalar_arg(call, 0)?)),
            "absent" => {
                let arg = self.arg(call, 0)?;
                Ok(Node::Absent {
                    labels: absent_labels(arg),
                    drops_name: false,
                    input: Box::new(self.node(arg)?),
                })
            }
            "sort" | "sort_desc" => Ok(Node::Sort {
                by: SortBy::Value {
                    descending: name == "sort_desc",
                },
                input: Box::new(self.node_arg(call, 0)?),
                span,
            }),
            "sort_by_label" | "sort_by_label_desc" => {
                let names = (1..call.args.len())
                    .map(|i| Ok(Str::from(self.string_arg(call, i)?.as_str())))
                    .collect::<Built<_>>()?;
                Ok(Node::Sort {
                    by: SortBy::Labels {
                        names,
                        descending: name == "sort_by_label_desc",
                    },
                    input: Box::new(self.node_arg(call, 0)?),
                    span,
                })
            }
            "label_replace" => self.label_replace(call),
            "label_join" => self.label_join(call),
            "histogram_quantile" => Ok(Node::HistogramQuantile {
                quantiles: vec![(self.scalar_arg(call, 0)?, said_at(self.arg(call, 0)?, span))],
                label: None,
                input: Box::new(self.node_arg(call, 1)?),
                span: said_at(self.arg(call, 1)?, span),
            }),
            "histogram_quantiles" => {
                let quantiles = (2..call.args.len())
                    .map(|i| Ok((self.scalar_arg(call, i)?, said_at(self.arg(call, i)?, span))))
                    .collect::<Built<_>>()?;
                Ok(Node::HistogramQuantile {
                    quantiles,
                    label: Some(self.string_arg(call, 1)?.as_str().into()),
                    input: Box::new(self.node_arg(call, 0)?),
                    span: said_at(self.arg(call, 0)?, span),
                })
            }
            "info" => self.info(call),
            "histogram_fraction" => Ok(Node::HistogramFraction {
                lower: self.scalar_arg(call, 0)?,
                upper: self.scalar_arg(call, 1)?,
                input: Box::new(self.node_arg(call, 2)?),
                span: said_at(self.arg(call, 2)?, span),
            }),
            _ => match RangeFn::named(name) {
                Some(func) => self.range_function(call, func, span),
                None => missing(name),
            },
        }
    }

    fn range_function(&self, call: &Call, func: RangeFn, whole: Span) -> Built<Node> {
        let mut over = None;
        let mut params = Vec::new();
        for arg in call.args.iter().map(unparen) {
            match &arg.kind {
                ExprKind::Matrix(matrix) => {
                    over = Some((Over::Selector(self.range_selector(matrix)?), arg));
                }
                ExprKind::Subquery(subquery) => {
                    let subquery = Box::new(self.subquery(subquery)?);
                    over = Some((Over::Subquery(subquery), arg));
                }
                _ => params.push(self.scalar(arg)?),
            }
        }
        let Some((mut over, arg)) = over else {
            return failed(format!("{} needs a range vector", call.func.name));
        };
        let before = func.looks_before();
        match &mut over {
            Over::Selector(selector) => selector.range = selector.range.saturating_add(before),
            Over::Subquery(subquery) => subquery.range = subquery.range.saturating_add(before),
        }
        // Annotations name the first argument; a subquery has no place of its own, as in Prometheus.
        let mut span = said_at(self.arg(call, 0)?, whole);
        if let ExprKind::Subquery(_) = self.arg(call, 0)?.kind {
            span.start = 0;
        }
        let node = Node::Range {
            func,
            over,
            params,
            span,
            drops_name: !func.keeps_name(),
        };
        if call.func.name != "absent_over_time" {
            return Ok(node);
        }
        // Names are of no use below.
        let Node::Range {
            func,
            over,
            params,
            span,
            ..
        } = node
        else {
            return Ok(node);
        };
        Ok(Node::Absent {
            labels: absent_labels(arg),
            drops_name: true,
            input: Box::new(Node::Range {
                func,
                over,
                params,
                span,
                drops_name: false,
            }),
        })
    }

    fn label_replace(&self, call: &Call) -> Built<Node> {
        let text = |i| self.string_arg(call, i);
        let (dst, replacement, src, pattern) = (text(1)?, text(2)?, text(3)?, text(4)?);
        let Ok(regex) = Regex::wrapped(pattern) else {
            return failed(format!(
                "invalid regular expression in label_replace(): {}",
                pattern.as_str()
            ));
        };
        if !is_label_name(dst) {
            return failed(format!(
                "invalid destination label name in label_replace(): {}",
                dst.as_str()
            ));
        }
        let replace = LabelReplace {
            dst: dst.as_str().into(),
            src: src.as_str().into(),
            replacement: replacement.as_str().to_owned(),
            regex,
        };
        let input = Box::new(self.node_arg(call, 0)?);
        Ok(Node::Map(input, Map::LabelReplace(Arc::new(replace))))
    }

    fn label_join(&self, call: &Call) -> Built<Node> {
        let (dst, separator) = (self.string_arg(call, 1)?, self.string_arg(call, 2)?);
        let mut src = Vec::new();
        for i in 3..call.args.len() {
            let name = self.string_arg(call, i)?;
            if !is_label_name(name) {
                return failed(format!(
                    "invalid source label name in label_join(): {}",
                    name.as_str()
                ));
            }
            src.push(Str::from(name.as_str()));
        }
        if !is_label_name(dst) {
            return failed(format!(
                "invalid destination label name in label_join(): {}",
                dst.as_str()
            ));
        }
        let join = LabelJoin {
            dst: dst.as_str().into(),
            separator: separator.as_str().to_owned(),
            src,
        };
        let input = Box::new(self.node_arg(call, 0)?);
        Ok(Node::Map(input, Map::LabelJoin(Arc::new(join))))
    }

    fn info(&self, call: &Call) -> Built<Node> {
        let base = self.arg(call, 0)?;
        let (matchers, fixed): (&[Matcher], bool) = match call.args.get(1).map(unparen) {
            Some(arg) => match &arg.kind {
                ExprKind::Vector(selector) => {
                    let (_, at) = self.shift(&selector.at)?;
                    (&selector.matchers, at.is_some())
                }
                _ => return failed("info needs a selector"),
            },
            None => (&[], true),
        };
        let (mut names, data): (Vec<Matcher>, Vec<Matcher>) = matchers
            .iter()
            .cloned()
            .partition(|m| &*m.name == METRIC_NAME);
        if names.is_empty() {
            names.push(Matcher::equal(METRIC_NAME, "target_info"));
        } else if names
            .iter()
            .all(|m| matches!(m.op, MatchOp::NotEqual | MatchOp::NotRegex))
        {
            // Names that are only excluded leave whatever looks like an info metric.
            let Ok(any) = Matcher::new(MatchOp::Regex, METRIC_NAME, ".+_info") else {
                return failed("info metrics cannot be matched");
            };
            names.insert(0, any);
        }
        // Info samples are taken where the first selector of the base takes its own.
        let (offset, at) = self.first_shift(base)?.unwrap_or_default();
        Ok(Node::Info {
            base: Box::new(self.node(base)?),
            info: Selector {
                matchers: data.iter().chain(&names).cloned().collect(),
                range: self.lookback,
                offset,
                at,
                extension: None,
                span: Span::default(),
                no_buckets: false,
                narrowed: 0,
            },
            fixed,
            names,
            data,
        })
    }

    /// Offset and time of the first selector of `expr`, those of subqueries around it included.
    fn first_shift(&self, expr: &Expr) -> Built<Option<(Millis, Option<Millis>)>> {
        let first = |all: &[&Expr]| -> Built<Option<(Millis, Option<Millis>)>> {
            for expr in all {
                if let Some(shift) = self.first_shift(expr)? {
                    return Ok(Some(shift));
                }
            }
            Ok(None)
        };
        match &expr.kind {
            ExprKind::Vector(selector) => Ok(Some(self.shift(&selector.at)?)),
            ExprKind::Matrix(matrix) => Ok(Some(self.shift(&matrix.selector.at)?)),
            ExprKind::Subquery(subquery) => {
                let Some((offset, at)) = self.first_shift(&subquery.expr)? else {
                    return Ok(None);
                };
                if at.is_some() {
                    return Ok(Some((offset, at)));
                }
                let (outer, at) = self.shift(&subquery.at)?;
                Ok(Some((offset.saturating_add(outer), at)))
            }
            ExprKind::Call(call) => first(&call.args.iter().collect::<Vec<_>>()),
            ExprKind::Aggregate(a) => match &a.param {
                Some(param) => first(&[&a.expr, param]),
                None => first(&[&a.expr]),
            },
            ExprKind::Binary(b) => first(&[&b.lhs, &b.rhs]),
            ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => self.first_shift(inner),
            ExprKind::Number(_) | ExprKind::String(_) => Ok(None),
        }
    }

    fn aggregate(&self, aggregate: &crate::ast::Aggregate, span: Span) -> Built<Node> {
        use crate::ast::AggregateOp::CountValues;
        let mut label = None;
        let mut param = None;
        if let Some(expr) = &aggregate.param {
            let expr = unparen(expr);
            match &expr.kind {
                ExprKind::String(text) if aggregate.op == CountValues => {
                    if !is_label_name(text) {
                        let quoted = model::text::quote_bytes(text.as_bytes());
                        return failed(format!("invalid label name {quoted}"));
                    }
                    label = Some(Str::from(text.as_str()));
                }
                _ => param = Some((self.scalar(expr)?, said_at(expr, span))),
            }
        }
        Ok(Node::Aggregate {
            op: aggregate.op,
            grouping: Grouping {
                without: aggregate.grouping.without,
                labels: aggregate.grouping.labels.clone(),
            },
            input: Box::new(self.node(&aggregate.expr)?),
            param,
            label,
            spans: (span, said_at(unparen(&aggregate.expr), span)),
        })
    }

    fn binary(&self, binary: &Binary, span: Span) -> Built<Node> {
        let scalar_left = binary.lhs.value_type() == ValueType::Scalar;
        let scalar_right = binary.rhs.value_type() == ValueType::Scalar;
        if scalar_left || scalar_right {
            let (vector, scalar) = if scalar_left {
                (&binary.rhs, &binary.lhs)
            } else {
                (&binary.lhs, &binary.rhs)
            };
            let map = Map::Scalar {
                op: binary.op,
                scalar: self.scalar(scalar)?,
                swapped: scalar_left,
                bool_modifier: binary.bool_modifier,
                span,
            };
            return Ok(Node::Map(Box::new(self.node(vector)?), map));
        }
        let sides = Box::new((self.node(&binary.lhs)?, self.node(&binary.rhs)?));
        let matching = binary.matching.clone().unwrap_or_default();
        Ok(if binary.op.is_set() {
            Node::Set {
                op: binary.op,
                matching,
                sides,
            }
        } else {
            Node::Join {
                op: binary.op,
                bool_modifier: binary.bool_modifier,
                matching,
                sides,
                span,
            }
        })
    }
}

impl Selector {
    /// `timestamp` of a selector with `@` forgets the offset when it looks, but not when it asks
    /// for data: what both windows hold counts.
    fn at_alone(&mut self) {
        let Some(at) = self.at.filter(|_| self.offset != 0) else {
            return;
        };
        let asked = at.saturating_sub(self.offset);
        let (first, last) = (at.max(asked), at.min(asked));
        self.range = last.saturating_sub(first.saturating_sub(self.range)).max(0);
        (self.at, self.offset) = (Some(last), 0);
    }
}

fn is_label_name(name: &StringLiteral) -> bool {
    name.is_utf8() && !name.is_empty()
}

/// The labels of `absent(arg)`: the first that the selector asks to be equal, unless another matcher
/// of the same label comes behind it. Matchers that only take series away come last, since
/// Prometheus has sorted them so by then.
fn absent_labels(arg: &Expr) -> Labels {
    let matchers: &[Matcher] = match &arg.kind {
        ExprKind::Vector(selector) => &selector.matchers,
        ExprKind::Matrix(matrix) => &matrix.selector.matchers,
        _ => &[],
    };
    let must_be_set = |name: &str| {
        let mut of_label = matchers.iter().filter(|m| *m.name == *name);
        of_label.any(|m| !m.matches_empty())
    };
    let takes_away = |m: &&Matcher| {
        let negates = matches!(m.op, MatchOp::NotEqual | MatchOp::NotRegex);
        !must_be_set(&m.name) || (negates && m.matches_empty())
    };
    let first = matchers.iter().filter(|m| !takes_away(m));
    let in_order = first.chain(matchers.iter().filter(takes_away));
    let mut labels = LabelsBuilder::default();
    let mut asked = Vec::new();
    for matcher in in_order.filter(|m| *m.name != *METRIC_NAME) {
        let name = &*matcher.name;
        if matcher.op == MatchOp::Equal && !asked.contains(&name) {
            asked.push(name);
            labels.set(name, &*matcher.value);
        } else {
            labels.remove(name);
        }
    }
    labels.build()
}
