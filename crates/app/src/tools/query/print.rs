//! Answers of the API as Prometheus' Go client prints them: as text, or as JSON.

use std::fmt::Write as _;

use serde_json::Value;

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `name{label="value"} => 1 @[1700000000]`
    Promql,
    /// One line of JSON.
    Json,
}

/// Prints answers.
#[derive(Clone, Copy, Debug)]
pub struct Printer(pub Format);

impl Printer {
    /// The `data` of a query.
    pub fn value(self, data: &Value) -> String {
        let result = &data["result"];
        match self.0 {
            Format::Json => json(result),
            Format::Promql => {
                let mut out = match data["resultType"].as_str() {
                    Some("vector") => lines(result, vector_line),
                    Some("matrix") => lines(result, matrix_lines),
                    Some("scalar") => format!("scalar: {}", pair(result)),
                    _ => result[1].as_str().unwrap_or_default().to_owned(),
                };
                out.push('\n');
                out
            }
        }
    }

    /// The `data` of `series`.
    pub fn series(self, data: &Value) -> String {
        match self.0 {
            Format::Json => json(data),
            Format::Promql => each(data, label_set),
        }
    }

    /// The `data` of `label/.../values`.
    pub fn labels(self, data: &Value) -> String {
        match self.0 {
            Format::Json => json(data),
            Format::Promql => each(data, |v| v.as_str().unwrap_or_default().to_owned()),
        }
    }
}

fn items(data: &Value) -> &[Value] {
    data.as_array().map_or(&[], Vec::as_slice)
}

fn lines(data: &Value, line: fn(&Value) -> String) -> String {
    let lines: Vec<String> = items(data).iter().map(line).collect();
    lines.join("\n")
}

fn each(data: &Value, line: fn(&Value) -> String) -> String {
    let mut out = String::new();
    for item in items(data) {
        out.push_str(&line(item));
        out.push('\n');
    }
    out
}

fn vector_line(sample: &Value) -> String {
    let metric = metric(&sample["metric"]);
    match &sample["histogram"] {
        Value::Null => format!("{metric} => {}", pair(&sample["value"])),
        histogram => format!("{metric} => {}", histogram_pair(histogram)),
    }
}

fn matrix_lines(series: &Value) -> String {
    let mut out = format!("{} =>", metric(&series["metric"]));
    let values = items(&series["values"]).iter().map(pair);
    let histograms = items(&series["histograms"]).iter().map(histogram_pair);
    for line in values.chain(histograms) {
        out.push('\n');
        out.push_str(&line);
    }
    out
}

/// `name{a="b", c="d"}` of a metric.
pub fn metric_text(of: &Value) -> String {
    metric(of)
}

/// `name{a="b"}` without one of its labels; the braces are always there.
pub fn metric_without(metric: &Value, label: &str) -> String {
    let name = metric["__name__"].as_str().unwrap_or_default();
    let others = labels(metric, |l| l != "__name__" && l != label);
    format!("{name}{{{others}}}")
}

/// `name{a="b", c="d"}`
fn metric(metric: &Value) -> String {
    let name = metric["__name__"].as_str().unwrap_or_default();
    let others = labels(metric, |label| label != "__name__");
    match (name, others.as_str()) {
        ("", "") => "{}".to_owned(),
        (name, "") => name.to_owned(),
        (name, others) => format!("{name}{{{others}}}"),
    }
}

/// `{__name__="name", a="b"}`
fn label_set(set: &Value) -> String {
    format!("{{{}}}", labels(set, |_| true))
}

fn labels(set: &Value, keep: impl Fn(&str) -> bool) -> String {
    let mut pairs: Vec<String> = set
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| keep(name))
        .map(|(name, value)| {
            let mut pair = format!("{name}=");
            // Writing to a string cannot fail.
            let _ = model::labels::write_quoted(&mut pair, value.as_str().unwrap_or_default());
            pair
        })
        .collect();
    pairs.sort();
    pairs.join(", ")
}

/// `value @[time]`
fn pair(pair: &Value) -> String {
    format!("{} @[{}]", float(&pair[1]), time(&pair[0]))
}

fn histogram_pair(pair: &Value) -> String {
    let h = &pair[1];
    let buckets: Vec<String> = items(&h["buckets"]).iter().map(bucket).collect();
    let fixed = |v: &Value| match parse(v) {
        v if v.is_finite() => format!("{v:.6}"),
        v => number(v),
    };
    format!(
        "Count: {}, Sum: {}, Buckets: [{}] @[{}]",
        fixed(&h["count"]),
        fixed(&h["sum"]),
        buckets.join(" "),
        time(&pair[0])
    )
}

fn bucket(bucket: &Value) -> String {
    let borders = bucket[0].as_i64().unwrap_or(0);
    let (open, close) = (
        if matches!(borders, 1 | 3) { '[' } else { '(' },
        if matches!(borders, 0 | 3) { ']' } else { ')' },
    );
    let bound = |v: &Value| model::text::format_g(parse(v));
    format!(
        "{open}{},{}{close}:{}",
        bound(&bucket[1]),
        bound(&bucket[2]),
        float(&bucket[3])
    )
}

