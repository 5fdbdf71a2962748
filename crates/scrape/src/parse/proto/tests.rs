use prost::Message as _;
use wire::proto::Timestamp;
use wire::proto::io::prometheus::client as pb;

use super::*;

fn body(families: &[pb::MetricFamily]) -> Vec<u8> {
    families
        .iter()
        .flat_map(|f| f.encode_length_delimited_to_vec())
        .collect()
}

fn shown(families: &[pb::MetricFamily], histograms: Histograms) -> Vec<String> {
    let mut out = Vec::new();
    read::<ParseError>(&body(families), histograms, |item| {
        out.push(match item {
            Item::Family(f) => {
                format!("# {} {} {:?} {:?}", f.name, f.kind.as_str(), f.help, f.unit)
            }
            Item::Sample(s) => {
                let value = match &s.value {
                    Shown::Float(v) => v.to_string(),
                    Shown::Histogram(Histogram::Int(h)) => {
                        let counts: Vec<_> = h.positive.iter().collect();
                        format!(
                            "int {} {} {} {counts:?} {:?}",
                            h.schema, h.count, h.sum, h.custom_values
                        )
                    }
                    Shown::Histogram(Histogram::Float(h)) => {
                        format!(
                            "float {:?} {} {:?}",
                            h.counter_reset, h.count, h.positive.counts
                        )
                    }
                };
                let exemplars: Vec<String> = s
                    .exemplars
                    .iter()
                    .map(|e| format!(" # {}", e.labels().unwrap()))
                    .collect();
                format!(
                    "{} {value} {:?} {:?}{}",
                    String::from_utf8_lossy(s.text),
                    s.timestamp,
                    s.start,
                    exemplars.concat()
                )
            }
        });
        Ok(())
    })
    .unwrap();
    out
}

fn family(name: &str, kind: pb::MetricType, metric: pb::Metric) -> pb::MetricFamily {
    pb::MetricFamily {
        name: Some(name.into()),
        help: Some("h".into()),
        r#type: Some(kind as i32),
        metric: vec![metric],
        unit: None,
    }
}

fn label(name: &str, value: &str) -> pb::LabelPair {
    pb::LabelPair {
        name: Some(name.into()),
        value: Some(value.into()),
    }
}

fn exemplar(id: &str, at: Option<i64>) -> pb::Exemplar {
    pb::Exemplar {
        label: vec![label("id", id)],
        value: Some(1.0),
        timestamp: at.map(|seconds| Timestamp { seconds, nanos: 0 }),
    }
}

