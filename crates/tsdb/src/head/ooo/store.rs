//! The out-of-order chunks of one page's series.

use bytes::Bytes;
use chunk::histogram::HistogramRow;
use chunk::{ChunkError, Chunker, Columns, EncodedChunk};
use model::histogram::Histogram;
use model::{Encoding, Millis, TimeRange};

use crate::rewrite::without;

/// Samples of an open chunk: small, because each insertion moves some of them.
const CAP: usize = 32;

/// A sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OooSample {
    pub(crate) ts: Millis,
    /// Start timestamp; 0: none.
    pub(crate) start: Millis,
    pub(crate) value: OooValue,
}

/// The value of a sample; histograms are rare enough to lie elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OooValue {
    Float(f64),
    Histogram(Box<Histogram>),
}

/// A finished chunk.
struct Done {
    min: Millis,
    max: Millis,
    epoch: u32,
    encoding: Encoding,
    bytes: Bytes,
    /// They lie in a file, and take no memory.
    filed: bool,
}

/// A finished chunk that lies in memory.
pub(crate) struct OooUnfiled {
    pub(crate) slot: usize,
    pub(crate) min: Millis,
    pub(crate) max: Millis,
    pub(crate) encoding: Encoding,
    pub(crate) bytes: Bytes,
}

impl Done {
    fn new(chunk: EncodedChunk, epoch: u32) -> Self {
        Self {
            min: chunk.range.min,
            max: chunk.range.max,
            epoch,
            encoding: chunk.encoding,
            bytes: chunk.data.into_boxed_slice().into(),
            filed: false,
        }
    }

    fn samples(&self, out: &mut Vec<OooSample>) -> Result<(), ChunkError> {
        if self.encoding == Encoding::XOR || self.encoding == Encoding::XOR2 {
            let mut columns = Columns::default();
            chunk::decode(self.encoding, &self.bytes, &mut columns)?;
            let floats = columns.iter().enumerate();
            out.extend(floats.map(|(i, (ts, value))| OooSample {
                ts,
                start: columns.start(i),
                value: OooValue::Float(value),
            }));
        } else {
            let rows = chunk::histogram::rows(self.encoding, &self.bytes)?;
            out.extend(rows.into_iter().map(|row| OooSample {
                ts: row.ts,
                start: row.start,
                value: OooValue::Histogram(Box::new(row.value)),
            }));
        }
        Ok(())
    }
}

struct Series {
    slot: u8,
    /// Of the open samples.
    epoch: u32,
    /// Ascending, each time once.
    open: Vec<OooSample>,
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

/// Ascending samples as chunks: one if all are of one kind and fit together.
pub(super) fn encode<'a>(samples: impl IntoIterator<Item = &'a OooSample>) -> Vec<EncodedChunk> {
    let mut chunker = Chunker::default();
    for s in samples {
        match &s.value {
            OooValue::Float(value) => chunker.float(s.ts, s.start, *value),
            OooValue::Histogram(value) => {
                let row = HistogramRow {
                    ts: s.ts,
                    start: s.start,
                    value: Histogram::clone(value),
                };
                // It was judged before it was taken.
                if let Err(error) = chunker.histogram(&row) {
                    tracing::error!(%error, "a histogram that came out of order is lost");
                }
            }
        }
    }
    chunker.finish()
}

