//! Expressions: a Pratt parser with Prometheus' precedences.

use model::labels::METRIC_NAME;
use model::{Matcher, Str};

use super::duration::{bare_literal, finished, nanos};
use super::number::unquote;
use super::parser::{Abort, Parsed, Parser, span};
use super::selector::is_metric_name;
use super::token::{Item, Tok};
use crate::ast::{
    Aggregate, At, Binary, BinaryOp, Call, Cardinality, Duration, Expr, ExprKind, Grouping,
    Matching, MatrixSelector, NumberLiteral, RangeExtension, Span, Subquery, TimeShift, UnaryOp,
    VectorSelector,
};
use crate::functions::{self, Function};
use model::text::quote;

/// An expression and how deep its tree is.
pub(super) struct Node {
    pub(super) expr: Expr,
    depth: u32,
}

/// Stands for a function that does not exist; there is an error then, and the tree is dropped.
static UNKNOWN: Function = Function {
    name: "",
    args: &[],
    variadic: 0,
    returns: crate::ast::ValueType::Scalar,
    experimental: false,
};

/// Marks the selector of a range over something that is no selector; there is an error then.
const NO_SELECTOR: Span = Span { start: 1, end: 0 };

/// Binding power of `^`: the only operator that binds tighter than a sign.
const POW: u8 = 6;

/// Left and right binding power.
fn power(op: BinaryOp) -> (u8, u8) {
    use BinaryOp::*;
    match op {
        Or => (1, 2),
        And | Unless => (2, 3),
        Equal | NotEqual | Less | Greater | LessEqual | GreaterEqual | TrimUpper | TrimLower => {
            (3, 4)
        }
        Add | Sub => (4, 5),
        Mul | Div | Mod | Atan2 => (5, 6),
        Pow => (POW, POW),
    }
}

/// Whether an expression can begin so.
fn starts_expression(tok: Tok) -> bool {
    is_metric_name(tok)
        || matches!(
            tok,
            Tok::Number
                | Tok::Duration
                | Tok::String
                | Tok::LeftBrace
                | Tok::LeftParen
                | Tok::Op(BinaryOp::Add | BinaryOp::Sub)
        )
}

impl<'a> Parser<'a> {
    /// A whole expression.
    pub(super) fn expression(&mut self) -> Parsed<Node> {
        self.operators(0)
    }

    fn node(&mut self, kind: ExprKind, span: Span, depth: u32) -> Parsed<Node> {
        self.limit(depth)?;
        Ok(Node {
            expr: Expr { kind, span },
            depth,
        })
    }

    /// An operand and the operators behind it that bind at least as tight as `min`.
    fn operators(&mut self, min: u8) -> Parsed<Node> {
        self.nested(|p| {
            let mut left = p.operand()?;
            loop {
                let Tok::Op(op) = p.peek().tok else {
                    return Ok(left);
                };
                let (left_power, right_power) = power(op);
                if left_power < min {
                    return Ok(left);
                }
                p.take();
                let (matching, bool_modifier) = p.modifiers()?;
                let right = p.operators(right_power)?;
                left = p.binary(op, matching, bool_modifier, left, right)?;
            }
        })
    }

    fn binary(
        &mut self,
        op: BinaryOp,
        matching: Matching,
        bool_modifier: bool,
        left: Node,
        right: Node,
    ) -> Parsed<Node> {
        let span = Span {
            start: left.expr.span.start,
            end: right.expr.span.end,
        };
        if !self.features.binop_fill_modifiers && matching.fill != (None, None) {
            self.report(
                span,
                "binop fill modifiers are experimental and not enabled",
            );
        }
        let depth = 1 + left.depth.max(right.depth);
        let binary = Binary {
            op,
            lhs: left.expr,
            rhs: right.expr,
            matching: Some(matching),
            bool_modifier,
        };
        self.node(ExprKind::Binary(Box::new(binary)), span, depth)
    }

