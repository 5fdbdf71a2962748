//! Messages of a `Series` answer become batches.

use std::sync::Arc;
use std::time::Duration;

use model::{Scope, SeriesBatch, SourceError};
use tokio::sync::mpsc::Sender;
use wire::grpc::Streaming;
use wire::series::{Decoder, Frame, Note};

use super::within;
use crate::pack::own_bytes;

/// A batch ends with this many series or bytes of messages.
const SERIES: usize = 256;
const BYTES: u64 = 1 << 20;

/// Series that come one after the other, made into batches.
pub(crate) struct Collected {
    pub(crate) batch: SeriesBatch,
    scope: Arc<Scope>,
    /// Labels were removed, so that equal labels may mean replicas.
    removed: bool,
    bytes: u64,
}

impl Collected {
    pub(crate) fn new(scope: &Arc<Scope>, removed: bool) -> Result<Self, SourceError> {
        Ok(Self {
            batch: empty(scope)?,
            scope: Arc::clone(scope),
            removed,
            bytes: 0,
        })
    }

    /// Series from number `from` on were added, with `bytes` of memory; gives a batch if one is
    /// full. `lanes` says whether the series name their lanes.
    pub(crate) fn took(
        &mut self,
        from: usize,
        bytes: u64,
        lanes: bool,
    ) -> Result<Option<SeriesBatch>, SourceError> {
        self.scope.check()?;
        if let Some(held) = &mut self.batch.reservation {
            held.grow("series of a store", bytes)?;
        }
        self.bytes += bytes;
        unite(&mut self.batch, from, self.removed, lanes);
        if self.batch.len() <= SERIES && (self.bytes < BYTES || self.batch.len() < 2) {
            return Ok(None);
        }
        // The last series may go on in the next message.
        let rest = split_last(&mut self.batch, &self.scope)?;
        let full = std::mem::replace(&mut self.batch, rest);
        self.bytes = 0;
        finish(full, self.removed, lanes).map(Some)
    }

    /// What is left.
    pub(crate) fn finish(self, lanes: bool) -> Result<Option<SeriesBatch>, SourceError> {
        if self.batch.is_empty() && self.batch.warnings.is_empty() {
            return Ok(None);
        }
        finish(self.batch, self.removed, lanes).map(Some)
    }
}

/// Receives all messages. `removed` says that labels were removed.
pub(super) async fn run(
    mut messages: Streaming<Frame>,
    scope: &Arc<Scope>,
    most: Option<Duration>,
    removed: bool,
    send: &Sender<Result<SeriesBatch, SourceError>>,
) -> Result<(), SourceError> {
    let mut decoder = Decoder::default();
    let mut collected = Collected::new(scope, removed)?;
    while let Some(frame) = within(scope, most, messages.message()).await? {
        let len = frame.0.len() as u64;
        model::Statistics::add(&scope.statistics.bytes, len);
        let from = collected.batch.len();
        let note = decoder.read(&frame, &scope.symbols, &mut collected.batch)?;
        if let Some(Note::Warning(text)) = note {
            collected.batch.warnings.push(text);
        }
        if let Some(full) = collected.took(from, len, decoder.lanes)?
            && send.send(Ok(full)).await.is_err()
        {
            return Ok(());
        }
    }
    if let Some(last) = collected.finish(decoder.lanes)? {
        let _ = send.send(Ok(last)).await;
    }
    Ok(())
}

fn empty(scope: &Arc<Scope>) -> Result<SeriesBatch, SourceError> {
    Ok(SeriesBatch {
        reservation: Some(scope.budget.reserve("series of a store", 0)?),
        ..SeriesBatch::default()
    })
}

