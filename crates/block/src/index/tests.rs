use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use model::{Labels, TimeRange};
use proptest::prelude::*;

use super::*;
use crate::postings::Index as _;
use crate::read_at::{FaultyAt, FileAt, ReadAt};

type Content = BTreeMap<Labels, Vec<ChunkMeta>>;

fn write(path: &Path, content: &Content) -> u64 {
    let symbols = SymbolSet::collect(
        content
            .keys()
            .flat_map(|l| l.iter())
            .flat_map(|(n, v)| [n, v]),
    );
    let mut writer = Writer::create(path, symbols).unwrap();
    for (labels, chunks) in content {
        let ordinals: Vec<(u32, u32)> = labels
            .iter()
            .map(|(n, v)| {
                let find = |s| writer.symbols().find(s).unwrap();
                (find(n), find(v))
            })
            .collect();
        writer.add(&ordinals, chunks).unwrap();
    }
    writer.finish().unwrap()
}

fn read(reader: &Reader) -> Result<Content, BlockError> {
    let ids = reader.all_series()?;
    let mut series = reader.series();
    let mut content = Content::new();
    for (i, &id) in ids.iter().enumerate() {
        let (mut labels, mut chunks) = (Vec::new(), Vec::new());
        series.decode(id, &ids[i + 1..], TimeRange::ALL, &mut labels, &mut chunks)?;
        let text = |o| reader.symbols().get(o).unwrap_or_default().to_owned();
        let labels = Labels::from_pairs(labels.into_iter().map(|(n, v)| (text(n), text(v))));
        content.insert(labels, chunks);
    }
    Ok(content)
}

fn check(reader: &Reader, content: &Content) {
    assert_eq!(&read(reader).unwrap(), content);
    // Every pair's list is the series that have it.
    let mut pairs: BTreeMap<(&str, &str), Vec<u32>> = BTreeMap::new();
    let ids = reader.all_series().unwrap();
    for (labels, &id) in content.keys().zip(&ids) {
        for pair in labels {
            pairs.entry(pair).or_default().push(id);
        }
    }
    let mut keys = Vec::new();
    for &(n, v) in pairs.keys() {
        keys.push(reader.find(n, v).unwrap().unwrap());
    }
    let mut lists = Vec::new();
    reader
        .postings(&keys, &mut |list| lists.push(list.to_vec()))
        .unwrap();
    assert!(lists.iter().eq(pairs.values()));
    let mut values = Vec::new();
    for name in reader.table().names() {
        values.extend(reader.table().values(name, "").map(|(v, _)| (name, v)));
    }
    assert!(values.iter().eq(pairs.keys()));
}

fn many() -> Content {
    (0..3000)
        .map(|i| {
            let labels = Labels::from_pairs([
                ("__name__".to_owned(), format!("m{}", i % 7)),
                ("i".to_owned(), format!("value-{i}")),
                ("long".to_owned(), "x".repeat(i % 300)),
            ]);
            let chunks = (0..i % 5)
                .map(|k| ChunkMeta {
                    min: (k * 100) as i64 - 50,
                    max: (k * 100) as i64 + if i % 3 == 0 { 120 } else { 20 },
                    reference: (i * 1000 + k * 70) as u64,
                })
                .collect();
            (labels, chunks)
        })
        .collect()
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let content = many();
    let len = write(&path, &content);
    assert_eq!(len, std::fs::metadata(&path).unwrap().len());
    let file = Arc::new(FileAt::open(&path).unwrap());
    let by_reads = Reader::open(Arc::clone(&file) as Arc<dyn ReadAt>).unwrap();
    check(&by_reads, &content);
    let bytes = Bytes::from(std::fs::read(&path).unwrap());
    check(&Reader::open(Arc::new(bytes)).unwrap(), &content);
    // Entries are read many at a time.
    let counted = Arc::new(FaultyAt::new(file, u64::MAX));
    let reader = Reader::open(Arc::clone(&counted) as Arc<dyn ReadAt>).unwrap();
    let before = counted.reads();
    read(&reader).unwrap();
    assert!(
        counted.reads() - before < 20,
        "{}",
        counted.reads() - before
    );

    let prefix: Vec<&str> = by_reads
        .table()
        .values("i", "value-29")
        .map(|v| v.0)
        .collect();
    let mut want: Vec<String> = (0..3000).map(|i| format!("value-{i}")).collect();
    want.retain(|v| v.starts_with("value-29"));
    want.sort();
    assert_eq!(prefix, want);
    assert_eq!(by_reads.table().values("i", "zzz").count(), 0);
    assert_eq!(by_reads.table().values("nope", "").count(), 0);
    assert_eq!(by_reads.find("i", "value-").unwrap(), None);
    assert_eq!(by_reads.table().value_count("i"), 3000);
    for (i, s) in by_reads.symbols().iter().enumerate() {
        assert_eq!(by_reads.symbols().find(s), Some(i as u32));
        assert_eq!(by_reads.symbols().get(i as u32), Some(s));
    }
    assert_eq!(by_reads.symbols().find("nope"), None);
}

