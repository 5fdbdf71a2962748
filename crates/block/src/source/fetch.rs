use std::sync::Arc;

use bytes::Bytes;
use chunk::aggregate;
use model::source::Aggregate;
use model::{ChunkRef, Encoding, SeriesBatch, SourceError, Statistics};

use super::found::{Found, Place};
use super::list::Shared;
use crate::BlockError;
use crate::chunks::{self, parse, split};
use crate::read_at::{Span, coalesce};
use crate::tombstones::cut_out;

/// Chunks at most so many bytes apart are read together: copying these costs about as much as
/// another read.
const GAP: u64 = 4 << 10;
/// One read is at most so long.
const MAX_READ: u64 = 1 << 20;
/// The length of a chunk is not known before it is read: nearly all are shorter than this.
const GUESS: u64 = 1100;

/// Fetches the chunks of listed series. Keeps its working memory between batches.
pub(super) struct Fetcher {
    shared: Arc<Shared>,
    wanted: Vec<Wanted>,
    /// What was found of them: by slot, several of one that was cut or that has several columns.
    refs: Vec<(u32, ChunkRef)>,
}

#[derive(Clone, Copy)]
struct Wanted {
    /// Which block of the select, which segment in it and where in that.
    block: u16,
    reference: u64,
    /// Its number among the chunks of the batch.
    slot: u32,
    place: Place,
}

