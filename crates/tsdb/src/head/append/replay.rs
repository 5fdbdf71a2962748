//! Appending what the log has: it was judged before, nobody reads yet, and there is much of it.

use chunk::xor;
use model::histogram::Histogram;
use model::{Millis, TimeRange};

use super::Held;
use crate::head::Head;
use crate::head::page::{PAGE, Taken};

/// A row of the log that is no plain float: series, time, start timestamp.
pub(crate) type ReplayRow = (u32, Millis, Millis, ReplayValue);

/// The value of a [`ReplayRow`].
pub(crate) enum ReplayValue {
    Float(f64),
    Histogram(Histogram),
}

/// Memory of [`Head::replay`], to be used again.
#[derive(Default)]
pub(crate) struct ReplayScratch {
    /// The samples of a page, series by series.
    samples: Vec<(Millis, f64)>,
    chunk: xor::Scratch,
}

impl ReplayScratch {
    /// Takes the samples of a page, which are given scrape by scrape; where those of each slot end.
    fn sort<'a, R>(&mut self, runs: R) -> [usize; PAGE as usize]
    where
        R: Iterator<Item = (&'a [u8], &'a [(Millis, f64)])> + Clone,
    {
        let mut next = [0; PAGE as usize];
        for (slots, _) in runs.clone() {
            for &slot in slots {
                next[usize::from(slot) % next.len()] += 1;
            }
        }
        let mut all = 0;
        for place in &mut next {
            all += std::mem::replace(place, all);
        }
        self.samples.clear();
        self.samples.resize(all, (0, 0.0));
        for (slots, rows) in runs {
            for (&slot, &row) in slots.iter().zip(rows) {
                let place = &mut next[usize::from(slot) % PAGE as usize];
                if let Some(sample) = self.samples.get_mut(*place) {
                    *sample = row;
                }
                *place += 1;
            }
        }
        // Each is where the next one began.
        next
    }
}

impl Head {
    /// Appends floats of the log, by page: those of series that exist, later than what is there. The
    /// answer is how many had no series.
    pub(crate) fn replay<'a, R>(
        &self,
        by_page: impl Iterator<Item = (u32, R)>,
        scratch: &mut ReplayScratch,
    ) -> u64
    where
        R: Iterator<Item = (&'a [u8], &'a [(Millis, f64)])> + Clone,
    {
        let chunking = self.chunking();
        let pages = self.pages.read();
        let mut done = ReplayDone::default();
        for (number, runs) in by_page {
            let Some(page) = pages.get(number as usize) else {
                done.unknown += runs.map(|run| run.1.len() as u64).sum::<u64>();
                continue;
            };
            let ends = scratch.sort(runs);
            let page = &mut *page.0.lock();
            page.touch(0..ends.len());
            let mut start = 0;
            for (slot, end) in ends.into_iter().enumerate() {
                let mut rest = &scratch.samples[start..end];
                start = end;
                while let Some((&(ts, value), behind)) = rest.split_first() {
                    let many = page.append_many(slot, rest, chunking, &mut scratch.chunk);
                    done.appended(&rest[..many]);
                    rest = match many {
                        0 => {
                            done.note(ts, page.append_replayed(slot, (ts, value), chunking));
                            behind
                        }
                        many => &rest[many..],
                    };
                }
            }
        }
        self.replayed(done)
    }

    /// Appends rows of the log that are no plain floats: those of series that exist, later than what
    /// is there and not older than `min`. The answer is how many had no series.
    pub(crate) fn replay_rows(&self, rows: &[ReplayRow], min: Millis) -> u64 {
        let chunking = self.chunking();
        let pages = self.pages.read();
        let mut held = Held::new(&pages);
        let mut done = ReplayDone::default();
        for (id, ts, start, value) in rows {
            let (id, ts, start) = (*id, *ts, *start);
            if ts < min {
                continue;
            }
            let end = held.get(id).and_then(|(page, slot)| match value {
                ReplayValue::Float(value) => {
                    page.append(slot, (ts, start, *value), chunking, (0, 0))
                }
                ReplayValue::Histogram(value) => {
                    page.append_histogram(slot, (ts, start), value, chunking, (0, 0))
                }
            });
            done.note(ts, end);
        }
        drop(held);
        self.replayed(done)
    }

    /// Counts what was replayed; the answer is how many rows had no series.
    fn replayed(&self, done: ReplayDone) -> u64 {
        self.stats.chunks.add(done.chunks);
        self.stats.chunks_created.add(done.chunks as u64);
        self.saw(done.range);
        done.unknown
    }
}

/// What became of rows of the log.
struct ReplayDone {
    /// They had no series.
    unknown: u64,
    chunks: i64,
    /// The times of those that were taken.
    range: TimeRange,
}

impl Default for ReplayDone {
    fn default() -> Self {
        Self {
            unknown: 0,
            chunks: 0,
            range: TimeRange::EMPTY,
        }
    }
}

impl ReplayDone {
    /// Samples that became the newest of an open chunk, ascending by time.
    #[inline]
    fn appended(&mut self, samples: &[(Millis, f64)]) {
        if let (Some(first), Some(last)) = (samples.first(), samples.last()) {
            self.range.min = self.range.min.min(first.0);
            self.range.max = self.range.max.max(last.0);
        }
    }

    #[inline]
    fn note(&mut self, ts: Millis, end: Option<Taken>) {
        match end {
            None => {
                self.unknown += 1;
                return;
            }
            Some(Taken::No(_) | Taken::Same) => return,
            Some(Taken::NewChunk) => self.chunks += 1,
            Some(Taken::Yes) => {}
        }
        self.range.min = self.range.min.min(ts);
        self.range.max = self.range.max.max(ts);
    }
}
