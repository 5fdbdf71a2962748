//! The out-of-order chunks of one page's series.

use chunk::Columns;
use chunk::xor::Encoder;
use model::{Encoding, Millis, TimeRange};

/// Samples of an open chunk: small, because each insertion moves some of them.
const CAP: usize = 32;

/// A finished chunk.
struct Done {
    min: Millis,
    max: Millis,
    epoch: u32,
    bytes: Box<[u8]>,
}

struct Series {
    slot: u8,
    /// Of the open samples.
    epoch: u32,
    /// Ascending, each time once.
    open: Vec<(Millis, f64)>,
    done: Vec<Done>,
}

/// Out-of-order chunks of a page, by series.
#[derive(Default)]
pub(crate) struct Store {
    /// Ascending by slot.
    series: Vec<Series>,
}

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    Yes,
    /// As the first of a new chunk.
    NewChunk,
    /// The open chunk has a sample of that time, and keeps it.
    Same,
}

/// A chunk as a query gets it.
pub(crate) struct OooSeen<'a> {
    pub(crate) min: Millis,
    pub(crate) max: Millis,
    pub(crate) encoding: Encoding,
    pub(crate) bytes: &'a [u8],
}

pub(super) fn encode(samples: &[(Millis, f64)]) -> Vec<u8> {
    let mut encoder = Encoder::with_capacity(16 + samples.len() * 8);
    for &(ts, value) in samples {
        encoder.append(ts, value);
    }
    encoder.into_bytes()
}

impl Series {
    fn finish(&mut self) {
        if let (Some(first), Some(last)) = (self.open.first(), self.open.last()) {
            self.done.push(Done {
                min: first.0,
                max: last.0,
                epoch: self.epoch,
                bytes: encode(&self.open).into_boxed_slice(),
            });
        }
        self.open = Vec::new();
    }

    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.done.is_empty()
    }

    fn ranges(&self) -> impl Iterator<Item = TimeRange> + '_ {
        let open = self.open.first().zip(self.open.last());
        let done = self.done.iter().map(|d| TimeRange::new(d.min, d.max));
        done.chain(open.map(|(a, b)| TimeRange::new(a.0, b.0)))
    }
}

impl Store {
    fn find(&self, slot: usize) -> Option<&Series> {
        let at = self.series.binary_search_by_key(&slot, |s| s.slot.into());
        self.series.get(at.ok()?)
    }

    fn find_mut(&mut self, slot: usize) -> Option<&mut Series> {
        let at = self.series.binary_search_by_key(&slot, |s| s.slot.into());
        self.series.get_mut(at.ok()?)
    }

    /// Inserts a sample; chunks of another epoch are not added to.
    pub(super) fn insert(
        &mut self,
        slot: usize,
        (ts, value): (Millis, f64),
        epoch: u32,
    ) -> Inserted {
        let at = match self
            .series
            .binary_search_by_key(&slot, |s| usize::from(s.slot))
        {
            Ok(at) => at,
            Err(at) => {
                let new = Series {
                    slot: slot as u8,
                    epoch,
                    open: Vec::new(),
                    done: Vec::new(),
                };
                self.series.insert(at, new);
                at
            }
        };
        let series = &mut self.series[at];
        if series.open.len() >= CAP || series.epoch != epoch {
            series.finish();
        }
        series.epoch = epoch;
        let first = series.open.is_empty();
        let at = series.open.partition_point(|s| s.0 < ts);
        if series.open.get(at).is_some_and(|s| s.0 == ts) {
            return Inserted::Same;
        }
        series.open.insert(at, (ts, value));
        match first {
            true => Inserted::NewChunk,
            false => Inserted::Yes,
        }
    }

    pub(super) fn has(&self, slot: usize) -> bool {
        self.find(slot).is_some_and(|s| !s.is_empty())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.series.iter().all(Series::is_empty)
    }

    pub(super) fn chunks(&self, slot: usize) -> usize {
        self.find(slot)
            .map_or(0, |s| s.done.len() + usize::from(!s.open.is_empty()))
    }

    /// Whether a series has a chunk that overlaps `min..=max`.
    pub(super) fn any(&self, slot: usize, (min, max): (Millis, Millis)) -> bool {
        let asked = TimeRange::new(min, max);
        self.find(slot)
            .is_some_and(|s| s.ranges().any(|r| r.overlaps(asked)))
    }

    /// From the first to the last sample of a series.
    pub(super) fn span(&self, slot: usize) -> Option<(Millis, Millis)> {
        let all = self.find(slot)?.ranges().reduce(|a, b| a.union(b))?;
        Some((all.min, all.max))
    }

    /// From the first to the last sample of all.
    pub(super) fn range(&self) -> TimeRange {
        let all = self.series.iter().flat_map(Series::ranges);
        all.fold(TimeRange::EMPTY, |all, range| all.union(range))
    }

