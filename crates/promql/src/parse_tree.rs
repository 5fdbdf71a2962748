//! Tree to JSON, as `/api/v1/parse_query` answers it (`web/api/v1/translate_ast.go` of
//! Prometheus), for user interfaces that explain queries.

use model::Matcher;
use serde_json::{Value, json};

use crate::ast::{
    At, Cardinality, Duration, DurationExpr, DurationKind, Expr, ExprKind, Matching, NumberLiteral,
    RangeExtension, TimeShift, VectorSelector,
};
use model::text::format_f;

/// The tree of `expr`.
pub fn to_json(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number(number) => json!({
            "type": "numberLiteral",
            "val": format_f(number.value),
        }),
        ExprKind::String(text) => json!({
            "type": "stringLiteral",
            "val": text.as_str(),
        }),
        ExprKind::Vector(selector) => {
            let mut out = json!({"type": "vectorSelector"});
            add_selector(&mut out, selector);
            out
        }
        ExprKind::Matrix(matrix) => {
            let mut out = json!({"type": "matrixSelector"});
            add_selector(&mut out, &matrix.selector);
            add_duration(&mut out, "range", Some(&matrix.range));
            out
        }
        ExprKind::Subquery(subquery) => {
            let mut out = json!({
                "type": "subquery",
                "expr": to_json(&subquery.expr),
            });
            add_duration(&mut out, "range", Some(&subquery.range));
            add_duration(&mut out, "step", subquery.step.as_ref());
            add_shift(&mut out, &subquery.at);
            out
        }
        ExprKind::Call(call) => {
            let types: Vec<&str> = call.func.args.iter().map(|t| t.as_str()).collect();
            json!({
                "type": "call",
                "func": {
                    "name": call.func.name,
                    "argTypes": types,
                    "variadic": call.func.variadic,
                    "returnType": call.func.returns.as_str(),
                },
                "args": call.args.iter().map(to_json).collect::<Vec<_>>(),
            })
        }
        ExprKind::Aggregate(aggregate) => json!({
            "type": "aggregation",
            "op": aggregate.op.as_str(),
            "expr": to_json(&aggregate.expr),
            "param": aggregate.param.as_ref().map(to_json),
            "grouping": strings(&aggregate.grouping.labels),
            "without": aggregate.grouping.without,
        }),
        ExprKind::Binary(binary) => json!({
            "type": "binaryExpr",
            "op": binary.op.as_str(),
            "lhs": to_json(&binary.lhs),
            "rhs": to_json(&binary.rhs),
            "matching": binary.matching.as_ref().map(matching),
            "bool": binary.bool_modifier,
        }),
        ExprKind::Unary(op, inner) => json!({
            "type": "unaryExpr",
            "op": op.as_str(),
            "expr": to_json(inner),
        }),
        ExprKind::Paren(inner) => json!({
            "type": "parenExpr",
            "expr": to_json(inner),
        }),
    }
}

fn strings(labels: &[model::Str]) -> Vec<&str> {
    labels.iter().map(|label| &**label).collect()
}

