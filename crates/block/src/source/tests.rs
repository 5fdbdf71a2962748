use std::path::Path;
use std::sync::Arc;

use chunk::{suite, xor};
use model::{Encoding, Labels, Sample, Source, TimeRange};
use tempfile::TempDir;
use ulid::Ulid;

use super::*;
use crate::index::SymbolSet;
use crate::{Access, Chunk, Meta, Writer};

type Series = Vec<(Labels, Vec<Sample>)>;

/// Writes a block of chunks of at most `per_chunk` samples.
fn write(dir: &Path, mut series: Series, per_chunk: usize) -> Option<Meta> {
    series.sort_by(|a, b| a.0.cmp(&b.0));
    let all = series.iter().flat_map(|s| &s.1);
    let range = all.fold(TimeRange::EMPTY, |r, s| r.union(TimeRange::new(s.ts, s.ts)));
    let symbols = SymbolSet::collect(
        series
            .iter()
            .flat_map(|(l, _)| l.iter())
            .flat_map(|(n, v)| [n, v]),
    );
    let meta = Meta::new(Ulid::generate(), range);
    // Small segments, so that there are several.
    let mut writer = Writer::with_segments(dir, meta, symbols, 20_000).unwrap();
    for (labels, samples) in &series {
        let encoded: Vec<_> = samples
            .chunks(per_chunk)
            .map(|c| {
                let mut e = xor::Encoder::new();
                for s in c {
                    e.append(s.ts, s.value);
                }
                (c[0].ts, c[c.len() - 1].ts, e.into_bytes())
            })
            .collect();
        let chunks: Vec<Chunk<'_>> = encoded
            .iter()
            .map(|(min, max, data)| Chunk {
                min: *min,
                max: *max,
                encoding: Encoding::XOR,
                data,
            })
            .collect();
        writer.add_labels(labels, &chunks).unwrap();
    }
    writer.finish().unwrap()
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

fn source(
    access: Access,
    blocks: impl Fn(Series) -> Vec<Series>,
    series: Series,
) -> Arc<dyn Source> {
    let dir = tempfile::tempdir().unwrap();
    let blocks = blocks(series)
        .into_iter()
        .filter_map(|s| write(dir.path(), s, 120))
        .map(|m| Arc::new(Block::open_with(&dir.path().join(m.ulid.to_string()), access).unwrap()))
        .collect();
    Arc::new(Held(BlockSource::new(blocks), dir))
}

#[test]
fn one_block() {
    suite::source("one block", |s| source(Access::Read, |s| vec![s], s));
    suite::source("one mapped block", |s| source(Access::Map, |s| vec![s], s));
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
    suite::source("side by side", |s| source(Access::Read, divide, s));
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
    suite::source("on top", |s| source(Access::Read, deal, s));
    suite::source("on top, mapped", |s| source(Access::Map, deal, s));
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
    suite::source("different series", |s| source(Access::Map, deal, s));
}