impl Fetcher {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            wanted: Vec::new(),
            refs: Vec::new(),
        }
    }

    /// A batch of the series numbered in `which`; none if nothing is left of them.
    pub(super) fn batch(
        &mut self,
        found: &Found,
        which: impl Iterator<Item = u32> + Clone,
    ) -> Result<Option<SeriesBatch>, SourceError> {
        let shared = Arc::clone(&self.shared);
        let scope = &shared.pinned.scope;
        let mut batch = SeriesBatch::default();
        let mut reservation = scope.budget.reserve("series", 0)?;
        let skip_chunks = shared.select.skip_chunks;
        self.wanted.clear();
        for i in which.clone() {
            for place in found.chunks_of(i as usize) {
                let slot = self.wanted.len() as u32;
                self.wanted.push(Wanted {
                    block: place.block,
                    reference: place.meta.reference,
                    slot,
                    place: *place,
                });
            }
        }
        // Where some samples are deleted, only the chunks tell whether any are left.
        let needed = !skip_chunks || self.wanted.iter().any(|w| w.place.touched);
        self.refs.clear();
        if needed {
            if skip_chunks {
                self.wanted.retain(|w| w.place.touched);
            }
            let ascends = |a: &Wanted, b: &Wanted| (a.block, a.reference) <= (b.block, b.reference);
            if !self.wanted.is_sorted_by(ascends) {
                self.wanted.sort_unstable_by_key(|w| (w.block, w.reference));
            }
            self.read(&mut batch, &mut reservation)?;
            if !self.refs.is_sorted_by_key(|r| r.0) {
                // Stable: what was cut out of one chunk stays in order.
                self.refs.sort_by_key(|r| r.0);
            }
        }
        let mut end = 0;
        let mut refs = self.refs.iter().peekable();
        for i in which {
            let places = found.chunks_of(i as usize);
            end += places.len() as u32;
            let before = batch.chunks.len();
            while let Some((_, reference)) = refs.next_if(|r| r.0 < end) {
                batch.chunks.push(*reference);
            }
            if let Some(chunks) = batch.chunks.get_mut(before..)
                && places.iter().any(|p| p.touched)
            {
                // What is left of a chunk may begin later than the next one.
                chunks.sort_by_key(|c| (c.min, c.max));
            }
            let any =
                batch.chunks.len() > before || skip_chunks && places.iter().any(|p| !p.touched);
            if skip_chunks {
                batch.chunks.truncate(before);
            }
            if any {
                batch.labels.extend_from_slice(found.labels_of(i as usize));
                batch.finish_series();
            }
        }
        if batch.is_empty() {
            return Ok(None);
        }
        if skip_chunks {
            batch.buffers.clear();
        }
        let bytes = size_of_val(batch.labels.as_slice())
            + size_of_val(batch.chunks.as_slice())
            + size_of_val(batch.series.as_slice());
        reservation.grow("series", bytes as u64)?;
        Statistics::add(&scope.statistics.series, batch.len() as u64);
        Statistics::add(&scope.statistics.chunks, batch.chunks.len() as u64);
        Statistics::add(&scope.statistics.bytes, reservation.bytes());
        batch.reservation = Some(reservation);
        Ok(Some(batch))
    }

    /// Reads all wanted chunks, in the order in which they lie.
    fn read(
        &mut self,
        batch: &mut SeriesBatch,
        reservation: &mut model::Reservation,
    ) -> Result<(), SourceError> {
        let mut rewritten = Vec::new();
        let wanted = std::mem::take(&mut self.wanted);
        let same =
            |a: &Wanted, b: &Wanted| a.block == b.block && a.reference >> 32 == b.reference >> 32;
        for of_segment in wanted.chunk_by(same) {
            let Some(first) = of_segment.first() else {
                continue;
            };
            let shared = Arc::clone(&self.shared);
            let block = shared.pinned.block(shared.blocks[first.block as usize]);
            let (number, _) = split(first.reference);
            let segment = block.segments().get(number)?;
            if let Some(whole) = segment.whole() {
                let buffer = batch.buffers.len() as u32;
                for w in of_segment {
                    let offset = split(w.reference).1;
                    let bytes = whole.get(offset as usize..).unwrap_or_default();
                    self.take(w, bytes, offset, buffer, &mut rewritten)?
                        .map_err(|_| BlockError::corrupt("chunks: a chunk is truncated"))?;
                }
                batch.buffers.push(whole);
                continue;
            }
            let len = segment.len();
            let span = |w: &Wanted| {
                let offset = split(w.reference).1 as u64;
                Span {
                    offset,
                    len: GUESS.min(len.saturating_sub(offset)),
                }
            };
            let mut next = 0;
            coalesce(
                of_segment.iter().map(span),
                GAP,
                MAX_READ,
                |span, count| -> Result<(), SourceError> {
                    reservation.grow("chunks", span.len)?;
                    let read = chunks::read_up_to(segment, span.offset, span.len)?;
                    let buffer = batch.buffers.len() as u32;
                    batch.buffers.push(read.clone());
                    for w in &of_segment[next..next + count] {
                        // A read is at most 1 MiB.
                        let skip = (split(w.reference).1 as u64 - span.offset) as u32;
                        let bytes = read.get(skip as usize..).unwrap_or_default();
                        if let Err(need) = self.take(w, bytes, skip, buffer, &mut rewritten)? {
                            let alone = self.read_alone(w, segment, need as u64)?;
                            reservation.grow("chunks", alone.len() as u64)?;
                            let buffer = batch.buffers.len() as u32;
                            self.take(w, &alone, 0, buffer, &mut rewritten)?
                                .map_err(|_| BlockError::corrupt("chunks: a chunk is truncated"))?;
                            batch.buffers.push(alone);
                        }
                    }
                    next += count;
                    Ok(())
                },
            )?;
        }
        self.wanted = wanted;
        if !rewritten.is_empty() {
            let buffer = batch.buffers.len() as u32;
            for (_, r) in &mut self.refs {
                if r.buffer == REWRITTEN {
                    r.buffer = buffer;
                }
            }
            reservation.grow("chunks", rewritten.len() as u64)?;
            batch.buffers.push(rewritten.into());
        }
        Ok(())
    }

    /// A chunk longer than the guess; `need` is what its beginning says.
    fn read_alone(
        &self,
        w: &Wanted,
        segment: &Arc<dyn crate::read_at::ReadAt>,
        need: u64,
    ) -> Result<Bytes, BlockError> {
        let offset = split(w.reference).1 as u64;
        if need > segment.len().saturating_sub(offset) {
            return Err(BlockError::corrupt("chunks: a chunk is truncated"));
        }
        chunks::read_up_to(segment, offset, need)
    }

    /// Notes where the chunk that begins `bytes` is; `Ok(Err(n))`: it has `n` bytes.
    #[inline]
    fn take(
        &mut self,
        w: &Wanted,
        bytes: &[u8],
        offset: u32,
        buffer: u32,
        rewritten: &mut Vec<u8>,
    ) -> Result<Result<(), usize>, BlockError> {
        let frame = match parse(bytes)? {
            Ok(frame) => frame,
            Err(need) => return Ok(Err(need)),
        };
        let reference = ChunkRef {
            min: w.place.meta.min,
            max: w.place.meta.max,
            encoding: frame.encoding,
            aggregate: Aggregate::Raw,
            lane: 0,
            buffer,
            offset: offset + frame.start as u32,
            len: frame.len as u32,
        };
        let data = &bytes[frame.start..frame.start + frame.len];
        match w.place.touched {
            true => self.rewrite(w, reference, data, rewritten)?,
            false => self.add(w.slot, reference, data)?,
        }
        Ok(Ok(()))
    }

    /// Notes a chunk, or those columns of it that are wanted.
    #[inline]
    fn add(&mut self, slot: u32, reference: ChunkRef, data: &[u8]) -> Result<(), BlockError> {
        if reference.encoding != Encoding::AGGREGATE {
            self.refs.push((slot, reference));
            return Ok(());
        }
        for part in aggregate::parts(data) {
            let part = part?;
            if self.shared.select.aggregates & part.aggregate as u8 != 0 {
                let column = ChunkRef {
                    encoding: part.encoding,
                    aggregate: part.aggregate,
                    // Inside a chunk, whose length is one of 32 bits.
                    offset: reference.offset + part.range.start as u32,
                    len: part.range.len() as u32,
                    ..reference
                };
                self.refs.push((slot, column));
            }
        }
        Ok(())
    }

    /// Encodes a chunk again without what is deleted of it.
    fn rewrite(
        &mut self,
        w: &Wanted,
        reference: ChunkRef,
        data: &[u8],
        rewritten: &mut Vec<u8>,
    ) -> Result<(), BlockError> {
        let shared = Arc::clone(&self.shared);
        let block = shared.pinned.block(shared.blocks[w.block as usize]);
        let deleted = block.tombstones().of(w.place.id as u64);
        for left in cut_out(reference.encoding, data, deleted)? {
            if !left.range.overlaps(shared.select.range) {
                continue;
            }
            let too_many = |_| BlockError::Invalid("too many chunks with deleted samples".into());
            let left_ref = ChunkRef {
                min: left.range.min,
                max: left.range.max,
                encoding: left.encoding,
                buffer: REWRITTEN,
                offset: u32::try_from(rewritten.len()).map_err(too_many)?,
                len: left.data.len() as u32,
                ..reference
            };
            rewritten.extend_from_slice(&left.data);
            self.add(w.slot, left_ref, &left.data)?;
        }
        Ok(())
    }
}

/// Stands for the buffer of rewritten chunks until its number is known.
const REWRITTEN: u32 = u32::MAX;
