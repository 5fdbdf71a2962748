//! Windows of native histograms.
//!
//! All histograms of a chunk are brought to one layout first: the lowest of their resolutions, the widest
//! of their zero buckets, the custom bounds that all of them have.

use std::ops::Range;

use chunk::aggregate::encode;
use chunk::histogram::{Encoder, Outcome};
use chunk::histograms::is_reset;
use chunk::{ChunkError, Columns, EncodedChunk, Histograms, xor};
use model::histogram::{CounterReset, FloatHistogram, Histogram, IncompatibleSchemas};
use model::source::Aggregate;
use model::{Encoding, Millis, TimeRange};

use super::{DownsampleError, Opened, windows};

/// The counter of the chunks before: it goes on.
#[derive(Debug, Default)]
pub(super) struct Carry {
    total: Option<FloatHistogram>,
    /// The last histogram as it was.
    last: Histograms,
}

/// Layouts change so often at most until all agree: each time one of three things got coarser, and there
/// are 13 schemas.
const ROUNDS: usize = 32;

/// An empty histogram of the layout that all of `rows` can be brought to.
fn common(rows: &[FloatHistogram]) -> Result<FloatHistogram, IncompatibleSchemas> {
    let layout = |h: &FloatHistogram| FloatHistogram {
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        custom_values: h.custom_values.clone(),
        ..FloatHistogram::default()
    };
    let Some(first) = rows.first() else {
        return Ok(FloatHistogram::default());
    };
    let mut all = layout(first);
    for _ in 0..ROUNDS {
        let before = all.clone();
        for row in rows {
            if layout(row) != all {
                let mut sum = all.clone();
                sum.add(row)?;
                all = layout(&sum);
            }
        }
        if all == before {
            break;
        }
    }
    Ok(all)
}

/// `row` in that layout.
fn brought(
    row: &FloatHistogram,
    common: &FloatHistogram,
) -> Result<FloatHistogram, IncompatibleSchemas> {
    let mut brought = common.clone();
    brought.add(row)?;
    Ok(brought)
}

/// A column of histograms in one chunk.
#[derive(Default)]
struct Column {
    rows: Vec<(Millis, FloatHistogram)>,
}

impl Column {
    fn push(&mut self, ts: Millis, row: FloatHistogram) {
        self.rows.push((ts, row));
    }

    /// Encodes all rows into one chunk. They get the same buckets first, so that nothing cuts it.
    fn encode(self, reset: CounterReset) -> Result<Vec<u8>, DownsampleError> {
        let rows: Vec<FloatHistogram> = self.rows.iter().map(|(_, row)| row.clone()).collect();
        let mut every = common(&rows)?;
        for row in &rows {
            // Buckets of all rows, empty ones too.
            every.add(row)?;
        }
        let empty = |h: &FloatHistogram| {
            let mut h = h.clone();
            for side in [&mut h.positive, &mut h.negative] {
                side.counts.fill(0.0);
            }
            (h.zero_count, h.count, h.sum) = (0.0, 0.0, 0.0);
            h
        };
        let every = empty(&every);
        let mut encoder: Option<Encoder> = None;
        let mut before: Option<FloatHistogram> = None;
        for (ts, row) in &self.rows {
            let mut row = brought(row, &every)?;
            if reset != CounterReset::Gauge {
                // Fractions that were added and subtracted may lack a last bit.
                if let Some(before) = &before {
                    raise(&mut row, before);
                }
                before = Some(row.clone());
            }
            // A counter that goes on knows that there is no reset; a sum is a gauge.
            row.counter_reset = match reset {
                CounterReset::Gauge => CounterReset::Gauge,
                _ => CounterReset::NotReset,
            };
            let value = Histogram::Float(row);
            let encoder = encoder.get_or_insert_with(|| Encoder::new(&value, false));
            if let Outcome::Cut(_) = encoder.append(*ts, 0, &value)? {
                return Err(ChunkError::Corrupt("a downsampled histogram falls").into());
            }
        }
        let Some(mut encoder) = encoder else {
            return Ok(Vec::new());
        };
        encoder.set_counter_reset(reset);
        Ok(encoder.into_bytes())
    }
}

