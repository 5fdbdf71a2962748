//! Properties: printing and reading go round, and no text makes the parser or the planner panic.

use std::sync::{Arc, LazyLock};

use chunk::memory::MemorySource;
use model::{METRIC_NAME, MatchOp, Matcher};
use promql::ast::*;
use promql::features::Features;
use promql::functions;
use promql::parse::{parse, parse_metric, parse_selector};
use promql::prettify::{prettify, prettify_to};
use promql::{Engine, EngineOptions};
use proptest::collection::vec;
use proptest::prelude::*;

/// Plans, over nothing.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let options = EngineOptions {
        features: Features::ALL,
        ..EngineOptions::default()
    };
    let source = Arc::new(MemorySource::new(Vec::new()));
    Engine::new(source, options, Arc::new(pool.expect("a thread")))
});

fn expr(kind: ExprKind) -> Expr {
    Expr {
        kind,
        span: Span::default(),
    }
}

/// Operators print without parentheses, so operands that are operators need their own; and so do
/// offsets in parentheses, which in Prometheus' grammar take a following operator as theirs.
fn operand(inner: Expr) -> Expr {
    match inner.kind {
        ExprKind::Vector(VectorSelector {
            at:
                TimeShift {
                    offset: Some(Duration::Expr(_)),
                    ..
                },
            ..
        }) => expr(ExprKind::Paren(Box::new(inner))),
        ExprKind::Binary(_) | ExprKind::Unary(..) => expr(ExprKind::Paren(Box::new(inner))),
        _ => inner,
    }
}

fn label() -> impl Strategy<Value = model::Str> {
    prop_oneof![
        "[a-z_][a-z0-9_]{0,5}".prop_map(Into::into),
        Just("offset".into()),
        "[a-z.\\- \"\\\\é]{1,5}".prop_map(Into::into),
    ]
}

fn duration() -> impl Strategy<Value = Duration> {
    let literal = prop_oneof![
        (1i64..1_000_000_000).prop_map(|ms| NumberLiteral {
            // As the parser reads a literal of whole ms.
            value: (ms / 1000) as f64 + ((ms % 1000) * 1_000_000) as f64 / 1e9,
            duration: true
        }),
        (1u32..1_000_000).prop_map(|s| NumberLiteral {
            value: f64::from(s) / 8.0,
            duration: false
        }),
    ]
    .prop_map(DurationKind::Literal);
    let leaf = prop_oneof![literal, Just(DurationKind::Step), Just(DurationKind::Range)];
    let node = |kind| DurationExpr {
        kind,
        span: Span::default(),
        wrapped: true,
    };
    let tree = leaf.prop_map(node).prop_recursive(3, 8, 2, move |inner| {
        let op = prop_oneof![
            Just(BinaryOp::Add),
            Just(BinaryOp::Mul),
            Just(BinaryOp::Pow)
        ];
        prop_oneof![
            (op, inner.clone(), inner.clone()).prop_map(move |(op, a, b)| node(
                DurationKind::Binary(op, Box::new(a), Box::new(b))
            )),
            (inner.clone(), inner.clone())
                .prop_map(move |(a, b)| node(DurationKind::MinOf(Box::new(a), Box::new(b)))),
            inner.prop_map(move |a| node(DurationKind::Unary(UnaryOp::Minus, Box::new(a)))),
        ]
    });
    prop_oneof![
        // Longer ones lose ms, as seconds in a float (in Prometheus too).
        (1i64..4_000_000_000).prop_map(Duration::Known),
        tree.prop_map(|e| Duration::Expr(Box::new(e))),
    ]
}

/// Prometheus' lexer wants a number somewhere in front of a subquery's colon.
fn with_number(range: Duration) -> Duration {
    let Duration::Expr(tail) = range else {
        return range;
    };
    let one = DurationExpr {
        kind: DurationKind::Literal(NumberLiteral {
            value: 1.0,
            duration: true,
        }),
        span: Span::default(),
        wrapped: true,
    };
    Duration::Expr(Box::new(DurationExpr {
        kind: DurationKind::Binary(BinaryOp::Add, Box::new(one), tail),
        span: Span::default(),
        wrapped: true,
    }))
}

fn shift() -> impl Strategy<Value = TimeShift> {
    let at = prop_oneof![
        (-1_000_000_000_000i64..1_000_000_000_000).prop_map(At::Time),
        Just(At::Start),
        Just(At::End),
    ];
    (prop::option::of(duration()), prop::option::of(at))
        .prop_map(|(offset, at)| TimeShift { offset, at })
}

