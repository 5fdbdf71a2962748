//! Parser, printer and prettifier against Prometheus' corpora.

use promql::features::Features;
use promql::parse::{ParseErrors, parse};
use promql::prettify::prettify_to;
use serde_json::Value;

use crate::corpus;

fn lines(name: &str) -> Vec<Value> {
    corpus::read(name)
        .unwrap_or_default()
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON object a line"))
        .collect()
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().expect("a string")
}

fn messages(errors: &ParseErrors) -> Vec<&str> {
    errors.errors.iter().map(|e| e.message.as_str()).collect()
}

/// Fails with all differences at once.
fn assert_none(what: &str, cases: usize, differences: &[String]) {
    eprintln!(
        "{what}: {} of {cases} as Prometheus",
        cases - differences.len()
    );
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn accepts_and_rejects_as_prometheus() {
    let features = Features {
        binop_fill_modifiers: false,
        ..Features::ALL
    };
    let cases = lines("promql_parser/accept_reject.jsonl");
    let mut differences = Vec::new();
    for case in &cases {
        let mut input = text(case, "input").to_owned();
        let wanted: Vec<&str> = case["errors"]
            .as_array()
            .map(|errors| errors.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        if wanted.first() == Some(&"invalid UTF-8 rune") {
            // JSON cannot say the byte 0xff, which reaches us as a replacement character.
            input = input.replace("\\xff", "\u{fffd}");
        }
        let result = parse(&input, &features);
        let got = result.as_ref().err().map(messages).unwrap_or_default();
        if got != wanted {
            differences.push(format!("{input}\n  want {wanted:?}\n  got  {got:?}"));
        }
    }
    assert_none("accept_reject", cases.len(), &differences);
}

#[test]
fn prints_as_prometheus() {
    let cases = lines("promql_parser/printer.jsonl");
    let mut differences = Vec::new();
    for case in &cases {
        let (input, wanted) = (text(case, "in"), text(case, "out"));
        let got = match parse(input, &Features::ALL) {
            Ok(expr) => expr.to_string(),
            Err(error) => error.to_string(),
        };
        if got != wanted {
            differences.push(format!("{input}\n  want {wanted}\n  got  {got}"));
        }
    }
    assert_none("printer", cases.len(), &differences);
}

#[test]
fn prettifies_as_prometheus() {
    let cases = lines("promql_parser/prettier.jsonl");
    let mut differences = Vec::new();
    for case in &cases {
        let (input, wanted) = (text(case, "in"), text(case, "out"));
        let got = match parse(input, &Features::ALL) {
            // The corpus was made with lines of 10 bytes.
            Ok(expr) => prettify_to(&expr, 10),
            Err(error) => error.to_string(),
        };
        if got != wanted {
            differences.push(format!("{input}\nwant\n{wanted}\ngot\n{got}\n"));
        }
    }
    assert_none("prettier", cases.len(), &differences);
}

/// Every query of the scripts is legal, prints, and reads back as the same text.
#[test]
fn reads_every_query_of_the_scripts() {
    let mut queries = 0;
    let mut differences = Vec::new();
    for (name, script) in corpus::scripts() {
        for line in script.lines().map(str::trim) {
            let Some(query) = query_of(line) else {
                continue;
            };
            queries += 1;
            match parse(query, &Features::ALL) {
                Err(error) => differences.push(format!("{name}: {query}: {error}")),
                Ok(expr) => {
                    let printed = expr.to_string();
                    let again = parse(&printed, &Features::ALL).map(|e| e.to_string());
                    if again.as_ref() != Ok(&printed) {
                        differences.push(format!("{name}: {query}: {printed}: {again:?}"));
                    }
                }
            }
        }
    }
    assert_none("queries of .test scripts", queries, &differences);
}

/// The query of an `eval` line.
fn query_of(line: &str) -> Option<&str> {
    let mut words = line.splitn(3, char::is_whitespace);
    let (eval, kind, rest) = (words.next()?, words.next()?, words.next()?);
    if !eval.starts_with("eval") {
        return None;
    }
    // `at T QUERY` or `from T to T step D QUERY`
    let skip = match kind {
        "instant" => 2,
        "range" => 6,
        _ => return None,
    };
    (0..skip).try_fold(rest.trim_start(), |rest, _| {
        rest.split_once(char::is_whitespace)
            .map(|(_, rest)| rest.trim_start())
    })
}