fn matching(matching: &Matching) -> Value {
    let card = match matching.card {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({
        "card": card,
        "labels": strings(&matching.labels),
        "on": matching.on,
        "include": strings(&matching.include),
        "fillValues": {"lhs": matching.fill.0, "rhs": matching.fill.1},
    })
}

fn set(out: &mut Value, key: &str, value: Value) {
    if let Value::Object(map) = out {
        map.insert(key.to_owned(), value);
    }
}

fn add_selector(out: &mut Value, selector: &VectorSelector) {
    let name = selector.name.as_deref().unwrap_or("");
    set(out, "name", name.into());
    let matchers: Vec<Value> = selector.matchers.iter().map(matcher).collect();
    set(out, "matchers", matchers.into());
    for (key, extension) in [
        ("anchored", RangeExtension::Anchored),
        ("smoothed", RangeExtension::Smoothed),
    ] {
        set(out, key, (selector.extension == Some(extension)).into());
    }
    add_shift(out, &selector.at);
}

fn matcher(matcher: &Matcher) -> Value {
    json!({
        "name": &*matcher.name,
        "value": &*matcher.value,
        "type": matcher.op.as_str(),
    })
}

/// `offset` and `@`: ms or an expression, and a time or `start`/`end`.
fn add_shift(out: &mut Value, shift: &TimeShift) {
    add_duration(out, "offset", shift.offset.as_ref());
    let (time, word) = match shift.at {
        None => (None, None),
        Some(At::Time(ms)) => (Some(ms), None),
        Some(At::Start) => (None, Some("start")),
        Some(At::End) => (None, Some("end")),
    };
    set(out, "timestamp", time.into());
    set(out, "startOrEnd", word.into());
}

/// A duration under two keys: ms (0 if unknown), and the expression if it is one.
fn add_duration(out: &mut Value, key: &str, duration: Option<&Duration>) {
    let (ms, expr) = match duration {
        None => (0, Value::Null),
        Some(Duration::Known(ms)) => (*ms, Value::Null),
        Some(Duration::Expr(expr)) => (0, duration_expr(expr)),
    };
    set(out, key, ms.into());
    set(out, &format!("{key}Expr"), expr);
}

fn duration_expr(expr: &DurationExpr) -> Value {
    let node = |op: &str, lhs: Value, rhs: Value| {
        json!({
            "type": "durationExpr",
            "op": op,
            "lhs": lhs,
            "rhs": rhs,
            "wrapped": expr.wrapped,
        })
    };
    match &expr.kind {
        // A number in parentheses is an operation without effect, which has a place for them.
        DurationKind::Literal(literal) if expr.wrapped => node("+", Value::Null, number(literal)),
        DurationKind::Literal(literal) => number(literal),
        DurationKind::Step => node("step", Value::Null, Value::Null),
        DurationKind::Range => node("range", Value::Null, Value::Null),
        DurationKind::MinOf(a, b) => node("min_of", duration_expr(a), duration_expr(b)),
        DurationKind::MaxOf(a, b) => node("max_of", duration_expr(a), duration_expr(b)),
        DurationKind::Unary(op, inner) => node(op.as_str(), Value::Null, duration_expr(inner)),
        DurationKind::Binary(op, a, b) => node(op.as_str(), duration_expr(a), duration_expr(b)),
    }
}

fn number(literal: &NumberLiteral) -> Value {
    json!({
        "type": "numberLiteral",
        "val": format_f(literal.value),
        "duration": literal.duration,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Features;
    use crate::parse::parse;

    #[test]
    fn every_kind_of_node_has_its_shape() {
        let tree = |text: &str| to_json(&parse(text, &Features::ALL).unwrap());
        assert_eq!(
            tree("-rate(a{b=\"c\"}[5m] offset 1m @ 2)"),
            json!({
                "type": "unaryExpr",
                "op": "-",
                "expr": {
                    "type": "call",
                    "func": {"name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector"},
                    "args": [{
                        "type": "matrixSelector",
                        "name": "a",
                        "range": 300_000,
                        "rangeExpr": null,
                        "offset": 60_000,
                        "offsetExpr": null,
                        "matchers": [
                            {"name": "b", "value": "c", "type": "="},
                            {"name": "__name__", "value": "a", "type": "="},
                        ],
                        "timestamp": 2000,
                        "startOrEnd": null,
                        "anchored": false,
                        "smoothed": false,
                    }],
                },
            })
        );
        assert_eq!(
            tree("topk by (x) (2, a) > bool on (y) group_left fill_left(1) (b)")["matching"],
            json!({
                "card": "many-to-one",
                "labels": ["y"],
                "on": true,
                "include": [],
                "fillValues": {"lhs": 1.0, "rhs": null},
            })
        );
        let subquery = tree("a[(5m):step() - 1] @ end()");
        assert_eq!(subquery["range"], 0);
        assert_eq!(
            subquery["rangeExpr"],
            json!({
                "type": "durationExpr", "op": "+", "lhs": null, "wrapped": true,
                "rhs": {"type": "numberLiteral", "val": "300", "duration": true},
            })
        );
        assert_eq!(subquery["stepExpr"]["lhs"]["op"], "step");
        assert_eq!(subquery["startOrEnd"], "end");
        assert_eq!(tree("inf"), json!({"type": "numberLiteral", "val": "+Inf"}));
    }
}
