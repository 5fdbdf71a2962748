use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use chunk::memory::StoredSeries;
use chunk::{HistogramRow, suite, xor};
use model::histogram::{Histogram, IntBuckets, IntHistogram};
use model::{Budget, Encoding, Kind, Labels, Sample, Source, TimeRange};
use proptest::prelude::*;
use tempfile::TempDir;
use ulid::Ulid;

use super::*;
use crate::chunks::Segments;
use crate::fs::{Fs, MapFs, OsFs};
use crate::index::SymbolSet;
use crate::read_at::{FaultyAt, ReadAt};
use crate::suite::Plan;
use crate::{Chunk, Meta, Tombstones, Writer};

type Series = Vec<(Labels, Vec<Sample>)>;

fn write(dir: &Path, series: Series) -> Option<Meta> {
    Plan::default()
        .write(dir, crate::suite::floats(series))
        .unwrap()
}

/// Keeps the directory as long as the source.
struct Held(BlockSource, #[expect(dead_code)] TempDir);

impl Source for Held {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        self.0.open(scope)
    }

    fn extent(&self) -> Arc<Extent> {
        self.0.extent()
    }
}

fn source(fs: &dyn Fs, blocks: impl Fn(Series) -> Vec<Series>, series: Series) -> Arc<dyn Source> {
    let blocks = blocks(series).into_iter();
    stored(fs, blocks.map(crate::suite::floats).collect())
}

fn stored(fs: &dyn Fs, blocks: Vec<Vec<StoredSeries>>) -> Arc<dyn Source> {
    let dir = tempfile::tempdir().unwrap();
    let blocks = blocks
        .into_iter()
        .filter_map(|s| Plan::default().write(dir.path(), s).unwrap())
        .map(|m| Arc::new(Block::open_on(fs, &dir.path().join(m.ulid.to_string())).unwrap()))
        .collect();
    Arc::new(Held(BlockSource::new(blocks), dir))
}

#[test]
fn one_block() {
    suite::source("one block", |s| source(&OsFs, |s| vec![s], s));
    suite::source("one mapped block", |s| source(&MapFs, |s| vec![s], s));
}

#[test]
fn blocks_with_histograms() {
    suite::histogram_source("one block", |s| stored(&OsFs, vec![s]));
    // Dealt to blocks that overlap.
    let deal = |s: Vec<StoredSeries>| {
        let part = |k: usize| {
            let mut part = s.clone();
            for one in &mut part {
                let mut i = 0;
                let mut keep = || {
                    i += 1;
                    i % 3 == k || i % 5 == 0
                };
                one.floats.retain(|_| keep());
                one.histograms.retain(|_| keep());
            }
            part.retain(|one| !one.is_empty());
            part
        };
        stored(&MapFs, (0..3).map(part).collect())
    };
    suite::histogram_source("on top", deal);
}

/// Each block has a part of the time.
#[test]
fn blocks_side_by_side() {
    let divide = |series: Series| -> Vec<Series> {
        let cuts = [i64::MIN, 0, 1_010, 2_000_000, i64::MAX];
        cuts.windows(2)
            .map(|w| {
                series
                    .iter()
                    .map(|(l, s)| {
                        let part = s.iter().filter(|s| (w[0]..w[1]).contains(&s.ts));
                        (l.clone(), part.copied().collect::<Vec<_>>())
                    })
                    .filter(|(_, s)| !s.is_empty())
                    .collect()
            })
            .collect()
    };
    suite::source("side by side", |s| source(&OsFs, divide, s));
}

/// Samples are dealt to blocks that all overlap, many of them twice.
#[test]
fn blocks_on_top_of_each_other() {
    let deal = |series: Series| -> Vec<Series> {
        (0..3)
            .map(|k| {
                series
                    .iter()
                    .map(|(l, s)| {
                        let part = s
                            .iter()
                            .enumerate()
                            .filter(|(i, _)| i % 3 == k || i % 5 == 0);
                        (l.clone(), part.map(|(_, s)| *s).collect::<Vec<_>>())
                    })
                    .filter(|(_, s)| !s.is_empty())
                    .collect()
            })
            .collect()
    };
    suite::source("on top", |s| source(&OsFs, deal, s));
    suite::source("on top, mapped", |s| source(&MapFs, deal, s));
}

/// Some series are only in one of the blocks.
#[test]
fn blocks_with_different_series() {
    let deal = |series: Series| -> Vec<Series> {
        (0..70)
            .map(|k| {
                series
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| i % 70 == k)
                    .map(|(_, s)| s.clone())
                    .collect()
            })
            .collect()
    };
    suite::source("different series", |s| source(&MapFs, deal, s));
}

fn ramps(series: usize, samples: i64) -> Series {
    (0..series)
        .map(|i| {
            let labels = Labels::from_pairs([("i".to_owned(), format!("{i:05}"))]);
            let samples = (0..samples).map(|k| Sample {
                ts: k * 10,
                value: (k * i as i64 % 13) as f64,
            });
            (labels, samples.collect())
        })
        .collect()
}