/// Lets no count of `row` be less than that of `floor`, which has the same buckets.
fn raise(row: &mut FloatHistogram, floor: &FloatHistogram) {
    row.count = row.count.max(floor.count);
    row.zero_count = row.zero_count.max(floor.zero_count);
    for (side, floor) in [
        (&mut row.positive, &floor.positive),
        (&mut row.negative, &floor.negative),
    ] {
        for (count, floor) in side.counts.iter_mut().zip(&floor.counts) {
            *count = count.max(*floor);
        }
    }
}

/// One chunk of the raw histograms `part`.
pub(super) fn chunk(
    data: &Histograms,
    part: Range<usize>,
    resolution: Millis,
    carry: &mut Carry,
) -> Result<Option<EncodedChunk>, DownsampleError> {
    let from = part.start;
    let rows: Vec<FloatHistogram> = part
        .clone()
        .filter_map(|i| data.get(i))
        .map(|row| row.to_histogram())
        .collect();
    let gauge = rows
        .first()
        .is_some_and(|r| r.counter_reset == CounterReset::Gauge);
    let layout = common(&rows)?;
    let mut adder = Adder::new(carry, layout, gauge);
    let mut counts = xor::Encoder::new();
    let (mut sums, mut counters) = (Column::default(), Column::default());
    let mut range: Option<TimeRange> = None;
    let mut failed = None;
    let ts = |i: usize| data.ts.get(from + i).copied();
    windows(rows.len(), resolution, ts, |ts, window| {
        let result = (|| {
            counts.append(ts, window.len() as f64);
            let mut sum: Option<FloatHistogram> = None;
            for i in window {
                let Some(row) = rows.get(i) else { continue };
                let row = brought(row, &adder.layout)?;
                match &mut sum {
                    Some(sum) => sum.add(&row)?,
                    None => sum = Some(row.clone()),
                }
                adder.add(&row, data, from + i)?;
            }
            sums.push(ts, sum.unwrap_or_default());
            counters.push(ts, adder.total());
            Ok::<(), DownsampleError>(())
        })();
        failed = failed.take().or(result.err());
        let at = TimeRange::new(ts, ts);
        range = Some(range.map_or(at, |range| range.union(at)));
    });
    if let Some(e) = failed {
        return Err(e);
    }
    let header = adder.finish();
    assemble(range, counts, sums, counters, header)
}

/// Adds up a counter of histograms.
struct Adder<'a> {
    carry: &'a mut Carry,
    layout: FloatHistogram,
    gauge: bool,
    begun: bool,
    header: CounterReset,
}

impl<'a> Adder<'a> {
    fn new(carry: &'a mut Carry, layout: FloatHistogram, gauge: bool) -> Self {
        let header = match (gauge, &carry.total) {
            (true, _) => CounterReset::Gauge,
            (false, Some(_)) => CounterReset::NotReset,
            (false, None) => CounterReset::Unknown,
        };
        Self {
            carry,
            layout,
            gauge,
            begun: false,
            header,
        }
    }

    /// Adds `row`, which is histogram `i` of `data` in the common layout.
    fn add(
        &mut self,
        row: &FloatHistogram,
        data: &Histograms,
        i: usize,
    ) -> Result<(), DownsampleError> {
        let Some(original) = data.get(i) else {
            return Ok(());
        };
        self.begun = true;
        if self.gauge {
            // A gauge's counter is its last value; nobody asks for the rate of a gauge.
            self.carry.total = Some(row.clone());
            return Ok(());
        }
        let last = self.carry.last.get(0);
        let total = match (self.carry.total.take(), last) {
            (Some(mut total), Some(last)) => {
                if is_reset(original, last) {
                    total.add(row)?;
                } else {
                    let mut delta = row.clone();
                    delta.sub(&brought(&last.to_histogram(), &self.layout)?)?;
                    total.add(&delta)?;
                }
                total
            }
            _ => row.clone(),
        };
        self.carry.total = Some(total);
        self.carry.last.clear();
        self.carry.last.shared_layout(original.layout);
        let counts = original.counts.iter().copied();
        self.carry.last.push(0, original.scalars, counts);
        Ok(())
    }

