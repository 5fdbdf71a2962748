//! Downsampled blocks through a store and a querier: what a coarse resolution answers, beside what raw
//! samples do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use block::Meta;
use block::index::SymbolSet;
use block::meta::{Downsample, Thanos};
use chunk::aggregate;
use chunk::xor::Encoder;
use model::{Encoding, Labels, Millis, TimeRange};
use serde_json::Value;
use ulid::Ulid;

use crate::fleet::{ours, role, wait};
use crate::peers::thanos;
use crate::process::{Process, free_port};

const M5: Millis = 300_000;
const HOUR: Millis = 3_600_000;
/// On a border of windows.
const START: Millis = 1_700_000_100_000 - 1_700_000_100_000 % HOUR;

type Samples = Vec<(Millis, f64)>;

/// The columns of samples at five minutes: count, sum, min, max, counter.
fn columns(samples: &Samples) -> [Samples; 5] {
    let mut windows: BTreeMap<Millis, Vec<f64>> = BTreeMap::new();
    for (ts, v) in samples {
        windows.entry(ts - ts % M5 + M5 - 1).or_default().push(*v);
    }
    let ((first, v), (last, raw)) = (samples[0], samples[samples.len() - 1]);
    let mut out: [Samples; 5] = Default::default();
    out[4].push((first, v));
    let (mut total, mut before) = (v, v);
    for (end, values) in windows {
        let ts = end.min(last);
        out[0].push((ts, values.len() as f64));
        out[1].push((ts, values.iter().sum()));
        out[2].push((ts, values.iter().copied().fold(f64::MAX, f64::min)));
        out[3].push((ts, values.iter().copied().fold(f64::MIN, f64::max)));
        for value in values {
            total += if value < before {
                value
            } else {
                value - before
            };
            before = value;
        }
        out[4].push((ts, total));
    }
    out[4].push((last, raw));
    out
}

fn encode(samples: &[(Millis, f64)]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    samples.iter().for_each(|(ts, v)| encoder.append(*ts, *v));
    encoder.bytes().to_vec()
}

/// Writes a block of these series into a bucket that is a folder.
fn write(bucket: &Path, n: u64, resolution: Millis, all: &[(Labels, Samples)]) {
    let strings: BTreeSet<&str> = all
        .iter()
        .flat_map(|(l, _)| l.iter().flat_map(|(n, v)| [n, v]))
        .collect();
    let last = all[0].1[all[0].1.len() - 1].0;
    let mut meta = Meta::new(
        Ulid::from_parts(START as u64, n.into()),
        TimeRange::new(all[0].1[0].0, last),
    );
    meta.thanos = Some(Thanos {
        version: 1,
        labels: [("cluster".to_owned(), "e2e".to_owned())].into(),
        downsample: Downsample { resolution },
        source: "compactor".into(),
        ..Thanos::default()
    });
    let mut writer = block::Writer::create(bucket, meta, SymbolSet::collect(strings)).unwrap();
    for (labels, samples) in all {
        let data: Vec<(Millis, Millis, Vec<u8>)> = match resolution {
            0 => samples
                .chunks(120)
                .map(|part| (part[0].0, part[part.len() - 1].0, encode(part)))
                .collect(),
            _ => {
                let columns = columns(samples).map(|c| encode(&c));
                let parts = columns
                    .each_ref()
                    .map(|c| Some((Encoding::XOR, c.as_slice())));
                vec![(samples[0].0, last, aggregate::encode(parts))]
            }
        };
        let encoding = match resolution {
            0 => Encoding::XOR,
            _ => Encoding::AGGREGATE,
        };
        let chunks: Vec<block::Chunk<'_>> = data
            .iter()
            .map(|(min, max, data)| block::Chunk {
                min: *min,
                max: *max,
                encoding,
                data,
            })
            .collect();
        writer.add_labels(labels, &chunks).unwrap();
    }
    writer.finish().unwrap();
}

