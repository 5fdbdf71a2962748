//! Batches made of pieces of other batches.

use std::sync::Arc;

use bytes::Bytes;
use model::{ChunkRef, Reservation, Scope, SeriesBatch, SourceError, Symbol};

use crate::merge::Keyed;

/// A buffer that is not in the new batch yet, or that never was anywhere.
const UNKNOWN: u32 = u32::MAX;

/// A batch that is being made: labels are pushed into it, chunks are taken over from others.
pub(crate) struct Packer {
    pub(crate) batch: SeriesBatch,
    /// Which buffers of which input batches are in it already.
    known: Vec<(Arc<Keyed>, Vec<u32>)>,
    /// Bytes of the chunks.
    pub(crate) bytes: u64,
}

impl Packer {
    pub(crate) fn new(scope: &Arc<Scope>) -> Result<Self, SourceError> {
        Ok(Self {
            batch: SeriesBatch {
                reservation: Some(scope.budget.reserve("series", 0)?),
                ..SeriesBatch::default()
            },
            known: Vec::new(),
            bytes: 0,
        })
    }

    /// Takes over a chunk of another batch.
    pub(crate) fn chunk(&mut self, from: &Arc<Keyed>, chunk: ChunkRef) {
        let buffer = self.buffer(from, chunk.buffer);
        self.bytes += u64::from(chunk.len);
        self.batch.chunks.push(ChunkRef { buffer, ..chunk });
    }

    /// The number that a buffer of another batch has in this one.
    fn buffer(&mut self, keyed: &Arc<Keyed>, number: u32) -> u32 {
        let known = self.known.iter().rposition(|(k, _)| Arc::ptr_eq(k, keyed));
        let at = known.unwrap_or_else(|| {
            let fresh = vec![UNKNOWN; keyed.batch.buffers.len()];
            self.known.push((Arc::clone(keyed), fresh));
            self.known.len() - 1
        });
        let (source, numbers) = &mut self.known[at];
        let (Some(slot), Some(bytes)) = (
            numbers.get_mut(number as usize),
            source.batch.buffers.get(number as usize),
        ) else {
            return UNKNOWN; // a reference to nowhere stays one
        };
        if *slot == UNKNOWN {
            *slot = self.batch.buffers.len() as u32;
            self.batch.buffers.push(bytes.clone());
        }
        *slot
    }

    /// Ends a series whose chunks begin at `start`: they are put into order.
    pub(crate) fn finish_series(&mut self, start: usize) {
        let chunks = &mut self.batch.chunks[start..];
        if !chunks.is_sorted_by_key(|c| (c.lane, c.min, c.max)) {
            chunks.sort_by_key(|c| (c.lane, c.min, c.max));
        }
        self.batch.finish_series();
    }

    /// Sets aside what the batch holds besides its buffers, which hold their own.
    pub(crate) fn finish(mut self) -> Result<SeriesBatch, SourceError> {
        let bytes = own_bytes(&self.batch);
        if let Some(reservation) = &mut self.batch.reservation {
            reservation.grow("series", bytes)?;
        }
        Ok(self.batch)
    }
}

/// Memory of a batch without its buffers.
pub(crate) fn own_bytes(batch: &SeriesBatch) -> u64 {
    let bytes = batch.labels.len() * size_of::<(Symbol, Symbol)>()
        + batch.chunks.len() * size_of::<ChunkRef>()
        + batch.series.len() * size_of::<model::SeriesEntry>();
    bytes as u64
}

/// Bytes that share the reservation of the batch they came in.
struct Shared {
    bytes: Bytes,
    _reservation: Arc<Reservation>,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The buffers of a batch go their own ways, so each keeps the batch's memory set aside.
pub(crate) fn keyed(mut batch: SeriesBatch) -> Keyed {
    if let Some(reservation) = batch.reservation.take() {
        let reservation = Arc::new(reservation);
        for buffer in &mut batch.buffers {
            *buffer = Bytes::from_owner(Shared {
                bytes: std::mem::take(buffer),
                _reservation: Arc::clone(&reservation),
            });
        }
    }
    Keyed::from(batch)
}