    /// `bool`, `on`/`ignoring`, `group_left`/`group_right`, `fill...` behind an operator.
    fn modifiers(&mut self) -> Parsed<(Matching, bool)> {
        let mut matching = Matching::default();
        let bool_modifier = self.take_if(Tok::Bool);
        let item = self.peek();
        if matches!(item.tok, Tok::On | Tok::Ignoring) {
            self.take();
            matching.on = item.tok == Tok::On;
            matching.labels = self.grouping_labels()?;
            let group = self.peek();
            if matches!(group.tok, Tok::GroupLeft | Tok::GroupRight) {
                self.take();
                matching.card = if group.tok == Tok::GroupLeft {
                    Cardinality::ManyToOne
                } else {
                    Cardinality::OneToMany
                };
                // Without labels an operand or a fill modifier must follow at once; of anything
                // else Prometheus says that it wants the labels.
                let next = self.peek().tok;
                if next == Tok::LeftParen || !starts_expression(next) {
                    matching.include = self.grouping_labels()?;
                }
            }
        }
        let first = self.peek();
        match first.tok {
            Tok::Fill => {
                let value = self.fill_value()?;
                matching.fill = (Some(value), Some(value));
            }
            Tok::FillLeft => {
                matching.fill.0 = Some(self.fill_value()?);
                if self.peek().tok == Tok::FillRight {
                    matching.fill.1 = Some(self.fill_value()?);
                }
            }
            Tok::FillRight => {
                matching.fill.1 = Some(self.fill_value()?);
                if self.peek().tok == Tok::FillLeft {
                    matching.fill.0 = Some(self.fill_value()?);
                }
            }
            _ => {}
        }
        Ok((matching, bool_modifier))
    }

    /// `fill(5)`, the keyword included.
    fn fill_value(&mut self) -> Parsed<f64> {
        self.take();
        self.expect(Tok::LeftParen)?;
        let value = self.signed_number()?;
        self.expect(Tok::RightParen)?;
        Ok(value)
    }

    /// A number or duration with or without a sign.
    fn signed_number(&mut self) -> Parsed<f64> {
        let mut item = self.peek();
        let minus = item.tok == Tok::Op(BinaryOp::Sub);
        if minus || item.tok == Tok::Op(BinaryOp::Add) {
            self.take();
            item = self.peek();
        }
        if !matches!(item.tok, Tok::Number | Tok::Duration) {
            return Err(Abort::Fresh);
        }
        self.take();
        let value = self.literal(item).value;
        Ok(if minus { -value } else { value })
    }

    /// An operand with what stands behind it: ranges, `offset`, `@`, `anchored`, `smoothed`.
    fn operand(&mut self) -> Parsed<Node> {
        let mut node = self.primary()?;
        loop {
            match self.peek().tok {
                Tok::LeftBracket => node = self.range(node)?,
                Tok::Offset => {
                    self.take();
                    let offset = self.offset_duration();
                    let offset =
                        self.catch(offset, "offset", "number, duration, step(), or range()")?;
                    let offset = match bare_literal(&offset) {
                        // No offset at all.
                        Some(literal) if nanos(literal.value) == 0 => None,
                        _ => Some(finished(offset)),
                    };
                    self.set_offset(&mut node.expr, offset);
                }
                Tok::At => {
                    self.take();
                    let at = self.at_modifier(&mut node.expr);
                    self.catch(at, "@", "timestamp")?;
                }
                Tok::Anchored => {
                    self.take();
                    self.set_extension(&mut node.expr, RangeExtension::Anchored, "anchored");
                }
                Tok::Smoothed => {
                    self.take();
                    self.set_extension(&mut node.expr, RangeExtension::Smoothed, "smoothed");
                }
                _ => return Ok(node),
            }
        }
    }

