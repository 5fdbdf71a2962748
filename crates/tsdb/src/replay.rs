//! Reading the log back into the head: the checkpoint first, then the segments behind it.
//!
//! One thread reads, checks, decompresses and makes series; the samples go to workers by page, so
//! that each series' samples keep their order.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use model::{Labels, Millis};

use crate::fs::Fs;
use crate::head::{Head, PAGE};
use crate::wal::record::{self, RecordKind};
use crate::wal::{self, Ahead, checkpoint};
use crate::{Error, Stats};

/// How far a replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Segments read.
    pub done: u64,
    /// Segments there are, those of the checkpoint included.
    pub total: u64,
}

impl Progress {
    /// How much of it is done, of 100.
    pub fn percent(&self) -> u64 {
        (self.done * 100).checked_div(self.total).unwrap_or(100)
    }
}

/// What a replay found.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// Series in the head afterwards.
    pub series: u64,
    /// Samples read, those that blocks have already included.
    pub samples: u64,
    /// Samples whose series the log does not have.
    pub unknown: u64,
    /// Samples of the out-of-order log.
    pub out_of_order: u64,
    /// Those of them whose series the log does not have.
    pub out_of_order_unknown: u64,
    /// Histogram records, which are not kept yet.
    pub histograms: u64,
    /// Damaged segments, with what is wrong; their rest was set aside.
    pub damaged: Vec<String>,
    /// How long it took.
    pub took: Duration,
    /// References in the log that stand for a series with another number.
    pub(crate) renamed: HashMap<u64, u32>,
}

type Samples = Vec<(u32, Millis, f64)>;

/// What a worker is given.
enum Job {
    Samples(Samples),
    /// Everybody waits for everybody, twice: between the two the reader has the head to itself.
    Meet(Arc<Barrier>),
}

/// Samples given to a worker at once.
const HANDED: usize = 8192;
/// Lists that may wait for a worker.
const WAITING: usize = 16;
/// So many samples are gathered and brought into the order of pages before they are appended: a
/// series then gets several at once, while it is in the cache.
const GATHERED: usize = 512 << 10;

/// Samples on their way into the head.
#[derive(Default)]
struct Gathered {
    samples: Samples,
    sorted: Samples,
    /// By page: how many, then where the next one goes.
    places: Vec<u32>,
}

impl Gathered {
    /// Appends everything; how many samples had no series.
    fn empty_into(&mut self, head: &Head, min: Millis) -> u64 {
        let pages = self.samples.iter().map(|s| (s.0 / PAGE) as usize);
        let (Some(first), Some(last)) = (pages.clone().min(), pages.clone().max()) else {
            return 0;
        };
        // Where references are few and far between, order would cost more than it brings.
        if last - first > self.samples.len() {
            let unknown = head.replay(&self.samples, min);
            self.samples.clear();
            return unknown;
        }
        self.places.clear();
        self.places.resize(last - first + 1, 0);
        for page in pages {
            self.places[page - first] += 1;
        }
        let mut sum = 0;
        for place in &mut self.places {
            sum += std::mem::replace(place, sum);
        }
        self.sorted.clear();
        self.sorted.resize(self.samples.len(), (0, 0, 0.0));
        for s in &self.samples {
            let place = &mut self.places[(s.0 / PAGE) as usize - first];
            self.sorted[*place as usize] = *s;
            *place += 1;
        }
        self.samples.clear();
        head.replay(&self.sorted, min)
    }
}

struct Workers {
    senders: Vec<SyncSender<Job>>,
    lists: Vec<Samples>,
    spare: Receiver<Samples>,
}

impl Workers {
    #[inline]
    fn push(&mut self, id: u32, ts: Millis, value: f64) {
        let worker = (id / PAGE) as usize % self.lists.len();
        self.lists[worker].push((id, ts, value));
        if self.lists[worker].len() >= HANDED {
            self.hand(worker);
        }
    }

    fn hand(&mut self, worker: usize) {
        let mut next = self
            .spare
            .try_recv()
            .unwrap_or_else(|_| Vec::with_capacity(HANDED));
        next.clear();
        let full = std::mem::replace(&mut self.lists[worker], next);
        // A worker only ends once its sender is gone.
        let _ = self.senders[worker].send(Job::Samples(full));
    }

    /// Runs `alone` once everything given so far is in the head.
    fn alone(&mut self, alone: impl FnOnce()) {
        self.hand_all();
        let barrier = Arc::new(Barrier::new(self.senders.len() + 1));
        let meets = |sender: &SyncSender<Job>| sender.send(Job::Meet(Arc::clone(&barrier))).is_ok();
        if self.senders.iter().all(meets) {
            barrier.wait();
            alone();
            barrier.wait();
        }
    }

    fn hand_all(&mut self) {
        for worker in 0..self.lists.len() {
            self.hand(worker);
        }
    }
}