    /// Calls `each` for the chunks of a series that overlap `min..=max`, in order of insertion.
    pub(crate) fn see(
        &self,
        slot: usize,
        (min, max): (Millis, Millis),
        mut each: impl FnMut(OooSeen<'_>),
    ) {
        let Some(series) = self.find(slot) else {
            return;
        };
        for d in series.done.iter().filter(|d| d.min <= max && d.max >= min) {
            each(OooSeen {
                min: d.min,
                max: d.max,
                encoding: Encoding::XOR,
                bytes: &d.bytes,
            });
        }
        if let (Some(first), Some(last)) = (series.open.first(), series.open.last())
            && first.0 <= max
            && last.0 >= min
        {
            each(OooSeen {
                min: first.0,
                max: last.0,
                encoding: Encoding::XOR,
                bytes: &encode(&series.open),
            });
        }
    }

    /// The slots of the series with samples that are older than `epoch`.
    pub(super) fn older(&self, epoch: u32) -> impl Iterator<Item = usize> + '_ {
        let series = self.series.iter();
        series
            .filter(move |s| {
                (s.epoch < epoch && !s.open.is_empty()) || s.done.iter().any(|d| d.epoch < epoch)
            })
            .map(|s| s.slot.into())
    }

    /// The first time from `from` on of samples that are older than `epoch`.
    pub(super) fn next(&self, epoch: u32, from: Millis) -> Option<Millis> {
        let of = |s: &Series| {
            let mut columns = Columns::default();
            let open = s.open.iter().find(|o| o.0 >= from && s.epoch < epoch);
            let done = s.done.iter().filter(|d| d.epoch < epoch && d.max >= from);
            let firsts = done.map(|d| {
                columns.clear();
                match d.min < from && chunk::xor::decode(&d.bytes, &mut columns).is_ok() {
                    true => columns.ts.iter().copied().find(|&t| t >= from),
                    false => Some(d.min.max(from)),
                }
            });
            firsts.flatten().chain(open.map(|o| o.0)).min()
        };
        self.series.iter().filter_map(of).min()
    }

    /// The samples of a series that are older than `epoch` and lie in `min..=max`: ascending, the
    /// first inserted of each time.
    pub(super) fn samples(
        &self,
        slot: usize,
        epoch: u32,
        (min, max): (Millis, Millis),
        out: &mut Vec<(Millis, f64)>,
    ) -> Result<(), chunk::ChunkError> {
        out.clear();
        let Some(series) = self.find(slot) else {
            return Ok(());
        };
        let inside = |ts: Millis| ts >= min && ts <= max;
        let mut columns = Columns::default();
        for d in series.done.iter().filter(|d| d.epoch < epoch) {
            if d.min <= max && d.max >= min {
                columns.clear();
                chunk::xor::decode(&d.bytes, &mut columns)?;
                out.extend(columns.iter().filter(|s| inside(s.0)));
            }
        }
        if series.epoch < epoch {
            out.extend(series.open.iter().filter(|s| inside(s.0)));
        }
        // Stable: of equal times the first inserted stays in front.
        out.sort_by_key(|s| s.0);
        out.dedup_by_key(|s| s.0);
        Ok(())
    }

    /// Drops what is older than `epoch`; how many chunks that were.
    pub(super) fn drop_before(&mut self, epoch: u32) -> usize {
        let mut dropped = 0;
        for series in &mut self.series {
            let before = series.done.len();
            series.done.retain(|d| d.epoch >= epoch);
            dropped += before - series.done.len();
            if series.epoch < epoch && !series.open.is_empty() {
                series.open = Vec::new();
                dropped += 1;
            }
        }
        self.series.retain(|s| !s.is_empty());
        dropped
    }

    /// Removes the samples of a series in `min..=max`.
    pub(super) fn delete(&mut self, slot: usize, (min, max): (Millis, Millis)) {
        let Some(series) = self.find_mut(slot) else {
            return;
        };
        let keeps = |ts: Millis| ts < min || ts > max;
        series.open.retain(|s| keeps(s.0));
        series.done.retain_mut(|d| {
            if d.min > max || d.max < min {
                return true;
            }
            let mut columns = Columns::default();
            // What was encoded here can be decoded; what cannot be read is not kept.
            if chunk::xor::decode(&d.bytes, &mut columns).is_err() {
                return false;
            }
            let left: Vec<_> = columns.iter().filter(|s| keeps(s.0)).collect();
            if let (Some(first), Some(last)) = (left.first(), left.last()) {
                (d.min, d.max) = (first.0, last.0);
                d.bytes = encode(&left).into_boxed_slice();
            }
            !left.is_empty()
        });
        self.series.retain(|s| !s.is_empty());
    }

    /// Takes a series out.
    pub(crate) fn remove(&mut self, slot: usize) {
        self.series.retain(|s| usize::from(s.slot) != slot);
    }

    /// Bytes of memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let of = |s: &Series| {
            let done: usize = s
                .done
                .iter()
                .map(|d| size_of::<Done>() + d.bytes.len())
                .sum();
            size_of::<Series>() + s.open.capacity() * size_of::<(Millis, f64)>() + done
        };
        self.series.iter().map(of).sum()
    }
}