    fn primary(&mut self) -> Parsed<Node> {
        let item = self.peek();
        match item.tok {
            Tok::Number | Tok::Duration => {
                self.take();
                let literal = self.literal(item);
                self.node(ExprKind::Number(literal), span(&item), 1)
            }
            Tok::String => {
                self.take();
                self.node(ExprKind::String(unquote(item.text)), span(&item), 1)
            }
            Tok::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) => self.unary(item, op),
            Tok::LeftParen => {
                self.take();
                let inner = self.expression()?;
                let close = self.expect(Tok::RightParen)?;
                let span = Span {
                    start: item.start,
                    end: close.end(),
                };
                let depth = inner.depth + 1;
                self.node(ExprKind::Paren(Box::new(inner.expr)), span, depth)
            }
            Tok::Aggregate(op) => {
                self.take();
                if matches!(self.peek().tok, Tok::LeftParen | Tok::By | Tok::Without) {
                    return self.aggregate(item, op);
                }
                self.named_selector(item)
            }
            Tok::Identifier
            | Tok::Start
            | Tok::End
            | Tok::Step
            | Tok::Range
            | Tok::MaxOf
            | Tok::MinOf => {
                self.take();
                if self.peek().tok == Tok::LeftParen {
                    return self.call(item);
                }
                self.named_selector(item)
            }
            tok if is_metric_name(tok) || tok == Tok::LeftBrace => {
                let (selector, span) = self.selector()?;
                self.node(ExprKind::Vector(selector), span, 1)
            }
            _ => Err(Abort::Fresh),
        }
    }

    fn named_selector(&mut self, name: Item<'a>) -> Parsed<Node> {
        let (selector, span) = self.selector_of(name)?;
        self.node(ExprKind::Vector(selector), span, 1)
    }

    fn unary(&mut self, sign: Item<'a>, op: BinaryOp) -> Parsed<Node> {
        self.take();
        let operand = self.operators(POW)?;
        let span = Span {
            start: sign.start,
            end: operand.expr.span.end,
        };
        if let ExprKind::Number(literal) = operand.expr.kind {
            // The sign melts into the number.
            let value = if op == BinaryOp::Sub {
                -literal.value
            } else {
                literal.value
            };
            let literal = NumberLiteral { value, ..literal };
            return self.node(ExprKind::Number(literal), span, 1);
        }
        let op = if op == BinaryOp::Sub {
            UnaryOp::Minus
        } else {
            UnaryOp::Plus
        };
        let depth = operand.depth + 1;
        self.node(ExprKind::Unary(op, Box::new(operand.expr)), span, depth)
    }

    fn call(&mut self, name: Item<'a>) -> Parsed<Node> {
        let (args, depth) = self.arguments()?;
        let x_function = || functions::lookup_x(name.text).filter(|_| self.features.x_functions);
        let func = match functions::lookup(name.text).or_else(x_function) {
            Some(func) => {
                if func.experimental && !self.features.experimental_functions {
                    let shown = quote(name.text);
                    self.report(span(&name), format!("function {shown} is not enabled"));
                }
                func
            }
            None => {
                let shown = quote(name.text);
                self.report(span(&name), format!("unknown function with name {shown}"));
                &UNKNOWN
            }
        };
        let span = Span {
            start: name.start,
            end: self.taken_end,
        };
        self.node(ExprKind::Call(Call { func, args }), span, depth + 1)
    }

    /// `(a, b)` and how deep the deepest argument is.
    fn arguments(&mut self) -> Parsed<(Vec<Expr>, u32)> {
        self.expect(Tok::LeftParen)?;
        let mut args = Vec::new();
        if self.take_if(Tok::RightParen) {
            return Ok((args, 0));
        }
        let mut depth = 0;
        let mut add = |node: Node| {
            depth = depth.max(node.depth);
            args.push(node.expr);
        };
        add(self.expression()?);
        loop {
            let item = self.peek();
            match item.tok {
                Tok::Comma => {
                    self.take();
                    if starts_expression(self.peek().tok) {
                        add(self.expression()?);
                    } else {
                        self.report(
                            span(&item),
                            "trailing commas not allowed in function call args",
                        );
                    }
                }
                Tok::RightParen => {
                    self.take();
                    return Ok((args, depth));
                }
                _ => return Err(Abort::Fresh),
            }
        }
    }

    fn aggregate(&mut self, name: Item<'a>, op: crate::ast::AggregateOp) -> Parsed<Node> {
        const NO_ARGUMENTS: &str = "no arguments for aggregate expression provided";
        let parts = self.aggregate_parts();
        if parts == Err(Abort::Fresh) {
            self.unexpected("aggregation", "");
            self.report(
                Span {
                    start: name.start,
                    end: self.taken_end,
                },
                NO_ARGUMENTS,
            );
            return Err(Abort::Reported);
        }
        let (grouping, args, depth) = parts?;
        let span = Span {
            start: name.start,
            end: self.taken_end,
        };
        let wanted = if op.has_param() { 2 } else { 1 };
        let got = args.len();
        let mut args = args.into_iter();
        let (param, expr) = if got == 0 {
            self.report(span, NO_ARGUMENTS);
            (None, None)
        } else if op.is_experimental() && !self.features.experimental_functions {
            let name = op.as_str();
            self.report(
                span,
                format!(
                    "{name}() is experimental and must be enabled with \
                     --enable-feature=promql-experimental-functions"
                ),
            );
            (None, None)
        } else if got != wanted {
            self.report(
                span,
                format!(
                    "wrong number of arguments for aggregate expression provided, expected \
                     {wanted}, got {got}"
                ),
            );
            (None, None)
        } else if op.has_param() {
            (args.next(), args.next())
        } else {
            (None, args.next())
        };
        // There is an error whenever there is no expression; the tree is dropped then.
        let expr = expr.unwrap_or(Expr {
            kind: ExprKind::Number(NumberLiteral {
                value: 0.0,
                duration: false,
            }),
            span,
        });
        let aggregate = Aggregate {
            op,
            expr,
            param,
            grouping,
        };
        self.node(ExprKind::Aggregate(Box::new(aggregate)), span, depth + 1)
    }

    /// Grouping (in front or behind) and arguments.
    fn aggregate_parts(&mut self) -> Parsed<(Grouping, Vec<Expr>, u32)> {
        if let Some(grouping) = self.grouping()? {
            let (args, depth) = self.arguments()?;
            return Ok((grouping, args, depth));
        }
        let (args, depth) = self.arguments()?;
        let grouping = self.grouping()?.unwrap_or_default();
        Ok((grouping, args, depth))
    }

    fn grouping(&mut self) -> Parsed<Option<Grouping>> {
        let tok = self.peek().tok;
        if !matches!(tok, Tok::By | Tok::Without) {
            return Ok(None);
        }
        self.take();
        let labels: Vec<Str> = self.grouping_labels()?;
        Ok(Some(Grouping {
            without: tok == Tok::Without,
            labels,
        }))
    }

    /// `[range]` or `[range:step]` behind an expression.
    fn range(&mut self, node: Node) -> Parsed<Node> {
        let open = self.take();
        let range = self.duration(0);
        let range = self.catch(
            range,
            "subquery or range selector",
            "number, duration, step(), or range()",
        )?;
        self.positive(&range);
        let range = finished(range);
        match self.peek().tok {
            Tok::RightBracket => {
                let close = self.take();
                let brackets = Span {
                    start: open.start,
                    end: close.end(),
                };
                self.matrix(node, range, brackets)
            }
            Tok::Colon => {
                self.take();
                let step = if self.peek().tok == Tok::RightBracket {
                    None
                } else {
                    let step = self.duration(0);
                    let step = self.catch(
                        step,
                        "subquery selector",
                        "number, duration, step(), range(), or \"]\"",
                    )?;
                    self.positive(&step);
                    Some(finished(step))
                };
                let close = self.expect(Tok::RightBracket);
                let close = self.catch(close, "subquery selector", "\"]\"")?;
                let span = Span {
                    start: node.expr.span.start,
                    end: close.end(),
                };
                let subquery = Subquery {
                    expr: node.expr,
                    range,
                    step,
                    at: TimeShift::default(),
                };
                self.node(ExprKind::Subquery(Box::new(subquery)), span, node.depth + 1)
            }
            _ => Err(self.unexpected("subquery or range", "\":\" or \"]\"")),
        }
    }

    fn positive(&mut self, duration: &crate::ast::DurationExpr) {
        if bare_literal(duration).is_some_and(|literal| literal.value <= 0.0) {
            self.report(duration.span, "duration must be greater than 0");
        }
    }

    fn matrix(&mut self, node: Node, range: Duration, brackets: Span) -> Parsed<Node> {
        let span = Span {
            start: node.expr.span.start,
            end: brackets.end,
        };
        let mut selector_span = node.expr.span;
        let selector = match node.expr.kind {
            ExprKind::Vector(selector) => {
                if selector.at.offset.is_some() {
                    self.report(brackets, "no offset modifiers allowed before range");
                } else if selector.at.at.is_some() {
                    self.report(brackets, "no @ modifiers allowed before range");
                }
                selector
            }
            _ => {
                self.report(brackets, "ranges only allowed for vector selectors");
                selector_span = NO_SELECTOR;
                VectorSelector {
                    name: None,
                    matchers: vec![Matcher::equal(METRIC_NAME, "")],
                    at: TimeShift::default(),
                    extension: None,
                }
            }
        };
        let matrix = MatrixSelector {
            selector,
            selector_span,
            range,
        };
        self.node(ExprKind::Matrix(matrix), span, node.depth + 1)
    }

    /// Where `offset` and `@` of `expr` are kept; `modifier` names what was written.
    fn time_shift<'e>(&mut self, expr: &'e mut Expr, modifier: &str) -> Option<&'e mut TimeShift> {
        let at = expr.span;
        match &mut expr.kind {
            ExprKind::Vector(selector) => Some(&mut selector.at),
            ExprKind::Matrix(matrix) if matrix.selector_span == NO_SELECTOR => {
                self.report(at, "ranges only allowed for vector selectors");
                None
            }
            ExprKind::Matrix(matrix) => Some(&mut matrix.selector.at),
            ExprKind::Subquery(subquery) => Some(&mut subquery.at),
            _ => {
                self.report(
                    at,
                    format!(
                        "{modifier} modifier must be preceded by an instant vector selector or \
                         range vector selector or a subquery"
                    ),
                );
                None
            }
        }
    }

    fn set_offset(&mut self, expr: &mut Expr, offset: Option<Duration>) {
        let at = expr.span;
        let end = self.taken_end;
        let Some(shift) = self.time_shift(expr, "offset") else {
            return;
        };
        if shift.offset.is_some() {
            self.report(at, "offset may not be set multiple times");
        } else {
            shift.offset = offset;
        }
        expr.span.end = end;
    }

    /// What follows `@`.
    fn at_modifier(&mut self, expr: &mut Expr) -> Parsed<()> {
        let item = self.peek();
        let at = match item.tok {
            Tok::Start | Tok::End => {
                self.take();
                self.expect(Tok::LeftParen)?;
                self.expect(Tok::RightParen)?;
                if item.tok == Tok::Start {
                    At::Start
                } else {
                    At::End
                }
            }
            _ => {
                let seconds = self.signed_number()?;
                const LIMIT: f64 = 9_223_372_036_854_775_808.0;
                if seconds.is_nan() || seconds.abs() >= LIMIT {
                    let shown = if seconds.is_finite() {
                        format!("{seconds:.6}")
                    } else {
                        model::text::format_f(seconds)
                    };
                    self.report(
                        expr.span,
                        format!("timestamp out of bounds for @ modifier: {shown}"),
                    );
                }
                At::Time((seconds * 1000.0).round() as i64)
            }
        };
        let place = expr.span;
        let end = self.taken_end;
        let Some(shift) = self.time_shift(expr, "@") else {
            return Ok(());
        };
        if shift.at.is_some() {
            self.report(place, "@ <timestamp> may not be set multiple times");
            return Ok(());
        }
        shift.at = Some(at);
        expr.span.end = end;
        Ok(())
    }

    fn set_extension(&mut self, expr: &mut Expr, extension: RangeExtension, word: &str) {
        let at = expr.span;
        if !self.features.extended_range_selectors {
            self.report(
                at,
                format!("{word} modifier is experimental and not enabled"),
            );
            return;
        }
        let selector = match &mut expr.kind {
            ExprKind::Vector(selector) => selector,
            ExprKind::Matrix(matrix) if matrix.selector_span == NO_SELECTOR => return,
            ExprKind::Matrix(matrix) => &mut matrix.selector,
            ExprKind::Subquery(_) => {
                self.report(
                    at,
                    format!("{word} modifier is not supported for subqueries"),
                );
                return;
            }
            _ => {
                self.report(at, format!("{word} modifier not implemented"));
                return;
            }
        };
        let other = selector.extension.replace(extension);
        if other.is_some_and(|other| other != extension) {
            self.report(
                at,
                "anchored and smoothed modifiers cannot be used together",
            );
        }
        expr.span.end = self.taken_end.max(expr.span.end);
    }
}
