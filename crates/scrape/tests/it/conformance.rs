//! The exposition parsers against the shared corpus.

use std::path::Path;

use base64::Engine as _;
use model::Labels;
use scrape::parse::{
    Event, Format, ParseError, Parser, ScrapeProtocol, Written, negotiate, unescape, unescape_help,
};
use serde_json::{Value, json};

use crate::data;

/// What a body says, in the corpus' own words.
fn entries(body: &[u8], format: Format, created: bool) -> (Vec<Value>, Option<ParseError>) {
    let mut parser = Parser::new(body, format);
    if created {
        parser = parser.with_created_as_start();
    }
    let mut out = Vec::new();
    let error = loop {
        match parser.next_event() {
            Ok(None) => break None,
            Err(e) => break Some(e),
            Ok(Some(event)) => match entry(event, format) {
                Ok(entry) => out.push(entry),
                Err(e) => break Some(e),
            },
        }
    };
    (out, error)
}

fn entry(event: Event<'_>, format: Format) -> Result<Value, ParseError> {
    Ok(match event {
        Event::Help(metric, text) => {
            let text = match format {
                Format::Text => unescape_help(text),
                Format::OpenMetrics => unescape(text),
            };
            json!({"entry": "help", "metric": metric, "text": text})
        }
        Event::Type(metric, kind) => {
            json!({"entry": "type", "metric": metric, "type": kind.as_str()})
        }
        Event::Unit(metric, unit) => json!({"entry": "unit", "metric": metric, "unit": unit}),
        Event::Comment(text) => {
            json!({"entry": "comment", "text": String::from_utf8_lossy(text)})
        }
        Event::Series(series) => {
            let mut out = json!({
                "entry": "series",
                "series": String::from_utf8_lossy(series.text),
                "value": number(series.value),
                "labels": pairs(&series.labels()?),
                "labels_type_and_unit": pairs(&series.labels_with_type_and_unit()?),
            });
            if let Some(ts) = series.timestamp {
                out["timestamp_ms"] = ts.into();
            }
            if let Some(start) = series.start {
                out["start_timestamp_ms"] = start.into();
            }
            if let Some(exemplar) = series.exemplar {
                let mut e = json!({
                    "Labels": pairs(&exemplar.labels()?),
                    "Value": number(exemplar.value),
                });
                if let Some(ts) = exemplar.timestamp {
                    e["HasTs"] = true.into();
                    e["Ts"] = ts.into();
                }
                out["exemplars"] = json!([e]);
            }
            out
        }
    })
}

fn pairs(labels: &Labels) -> Value {
    labels
        .iter()
        .map(|(n, v)| (n.to_owned(), Value::from(v)))
        .collect()
}

fn number(value: f64) -> Value {
    if value.is_nan() {
        assert_eq!(value.to_bits(), model::sample::NORMAL_NAN.to_bits());
        return "NaN".into();
    }
    match value {
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        value => value.into(),
    }
}

fn same(got: &Value, want: &Value) -> bool {
    match (got, want) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && b.iter().all(|(k, b)| a.get(k).is_some_and(|a| same(a, b)))
        }
        (a, b) => a == b,
    }
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Compares the entries that `path` expects; the number of those compared.
fn check(folder: &Path, name: &str, format: Format) -> usize {
    let suffix = if format == Format::Text {
        "prom.txt"
    } else {
        "om.txt"
    };
    let body = std::fs::read(folder.join(format!("{name}.{suffix}"))).unwrap();
    let expected = read_json(&folder.join(format!("{name}.expected.json")));
    let (got, error) = entries(&body, format, true);
    assert_eq!(error, None, "{name}");
    let want = expected["entries"].as_array().unwrap();
    assert_eq!(got.len(), want.len(), "{name}");
    for (got, want) in got.iter().zip(want) {
        let want = want.as_object().unwrap();
        for (key, want) in want {
            // The edge cases check names and start timestamps only.
            if name.starts_with("st_edge") && (key == "value" || key == "labels") {
                continue;
            }
            if key == "start_timestamp_ms" && want == 0 {
                assert_eq!(got.get(key), None, "{name}: {got}");
                continue;
            }
            let got = got
                .get(key)
                .unwrap_or_else(|| panic!("{name}: no {key} in {got}"));
            assert!(same(got, want), "{name}: {key}: got {got}, want {want}");
        }
        for key in ["timestamp_ms", "exemplars", "start_timestamp_ms"] {
            assert_eq!(
                got.get(key).is_some(),
                want.get(key).is_some_and(|v| *v != 0),
                "{got}"
            );
        }
    }
    want.len()
}

