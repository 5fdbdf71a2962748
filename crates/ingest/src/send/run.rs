//! One remote: the thread that reads the log for it, and its shards.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use model::report::{Metadata, MetricType};
use model::{Labels, Millis, relabel};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tsdb::wal::record::RecordKind;
use wire::client::HttpClient;

use super::queue::{Batch, Item, Shared, Value, kinds};
use super::reshard::{EVERY, Seen, Sharding};
use super::tail::{Position, Reader, Said, Tail, samples};
use super::track::Mark;
use super::{RemoteWrites, Settings};
use crate::receive::Message;

/// How often the log is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long reading may go on before all else has its turn, however much is left to read.
const TURN: Duration = Duration::from_millis(500);
/// How often is written down how far all is settled.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// A remote that is sent to.
pub(super) struct Running {
    shared: Arc<Shared>,
    stop: CancellationToken,
    thread: JoinHandle<()>,
    metadata: JoinHandle<()>,
}

impl Running {
    pub(super) fn start(
        of: &RemoteWrites,
        settings: Settings,
        client: HttpClient,
        mark: PathBuf,
        runtime: Handle,
    ) -> Self {
        let counters = of.families.of(&settings.name, &settings.shown_url);
        counters.shards_max.set(settings.queue.max_shards as i64);
        counters.shards_min.set(settings.queue.min_shards as i64);
        counters.capacity.set(settings.queue.capacity as i64);
        counters.most.set(settings.queue.most as i64);
        let shared = Arc::new(Shared {
            settings,
            client,
            counters,
            tracker: Default::default(),
            clock: Arc::clone(&of.clock),
            abort: CancellationToken::new(),
            progress: Default::default(),
        });
        let stop = CancellationToken::new();
        let mut filler = Filler {
            shared: Arc::clone(&shared),
            runtime: runtime.clone(),
            series: HashMap::new(),
            metadata: HashMap::new(),
            shards: Vec::new(),
            tasks: Vec::new(),
            stretch: 0,
            stretch_items: 0,
            resume_until: Position::default(),
            seen: Seen::default(),
            highest: 0,
            turn: Instant::now(),
            stop: stop.clone(),
        };
        let wal = of.wal.clone();
        let thread = tokio::task::spawn_blocking(move || {
            if let Err(error) = filler.run(&wal, Mark::new(mark)) {
                let url = &filler.shared.settings.shown_url;
                // Nothing is kept for one that reads no more.
                filler
                    .shared
                    .progress
                    .segment
                    .store(u64::MAX, Ordering::Relaxed);
                tracing::error!(url, %error, "reading the log for remote write ended");
            }
        });
        let metadata = tokio::spawn(metadata(Arc::clone(&shared), of.metadata.clone()));
        Self {
            shared,
            stop,
            thread,
            metadata,
        }
    }

    /// How far it is.
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Sends what is left, as far as the deadline allows, and ends.
    pub(super) async fn stop(self, deadline: Duration) {
        self.metadata.abort();
        self.stop.cancel();
        let abort = self.shared.abort.clone();
        let late = tokio::spawn(async move {
            tokio::time::sleep(deadline).await;
            abort.cancel();
        });
        let _ = self.thread.await;
        late.abort();
        self.shared.counters.forget();
    }
}

/// Sends metadata from time to time; 2.0 carries it with the samples.
async fn metadata(shared: Arc<Shared>, report: Option<Arc<dyn model::report::MetadataReport>>) {
    let settings = &shared.settings;
    let (Some(every), Some(report), Message::V1) =
        (settings.metadata_every, report, settings.message)
    else {
        return;
    };
    loop {
        tokio::time::sleep(every).await;
        let known = report.metadata(None).into_iter();
        let all: Vec<_> = known
            .filter_map(|(name, list)| list.into_iter().next().map(|m| (name, m)))
            .collect();
        for part in all.chunks(settings.metadata_most.max(1)) {
            shared.send_metadata(part).await;
        }
    }
}

/// A series of the log.
struct Series {
    /// None: relabelling drops it.
    labels: Option<Labels>,
    segment: u64,
}

/// A shard, as who fills it sees it.
struct Shard {
    batch: Batch,
    since: Instant,
    send: mpsc::Sender<Batch>,
}

/// Reads the log and fills the shards.
struct Filler {
    shared: Arc<Shared>,
    runtime: Handle,
    series: HashMap<u64, Series>,
    metadata: HashMap<u64, Arc<Metadata>>,
    shards: Vec<Shard>,
    tasks: Vec<JoinHandle<()>>,
    stretch: u64,
    stretch_items: u64,
    /// What lies before may have been sent by the process before.
    resume_until: Position,
    seen: Seen,
    highest: Millis,
    /// Since when it reads.
    turn: Instant,
    stop: CancellationToken,
}

