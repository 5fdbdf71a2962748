use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use block::merge::{merge, meta_of};
use block::{Block, Meta};
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
