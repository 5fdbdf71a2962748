//! Tree to text on many lines: what `/api/v1/format_query` answers.
//!
//! A node whose one-line text is longer than [`MAX_LINE`] bytes is broken: each child on lines of
//! its own, two blanks deeper. The rules are those of Prometheus' `promql/parser/prettier.go`.

use std::fmt::Write as _;

use crate::ast::{Expr, ExprKind};
use crate::print::{text, write_aggregate_head, write_operator, write_subquery_suffix};

/// Longest text, in bytes, that stays on one line.
pub const MAX_LINE: usize = 100;

/// `expr`, formatted for reading.
pub fn prettify(expr: &Expr) -> String {
    prettify_to(expr, MAX_LINE)
}

/// The same with another longest line, in bytes.
pub fn prettify_to(expr: &Expr, max_line: usize) -> String {
    let mut out = String::new();
    Prettifier { max_line }.node(&mut out, expr, 0);
    out
}

struct Prettifier {
    max_line: usize,
}

fn indent(out: &mut String, level: usize) {
    for _ in 0..level {
        out.push_str("  ");
    }
}

/// Counts bytes until there are too many, so that a deep tree is not printed whole at each level.
struct Counter {
    left: usize,
}

impl std::fmt::Write for Counter {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        self.left = self.left.checked_sub(s.len()).ok_or(std::fmt::Error)?;
        Ok(())
    }
}

impl Prettifier {
    fn fits(&self, expr: &Expr) -> bool {
        let mut counter = Counter {
            left: self.max_line,
        };
        write!(counter, "{expr}").is_ok()
    }

    fn node(&self, out: &mut String, expr: &Expr, level: usize) {
        match &expr.kind {
            ExprKind::Unary(op, inner) => {
                indent(out, level);
                out.push_str(op.as_str());
                let mut child = String::new();
                self.node(&mut child, inner, level);
                // The child's first line stands behind the sign.
                out.push_str(child.trim());
            }
            // Prometheus leaves a subquery that fits where it is, without indent.
            ExprKind::Subquery(_) if self.fits(expr) => {
                let _ = write!(out, "{expr}");
            }
            ExprKind::Subquery(subquery) => {
                self.node(out, &subquery.expr, level);
                out.push_str(&text(|f| write_subquery_suffix(f, subquery)));
            }
            _ if self.fits(expr) => {
                indent(out, level);
                let _ = write!(out, "{expr}");
            }
            ExprKind::Number(_)
            | ExprKind::String(_)
            | ExprKind::Vector(_)
            | ExprKind::Matrix(_) => {
                indent(out, level);
                let _ = write!(out, "{expr}");
            }
            ExprKind::Call(call) => {
                indent(out, level);
                out.push_str(call.func.name);
                out.push_str("(\n");
                for (i, arg) in call.args.iter().enumerate() {
                    if i > 0 {
                        out.push_str(",\n");
                    }
                    self.node(out, arg, level + 1);
                }
                self.close(out, level);
            }
            ExprKind::Aggregate(aggregate) => {
                indent(out, level);
                out.push_str(&text(|f| write_aggregate_head(f, aggregate)));
                out.push_str("(\n");
                if let Some(param) = &aggregate.param {
                    self.node(out, param, level + 1);
                    out.push_str(",\n");
                }
                self.node(out, &aggregate.expr, level + 1);
                self.close(out, level);
            }
            ExprKind::Binary(binary) => {
                self.node(out, &binary.lhs, level + 1);
                out.push('\n');
                indent(out, level);
                out.push_str(&text(|f| write_operator(f, binary)));
                out.push('\n');
                self.node(out, &binary.rhs, level + 1);
            }
            ExprKind::Paren(inner) => {
                indent(out, level);
                out.push_str("(\n");
                self.node(out, inner, level + 1);
                self.close(out, level);
            }
        }
    }

    fn close(&self, out: &mut String, level: usize) {
        out.push('\n');
        indent(out, level);
        out.push(')');
    }
}
