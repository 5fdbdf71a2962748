//! The syntax tree: what was written, and where.
//!
//! Shapes follow Prometheus' `promql/parser/ast.go`, so that printing, checking and error texts
//! can too.

use model::{Matcher, Millis, Str};

/// Bytes of the query text, end exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// An expression and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it was written.
    pub span: Span,
}

/// The kinds of expressions.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// `1`, `0x1f`, `NaN`, `5m`
    Number(NumberLiteral),
    /// `"text"`; Go strings are bytes, but PromQL's must be UTF-8 where they become labels.
    String(String),
    /// `metric{matchers} offset ... @ ...`
    Vector(VectorSelector),
    /// `selector[range]`
    Matrix(MatrixSelector),
    /// `expr[range:step]`
    Subquery(Box<Subquery>),
    /// `f(args)`
    Call(Call),
    /// `sum by (x) (expr)`
    Aggregate(Box<Aggregate>),
    /// `a + b`
    Binary(Box<Binary>),
    /// `-a`, `+a`
    Unary(UnaryOp, Box<Expr>),
    /// `(a)`
    Paren(Box<Expr>),
}

/// A number, and whether it was written as a duration (which printing keeps).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NumberLiteral {
    /// Its value; for a duration, seconds.
    pub value: f64,
    /// Whether it was written as a duration.
    pub duration: bool,
}

/// A selector of series.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The metric name in front of the braces, if it was written there.
    pub name: Option<Str>,
    /// All matchers, the one for the name included (and then last, as in Prometheus).
    pub matchers: Vec<Matcher>,
    /// `offset` and `@`.
    pub at: TimeShift,
    /// `anchored` or `smoothed`.
    pub extension: Option<RangeExtension>,
}

/// How a range selector treats its borders (`promql-extended-range-selectors`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RangeExtension {
    /// The last sample at or before the start belongs to the range.
    Anchored,
    /// Borders are interpolated.
    Smoothed,
}

/// `offset` and `@` as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimeShift {
    /// Written after `offset`; `None` when there is none.
    pub offset: Option<Duration>,
    /// Written after `@`.
    pub at: Option<At>,
}

/// What stands after `@`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// A time, ms since the Unix epoch.
    Time(Millis),
    /// `start()`: the query's start.
    Start,
    /// `end()`: the query's end.
    End,
}

/// A duration as written: known at once, or an expression over `step()` and `range()`.
#[derive(Clone, Debug, PartialEq)]
pub enum Duration {
    /// Milliseconds.
    Known(Millis),
    /// To be computed once step and range are known.
    Expr(Box<DurationExpr>),
}

/// An expression that yields a duration, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationExpr {
    /// What it is.
    pub kind: DurationKind,
    /// Where it was written.
    pub span: Span,
    /// Whether it stands in parentheses.
    pub wrapped: bool,
}

/// The kinds of duration expressions.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationKind {
    /// A number or duration literal.
    Literal(NumberLiteral),
    /// `step()`
    Step,
    /// `range()`
    Range,
    /// `min_of(a, b)`
    MinOf(Box<DurationExpr>, Box<DurationExpr>),
    /// `max_of(a, b)`
    MaxOf(Box<DurationExpr>, Box<DurationExpr>),
    /// `-a`, `+a`
    Unary(UnaryOp, Box<DurationExpr>),
    /// `a + b`; only `+ - * / % ^`
    Binary(BinaryOp, Box<DurationExpr>, Box<DurationExpr>),
}

/// `selector[range]`. `offset`, `@` and the extension stand in the selector.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    /// What is selected.
    pub selector: VectorSelector,
    /// Where the selector was written.
    pub selector_span: Span,
    /// How far back.
    pub range: Duration,
}

/// `expr[range:step] offset ... @ ...`
#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    /// What is evaluated on the inner grid.
    pub expr: Expr,
    /// How far back.
    pub range: Duration,
    /// The inner step; `None`: the default.
    pub step: Option<Duration>,
    /// `offset` and `@`.
    pub at: TimeShift,
}

/// A function call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Which function.
    pub func: &'static crate::functions::Function,
    /// Its arguments.
    pub args: Vec<Expr>,
}

/// An aggregation.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// Which.
    pub op: AggregateOp,
    /// What is aggregated.
    pub expr: Expr,
    /// `k`, the quantile, the label name.
    pub param: Option<Expr>,
    /// `by` or `without`.
    pub grouping: Grouping,
}

/// `by (labels)` or `without (labels)`. No clause at all is `by ()`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Grouping {
    /// Whether it is `without`.
    pub without: bool,
    /// Label names, as written.
    pub labels: Vec<Str>,
}

/// The aggregations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "PromQL's own words")]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    Quantile,
    CountValues,
    Limitk,
    LimitRatio,
}

/// A binary operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// Which.
    pub op: BinaryOp,
    /// Left side.
    pub lhs: Expr,
    /// Right side.
    pub rhs: Expr,
    /// How vectors are matched; `None` unless both sides are vectors.
    pub matching: Option<Matching>,
    /// `bool`
    pub bool_modifier: bool,
}

/// Which series of two vectors belong together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matching {
    /// One to one, or which side has many.
    pub card: Cardinality,
    /// `on` (true) or `ignoring` (false) and the label names.
    pub on: bool,
    /// Label names of `on`/`ignoring`.
    pub labels: Vec<Str>,
    /// Labels that `group_left`/`group_right` copy from the one side.
    pub include: Vec<Str>,
    /// Values for missing series of the left and of the right side.
    pub fill: (Option<f64>, Option<f64>),
}

/// How many series of one side may match one of the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Cardinality {
    #[default]
    OneToOne,
    ManyToOne,
    OneToMany,
    ManyToMany,
}

/// Binary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "PromQL's own operators")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    Greater,
    LessEqual,
    GreaterEqual,
    And,
    Or,
    Unless,
    /// `</` of native histograms.
    TrimUpper,
    /// `>/` of native histograms.
    TrimLower,
}

impl BinaryOp {
    /// Whether it compares.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(
            self,
            Equal | NotEqual | Less | Greater | LessEqual | GreaterEqual
        )
    }

    /// Whether it is `and`, `or` or `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}

/// Unary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum UnaryOp {
    Plus,
    Minus,
}

/// The type of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One number a step.
    Scalar,
    /// Series, one value a step.
    Vector,
    /// Series, many values a step.
    Matrix,
    /// Text.
    String,
}
