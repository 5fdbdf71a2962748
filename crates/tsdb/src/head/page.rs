//! Sixty-four series and their chunks behind one lock.
//!
//! Series that are made together (the lines of one target) are neighbours, so a scrape takes a lock
//! once for 64 samples. Labels lie in one array of the page; chunks that are finished lie behind
//! each other in *blobs* of some 16 KiB that queries share without copying.

use bytes::Bytes;
use chunk::xor::Encoder;
use model::{Millis, Reject};
use parking_lot::Mutex;

use super::index::PairId;
use super::isolation::Snapshot;

/// Series in a page.
pub(crate) const PAGE: u32 = 64;
/// A blob is closed once it has this many bytes.
const BLOB: usize = 16 << 10;
/// By so much an open blob grows.
const BLOB_STEP: usize = 2 << 10;
/// Samples a chunk is planned to have.
const SAMPLES: usize = 120;
/// A chunk is cut beyond this many bytes, whatever the plan says.
const MAX_BYTES: usize = 1024 - chunk::xor::MAX_SAMPLE_BYTES;
/// What a new open chunk has room for.
const FIRST_BYTES: usize = 48;

#[derive(Default)]
pub(crate) struct Page(pub(crate) Mutex<Inner>);

/// A finished chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished {
    pub(crate) min: Millis,
    pub(crate) max: Millis,
    offset: u32,
    len: u16,
    blob: u16,
}

pub(crate) struct Series {
    labels_at: u32,
    labels_len: u16,
    /// Made since the last garbage collection: it may not have had time to get a sample.
    pub(crate) young: bool,
    /// Samples that batch `last_batch` brought.
    pending: u32,
    last_batch: u64,
    /// First sample of the open chunk.
    open_min: Millis,
    /// When the open chunk is to be cut.
    cut_at: Millis,
    open: Option<Encoder>,
    pub(crate) finished: Vec<Finished>,
    /// Tag of the last batch that was checked, to notice a series that a batch has twice.
    pub(crate) checked: u32,
}

#[derive(Default)]
struct Blob {
    bytes: Bytes,
    live: u32,
}

/// Samples of an older batch that some reader may not see yet.
struct Older {
    slot: u8,
    samples: u32,
    batch: u64,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) series: Vec<Option<Series>>,
    labels: Vec<PairId>,
    blobs: Vec<Blob>,
    /// The blob that finished chunks go to, and its number.
    filling: Vec<u8>,
    filling_blob: u16,
    older: Vec<Older>,
    /// What came out of order.
    pub(crate) ooo: Option<Box<super::ooo::Store>>,
}

/// What happened to a sample.
pub(crate) enum Taken {
    /// Appended.
    Yes,
    /// Appended as the first of a new chunk.
    NewChunk,
    /// The very same sample was there.
    Same,
    No(Reject),
}

/// Where the range of `ts` ends, as Go's truncating division has it.
pub(crate) fn range_end(ts: Millis, width: Millis) -> Millis {
    (ts / width).saturating_mul(width).saturating_add(width)
}

/// When a chunk from `start` that has reached `now` a quarter full should be cut so that chunks of
/// equal length fill the time until `max` (`computeChunkEndTime` of Prometheus).
fn cut_time(start: Millis, now: Millis, max: Millis) -> Millis {
    let n = (max - start) as f64 / ((now - start + 1) as f64 * 4.0);
    if n <= 1.0 {
        return max;
    }
    (start as f64 + (max - start) as f64 / n.floor()) as Millis
}

impl Series {
    /// The newest sample.
    pub(crate) fn last(&self) -> Option<(Millis, f64)> {
        self.open
            .as_ref()
            .and_then(|e| e.last_ts().zip(e.last_value()))
    }

    /// The oldest sample's time.
    pub(crate) fn first_ts(&self) -> Option<Millis> {
        match self.finished.first() {
            Some(c) => Some(c.min),
            None => self.open.as_ref().map(|_| self.open_min),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_none() && self.finished.is_empty()
    }

    pub(crate) fn chunks(&self) -> usize {
        self.finished.len() + usize::from(self.open.is_some())
    }

    /// Whether a sample can be taken, given the series' newest.
    #[inline]
    pub(crate) fn check(last: Option<(Millis, f64)>, ts: Millis, value: f64) -> Taken {
        match last {
            Some((t, v)) if ts <= t => {
                if ts < t {
                    Taken::No(Reject::OutOfOrder)
                } else if v.to_bits() == value.to_bits() {
                    Taken::Same
                } else {
                    Taken::No(Reject::Duplicate)
                }
            }
            _ => Taken::Yes,
        }
    }
}

/// A chunk as a query gets it.
pub(crate) struct Seen<'a> {
    pub(crate) min: Millis,
    pub(crate) max: Millis,
    pub(crate) bytes: SeenBytes<'a>,
}