impl Series {
    fn finish(&mut self) {
        let chunks = encode(&self.open).into_iter();
        self.done.extend(chunks.map(|c| Done::new(c, self.epoch)));
        self.open = Vec::new();
    }

    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.done.is_empty()
    }

    fn ranges(&self) -> impl Iterator<Item = TimeRange> + '_ {
        let open = self.open.first().zip(self.open.last());
        let done = self.done.iter().map(|d| TimeRange::new(d.min, d.max));
        done.chain(open.map(|(a, b)| TimeRange::new(a.ts, b.ts)))
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
    pub(super) fn insert(&mut self, slot: usize, sample: OooSample, epoch: u32) -> Inserted {
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
        let at = series.open.partition_point(|s| s.ts < sample.ts);
        if series.open.get(at).is_some_and(|s| s.ts == sample.ts) {
            return Inserted::Same;
        }
        series.open.insert(at, sample);
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
                encoding: d.encoding,
                bytes: &d.bytes,
            });
        }
        if let (Some(first), Some(last)) = (series.open.first(), series.open.last())
            && first.ts <= max
            && last.ts >= min
        {
            for c in encode(&series.open) {
                each(OooSeen {
                    min: c.range.min,
                    max: c.range.max,
                    encoding: c.encoding,
                    bytes: &c.data,
                });
            }
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
            let mut samples = Vec::new();
            let open = s.open.iter().find(|o| o.ts >= from && s.epoch < epoch);
            let done = s.done.iter().filter(|d| d.epoch < epoch && d.max >= from);
            let firsts = done.map(|d| {
                samples.clear();
                match d.min < from && d.samples(&mut samples).is_ok() {
                    true => samples.iter().map(|s| s.ts).find(|&t| t >= from),
                    false => Some(d.min.max(from)),
                }
            });
            firsts.flatten().chain(open.map(|o| o.ts)).min()
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
        out: &mut Vec<OooSample>,
    ) -> Result<(), ChunkError> {
        out.clear();
        let Some(series) = self.find(slot) else {
            return Ok(());
        };
        for d in series.done.iter().filter(|d| d.epoch < epoch) {
            if d.min <= max && d.max >= min {
                d.samples(out)?;
            }
        }
        if series.epoch < epoch {
            out.extend_from_slice(&series.open);
        }
        out.retain(|s| s.ts >= min && s.ts <= max);
        // Stable: of equal times the first inserted stays in front.
        out.sort_by_key(|s| s.ts);
        out.dedup_by_key(|s| s.ts);
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
        series.open.retain(|s| keeps(s.ts));
        for d in std::mem::take(&mut series.done) {
            if d.min > max || d.max < min {
                series.done.push(d);
                continue;
            }
            // What was encoded here can be decoded.
            let left = without(d.encoding, &d.bytes, keeps).unwrap_or_default();
            series
                .done
                .extend(left.into_iter().map(|c| Done::new(c, d.epoch)));
        }
        self.series.retain(|s| !s.is_empty());
    }

    /// Takes a series out.
    pub(crate) fn remove(&mut self, slot: usize) {
        self.series.retain(|s| usize::from(s.slot) != slot);
    }

    /// Finished chunks that could go to a file, in order of insertion.
    pub(crate) fn unfiled(&self) -> impl Iterator<Item = OooUnfiled> + '_ {
        let series = self.series.iter();
        series.flat_map(|s| {
            let unfiled = s.done.iter().filter(|d| !d.filed);
            unfiled.map(|d| OooUnfiled {
                slot: s.slot.into(),
                min: d.min,
                max: d.max,
                encoding: d.encoding,
                bytes: d.bytes.clone(),
            })
        })
    }

    /// A chunk that [`Store::unfiled`] gave lies in a file now, as `mapped`.
    pub(crate) fn filed(&mut self, chunk: &OooUnfiled, mapped: Bytes) {
        let same = |d: &&mut Done| std::ptr::eq(d.bytes.as_ptr(), chunk.bytes.as_ptr());
        let series = self.find_mut(chunk.slot);
        if let Some(done) = series.and_then(|s| s.done.iter_mut().find(same)) {
            done.bytes = mapped;
            done.filed = true;
        }
    }

    /// Bytes of memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let of = |s: &Series| {
            let done: usize = s
                .done
                .iter()
                .map(|d| size_of::<Done>() + if d.filed { 0 } else { d.bytes.len() })
                .sum();
            size_of::<Series>() + s.open.capacity() * size_of::<OooSample>() + done
        };
        self.series.iter().map(of).sum()
    }
}
