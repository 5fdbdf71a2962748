//! A block written again without some of its series, or with other labels.

use std::path::Path;
use std::sync::Arc;

use block::index::{ChunkMeta, SymbolSet};
use block::merge::MergedChunk;
use block::tombstones::cut_out;
use block::{Block, BlockError, Chunk, Meta, Writer};
use chunk::Chunker;
use chunk::samples::Samples;
use model::relabel::{self, Rule};
use model::{Encoding, Labels, Matcher, Millis, TimeRange};

use crate::Error;

/// What is to be deleted.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// Of which series.
    pub matchers: Vec<Matcher>,
    /// Which times; none: all.
    pub intervals: Vec<TimeRange>,
}

/// What is to be changed.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// Deleted first.
    pub deletions: Vec<Deletion>,
    /// Then the labels of what is left are changed.
    pub relabel: Vec<Rule>,
    /// Times in which all series are deleted.
    pub outside: Vec<TimeRange>,
}

/// What happens to a series.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// These times of it are deleted.
    Deleted(Labels, Vec<TimeRange>),
    /// It gets other labels; none: it is dropped.
    Relabelled(Labels, Option<Labels>),
}

/// The series that stay: their labels, their ids and what is deleted of them.
pub struct Plan {
    kept: Vec<(Labels, u32, Vec<TimeRange>)>,
}

impl Rewrite {
    /// Goes through the index and tells every change. Memory: the labels of all series.
    pub fn plan(&self, block: &Block, mut tell: impl FnMut(Change)) -> Result<Plan, Error> {
        let ids = block.index().all_series()?;
        let mut reader = block.index().series();
        let mut ordinals = Vec::new();
        let mut kept = Vec::new();
        for (i, &id) in ids.iter().enumerate() {
            ordinals.clear();
            let upcoming = ids.get(i + 1..).unwrap_or_default();
            let upcoming = upcoming.get(..upcoming.len().min(256)).unwrap_or_default();
            reader.labels(id, upcoming, &mut ordinals)?;
            let symbol = |ordinal| {
                let symbol = block.index().symbols().get(ordinal);
                symbol.ok_or_else(|| BlockError::Corrupt("index: an unknown symbol".into()))
            };
            let mut pairs = Vec::with_capacity(ordinals.len());
            for &(name, value) in &ordinals {
                pairs.push((symbol(name)?, symbol(value)?));
            }
            let labels = Labels::from_pairs(pairs);
            let mut deleted = Vec::new();
            for deletion in &self.deletions {
                let matches = |m: &Matcher| m.matches(labels.get(&m.name).unwrap_or(""));
                if !deletion.matchers.iter().all(matches) {
                    continue;
                }
                match deletion.intervals.as_slice() {
                    [] => deleted.push(TimeRange::ALL),
                    some => deleted.extend_from_slice(some),
                }
            }
            let whole = deleted.contains(&TimeRange::ALL);
            if !deleted.is_empty() {
                tell(Change::Deleted(labels.clone(), deleted.clone()));
            }
            if whole {
                continue;
            }
            deleted.extend_from_slice(&self.outside);
            let changed = match self.relabel.is_empty() {
                true => Some(labels.clone()),
                false => relabel::process(&labels, &self.relabel).filter(|l| !l.is_empty()),
            };
            if changed.as_ref() != Some(&labels) {
                tell(Change::Relabelled(labels, changed.clone()));
            }
            if let Some(changed) = changed {
                kept.push((changed, id, deleted));
            }
        }
        // Stable: of series that become one the one that came first wins.
        kept.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Plan { kept })
    }
}

impl Plan {
    /// Writes what stays of `block` into a new block described by `meta`. None if no sample stays.
    pub fn write(
        &self,
        block: &Arc<Block>,
        fs: Arc<dyn block::fs::Fs>,
        parent: &Path,
        meta: Meta,
    ) -> Result<Option<Meta>, Error> {
        let pairs = self.kept.iter().flat_map(|(labels, ..)| labels.iter());
        let symbols = SymbolSet::collect(pairs.flat_map(|(name, value)| [name, value]));
        let mut writer = Writer::create_on(fs, parent, meta, symbols)?;
        let mut reader = block.index().series();
        let (mut ordinals, mut metas) = (Vec::new(), Vec::<ChunkMeta>::new());
        for same in self.kept.chunk_by(|a, b| a.0 == b.0) {
            let mut chunks: Vec<MergedChunk> = Vec::new();
            for (_, id, deleted) in same {
                ordinals.clear();
                metas.clear();
                reader.decode(*id, &[], TimeRange::ALL, &mut ordinals, &mut metas)?;
                for at in &metas {
                    chunks.extend(left(block, at, *id, deleted)?);
                }
            }
            chunks.sort_by_key(|c| (c.min, c.max));
            let chunks = apart(chunks)?;
            let borrowed: Vec<Chunk<'_>> = chunks.iter().map(MergedChunk::borrow).collect();
            if let Some((labels, ..)) = same.first() {
                writer.add_labels(labels, &borrowed)?;
            }
        }
        Ok(writer.finish()?)
    }
}

/// What is left of a chunk.
fn left(
    block: &Block,
    at: &ChunkMeta,
    id: u32,
    deleted: &[TimeRange],
) -> Result<Vec<MergedChunk>, Error> {
    let of_series = block.tombstones().of(u64::from(id));
    let range = TimeRange::new(at.min, at.max);
    let touching = deleted.iter().chain(of_series).copied();
    let touching: Vec<TimeRange> = touching.filter(|d| d.overlaps(range)).collect();
    let covers = |d: &TimeRange| d.min <= range.min && d.max >= range.max;
    if touching.iter().any(covers) {
        return Ok(Vec::new());
    }
    let (encoding, data) = block.segments().chunk(at.reference)?;
    if touching.is_empty() {
        return Ok(vec![MergedChunk {
            min: at.min,
            max: at.max,
            encoding,
            data,
        }]);
    }
    let left = cut_out(encoding, &data, &touching)?;
    Ok(left.into_iter().map(MergedChunk::from).collect())
}

/// Unites chunks that overlap.
fn apart(chunks: Vec<MergedChunk>) -> Result<Vec<MergedChunk>, Error> {
    let mut out: Vec<MergedChunk> = Vec::with_capacity(chunks.len());
    let mut rest = chunks.as_slice();
    while let Some(first) = rest.first() {
        let mut end: Millis = first.max;
        let overlapping = rest.iter().take_while(|c| {
            let overlaps = c.min <= end;
            end = end.max(c.max);
            overlaps
        });
        let (run, behind) = rest.split_at(overlapping.count().max(1));
        rest = behind;
        if let [one] = run {
            out.push(one.clone());
            continue;
        }
        if run.iter().any(|c| c.encoding == Encoding::AGGREGATE) {
            let (min, max) = (first.min, end);
            return Err(Error::Halt(format!(
                "downsampled chunks overlap at {min} to {max}: their columns cannot be united"
            )));
        }
        let mut united = Samples::default();
        for c in run {
            let mut samples = Samples::default();
            samples.add(c.encoding, &c.data).map_err(BlockError::from)?;
            united.unite(samples);
        }
        let mut chunker = Chunker::default();
        united.encode(&mut chunker).map_err(BlockError::from)?;
        out.extend(chunker.finish().into_iter().map(MergedChunk::from));
    }
    Ok(out)
}
