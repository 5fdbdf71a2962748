//! Chunks of some series, fetched together.

use std::collections::BTreeMap;
use std::ops::Range;

use block::BlockError;
use block::chunks::{self, Frame, MAX_FRAME};
use chunk::aggregate;
use model::source::Aggregate;
use model::{ChunkRef, Encoding, SeriesBatch, SourceError, Statistics, TimeRange};
use ulid::Ulid;

use super::Item;
use super::cache::File;
use super::entries::{ChunkAt, Entries};
use super::fetch::{Fetched, Query};
use super::header::Kept;
use crate::merge::Keyed;

/// The longest first read of a chunk whose length is not known, bytes.
const LONGEST_GUESS: u64 = 16_000;
/// The shortest one.
const SHORTEST_GUESS: u64 = 256;
/// Chunks at most this far apart are read together without a thought, bytes.
const NEAR: u64 = 32 << 10;

/// Bytes of all chunks of a block, if it tells.
fn bytes(meta: &block::Meta) -> u64 {
    let segments = meta.files().filter(|f| f.rel_path.starts_with(chunks::DIR));
    segments.map(|f| f.size_bytes).sum()
}

/// Bytes of chunks that a series of a block has in `range`, about; 0 if the block does not tell.
pub(super) fn bytes_of_series(meta: &block::Meta, range: TimeRange) -> u64 {
    let whole = (meta.max_time.saturating_sub(meta.min_time)).max(1) as f64;
    let block = TimeRange::new(meta.min_time, meta.max_time);
    let asked = block.intersect(range);
    let part = asked.max.saturating_sub(asked.min).max(0) as f64 / whole;
    let mean = bytes(meta) as f64 / meta.stats.num_series.max(1) as f64;
    (mean * part.min(1.0)) as u64
}

/// How the chunks of a block are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkReader {
    pub ulid: Ulid,
    /// First read of a chunk whose length is not known, bytes.
    pub guess: u64,
    /// Which columns of downsampled chunks are wanted.
    aggregates: u8,
}

impl ChunkReader {
    /// A first read that is nearly always enough.
    pub(super) fn new(ulid: Ulid, meta: &block::Meta, aggregates: u8) -> Self {
        let thanos = meta.thanos.as_ref();
        let longest = thanos.map_or(0, |t| t.index_stats.chunk_max_size);
        let mean = match meta.stats.num_chunks {
            0 => 0,
            n => bytes(meta) / n,
        };
        let guess = match mean {
            0 => 1024,
            n => n * 2,
        };
        let guess = guess.clamp(SHORTEST_GUESS, LONGEST_GUESS);
        let guess = match longest {
            0 => guess,
            n => guess.min(n + MAX_FRAME),
        };
        Self {
            ulid,
            guess,
            aggregates,
        }
    }

    /// How many bytes a chunk will take, about.
    pub(super) fn estimate(&self, chunk: &ChunkAt) -> u64 {
        match chunk.len {
            0 => self.guess,
            len => u64::from(len),
        }
    }

    /// Cuts the rows of `entries` into batches of about `window` bytes of chunks, at most half as much again if
    /// rows allow.
    ///
    /// What lies together in the file is a run, and every cut inside one costs a request: runs are cut into as
    /// few pieces as there may be, and small ones share a batch.
    pub(super) fn batches(&self, entries: &Entries, window: u64) -> Vec<Range<usize>> {
        let most = window.saturating_add(window / 2);
        let rows = (0..entries.len()).map(|i| {
            let chunks = entries.chunks(i);
            let bytes: u64 = chunks.iter().map(|c| self.estimate(c)).sum();
            let reach = chunks.first().zip(chunks.last());
            let reach = reach.map(|(a, b)| a.reference..b.reference + self.estimate(b));
            (reach, bytes)
        });
        let mut runs: Vec<(Range<usize>, u64)> = Vec::new();
        let mut end = None;
        let mut sizes = Vec::with_capacity(entries.len());
        for (i, (reach, bytes)) in rows.enumerate() {
            sizes.push(bytes);
            let near = reach.as_ref().zip(end).is_none_or(|(reach, end)| {
                // Segments are far apart, for their number stands above the offset.
                reach.start.abs_diff(end) <= NEAR
            });
            match runs.last_mut().filter(|_| near) {
                Some((rows, sum)) => {
                    rows.end = i + 1;
                    *sum += bytes;
                }
                None => runs.push((i..i + 1, bytes)),
            }
            end = reach.map(|r| r.end).or(end);
        }
        let mut batches: Vec<(Range<usize>, u64)> = Vec::new();
        for (rows, sum) in runs {
            let piece = sum
                / sum
                    .saturating_sub(window / 2)
                    .div_ceil(window.max(1))
                    .max(1);
            let mut at = rows.start;
            while at < rows.end {
                let (start, mut bytes) = (at, 0);
                while at < rows.end && (at == start || bytes + sizes[at] / 2 <= piece) {
                    bytes += sizes[at];
                    at += 1;
                }
                match batches.last_mut() {
                    Some((batch, sum)) if *sum + bytes <= most => {
                        batch.end = at;
                        *sum += bytes;
                    }
                    _ => batches.push((start..at, bytes)),
                }
            }
        }
        batches.into_iter().map(|(rows, _)| rows).collect()
    }

