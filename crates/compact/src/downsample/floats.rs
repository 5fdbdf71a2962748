//! Windows of floats.

use chunk::aggregate::{Counter, encode};
use chunk::{ChunkError, Columns, EncodedChunk, xor};
use model::source::Aggregate;
use model::{Encoding, Millis, TimeRange};

use super::{Opened, windows};

/// Makes one value of the values of a window.
type Fold = fn(&[f64]) -> f64;

/// A counter that goes on across resets.
#[derive(Default)]
struct Running {
    total: f64,
    last: Option<f64>,
}

impl Running {
    fn add(&mut self, value: f64) {
        self.total = match self.last {
            None => value,
            Some(last) if value < last => self.total + value,
            Some(last) => self.total + (value - last),
        };
        self.last = Some(value);
    }
}

/// The columns of a chunk.
#[derive(Default)]
struct Out {
    columns: [xor::Encoder; 5],
    range: Option<TimeRange>,
}

const COUNT: usize = 0;
const SUM: usize = 1;
const MIN: usize = 2;
const MAX: usize = 3;
const COUNTER: usize = 4;

impl Out {
    fn push(&mut self, column: usize, ts: Millis, value: f64) {
        self.columns[column].append(ts, value);
    }

    fn reaches(&mut self, ts: Millis) {
        let at = TimeRange::new(ts, ts);
        self.range = Some(self.range.map_or(at, |range| range.union(at)));
    }

    fn finish(self) -> Option<EncodedChunk> {
        let range = self.range?;
        let samples = self.columns[COUNT].len();
        let columns = self.columns.each_ref().map(|c| match c.is_empty() {
            true => None,
            false => Some((Encoding::XOR, c.bytes())),
        });
        Some(EncodedChunk {
            range,
            encoding: Encoding::AGGREGATE,
            samples,
            data: encode(columns),
        })
    }
}

/// One chunk of raw samples without NaN; none without samples.
pub(super) fn chunk(batch: &[(Millis, f64)], resolution: Millis) -> Option<EncodedChunk> {
    let (&(first_ts, first), &(_, last)) = (batch.first()?, batch.last()?);
    let mut out = Out::default();
    let mut running = Running::default();
    out.push(COUNTER, first_ts, first);
    let ts = |i: usize| batch.get(i).map(|s| s.0);
    let end = windows(batch.len(), resolution, ts, |ts, part| {
        let samples = batch.get(part).unwrap_or_default();
        let (mut sum, mut min, mut max) = (0.0, f64::INFINITY, f64::NEG_INFINITY);
        for &(_, value) in samples {
            sum += value;
            min = f64::min(min, value);
            max = f64::max(max, value);
            running.add(value);
        }
        out.push(COUNT, ts, samples.len() as f64);
        out.push(SUM, ts, sum);
        out.push(MIN, ts, min);
        out.push(MAX, ts, max);
        out.push(COUNTER, ts, running.total);
        out.reaches(ts);
    })?;
    out.push(COUNTER, end, last);
    out.finish()
}

/// One chunk of several at a coarser resolution.
pub(super) fn combine(
    chunks: &[Opened<'_>],
    resolution: Millis,
) -> Result<Option<EncodedChunk>, ChunkError> {
    let mut out = Out::default();
    let mut all = Columns::default();
    let fold: [(Aggregate, usize, Fold); 4] = [
        (Aggregate::Count, COUNT, |v| v.iter().sum()),
        (Aggregate::Sum, SUM, |v| v.iter().sum()),
        (Aggregate::Min, MIN, |v| {
            v.iter().copied().fold(f64::INFINITY, f64::min)
        }),
        (Aggregate::Max, MAX, |v| {
            v.iter().copied().fold(f64::NEG_INFINITY, f64::max)
        }),
    ];
    for (aggregate, column, fold) in fold {
        all.clear();
        for opened in chunks {
            opened.read(aggregate, &mut all)?;
        }
        let all = &all;
        windows(
            all.len(),
            resolution,
            |i| all.ts.get(i).copied(),
            |ts, part| {
                out.push(column, ts, fold(all.values.get(part).unwrap_or_default()));
                out.reaches(ts);
            },
        );
    }

    let mut counter = Counter::default();
    let mut whole = Columns::default();
    for opened in chunks {
        all.clear();
        opened.read(Aggregate::Counter, &mut all)?;
        counter.add(&all, &mut whole);
    }
    if let (Some((ts, value)), Some(last)) = (whole.iter().next(), counter.last_value()) {
        out.push(COUNTER, ts, value);
        let mut running = Running::default();
        let end = windows(
            whole.len(),
            resolution,
            |i| whole.ts.get(i).copied(),
            |ts, part| {
                for &value in whole.values.get(part).unwrap_or_default() {
                    running.add(value);
                }
                out.push(COUNTER, ts, running.total);
                out.reaches(ts);
            },
        );
        if let Some(end) = end {
            out.push(COUNTER, end, last);
        }
    }
    Ok(out.finish())
}
