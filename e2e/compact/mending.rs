//! `tools bucket verify --repair`: a block whose index has every issue that can be mended becomes one without, whose
//! samples are those that the old one had within its time.

use block::index::SymbolSet;
use block::{Chunk, Meta, Writer};
use chunk::xor::Encoder;
use model::{Labels, TimeRange};
use ulid::Ulid;

use crate::promtool::{promtools, set};

use super::*;

const MINUTE: i64 = 60_000;
/// Where the block begins, ms.
const START: i64 = 1_700_006_400_000;
const LENGTH: i64 = 120 * MINUTE;

/// A chunk of a sample a minute between two minutes after the start; the value follows from the time.
struct Piece(i64, i64, Vec<u8>);

fn piece(from: i64, to: i64) -> Piece {
    let mut encoder = Encoder::new();
    for minute in from..to {
        encoder.append(START + minute * MINUTE, minute as f64);
    }
    Piece(
        START + from * MINUTE,
        START + (to - 1) * MINUTE,
        encoder.bytes().to_vec(),
    )
}

/// Series by their kind of issue, with the minutes that their chunks have.
const SERIES: [(&str, &[(i64, i64)]); 7] = [
    ("ends_later", &[(0, 30), (110, 130)]),
    ("in_order", &[(0, 30), (30, 60)]),
    ("out_of_order", &[(30, 60), (0, 30), (60, 90)]),
    ("outside", &[(0, 30), (200, 230)]),
    ("overlapping", &[(0, 40), (20, 60)]),
    // As a defect of old Prometheus versions left it (prometheus/tsdb#347).
    ("next_block", &[(0, 30), (120, 121)]),
    ("twice", &[(0, 30), (0, 30), (30, 60)]),
];

/// Writes the block, and gives its samples as promtool dumps them.
fn broken(parent: &Path) -> (String, BTreeSet<String>) {
    let mut all: Vec<(Labels, &[(i64, i64)])> = SERIES
        .iter()
        .map(|(kind, minutes)| (set("m", &[("kind", kind)]), *minutes))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let pairs = all.iter().flat_map(|(labels, _)| labels.iter());
    let symbols = SymbolSet::collect(pairs.flat_map(|(n, v)| [n, v]).collect::<BTreeSet<_>>());
    let range = TimeRange::new(START, START + LENGTH - 1);
    let mut meta = Meta::new(Ulid::generate(), range);
    meta.compaction.sources = vec![meta.ulid];
    let mut writer = Writer::create(parent, meta, symbols).unwrap();
    let mut samples = BTreeSet::new();
    for (labels, minutes) in &all {
        let pieces: Vec<Piece> = minutes.iter().map(|(from, to)| piece(*from, *to)).collect();
        let chunks = pieces.iter().map(|p| Chunk::xor(p.0, p.1, &p.2));
        writer
            .add_labels(labels, &chunks.collect::<Vec<_>>())
            .unwrap();
        let kind = labels.get("kind").unwrap();
        let inside = minutes.iter().flat_map(|(from, to)| *from..(*to).min(120));
        samples.extend(inside.map(|minute| {
            let ts = START + minute * MINUTE;
            format!("{{__name__=\"m\", kind=\"{kind}\"}} {minute} {ts}")
        }));
    }
    let meta = writer.finish().unwrap().unwrap();
    (meta.ulid.to_string(), samples)
}

fn verify(config: &str, more: &[&str]) -> (bool, String) {
    let out = ours()
        .args(["tools", "bucket", "verify", "--issues=index_known_issues"])
        .arg(format!("--objstore.config-file={config}"))
        .args(more)
        .output()
        .unwrap();
    let log = String::from_utf8(out.stderr).unwrap();
    (out.status.success(), log)
}

