//! Binary operators on numbers, with Go's results.

use crate::annotations::{Note, Operation};
use crate::ast::BinaryOp;
use crate::elementary::pow;
use crate::histogram::sum::{Incompatible, Sum};
use crate::histogram::{Histogram, trim};
use model::histogram::CounterReset;

fn number(b: bool) -> f64 {
    f64::from(u8::from(b))
}

/// The operator between two scalars; comparisons give 0 or 1. Set operators, which no scalar can
/// have, give NaN.
pub(crate) fn scalar_function(op: BinaryOp) -> fn(f64, f64) -> f64 {
    match op {
        BinaryOp::Add => |a, b| a + b,
        BinaryOp::Sub => |a, b| a - b,
        BinaryOp::Mul => |a, b| a * b,
        BinaryOp::Div => |a, b| a / b,
        BinaryOp::Mod => |a, b| a % b,
        BinaryOp::Pow => pow,
        BinaryOp::Atan2 => f64::atan2,
        BinaryOp::Equal => |a, b| number(a == b),
        BinaryOp::NotEqual => |a, b| number(a != b),
        BinaryOp::Less => |a, b| number(a < b),
        BinaryOp::Greater => |a, b| number(a > b),
        BinaryOp::LessEqual => |a, b| number(a <= b),
        BinaryOp::GreaterEqual => |a, b| number(a >= b),
        BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Unless
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => |_, _| f64::NAN,
    }
}

/// A histogram and a number, the other way round if `swapped`; nothing where that makes no sense.
pub(crate) fn with_scalar(op: BinaryOp, h: &Histogram, s: f64, swapped: bool) -> Option<Histogram> {
    let mut out;
    match op {
        BinaryOp::Mul => {
            out = h.clone();
            out.scale(s);
        }
        BinaryOp::Div if !swapped => {
            out = h.clone();
            out.divide(s);
        }
        BinaryOp::TrimUpper | BinaryOp::TrimLower if !swapped => {
            return Some(trim::trim(h, s, op == BinaryOp::TrimUpper));
        }
        _ => return None,
    }
    out.compacted = true;
    Some(out)
}

/// What a binary operator makes of two histograms.
pub(crate) enum OfHistograms {
    /// A histogram, and something to say about it.
    Is(Box<Histogram>, Option<Note>),
    /// Whether the left one stays.
    Keeps(bool),
    /// Nothing, for a reason.
    Nothing(Note),
}

/// A binary operator between two histograms.
pub(crate) fn between(op: BinaryOp, a: &Histogram, b: &Histogram) -> OfHistograms {
    let name = op.as_str();
    let (sign, operation) = match op {
        BinaryOp::Add => (1.0, Operation::Addition),
        BinaryOp::Sub => (-1.0, Operation::Subtraction),
        BinaryOp::Equal => return OfHistograms::Keeps(a.equals(b)),
        BinaryOp::NotEqual => return OfHistograms::Keeps(!a.equals(b)),
        _ => return OfHistograms::Nothing(Note::Types("histogram", name, "histogram")),
    };
    let mut sum = Sum::plain(a.as_ref());
    match sum.add(b.as_ref(), sign) {
        Err(Incompatible) => OfHistograms::Nothing(Note::Layouts(name)),
        // As in Prometheus, a contradiction leaves no result.
        Ok(added) if added.collision => OfHistograms::Nothing(Note::Collision(operation)),
        Ok(added) => {
            let mut h = sum.finish();
            if op == BinaryOp::Sub {
                h.scalars.counter_reset = CounterReset::Gauge;
            }
            h.compacted = true;
            let note = added.reconciled.then_some(Note::Reconciled(operation));
            OfHistograms::Is(Box::new(h), note)
        }
    }
}

/// Whether the result is another metric than the operand (arithmetic), so that its name goes.
pub(crate) fn changes_schema(op: BinaryOp) -> bool {
    use BinaryOp::*;
    matches!(op, Add | Sub | Mul | Div | Mod | Pow | Atan2)
}

/// Runs `$body` with `$f` bound to the operator as a closure of its own type, so that loops over
/// steps compile without calls.
macro_rules! with_operator {
    ($op:expr, $f:ident => $body:expr) => {
        match $op {
            $crate::ast::BinaryOp::Add => {
                let $f = |a: f64, b: f64| a + b;
                $body
            }
            $crate::ast::BinaryOp::Sub => {
                let $f = |a: f64, b: f64| a - b;
                $body
            }
            $crate::ast::BinaryOp::Mul => {
                let $f = |a: f64, b: f64| a * b;
                $body
            }
            $crate::ast::BinaryOp::Div => {
                let $f = |a: f64, b: f64| a / b;
                $body
            }
            op => {
                let $f = $crate::arith::scalar_function(op);
                $body
            }
        }
    };
}

pub(crate) use with_operator;
