//! Several blocks made one, series by series, in memory that does not grow with them.
//!
//! Series come out in the order of labels. Where the chunks of a series do not overlap their bytes
//! are copied; where they do (blocks that cover the same time) their samples are united by
//! timestamp, the block given first winning, and encoded again: floats as XOR (XOR2 where they have
//! start timestamps), histograms with their exact integers and, cut off from what was before them,
//! with a header that knows of no reset. Deleted samples are left out.
//!
//! One block alone is written again without what its tombstones delete.

mod chunks;
mod series;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use model::{Cancel, Encoding, Millis, Stopped};
use ulid::Ulid;

use crate::fs::{self, Fs};
use crate::index::SymbolSet;
use crate::meta::{Compaction, Parent};
use crate::postings::sets;
use crate::{Block, BlockError, Chunk, Meta, Writer};

use chunks::Combiner;
use series::{AHEAD, Head};

/// What becomes of chunks of one series that overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// Every timestamp is kept once; the block given first wins.
    #[default]
    Unite,
    /// Blocks are replicas of one another: one is followed, another only where it has a gap
    /// ([`chunk::dedup::penalty`]).
    Penalty,
}

/// The meta of a block made of others: their time, all their sources, one level up. What Thanos
/// says is for whoever merges to say.
pub fn meta_of(ulid: Ulid, inputs: &[&Meta]) -> Meta {
    let min_time = inputs.iter().map(|m| m.min_time).min().unwrap_or(0);
    let max_time = inputs.iter().map(|m| m.max_time).max().unwrap_or(0);
    let mut sources: Vec<Ulid> = inputs
        .iter()
        .flat_map(|m| m.compaction.sources.iter().copied())
        .collect();
    sources.sort_unstable();
    sources.dedup();
    let level = inputs.iter().map(|m| m.compaction.level).max().unwrap_or(0);
    // A hint says what a block is not (the end of the ordered data): one input without it is.
    let mut hints = inputs
        .first()
        .map_or(Vec::new(), |m| m.compaction.hints.clone());
    hints.retain(|h| inputs.iter().all(|m| m.compaction.hints.contains(h)));
    Meta {
        min_time,
        max_time,
        compaction: Compaction {
            level: level.saturating_add(1),
            sources,
            parents: inputs
                .iter()
                .map(|m| Parent {
                    ulid: m.ulid,
                    min_time: m.min_time,
                    max_time: m.max_time,
                })
                .collect(),
            hints,
            ..Compaction::default()
        },
        ..Meta::new(ulid, model::TimeRange::new(0, 0))
    }
}

/// Merges `blocks` into a new block in the directory `parent`, described by `meta` (see
/// [`meta_of`]). None if no sample is left. Stops soon after `cancel`.
pub fn merge(
    blocks: &[Arc<Block>],
    parent: &Path,
    meta: Meta,
    cancel: &Cancel,
) -> Result<Option<Meta>, BlockError> {
    merge_on(fs::os(), blocks, parent, meta, cancel)
}

/// Like [`merge`], on any files.
pub fn merge_on(
    fs: Arc<dyn Fs>,
    blocks: &[Arc<Block>],
    parent: &Path,
    meta: Meta,
    cancel: &Cancel,
) -> Result<Option<Meta>, BlockError> {
    let (mut merger, symbols) = Merger::new(blocks, Overlap::Unite)?;
    let mut writer = Writer::create_on(fs, parent, meta, symbols)?;
    let mut series = Merged::default();
    while merger.next(&mut series)? {
        if cancel.is_cancelled() {
            return Err(BlockError::Stopped(Stopped::Cancelled));
        }
        let chunks: Vec<Chunk<'_>> = series.chunks.iter().map(MergedChunk::borrow).collect();
        writer.add(&series.labels, &chunks)?;
    }
    writer.finish()
}

/// A series of the merge.
#[derive(Debug, Default)]
pub struct Merged {
    /// Labels as ordinals of the merged symbols, ascending by name.
    pub labels: Vec<(u32, u32)>,
    /// Chunks, ascending, not overlapping.
    pub chunks: Vec<MergedChunk>,
}

/// A chunk of the merge.
#[derive(Clone, Debug)]
pub struct MergedChunk {
    /// First timestamp, ms.
    pub min: Millis,
    /// Last timestamp, ms.
    pub max: Millis,
    /// How the data is encoded.
    pub encoding: Encoding,
    /// The encoded samples.
    pub data: Bytes,
}

impl From<chunk::EncodedChunk> for MergedChunk {
    fn from(chunk: chunk::EncodedChunk) -> Self {
        Self {
            min: chunk.range.min,
            max: chunk.range.max,
            encoding: chunk.encoding,
            data: chunk.data.into(),
        }
    }
}

impl MergedChunk {
    /// As the writer takes it.
    pub fn borrow(&self) -> Chunk<'_> {
        Chunk {
            min: self.min,
            max: self.max,
            encoding: self.encoding,
            data: &self.data,
        }
    }
}