fn selector() -> impl Strategy<Value = VectorSelector> {
    let op = prop_oneof![
        Just(MatchOp::Equal),
        Just(MatchOp::NotEqual),
        Just(MatchOp::Regex),
        Just(MatchOp::NotRegex)
    ];
    let matcher = (op, label(), "[a-z0-9\" \\n\u{7}é]{0,6}").prop_map(|(op, name, value)| {
        Matcher::new(op, name, value).expect("letters are a pattern")
    });
    let extension = prop_oneof![
        3 => Just(None),
        1 => Just(Some(RangeExtension::Anchored)),
        1 => Just(Some(RangeExtension::Smoothed))
    ];
    (
        "[a-z_:][a-z0-9_:]{0,8}",
        vec(matcher, 0..3),
        shift(),
        extension,
    )
        .prop_map(|(name, mut matchers, at, extension)| {
            // A keyword that no metric may be called without quotes.
            let keywords = ["on", "ignoring", "bool", "inf", "nan", "atan2"];
            let name = if keywords.contains(&name.as_str()) {
                format!("{name}_")
            } else {
                name
            };
            // Printing sorts them.
            matchers.sort_by_key(ToString::to_string);
            matchers.push(Matcher::equal(METRIC_NAME, name.as_str()));
            VectorSelector {
                name: Some(name.into()),
                matchers,
                at,
                extension,
            }
        })
}

fn scalar() -> impl Strategy<Value = Expr> {
    prop_oneof![
        any::<f64>()
            .prop_filter("NaN is not itself", |v| !v.is_nan())
            .prop_map(|value| NumberLiteral {
                value,
                duration: false
            }),
        (1i64..1_000_000_000).prop_map(|s| NumberLiteral {
            value: s as f64,
            duration: true
        }),
    ]
    .prop_map(|n| expr(ExprKind::Number(n)))
}

fn vector() -> impl Strategy<Value = Expr> {
    let leaf = selector().prop_map(|s| expr(ExprKind::Vector(s)));
    leaf.prop_recursive(4, 24, 3, |inner| {
        let call = |name: &str, args| {
            let func = functions::lookup(name).expect("it is in the table");
            expr(ExprKind::Call(Call { func, args }))
        };
        let rate = (selector(), duration()).prop_map(move |(selector, range)| {
            let matrix = MatrixSelector {
                selector,
                selector_span: Span::default(),
                range,
            };
            call("rate", vec![expr(ExprKind::Matrix(matrix))])
        });
        let subquery = (
            inner.clone(),
            duration(),
            prop::option::of(duration()),
            shift(),
        )
            .prop_map(move |(inner, range, step, at)| {
                let subquery = Subquery {
                    expr: operand(inner),
                    range: with_number(range),
                    step,
                    at,
                };
                call(
                    "max_over_time",
                    vec![expr(ExprKind::Subquery(Box::new(subquery)))],
                )
            });
        let round = (inner.clone(), scalar()).prop_map(move |(a, b)| call("round", vec![a, b]));
        let join = (inner.clone(), vec("\\PC{0,8}", 3..5)).prop_map(move |(a, texts)| {
            let texts = texts
                .into_iter()
                .map(|t: String| expr(ExprKind::String(t.into())));
            call("label_join", std::iter::once(a).chain(texts).collect())
        });
        let aggregate = (
            inner.clone(),
            scalar(),
            any::<bool>(),
            any::<bool>(),
            vec(label(), 0..3),
        )
            .prop_map(|(inner, k, without, topk, labels)| {
                expr(ExprKind::Aggregate(Box::new(Aggregate {
                    op: if topk {
                        AggregateOp::Topk
                    } else {
                        AggregateOp::Sum
                    },
                    expr: inner,
                    param: topk.then_some(k),
                    grouping: Grouping { without, labels },
                })))
            });
        let binary = (inner.clone(), inner.clone(), matching(), any::<bool>()).prop_map(
            |(a, b, matching, compare)| {
                expr(ExprKind::Binary(Box::new(Binary {
                    op: if compare {
                        BinaryOp::Less
                    } else {
                        BinaryOp::Mod
                    },
                    lhs: operand(a),
                    rhs: operand(b),
                    matching: Some(matching),
                    bool_modifier: compare,
                })))
            },
        );
        let set = (inner.clone(), inner.clone()).prop_map(|(a, b)| {
            expr(ExprKind::Binary(Box::new(Binary {
                op: BinaryOp::Unless,
                lhs: operand(a),
                rhs: operand(b),
                matching: Some(Matching {
                    card: Cardinality::ManyToMany,
                    ..Matching::default()
                }),
                bool_modifier: false,
            })))
        });
        prop_oneof![
            rate,
            subquery,
            round,
            join,
            aggregate,
            binary,
            set,
            inner
                .clone()
                .prop_map(|e| expr(ExprKind::Unary(UnaryOp::Minus, Box::new(operand(e))))),
            inner.prop_map(|e| expr(ExprKind::Paren(Box::new(e)))),
        ]
    })
}

