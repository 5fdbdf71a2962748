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
    /// `"text"`
    String(StringLiteral),
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

/// The text of a string literal, without quotes and escapes.
///
/// Escapes can write any bytes (`"\xff"`), and where such a text becomes a label name or value it
/// is an error that shows them; everywhere else it reads as a `str`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StringLiteral {
    text: String,
    /// Only when the bytes are no UTF-8; `text` then has replacement characters.
    bytes: Option<Box<[u8]>>,
}

impl StringLiteral {
    /// The literal of these bytes.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self { text, bytes: None },
            Err(bad) => Self {
                text: String::from_utf8_lossy(bad.as_bytes()).into_owned(),
                bytes: Some(bad.into_bytes().into()),
            },
        }
    }

    /// The text; bytes that are no UTF-8 show as replacement characters.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The bytes as they were meant.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or(self.text.as_bytes())
    }

    /// Whether the bytes are UTF-8, as label names and values must be.
    pub fn is_utf8(&self) -> bool {
        self.bytes.is_none()
    }
}

impl From<String> for StringLiteral {
    fn from(text: String) -> Self {
        Self { text, bytes: None }
    }
}

impl From<&str> for StringLiteral {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl std::ops::Deref for StringLiteral {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
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
    /// The place that errors tell: that of its operands, without parentheses around them.
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

impl AggregateOp {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Sum,
        Self::Avg,
        Self::Count,
        Self::Min,
        Self::Max,
        Self::Group,
        Self::Stddev,
        Self::Stdvar,
        Self::Topk,
        Self::Bottomk,
        Self::Quantile,
        Self::CountValues,
        Self::Limitk,
        Self::LimitRatio,
    ];

    /// The operation's name.
    pub fn as_str(self) -> &'static str {
        use AggregateOp::*;
        match self {
            Sum => "sum",
            Avg => "avg",
            Count => "count",
            Min => "min",
            Max => "max",
            Group => "group",
            Stddev => "stddev",
            Stdvar => "stdvar",
            Topk => "topk",
            Bottomk => "bottomk",
            Quantile => "quantile",
            CountValues => "count_values",
            Limitk => "limitk",
            LimitRatio => "limit_ratio",
        }
    }

    /// Whether it takes a parameter in front of the vector.
    pub fn has_param(self) -> bool {
        use AggregateOp::*;
        matches!(
            self,
            Topk | Bottomk | Quantile | CountValues | Limitk | LimitRatio
        )
    }

    /// Whether it needs `promql-experimental-functions`.
    pub fn is_experimental(self) -> bool {
        matches!(self, AggregateOp::Limitk | AggregateOp::LimitRatio)
    }
}

impl BinaryOp {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Div,
        Self::Mod,
        Self::Pow,
        Self::Atan2,
        Self::Equal,
        Self::NotEqual,
        Self::Less,
        Self::Greater,
        Self::LessEqual,
        Self::GreaterEqual,
        Self::And,
        Self::Or,
        Self::Unless,
        Self::TrimUpper,
        Self::TrimLower,
    ];

    /// The operator's text.
    pub fn as_str(self) -> &'static str {
        use BinaryOp::*;
        match self {
            Add => "+",
            Sub => "-",
            Mul => "*",
            Div => "/",
            Mod => "%",
            Pow => "^",
            Atan2 => "atan2",
            Equal => "==",
            NotEqual => "!=",
            Less => "<",
            Greater => ">",
            LessEqual => "<=",
            GreaterEqual => ">=",
            And => "and",
            Or => "or",
            Unless => "unless",
            TrimUpper => "</",
            TrimLower => ">/",
        }
    }

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

impl UnaryOp {
    /// The operator's text.
    pub fn as_str(self) -> &'static str {
        match self {
            UnaryOp::Plus => "+",
            UnaryOp::Minus => "-",
        }
    }
}

impl Expr {
    /// What the expression evaluates to.
    pub fn value_type(&self) -> ValueType {
        // A loop, not recursion: chains of unary operators and parentheses are the deep ones.
        let mut expr = self;
        loop {
            return match &expr.kind {
                ExprKind::Number(_) => ValueType::Scalar,
                ExprKind::String(_) => ValueType::String,
                ExprKind::Vector(_) | ExprKind::Aggregate(_) => ValueType::Vector,
                ExprKind::Matrix(_) | ExprKind::Subquery(_) => ValueType::Matrix,
                ExprKind::Call(call) => call.func.returns,
                ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => {
                    expr = inner;
                    continue;
                }
                ExprKind::Binary(binary) => binary.value_type(),
            };
        }
    }
}

impl Expr {
    /// Calls `f` with each expression directly below this one, in the order of evaluation.
    pub fn each_child<'e>(&'e self, f: &mut dyn FnMut(&'e Expr)) {
        match &self.kind {
            ExprKind::Number(_)
            | ExprKind::String(_)
            | ExprKind::Vector(_)
            | ExprKind::Matrix(_) => {}
            ExprKind::Subquery(subquery) => f(&subquery.expr),
            ExprKind::Call(call) => call.args.iter().for_each(f),
            ExprKind::Aggregate(aggregate) => {
                aggregate.param.iter().for_each(&mut *f);
                f(&aggregate.expr);
            }
            ExprKind::Binary(binary) => {
                f(&binary.lhs);
                f(&binary.rhs);
            }
            ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => f(inner),
        }
    }

    /// Calls `f` with every selector of the expression, to be changed.
    pub fn each_selector(&mut self, f: &mut dyn FnMut(&mut VectorSelector)) {
        let mut open = vec![self];
        while let Some(expr) = open.pop() {
            match &mut expr.kind {
                ExprKind::Number(_) | ExprKind::String(_) => {}
                ExprKind::Vector(selector) => f(selector),
                ExprKind::Matrix(matrix) => f(&mut matrix.selector),
                ExprKind::Subquery(subquery) => open.push(&mut subquery.expr),
                ExprKind::Call(call) => open.extend(&mut call.args),
                ExprKind::Aggregate(aggregate) => {
                    open.extend(&mut aggregate.param);
                    open.push(&mut aggregate.expr);
                }
                ExprKind::Binary(binary) => {
                    open.push(&mut binary.lhs);
                    open.push(&mut binary.rhs);
                }
                ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => open.push(inner),
            }
        }
    }

    /// Calls `f` with this expression and all below it, parents first. A depth-first walk with a
    /// stack of its own, so that no tree is too deep for it.
    pub fn for_each<'e>(&'e self, mut f: impl FnMut(&'e Expr)) {
        let mut stack = vec![self];
        while let Some(expr) = stack.pop() {
            f(expr);
            let from = stack.len();
            expr.each_child(&mut |child| stack.push(child));
            if let Some(children) = stack.get_mut(from..) {
                children.reverse();
            }
        }
    }
}

impl Binary {
    /// Scalar if both sides are scalars, else vector.
    pub fn value_type(&self) -> ValueType {
        if self.lhs.value_type() == ValueType::Scalar && self.rhs.value_type() == ValueType::Scalar
        {
            ValueType::Scalar
        } else {
            ValueType::Vector
        }
    }
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

impl ValueType {
    /// The name in the API's `resultType`.
    pub fn as_str(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "vector",
            ValueType::Matrix => "matrix",
            ValueType::String => "string",
        }
    }

    /// The name in error texts and documentation.
    pub fn documented(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            ValueType::String => "string",
        }
    }
}
