//! Tree to text on one line, as Prometheus' `String()` prints it; reading the text gives the same
//! tree.

use std::fmt::{self, Display, Formatter, Write};

use model::labels::{is_legacy_label_name, write_quoted};
use model::time::format_duration;
use model::{METRIC_NAME, MatchOp, Str};

use crate::ast::{
    Aggregate, At, Binary, BinaryOp, Cardinality, Duration, DurationExpr, DurationKind, Expr,
    ExprKind, Matching, MatrixSelector, NumberLiteral, RangeExtension, StringLiteral, Subquery,
    TimeShift, UnaryOp, VectorSelector,
};
use model::text::{format_f, format_g, quote_bytes};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(number) => number.fmt(f),
            ExprKind::String(text) => text.fmt(f),
            ExprKind::Vector(selector) => selector.fmt(f),
            ExprKind::Matrix(matrix) => matrix.fmt(f),
            ExprKind::Subquery(subquery) => {
                subquery.expr.fmt(f)?;
                write_subquery_suffix(f, subquery)
            }
            ExprKind::Call(call) => {
                f.write_str(call.func.name)?;
                f.write_char('(')?;
                for (i, arg) in call.args.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    arg.fmt(f)?;
                }
                f.write_char(')')
            }
            ExprKind::Aggregate(aggregate) => {
                write_aggregate_head(f, aggregate)?;
                f.write_char('(')?;
                if let Some(param) = &aggregate.param {
                    param.fmt(f)?;
                    f.write_str(", ")?;
                }
                aggregate.expr.fmt(f)?;
                f.write_char(')')
            }
            ExprKind::Binary(binary) => {
                binary.lhs.fmt(f)?;
                f.write_char(' ')?;
                write_operator(f, binary)?;
                f.write_char(' ')?;
                binary.rhs.fmt(f)
            }
            ExprKind::Unary(op, inner) => {
                f.write_str(op.as_str())?;
                inner.fmt(f)
            }
            ExprKind::Paren(inner) => {
                f.write_char('(')?;
                inner.fmt(f)?;
                f.write_char(')')
            }
        }
    }
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.duration {
            return f.write_str(&format_f(self.value));
        }
        if self.value < 0.0 {
            f.write_char('-')?;
        }
        // Prometheus cuts here where we round, and so prints some durations a ms too short; but
        // queries travel as printed text, which must mean the same.
        let nanos = (self.value.abs() * 1e9).round() as i64;
        f.write_str(&format_duration(nanos / 1_000_000))
    }
}

/// As Go's `%q` quotes it.
impl Display for StringLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&readable(quote_bytes(self.as_bytes())))
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_series(f, self)?;
        write_at(f, &self.at)?;
        write_extension(f, self.extension)?;
        write_offset(f, &self.at)
    }
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_series(f, &self.selector)?;
        write!(f, "[{}]", self.range)?;
        write_extension(f, self.selector.extension)?;
        write_at(f, &self.selector.at)?;
        write_offset(f, &self.selector.at)
    }
}

impl Display for Duration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Duration::Known(ms) => f.write_str(&format_duration(*ms)),
            Duration::Expr(expr) => expr.fmt(f),
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.wrapped {
            f.write_char('(')?;
        }
        match &self.kind {
            DurationKind::Literal(literal) => literal.fmt(f)?,
            DurationKind::Step => f.write_str("step()")?,
            DurationKind::Range => f.write_str("range()")?,
            DurationKind::MinOf(a, b) => write!(f, "min_of({a}, {b})")?,
            DurationKind::MaxOf(a, b) => write!(f, "max_of({a}, {b})")?,
            DurationKind::Unary(UnaryOp::Minus, inner) => write!(f, "-{inner}")?,
            DurationKind::Unary(UnaryOp::Plus, inner) => inner.fmt(f)?,
            DurationKind::Binary(op, a, b) => write!(f, "{a} {op} {b}")?,
        }
        if self.wrapped {
            f.write_char(')')?;
        }
        Ok(())
    }
}

impl Display for BinaryOp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Quoted text that can be read back: the lexer takes a replacement character for broken UTF-8, as
/// Prometheus' does, unless it is written as an escape.
fn readable(quoted: String) -> String {
    if quoted.contains(char::REPLACEMENT_CHARACTER) {
        quoted.replace(char::REPLACEMENT_CHARACTER, "\\ufffd")
    } else {
        quoted
    }
}