#[test]
fn expected_entries() {
    let Some(folder) = data::folder("textparse") else {
        return;
    };
    let mut entries = 0;
    for name in ["all_features", "utf8_names"] {
        entries += check(&folder.join("text"), name, Format::Text);
    }
    for name in [
        "all_features",
        "utf8_names",
        "st_edge_created_line_is_a_first_one",
        "st_edge_maybe_counter_with_no_meta",
    ] {
        entries += check(&folder.join("openmetrics"), name, Format::OpenMetrics);
    }
    println!("{entries} entries as expected");
}

#[test]
fn accepted_and_rejected() {
    let Some(folder) = data::folder("textparse") else {
        return;
    };
    for (name, format) in [("text", Format::Text), ("openmetrics", Format::OpenMetrics)] {
        let lines = std::fs::read_to_string(folder.join(name).join("accept_reject.jsonl")).unwrap();
        let mut cases = 0;
        for line in lines.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let input = base64::engine::general_purpose::STANDARD
                .decode(case["input_b64"].as_str().unwrap())
                .unwrap();
            let (_, error) = entries(&input, format, false);
            assert_eq!(error.is_none(), case["accept"], "{name}: {line}\n{error:?}");
            cases += 1;
        }
        println!("{name}: {cases} cases accepted or rejected rightly");
    }
}

#[test]
fn larger_bodies_are_read() {
    let Some(folder) = data::folder("textparse") else {
        return;
    };
    for (file, format, samples) in [
        ("alltypes.237mfs.nometa.prom.txt", Format::Text, 1857),
        ("alltypes.237mfs.prom.txt", Format::Text, 1857),
        ("1histogram.om.txt", Format::OpenMetrics, 0),
        ("alltypes.5mfs.om.txt", Format::OpenMetrics, 0),
        ("metrics-test.prom", Format::Text, 0),
    ] {
        let body = std::fs::read(folder.join("samples").join(file)).unwrap();
        let (entries, error) = entries(&body, format, false);
        assert_eq!(error, None, "{file}");
        let series = entries.iter().filter(|e| e["entry"] == "series").count();
        assert!(
            series > 0 && (samples == 0 || series == samples),
            "{file}: {series}"
        );
    }
}

#[test]
fn content_types() {
    let Some(folder) = data::folder("textparse") else {
        return;
    };
    let table = read_json(&folder.join("negotiation/response_content_type.json"));
    let rows = table.as_array().unwrap();
    for row in rows {
        let text = |key: &str| row[key].as_str().unwrap();
        // The table spells the protocols as Go names its constants.
        let fallback = match text("fallback_scrape_protocol") {
            "" => None,
            "PrometheusProto" => Some(ScrapeProtocol::PrometheusProto),
            "PrometheusText0_0_4" => Some(ScrapeProtocol::PrometheusText004),
            "PrometheusText1_0_0" => Some(ScrapeProtocol::PrometheusText100),
            "OpenMetricsText0_0_1" => Some(ScrapeProtocol::OpenMetricsText001),
            "OpenMetricsText1_0_0" => Some(ScrapeProtocol::OpenMetricsText100),
            other => panic!("{other}"),
        };
        let (parser, message) = match negotiate(text("content_type"), fallback) {
            Ok(n) => {
                let parser = match n.written {
                    Written::Lines(Format::Text) => "prom",
                    Written::Lines(Format::OpenMetrics) => "openmetrics",
                    Written::Protobuf => "protobuf",
                };
                (parser, n.warning.unwrap_or_default())
            }
            Err(e) => ("nil", e.to_string()),
        };
        assert_eq!(parser, text("parser"), "{row}");
        assert!(
            message.contains(text("warning_or_error_contains")),
            "{row}: {message}"
        );
    }
    println!("{} content types negotiated", rows.len());
}

#[test]
fn protobuf_of_all_types() {
    use scrape::parse::proto::{Histograms, Item, Shown, read};
    let Some(folder) = data::folder("textparse") else {
        return;
    };
    let body = std::fs::read(folder.join("protobuf/all_types.delimited.binpb")).unwrap();
    for native in [false, true] {
        let histograms = Histograms {
            native,
            classic: true,
            convert: false,
        };
        let (mut families, mut floats, mut natives) = (0, 0, 0);
        read::<ParseError>(&body, histograms, |item| {
            match item {
                Item::Family(_) => families += 1,
                Item::Sample(sample) => {
                    scrape::parse::labels_of(sample.text, sample.kind, Default::default())?;
                    match sample.value {
                        Shown::Float(_) => floats += 1,
                        Shown::Histogram(_) => natives += 1,
                    }
                }
            }
            Ok(())
        })
        .unwrap();
        println!("protobuf: {families} families, {floats} floats, {natives} native histograms");
        assert_eq!((families, natives > 0), (20, native));
        assert!(floats > 20);
    }
}