fn native() -> pb::Histogram {
    pb::Histogram {
        sample_count: Some(5),
        sample_sum: Some(9.5),
        schema: Some(3),
        positive_span: vec![pb::BucketSpan {
            offset: Some(1),
            length: Some(3),
        }],
        positive_delta: vec![2, -2, 3],
        exemplars: vec![
            exemplar("b", Some(9)),
            exemplar("x", None),
            exemplar("a", Some(7)),
        ],
        bucket: vec![pb::Bucket {
            cumulative_count: Some(4),
            upper_bound: Some(1.0),
            exemplar: Some(exemplar("c", None)),
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[test]
fn simple_metrics_are_as_in_the_text_format() {
    let counter = pb::Metric {
        label: vec![label("path", "a\"b\\\n"), label("my.label", "1")],
        counter: Some(pb::Counter {
            value: Some(7.0),
            exemplar: Some(exemplar("e", None)),
            created_timestamp: Some(Timestamp {
                seconds: 3,
                nanos: 5_000_000,
            }),
        }),
        timestamp_ms: Some(1234),
        ..Default::default()
    };
    let utf8 = pb::Metric {
        gauge: Some(pb::Gauge { value: Some(1.5) }),
        ..Default::default()
    };
    let summary = pb::Metric {
        label: vec![label("a", "1")],
        summary: Some(pb::Summary {
            sample_count: Some(2),
            sample_sum: Some(3.0),
            quantile: vec![pb::Quantile {
                quantile: Some(1.0),
                value: Some(2.0),
            }],
            created_timestamp: None,
        }),
        ..Default::default()
    };
    let lines = shown(
        &[
            family("c_total", pb::MetricType::Counter, counter),
            family("my.gauge", pb::MetricType::Gauge, utf8),
            family("s", pb::MetricType::Summary, summary),
        ],
        Histograms::default(),
    );
    assert_eq!(
        lines,
        [
            r#"# c_total counter "h" """#,
            r#"c_total{path="a\"b\\\n","my.label"="1"} 7 Some(1234) Some(3005) # {id="e"}"#,
            r#"# my.gauge gauge "h" """#,
            r#"{"my.gauge"} 1.5 None None"#,
            r#"# s summary "h" """#,
            r#"s_count{a="1"} 2 None None"#,
            r#"s_sum{a="1"} 3 None None"#,
            r#"s{a="1",quantile="1.0"} 2 None None"#,
        ]
    );
    // Whatever text was made can be read.
    for line in lines.iter().filter(|l| !l.starts_with('#')) {
        let text = line.split("} ").next().unwrap().to_owned() + "}";
        super::super::labels_of(text.as_bytes(), MetricType::Unknown, Default::default()).unwrap();
    }
}

#[test]
fn histograms_are_native_classic_or_both() {
    let families = [family(
        "h",
        pb::MetricType::Histogram,
        pb::Metric {
            histogram: Some(native()),
            ..Default::default()
        },
    )];
    let native = r#"h int 3 5 9.5 [(1, 2), (3, 3)] [] None None # {id="a"} # {id="b"}"#;
    let classic = [
        "h_count 5 None None",
        "h_sum 9.5 None None",
        r#"h_bucket{le="1.0"} 4 None None # {id="c"}"#,
        r#"h_bucket{le="+Inf"} 5 None None"#,
    ];
    let of = |native, classic, convert| {
        let histograms = Histograms {
            native,
            classic,
            convert,
        };
        shown(&families, histograms).split_off(1)
    };
    assert_eq!(of(true, false, false), [native]);
    assert_eq!(of(true, true, false), [&[native][..], &classic].concat());
    assert_eq!(of(false, false, false), classic);
    let custom = "h int -53 5 9.5 [(0, 4), (1, 1)] [1.0] None None";
    assert_eq!(of(false, false, true), [custom]);
    assert_eq!(of(false, true, true), [&classic[..], &[custom]].concat());
    // What is native already is not converted.
    assert_eq!(of(true, false, true), [native]);
}

#[test]
fn gauges_and_floats_keep_their_kind() {
    let histogram = pb::Histogram {
        sample_count_float: Some(2.5),
        positive_span: vec![pb::BucketSpan {
            offset: Some(0),
            length: Some(2),
        }],
        positive_count: vec![0.0, 2.5],
        ..Default::default()
    };
    let metric = pb::Metric {
        histogram: Some(histogram),
        ..Default::default()
    };
    let native = Histograms {
        native: true,
        ..Default::default()
    };
    let lines = shown(
        &[family("g", pb::MetricType::GaugeHistogram, metric)],
        native,
    );
    assert_eq!(lines[1], "g float Gauge 2.5 [2.5] None None");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let mut bad = native();
    bad.positive_delta.pop();
    let metric = pb::Metric {
        histogram: Some(bad),
        ..Default::default()
    };
    let bytes = body(&[family("h", pb::MetricType::Histogram, metric)]);
    let native = Histograms {
        native: true,
        ..Default::default()
    };
    let error = read::<ParseError>(&bytes, native, |_| Ok(())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "histogram \"h\": positive side: spans require 3 buckets, have 2"
    );
    for end in 1..bytes.len() {
        assert!(read::<ParseError>(&bytes[..end], native, |_| Ok(())).is_err());
    }
}