/// Reads the log of `dir` (the `wal` folder) into `head`. Samples before `min` are in blocks.
pub(crate) fn replay(
    fs: &dyn Fs,
    dir: &Path,
    head: &Head,
    min: Millis,
    stats: &Arc<Stats>,
    progress: &dyn Fn(Progress),
) -> Result<Replayed, Error> {
    let started = Instant::now();
    checkpoint::remove_temporary(fs, dir)?;
    let mut inputs: Vec<(PathBuf, bool)> = Vec::new();
    let mut first = 0;
    if let Some((number, path)) = checkpoint::latest(dir)? {
        inputs.extend(wal::segments(&path)?.into_iter().map(|s| (s.1, false)));
        first = number + 1;
    }
    let segments = wal::segments(dir)?;
    let last = segments.last().map(|s| s.0);
    inputs.extend(
        segments
            .into_iter()
            .filter(|s| s.0 >= first)
            .map(|(n, path)| (path, Some(n) == last)),
    );
    let total = inputs.len() as u64;
    let threads = std::thread::available_parallelism()
        .map_or(2, |n| n.get())
        .clamp(1, 8);

    let mut replayed = Replayed::default();
    let (give_back, spare) = sync_channel(threads * WAITING);
    std::thread::scope(|scope| {
        let mut senders = Vec::new();
        let mut handles = Vec::new();
        for _ in 0..threads {
            let (sender, receiver) = sync_channel::<Job>(WAITING);
            let give_back = give_back.clone();
            senders.push(sender);
            handles.push(scope.spawn(move || {
                let mut unknown = 0;
                let mut gathered = Gathered::default();
                while let Ok(job) = receiver.recv() {
                    match job {
                        Job::Samples(list) => {
                            gathered.samples.extend_from_slice(&list);
                            let _ = give_back.try_send(list);
                            if gathered.samples.len() >= GATHERED {
                                unknown += gathered.empty_into(head, min);
                            }
                        }
                        Job::Meet(barrier) => {
                            unknown += gathered.empty_into(head, min);
                            barrier.wait();
                            barrier.wait();
                        }
                    }
                }
                unknown + gathered.empty_into(head, min)
            }));
        }
        let mut workers = Workers {
            senders,
            lists: vec![Vec::with_capacity(HANDED); threads],
            spare,
        };
        let mut result = Ok(());
        for (done, (path, is_last)) in inputs.iter().enumerate() {
            progress(Progress {
                done: done as u64,
                total,
            });
            result = segment(fs, path, *is_last, head, &mut workers, &mut replayed);
            if result.is_err() {
                break;
            }
        }
        workers.hand_all();
        drop(workers);
        for handle in handles {
            // A worker that panicked lost samples: that must not pass for a good start.
            match handle.join() {
                Ok(unknown) => replayed.unknown += unknown,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    })?;
    head.order_index();
    progress(Progress { done: total, total });
    replayed.series = head.series() as u64;
    replayed.took = started.elapsed();
    stats.replay_unknown_refs.add(replayed.unknown);
    stats.replay_histograms_skipped.add(replayed.histograms);
    stats.wal_corruptions.add(replayed.damaged.len() as u64);
    stats.replay_seconds.set(replayed.took.as_secs_f64());
    Ok(replayed)
}

fn segment(
    fs: &dyn Fs,
    path: &Path,
    is_last: bool,
    head: &Head,
    workers: &mut Workers,
    replayed: &mut Replayed,
) -> Result<(), Error> {
    let mut reader = Ahead::open(fs, path)?;
    loop {
        let error = match reader.read() {
            Ok(Some(bytes)) => {
                if take(bytes, head, workers, replayed).is_err() {
                    // Its checksum is right, so its neighbours can be trusted.
                    let what = format!("{}: a malformed record was left out", path.display());
                    tracing::warn!("{what}");
                    replayed.damaged.push(what);
                }
                continue;
            }
            Ok(None) => return Ok(()),
            Err(e) => e,
        };
        let good = reader.good_offset();
        return wal::give_up(fs, path, good, error, is_last, &mut replayed.damaged);
    }
}

fn take(
    bytes: &[u8],
    head: &Head,
    workers: &mut Workers,
    replayed: &mut Replayed,
) -> Result<(), record::BadRecord> {
    let Replayed {
        samples,
        unknown,
        histograms,
        renamed,
        ..
    } = replayed;
    let number = |renamed: &HashMap<u64, u32>, reference: u64| {
        if !renamed.is_empty()
            && let Some(&id) = renamed.get(&reference)
        {
            return Some(id);
        }
        u32::try_from(reference).ok()
    };
    match record::kind(bytes) {
        RecordKind::Series => record::read_series(bytes, |reference, labels| {
            let set = if labels.is_sorted_by(|a, b| a.0 < b.0)
                && labels.iter().all(|l| !l.1.is_empty())
            {
                Labels::from_sorted(labels.iter().copied())
            } else {
                Labels::from_pairs(labels.iter().copied())
            };
            if let Some(id) = head.make_as(&set, reference)
                && u64::from(id) != reference
            {
                renamed.insert(reference, id);
            }
            head.skip_numbers(reference);
        }),
        RecordKind::Samples | RecordKind::SamplesV2 => {
            record::read_samples(bytes, |reference, ts, value| {
                *samples += 1;
                match number(renamed, reference) {
                    Some(id) => workers.push(id, ts, value),
                    None => *unknown += 1,
                }
            })
        }
        RecordKind::Tombstones => {
            let mut stones = Vec::new();
            record::read_tombstones(bytes, |reference, min, max| {
                if let Some(id) = number(renamed, reference) {
                    stones.push((id, min, max));
                }
            })?;
            // Only what came before it in the log is deleted.
            workers.alone(|| {
                for (id, min, max) in stones {
                    head.delete(id, min, max);
                }
            });
            Ok(())
        }
        RecordKind::Histograms => {
            *histograms += 1;
            Ok(())
        }
        // Not kept in memory yet.
        RecordKind::Exemplars | RecordKind::Metadata | RecordKind::Unknown(_) => Ok(()),
    }
}
