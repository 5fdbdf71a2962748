//! Sixty-four series and their chunks behind one lock.
//!
//! Series that are made together (the lines of one target) are neighbours, so a scrape takes a lock
//! once for 64 samples. Labels lie in one array of the page; chunks that are finished lie behind
//! each other in *blobs* of some 16 KiB that queries share without copying.

mod delete;
mod replay;
mod see;

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use chunk::histogram::Outcome;
use model::histogram::{Histogram, InvalidHistogram, InvalidSide};
use model::{Encoding, Millis, Reject, is_stale};
use parking_lot::Mutex;

use super::files::{Found, Place};
use super::index::PairId;
use super::metadata;
use super::open::{Chunking, Newest, Open, marker};
pub(super) use delete::FromFiles;
pub(crate) use see::{Seen, SeenBytes};

/// Series in a page.
pub(crate) const PAGE: u32 = 64;
/// A blob is closed once it has this many bytes.
const BLOB: usize = 16 << 10;
/// By so much an open blob grows.
const BLOB_STEP: usize = 2 << 10;

#[derive(Default)]
pub(crate) struct Page(pub(crate) Mutex<Inner>, AtomicUsize);

impl Page {
    /// Bytes of memory, roughly: as they are now, or as they were when this was last asked.
    pub(crate) fn bytes(&self, now: bool) -> usize {
        let before = self.1.load(Ordering::Relaxed);
        if !now && before > 0 {
            return before;
        }
        let bytes = self.0.lock().bytes();
        self.1.store(bytes, Ordering::Relaxed);
        bytes
    }
}

/// A finished chunk. There are several of each series: every byte counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished {
    pub(crate) min: Millis,
    /// From the first sample to the last, ms.
    span: u32,
    /// Where it begins in its blob or file.
    offset: u32,
    /// How many bytes it has; in the upper four bits the encoding.
    len: u32,
    samples: u16,
    /// The number of the blob, or of the file.
    place: u16,
}

/// In [`Finished::place`]: the chunk lies in a file.
const IN_FILE: u16 = 0x8000;
/// In [`Finished::place`]: it lies in memory, but as it was before a deletion it is in a file.
const WAS_IN_FILE: u16 = 0x4000;
const LEN_BITS: u32 = 28;

impl Finished {
    fn new(
        (min, max): (Millis, Millis),
        (offset, len): (u32, u32),
        samples: u16,
        encoding: Encoding,
        place: u16,
    ) -> Self {
        Self {
            min,
            // Chunks are cut before that, see `Inner::too_long`.
            span: u32::try_from(max.saturating_sub(min)).unwrap_or(u32::MAX),
            offset,
            len: (len & ((1 << LEN_BITS) - 1)) | (u32::from(encoding.0) << LEN_BITS),
            samples,
            place,
        }
    }

    pub(crate) fn max(&self) -> Millis {
        self.min.saturating_add(self.span.into())
    }

    pub(crate) fn len(&self) -> u32 {
        self.len & ((1 << LEN_BITS) - 1)
    }

    pub(crate) fn encoding(&self) -> Encoding {
        Encoding((self.len >> LEN_BITS) as u8)
    }

    /// Where it lies, if that is a file.
    pub(super) fn in_file(&self) -> Option<Place> {
        (self.place & IN_FILE != 0).then_some(Place {
            file: self.place & !IN_FILE,
            offset: self.offset,
        })
    }

    fn blob(&self) -> Option<usize> {
        (self.place & IN_FILE == 0).then_some(usize::from(self.place & !WAS_IN_FILE))
    }

    fn bytes_range(&self) -> std::ops::Range<usize> {
        self.offset as usize..self.offset as usize + self.len() as usize
    }
}

impl From<&Found> for Finished {
    fn from(f: &Found) -> Self {
        let place = (f.place.offset, f.len);
        Self::new(
            (f.min, f.max),
            place,
            f.samples,
            f.encoding,
            f.place.file | IN_FILE,
        )
    }
}