fn parse(v: &Value) -> f64 {
    let text = v.as_str().unwrap_or_default();
    text.parse().unwrap_or(f64::NAN)
}

fn float(v: &Value) -> String {
    number(parse(v))
}

fn time(v: &Value) -> String {
    // Times have the resolution of milliseconds.
    number((v.as_f64().unwrap_or(0.0) * 1000.0).round() / 1000.0)
}

/// Go's `strconv.FormatFloat(v, 'f', -1, 64)`.
pub fn number(v: f64) -> String {
    match v {
        v if v.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        v => format!("{v}"),
    }
}

/// JSON as Go's encoder writes it: names sorted, no spaces, `<`, `>` and `&` escaped.
fn json(value: &Value) -> String {
    let mut out = String::new();
    write_json(value, &mut out);
    out.push('\n');
    out
}

fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort_by_key(|name| place(name));
            out.push('{');
            for (i, name) in names.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_text(name, out);
                out.push(':');
                write_json(&fields[name], out);
            }
            out.push('}');
        }
        Value::Number(n) => match n.as_i64() {
            Some(n) => out.push_str(&n.to_string()),
            None => out.push_str(&time(value)),
        },
        Value::String(text) => write_text(text, out),
        other => out.push_str(&other.to_string()),
    }
}

/// The fields of samples in the order of the client's types; label names sorted.
fn place(name: &str) -> (usize, &str) {
    let known = [
        "metric",
        "value",
        "values",
        "histogram",
        "histograms",
        "count",
        "sum",
        "buckets",
    ];
    let known = known.iter().position(|k| *k == name);
    (known.unwrap_or(usize::MAX), name)
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A span as Go reads it (`1h30m`, `1.5s`), in nanoseconds.
pub fn parse_go_duration(typed: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {typed:?}");
    let (sign, mut rest) = match typed.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, typed.strip_prefix('+').unwrap_or(typed)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (count, tail) = rest.split_at(digits.unwrap_or(rest.len()));
        let count: f64 = count.parse().map_err(|_| invalid())?;
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, tail) = tail.split_at(end.unwrap_or(tail.len()));
        nanos += count
            * match unit {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                "" => return Err(format!("time: missing unit in duration {typed:?}")),
                unit => return Err(format!("time: unknown unit {unit:?} in duration {typed:?}")),
            };
        rest = tail;
    }
    Ok((sign * nanos) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_read_as_in_promtool() {
        let printed = |data: &Value| Printer(Format::Promql).value(data);
        let vector = json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "up", "b": "x\"y", "a": "1"}, "value": [1700000000.5, "0.1"]},
            {"metric": {"__name__": "up"}, "value": [1700000000, "NaN"]},
            {"metric": {}, "value": [0, "1e+21"]},
        ]});
        assert_eq!(
            printed(&vector),
            "up{a=\"1\", b=\"x\\\"y\"} => 0.1 @[1700000000.5]\nup => NaN @[1700000000]\n{} => 1000000000000000000000 @[0]\n"
        );
        let matrix = json!({"resultType": "matrix", "result": [
            {"metric": {"a": "b"}, "values": [[1, "2"], [3.25, "-Inf"]]},
        ]});
        assert_eq!(printed(&matrix), "{a=\"b\"} =>\n2 @[1]\n-Inf @[3.25]\n");
        let scalar = json!({"resultType": "scalar", "result": [7, "1"]});
        assert_eq!(printed(&scalar), "scalar: 1 @[7]\n");
        assert_eq!(
            Printer(Format::Json).value(&vector).lines().next(),
            Some(
                r#"[{"metric":{"__name__":"up","a":"1","b":"x\"y"},"value":[1700000000.5,"0.1"]},{"metric":{"__name__":"up"},"value":[1700000000,"NaN"]},{"metric":{},"value":[0,"1e+21"]}]"#
            )
        );
        let set = json!([{"__name__": "up", "a": "<b>"}]);
        assert_eq!(
            Printer(Format::Promql).series(&set),
            "{__name__=\"up\", a=\"<b>\"}\n"
        );
        assert_eq!(
            Printer(Format::Json).series(&set),
            "[{\"__name__\":\"up\",\"a\":\"\\u003cb\\u003e\"}]\n"
        );
    }

    #[test]
    fn spans_are_read_as_in_go() {
        assert_eq!(parse_go_duration("1h30m"), Ok(5_400_000_000_000));
        assert_eq!(parse_go_duration("1.5s"), Ok(1_500_000_000));
        assert_eq!(parse_go_duration("-2ms"), Ok(-2_000_000));
        assert!(parse_go_duration("5").is_err());
        assert!(parse_go_duration("5d").is_err());
        assert!(parse_go_duration("").is_err());
    }
}
