//! The runner against a backend that looks samples up and knows nothing else.

use model::BoxFuture;

use super::*;
use crate::ast::ExprKind;
use crate::features::Features;
use crate::parse::parse;
use crate::value::{
    InstantQuery, InstantSample, QueryError, QueryResult, RangeQuery, RangeSeries, Value,
};

/// Answers numbers, strings and bare selectors at the exact time of samples.
struct Lookup;

struct Exact(Vec<Series>);

impl Exact {
    fn at(&self, query: &str, ts: Millis) -> Result<Value, QueryError> {
        let expr = parse(query, &Features::ALL).map_err(|e| QueryError::BadData(e.to_string()))?;
        match expr.kind {
            ExprKind::Number(number) => Ok(Value::Scalar(ts, number.value)),
            ExprKind::String(text) => Ok(Value::String(ts, text.as_str().to_owned())),
            ExprKind::Vector(selector) => {
                let ts = match selector.at.at {
                    Some(crate::ast::At::Time(at)) => at,
                    _ => ts,
                };
                let mut out = Vec::new();
                for series in &self.0 {
                    let matches =
                        |m: &model::Matcher| m.matches(series.labels.get(&m.name).unwrap_or(""));
                    let sample = series.samples.iter().find(|s| s.ts == ts);
                    if let (true, Some(sample)) = (selector.matchers.iter().all(matches), sample) {
                        let LoadedValue::Float(value) = sample.value else {
                            let text = "not implemented: histograms".to_owned();
                            return Err(QueryError::Execution(text));
                        };
                        out.push(InstantSample {
                            labels: series.labels.clone(),
                            ts,
                            value,
                            histogram: None,
                        });
                    }
                }
                Ok(Value::Vector(out))
            }
            _ => Err(QueryError::Execution("only selectors".to_owned())),
        }
    }
}

fn answer(value: Result<Value, QueryError>) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
    let result = value.map(|value| QueryResult {
        value,
        warnings: vec!["PromQL warning: looked up (1:1)".into()],
        infos: Vec::new(),
        scope: None,
        profile: None,
    });
    Box::pin(std::future::ready(result))
}

impl Evaluator for Exact {
    fn instant(&self, query: InstantQuery) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        answer(self.at(&query.expr, query.ts))
    }

    fn range(&self, query: RangeQuery) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        let mut out: std::collections::BTreeMap<Labels, RangeSeries> = Default::default();
        let mut ts = query.start;
        while ts <= query.end {
            let samples = match self.at(&query.expr, ts) {
                Ok(Value::Vector(samples)) => samples,
                Ok(Value::Scalar(ts, value)) => vec![InstantSample {
                    labels: Labels::default(),
                    ts,
                    value,
                    histogram: None,
                }],
                Ok(_) => return answer(Err(QueryError::BadData("no range".to_owned()))),
                Err(error) => return answer(Err(error)),
            };
            for sample in samples {
                let series = out.entry(sample.labels.clone()).or_insert(RangeSeries {
                    labels: sample.labels,
                    ..RangeSeries::default()
                });
                series.ts.push(ts);
                series.values.push(sample.value);
            }
            ts += query.step;
        }
        answer(Ok(Value::Matrix(out.into_values().collect())))
    }
}

impl Backend for Lookup {
    fn evaluator(&self, series: &[Series]) -> Result<Arc<dyn Evaluator>, String> {
        Ok(Arc::new(Exact(series.to_vec())))
    }
}

fn outcomes(script: &str) -> Vec<String> {
    let report = run(script, "test", &Lookup);
    assert_eq!(report.error, None);
    report
        .cases
        .into_iter()
        .map(|case| match case.outcome {
            Outcome::Pass => "pass".to_owned(),
            Outcome::Fail(why) => why,
            Outcome::NotImplemented(what) => what,
        })
        .collect()
}

const LOAD: &str =
    "load 1m\n  up{job=\"a\"} 1+1x5\n  up{job=\"b\"} _ 7 stale\n  # ends the block\n\n";