pub(crate) struct Series {
    labels_at: u32,
    labels_len: u16,
    /// Made since the last garbage collection: it may not have had time to get a sample.
    pub(crate) young: bool,
    /// The encoding of the newest sample, if there is no open chunk.
    closed: u8,
    /// Samples that batch `last_batch` brought.
    pending: u32,
    last_batch: u64,
    /// First sample of the open chunk; if there is none, the newest sample there ever was.
    open_min: Millis,
    /// When the open chunk is to be cut.
    cut_at: Millis,
    pub(super) open: Open,
    pub(crate) finished: Vec<Finished>,
    /// Tag of the last batch that was checked, to notice a series that a batch has twice.
    pub(crate) checked: u32,
    pub(super) metadata: metadata::Number,
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

impl Series {
    /// The newest sample.
    #[inline]
    pub(super) fn newest(&self) -> Newest {
        match self.open.newest() {
            Newest::None => self.newest_finished(),
            newest => newest,
        }
    }

    #[cold]
    fn newest_finished(&self) -> Newest {
        let finished = self.finished.last().map_or(Millis::MIN, Finished::max);
        match finished.max(self.open_min) {
            Millis::MIN => Newest::None,
            ts => Newest::At(ts),
        }
    }

    /// The histogram that a stale marker of a float stands for in a series of histograms.
    #[inline]
    pub(super) fn stale(&self, value: f64) -> Option<Histogram> {
        if !is_stale(value) {
            return None;
        }
        marker(match self.open.is_none() {
            true => Encoding(self.closed),
            false => self.open.encoding(),
        })
    }

    /// From the first to the last sample.
    pub(crate) fn span(&self) -> Option<(Millis, Millis)> {
        let last = match self.open.last_ts() {
            None => self.finished.last()?.max(),
            Some(ts) => ts,
        };
        Some((self.first_ts()?, last))
    }

