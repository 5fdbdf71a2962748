//! Durations: literals and arithmetic over them, `step()` and `range()`.

use model::Millis;

use super::parser::{Abort, Parsed, Parser, span};
use super::token::{Item, Tok};
use crate::ast::{BinaryOp, Duration, DurationExpr, DurationKind, NumberLiteral, Span, UnaryOp};

/// Binding power of unary operators and of `* / %`.
const MUL: u8 = 2;

/// Left and right binding power of the operators that durations know.
fn power(op: BinaryOp) -> Option<(u8, u8)> {
    Some(match op {
        BinaryOp::Add | BinaryOp::Sub => (1, 2),
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod => (MUL, MUL + 1),
        BinaryOp::Pow => (4, 4),
        _ => return None,
    })
}

/// What stands in for a duration that is wrong.
fn nothing() -> DurationExpr {
    DurationExpr {
        kind: DurationKind::Literal(NumberLiteral {
            value: 0.0,
            duration: false,
        }),
        span: Span::default(),
        wrapped: false,
    }
}

/// The number, if there is nothing else (not even parentheses).
pub(super) fn bare_literal(expr: &DurationExpr) -> Option<NumberLiteral> {
    match expr.kind {
        DurationKind::Literal(literal) if !expr.wrapped => Some(literal),
        _ => None,
    }
}

/// Seconds as whole nanoseconds, as Prometheus keeps durations: what does not fit, and what is no number, is the least number, as Go
/// for amd64 has it.
pub(super) fn nanos(seconds: f64) -> i64 {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    let nanos = (seconds * 1e9).round();
    match (-BEYOND..BEYOND).contains(&nanos) {
        true => nanos as i64,
        false => i64::MIN,
    }
}

/// A duration expression as the tree keeps it.
pub(super) fn finished(expr: DurationExpr) -> Duration {
    match bare_literal(&expr) {
        Some(literal) => Duration::Known((nanos(literal.value) / 1_000_000) as Millis),
        None => Duration::Expr(Box::new(expr)),
    }
}

fn out_of_range(seconds: f64) -> bool {
    const MAX: f64 = 9_223_372_036_854_775_808.0 / 1e9;
    !(-MAX..=MAX).contains(&seconds) && !seconds.is_nan()
}

impl<'a> Parser<'a> {
    /// Two operands or more, whose operators bind tighter than `min`.
    pub(super) fn duration(&mut self, min: u8) -> Parsed<DurationExpr> {
        self.nested(|p| {
            let left = p.duration_operand()?;
            p.duration_operators(left, min)
        })
    }

    fn duration_operators(&mut self, mut left: DurationExpr, min: u8) -> Parsed<DurationExpr> {
        let mut chain = 0;
        loop {
            let item = self.peek();
            let Tok::Op(op) = item.tok else {
                return Ok(left);
            };
            let Some((left_power, right_power)) = power(op) else {
                return Ok(left);
            };
            if left_power < min {
                return Ok(left);
            }
            self.take();
            let right = self.duration(right_power)?;
            chain += 1;
            self.limit(chain)?;
            self.duration_expression_used(&left);
            let by_zero = match op {
                BinaryOp::Div => "division by zero",
                BinaryOp::Mod => "modulo by zero",
                _ => "",
            };
            if !by_zero.is_empty() && bare_literal(&right).is_some_and(|r| r.value == 0.0) {
                self.report(span(&item), by_zero);
                left = nothing();
                continue;
            }
            left = DurationExpr {
                span: Span {
                    start: left.span.start,
                    end: right.span.end,
                },
                kind: DurationKind::Binary(op, Box::new(left), Box::new(right)),
                wrapped: false,
            };
        }
    }

    fn duration_operand(&mut self) -> Parsed<DurationExpr> {
        let item = self.peek();
        match item.tok {
            Tok::Number | Tok::Duration => Ok(self.duration_literal()),
            Tok::Op(BinaryOp::Add | BinaryOp::Sub) => {
                self.take();
                let operand = self.duration(MUL + 1)?;
                Ok(self.signed(item, operand))
            }
            Tok::LeftParen => {
                self.take();
                let mut inner = self.duration(0)?;
                self.expect(Tok::RightParen)?;
                self.duration_expression_used(&inner);
                if bare_literal(&inner).is_some() {
                    // Parentheses are no part of the place that errors tell; but Prometheus lets a number in
                    // them begin with them.
                    inner.span.start = item.start;
                }
                inner.wrapped = true;
                Ok(inner)
            }
            Tok::Step | Tok::Range | Tok::MaxOf | Tok::MinOf => self.duration_call(),
            _ => Err(Abort::Fresh),
        }
    }