/// All samples of the blocks of a bucket that are not marked, with each promtool that there is.
fn dumped(bucket: &Path, scratch: &Path) -> Vec<BTreeSet<String>> {
    let mut dumps = vec![samples(bucket, scratch)];
    std::fs::remove_dir_all(scratch).unwrap();
    // A database has a log.
    std::fs::create_dir_all(scratch.join("wal")).unwrap();
    for name in metas(bucket).keys() {
        let block = bucket.join(name);
        output(Command::new("cp").arg("-r").arg(block).arg(scratch));
    }
    for tool in promtools("blocks_with_known_issues_are_mended") {
        let run = |args: [&str; 2]| output(Command::new(&tool.program).args(args).arg(scratch));
        let lines = run(["tsdb", "dump"]);
        dumps.push(lines.lines().map(str::to_owned).collect());
        let analysis = run(["tsdb", "analyze"]);
        let series = format!("Series: {}", SERIES.len());
        assert!(analysis.contains(&series), "{}: {analysis}", tool.program);
    }
    dumps
}

#[test]
fn blocks_with_known_issues_are_mended() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let made = dir.join("made");
    std::fs::create_dir_all(&made).unwrap();
    let (old, want) = broken(&made);
    let (bucket, config) = filesystem(dir, "bucket");
    upload(&made, &config);
    let (backup, backup_config) = filesystem(dir, "backup");
    let scratch = dir.join("scratch");

    // It is said what is wrong, and nothing is done about it.
    let (good, log) = verify(&config, &[]);
    assert!(!good, "{log}");
    for problem in [
        "2 chunks are out of order or overlap",
        "1 chunks are there twice",
        "1 chunks reach out of the block's time",
        "2 chunks lie outside the block's time",
    ] {
        assert!(log.contains(problem), "{problem}: {log}");
    }
    assert_eq!(
        metas(&bucket).into_keys().collect::<Vec<_>>(),
        [old.as_str()]
    );
    let (good, log) = verify(&config, &["--repair"]);
    assert!(
        !good && log.contains("--objstore-backup.config-file"),
        "{log}"
    );

    // Repaired, with the old one marked; and then straight away, from what it was before.
    let tmp = format!("--tmp.dir={}", dir.join("tmp").display());
    let to = format!("--objstore-backup.config-file={backup_config}");
    for (delay, kept) in [("--delete-delay=48h", true), ("--delete-delay=0s", false)] {
        let (good, log) = verify(&config, &["--repair", delay, &tmp, &to]);
        assert!(good, "{log}");
        assert!(log.contains("repaired the block"), "{log}");
        assert_eq!(bucket.join(&old).exists(), kept);
        let left = metas(&bucket);
        let (new, meta) = left.first_key_value().unwrap();
        assert_eq!((left.len(), new == &old), (1, false), "{left:?}");
        assert_eq!(meta["thanos"]["source"], "bucket.repair");
        assert_eq!(meta["thanos"]["labels"]["region"], "eu");
        assert_eq!(meta["compaction"]["sources"], serde_json::json!([old]));
        assert_eq!(meta["stats"]["numSamples"], want.len());
        for dump in dumped(&bucket, &scratch) {
            assert_eq!(dump, want);
        }
        // What was taken away lies in the backup as it was.
        for file in ["index", "chunks/000001"] {
            let (a, b) = (made.join(&old).join(file), backup.join(&old).join(file));
            assert_eq!(
                std::fs::read(a).unwrap(),
                std::fs::read(b).unwrap(),
                "{file}"
            );
        }
        assert!(backup.join(&old).join("meta.json").exists());
        assert!(verify(&config, &[]).0, "nothing is left to mend");
        assert_eq!(std::fs::read_dir(dir.join("tmp")).unwrap().count(), 0);
        if let Some(thanos) = thanos("blocks_with_known_issues_are_mended") {
            let (_, log) = said(
                Command::new(thanos)
                    .args(["tools", "bucket", "verify", "--issues=index_known_issues"])
                    .arg(format!("--id={new}"))
                    .arg(format!("--objstore.config-file={config}")),
            );
            assert!(
                !log.contains("level=warn") && !log.contains("level=error"),
                "{log}"
            );
        }
        if kept {
            let mark = std::fs::read(bucket.join(&old).join("deletion-mark.json")).unwrap();
            let mark: Value = serde_json::from_slice(&mark).unwrap();
            assert_eq!(mark["id"], old.as_str());
            // As it was before.
            for folder in [&bucket, &backup] {
                std::fs::remove_dir_all(folder).unwrap();
                std::fs::create_dir_all(folder).unwrap();
            }
            upload(&made, &config);
        }
    }
}
