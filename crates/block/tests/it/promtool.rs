use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use block::merge::{merge, meta_of};
use block::suite::Plan;
use block::{Block, Meta};
use chunk::HistogramRow;
use chunk::memory::StoredSeries;
use model::histogram::{CUSTOM_SCHEMA, CounterReset, Histogram, IntBuckets, IntHistogram};
use model::{Cancel, Labels, Sample, TimeRange};
use ulid::Ulid;

use crate::support::{Series, assert_same, parse_dump, read, write};

/// Runs promtool; none if it is not there.
fn promtool(args: &[&str]) -> Option<String> {
    let output = match Command::new("promtool").args(args).output() {
        Ok(output) => output,
        Err(e) => {
            println!("SKIPPED: promtool: {e}");
            return None;
        }
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {args:?}: {errors}{text}");
    Some(text)
}

fn dump(db: &Path) -> Option<Series> {
    // A database has a WAL.
    std::fs::create_dir_all(db.join("wal")).unwrap();
    promtool(&["tsdb", "dump", db.to_str().unwrap()]).map(|text| parse_dump(&text))
}

const HOUR: i64 = 3_600_000;
const START: i64 = 1_700_006_400_000;

fn series(start: i64, names: std::ops::Range<usize>) -> Series {
    names
        .map(|i| {
            let labels = Labels::from_pairs([
                ("__name__".to_owned(), format!("metric_{}", i % 10)),
                ("instance".to_owned(), format!("host-{i:04}:9100")),
                ("text".to_owned(), "quote \" back \\ ü".to_owned()),
            ]);
            let samples = (0..400)
                .map(|k| Sample {
                    ts: start + k * 15_000 + (i as i64 % 17),
                    value: match (i % 5, k) {
                        (0, k) => k as f64,
                        (1, k) => (k * k % 977) as f64 / 7.0,
                        (2, 5) => f64::INFINITY,
                        (3, k) if k % 50 == 3 => f64::NAN,
                        (_, k) => -(k as f64) * 1e-9,
                    },
                })
                .collect();
            (labels, samples)
        })
        .collect()
}

#[test]
fn promtool_reads_what_we_write() {
    let db = tempfile::tempdir().unwrap();
    let first = series(START, 0..300);
    let second = series(START + 2 * HOUR, 100..400);
    let range = |n: i64| TimeRange::new(START + 2 * n * HOUR, START + 2 * (n + 1) * HOUR - 1);
    let a = write(db.path(), &first, range(0));
    let b = write(db.path(), &second, range(1));
    let path = db.path().to_str().unwrap();
    let Some(got) = dump(db.path()) else {
        return;
    };
    let mut want = first;
    for (labels, samples) in second {
        want.entry(labels).or_default().extend(samples);
    }
    assert_same(&got, &want);

    let list = promtool(&["tsdb", "list", path]).unwrap();
    for meta in [&a, &b] {
        assert!(list.contains(&meta.ulid.to_string()), "{list}");
    }
    let analysis = promtool(&["tsdb", "analyze", path, &b.ulid.to_string()]).unwrap();
    assert!(analysis.contains("Series: 300"), "{analysis}");
    assert!(analysis.contains("Label names: 3"), "{analysis}");

    // Merged, it is still the same.
    let open = |m: &Meta| Arc::new(Block::open(&db.path().join(m.ulid.to_string())).unwrap());
    let merged_db = tempfile::tempdir().unwrap();
    let merged = merge(
        &[open(&a), open(&b)],
        merged_db.path(),
        meta_of(Ulid::generate(), &[&a, &b]),
        &Cancel::default(),
    )
    .unwrap()
    .unwrap();
    assert_eq!(merged.stats.num_series, 400);
    assert_same(&dump(merged_db.path()).unwrap(), &want);
    let path = merged_db.path().to_str().unwrap();
    let analysis = promtool(&["tsdb", "analyze", "--extended", path]).unwrap();
    assert!(analysis.contains("Series: 400"), "{analysis}");
}

/// What a newer promtool dumps of a database, as lines of labels, what (a float, or count and sum of a
/// histogram) and time.
fn dump3(db: &Path) -> Option<Vec<String>> {
    std::fs::create_dir_all(db.join("wal")).unwrap();
    let newer = std::env::var("EPIMETHEUS_PROMTOOL3").unwrap_or_else(|_| "promtool3".into());
    let output = match Command::new(newer).args(["tsdb", "dump"]).arg(db).output() {
        Ok(output) => output,
        Err(e) => {
            println!("SKIPPED: promtool 3: {e}");
            return None;
        }
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool: {errors}");
    let line = |line: &str| match line.split_once(" {count:") {
        Some((labels, rest)) => {
            let (_, ts) = rest.rsplit_once(' ').unwrap();
            let scalars: Vec<&str> = rest.split(", ").take(2).collect();
            let scalars = scalars.join(" ").replace("sum:", "").replace('}', "");
            let scalars: Vec<&str> = scalars.split(' ').take(2).collect();
            format!("{labels} {} {ts}", scalars.join("/"))
        }
        None => line.to_owned(),
    };
    let mut lines: Vec<_> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(line)
        .collect();
    lines.sort();
    Some(lines)
}

/// Every encoding that we write is read by a newer promtool, as written and as merged.
#[test]
fn promtool_reads_every_encoding() {
    let db = tempfile::tempdir().unwrap();
    let histogram = |k: i64, kind: usize| {
        let positive = IntBuckets::from_pairs([(0, k), (1 + (k / 50) as i32, k * 3)]);
        let h = IntHistogram {
            schema: if kind == 2 { CUSTOM_SCHEMA } else { 3 },
            count: k as u64 * 4,
            sum: k as f64 * 0.5,
            positive,
            counter_reset: match kind {
                3 => CounterReset::Gauge,
                _ => CounterReset::Unknown,
            },
            custom_values: [1.0, 2.5, 5.0, 10.0, 1e6, 1e7, 1e8].into(),
            ..IntHistogram::default()
        };
        match kind {
            1 => Histogram::Float(h.to_float()),
            _ => Histogram::Int(h),
        }
    };
    let series = |from: i64, to: i64| -> Vec<StoredSeries> {
        let labels = |kind: usize| {
            Labels::from_pairs([("__name__", "h".to_owned()), ("kind", kind.to_string())])
        };
        let time = |k: i64| START + k * 15_000;
        let one = |kind: usize| {
            let mut one = StoredSeries::floats(labels(kind), Vec::new());
            for k in from..to {
                let start = if kind >= 4 { time(0) - 1000 } else { 0 };
                if kind == 4 || kind == 5 && k % 40 < 20 {
                    one.floats.push(Sample {
                        ts: time(k),
                        value: k as f64,
                    });
                    one.starts.push(start);
                } else {
                    let value = histogram(if kind == 3 { k * 7 % 30 } else { k }, kind);
                    one.histograms.push(HistogramRow {
                        ts: time(k),
                        start,
                        value,
                    });
                }
            }
            one
        };
        (0..6).map(one).collect()
    };
    let range = TimeRange::new(START, START + 2 * HOUR - 1);
    let plan = Plan {
        range: Some(range),
        ..Plan::default()
    };
    let first = plan.write(db.path(), series(0, 250)).unwrap().unwrap();
    let want: Vec<String> = {
        let mut lines = Vec::new();
        for one in series(0, 300) {
            let kind = one.labels.get("kind").unwrap();
            let labels = format!("{{__name__=\"h\", kind=\"{kind}\"}}");
            for s in &one.floats {
                lines.push(format!("{labels} {} {}", s.value, s.ts));
            }
            for h in &one.histograms {
                let (ts, h) = (h.ts, h.value.to_float());
                lines.push(format!("{labels} {}/{} {ts}", h.count, h.sum));
            }
        }
        lines.sort();
        lines
    };
    let until = |k: i64| {
        let end = START + k * 15_000;
        let before = |l: &&String| l.rsplit_once(' ').unwrap().1.parse::<i64>().unwrap() < end;
        want.iter().filter(before).cloned().collect::<Vec<_>>()
    };
    let Some(got) = dump3(db.path()) else {
        return;
    };
    assert_eq!(got, until(250));

    let elsewhere = tempfile::tempdir().unwrap();
    let second = plan.write(db.path(), series(100, 300)).unwrap().unwrap();
    let open = |m: &Meta| Arc::new(Block::open(&db.path().join(m.ulid.to_string())).unwrap());
    let blocks = [open(&first), open(&second)];
    let meta = meta_of(Ulid::generate(), &[&first, &second]);
    merge(&blocks, elsewhere.path(), meta, &Cancel::default())
        .unwrap()
        .unwrap();
    assert_eq!(dump3(elsewhere.path()).unwrap(), until(300));
}

/// Blocks that promtool makes are read sample for sample.
#[test]
fn we_read_what_promtool_writes() {
    let db = tempfile::tempdir().unwrap();
    let text = db.path().join("in.om");
    let mut om = String::from("# TYPE x counter\n");
    for i in 0..50 {
        for k in 0..200 {
            om += &format!("x_total{{i=\"{i}\"}} {} {}\n", k * i, START / 1000 + k * 30);
        }
    }
    om += "# EOF\n";
    std::fs::write(&text, om).unwrap();
    let out = db.path().join("blocks");
    let args = ["tsdb", "create-blocks-from", "openmetrics"];
    let paths = [text.to_str().unwrap(), out.to_str().unwrap()];
    if promtool(&[&args[..], &paths].concat()).is_none() {
        return;
    }
    let blocks: Vec<Arc<Block>> = std::fs::read_dir(&out)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.join("meta.json").exists())
        .map(|p| Arc::new(Block::open(&p).unwrap()))
        .collect();
    assert!(!blocks.is_empty());
    let got = read(blocks);
    assert_eq!(got.len(), 50);
    assert_same(&got, &dump(&out).unwrap());
}