#[test]
fn what_is_expected_passes() {
    let script = LOAD.to_owned()
        + r#"
eval instant at 1m up
  up{job="a"} 2
  up{job="b"} 7

eval instant at 2m up{job="b"}
  expect warn msg: PromQL warning: looked up (1:1)
  expect no_info
  up{job="b"} stale

eval range from 0 to 3m step 1m up{job!="b"}
  up{job="a"} 1 2 3 4

eval instant at 9m up

eval instant at 1m 0x1f
  31

eval instant at 1m "a\nb"
  expect string "a\nb"

eval instant at 1m up
  expect ordered
  up{job="a"} 2
  up{job="b"} 7

eval instant at 1m sum(up)
  expect fail msg: only selectors

eval_fail instant at 1m sum(up)
  expected_fail_regexp sel.*s$

clear

eval instant at 1m up
"#;
    assert_eq!(outcomes(&script), vec!["pass"; 10]);
}

#[test]
fn what_differs_fails_and_says_how() {
    for (eval, why) in [
        (
            "up{job=\"a\"}\n  up{job=\"a\"} 3",
            "expected 3 for up{job=\"a\"} but got 2",
        ),
        ("up{job=\"a\"}", "unexpected series up{job=\"a\"} with 2"),
        ("none\n  up 3", "expected series up not found"),
        ("1\n  expect fail", "expected an error but got none"),
        ("sum(up)", "error: only selectors"),
        ("1\n  2", "expected scalar 2 but got 1"),
        (
            "1\n  up 2",
            "expected vector or matrix result, but got scalar 1",
        ),
        (
            "1\n  expect no_warn\n  1",
            "unexpected warning annotations: [\"PromQL warning: looked up (1:1)\"]",
        ),
        (
            "1\n  expect info\n  1",
            "expected info annotations but got none",
        ),
        (
            "1\n  expect warn regex: ^x\n  1",
            "expected warning annotation /^x/, but got [\"PromQL warning: looked up (1:1)\"]",
        ),
        (
            "up\n  expect ordered\n  up{job=\"b\"} 7\n  up{job=\"a\"} 2",
            "expected up{job=\"a\"} at position 2 but it was at 1",
        ),
    ] {
        let script = format!("{LOAD}eval instant at 1m {eval}\n");
        assert_eq!(outcomes(&script), [why], "{eval}");
    }
    let script =
        format!("{LOAD}eval range from 0 to 1m step 1m up{{job=\"a\"}}\n  up{{job=\"a\"}} 1 3\n");
    assert_eq!(
        outcomes(&script),
        ["expected 3 at 60000 for up{job=\"a\"} but got [1 @0 2 @60000]"]
    );
}

#[test]
fn histograms_are_loaded_and_may_be_not_implemented() {
    let script = "load_with_nhcb 1m\n  h_bucket{le=\"1\"} 3\n  h_bucket{le=\"+Inf\"} 5\n  h_count 5\n  h_sum 9\n\neval instant at 0 h\n  h {{schema:-53}}\n";
    let report = run(script, "nhcb.test", &Lookup);
    assert_eq!(report.counts().not_implemented, 1);
    assert!(report.passed());
    assert_eq!(
        text_report(&[report], 3),
        "nhcb.test: 0 of 1 passed, 1 not implemented\n"
    );
}

#[test]
fn wrong_scripts_say_the_line() {
    for (script, error) in [
        ("\nfoo", "line 2: invalid command \"foo\""),
        (
            "load 1x",
            "line 1: invalid step definition \"1x\": unknown unit \"x\" in duration \"1x\"",
        ),
        (
            "load 1m\n  up 1 x",
            "line 2: 1:6: parse error: unexpected \"x\" in series values",
        ),
        (
            "eval instant at 0 sum(",
            "line 1: 1:5: parse error: unclosed left parenthesis",
        ),
        (
            "eval instant at 0 1\n  expect warn\n  expect no_warn",
            "line 3: invalid expect lines, an annotation and its absence cannot be expected together",
        ),
        (
            "load 1m\n  up@st 0\n  down 1",
            "line 3: @st metric does not match the following sample line metric",
        ),
    ] {
        assert_eq!(
            run(script, "test", &Lookup).error.as_deref(),
            Some(error),
            "{script}"
        );
    }
}

#[test]
fn values_are_compared_with_a_tolerance() {
    use super::judge::almost_equal;
    assert!(almost_equal(1.0, 1.000_000_9));
    assert!(!almost_equal(1.0, 1.000_003));
    assert!(almost_equal(f64::NAN, model::sample::NORMAL_NAN));
    assert!(!almost_equal(f64::NAN, model::STALE_NAN));
    assert!(!almost_equal(0.0, 1e-300));
    assert!(almost_equal(f64::INFINITY, f64::INFINITY));
    assert!(!almost_equal(f64::INFINITY, 1.0));
}
