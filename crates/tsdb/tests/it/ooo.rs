//! Out-of-order samples in folders handed to and taken from a real Prometheus.

use std::collections::BTreeMap;

use model::{Labels, Reject, Sample};
use tsdb::{Db, Options};

use crate::interop::{now, same, until};
use crate::prometheus::{Prometheus, binaries};
use crate::{Series, all};

const HOUR: i64 = 3_600_000;
const SERIES: i64 = 3;

fn set(i: i64) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

/// A message field of bytes.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// A remote-write request of one sample a series.
fn request(rows: &[(Labels, i64, f64)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (labels, ts, value) in rows {
        let mut series = Vec::new();
        for (name, value) in labels {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut series, 1, &label);
        }
        let mut sample = vec![1 << 3 | 1];
        sample.extend_from_slice(&value.to_le_bytes());
        sample.push(2 << 3);
        varint(&mut sample, *ts as u64);
        field(&mut series, 2, &sample);
        field(&mut body, 1, &series);
    }
    body
}

fn start(binary: &str, data: &std::path::Path, window: &str) -> Prometheus {
    let config = |_| format!("storage: {{tsdb: {{out_of_order_time_window: {window}}}}}\n");
    Prometheus::start(
        binary,
        data,
        config,
        &["--web.enable-remote-write-receiver"],
    )
}

/// What is given in this order: newest first by stretches, so that most is out of order.
fn rows(base: i64) -> Vec<Vec<(Labels, i64, f64)>> {
    let mut all = Vec::new();
    for k in 0..160i64 {
        let back = (k * 67) % 160;
        let ts = base - back * 20_000;
        let of = (0..SERIES).map(|i| (set(i), ts + i, (back * 10 + i) as f64));
        all.push(of.collect());
    }
    all
}

fn model(rows: &[Vec<(Labels, i64, f64)>]) -> Series {
    let mut all: BTreeMap<Labels, BTreeMap<i64, f64>> = BTreeMap::new();
    for (labels, ts, value) in rows.iter().flatten() {
        all.entry(labels.clone()).or_default().insert(*ts, *value);
    }
    all.into_iter()
        .map(|(l, s)| {
            let samples = s.into_iter().map(|(ts, value)| Sample { ts, value });
            (l, samples.collect())
        })
        .collect()
}

fn options(window: i64) -> Options {
    Options {
        out_of_order_window: window,
        ..Options::quiet()
    }
}

#[test]
fn a_log_of_out_of_order_samples_goes_both_ways() {
    for binary in binaries() {
        for signal in ["-TERM", "-KILL"] {
            let dir = tempfile::tempdir().unwrap();
            let data = dir.path().join("data");
            let base = now() - 60_000;
            let mut given = rows(base);
            let theirs = start(&binary, &data, "2h");
            for batch in &given {
                let (code, body) = theirs.push(&request(batch));
                assert_eq!(code, 204, "{binary}: {body}");
            }
            let end = now() + 60_000;
            same(&theirs.all(end), &model(&given));
            theirs.signal(signal);
            assert!(data.join("wbl").exists());

            // The window is closed here: what is there is read all the same.
            let db = Db::open(&data, options(0)).unwrap();
            let damaged = &db.replayed().damaged;
            assert!(damaged.is_empty(), "{damaged:?}");
            assert!(db.replayed().out_of_order > 300);
            same(&all(&db), &model(&given));
            let late = [(set(0), base - 7_000, 1.0)];
            let took = db.append_samples(&late).unwrap();
            assert_eq!(took.rejected[0].reason, Reject::OutOfOrder);
            db.set_out_of_order_window(2 * HOUR).unwrap();
            // A series more, and between the times of theirs.
            for k in 0..50 {
                let ts = base - (k * 31 % 50) * 40_000 - 5_000;
                let batch: Vec<_> = (0..=SERIES).map(|i| (set(i), ts, k as f64)).collect();
                assert!(db.append_samples(&batch).unwrap().rejected.is_empty());
                given.push(batch);
            }
            same(&all(&db), &model(&given));
            // Finished chunks go to files, where Prometheus looks for them too.
            db.maintain().unwrap();
            same(&all(&db), &model(&given));
            drop(db);
            let mut theirs_and_ours = std::fs::read_dir(data.join("chunks_head")).unwrap();
            assert!(theirs_and_ours.next().is_some());

            let theirs = start(&binary, &data, "2h");
            same(&theirs.all(end), &model(&given));
            theirs.signal(signal);
            // And back, whatever it did to the folder meanwhile.
            let db = Db::open(&data, options(2 * HOUR)).unwrap();
            same(&all(&db), &model(&given));
            // Blocks of them, too.
            db.flush_all().unwrap();
            same(&all(&db), &model(&given));
            drop(db);
            let theirs = start(&binary, &data, "0s");
            same(&theirs.all(end), &until(&model(&given), end));
        }
    }
}