    fn duration_literal(&mut self) -> DurationExpr {
        let item = self.take();
        let literal = self.literal(item);
        if out_of_range(literal.value) {
            self.report(span(&item), "duration out of range");
            return nothing();
        }
        DurationExpr {
            kind: DurationKind::Literal(literal),
            span: span(&item),
            wrapped: false,
        }
    }

    /// `step()`, `range()`, `min_of(a, b)`, `max_of(a, b)`
    fn duration_call(&mut self) -> Parsed<DurationExpr> {
        let name = self.take();
        self.expect(Tok::LeftParen)?;
        let (mut start, mut end) = (name.start, None);
        let kind = match name.tok {
            Tok::Step => DurationKind::Step,
            Tok::Range => DurationKind::Range,
            _ => {
                let a = Box::new(self.duration(0)?);
                self.expect(Tok::Comma)?;
                let b = Box::new(self.duration(0)?);
                // As of an operation, the place is that of the operands.
                (start, end) = (a.span.start, Some(b.span.end));
                if name.tok == Tok::MinOf {
                    DurationKind::MinOf(a, b)
                } else {
                    DurationKind::MaxOf(a, b)
                }
            }
        };
        let close = self.expect(Tok::RightParen)?;
        let expr = DurationExpr {
            kind,
            span: Span {
                start,
                end: end.unwrap_or(close.end()),
            },
            wrapped: false,
        };
        self.duration_expression_used(&expr);
        Ok(expr)
    }

    /// A sign in front of a duration. Signs melt into numbers, and a plus vanishes.
    fn signed(&mut self, sign: Item<'a>, operand: DurationExpr) -> DurationExpr {
        let minus = sign.tok == Tok::Op(BinaryOp::Sub);
        let at = Span {
            start: sign.start,
            end: operand.span.end,
        };
        if let Some(mut literal) = bare_literal(&operand) {
            if minus {
                literal.value = -literal.value;
            }
            if out_of_range(literal.value) {
                self.report(span(&sign), "duration out of range");
                return nothing();
            }
            return DurationExpr {
                kind: DurationKind::Literal(literal),
                span: at,
                wrapped: false,
            };
        }
        if minus {
            return DurationExpr {
                kind: DurationKind::Unary(UnaryOp::Minus, Box::new(operand)),
                span: at,
                wrapped: false,
            };
        }
        operand
    }

    /// What follows `offset`. Without parentheses only one operand belongs to it:
    /// `foo offset 5s - 8` is `(foo offset 5s) - 8`.
    pub(super) fn offset_duration(&mut self) -> Parsed<DurationExpr> {
        let item = self.peek();
        match item.tok {
            Tok::Number | Tok::Duration => Ok(self.duration_literal()),
            Tok::Step | Tok::Range | Tok::MaxOf | Tok::MinOf => self.nested(Self::duration_call),
            Tok::Op(BinaryOp::Add | BinaryOp::Sub) => {
                self.take();
                match self.peek().tok {
                    // More signs: an ordinary expression, which may go on.
                    Tok::Op(BinaryOp::Add | BinaryOp::Sub) => {
                        let operand = self.duration(MUL + 1)?;
                        let left = self.signed(item, operand);
                        self.duration_operators(left, 0)
                    }
                    Tok::LeftParen => {
                        let operand = self.nested(Self::duration_operand)?;
                        Ok(self.signed(item, operand))
                    }
                    Tok::Number | Tok::Duration => {
                        let operand = self.take();
                        let literal = self.literal(operand);
                        let operand = DurationExpr {
                            kind: DurationKind::Literal(literal),
                            span: span(&operand),
                            wrapped: false,
                        };
                        Ok(self.signed(item, operand))
                    }
                    _ => {
                        let operand = self.nested(Self::duration_operand)?;
                        Ok(self.signed(item, operand))
                    }
                }
            }
            Tok::LeftParen => self.duration(0),
            _ => Err(Abort::Fresh),
        }
    }

    fn duration_expression_used(&mut self, expr: &DurationExpr) {
        if !self.features.duration_expr {
            self.report(expr.span, "experimental duration expression is not enabled");
        }
    }
}
