//! Reading the log back into the head: the checkpoint first, then the segments behind it.
//!
//! One thread reads, checks and decompresses, one makes sense of the records and makes series; the
//! samples go to workers by page, so that each series' samples keep their order. Samples that lie in
//! chunk files already go no further than the second.

mod gathered;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use model::report::Metadata;
use model::sink::Exemplar;
use model::{Labels, Millis, SeriesRef};

use crate::Error;
use crate::fs::Fs;
use crate::head::{Filed, Head, PAGE, ReplayRow, ReplayValue};
use crate::wal::record::{self, RecordKind};
use crate::wal::{self, Ahead, checkpoint};
use gathered::{Floats, Gathered, Marked, OtherRows};

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
    /// Histograms read, those that blocks have already included.
    pub histograms: u64,
    /// Exemplars read.
    pub exemplars: u64,
    /// Damaged segments, with what is wrong; their rest was set aside.
    pub damaged: Vec<String>,
    /// How long it took.
    pub took: Duration,
    /// References in the log that stand for a series with another number.
    pub(crate) renamed: HashMap<u64, u32>,
    /// The highest reference of a sample.
    highest: u64,
}

/// What a worker is given.
enum Job {
    Floats(Floats),
    Others(OtherRows),
    /// Everybody waits for everybody, twice: between the two the reader has the head to itself.
    Meet(Arc<Barrier>),
}

/// Where the samples of a page go. They come in runs.
#[derive(Clone, Copy)]
struct Turn {
    page: usize,
    worker: usize,
    /// Series of the page have chunks in files.
    filed: bool,
}

/// No page yet: none has this number.
const NOBODYS: Turn = Turn {
    page: usize::MAX,
    worker: 0,
    filed: false,
};

/// Samples given to a worker at once.
const HANDED: usize = 8192;
/// Lists that may wait for a worker.
const WAITING: usize = 16;

/// Other rows given to a worker at once.
const HANDED_OTHERS: usize = 256;

struct Workers {
    senders: Vec<SyncSender<Job>>,
    lists: Vec<Floats>,
    spare: Receiver<Floats>,
    others: Vec<OtherRows>,
    /// Series of which other rows came by,
    marked: Marked,
    /// and whether a list holds floats of one.
    mixed: Vec<bool>,
    /// Older samples are in blocks.
    min: Millis,
    /// The page of the sample before, and whose it is.
    turn: Turn,
    /// By page and slot: samples up to this time are in the chunks of the series, and would be refused.
    /// Empty as long as no series has chunks in files.
    filed: Vec<Option<Box<[Millis; PAGE as usize]>>>,
}

impl Workers {
    #[inline]
    fn push(&mut self, id: u32, ts: Millis, value: f64) {
        let (page, slot) = ((id / PAGE) as usize, (id % PAGE) as usize);
        if page != self.turn.page {
            self.turn = Turn {
                page,
                worker: page % self.lists.len(),
                filed: self.filed_until(page).is_some(),
            };
        }
        let Turn { worker, filed, .. } = self.turn;
        let until = |page: &[Millis; PAGE as usize]| ts <= page[slot];
        if ts < self.min || filed && self.filed_until(page).is_some_and(until) {
            return;
        }
        if !self.marked.is_empty() && self.marked.has(id) {
            self.hand_others(worker);
            self.mixed[worker] = true;
        }
        let list = &mut self.lists[worker];
        list.push(id, ts, value);
        if list.len() >= HANDED {
            self.hand(worker);
        }
    }

    fn filed_until(&self, page: usize) -> Option<&[Millis; PAGE as usize]> {
        self.filed.get(page)?.as_deref()
    }

    /// The newest sample of a series is at `until` now. It stays that new whatever is deleted.
    fn set_filed(&mut self, id: u32, until: Millis) {
        let (page, slot) = ((id / PAGE) as usize, (id % PAGE) as usize);
        if page >= self.filed.len() {
            self.filed.resize(page + 1, None);
        }
        let page = self.filed[page].get_or_insert_with(|| Box::new([Millis::MIN; PAGE as usize]));
        page[slot] = until;
        self.turn = NOBODYS;
    }

    fn push_other(&mut self, row: ReplayRow) {
        let worker = (row.0 / PAGE) as usize % self.lists.len();
        if self.marked.mark(row.0) || self.mixed[worker] {
            self.hand(worker);
        }
        self.others[worker].push(row);
        if self.others[worker].len() >= HANDED_OTHERS {
            self.hand_others(worker);
        }
    }

