//! `tools tsdb verify`: damage of every kind of file is found and named, and what an older Prometheus
//! could not read is said.

use std::path::{Path, PathBuf};
use std::process::Command;

use model::histogram::{CUSTOM_SCHEMA, Histogram, IntBuckets, IntHistogram, Span};
use model::sink::HistogramSample;
use model::{Batch, Labels, Matcher, TimeRange, report::Admin as _};
use tsdb::wal::Compression;
use tsdb::{Db, Options};

/// Exit code and what it printed.
fn verify(dir: &Path, readable_by: Option<&str>) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_epimetheus"));
    command.args(["tools", "tsdb", "verify"]).arg(dir);
    if let Some(version) = readable_by {
        command.arg(format!("--readable-by={version}"));
    }
    let out = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (out.status.code(), text(out.stdout) + &text(out.stderr))
}

fn set(kind: &str) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("kind", kind)])
}

fn histogram(schema: i32) -> Histogram {
    Histogram::Int(IntHistogram {
        schema,
        count: 3,
        sum: 4.0,
        positive: IntBuckets {
            spans: vec![Span {
                offset: 0,
                length: 2,
            }],
            deltas: vec![1, 1],
        },
        custom_values: match schema {
            CUSTOM_SCHEMA => [1.0].into(),
            _ => [].into(),
        },
        ..IntHistogram::default()
    })
}

/// Behind all that [`fill`] appends, ms.
const LATER: i64 = 900 * 15_000;

/// Floats and exponential histograms: enough of them for finished chunks and a block.
fn fill(db: &Db) {
    let refs = db.resolve_now(&[set("float"), set("histogram")]).unwrap();
    for k in 0..900i64 {
        let mut batch = Batch::default();
        batch.push(refs[0], k * 15_000, (k * k) as f64);
        batch.histograms.push(HistogramSample {
            series: refs[1],
            ts: k * 15_000,
            start: 0,
            value: histogram(1),
        });
        assert_eq!(db.append_now(batch).unwrap().rejected, []);
    }
}

type Fill = fn(&Db);

/// What it is, what is written and how, the exit codes for each version, and the word that says why.
type Case = (&'static str, Fill, fn(&mut Options), [i32; 3], &'static str);

#[test]
fn what_an_older_prometheus_cannot_read_is_said() {
    let cases: [Case; 5] = [
        ("plain", |_| (), |_| (), [0, 0, 0], "is whole"),
        (
            "custom buckets",
            |db| {
                let series = db.resolve_now(&[set("custom")]).unwrap()[0];
                let mut batch = Batch::default();
                batch.histograms.push(HistogramSample {
                    series,
                    ts: LATER,
                    start: 0,
                    value: histogram(CUSTOM_SCHEMA),
                });
                assert_eq!(db.append_now(batch).unwrap().rejected, []);
            },
            |_| (),
            [3, 3, 0],
            "histograms of custom buckets|histograms with custom buckets",
        ),
        (
            "names in UTF-8",
            |db| {
                let labels = Labels::from_pairs([("__name__", "m"), ("a.b", "c")]);
                db.append_samples(&[(labels, LATER, 1.0)]).unwrap();
            },
            |_| (),
            [3, 3, 0],
            "UTF-8 names",
        ),
        (
            "zstd",
            |_| (),
            |o| o.wal.compression = Compression::Zstd,
            [3, 0, 0],
            "compressed with zstd",
        ),
        ("XOR2", |_| (), |o| o.xor2 = true, [3, 3, 3], "XOR2"),
    ];
    for (name, more, change, codes, says) in cases {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::quiet();
        change(&mut options);
        let db = Db::open(dir.path(), options).unwrap();
        fill(&db);
        more(&db);
        db.maintain().unwrap();
        drop(db);
        for (version, code) in ["2.42", "2.55", "3.x"].into_iter().zip(codes) {
            let (found, text) = verify(dir.path(), Some(version));
            assert_eq!(found, Some(code), "{name}, {version}: {text}");
            let said = says.split('|').any(|says| text.contains(says));
            assert!(code == 0 || said, "{name}, {version}: {text}");
        }
        // Without a version it is told, and no fault.
        let (code, text) = verify(dir.path(), None);
        assert_eq!(code, Some(0), "{name}: {text}");
        assert!(
            says.split('|').any(|says| text.contains(says)),
            "{name}: {text}"
        );
    }
}

fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, into),
            false => into.push(path),
        }
    }
}

#[test]
fn damage_of_every_kind_of_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::quiet()).unwrap();
    fill(&db);
    let every = || vec![Matcher::equal("kind", "float")];
    db.maintain().unwrap();
    let gone = db.delete_series(every(), TimeRange::new(0, 100_000));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(gone).unwrap();
    // What was before lies in a checkpoint; and damage in the last record of all looks like a crash.
    for ts in [LATER, LATER + 1] {
        db.append_samples(&[(set("float"), ts, 1.0)]).unwrap();
    }
    drop(db);
    assert_eq!(verify(dir.path(), None).0, Some(0));
    let mut all = Vec::new();
    files(dir.path(), &mut all);
    let mut kinds = std::collections::BTreeSet::new();
    for path in all {
        let bytes = std::fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let folder = path
            .parent()
            .unwrap()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap();
        if bytes.is_empty() || name == "lock" {
            continue;
        }
        kinds.insert(match folder {
            "wal" | "chunks_head" | "chunks" => folder.to_owned(),
            _ if folder.starts_with("checkpoint.") => "checkpoint".to_owned(),
            _ => name.clone(),
        });
        let mut bad = bytes.clone();
        // Behind the header, within what a checksum covers; a meta has none, and is no JSON then.
        let at = match name.as_str() {
            "meta.json" => 0,
            _ => 16.min(bad.len() - 1),
        };
        bad[at] ^= 0x55;
        std::fs::write(&path, &bad).unwrap();
        let (code, text) = verify(dir.path(), None);
        let place = path.strip_prefix(dir.path()).unwrap();
        assert_eq!(code, Some(1), "{}: {text}", place.display());
        let top = place.iter().next().unwrap().to_str().unwrap();
        let named = text
            .lines()
            .any(|l| l.starts_with("DAMAGED") && l.contains(top));
        assert!(named, "{}: {text}", place.display());
        std::fs::write(&path, &bytes).unwrap();
    }
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    assert!(
        [
            "chunks",
            "chunks_head",
            "index",
            "meta.json",
            "tombstones",
            "wal"
        ]
        .iter()
        .all(|kind| kinds.contains(kind)),
        "{kinds:?}"
    );
}