/// Name and matchers. The matcher that the name stands for is not shown again.
fn write_series(f: &mut Formatter<'_>, selector: &VectorSelector) -> fmt::Result {
    let name = selector.name.as_deref().unwrap_or("");
    f.write_str(name)?;
    let mut matchers: Vec<String> = selector
        .matchers
        .iter()
        .filter(|m| {
            &*m.name != METRIC_NAME
                || m.op != MatchOp::Equal
                || m.value.is_empty()
                || &*m.value != name
        })
        .map(|matcher| readable(matcher.to_string()))
        .collect();
    if matchers.is_empty() {
        return Ok(());
    }
    matchers.sort_unstable();
    write!(f, "{{{}}}", matchers.join(","))
}

fn write_extension(f: &mut Formatter<'_>, extension: Option<RangeExtension>) -> fmt::Result {
    match extension {
        None => Ok(()),
        Some(RangeExtension::Anchored) => f.write_str(" anchored"),
        Some(RangeExtension::Smoothed) => f.write_str(" smoothed"),
    }
}

fn write_at(f: &mut Formatter<'_>, shift: &TimeShift) -> fmt::Result {
    match shift.at {
        None => Ok(()),
        Some(At::Time(ms)) => write!(f, " @ {:.3}", ms as f64 / 1000.0),
        Some(At::Start) => f.write_str(" @ start()"),
        Some(At::End) => f.write_str(" @ end()"),
    }
}

fn write_offset(f: &mut Formatter<'_>, shift: &TimeShift) -> fmt::Result {
    match &shift.offset {
        None => Ok(()),
        Some(offset) => write!(f, " offset {offset}"),
    }
}

/// `[range:step] @ t offset o`
pub(crate) fn write_subquery_suffix(out: &mut Formatter<'_>, subquery: &Subquery) -> fmt::Result {
    write!(out, "[{}:", subquery.range)?;
    if let Some(step) = &subquery.step {
        step.fmt(out)?;
    }
    out.write_char(']')?;
    write_at(out, &subquery.at)?;
    write_offset(out, &subquery.at)
}

/// `sum by (a, b) `, without the parenthesis.
pub(crate) fn write_aggregate_head(f: &mut Formatter<'_>, aggregate: &Aggregate) -> fmt::Result {
    f.write_str(aggregate.op.as_str())?;
    let grouping = &aggregate.grouping;
    if !grouping.without && grouping.labels.is_empty() {
        return Ok(());
    }
    f.write_str(if grouping.without {
        " without ("
    } else {
        " by ("
    })?;
    write_labels(f, &grouping.labels)?;
    f.write_str(") ")
}

fn write_labels(f: &mut Formatter<'_>, labels: &[Str]) -> fmt::Result {
    for (i, label) in labels.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        if is_legacy_label_name(label) {
            f.write_str(label)?;
        } else {
            let mut quoted = String::new();
            write_quoted(&mut quoted, label)?;
            f.write_str(&readable(quoted))?;
        }
    }
    Ok(())
}

/// The operator with `bool` and matching.
pub(crate) fn write_operator(f: &mut Formatter<'_>, binary: &Binary) -> fmt::Result {
    f.write_str(binary.op.as_str())?;
    if binary.bool_modifier {
        f.write_str(" bool")?;
    }
    match &binary.matching {
        Some(matching) => write_matching(f, matching),
        None => Ok(()),
    }
}

fn write_matching(f: &mut Formatter<'_>, matching: &Matching) -> fmt::Result {
    let group = match matching.card {
        Cardinality::ManyToOne => Some("left"),
        Cardinality::OneToMany => Some("right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if !matching.labels.is_empty() || matching.on || group.is_some() {
        f.write_str(if matching.on { " on (" } else { " ignoring (" })?;
        write_labels(f, &matching.labels)?;
        f.write_char(')')?;
    }
    if let Some(side) = group {
        write!(f, " group_{side} (")?;
        write_labels(f, &matching.include)?;
        f.write_char(')')?;
    }
    match matching.fill {
        (Some(left), Some(right)) if left == right => write!(f, " fill ({})", format_g(left)),
        (left, right) => {
            if let Some(left) = left {
                write!(f, " fill_left ({})", format_g(left))?;
            }
            if let Some(right) = right {
                write!(f, " fill_right ({})", format_g(right))?;
            }
            Ok(())
        }
    }
}

/// A head or suffix of a node as text, for the prettifier.
pub(crate) fn text(write: impl Fn(&mut Formatter<'_>) -> fmt::Result) -> String {
    struct Text<F>(F);
    impl<F: Fn(&mut Formatter<'_>) -> fmt::Result> Display for Text<F> {
        fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
            (self.0)(f)
        }
    }
    Text(write).to_string()
}