/// The files of a block: index and segments.
fn files(dir: &Path) -> (Bytes, Vec<Bytes>) {
    let read = |p: std::path::PathBuf| Bytes::from(std::fs::read(p).unwrap());
    let mut paths: Vec<_> = std::fs::read_dir(dir.join("chunks"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    (
        read(dir.join("index")),
        paths.into_iter().map(read).collect(),
    )
}

fn collect_all(block: Block, budget: Arc<Budget>) -> Result<usize, SourceError> {
    let scope = Arc::new(Scope::new(TimeRange::ALL, budget));
    let view = BlockSource::new(vec![Arc::new(block)]).open(Arc::clone(&scope))?;
    let rows = view.select(Select::new(vec![], TimeRange::ALL));
    suite::collect(rows, &scope, TimeRange::ALL).map(|s| s.values().map(Vec::len).sum())
}

#[test]
fn a_disk_that_fails_is_an_error_at_every_read() {
    let dir = tempfile::tempdir().unwrap();
    let meta = write(dir.path(), ramps(400, 300)).unwrap();
    let (index, segments) = files(&dir.path().join(meta.ulid.to_string()));
    assert!(segments.len() > 1);
    let open = |index_from, segments_from| {
        let faulty = |b: &Bytes, from| Arc::new(FaultyAt::new(Arc::new(b.clone()), from));
        let of = |b: &Bytes| -> Arc<dyn ReadAt> { faulty(b, segments_from) };
        let segments = Segments::new(segments.iter().map(of).collect())?;
        Block::from_parts(
            meta.clone(),
            faulty(&index, index_from),
            segments,
            Tombstones::new(),
        )
    };
    let run = |index_from, segments_from| match open(index_from, segments_from) {
        Ok(block) => collect_all(block, Budget::unlimited()).map_err(|e| e.kind),
        Err(e) => Err(e.kind()),
    };
    for n in 0..8 {
        assert_eq!(run(n, u64::MAX), Err(Kind::Unavailable), "index read {n}");
    }
    for n in 0..2 {
        assert_eq!(run(u64::MAX, n), Err(Kind::Unavailable), "segment read {n}");
    }
    assert_eq!(run(u64::MAX, u64::MAX), Ok(400 * 300));
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let meta = Meta::new(Ulid::generate(), TimeRange::new(0, 10));
    let mut writer = Writer::create(dir.path(), meta, SymbolSet::collect(["a", "b"])).unwrap();
    let mut encoder = xor::Encoder::new();
    encoder.append(1, 1.0);
    let chunk = Chunk {
        min: 1,
        max: 1,
        encoding: Encoding::XOR,
        data: encoder.bytes(),
    };
    let labels = Labels::from_pairs([("a", "b")]);
    writer.add_labels(&labels, &[chunk]).unwrap();
    let unknown = Labels::from_pairs([("a", "c")]);
    assert!(writer.add_labels(&unknown, &[chunk]).is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    drop(writer);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    // A block without series is no block.
    assert!(write(dir.path(), Vec::new()).is_none());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A flipped bit or a cut is an error, or it touched what nobody reads; it is never another
    /// answer, never a panic, and never much memory.
    #[test]
    fn damage_is_never_another_answer(
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
        cut in any::<bool>(),
        in_index in any::<bool>(),
        as_file in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let meta = write(dir.path(), ramps(20, 150)).unwrap();
        let (mut index, mut segments) = files(&dir.path().join(meta.ulid.to_string()));
        let target = if in_index { &mut index } else { &mut segments[0] };
        let mut bytes = target.to_vec();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << bit;
        }
        *target = bytes.into();
        // Reading through another reader takes the path of files.
        let part = |b: &Bytes| -> Arc<dyn ReadAt> {
            match as_file {
                true => Arc::new(FaultyAt::new(Arc::new(b.clone()), u64::MAX)),
                false => Arc::new(b.clone()),
            }
        };
        let block = Segments::new(segments.iter().map(part).collect())
            .and_then(|s| Block::from_parts(meta, part(&index), s, Tombstones::new()));
        if let Ok(block) = block
            && let Ok(samples) = collect_all(block, Budget::new("test", 1 << 20))
        {
            prop_assert_eq!(samples, 20 * 150);
        }
    }

    /// A disk that fails at random, now with an error, now with too few bytes, now with a bit that has
    /// turned round: every reader gives an error or the right answer.
    #[test]
    fn a_disk_that_fails_at_random(seed in any::<u64>(), one_in in 1u64..30, deleted in any::<bool>()) {
        let (meta, index, segments, want) = with_histograms();
        let faulty = |b: &Bytes, salt: u64| -> Arc<dyn ReadAt> {
            Arc::new(FaultyAt::seeded(Arc::new(b.clone()), seed ^ salt << 32, one_in))
        };
        let parts = segments.iter().enumerate();
        let segments = Segments::new(parts.map(|(i, b)| faulty(b, i as u64 + 1)).collect());
        let mut tombstones = Tombstones::new();
        let mut want = want.clone();
        if deleted {
            // Of every series; only ids that exist matter.
            let gone = TimeRange::new(1_700_000_100_000, 1_700_000_200_000);
            (0..4_000).for_each(|id| tombstones.add(id, gone));
            want.retain(|(ts, _)| !gone.contains(*ts));
        }
        let block = segments.and_then(|s| Block::from_parts(meta.clone(), faulty(index, 0), s, tombstones));
        let Ok(block) = block else {
            return Ok(());
        };
        let block = Arc::new(block);
        let scope = Arc::new(Scope::new(TimeRange::ALL, Budget::new("test", 1 << 22)));
        let view = BlockSource::new(vec![Arc::clone(&block)]).open(Arc::clone(&scope)).unwrap();
        let rows = view.select(Select::new(vec![], TimeRange::ALL));
        if let Ok(all) = suite::collect_columns(rows, &scope, TimeRange::ALL) {
            prop_assert_eq!(times(all.values()), want.clone());
        }
        // Label names and values, and a merge, on the same disk.
        let names = LabelSelect { matchers: vec![], range: TimeRange::ALL, limit: 0 };
        if let Ok(names) = futures::executor::block_on(view.label_names(names)) {
            prop_assert_eq!(names.value.len(), 2);
        }
        let (mut merger, _) = match crate::merge::Merger::new(&[block], Default::default()) {
            Ok(merger) => merger,
            Err(_) => return Ok(()),
        };
        let mut columns = chunk::Columns::default();
        let mut merged = crate::merge::Merged::default();
        let mut all = Vec::new();
        loop {
            match merger.next(&mut merged) {
                Err(_) => return Ok(()),
                Ok(false) => break,
                Ok(true) => {}
            }
            columns.clear();
            for c in &merged.chunks {
                chunk::decode(c.encoding, &c.data, &mut columns).unwrap();
            }
            all.extend(times([&columns].into_iter()));
        }
        all.sort_unstable();
        prop_assert_eq!(all, want);
    }
}

/// Times and bits of all samples, ascending.
fn times<'a>(all: impl Iterator<Item = &'a chunk::Columns>) -> Vec<(i64, u64)> {
    let mut list: Vec<_> = all
        .flat_map(|c| {
            let floats = c.iter().map(|(ts, value)| (ts, value.to_bits()));
            floats.chain(
                c.histograms
                    .iter()
                    .map(|(ts, h)| (ts, h.scalars.sum.to_bits())),
            )
        })
        .collect();
    list.sort_unstable();
    list
}

/// Meta, index, segments, and times and bits of all samples.
type Parts = (Meta, Bytes, Vec<Bytes>, Vec<(i64, u64)>);

/// The parts of a block with all kinds of samples, and what is in it. Written once.
fn with_histograms() -> &'static Parts {
    static PARTS: std::sync::OnceLock<Parts> = std::sync::OnceLock::new();
    PARTS.get_or_init(|| {
        let series = (0..30).map(|i| {
            let labels = Labels::from_pairs([("i", format!("{i:05}")), ("j", "x".to_owned())]);
            let mut one = StoredSeries::floats(labels, Vec::new());
            for k in 0..200i64 {
                let ts = 1_700_000_000_000 + k * 2_000 + i;
                if k / 50 % 2 == 0 {
                    let value = (k * i % 7) as f64;
                    one.floats.push(Sample { ts, value });
                    one.starts.push(if i % 3 == 0 { ts - 500 } else { 0 });
                } else {
                    let counts = IntBuckets::from_pairs([(0, k), (1 + k as i32 / 60, k * 3)]);
                    let value = Histogram::Int(IntHistogram {
                        count: k as u64 * 4,
                        sum: k as f64,
                        positive: counts,
                        ..IntHistogram::default()
                    });
                    let start = 0;
                    one.histograms.push(HistogramRow { ts, start, value });
                }
            }
            one
        });
        let series: Vec<StoredSeries> = series.collect();
        let dir = tempfile::tempdir().unwrap();
        let meta = Plan::default()
            .write(dir.path(), series.clone())
            .unwrap()
            .unwrap();
        let (index, segments) = files(&dir.path().join(meta.ulid.to_string()));
        let mut want: Vec<_> = series
            .iter()
            .flat_map(|s| {
                let floats = s.floats.iter().map(|s| (s.ts, s.value.to_bits()));
                floats.chain(s.histograms.iter().map(|h| (h.ts, h.value.sum().to_bits())))
            })
            .collect();
        want.sort_unstable();
        (meta, index, segments, want)
    })
}
