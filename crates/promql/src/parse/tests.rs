//! Small cases of our own; the conformance corpora are in `tests/it`.

use super::*;
use crate::ast::{At, BinaryOp, Duration, ExprKind};

fn ok(text: &str) -> Expr {
    parse(text, &Features::ALL).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn errors(text: &str) -> Vec<String> {
    let errors = parse(text, &Features::ALL).expect_err(text);
    errors.errors.into_iter().map(|e| e.message).collect()
}

#[test]
fn precedence_is_prometheus() {
    // Parentheses show what belongs together.
    fn shown(expr: &Expr) -> String {
        match &expr.kind {
            ExprKind::Binary(b) => format!("({} {} {})", shown(&b.lhs), b.op, shown(&b.rhs)),
            ExprKind::Unary(op, inner) => format!("({}{})", op.as_str(), shown(inner)),
            ExprKind::Paren(inner) => shown(inner),
            _ => expr.to_string(),
        }
    }
    for (text, tree) in [
        ("-1 ^ 2", "(-(1 ^ 2))"),
        ("2 ^ 3 ^ 2", "(2 ^ (3 ^ 2))"),
        ("2 ^ -a * 3", "((2 ^ (-a)) * 3)"),
        ("a - b - c", "((a - b) - c)"),
        ("a or b and c unless d", "(a or ((b and c) unless d))"),
        ("a + b * c == bool d", "((a + (b * c)) == d)"),
        ("-a offset 5m", "(-a offset 5m)"),
        ("a ^ b @ 5", "(a ^ b @ 5.000)"),
        ("a atan2 b * c", "((a atan2 b) * c)"),
        ("a offset 5m - 8", "(a offset 5m - 8)"),
    ] {
        assert_eq!(shown(&ok(text)), tree, "{text}");
    }
}

#[test]
fn every_node_knows_its_place() {
    let text = "  sum by (a) (rate(x{b=\"c\"}[5m] offset 1m)) + -1 ";
    let expr = ok(text);
    let at = |e: &Expr| text[e.span.start as usize..e.span.end as usize].to_owned();
    assert_eq!(at(&expr), text.trim());
    let ExprKind::Binary(binary) = &expr.kind else {
        panic!("{expr:?}")
    };
    assert_eq!(at(&binary.rhs), "-1");
    let ExprKind::Aggregate(sum) = &binary.lhs.kind else {
        panic!("{expr:?}")
    };
    assert_eq!(at(&sum.expr), "rate(x{b=\"c\"}[5m] offset 1m)");
    let ExprKind::Call(rate) = &sum.expr.kind else {
        panic!("{expr:?}")
    };
    assert_eq!(at(&rate.args[0]), "x{b=\"c\"}[5m] offset 1m");
}

#[test]
fn durations_and_times() {
    let ExprKind::Matrix(matrix) = ok("x[1h30m] @ 1.5 offset -5").kind else {
        panic!()
    };
    assert_eq!(matrix.range, Duration::Known(5_400_000));
    assert_eq!(matrix.selector.at.at, Some(At::Time(1500)));
    assert_eq!(matrix.selector.at.offset, Some(Duration::Known(-5000)));
    let ExprKind::Vector(selector) = ok("x offset 0s").kind else {
        panic!()
    };
    assert_eq!(selector.at.offset, None);
}

#[test]
fn set_operators_are_many_to_many_and_scalars_match_nothing() {
    let ExprKind::Binary(and) = ok("a and b").kind else {
        panic!()
    };
    assert_eq!(and.op, BinaryOp::And);
    assert_eq!(
        and.matching.unwrap().card,
        crate::ast::Cardinality::ManyToMany
    );
    let ExprKind::Binary(plus) = ok("a + 1").kind else {
        panic!()
    };
    assert_eq!(plus.matching, None);
}

#[test]
fn features_are_asked() {
    let plain = Features::default();
    for (text, message) in [
        (
            "limitk(1, a)",
            "limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
        ),
        ("info(a)", "function \"info\" is not enabled"),
        (
            "rate(a[5m] anchored)",
            "anchored modifier is experimental and not enabled",
        ),
        (
            "a + fill(1) b",
            "binop fill modifiers are experimental and not enabled",
        ),
    ] {
        let errors = parse(text, &plain).expect_err(text);
        assert_eq!(errors.errors[0].message, message, "{text}");
        ok(text);
    }
    ok("fill + fill");
    assert!(parse("a[5m * 2] offset step()", &plain).is_ok());
}

#[test]
fn errors_say_line_and_column() {
    let error = parse("sum(\n  rate(a b)\n)", &Features::ALL).unwrap_err();
    assert_eq!(
        error.to_string(),
        "2:10: parse error: unexpected identifier \"b\" in aggregation"
    );
    assert_eq!(
        parse("", &Features::ALL).unwrap_err().to_string(),
        "unknown position: parse error: no expression found in input"
    );
    assert_eq!(
        errors("1 == on(a) \"b\""),
        [
            "binary expression must contain only scalar and instant vector types",
            "vector matching only allowed between instant vectors"
        ]
    );
}

#[test]
fn depth_is_bounded() {
    let big = 1 << 20;
    for text in [
        "(".repeat(big),
        "-".repeat(big),
        "-".repeat(big) + "1",
        "sum(".repeat(big),
        "a[5m:][".repeat(big),
        "a[".to_owned() + &"(".repeat(big),
        "a[".to_owned() + &"-".repeat(big) + "1]",
        "a[1".to_owned() + &"+1".repeat(big) + "]",
        "1".to_owned() + &"+1".repeat(big),
        "1".to_owned() + &"^1".repeat(big),
        "a".to_owned() + &"[5m:]".repeat(big),
        "a offset ".to_owned() + &"-".repeat(big) + "1",
        "min_of(".repeat(big),
    ] {
        let start = &text[..20];
        assert!(parse(&text, &Features::ALL).is_err(), "{start}");
    }
    let deep = "(".repeat(250) + "1" + &")".repeat(250);
    assert_eq!(ok(&deep).to_string(), deep);
    let chain = "a".to_owned() + &" + a".repeat(500);
    assert_eq!(ok(&chain).to_string(), chain);
}

#[test]
fn selectors_and_metrics() {
    let matchers = parse_selector("up{job=~\"a|b\", \"x.y\"!=\"z\"}").unwrap();
    let shown: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["job=~\"a|b\"", "\"x.y\"!=\"z\"", "__name__=\"up\""]);
    assert!(parse_selector("up + up").is_err());
    assert_eq!(
        parse_selector("").unwrap_err().to_string(),
        "unknown position: parse error: unexpected end of input"
    );
    assert_eq!(
        parse_metric("up{a=\"b\",}").unwrap().to_string(),
        "up{a=\"b\"}"
    );
    assert_eq!(
        parse_metric("{\"x.y\"}").unwrap().get("__name__"),
        Some("x.y")
    );
}