    fn total(&self) -> FloatHistogram {
        self.carry.total.clone().unwrap_or_default()
    }

    fn finish(self) -> CounterReset {
        self.header
    }
}

fn assemble(
    range: Option<TimeRange>,
    counts: xor::Encoder,
    sums: Column,
    counters: Column,
    header: CounterReset,
) -> Result<Option<EncodedChunk>, DownsampleError> {
    let Some(range) = range else {
        return Ok(None);
    };
    let sums = sums.encode(CounterReset::Gauge)?;
    let counters = counters.encode(header)?;
    let some = |encoding, bytes| (!<[u8]>::is_empty(bytes)).then_some((encoding, bytes));
    let samples = counts.len();
    let data = encode([
        some(Encoding::XOR, counts.bytes()),
        some(Encoding::FLOAT_HISTOGRAM, &sums),
        None,
        None,
        some(Encoding::FLOAT_HISTOGRAM, &counters),
    ]);
    Ok(Some(EncodedChunk {
        range,
        encoding: Encoding::AGGREGATE,
        samples,
        data,
    }))
}

/// One chunk of several at a coarser resolution.
pub(super) fn combine(
    chunks: &[Opened<'_>],
    resolution: Millis,
    carry: &mut Carry,
) -> Result<Option<EncodedChunk>, DownsampleError> {
    let mut range: Option<TimeRange> = None;
    let mut reaches = |ts: Millis| {
        let at = TimeRange::new(ts, ts);
        range = Some(range.map_or(at, |range| range.union(at)));
    };
    let mut read = Columns::default();

    for opened in chunks {
        opened.read(Aggregate::Count, &mut read)?;
    }
    let mut counts = xor::Encoder::new();
    let all = &read;
    windows(
        all.len(),
        resolution,
        |i| all.ts.get(i).copied(),
        |ts, part| {
            counts.append(ts, all.values.get(part).unwrap_or_default().iter().sum());
            reaches(ts);
        },
    );

    let mut sums = Column::default();
    read.clear();
    for opened in chunks {
        opened.read(Aggregate::Sum, &mut read)?;
    }
    let mut failed = None;
    let all = &read.histograms;
    windows(
        all.len(),
        resolution,
        |i| all.ts.get(i).copied(),
        |ts, part| {
            let mut sum: Option<FloatHistogram> = None;
            for row in part.filter_map(|i| all.get(i)) {
                let row = row.to_histogram();
                match &mut sum {
                    Some(sum) => failed = failed.take().or(sum.add(&row).err()),
                    None => sum = Some(row),
                }
            }
            sums.push(ts, sum.unwrap_or_default());
            reaches(ts);
        },
    );
    if let Some(e) = failed {
        return Err(e.into());
    }

    let mut counters = Column::default();
    read.clear();
    for opened in chunks {
        opened.read(Aggregate::Counter, &mut read)?;
    }
    let all = &read.histograms;
    let rows: Vec<FloatHistogram> = all.iter().map(|(_, row)| row.to_histogram()).collect();
    let gauge = rows
        .first()
        .is_some_and(|r| r.counter_reset == CounterReset::Gauge);
    let layout = common(&rows)?;
    let mut adder = Adder::new(carry, layout, gauge);
    let mut failed = None;
    windows(
        rows.len(),
        resolution,
        |i| all.ts.get(i).copied(),
        |ts, part| {
            for i in part {
                let Some(row) = rows.get(i) else { continue };
                let added = brought(row, &adder.layout)
                    .map_err(DownsampleError::from)
                    .and_then(|row| adder.add(&row, all, i));
                failed = failed.take().or(added.err());
            }
            counters.push(ts, adder.total());
            reaches(ts);
        },
    );
    if let Some(e) = failed {
        return Err(e);
    }
    let header = adder.finish();
    assemble(range, counts, sums, counters, header)
}
