//! What means something else in an expression of Prometheus 2.

use std::borrow::Cow;

use model::time::format_duration;
use model::{MatchOp, Matcher, Millis};
use promql::ast::{Duration, Expr, ExprKind};
use promql::features::Features;

/// The old and the new name of a function.
const RENAMED: (&str, &str) = ("holt_winters", "double_exponential_smoothing");

/// Functions that need two samples.
const NEED_TWO: [&str; 6] = ["rate", "increase", "delta", "irate", "idelta", "deriv"];

/// Functions that say how many samples there were, or add them up.
const COUNT: [&str; 2] = ["count_over_time", "sum_over_time"];

/// What means something else in an expression over series with a sample every `interval` ms.
pub(super) fn findings(text: &str, interval: Millis) -> Vec<String> {
    let mut findings = Vec::new();
    let (old, new) = RENAMED;
    let text = match has_word(text, old) {
        false => Cow::Borrowed(text),
        true => {
            findings.push(format!(
                "{old} is called {new}, and needs --enable-feature=promql-experimental-functions"
            ));
            Cow::Owned(text.replace(old, new))
        }
    };
    match promql::parse::parse(&text, &Features::ALL) {
        Ok(expr) => look(&expr, None, interval, &mut findings),
        Err(e) => findings.push(format!("the expression cannot be read any more: {e}")),
    }
    findings
}

fn has_word(text: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|t| t.chars().next());
        !before.is_some_and(is_name) && !after.is_some_and(is_name)
    })
}

/// Looks at an expression and all below it; `of` is the function that it is an argument of.
fn look(expr: &Expr, of: Option<&str>, interval: Millis, findings: &mut Vec<String>) {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => {}
        ExprKind::Vector(selector) => matchers(&selector.matchers, findings),
        ExprKind::Matrix(matrix) => {
            matchers(&matrix.selector.matchers, findings);
            if let Duration::Known(range) = matrix.range {
                window(of, range, interval, "", findings);
            }
        }
        ExprKind::Subquery(subquery) => {
            look(&subquery.expr, None, interval, findings);
            if let (Duration::Known(range), Some(Duration::Known(step))) =
                (&subquery.range, &subquery.step)
            {
                window(of, *range, *step, "sub", findings);
            }
        }
        ExprKind::Call(call) => {
            for arg in &call.args {
                look(arg, Some(call.func.name), interval, findings);
            }
        }
        ExprKind::Aggregate(aggregate) => {
            let param = aggregate.param.iter();
            param.for_each(|p| look(p, None, interval, findings));
            look(&aggregate.expr, None, interval, findings);
        }
        ExprKind::Binary(binary) => {
            look(&binary.lhs, None, interval, findings);
            look(&binary.rhs, None, interval, findings);
        }
        ExprKind::Unary(_, inner) => look(inner, None, interval, findings),
        ExprKind::Paren(inner) => look(inner, of, interval, findings),
    }
}

/// A range begins behind its left border now: what lay exactly there is not in it.
fn window(
    function: Option<&str>,
    range: Millis,
    interval: Millis,
    sub: &str,
    findings: &mut Vec<String>,
) {
    let Some(function) = function else {
        return;
    };
    if interval <= 0 || range % interval != 0 {
        return;
    }
    let (width, every) = (format_duration(range), format_duration(interval));
    if NEED_TWO.contains(&function) && range == interval {
        let wide = format_duration(2 * interval);
        findings.push(format!(
            "{function} over a {sub}range of {width} with a sample every {every} has one sample and no result: a sample exactly {width} old is not in it any more; use at least {wide}"
        ));
    } else if COUNT.contains(&function) {
        findings.push(format!(
            "{function} over a {sub}range of {width} with a sample every {every}: a sample exactly {width} old is not in it any more, so that there may be {} instead of {}",
            range / interval,
            range / interval + 1
        ));
    }
}

/// Values of `le` and `quantile` are written as floats now.
fn matchers(matchers: &[Matcher], findings: &mut Vec<String>) {
    for matcher in matchers
        .iter()
        .filter(|m| matches!(&*m.name, "le" | "quantile"))
    {
        let whole = match matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => is_whole(&matcher.value),
            MatchOp::Regex | MatchOp::NotRegex => has_whole_number(&matcher.value),
        };
        if whole {
            findings.push(format!(
                "{matcher}: {} is written as a float now (1.0 for 1); match both where old and new data meet, such as {}=~\"1(\\\\.0)?\"",
                matcher.name, matcher.name
            ));
        }
    }
}

fn is_whole(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Whether an alternative of a regular expression is a whole number.
pub(super) fn has_whole_number(regex: &str) -> bool {
    let regex = regex.trim_start_matches('^').trim_end_matches('$');
    let inner = regex.strip_prefix('(').and_then(|r| r.strip_suffix(')'));
    let inner = inner.unwrap_or(regex);
    inner.trim_start_matches("?:").split('|').any(is_whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, about: &[&str]) {
        let found = findings(text, 60_000);
        assert_eq!(found.len(), about.len(), "{text}: {found:#?}");
        for (found, about) in found.iter().zip(about) {
            assert!(found.contains(about), "{text}: {found}");
        }
    }

    #[test]
    fn expressions() {
        check("rate(a[1m])", &["use at least 2m"]);
        check(
            "sum(rate(a[2m])) / (irate(b[1m]))",
            &["irate over a range of 1m"],
        );
        check("rate(a[90s]) + max_over_time(a[5m])", &[]);
        check("count_over_time(a[5m]) == 6", &["5 instead of 6"]);
        check(
            "sum_over_time((a)[10m:5m])",
            &["subrange of 10m with a sample every 5m"],
        );
        check("histogram_quantile(0.9, a_bucket{le=\"1\"})", &["le=\"1\""]);
        check("a{le=~\"0.5|1\", quantile!=\"0.9\"}", &["le=~"]);
        check("a{le=\"1.0\"} or a{le=\"+Inf\"} or a{x=\"1\"}", &[]);
        check(
            "holt_winters(a[5m], 0.5, 0.5)",
            &["double_exponential_smoothing"],
        );
        check("my_holt_winters", &[]);
        check("rate(", &["cannot be read"]);
    }

    #[test]
    fn whole_numbers() {
        for regex in ["1", "(1|2.5)", "^10$", "(?:5|x)"] {
            assert!(has_whole_number(regex), "{regex}");
        }
        for regex in ["1(\\.0)?", "1.0", ".*", "", "a|b"] {
            assert!(!has_whole_number(regex), "{regex}");
        }
    }
}