pub(crate) enum SeenBytes<'a> {
    /// Part of a shared blob: its number, the place in it.
    Shared(u16, u32, u16),
    /// To be copied.
    Copy(&'a [u8]),
    /// To be copied, with another number of samples in the header.
    Cut(&'a [u8], u16),
}

impl Inner {
    pub(crate) fn get(&self, slot: usize) -> Option<&Series> {
        self.series.get(slot)?.as_ref()
    }

    /// The pairs of a series.
    pub(crate) fn labels(&self, series: &Series) -> &[PairId] {
        let at = series.labels_at as usize;
        &self.labels[at..at + usize::from(series.labels_len)]
    }

    /// Puts a new series in.
    pub(crate) fn insert(&mut self, slot: usize, pairs: &[PairId]) {
        if self.series.len() <= slot {
            self.series.reserve_exact(PAGE as usize - self.series.len());
            self.series.resize_with(slot + 1, || None);
        }
        if self.labels.capacity() - self.labels.len() < pairs.len() {
            self.labels
                .reserve_exact((self.labels.len() / 4).max(pairs.len() * 8));
        }
        let labels_at = self.labels.len() as u32;
        self.labels.extend_from_slice(pairs);
        self.series[slot] = Some(Series {
            labels_at,
            labels_len: pairs.len() as u16,
            young: true,
            pending: 0,
            last_batch: 0,
            open_min: 0,
            cut_at: 0,
            open: None,
            finished: Vec::new(),
            checked: 0,
        });
        if slot + 1 == PAGE as usize {
            self.labels.shrink_to_fit();
        }
    }

    /// Appends a sample of batch `batch`; every batch below `low` is visible to all.
    #[inline]
    pub(crate) fn append(
        &mut self,
        slot: usize,
        (ts, value): (Millis, f64),
        chunk_range: Millis,
        batch: u64,
        low: u64,
    ) -> Option<Taken> {
        let series = self.series.get_mut(slot)?.as_mut()?;
        let last = match series.last() {
            None => series.finished.last().map(|c| (c.max, f64::NAN)),
            last => last,
        };
        match Series::check(last, ts, value) {
            Taken::Yes => {}
            other => return Some(other),
        }
        let mut taken = Taken::Yes;
        let cut = match &series.open {
            None => true,
            Some(open) => {
                let n = open.len();
                if n == SAMPLES / 4 {
                    let now = last.map_or(ts, |l| l.0);
                    series.cut_at = cut_time(series.open_min, now, series.cut_at);
                }
                ts >= series.cut_at || n >= 2 * SAMPLES || open.bytes().len() > MAX_BYTES
            }
        };
        if cut {
            if series.open.is_some() {
                self.finish(slot);
            }
            taken = Taken::NewChunk;
        }
        // It was there a few lines before.
        let series = self.series.get_mut(slot)?.as_mut()?;
        if cut {
            series.open = Some(Encoder::with_capacity(FIRST_BYTES));
            series.open_min = ts;
            series.cut_at = range_end(ts, chunk_range);
        }
        series.open.as_mut()?.append(ts, value);
        if series.last_batch == batch {
            series.pending += 1;
            return Some(taken);
        }
        if series.last_batch >= low && series.pending > 0 {
            self.older.retain(|o| o.batch >= low);
            self.older.push(Older {
                slot: slot as u8,
                samples: series.pending,
                batch: series.last_batch,
            });
        }
        series.last_batch = batch;
        series.pending = 1;
        Some(taken)
    }

    /// Moves the open chunk to the blob.
    fn finish(&mut self, slot: usize) {
        let Some(series) = self.series.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        let Some(open) = series.open.take() else {
            return;
        };
        let Some(max) = open.last_ts() else { return };
        let bytes = open.bytes();
        if self.filling.is_empty() {
            let free = self.blobs.iter().position(|b| b.live == 0);
            self.filling_blob = free.unwrap_or(self.blobs.len()) as u16;
            if free.is_none() {
                self.blobs.push(Blob::default());
            }
        }
        if self.filling.capacity() - self.filling.len() < bytes.len() {
            self.filling.reserve_exact(BLOB_STEP.max(bytes.len()));
        }
        if series.finished.len() == series.finished.capacity() {
            series.finished.reserve_exact(2);
        }
        series.finished.push(Finished {
            min: series.open_min,
            max,
            offset: self.filling.len() as u32,
            len: bytes.len() as u16,
            blob: self.filling_blob,
        });
        self.filling.extend_from_slice(bytes);
        let blob = &mut self.blobs[usize::from(self.filling_blob)];
        blob.live += 1;
        if self.filling.len() >= BLOB {
            blob.bytes = std::mem::take(&mut self.filling).into_boxed_slice().into();
        }
    }

    fn let_go(&mut self, chunk: Finished) {
        let blob = &mut self.blobs[usize::from(chunk.blob)];
        blob.live -= 1;
        if blob.live == 0 {
            blob.bytes = Bytes::new();
            if chunk.blob == self.filling_blob {
                self.filling = Vec::new();
            }
        }
    }

    /// Drops the chunks of a series that end before `before`; how many those were.
    pub(crate) fn truncate(&mut self, slot: usize, before: Millis) -> usize {
        let Some(series) = self.series.get_mut(slot).and_then(Option::as_mut) else {
            return 0;
        };
        let n = series.finished.partition_point(|c| c.max < before);
        let mut dropped = n;
        if n == series.finished.len()
            && series
                .open
                .as_ref()
                .and_then(Encoder::last_ts)
                .is_some_and(|t| t < before)
        {
            series.open = None;
            series.pending = 0;
            dropped += 1;
        }
        let gone: Vec<Finished> = series.finished.drain(..n).collect();
        if series.finished.capacity() > series.finished.len() + 4 {
            series.finished.shrink_to_fit();
        }
        for chunk in gone {
            self.let_go(chunk);
        }
        dropped
    }

    /// Removes the samples of a series in `min..=max`, by writing its chunks anew. False if there
    /// were none.
    pub(crate) fn delete(
        &mut self,
        slot: usize,
        (min, max): (Millis, Millis),
        chunk_range: Millis,
    ) -> Result<bool, chunk::ChunkError> {
        let Some(series) = self.get(slot) else {
            return Ok(false);
        };
        let touched = |from: Millis, to: Millis| from <= max && to >= min;
        let open = series.open.as_ref();
        let any = series.finished.iter().any(|c| touched(c.min, c.max))
            || open
                .is_some_and(|o| touched(series.open_min, o.last_ts().unwrap_or(series.open_min)));
        if !any {
            return Ok(false);
        }
        let mut columns = chunk::Columns::default();
        for c in &series.finished {
            chunk::xor::decode(self.bytes_of(c), &mut columns)?;
        }
        if let Some(open) = open {
            chunk::xor::decode(open.bytes(), &mut columns)?;
        }
        self.truncate(slot, Millis::MAX);
        self.older.retain(|o| usize::from(o.slot) != slot);
        for (ts, value) in columns.iter() {
            if ts < min || ts > max {
                self.append(slot, (ts, value), chunk_range, 0, 0);
            }
        }
        Ok(true)
    }

    /// Takes a series out; its labels' place is not used again before the page goes.
    pub(crate) fn remove(&mut self, slot: usize) {
        self.truncate(slot, Millis::MAX);
        if let Some(series) = self.series.get_mut(slot) {
            *series = None;
        }
        self.older.retain(|o| usize::from(o.slot) != slot);
        if let Some(ooo) = &mut self.ooo {
            ooo.remove(slot);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.series.iter().all(Option::is_none)
    }

    /// How many of a series' newest samples a snapshot may not see.
    #[inline]
    fn hidden(&self, slot: usize, series: &Series, snapshot: &Snapshot) -> usize {
        let mut hidden = 0;
        for older in self.older.iter().filter(|o| usize::from(o.slot) == slot) {
            if hidden > 0 || !snapshot.sees(older.batch) {
                hidden += older.samples as usize;
            }
        }
        if hidden > 0 || !snapshot.sees(series.last_batch) {
            hidden += series.pending as usize;
        }
        hidden
    }

    fn bytes_of(&self, chunk: &Finished) -> &[u8] {
        let blob = match self.filling.is_empty() || chunk.blob != self.filling_blob {
            true => &self.blobs[usize::from(chunk.blob)].bytes[..],
            false => &self.filling[..],
        };
        &blob[chunk.offset as usize..chunk.offset as usize + usize::from(chunk.len)]
    }

    /// The shared bytes of a blob.
    pub(crate) fn blob(&self, blob: u16) -> Bytes {
        self.blobs[usize::from(blob)].bytes.clone()
    }

    /// Calls `each` for the chunks of a series that a snapshot may see and that overlap `min..=max`,
    /// in order of time. Says whether there was one.
    pub(crate) fn see<'a>(
        &'a self,
        slot: usize,
        (min, max): (Millis, Millis),
        snapshot: Option<&Snapshot>,
        mut each: impl FnMut(Seen<'a>),
    ) -> bool {
        let Some(series) = self.get(slot) else {
            return false;
        };
        let mut hidden = snapshot.map_or(0, |s| self.hidden(slot, series, s));
        let mut found = false;
        let open = series.open.as_ref().filter(|o| !o.is_empty());
        // What of the open chunk, then of the finished ones, is left once the hidden are gone.
        let mut open_left = open.map_or(0, Encoder::len);
        let cut = hidden.min(open_left);
        open_left -= cut;
        hidden -= cut;
        let mut visible = series.finished.len();
        let mut last_left = 0;
        while hidden > 0 && visible > 0 {
            let n = count(self.bytes_of(&series.finished[visible - 1]));
            if n > hidden {
                last_left = n - hidden;
                break;
            }
            hidden -= n;
            visible -= 1;
        }
        for (i, c) in series.finished[..visible].iter().enumerate() {
            if c.min > max || c.max < min {
                continue;
            }
            if last_left > 0 && i + 1 == visible {
                found |= cut_short(self.bytes_of(c), last_left, c.min, min, &mut each);
                continue;
            }
            found = true;
            let shared = self.filling.is_empty() || c.blob != self.filling_blob;
            each(Seen {
                min: c.min,
                max: c.max,
                bytes: match shared {
                    true => SeenBytes::Shared(c.blob, c.offset, c.len),
                    false => SeenBytes::Copy(self.bytes_of(c)),
                },
            });
        }
        if let Some(open) = open
            && open_left > 0
            && series.open_min <= max
        {
            let last = open.last_ts().unwrap_or(series.open_min);
            if open_left < open.len() {
                found |= cut_short(open.bytes(), open_left, series.open_min, min, &mut each);
            } else if last >= min {
                found = true;
                each(Seen {
                    min: series.open_min,
                    max: last,
                    bytes: SeenBytes::Copy(open.bytes()),
                });
            }
        }
        found
    }

    /// Bytes of memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let series: usize = self
            .series
            .iter()
            .flatten()
            .map(|s| {
                s.finished.capacity() * size_of::<Finished>()
                    + s.open.as_ref().map_or(0, Encoder::capacity)
            })
            .sum();
        let blobs: usize = self
            .blobs
            .iter()
            .map(|b| size_of::<Blob>() + b.bytes.len())
            .sum();
        size_of::<Self>()
            + self.series.capacity() * size_of::<Option<Series>>()
            + series
            + blobs
            + self.labels.capacity() * 4
            + self.filling.capacity()
            + self.ooo.as_ref().map_or(0, |o| o.bytes())
    }
}

fn count(chunk: &[u8]) -> usize {
    chunk
        .first_chunk::<2>()
        .map_or(0, |n| usize::from(u16::from_be_bytes(*n)))
}

/// A chunk of which only the first `left` samples may be seen: rare, so it is decoded to learn
/// where it ends.
#[cold]
fn cut_short<'a>(
    bytes: &'a [u8],
    left: usize,
    first: Millis,
    min: Millis,
    each: &mut impl FnMut(Seen<'a>),
) -> bool {
    let mut columns = chunk::Columns::default();
    if chunk::xor::decode(bytes, &mut columns).is_err() {
        return false;
    }
    let Some(&max) = columns.ts.get(left - 1) else {
        return false;
    };
    if max < min {
        return false;
    }
    each(Seen {
        min: first,
        max,
        bytes: SeenBytes::Cut(bytes, left as u16),
    });
    true
}
