//! What each part of a plan yields: for `query.max-samples`, for statistics and for `analyze`.
//!
//! `query.max-samples` is held against the samples that an evaluation step by step would hold, as
//! Prometheus evaluates: an operand is finished before the next begins; a range function's widest
//! window stands beside its result, a result beside its finished operands, those of one step
//! gathered once more, and an aggregation's takes their place. A number written in the query is held
//! once a step. (Those gathered are taken to be the same at each step, and the widest window to be
//! looked at last: for queries at the very edge the verdict may differ by the samples of one step or
//! one window. Nothing of it is known per step or in the order of series, so that it costs one
//! addition a series.)
//! Whether they are really held does not matter (a streaming aggregation holds none of its input),
//! so the verdict depends on the data alone, never on batches or threads, and a query that
//! Prometheus refuses is refused here. Memory has a limit of its own, in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream::StreamExt as _;

use super::block::{Row, beside, count};
use super::context::Context;
use super::operator::{Blocks, Description, Yield};

/// Counters of one part of a plan.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    series: AtomicU64,
    samples: AtomicU64,
    /// Steps of series: what [`Self::samples`] is if histograms count once.
    points: AtomicU64,
    bytes: AtomicU64,
    nanos: AtomicU64,
    /// Samples of the widest window of a range function.
    window: AtomicU64,
}

/// What a [`Meter`] has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Rows yielded. The pieces of one series may be several.
    pub series: u64,
    /// Samples yielded.
    pub samples: u64,
    /// Bytes of the chunks a scan read, or of the blocks an operator yielded.
    pub bytes: u64,
    /// Time spent: of what happens to each series alone, on all threads, without what is below; of
    /// other operators, from their first to their last block.
    pub time: Duration,
}

/// A job's counts, before they are added to the meter.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) series: u64,
    pub(crate) samples: u64,
    pub(crate) points: u64,
    pub(crate) bytes: u64,
    pub(crate) nanos: u64,
}

impl Counts {
    /// A series of so many points, which count as so many samples.
    pub(crate) fn samples(&mut self, points: usize, samples: usize) {
        self.series += 1;
        self.points += points as u64;
        self.samples += samples as u64;
    }

    pub(crate) fn row(&mut self, row: &Row) {
        let points = count(&row.bits);
        self.samples(points, points + beside(&row.histograms));
    }
}

impl Meter {
    pub(crate) fn add(&self, counts: &Counts) {
        let add = |counter: &AtomicU64, n| counter.fetch_add(n, Ordering::Relaxed);
        add(&self.series, counts.series);
        add(&self.samples, counts.samples);
        add(&self.points, counts.points);
        add(&self.bytes, counts.bytes);
        add(&self.nanos, counts.nanos);
    }

    /// A range function looked at a window of so many samples.
    pub(crate) fn window(&self, samples: u64) {
        self.window.fetch_max(samples, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Measured {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Measured {
            series: get(&self.series),
            samples: get(&self.samples),
            bytes: get(&self.bytes),
            time: Duration::from_nanos(get(&self.nanos)),
        }
    }
}

/// Counts the blocks of an operator, and ends the query once they are too many samples.
pub(crate) fn metered(blocks: Blocks, meter: &Arc<Meter>, cx: &Arc<Context>) -> Blocks {
    let (meter, cx) = (Arc::clone(meter), Arc::clone(cx));
    let mut begun: Option<Instant> = None;
    let mut blocks = blocks;
    futures_util::stream::poll_fn(move |task| {
        if cx.analyze && begun.is_none() {
            begun = Some(Instant::now());
        }
        let polled = blocks.poll_next_unpin(task);
        polled.map(|next| match next {
            Some(Ok(block)) => {
                let counts = Counts {
                    series: block.len() as u64,
                    samples: block.samples() as u64,
                    points: block.points() as u64,
                    bytes: block.bytes() as u64,
                    nanos: 0,
                };
                meter.add(&counts);
                Some(cx.count(counts.samples).map(|()| block))
            }
            end_or_error => {
                if let Some(begun) = begun {
                    let nanos = begun.elapsed().as_nanos() as u64;
                    meter.nanos.store(nanos, Ordering::Relaxed);
                }
                end_or_error
            }
        })
    })
    .boxed()
}

/// The samples an evaluation of the plan step by step would hold at most, so far.
pub(crate) fn peak(plan: &Description) -> u64 {
    held(plan).0
}

/// What a finished part leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Live {
    /// Samples; histograms count by their size.
    samples: u64,
    /// Steps of series: histograms count once, as they do where those of a step are gathered.
    points: u64,
}

impl Live {
    fn add(&mut self, other: Live) {
        self.samples += other.samples;
        self.points += other.points;
    }