/// Gives the series of some blocks one after the other.
pub struct Merger {
    heads: Vec<Head>,
    combiner: Combiner,
}

impl Merger {
    /// Begins with all series of `blocks`. Gives the symbols that their labels refer to: all that
    /// the blocks have.
    pub fn new(blocks: &[Arc<Block>], overlap: Overlap) -> Result<(Self, SymbolSet), BlockError> {
        let (symbols, maps) = merge_symbols(blocks)?;
        let head = |(block, map): (&Arc<Block>, _)| -> Result<_, BlockError> {
            let ids = block.index().all_series()?;
            Ok(Head::new(Arc::clone(block), ids, map))
        };
        let heads = blocks.iter().zip(maps).map(head);
        let merger = Self {
            heads: heads.collect::<Result<_, _>>()?,
            combiner: Combiner::new(blocks, overlap),
        };
        Ok((merger, symbols))
    }

    /// Begins with the series of one block, but for those with the ids `dropped`, which ascend. Gives
    /// the symbols of what is left, for which the labels of all that is left are read once more.
    pub fn without(block: &Arc<Block>, dropped: &[u32]) -> Result<(Self, SymbolSet), BlockError> {
        let mut ids = block.index().all_series()?;
        sets::subtract(&mut ids, dropped);
        let (symbols, map) = used_symbols(block, &ids)?;
        let merger = Self {
            heads: vec![Head::new(Arc::clone(block), ids, map)],
            combiner: Combiner::new(std::slice::from_ref(block), Overlap::Unite),
        };
        Ok((merger, symbols))
    }

    /// Puts the next series with samples into `out`; false at the end.
    pub fn next(&mut self, out: &mut Merged) -> Result<bool, BlockError> {
        loop {
            out.labels.clear();
            out.chunks.clear();
            let mut first: Option<usize> = None;
            for i in 0..self.heads.len() {
                let (before, rest) = self.heads.split_at_mut(i);
                let Some(labels) = rest[0].peek()? else {
                    continue;
                };
                let best = first.and_then(|f| before[f].peeked());
                match best.map_or(Ordering::Less, |best| labels.cmp(best)) {
                    Ordering::Less => first = Some(i),
                    Ordering::Equal | Ordering::Greater => {}
                }
            }
            let Some(labels) = first.and_then(|f| self.heads[f].peeked()) else {
                return Ok(false);
            };
            out.labels.extend_from_slice(labels);
            for (i, head) in self.heads.iter_mut().enumerate() {
                if head.peeked() == Some(&out.labels) {
                    self.combiner.add(i, head.chunks(), head.id());
                    head.advance();
                }
            }
            self.combiner.combine(&mut out.chunks)?;
            if !out.chunks.is_empty() {
                return Ok(true);
            }
        }
    }
}

/// The union of the blocks' symbols, and for each block which symbol of the union each of its own
/// is.
fn merge_symbols(blocks: &[Arc<Block>]) -> Result<(SymbolSet, Vec<Vec<u32>>), BlockError> {
    let mut union = SymbolSet::default();
    let mut inputs: Vec<_> = blocks
        .iter()
        .map(|b| b.index().symbols().iter().peekable())
        .collect();
    let mut maps: Vec<Vec<u32>> = blocks
        .iter()
        .map(|b| Vec::with_capacity(b.index().symbols().len() as usize))
        .collect();
    loop {
        let next = inputs
            .iter_mut()
            .filter_map(|input| input.peek().copied())
            .min();
        let Some(next) = next else { break };
        let ordinal = union.len();
        union.push(next)?;
        for (input, map) in inputs.iter_mut().zip(&mut maps) {
            if input.next_if(|s| *s == next).is_some() {
                map.push(ordinal);
            }
        }
    }
    Ok((union, maps))
}

/// The symbols that series of a block use, and where each symbol of the block is among them; what is
/// said of one that is not used means nothing.
fn used_symbols(block: &Block, ids: &[u32]) -> Result<(SymbolSet, Vec<u32>), BlockError> {
    let symbols = block.index().symbols();
    let mut used = vec![false; symbols.len() as usize];
    let mut reader = block.index().series();
    let mut labels = Vec::new();
    for piece in ids.chunks(AHEAD) {
        for (i, &id) in piece.iter().enumerate() {
            labels.clear();
            reader.labels(id, &piece[i + 1..], &mut labels)?;
            for symbol in labels.iter().flat_map(|&(name, value)| [name, value]) {
                if let Some(used) = used.get_mut(symbol as usize) {
                    *used = true;
                }
            }
        }
    }
    let mut left = SymbolSet::default();
    let mut map = Vec::with_capacity(used.len());
    for (symbol, used) in symbols.iter().zip(used) {
        map.push(left.len());
        if used {
            left.push(symbol)?;
        }
    }
    Ok((left, map))
}