impl Filler {
    fn run(&mut self, wal: &std::path::Path, mut mark: Mark) -> Result<(), tsdb::Error> {
        let from = mark.read();
        let mut tail = Tail::open(wal, from, self)?;
        if from.is_some() {
            self.resume_until = Tail::open(wal, None, &mut Nobody)?.position();
        }
        mark.write(tail.position());
        self.stretch = self.shared.tracker.begin(tail.position());
        self.reshard(self.shared.settings.queue.min_shards);
        let mut sharding = Sharding::default();
        let mut thought = Instant::now();
        let mut marked = Instant::now();
        let (mut sent, mut micros) = (0, 0);
        loop {
            // Asked before reading: what was there when the end began is sent, too.
            let ending = self.stop.is_cancelled();
            self.turn = Instant::now();
            let more = tail.read(self)? && !self.shared.abort.is_cancelled();
            self.progress(tail.position());
            self.flush(ending && !more);
            if ending && !more {
                break;
            }
            if marked.elapsed() >= MARK_EVERY {
                marked = Instant::now();
                mark.write(self.shared.tracker.settled(tail.position()));
            }
            if thought.elapsed().as_secs_f64() >= EVERY {
                thought = Instant::now();
                let progress = &self.shared.progress;
                let (now_sent, now_micros) = (
                    progress.sent.load(Ordering::Relaxed),
                    progress.micros.load(Ordering::Relaxed),
                );
                let behind = self.highest - progress.highest.load(Ordering::Relaxed);
                let seen = Seen {
                    sent: (now_sent - sent) as f64,
                    seconds: (now_micros - micros) as f64 / 1e6,
                    behind: behind as f64 / 1000.0,
                    ..std::mem::take(&mut self.seen)
                };
                (sent, micros) = (now_sent, now_micros);
                self.think(&mut sharding, seen);
            }
            if !more {
                std::thread::sleep(LOOK);
            }
        }
        self.shards.clear();
        self.join();
        mark.write(self.shared.tracker.settled(tail.position()));
        Ok(())
    }

    /// Tells who keeps the log how far reading is, and what of it is settled.
    fn progress(&self, read: Position) {
        self.shared.counters.segment.set(read.segment as i64);
        let settled = self.shared.tracker.settled(read).segment;
        let segment = &self.shared.progress.segment;
        segment.store(settled, Ordering::Relaxed);
    }

    fn think(&mut self, sharding: &mut Sharding, seen: Seen) {
        let queue = &self.shared.settings.queue;
        let now = self.shards.len();
        let (exact, wanted) = sharding.desired(seen, now);
        self.shared.counters.shards_desired.set(exact);
        let wanted = wanted.clamp(queue.min_shards, queue.max_shards);
        // A receiver that does not answer gets no more askers.
        let last = self.shared.progress.last.load(Ordering::Relaxed);
        let silent = self.shared.clock.now() - last > 2 * queue.deadline.as_millis() as Millis;
        if wanted != now && !silent {
            tracing::info!(
                remote = %self.shared.settings.name,
                from = now,
                to = wanted,
                "Remote storage resharding"
            );
            self.reshard(wanted);
        }
    }

    /// Lets the shards finish, and begins with so many new ones.
    fn reshard(&mut self, count: usize) {
        self.flush(true);
        self.shards.clear();
        self.join();
        let queue = &self.shared.settings.queue;
        let waiting = (queue.capacity / queue.most).max(1);
        for _ in 0..count {
            let (send, receive) = mpsc::channel(waiting);
            let task = Arc::clone(&self.shared).run(receive);
            self.tasks.push(self.runtime.spawn(task));
            self.shards.push(Shard {
                batch: Batch::default(),
                since: Instant::now(),
                send,
            });
        }
        self.shared.counters.shards.set(count as i64);
    }

    fn join(&mut self) {
        for task in std::mem::take(&mut self.tasks) {
            let _ = self.runtime.block_on(task);
        }
    }

    /// Hands over batches that have waited long enough, or all.
    fn flush(&mut self, all: bool) {
        let deadline = self.shared.settings.queue.deadline;
        for i in 0..self.shards.len() {
            let due = self.shards.get(i).is_some_and(|s| {
                !s.batch.items.is_empty() && (all || s.since.elapsed() >= deadline)
            });
            if due {
                self.hand_over(i);
            }
        }
    }