    /// Fetches the chunks of the series at places `rows` of `entries`, in that order.
    pub(super) async fn read(
        &self,
        query: &Query,
        entries: &Entries,
        rows: Range<usize>,
        skip_chunks: bool,
    ) -> Result<Keyed, SourceError> {
        let mut keyed = Keyed {
            batch: SeriesBatch {
                reservation: Some(query.scope.budget.reserve("series", 0)?),
                ..SeriesBatch::default()
            },
            ..Keyed::default()
        };
        let all = rows.clone().flat_map(|i| entries.chunks(i));
        let mut placed = match skip_chunks {
            true => Vec::new(),
            false => {
                let all: Vec<ChunkAt> = all.copied().collect();
                self.fetch(query, &all, &mut keyed.batch).await?
            }
        }
        .into_iter();
        let batch = &mut keyed.batch;
        for i in rows {
            batch.labels.extend_from_slice(entries.labels(i));
            keyed.removed.extend_from_slice(entries.removed(i));
            keyed.removed_ends.push(keyed.removed.len() as u32);
            let count = entries.chunks(i).len();
            for chunk in placed.by_ref().take(count) {
                self.columns(chunk, batch)?;
            }
            batch.finish_series();
        }
        if keyed.removed.is_empty() {
            keyed.removed_ends.clear();
        }
        let bytes = batch.labels.len() * 8 + batch.chunks.len() * size_of::<ChunkRef>();
        if let Some(reservation) = &mut batch.reservation {
            reservation.grow("series", bytes as u64)?;
        }
        let statistics = &query.scope.statistics;
        Statistics::add(&statistics.series, batch.series.len() as u64);
        Ok(keyed)
    }

    /// Adds a chunk to the series: a downsampled one as those of its columns that are wanted.
    fn columns(&self, chunk: ChunkRef, batch: &mut SeriesBatch) -> Result<(), SourceError> {
        if chunk.encoding != Encoding::AGGREGATE {
            batch.chunks.push(chunk);
            return Ok(());
        }
        let (start, len) = (chunk.offset as usize, chunk.len as usize);
        let buffer = batch.buffers.get(chunk.buffer as usize);
        let bytes = buffer.and_then(|b| b.get(start..start.checked_add(len)?));
        for part in aggregate::parts(bytes.unwrap_or_default()) {
            let part = part.map_err(|e| {
                let what = format!("block {}: a downsampled chunk: {e}", self.ulid);
                SourceError::from(BlockError::Corrupt(what))
            })?;
            if self.aggregates & part.aggregate as u8 != 0 {
                batch.chunks.push(ChunkRef {
                    encoding: part.encoding,
                    aggregate: part.aggregate,
                    // Both lie within the chunk, whose bounds are `u32`s.
                    offset: chunk.offset + part.range.start as u32,
                    len: part.range.len() as u32,
                    ..chunk
                });
            }
        }
        Ok(())
    }

    /// Fetches all these chunks; their buffers go into the batch.
    async fn fetch(
        &self,
        query: &Query,
        all: &[ChunkAt],
        batch: &mut SeriesBatch,
    ) -> Result<Vec<ChunkRef>, SourceError> {
        let mut placed: Vec<Option<ChunkRef>> = vec![None; all.len()];
        let mut lens: Vec<u64> = all.iter().map(|c| self.estimate(c)).collect();
        let mut open: Vec<usize> = (0..all.len()).collect();
        // A second round only where a guess was too short, a third where not even the length
        // was there.
        for _ in 0..3 {
            if open.is_empty() {
                break;
            }
            let mut by_segment: BTreeMap<u32, Vec<(u64, usize)>> = BTreeMap::new();
            for &i in &open {
                let (segment, offset) = chunks::split(all[i].reference);
                let list = by_segment.entry(segment as u32).or_default();
                list.push((u64::from(offset), i));
            }
            let reads = by_segment.into_iter().map(|(segment, mut list)| {
                list.sort_unstable();
                let spans: Vec<Range<u64>> = list.iter().map(|&(at, i)| at..at + lens[i]).collect();
                async move {
                    let file = File::Chunks(self.ulid, segment);
                    let kept = Kept::default();
                    let fetched = query.fetch(file, Item::Chunks, &spans, &kept, 0).await?;
                    Ok::<_, SourceError>((list, fetched))
                }
            });
            let reads: Vec<(Vec<(u64, usize)>, Fetched)> =
                futures_util::future::try_join_all(reads).await?;
            open.clear();
            for (list, fetched) in reads {
                let first_buffer = batch.buffers.len() as u32;
                for (k, (_, i)) in list.into_iter().enumerate() {
                    match chunks::parse(fetched.from(k))? {
                        Ok(frame) => {
                            let (buffer, at) = fetched.places[k];
                            let place = (first_buffer + buffer, at);
                            placed[i] = Some(reference(&all[i], &frame, place)?);
                        }
                        Err(need) => {
                            lens[i] = need as u64;
                            open.push(i);
                        }
                    }
                }
                batch.buffers.extend(fetched.buffers);
            }
        }
        let placed: Option<Vec<ChunkRef>> = placed.into_iter().collect();
        placed.ok_or_else(|| {
            let what = format!("block {}: a chunk is truncated", self.ulid);
            BlockError::Corrupt(what).into()
        })
    }
}

fn reference(
    chunk: &ChunkAt,
    frame: &Frame,
    (buffer, at): (u32, usize),
) -> Result<ChunkRef, BlockError> {
    let offset = u32::try_from(at + frame.start);
    let len = u32::try_from(frame.len);
    let (Ok(offset), Ok(len)) = (offset, len) else {
        return Err(BlockError::Corrupt(
            "chunks: a chunk of impossible length".into(),
        ));
    };
    Ok(ChunkRef {
        min: chunk.min,
        max: chunk.max,
        encoding: frame.encoding,
        aggregate: Aggregate::Raw,
        lane: 0,
        buffer,
        offset,
        len,
    })
}