/// Joins series from number `from` on with the ones before them where they are the same: their
/// labels are equal, and either nothing was removed, or they share a lane, or lanes are not known
/// (and found later).
fn unite(batch: &mut SeriesBatch, from: usize, removed: bool, lanes: bool) {
    let equal = |batch: &SeriesBatch, i: usize| {
        let (a, b) = (batch.labels_of(i - 1), batch.labels_of(i));
        a == b && {
            let (a, b) = (batch.chunks_of(i - 1), batch.chunks_of(i));
            !removed
                || !lanes
                || a.iter()
                    .any(|a| b.first().is_some_and(|b| a.lane == b.lane))
        }
    };
    // Symbols are of one table, so equal labels have equal symbols.
    let first = from.max(1);
    if (first..batch.len()).all(|i| !equal(batch, i)) {
        return;
    }
    let (mut labels, mut series) = (Vec::new(), Vec::new());
    for i in 0..batch.len() {
        if i >= first && equal(batch, i) {
            if let Some(last) = series.last_mut() {
                let last: &mut model::SeriesEntry = last;
                last.chunks_end = batch.series[i].chunks_end;
            }
            continue;
        }
        labels.extend_from_slice(batch.labels_of(i));
        series.push(model::SeriesEntry {
            labels_end: labels.len() as u32,
            chunks_end: batch.series[i].chunks_end,
        });
    }
    batch.labels = labels;
    batch.series = series;
    let mut start = 0;
    for entry in &batch.series {
        let end = entry.chunks_end as usize;
        let chunks = &mut batch.chunks[start..end];
        if !chunks.is_sorted_by_key(|c| (c.lane, c.min, c.max)) {
            chunks.sort_by_key(|c| (c.lane, c.min, c.max));
        }
        start = end;
    }
}

/// Takes the last series out of a batch.
fn split_last(batch: &mut SeriesBatch, scope: &Arc<Scope>) -> Result<SeriesBatch, SourceError> {
    let mut rest = empty(scope)?;
    let Some(last) = batch.len().checked_sub(1) else {
        return Ok(rest);
    };
    rest.labels.extend_from_slice(batch.labels_of(last));
    let chunks = batch.chunks_of(last).to_vec();
    let mut numbers: Vec<(u32, u32)> = Vec::new();
    for mut chunk in chunks {
        let known = numbers
            .iter()
            .find(|(old, _)| *old == chunk.buffer)
            .map(|n| n.1);
        chunk.buffer = match known {
            Some(new) => new,
            None => {
                let new = rest.buffers.len() as u32;
                let bytes = batch
                    .buffers
                    .get(chunk.buffer as usize)
                    .cloned()
                    .unwrap_or_default();
                if let Some(held) = &mut rest.reservation {
                    held.grow("series of a store", bytes.len() as u64)?;
                }
                rest.buffers.push(bytes);
                numbers.push((chunk.buffer, new));
                new
            }
        };
        rest.chunks.push(chunk);
    }
    rest.finish_series();
    batch.series.pop();
    let end = batch.series.last().copied();
    batch
        .labels
        .truncate(end.map_or(0, |e| e.labels_end as usize));
    batch
        .chunks
        .truncate(end.map_or(0, |e| e.chunks_end as usize));
    Ok(rest)
}

/// Gives each series its lanes and sets the batch's own memory aside.
fn finish(mut batch: SeriesBatch, removed: bool, lanes: bool) -> Result<SeriesBatch, SourceError> {
    let mut start = 0;
    for entry in &batch.series {
        let end = entry.chunks_end as usize;
        let chunks = &mut batch.chunks[start..end];
        start = end;
        if !removed {
            // One series, whatever the peer called its parts.
            for chunk in chunks.iter_mut() {
                chunk.lane = 0;
            }
            chunks.sort_by_key(|c| (c.min, c.max));
        } else if lanes {
            let least = chunks.iter().map(|c| c.lane).min().unwrap_or(0);
            for chunk in chunks {
                chunk.lane -= least;
            }
        } else {
            // As Thanos deals them out: each to the first replica that it does not overlap.
            let mut ends: Vec<i64> = Vec::new();
            chunks.sort_by_key(|c| (c.min, c.max));
            for chunk in chunks.iter_mut() {
                let lane = ends.iter().position(|end| *end < chunk.min);
                let lane = lane.unwrap_or_else(|| {
                    ends.push(i64::MIN);
                    ends.len() - 1
                });
                ends[lane] = chunk.max;
                chunk.lane = lane.min(u16::MAX as usize) as u16;
            }
            chunks.sort_by_key(|c| (c.lane, c.min, c.max));
        }
    }
    let own = own_bytes(&batch);
    if let Some(held) = &mut batch.reservation {
        held.grow("series of a store", own)?;
    }
    Ok(batch)
}
