//! Folders with every kind of sample, handed to a real Prometheus and taken back.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use chunk::memory::StoredSeries;
use model::histogram::{Histogram, View};
use model::sink::HistogramSample;
use model::{Batch, Labels, Millis, is_stale};
use tsdb::{Db, Options};

use crate::kinds::{custom, float, gauge, int, same, stored};
use crate::prometheus::{Prometheus, binaries};

/// What a query shows of a histogram: count, sum, and the counts of the buckets that have any.
type Shown = (f64, f64, Vec<f64>);
type Shows = BTreeMap<Labels, Vec<(Millis, Shown)>>;

const KINDS: [&str; 6] = ["int", "float", "gauge", "mixed", "float value", "custom"];

fn now() -> Millis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis() as Millis
}

fn set(kind: &str) -> Labels {
    Labels::from_pairs([("__name__", "kinds"), ("kind", kind)])
}

fn ours(series: &[StoredSeries]) -> Shows {
    let mut all = Shows::new();
    for one in series {
        let live = one.histograms.iter().filter(|h| !is_stale(h.value.sum()));
        for row in live {
            let h = row.value.to_float();
            let view: View<'_> = h.view();
            let mut counts: Vec<f64> = view.ascending().map(|b| b.count).collect();
            counts.retain(|c| *c != 0.0);
            let shown = (h.count, h.sum, counts);
            all.entry(one.labels.clone())
                .or_default()
                .push((row.ts, shown));
        }
        let floats = one.floats.iter().filter(|s| !is_stale(s.value));
        for s in floats {
            let shown = (s.value, 0.0, vec![]);
            all.entry(one.labels.clone())
                .or_default()
                .push((s.ts, shown));
        }
    }
    all.values_mut().for_each(|all| all.sort_by_key(|s| s.0));
    all
}

/// Asked series by series: 2.42 shows integer histograms as what the float histograms of a series before
/// them ended with.
fn theirs(p: &Prometheus, end: Millis) -> Shows {
    let mut all = Shows::new();
    for kind in KINDS {
        ask(p, kind, end, &mut all);
    }
    all
}

fn ask(p: &Prometheus, kind: &str, end: Millis, all: &mut Shows) {
    let kind = kind.replace(' ', "%20");
    let query = format!("%7B__name__%3D%22kinds%22,kind%3D%22{kind}%22%7D%5B1d%5D");
    let path = format!("/api/v1/query?query={query}&time={}", end as f64 / 1000.0);
    let (code, body) = p.get(&path).unwrap();
    assert_eq!(code, 200, "{}", String::from_utf8_lossy(&body));
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let number = |v: &serde_json::Value| -> f64 { v.as_str().unwrap().parse().unwrap() };
    for s in json["data"]["result"].as_array().unwrap() {
        let labels = s["metric"].as_object().unwrap().iter();
        let labels = Labels::from_pairs(labels.map(|(n, v)| (n.as_str(), v.as_str().unwrap())));
        let ts = |v: &serde_json::Value| (v[0].as_f64().unwrap() * 1000.0).round() as Millis;
        let mut samples = Vec::new();
        for v in s["values"].as_array().into_iter().flatten() {
            samples.push((ts(v), (number(&v[1]), 0.0, vec![])));
        }
        for v in s["histograms"].as_array().into_iter().flatten() {
            let buckets = v[1]["buckets"].as_array().into_iter().flatten();
            let counts = buckets.map(|b| number(&b[3])).collect();
            samples.push((
                ts(v),
                (number(&v[1]["count"]), number(&v[1]["sum"]), counts),
            ));
        }
        samples.sort_by_key(|s| s.0);
        all.insert(labels, samples);
    }
}

fn append(db: &Db, times: impl Iterator<Item = i64>, base: Millis, customs: bool) {
    let labels: Vec<Labels> = KINDS.into_iter().map(set).collect();
    let refs = db.resolve_now(&labels).unwrap();
    let mut batch = Batch::default();
    let mut times = times.peekable();
    while let Some(k) = times.next() {
        let ts = base + k * 15_000;
        let n = (k % 97) as u64 + 1;
        let mut push = |i: usize, value: Histogram| {
            batch.histograms.push(HistogramSample {
                series: refs[i],
                ts,
                start: 0,
                value,
            });
        };
        // Buckets come, and a counter falls now and then.
        push(0, int(n, 3 + (k as usize / 40) % 4));
        push(1, float(n));
        push(2, gauge(200 - n));
        if k % 10 < 5 {
            push(3, int(n, 2));
        }
        if customs {
            push(5, custom(n));
        }
        if k % 10 >= 5 {
            batch.push(refs[3], ts, k as f64);
        }
        batch.push(refs[4], ts, k as f64 * 0.5);
        // Several times at once, as a push brings them: the mixed series then changes its kind within
        // a batch.
        if k % 3 == 0 || times.peek().is_none() {
            let took = db.append_now(std::mem::take(&mut batch)).unwrap();
            assert_eq!(took.rejected, []);
        }
    }
}

#[test]
fn every_kind_goes_to_prometheus_and_comes_back() {
    for binary in binaries() {
        // The older one knows no custom buckets.
        let old = binary == "prometheus";
        for signal in ["-TERM", "-KILL"] {
            let dir = tempfile::tempdir().unwrap();
            let data = dir.path().join("data");
            let start = || {
                let flags: &[&str] = match old {
                    true => &["--enable-feature=native-histograms"],
                    false => &[],
                };
                Prometheus::start(&binary, &data, |_| "global: {}\n".to_owned(), flags)
            };
            let base = now() / 7_200_000 * 7_200_000 - 300 * 15_000;
            let end = now() + 3_600_000;
            let db = Db::open(&data, Options::quiet()).unwrap();
            append(&db, 0..300, base, !old);
            db.maintain().unwrap();
            append(&db, 300..310, base, !old);
            let before = stored(&db);
            drop(db);
            let files = std::fs::read_dir(data.join("chunks_head")).unwrap().count();
            assert!(files > 0, "no chunk lies in a file");

            let p = start();
            let (got, want) = (theirs(&p, end), ours(&before));
            assert_eq!(got, want, "{binary}, ours to them");
            p.signal(signal);
            // It has moved chunks to files of its own meanwhile.
            let db = Db::open(&data, Options::quiet()).unwrap();
            assert!(db.replayed().damaged.is_empty(), "{:?}", db.replayed());
            same(&db, &before);
            append(&db, 310..450, base, !old);
            let before = stored(&db);
            drop(db);

            let p = start();
            let (got, want) = (theirs(&p, end), ours(&before));
            assert_eq!(got, want, "{binary}, and again");
            p.signal("-KILL");
            let db = Db::open(&data, Options::quiet()).unwrap();
            same(&db, &before);
        }
    }
}