    /// The oldest sample's time.
    pub(crate) fn first_ts(&self) -> Option<Millis> {
        match self.finished.first() {
            Some(c) => Some(c.min),
            None => (!self.open.is_none()).then_some(self.open_min),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_none() && self.finished.is_empty()
    }

    pub(crate) fn chunks(&self) -> usize {
        self.finished.len() + usize::from(!self.open.is_none())
    }

    /// Whether a float can be taken, given the series' newest sample.
    #[inline]
    pub(super) fn check(newest: Newest, ts: Millis, value: f64) -> Taken {
        match newest {
            Newest::Float(t, v) if ts <= t => {
                if ts < t {
                    Taken::No(Reject::OutOfOrder)
                } else if v.to_bits() == value.to_bits() {
                    Taken::Same
                } else {
                    Taken::No(Reject::Duplicate)
                }
            }
            Newest::At(t) if ts == t => Taken::No(Reject::Duplicate),
            Newest::At(t) if ts < t => Taken::No(Reject::OutOfOrder),
            _ => Taken::Yes,
        }
    }

    /// Whether a histogram can be taken.
    pub(super) fn check_histogram(&self, ts: Millis, value: &Histogram) -> Taken {
        match self.newest().ts() {
            Some(t) if ts < t => Taken::No(Reject::OutOfOrder),
            Some(t) if ts == t => match self.open.last_is(value) {
                true => Taken::Same,
                false => Taken::No(Reject::Duplicate),
            },
            _ => Taken::Yes,
        }
    }

    /// A chunk from the open one's first sample to `ts` would span more than can be told.
    fn too_long(&self, ts: Millis) -> bool {
        ts.saturating_sub(self.open_min) > u32::MAX.into()
    }
}

/// A chunk that could go to a file.
pub(super) struct Unfiled<'a> {
    pub(super) slot: usize,
    pub(super) chunk: Finished,
    pub(super) bytes: &'a [u8],
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
            closed: Encoding::XOR.0,
            pending: 0,
            last_batch: 0,
            open_min: Millis::MIN,
            cut_at: 0,
            open: Open::None,
            finished: Vec::new(),
            checked: 0,
            metadata: 0,
        });
        if slot + 1 == PAGE as usize {
            self.labels.shrink_to_fit();
        }
    }

    /// Brings the open chunks of some series into the cache. Done at once, the loads wait for the
    /// memory together; each append would wait for its own.
    #[inline]
    pub(super) fn touch(&self, slots: impl Iterator<Item = usize>) {
        let mut read = 0;
        for slot in slots {
            read ^= self.get(slot).map_or(0, |series| series.open.touch());
        }
        std::hint::black_box(read);
    }

    /// Appends a sample of batch `batch`; every batch below `low` is visible to all.
    #[inline]
    pub(super) fn append(
        &mut self,
        slot: usize,
        (ts, start, value): (Millis, Millis, f64),
        chunking: Chunking,
        (batch, low): (u64, u64),
    ) -> Option<Taken> {
        if let Some(marker) = self.get(slot)?.stale(value) {
            let numbers = (batch, low);
            return self.append_histogram(slot, (ts, start), &marker, chunking, numbers);
        }
        let taken = self.append_float(slot, (ts, start, value), chunking);
        if matches!(taken, Some(Taken::Yes | Taken::NewChunk)) {
            self.brought(slot, batch, low);
        }
        taken
    }

    /// Appends a float to chunks of floats; which batch brought it is the caller's matter.
    #[inline]
    fn append_float(
        &mut self,
        slot: usize,
        (ts, start, value): (Millis, Millis, f64),
        chunking: Chunking,
    ) -> Option<Taken> {
        let series = self.series.get_mut(slot)?.as_mut()?;
        match Series::check(series.newest(), ts, value) {
            Taken::Yes => {}
            other => return Some(other),
        }
        let mut taken = Taken::Yes;
        let (open_min, cut_at) = (series.open_min, &mut series.cut_at);
        let cut = series
            .open
            .ends_before_float(ts, open_min, cut_at, chunking)
            || series.too_long(ts);
        if cut {
            if !series.open.is_none() {
                self.finish(slot);
            }
            taken = Taken::NewChunk;
        }
        // It was there a few lines before.
        let series = self.series.get_mut(slot)?.as_mut()?;
        if cut {
            series.open = Open::floats(chunking);
            series.open_min = ts;
            series.cut_at = range_end(ts, chunking.range);
        }
        series.open.push((ts, start), value).then_some(taken)
    }

    /// Appends a histogram.
    pub(super) fn append_histogram(
        &mut self,
        slot: usize,
        (ts, start): (Millis, Millis),
        value: &Histogram,
        chunking: Chunking,
        (batch, low): (u64, u64),
    ) -> Option<Taken> {
        // The encoder only refuses buckets that do not fit their spans.
        let misfit = || {
            Some(Taken::No(Reject::InvalidHistogram(
                InvalidHistogram::SpansMismatch {
                    side: InvalidSide::Positive,
                    spans: 0,
                    buckets: 0,
                },
            )))
        };
        let series = self.series.get_mut(slot)?.as_mut()?;
        match series.check_histogram(ts, value) {
            Taken::Yes => {}
            other => return Some(other),
        }
        let mut taken = Taken::NewChunk;
        let too_long = series.too_long(ts);
        match &mut series.open {
            Open::Histograms(open) => {
                let before = (series.open_min, open.encoder.last_ts().unwrap_or(ts));
                let kind = (open.encoder.encoding(), open.encoder.len());
                let range = (series.open_min, range_end(series.open_min, chunking.range));
                let cut = open.ends_before(ts, range, &mut series.cut_at)
                    || too_long
                    || open.has_starts() != chunking.starts;
                let outcome = match cut {
                    true => open.encoder.cut(ts, start, value).map(Outcome::Cut),
                    false => open.encoder.append(ts, start, value),
                };
                match outcome {
                    Ok(Outcome::Cut(done)) => {
                        open.begun();
                        series.open_min = ts;
                        series.cut_at = range_end(ts, chunking.range);
                        self.keep(slot, before, kind, &done, 0);
                    }
                    Ok(Outcome::Appended | Outcome::Recoded) => taken = Taken::Yes,
                    Err(_) => return misfit(),
                }
                if let Open::Histograms(open) = &mut self.series.get_mut(slot)?.as_mut()?.open {
                    open.buckets = value.entries() as u32;
                }
            }
            Open::None | Open::Floats(_) | Open::Xor2(_) => {
                let mut open = Open::histograms(value, chunking.starts);
                if let Open::Histograms(open) = &mut open {
                    if open.encoder.append(ts, start, value).is_err() {
                        return misfit();
                    }
                    open.buckets = value.entries() as u32;
                }
                if !series.open.is_none() {
                    self.finish(slot);
                }
                let series = self.series.get_mut(slot)?.as_mut()?;
                series.open = open;
                series.open_min = ts;
                series.cut_at = range_end(ts, chunking.range);
            }
        }
        self.brought(slot, batch, low);
        Some(taken)
    }

    /// Notes down that `batch` brought a sample.
    #[inline]
    fn brought(&mut self, slot: usize, batch: u64, low: u64) {
        let Some(Some(series)) = self.series.get_mut(slot) else {
            return;
        };
        if series.last_batch == batch {
            series.pending += 1;
            return;
        }
        let last = (series.last_batch, series.pending);
        (series.last_batch, series.pending) = (batch, 1);
        if last.0 >= low && last.1 > 0 {
            if self.older.len() == self.older.capacity() {
                self.forget_seen(low);
            }
            self.older.push(Older {
                slot: slot as u8,
                samples: last.1,
                batch: last.0,
            });
        }
    }

    /// Forgets the batches that everybody sees. While an old reader lives many may stay, and to look
    /// through them for each sample would cost more than the sample: this is for when there is no
    /// room for one more, and for when the head is looked through anyway.
    pub(super) fn forget_seen(&mut self, low: u64) {
        self.older.retain(|o| o.batch >= low);
        if self.older.len() < self.older.capacity() / 4 {
            self.older.shrink_to(self.older.len() * 2);
        }
    }

    /// How many batches it has room to remember.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.older.capacity()
    }

    /// Moves the open chunk to the blob.
    fn finish(&mut self, slot: usize) {
        let Some(series) = self.series.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        let open = std::mem::take(&mut series.open);
        let Some(max) = open.last_ts() else { return };
        let range = (series.open_min, max);
        series.open_min = max;
        series.closed = open.encoding().0;
        self.keep(slot, range, (open.encoding(), open.len()), open.bytes(), 0);
    }

    /// Keeps a finished chunk as the last of its series.
    fn keep(
        &mut self,
        slot: usize,
        range: (Millis, Millis),
        (encoding, samples): (Encoding, usize),
        bytes: &[u8],
        mark: u16,
    ) {
        let place = self.blob_for(bytes.len());
        let offset = self.filling.len() as u32;
        let Some(series) = self.series.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        if series.finished.len() == series.finished.capacity() {
            series.finished.reserve_exact(2);
        }
        series.finished.push(Finished::new(
            range,
            (offset, bytes.len() as u32),
            u16::try_from(samples).unwrap_or(u16::MAX),
            encoding,
            place | mark,
        ));
        self.filling.extend_from_slice(bytes);
        let blob = &mut self.blobs[usize::from(place)];
        blob.live += 1;
        if self.filling.len() >= BLOB {
            blob.bytes = std::mem::take(&mut self.filling).into_boxed_slice().into();
        }
    }

    /// The number of the blob that the next `len` bytes go to.
    fn blob_for(&mut self, len: usize) -> u16 {
        if self.filling.is_empty() {
            let free = self.blobs.iter().position(|b| b.live == 0);
            self.filling_blob = free.unwrap_or(self.blobs.len()) as u16;
            if free.is_none() {
                self.blobs.push(Blob::default());
            }
        }
        if self.filling.capacity() - self.filling.len() < len {
            self.filling.reserve_exact(BLOB_STEP.max(len));
        }
        self.filling_blob
    }

    fn let_go(&mut self, chunk: Finished) {
        let Some(number) = chunk.blob() else { return };
        let blob = &mut self.blobs[number];
        blob.live -= 1;
        if blob.live == 0 {
            blob.bytes = Bytes::new();
            if number == usize::from(self.filling_blob) {
                self.filling = Vec::new();
            }
        }
    }

    /// Gives a series chunks of files, in order; how many of them. They lie behind what it has, but
    /// where it was written under another number since: then in front of that. One that overlaps what
    /// is there holds nothing else.
    pub(super) fn attach(&mut self, slot: usize, found: &[Found]) -> usize {
        let (Some(first), Some(last)) = (found.first(), found.last()) else {
            return 0;
        };
        let newest = self.get(slot).and_then(|s| s.newest().ts());
        if newest.is_none_or(|ts| ts < first.min) {
            self.finish(slot);
            let Some(Some(series)) = self.series.get_mut(slot) else {
                return 0;
            };
            series.finished.reserve_exact(found.len());
            series.finished.extend(found.iter().map(Finished::from));
            series.closed = last.encoding.0;
            return found.len();
        }
        let Some(Some(series)) = self.series.get_mut(slot) else {
            return 0;
        };
        let mut taken = 0;
        let open = series.open.last_ts().map(|last| (series.open_min, last));
        for chunk in found {
            let at = series.finished.partition_point(|c| c.max() < chunk.min);
            let next = series.finished.get(at).map(|c| (c.min, c.max()));
            if next.or(open).is_none_or(|next| chunk.max < next.0) {
                series.finished.insert(at, chunk.into());
                taken += 1;
            }
        }
        taken
    }

    /// Calls `each` with the chunks that can go to a file: finished, in memory, not older than what
    /// lies in files already, and all of them visible to everybody, now and later.
    pub(super) fn unfiled<'a>(&'a self, low: u64, mut each: impl FnMut(Unfiled<'a>)) {
        if self.blobs.iter().all(|b| b.live == 0) {
            return;
        }
        for (slot, series) in self.series.iter().enumerate() {
            let Some(series) = series else { continue };
            let filed = series.finished.iter().rposition(|c| c.place & IN_FILE != 0);
            let rest = series.finished.get(filed.map_or(0, |i| i + 1)..);
            let rest = rest.unwrap_or_default();
            if rest.is_empty() || self.doubtful(slot, series, low) > series.open.len() {
                continue;
            }
            for chunk in rest.iter().filter(|c| c.place & WAS_IN_FILE == 0) {
                each(Unfiled {
                    slot,
                    chunk: *chunk,
                    bytes: self.bytes_of(chunk),
                });
            }
        }
    }

    /// How many of a series' newest samples somebody may not see.
    fn doubtful(&self, slot: usize, series: &Series, low: u64) -> usize {
        let older = self.older.iter().filter(|o| usize::from(o.slot) == slot);
        let older: usize = older
            .filter(|o| o.batch >= low)
            .map(|o| o.samples as usize)
            .sum();
        match series.last_batch >= low {
            true => older + series.pending as usize,
            false => older,
        }
    }

    /// A chunk that [`Inner::unfiled`] gave lies in a file now.
    pub(super) fn filed(&mut self, slot: usize, chunk: &Finished, place: Place) {
        let Some(series) = self.series.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        let same = |c: &&mut Finished| {
            (c.min, c.offset, c.place) == (chunk.min, chunk.offset, chunk.place)
        };
        if let Some(there) = series.finished.iter_mut().find(same) {
            there.offset = place.offset;
            there.place = place.file | IN_FILE;
            self.let_go(*chunk);
        }
    }

    /// Drops the chunks of a series that end before `before`; how many those were.
    pub(crate) fn truncate(&mut self, slot: usize, before: Millis) -> usize {
        let Some(series) = self.series.get_mut(slot).and_then(Option::as_mut) else {
            return 0;
        };
        let n = series.finished.partition_point(|c| c.max() < before);
        let mut dropped = n;
        if n == series.finished.len()
            && let Some(last) = series.open.last_ts()
            && last < before
        {
            series.closed = series.open.encoding().0;
            series.open = Open::None;
            series.open_min = last;
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

    /// The bytes of a chunk in memory.
    fn bytes_of(&self, chunk: &Finished) -> &[u8] {
        let Some(number) = chunk.blob() else {
            return &[];
        };
        let blob = match self.filling.is_empty() || number != usize::from(self.filling_blob) {
            true => &self.blobs[number].bytes[..],
            false => &self.filling[..],
        };
        &blob[chunk.bytes_range()]
    }

    /// The shared bytes of a blob.
    pub(crate) fn blob(&self, blob: u16) -> Bytes {
        self.blobs[usize::from(blob)].bytes.clone()
    }

    /// Bytes of memory, roughly.
    fn bytes(&self) -> usize {
        let series: usize = self
            .series
            .iter()
            .flatten()
            .map(|s| s.finished.capacity() * size_of::<Finished>() + s.open.capacity())
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
            + self.older.capacity() * size_of::<Older>()
            + self.filling.capacity()
            + self.ooo.as_ref().map_or(0, |o| o.bytes())
    }
}
