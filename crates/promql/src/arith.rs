//! Binary operators on numbers, with Go's results.

use crate::ast::BinaryOp;

/// Go's `math.Pow`: as C's, which Rust's is.
fn pow(a: f64, b: f64) -> f64 {
    a.powf(b)
}

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
