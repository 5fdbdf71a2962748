//! A syntax tree as JSON, in the shape of Prometheus' `parse_query`
//! (`web/api/v1/translate_ast.go`).

use model::{Matcher, Str};
use promql::ast::{
    Aggregate, At, Binary, Call, Cardinality, Duration, DurationExpr, DurationKind, Expr, ExprKind,
    MatrixSelector, NumberLiteral, RangeExtension, Subquery, TimeShift, UnaryOp, VectorSelector,
};
use serde_json::{Map, Value, json};

/// The node of an expression. As deep as the expression, which the parser bounds.
pub(super) fn node(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number(n) => json!({"type": "numberLiteral", "val": number(n.value)}),
        ExprKind::String(s) => json!({"type": "stringLiteral", "val": s.as_str()}),
        ExprKind::Vector(v) => selector("vectorSelector", v, Map::new()),
        ExprKind::Matrix(m) => matrix(m),
        ExprKind::Subquery(s) => subquery(s),
        ExprKind::Call(c) => call(c),
        ExprKind::Aggregate(a) => aggregation(a),
        ExprKind::Binary(b) => binary(b),
        ExprKind::Unary(op, inner) => {
            json!({"type": "unaryExpr", "op": sign(*op), "expr": node(inner)})
        }
        ExprKind::Paren(inner) => json!({"type": "parenExpr", "expr": node(inner)}),
    }
}

fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    // Without exponent, however long: as Go's 'f' format.
    value.to_string()
}

fn sign(op: UnaryOp) -> &'static str {
    match op {
        UnaryOp::Plus => "+",
        UnaryOp::Minus => "-",
    }
}

/// Milliseconds and, if it is an expression, its node.
fn duration(duration: Option<&Duration>) -> (i64, Value) {
    match duration {
        None => (0, Value::Null),
        Some(Duration::Known(ms)) => (*ms, Value::Null),
        Some(Duration::Expr(expr)) => (0, duration_node(expr)),
    }
}

fn duration_node(expr: &DurationExpr) -> Value {
    let (op, lhs, rhs) = match &expr.kind {
        DurationKind::Literal(NumberLiteral { value, duration }) => {
            return json!({"type": "numberLiteral", "val": number(*value), "duration": duration});
        }
        DurationKind::Step => ("step", None, None),
        DurationKind::Range => ("range", None, None),
        DurationKind::MinOf(a, b) => ("min_of", Some(a), Some(b)),
        DurationKind::MaxOf(a, b) => ("max_of", Some(a), Some(b)),
        DurationKind::Unary(op, a) => (sign(*op), None, Some(a)),
        DurationKind::Binary(op, a, b) => (op.as_str(), Some(a), Some(b)),
    };
    let side = |side: Option<&Box<DurationExpr>>| side.map_or(Value::Null, |e| duration_node(e));
    json!({
        "type": "durationExpr",
        "op": op,
        "lhs": side(lhs),
        "rhs": side(rhs),
        "wrapped": expr.wrapped,
    })
}

/// `offset`, `offsetExpr`, `timestamp` and `startOrEnd`.
fn shift(at: &TimeShift, out: &mut Map<String, Value>) {
    let (offset, offset_expr) = duration(at.offset.as_ref());
    let (timestamp, start_or_end) = match at.at {
        None => (Value::Null, Value::Null),
        Some(At::Time(ms)) => (json!(ms), Value::Null),
        Some(At::Start) => (Value::Null, json!("start")),
        Some(At::End) => (Value::Null, json!("end")),
    };
    out.insert("offset".to_owned(), json!(offset));
    out.insert("offsetExpr".to_owned(), offset_expr);
    out.insert("timestamp".to_owned(), timestamp);
    out.insert("startOrEnd".to_owned(), start_or_end);
}

fn selector(kind: &str, v: &VectorSelector, mut out: Map<String, Value>) -> Value {
    out.insert("type".to_owned(), json!(kind));
    out.insert("name".to_owned(), json!(v.name.as_deref().unwrap_or("")));
    let matchers: Vec<Value> = v.matchers.iter().map(matcher).collect();
    out.insert("matchers".to_owned(), Value::Array(matchers));
    shift(&v.at, &mut out);
    let is = |extension| json!(v.extension == Some(extension));
    out.insert("anchored".to_owned(), is(RangeExtension::Anchored));
    out.insert("smoothed".to_owned(), is(RangeExtension::Smoothed));
    Value::Object(out)
}

fn matcher(m: &Matcher) -> Value {
    json!({"name": &*m.name, "value": &*m.value, "type": m.op.as_str()})
}

fn matrix(m: &MatrixSelector) -> Value {
    let (range, range_expr) = duration(Some(&m.range));
    let mut out = Map::new();
    out.insert("range".to_owned(), json!(range));
    out.insert("rangeExpr".to_owned(), range_expr);
    selector("matrixSelector", &m.selector, out)
}

fn subquery(s: &Subquery) -> Value {
    let (range, range_expr) = duration(Some(&s.range));
    let (step, step_expr) = duration(s.step.as_ref());
    let mut out = Map::new();
    for (name, value) in [
        ("type", json!("subquery")),
        ("expr", node(&s.expr)),
        ("range", json!(range)),
        ("rangeExpr", range_expr),
        ("step", json!(step)),
        ("stepExpr", step_expr),
    ] {
        out.insert(name.to_owned(), value);
    }
    shift(&s.at, &mut out);
    Value::Object(out)
}

fn call(c: &Call) -> Value {
    let types: Vec<&str> = c.func.args.iter().map(|t| t.as_str()).collect();
    let args: Vec<Value> = c.args.iter().map(node).collect();
    json!({
        "type": "call",
        "func": {
            "name": c.func.name,
            "argTypes": types,
            "variadic": c.func.variadic,
            "returnType": c.func.returns.as_str(),
        },
        "args": args,
    })
}

fn texts(all: &[Str]) -> Vec<&str> {
    all.iter().map(|s| &**s).collect()
}

fn aggregation(a: &Aggregate) -> Value {
    json!({
        "type": "aggregation",
        "op": a.op.as_str(),
        "expr": node(&a.expr),
        "param": a.param.as_ref().map_or(Value::Null, node),
        "grouping": texts(&a.grouping.labels),
        "without": a.grouping.without,
    })
}

fn binary(b: &Binary) -> Value {
    let matching = b.matching.as_ref().map_or(Value::Null, |m| {
        let card = match m.card {
            Cardinality::OneToOne => "one-to-one",
            Cardinality::ManyToOne => "many-to-one",
            Cardinality::OneToMany => "one-to-many",
            Cardinality::ManyToMany => "many-to-many",
        };
        json!({
            "card": card,
            "labels": texts(&m.labels),
            "on": m.on,
            "include": texts(&m.include),
            "fillValues": {"lhs": m.fill.0, "rhs": m.fill.1},
        })
    });
    json!({
        "type": "binaryExpr",
        "op": b.op.as_str(),
        "lhs": node(&b.lhs),
        "rhs": node(&b.rhs),
        "matching": matching,
        "bool": b.bool_modifier,
    })
}