#[test]
fn an_empty_index_is_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    write(&path, &Content::new());
    let reader = Reader::open(Arc::new(FileAt::open(&path).unwrap())).unwrap();
    assert!(reader.all_series().unwrap().is_empty());
    assert_eq!(reader.table().names().count(), 0);
}

#[test]
fn an_entry_longer_than_any_window_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let chunks = (0..200_000)
        .map(|k| ChunkMeta {
            min: k,
            max: k,
            reference: k as u64 * 1000,
        })
        .collect();
    let content = Content::from([
        (Labels::from_pairs([("a", "1")]), vec![]),
        (Labels::from_pairs([("a", "2")]), chunks),
        (Labels::from_pairs([("a", "3")]), vec![]),
    ]);
    write(&path, &content);
    let reader = Reader::open(Arc::new(FileAt::open(&path).unwrap())).unwrap();
    check(&reader, &content);
}

#[test]
fn the_writer_keeps_the_rules() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let mut w = Writer::create(&path, SymbolSet::collect(["a", "b", "1", "2"])).unwrap();
    let (one, two, a, b) = (0, 1, 2, 3);
    w.add(&[(a, one)], &[]).unwrap();
    assert!(w.add(&[(a, one)], &[]).is_err(), "twice");
    assert!(w.add(&[], &[]).is_err(), "before");
    assert!(
        w.add(&[(b, one), (a, one)], &[]).is_err(),
        "names in disorder"
    );
    assert!(w.add(&[(a, 9)], &[]).is_err(), "unknown symbol");
    w.add(&[(a, two)], &[]).unwrap();
    w.finish().unwrap();
    assert!(SymbolSet::default().push("a").is_ok());
    let mut set = SymbolSet::collect(["b"]);
    assert!(set.push("b").is_err() && set.push("a").is_err() && set.push("c").is_ok());
}

#[test]
fn a_failing_disk_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    write(&path, &many());
    let file: Arc<dyn ReadAt> = Arc::new(FileAt::open(&path).unwrap());
    for n in 0..8 {
        let faulty = Arc::new(FaultyAt::new(Arc::clone(&file), n));
        let result = Reader::open(faulty).and_then(|r| read(&r));
        assert!(matches!(result, Err(BlockError::Io { .. })), "read {n}");
    }
}

/// Reads everything there is; errors are fine, panics are not.
fn exercise(bytes: Vec<u8>) {
    let Ok(reader) = Reader::open(Arc::new(Bytes::from(bytes.clone()))) else {
        return;
    };
    let _ = read(&reader);
    let names: Vec<String> = reader.table().names().map(str::to_owned).collect();
    for name in names {
        let keys: Vec<_> = reader.table().values(&name, "").map(|v| v.1).collect();
        let _ = reader.postings(&keys, &mut |_| {});
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn round_trip(
        content in prop::collection::btree_map(
            prop::collection::btree_map("[a-c]{1,2}", "[x-z]{1,3}|ä", 0..5),
            prop::collection::vec((any::<i64>(), 0i64..1000, any::<u64>()), 0..6),
            0..40,
        ),
    ) {
        let content: Content = content
            .into_iter()
            .map(|(labels, chunks)| {
                let chunks = chunks
                    .into_iter()
                    .map(|(min, len, reference)| ChunkMeta { min, max: min.saturating_add(len), reference })
                    .collect();
                (Labels::from_pairs(labels), chunks)
            })
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        write(&path, &content);
        check(&Reader::open(Arc::new(FileAt::open(&path).unwrap())).unwrap(), &content);
        check(&Reader::open(Arc::new(Bytes::from(std::fs::read(&path).unwrap()))).unwrap(), &content);
    }

    #[test]
    fn damage_is_noticed_or_harmless(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let content: Content = many().into_iter().take(30).collect();
        write(&path, &content);
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(reader) = Reader::open(Arc::new(FileAt::open(&path).unwrap())) {
            let _ = read(&reader);
        }
        exercise(bytes);
    }
}