fn matching() -> impl Strategy<Value = Matching> {
    let fill = prop::option::of((-1000i32..1000).prop_map(f64::from));
    (
        any::<bool>(),
        vec("[a-k]{1,3}", 0..3),
        vec("[l-z]{1,3}", 0..3),
        0..3,
        (fill.clone(), fill),
    )
        .prop_map(|(on, labels, include, card, fill)| Matching {
            on,
            labels: labels.into_iter().map(Into::into).collect(),
            include: match card {
                0 => Vec::new(),
                _ => include.into_iter().map(Into::into).collect(),
            },
            card: match card {
                0 => Cardinality::OneToOne,
                1 => Cardinality::ManyToOne,
                _ => Cardinality::OneToMany,
            },
            fill,
        })
}

/// The tree without places, as text.
fn shape(expr: &Expr) -> String {
    let mut out = String::new();
    let mut rest = format!("{expr:?}");
    while let Some(at) = rest.find("Span {") {
        let end = rest[at..].find('}').map_or(rest.len(), |e| at + e + 1);
        out.push_str(&rest[..at]);
        rest.drain(..end);
    }
    out + &rest
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn printing_and_reading_go_round(tree in vector()) {
        let text = tree.to_string();
        let read = parse(&text, &Features::ALL)
            .map_err(|e| TestCaseError::fail(format!("{text}\n{e}")))?;
        prop_assert_eq!(shape(&read), shape(&tree), "{}", text);
        for pretty in [prettify(&tree), prettify_to(&tree, 10)] {
            let again = parse(&pretty, &Features::ALL)
                .map_err(|e| TestCaseError::fail(format!("{pretty}\n{e}")))?;
            prop_assert_eq!(again.to_string(), text.clone(), "{}", pretty);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,60}") {
        let _ = parse(&text, &Features::ALL);
        let _ = parse_selector(&text);
        let _ = parse_metric(&text);
    }

    #[test]
    fn no_heap_of_tokens_makes_it_panic(tokens in vec(prop::sample::select(TOKENS), 0..20)) {
        let text: String = tokens.concat();
        match parse(&text, &Features::ALL) {
            Ok(expr) => {
                let _ = prettify(&expr);
                // Not the same text always: `inf` prints as `+Inf`, which has a sign of its own.
                prop_assert!(parse(&expr.to_string(), &Features::ALL).is_ok(), "{}", text);
                for step in [None, Some(15_000)] {
                    if let Ok(plan) = ENGINE.explain(&text, 0, 60_000, step) {
                        prop_assert!(!plan.to_string().is_empty());
                    }
                }
            }
            Err(errors) => prop_assert!(!errors.errors.is_empty()),
        }
    }
}

const TOKENS: &[&str] = &[
    "\"\\xff\"",
    "{\"\\ufffd\"=\"\\xc5\"}",
    "{a=\"b\",\"\\xff\"!~\"c\"}",
    "a",
    "b",
    " ",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "=",
    "==",
    "!=",
    "=~",
    "\"x\"",
    "'",
    "`",
    "5m",
    "1",
    "0x1f",
    "1e3",
    " offset ",
    " @ ",
    "start()",
    "step()",
    "range()",
    "max_of(",
    "sum",
    " by ",
    " on ",
    " group_left ",
    " bool ",
    "fill(",
    " and ",
    " or ",
    "+",
    "-",
    "*",
    "/",
    "^",
    " anchored",
    " smoothed",
    "rate(",
    "topk(",
    "#c\n",
    "\n",
    "é",
    "\\",
    "_",
    "inf",
    "nan",
    "@ end()",
];