    /// Those of one step.
    fn of_a_step(&self, part: &Description) -> u64 {
        self.points.div_ceil(part.steps.max(1) as u64)
    }
}

/// The most samples held while `part` is evaluated, and what it leaves behind.
fn held(part: &Description) -> (u64, Live) {
    let (mut peak, mut live, mut numbers) = (0, Live::default(), 0);
    for operand in &part.children {
        let (inside, result) = held(operand);
        peak = peak.max(live.samples + inside);
        live.add(result);
        if operand.numbers > 0 {
            numbers += result.samples;
        }
    }
    let (mut own, mut window) = (Live::default(), 0);
    if part.numbers > 0 {
        own.samples = part.numbers as u64;
        own.points = own.samples;
    } else if let Some(meter) = &part.meter {
        own.samples = meter.samples.load(Ordering::Relaxed);
        own.points = meter.points.load(Ordering::Relaxed);
        window = meter.window.load(Ordering::Relaxed);
    }
    let (while_made, result) = match part.result {
        Yield::Input => return (peak, live),
        Yield::Elsewhere => return (0, Live::default()),
        Yield::Gathered | Yield::Joined => {
            let gathered = live.samples + live.of_a_step(part) + own.samples;
            if part.result == Yield::Joined {
                own.samples += live.samples;
            }
            (gathered, own)
        }
        Yield::Beside => {
            let made = live.samples + own.samples + window;
            own.samples += numbers;
            (made, own)
        }
        Yield::Selected => (own.samples + own.of_a_step(part), own),
        Yield::Instead => (live.samples.max(own.samples), own),
    };
    (peak.max(while_made), result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peak_and_left(part: &Description) -> (u64, u64) {
        let (peak, live) = held(part);
        (peak, live.samples)
    }

    fn part(samples: u64, result: Yield, children: Vec<Description>) -> Description {
        let meter = Meter::default();
        meter.add(&Counts {
            samples,
            points: samples,
            ..Counts::default()
        });
        if result == Yield::Beside {
            meter.window(20);
        }
        Description::new("x", true, "")
            .metered(&Arc::new(meter))
            .yields(result)
            .over(children)
    }

    #[test]
    fn operands_are_held_until_the_result_is_there() {
        let selector = |n| part(n, Yield::Beside, vec![]);
        assert_eq!(peak_and_left(&selector(3)), (23, 3));
        let sum = |n| part(1, Yield::Instead, vec![selector(n)]);
        assert_eq!(peak_and_left(&sum(100)), (120, 1));
        // The second operand begins when only the result of the first is left.
        let join = part(1, Yield::Gathered, vec![sum(100), sum(100)]);
        assert_eq!(peak_and_left(&join), (121, 1));
        let mut abs = part(40, Yield::Gathered, vec![selector(40)]);
        assert_eq!(peak_and_left(&abs), (120, 40));
        abs.steps = 10;
        assert_eq!(peak_and_left(&abs), (84, 40));
        assert_eq!(peak_and_left(&part(5, Yield::Input, vec![sum(9)])), (29, 1));
    }
}
