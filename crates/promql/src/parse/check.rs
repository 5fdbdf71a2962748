//! Types: what may stand where, and what a binary operation means by its sides.

use super::ParseError;
use crate::ast::{
    Aggregate, AggregateOp, Binary, Call, Cardinality, Expr, ExprKind, Span, ValueType,
    VectorSelector,
};
use model::METRIC_NAME;
use model::text::quote;

/// Checks `expr` and completes it: set operators become many-to-many, and only operations on two
/// vectors keep their matching.
pub(super) fn check(expr: &mut Expr, text: &str, errors: &mut Vec<ParseError>) -> ValueType {
    Checker { text, errors }.check(expr)
}

struct Checker<'a> {
    text: &'a str,
    errors: &'a mut Vec<ParseError>,
}

impl Checker<'_> {
    fn report(&mut self, span: Span, message: impl Into<String>) {
        self.errors.push(ParseError {
            span,
            message: message.into(),
        });
    }

    fn check(&mut self, expr: &mut Expr) -> ValueType {
        let span = expr.span;
        match &mut expr.kind {
            ExprKind::Number(_) => ValueType::Scalar,
            ExprKind::String(_) => ValueType::String,
            ExprKind::Vector(selector) => {
                self.selector(selector, span, false);
                ValueType::Vector
            }
            ExprKind::Matrix(matrix) => {
                self.selector(&matrix.selector, matrix.selector_span, false);
                ValueType::Matrix
            }
            ExprKind::Subquery(subquery) => {
                let inner = self.check(&mut subquery.expr);
                if inner != ValueType::Vector {
                    let inner = inner.as_str();
                    self.report(
                        span,
                        format!("subquery is only allowed on instant vector, got {inner} instead"),
                    );
                }
                ValueType::Matrix
            }
            ExprKind::Call(call) => {
                self.call(call, span);
                call.func.returns
            }
            ExprKind::Aggregate(aggregate) => {
                self.aggregate(aggregate);
                ValueType::Vector
            }
            ExprKind::Binary(binary) => self.binary(binary, span),
            ExprKind::Unary(_, inner) => {
                let inner = self.check(inner);
                if !matches!(inner, ValueType::Scalar | ValueType::Vector) {
                    let shown = quote(inner.documented());
                    self.report(
                        span,
                        format!(
                            "unary expression only allowed on expressions of type scalar or \
                             instant vector, got {shown}"
                        ),
                    );
                }
                inner
            }
            ExprKind::Paren(inner) => self.check(inner),
        }
    }

    fn expect(&mut self, expr: &mut Expr, wanted: ValueType, context: &str) {
        let got = self.check(expr);
        if got != wanted {
            let (wanted, got) = (wanted.documented(), got.documented());
            self.report(
                expr.span,
                format!("expected type {wanted} in {context}, got {got}"),
            );
        }
    }

    fn aggregate(&mut self, aggregate: &mut Aggregate) {
        self.expect(
            &mut aggregate.expr,
            ValueType::Vector,
            "aggregation expression",
        );
        if let Some(param) = &mut aggregate.param {
            let wanted = match aggregate.op {
                AggregateOp::CountValues => ValueType::String,
                _ => ValueType::Scalar,
            };
            self.expect(param, wanted, "aggregation parameter");
        }
    }

    fn call(&mut self, call: &mut Call, span: Span) {
        let func = call.func;
        let name = quote(func.name);
        let (known, got) = (func.args.len(), call.args.len());
        if func.variadic == 0 {
            if known != got {
                self.report(
                    span,
                    format!("expected {known} argument(s) in call to {name}, got {got}"),
                );
            }
        } else {
            let least = known.saturating_sub(1);
            let most = usize::try_from(func.variadic).map(|more| least + more);
            if least > got {
                self.report(
                    span,
                    format!("expected at least {least} argument(s) in call to {name}, got {got}"),
                );
            } else if let Ok(most) = most
                && most < got
            {
                self.report(
                    span,
                    format!("expected at most {most} argument(s) in call to {name}, got {got}"),
                );
            }
        }
        if func.name == "info"
            && let Some(labels) = call.args.get(1)
        {
            let got = labels.value_type();
            if got != ValueType::Vector {
                let got = got.documented();
                self.report(
                    span,
                    format!("expected type instant vector in call to function \"info\", got {got}"),
                );
            }
            match &labels.kind {
                ExprKind::Vector(selector) if selector.name.is_some() => self.report(
                    labels.span,
                    "expected label selectors only, got vector selector instead",
                ),
                ExprKind::Vector(_) => {}
                _ => self.report(labels.span, "expected label selectors only"),
            }
        }
        for (i, arg) in call.args.iter_mut().enumerate() {
            let Some(wanted) = func.arg_type(i) else {
                break;
            };
            let got = match &arg.kind {
                // The second argument of `info` may select everything.
                ExprKind::Vector(selector) if func.name == "info" && i == 1 => {
                    self.selector(selector, arg.span, true);
                    ValueType::Vector
                }
                _ => self.check(arg),
            };
            if got != wanted {
                let (wanted, got) = (wanted.documented(), got.documented());
                self.report(
                    arg.span,
                    format!("expected type {wanted} in call to function {name}, got {got}"),
                );
            }
        }
    }

    fn binary(&mut self, binary: &mut Binary, span: Span) -> ValueType {
        use ValueType::{Scalar, Vector};
        let left = self.check(&mut binary.lhs);
        let right = self.check(&mut binary.rhs);
        let (op, word) = (binary.op, quote(binary.op.as_str()));
        let op_span = self.operator_span(binary);
        if binary.bool_modifier && !op.is_comparison() {
            self.report(
                op_span,
                "bool modifier can only be used on comparison operators",
            );
        }
        if op.is_comparison() && !binary.bool_modifier && left == Scalar && right == Scalar {
            self.report(
                op_span,
                "comparisons between scalars must use BOOL modifier",
            );
        }
        let mut matching = binary.matching.take().unwrap_or_default();
        if op.is_set() && matching.card == Cardinality::OneToOne {
            matching.card = Cardinality::ManyToMany;
        }
        if matching.on {
            for label in &matching.labels {
                for _ in matching.include.iter().filter(|i| *i == label) {
                    let label = quote(label);
                    self.report(
                        op_span,
                        format!("label {label} must not occur in ON and GROUP clause at once"),
                    );
                }
            }
        }
        for (side, at) in [(left, binary.lhs.span), (right, binary.rhs.span)] {
            if !matches!(side, Scalar | Vector) {
                self.report(
                    at,
                    "binary expression must contain only scalar and instant vector types",
                );
            }
        }
        let filled = matching.fill != (None, None);
        if left != Vector || right != Vector {
            if !matching.labels.is_empty() {
                self.report(span, "vector matching only allowed between instant vectors");
            }
            if filled {
                self.report(
                    span,
                    "filling in missing series only allowed between instant vectors",
                );
            }
        } else {
            if op.is_set() {
                if matching.card != Cardinality::ManyToMany {
                    self.report(span, format!("no grouping allowed for {word} operation"));
                    self.report(span, "set operations must always be many-to-many");
                }
                if filled {
                    self.report(
                        span,
                        "filling in missing series not allowed for set operators",
                    );
                }
            }
            binary.matching = Some(matching);
        }
        if (left == Scalar || right == Scalar) && op.is_set() {
            self.report(
                span,
                format!("set operator {word} not allowed in binary scalar expression"),
            );
        }
        if left == Scalar && right == Scalar {
            Scalar
        } else {
            Vector
        }
    }

    /// What lies between the two sides, without blanks around it.
    fn operator_span(&self, binary: &Binary) -> Span {
        let (from, to) = (binary.lhs.span.end, binary.rhs.span.start);
        let between = self.text.get(from as usize..to as usize).unwrap_or("");
        let blanks = between.len() - between.trim_start_matches([' ', '\t', '\n', '\r']).len();
        let start = from + blanks as u32;
        let end = from + between.trim_end_matches([' ', '\t', '\n', '\r']).len() as u32;
        Span { start, end }
    }

    fn selector(&mut self, selector: &VectorSelector, span: Span, may_select_all: bool) {
        if let Some(name) = &selector.name {
            // The last matcher is the one for the name.
            let others = selector.matchers.split_last().map_or(&[][..], |(_, o)| o);
            for other in others.iter().filter(|m| &*m.name == METRIC_NAME) {
                let (name, value) = (quote(name), quote(&other.value));
                self.report(
                    span,
                    format!("metric name must not be set twice: {name} or {value}"),
                );
            }
        } else if !may_select_all && selector.matchers.iter().all(|m| m.matches_empty()) {
            self.report(
                span,
                "vector selector must contain at least one non-empty matcher",
            );
        }
    }
}