fn value(answer: &Value) -> f64 {
    let text = answer["data"]["result"][0]["value"][1].as_str();
    text.unwrap_or_else(|| panic!("{answer}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coarse_resolution_answers_what_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = dir.path().join("bucket");
    std::fs::create_dir(&bucket).unwrap();
    let labels = |name: &str| Labels::from_pairs([("__name__", name), ("job", "x")]);
    // A gauge, and a counter that starts over twice.
    let times = (0..480).map(|k| START + k * 30_000);
    let gauge: Samples = times
        .clone()
        .map(|ts| (ts, ((ts / 1000 * 37) % 101) as f64))
        .collect();
    let counter: Samples = times
        .enumerate()
        .map(|(k, ts)| (ts, (k % 200) as f64 * 3.0))
        .collect();
    let all = [
        (labels("gauge"), gauge),
        (labels("requests_total"), counter),
    ];
    write(&bucket, 1, 0, &all);
    write(&bucket, 2, M5, &all);
    let yaml = format!(
        "type: FILESYSTEM\nconfig: {{directory: '{}'}}\n",
        bucket.display()
    );
    let (http, grpc) = (free_port(), free_port());
    let program = env!("CARGO_BIN_EXE_epimetheus");
    let mut store = Process::start(
        program,
        dir.path(),
        http,
        [
            "store".to_owned(),
            format!("--http-address=127.0.0.1:{http}"),
            format!("--grpc-address=127.0.0.1:{grpc}"),
            format!("--objstore.config={yaml}"),
            format!("--data-dir={}", dir.path().join("store").display()),
        ],
    );
    store.wait_for("/-/ready").await;
    let (http, own) = (free_port(), free_port());
    let mut query = Process::start(
        program,
        dir.path(),
        http,
        [
            "query".to_owned(),
            format!("--http-address=127.0.0.1:{http}"),
            format!("--grpc-address=127.0.0.1:{own}"),
            format!("--endpoint=127.0.0.1:{grpc}"),
        ],
    );
    query.wait_for("/-/ready").await;
    // The last moment of a window.
    let time = ((START + 3 * HOUR - 1) as f64 / 1000.0).to_string();
    let ask = async |expr: &str, resolution: &str| {
        let params = [
            ("query", expr),
            ("time", time.as_str()),
            ("max_source_resolution", resolution),
        ];
        let answer = query.get("/api/v1/query", &params).await;
        assert_eq!(answer["status"], "success", "{expr}: {answer}");
        answer
    };
    for expr in [
        "count_over_time(gauge[1h])",
        "sum_over_time(gauge[1h])",
        "min_over_time(gauge[1h])",
        "max_over_time(gauge[1h])",
        "avg_over_time(gauge[1h])",
        "count(gauge)",
        "min(min_over_time(gauge[2h]))",
    ] {
        let (raw, coarse) = (ask(expr, "0s").await, ask(expr, "5m").await);
        let (raw, coarse) = (value(&raw), value(&coarse));
        assert!((raw - coarse).abs() < 1e-9, "{expr}: {raw} and {coarse}");
    }
    // Rates differ by what happens inside a window, and by no more.
    for expr in ["increase(requests_total[1h])", "rate(requests_total[2h])"] {
        let (raw, coarse) = (ask(expr, "0s").await, ask(expr, "300").await);
        let (raw, coarse) = (value(&raw), value(&coarse));
        assert!(
            (raw - coarse).abs() < raw * 0.06,
            "{expr}: {raw} and {coarse}"
        );
    }
    // A gauge is the average of its window there; `min` and `max` are those of the window.
    let newest: Samples = all[0]
        .1
        .iter()
        .filter(|s| s.0 >= START + 3 * HOUR - M5 && s.0 < START + 3 * HOUR)
        .copied()
        .collect();
    let mean = newest.iter().map(|s| s.1).sum::<f64>() / newest.len() as f64;
    assert!((value(&ask("gauge", "5m").await) - mean).abs() < 1e-9);
    let least = newest.iter().map(|s| s.1).fold(f64::MAX, f64::min);
    assert_eq!(value(&ask("min(gauge)", "5m").await), least);
    assert_eq!(
        value(&ask("max(-gauge)", "5m").await),
        -mean,
        "the average is turned round"
    );
    // Raw samples where a window holds no two coarse ones.
    let narrow = "rate(requests_total[5m])";
    assert_eq!(
        ask(narrow, "5m").await["data"],
        ask(narrow, "0s").await["data"]
    );
    // `auto` goes by the step.
    let range = async |step: &str, resolution: &str| {
        // The last moments of windows, here too.
        let seconds = |ms: Millis| (ms as f64 / 1000.0).to_string();
        let (start, end) = (seconds(START + HOUR / 2 - 1), seconds(START + 3 * HOUR - 1));
        let params = [
            ("query", "sum_over_time(gauge[30m])"),
            ("start", start.as_str()),
            ("end", end.as_str()),
            ("step", step),
            ("max_source_resolution", resolution),
            ("stats", "all"),
        ];
        query.get("/api/v1/query_range", &params).await
    };
    let (raw, auto) = (range("30m", "0s").await, range("30m", "auto").await);
    assert_eq!(raw["data"]["result"], auto["data"]["result"]);
    let samples = |a: &Value| a["data"]["stats"]["samples"]["totalQueryableSamples"].as_u64();
    assert!(samples(&auto) < samples(&raw), "{auto} {raw}");
    let bad = query
        .get(
            "/api/v1/query",
            &[("query", "up"), ("max_source_resolution", "-5m")],
        )
        .await;
    assert_eq!(bad["errorType"], "bad_data", "{bad}");
    assert!(query.stop() && store.stop());
}

/// One bucket downsampled by ours and one by a real Thanos: both stores read both, and both queriers
/// say the same of them at every resolution.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_either_downsamples_both_read() {
    let Some(thanos) = thanos("what_either_downsamples_both_read") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // Long enough for both resolutions.
    const STEPS: i64 = 12 * 24 * 30;
    let start = START - 20 * 24 * HOUR;
    let labels = |name: &str, s: &str| Labels::from_pairs([("__name__", name), ("s", s)]);
    let mut all = Vec::new();
    for (k, s) in ["a", "b"].into_iter().enumerate() {
        let at = |i: i64| start + i * 120_000;
        let value = |i: i64| ((i * 37 + k as i64 * 11) % 101) as f64;
        let gauge: Samples = (0..STEPS).map(|i| (at(i), value(i))).collect();
        let counter = (0..STEPS).map(|i| (at(i), ((i + k as i64) % 997) as f64 * 3.0));
        all.push((labels("gauge", s), gauge));
        all.push((labels("requests_total", s), counter.collect()));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let mut querying = Vec::new();
    let mut stores = Vec::new();
    for (program, whose) in [(ours(), "ours"), (thanos.clone(), "thanos")] {
        let bucket = dir.join(whose);
        std::fs::create_dir(&bucket).unwrap();
        write(&bucket, 1, 0, &all);
        let yaml = format!(
            "--objstore.config=type: FILESYSTEM\nconfig: {{directory: '{}'}}\n",
            bucket.display()
        );
        let compacted = std::process::Command::new(&program)
            .args(["compact", "--consistency-delay=0s"])
            .arg("--http-address=127.0.0.1:0")
            .arg(format!(
                "--data-dir={}",
                dir.join(format!("c-{whose}")).display()
            ))
            .arg(&yaml)
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&compacted.stderr).into_owned();
        assert!(compacted.status.success(), "{whose}: {log}");
        for (store, reads) in [(ours(), "our"), (thanos.clone(), "Thanos'")] {
            let args = [
                yaml.clone(),
                format!(
                    "--data-dir={}",
                    dir.join(format!("s-{}", free_port())).display()
                ),
            ];
            let store = role(&store, dir, "store", &args).await;
            for (querier, asks) in [(ours(), "our"), (thanos.clone(), "Thanos'")] {
                let args = [format!("--endpoint=127.0.0.1:{}", store.grpc)];
                let querier = role(&querier, dir, "query", &args).await;
                wait("a querier to know its store", 30, async || {
                    let stores = querier.process.get("/api/v1/stores", &[]).await;
                    stores["data"]["store"].is_array()
                })
                .await;
                let what = format!("{asks} querier, {reads} store, downsampled by {whose}");
                querying.push((what, querier));
            }
            stores.push(store);
        }
    }
    let seconds = |ms: Millis| (ms as f64 / 1000.0).to_string();
    let (from, to) = (
        seconds(start + 5 * 24 * HOUR - 1),
        seconds(start + 11 * 24 * HOUR - 1),
    );
    let mut wrong = Vec::new();
    for (resolution, ranges) in [("0s", "30m"), ("5m", "2h"), ("1h", "6h")] {
        for query in [
            "gauge",
            "sum(gauge)",
            "min(gauge)",
            "max by (s) (gauge)",
            "count(gauge)",
            "avg_over_time(gauge[R])",
            "sum_over_time(gauge[R])",
            "count_over_time(gauge[R])",
            "min_over_time(gauge[R])",
            "max_over_time(gauge[R])",
            "sum(rate(requests_total[R]))",
            "increase(requests_total[R])",
            "requests_total",
        ] {
            let query = query.replace('R', ranges);
            let params = [
                ("query", query.as_str()),
                ("start", from.as_str()),
                ("end", to.as_str()),
                ("step", "21600"),
                ("max_source_resolution", resolution),
            ];
            let mut first: Option<Value> = None;
            for (what, querier) in &querying {
                // There Thanos counts the windows that it sees, and not the samples in them.
                if query.starts_with("count_over_time") && what.starts_with("Thanos'") {
                    continue;
                }
                let answer = querier.process.get("/api/v1/query_range", &params).await;
                assert_eq!(answer["status"], "success", "{what}: {query}: {answer}");
                let data = answer["data"].clone();
                assert!(!data["result"][0].is_null(), "{what}: {query}: {answer}");
                match &first {
                    None => first = Some(data),
                    Some(first) => {
                        let same = crate::compare::equal(&query, first, &data);
                        if let Err(e) = same {
                            wrong.push(format!("{what} at {resolution}: {query}: {e}"));
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