    /// Hands a batch to its shard, as soon as that has room.
    fn hand_over(&mut self, i: usize) {
        let Some(shard) = self.shards.get_mut(i) else {
            return;
        };
        let batch = std::mem::take(&mut shard.batch);
        for (gauge, count) in self.shared.counters.pending.iter().zip(kinds(&batch.items)) {
            gauge.add(count as i64);
        }
        let batch = match shard.send.try_send(batch) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(batch)) => batch,
            // It was told to end.
            Err(mpsc::error::TrySendError::Closed(_)) => return,
        };
        self.shared.counters.enqueue_retries.inc();
        let (send, abort) = (shard.send.clone(), self.shared.abort.clone());
        self.runtime.block_on(async move {
            tokio::select! {
                _ = send.send(batch) => {}
                // It stays unsettled, and is read again by the next process.
                () = abort.cancelled() => {}
            }
        });
    }

    fn push(&mut self, series: u64, item: Item, resumed: bool) {
        let most = self.shared.settings.queue.most;
        let count = self.shards.len().max(1);
        let i = (series % count as u64) as usize;
        let other_kind = |s: &Shard| s.batch.resumed != resumed && !s.batch.items.is_empty();
        if self.shards.get(i).is_some_and(other_kind) {
            self.hand_over(i);
        }
        let Some(shard) = self.shards.get_mut(i) else {
            return;
        };
        if shard.batch.items.is_empty() {
            shard.since = Instant::now();
            shard.batch.items.reserve(most.min(1 << 16));
            shard.batch.resumed = resumed;
        }
        shard.batch.push(self.stretch, item);
        if shard.batch.items.len() >= most {
            self.hand_over(i);
        }
    }
}

impl Reader for Filler {
    fn series(&mut self, segment: u64, series: u64, labels: &[(&str, &str)]) {
        if let Some(known) = self.series.get_mut(&series) {
            known.segment = known.segment.max(segment);
            return;
        }
        let settings = &self.shared.settings;
        let own = Labels::from_pairs(labels.iter().copied());
        let all = settings.external_labels.overlay(&own);
        let labels = relabel::process(&all, &settings.relabel).filter(|l| !l.is_empty());
        self.series.insert(series, Series { labels, segment });
    }

    fn metadata(&mut self, series: u64, kind: MetricType, unit: &str, help: &str) {
        if self.shared.settings.message == Message::V2 {
            let metadata = Metadata {
                kind,
                help: help.into(),
                unit: unit.into(),
            };
            self.metadata.insert(series, Arc::new(metadata));
        }
    }

    fn record(&mut self, record: &[u8], start: Position) -> bool {
        /// Items of a stretch: what may be sent twice when a process dies.
        const STRETCH: u64 = 1_000;
        if self.stretch_items >= STRETCH {
            self.stretch_items = 0;
            self.stretch = self.shared.tracker.begin(start);
            self.progress(start);
        }
        let resumed = start < self.resume_until;
        let settings = &self.shared.settings;
        let (exemplars, histograms) = (settings.exemplars, settings.histograms);
        let mut found = Vec::new();
        let mut highest = self.highest;
        let readable = samples(record, |series, ts, started, said| {
            let (kind, value) = match said {
                Said::Float(value) => (0, Value::Float(value)),
                Said::Exemplar(..) if !exemplars => return,
                Said::Exemplar(labels, value) => (1, Value::Exemplar(Box::new((labels, value)))),
                Said::Histogram(_) if !histograms => return,
                Said::Histogram(h) => (2, Value::Histogram(h)),
            };
            self.seen.read += 1.0;
            if let Some(counter) = self.shared.counters.taken.get(kind) {
                counter.inc();
            }
            highest = highest.max(ts);
            let labels = match self.series.get(&series) {
                Some(Series {
                    labels: Some(labels),
                    ..
                }) => labels.clone(),
                known => {
                    let reason = match known {
                        Some(_) => "dropped_series",
                        None => "unintentionally_dropped_series",
                    };
                    self.shared.counters.dropped(kind, reason);
                    self.seen.dropped += 1.0;
                    return;
                }
            };
            let item = Item {
                labels,
                ts,
                start: started,
                value,
                metadata: self.metadata.get(&series).cloned(),
            };
            found.push((series, item));
        });
        if !readable {
            self.unreadable();
        }
        if highest > self.highest {
            self.highest = highest;
            let counters = &self.shared.counters;
            counters.highest.set(highest as f64 / 1000.0);
            counters.highest_read.set(highest as f64 / 1000.0);
        }
        self.stretch_items += found.len() as u64;
        self.shared.tracker.add(self.stretch, found.len() as u64);
        for (series, item) in found {
            self.push(series, item, resumed);
        }
        !self.shared.abort.is_cancelled() && self.turn.elapsed() < TURN
    }

    fn forget_before(&mut self, segment: u64) {
        self.series.retain(|_, s| s.segment >= segment);
        let series = &self.series;
        self.metadata.retain(|s, _| series.contains_key(s));
    }

    fn seen(&mut self, kind: RecordKind) {
        self.shared.counters.record(kind);
    }

    fn unreadable(&mut self) {
        self.shared.counters.unreadable.inc();
    }
}

/// Wants to know nothing but where the end is.
struct Nobody;

impl Reader for Nobody {
    fn series(&mut self, _: u64, _: u64, _: &[(&str, &str)]) {}
    fn metadata(&mut self, _: u64, _: MetricType, _: &str, _: &str) {}
    fn record(&mut self, _: &[u8], _: Position) -> bool {
        true
    }
    fn forget_before(&mut self, _: u64) {}
}
