use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::suite::{Plan, floats};
use block::{Block, BlockSource, Meta};
use chunk::suite;
use model::{Labels, Sample, Scope, Select, Source as _, TimeRange};

pub type Series = BTreeMap<Labels, Vec<Sample>>;

/// A directory of the conformance data, if it is there.
pub fn data(part: &str) -> Option<PathBuf> {
    let root = std::env::var_os("EPIMETHEUS_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let path = root.join("tsdb").join(part);
    if path.exists() {
        return Some(path);
    }
    println!("SKIPPED: {} is not there", path.display());
    None
}

pub fn read(blocks: Vec<Arc<Block>>) -> Series {
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = BlockSource::new(blocks).open(Arc::clone(&scope)).unwrap();
    let rows = view.select(Select::new(vec![], TimeRange::ALL));
    suite::collect(rows, &scope, TimeRange::ALL).unwrap()
}

/// Writes a block of chunks of 120 samples.
pub fn write(dir: &Path, series: &Series, range: TimeRange) -> Meta {
    let plan = Plan {
        range: Some(range),
        ..Plan::default()
    };
    plan.write(dir, floats(series.clone())).unwrap().unwrap()
}

/// Reads what `promtool tsdb dump` prints: `{labels} value timestamp`.
pub fn parse_dump(text: &str) -> Series {
    let mut all = Series::new();
    for line in text.lines() {
        let (rest, ts) = line.rsplit_once(' ').unwrap();
        let (labels, value) = rest.rsplit_once(' ').unwrap();
        let sample = Sample {
            ts: ts.parse().unwrap(),
            value: value.parse().unwrap(),
        };
        all.entry(parse_labels(labels)).or_default().push(sample);
    }
    all
}

fn parse_labels(text: &str) -> Labels {
    let mut pairs = Vec::new();
    let mut rest = text.strip_prefix('{').unwrap();
    while let Some((name, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    't' => '\t',
                    c => c,
                }),
                (i, '"') => break i,
                (_, c) => value.push(c),
            }
        };
        pairs.push((name.trim_start_matches([',', ' ']).to_owned(), value));
        rest = &after[end + 1..];
    }
    Labels::from_pairs(pairs)
}

/// Equal, where all NaN are one (a dump does not tell them apart).
pub fn assert_same(got: &Series, want: &Series) {
    let keys = |s: &Series| s.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(got), keys(want));
    for (labels, samples) in want {
        let got = &got[labels];
        assert_eq!(got.len(), samples.len(), "{labels}");
        for (g, w) in got.iter().zip(samples) {
            let same =
                g.value.to_bits() == w.value.to_bits() || g.value.is_nan() && w.value.is_nan();
            assert!(g.ts == w.ts && same, "{labels}: {g:?}, expected {w:?}");
        }
    }
}

pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