    fn hand_others(&mut self, worker: usize) {
        let full = std::mem::take(&mut self.others[worker]);
        if !full.is_empty() {
            let _ = self.senders[worker].send(Job::Others(full));
        }
    }

    fn hand(&mut self, worker: usize) {
        self.mixed[worker] = false;
        if self.lists[worker].len() == 0 {
            return;
        }
        let mut next = self
            .spare
            .try_recv()
            .unwrap_or_else(|_| Floats::with_capacity(HANDED));
        next.clear();
        let full = std::mem::replace(&mut self.lists[worker], next);
        // A worker only ends once its sender is gone.
        let _ = self.senders[worker].send(Job::Floats(full));
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
            // What is in both lists does not belong to the same series: see `Workers::push`.
            self.hand(worker);
            self.hand_others(worker);
        }
    }
}

/// Reads the log of `dir` (the `wal` folder) into `head`, and gives series the chunks that files have of
/// them. Samples before `min` are in blocks.
pub(crate) fn replay(
    fs: &dyn Fs,
    dir: &Path,
    head: &Head,
    mut filed: Filed,
    min: Millis,
    progress: &dyn Fn(Progress),
) -> Result<Replayed, Error> {
    let started = Instant::now();
    let stats = head.stats();
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
    let (give_back, spare) = sync_channel(threads * gathered::LISTS);
    std::thread::scope(|scope| {
        let mut senders = Vec::new();
        let mut handles = Vec::new();
        for _ in 0..threads {
            let (sender, receiver) = sync_channel::<Job>(WAITING);
            let give_back = give_back.clone();
            senders.push(sender);
            handles.push(scope.spawn(move || {
                let (mut unknown, mut unknown_histograms) = (0, 0);
                let mut gathered = Gathered::new(give_back);
                while let Ok(job) = receiver.recv() {
                    match job {
                        Job::Floats(list) => unknown += gathered.take(list, head),
                        Job::Others(rows) => {
                            let more = gathered.take_others(&rows, head, min);
                            unknown += more.0;
                            unknown_histograms += more.1;
                        }
                        Job::Meet(barrier) => {
                            unknown += gathered.empty_into(head);
                            barrier.wait();
                            barrier.wait();
                        }
                    }
                }
                unknown += gathered.empty_into(head);
                (unknown, unknown_histograms)
            }));
        }
        let mut workers = Workers {
            senders,
            lists: (0..threads)
                .map(|_| Floats::with_capacity(HANDED))
                .collect(),
            spare,
            others: (0..threads).map(|_| Vec::new()).collect(),
            marked: Marked::default(),
            mixed: vec![false; threads],
            min,
            turn: NOBODYS,
            filed: Vec::new(),
        };
        let mut result = Ok(());
        for (done, (path, is_last)) in inputs.iter().enumerate() {
            progress(Progress {
                done: done as u64,
                total,
            });
            result = segment(
                fs,
                path,
                *is_last,
                head,
                &mut filed,
                &mut workers,
                &mut replayed,
            );
            if result.is_err() {
                break;
            }
        }
        workers.hand_all();
        drop(workers);
        for handle in handles {
            // A worker that panicked lost samples: that must not pass for a good start.
            match handle.join() {
                Ok((floats, histograms)) => {
                    replayed.unknown += floats + histograms;
                    stats.replay_unknown_refs.add(floats);
                    stats.head.unknown_histograms.add(histograms);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    })?;
    head.order_index();
    progress(Progress { done: total, total });
    if filed.left() > 0 {
        tracing::info!(
            chunks = filed.left(),
            "files have chunks of series that the log does not have"
        );
    }
    // Where the labels of a series are lost, its samples stay in the log without an owner: none of
    // the series to come may take them for its own at the next replay.
    head.skip_numbers(replayed.highest);
    replayed.series = head.series() as u64;
    replayed.took = started.elapsed();
    stats.wal_corruptions.add(replayed.damaged.len() as u64);
    stats.replay_seconds.set(replayed.took.as_secs_f64());
    Ok(replayed)
}

fn segment(
    fs: &dyn Fs,
    path: &Path,
    is_last: bool,
    head: &Head,
    filed: &mut Filed,
    workers: &mut Workers,
    replayed: &mut Replayed,
) -> Result<(), Error> {
    let mut reader = Ahead::open(fs, path)?;
    loop {
        let error = match reader.read() {
            Ok(Some(bytes)) => {
                match take(bytes, head, filed, workers, replayed) {
                    Ok(()) => {}
                    Err(Stop::Failed(e)) => return Err(e),
                    Err(Stop::Bad) => {
                        // Its checksum is right, so its neighbours can be trusted.
                        let what = format!("{}: a malformed record was left out", path.display());
                        tracing::warn!("{what}");
                        replayed.damaged.push(what);
                    }
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
    filed: &mut Filed,
    workers: &mut Workers,
    replayed: &mut Replayed,
) -> Result<(), Stop> {
    let Replayed {
        samples,
        unknown,
        histograms,
        exemplars,
        renamed,
        highest,
        ..
    } = replayed;
    let counts = &head.stats().head;
    let number = |renamed: &HashMap<u64, u32>, reference: u64| {
        if !renamed.is_empty()
            && let Some(&id) = renamed.get(&reference)
        {
            return Some(id);
        }
        u32::try_from(reference).ok()
    };
    match record::kind(bytes) {
        RecordKind::Series => Ok(record::read_label_sets(bytes, |reference, set| {
            if let Some(id) = head.make_as(&set, reference) {
                if u64::from(id) != reference {
                    renamed.insert(reference, id);
                }
                if let Some(found) = filed.take(reference) {
                    match u64::from(id) == reference {
                        true => head.attach(id, &found),
                        // It may have samples that are still under way.
                        false => workers.alone(|| head.attach(id, &found)),
                    }
                    if let Some(newest) = head.newest(id) {
                        workers.set_filed(id, newest);
                    }
                }
            }
            head.skip_numbers(reference);
        })?),
        RecordKind::SamplesV2 if head.stores_starts() => Ok(record::read_started_samples(
            bytes,
            |reference, ts, start, value| {
                *samples += 1;
                *highest = (*highest).max(reference);
                match number(renamed, reference) {
                    Some(id) => workers.push_other((id, ts, start, ReplayValue::Float(value))),
                    None => *unknown += 1,
                }
            },
        )?),
        RecordKind::Samples | RecordKind::SamplesV2 => {
            Ok(record::read_samples(bytes, |reference, ts, value| {
                *samples += 1;
                *highest = (*highest).max(reference);
                match number(renamed, reference) {
                    Some(id) => workers.push(id, ts, value),
                    None => *unknown += 1,
                }
            })?)
        }
        RecordKind::Tombstones => {
            let mut stones = Vec::new();
            record::read_tombstones(bytes, |reference, min, max| {
                if let Some(id) = number(renamed, reference) {
                    stones.push((id, min, max));
                }
            })?;
            // Only what came before it in the log is deleted.
            let mut failed = None;
            workers.alone(|| {
                for (id, min, max) in stones {
                    if !head.has(id.into()) {
                        counts.unknown_tombstones.inc();
                    } else if let Err(e) = head.delete(id, min, max) {
                        failed = Some(e);
                    }
                }
            });
            // What was deleted must not come back.
            failed.map_or(Ok(()), |e| Err(Stop::Failed(e)))
        }
        RecordKind::Histograms => Ok(record::read_histograms(
            bytes,
            |reference, ts, start, value| {
                *histograms += 1;
                *highest = (*highest).max(reference);
                match number(renamed, reference) {
                    Some(id) => {
                        workers.push_other((id, ts, start, ReplayValue::Histogram(value)));
                    }
                    None => *unknown += 1,
                }
            },
        )?),
        RecordKind::Exemplars => Ok(record::read_exemplars(
            bytes,
            |reference, ts, value, labels| {
                *exemplars += 1;
                let id = number(renamed, reference).filter(|&id| head.has(id.into()));
                let Some(id) = id else {
                    counts.unknown_exemplars.inc();
                    return;
                };
                let exemplar = Exemplar {
                    series: SeriesRef {
                        id: id.into(),
                        generation: head.generation(),
                    },
                    labels: Labels::from_pairs(labels.iter().copied()),
                    value,
                    ts,
                    timed: true,
                };
                let labels = || head.labels_of(id).unwrap_or_default();
                head.exemplars.add(id, &exemplar, labels);
            },
        )?),
        RecordKind::Metadata => Ok(record::read_metadata(
            bytes,
            |reference, kind, unit, help| {
                let metadata = Metadata {
                    kind,
                    unit: unit.into(),
                    help: help.into(),
                };
                let id = number(renamed, reference);
                if !id.is_some_and(|id| head.set_metadata(id, &metadata)) {
                    counts.unknown_metadata.inc();
                }
            },
        )?),
        RecordKind::Unknown(_) => Ok(()),
    }
}

/// Why a record could not be taken.
enum Stop {
    Bad,
    Failed(Error),
}

impl From<record::BadRecord> for Stop {
    fn from(_: record::BadRecord) -> Self {
        Stop::Bad
    }
}
