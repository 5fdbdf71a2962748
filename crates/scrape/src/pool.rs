//! The targets of one job, and their loops.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use model::report::{ActiveTarget, DroppedTarget};
use model::{Labels, Str};
use parking_lot::{Mutex, RwLock};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Group;
use crate::looping::{Job, Loop, Memory, Shared, State, mark_ends};
use crate::target::{Made, Target};

/// A job's targets. Everything that changes them goes through one lock, one change at a time.
pub(crate) struct Pool {
    name: Str,
    shared: Arc<Shared>,
    inner: tokio::sync::Mutex<Inner>,
    view: RwLock<View>,
    retired: Arc<Retired>,
    /// Ends everything that waits on behalf of this pool.
    closed: CancellationToken,
}

struct Inner {
    job: Arc<Job>,
    groups: Arc<Vec<Arc<Group>>>,
    running: HashMap<u64, Running>,
}

struct Running {
    target: Arc<Target>,
    state: Arc<Mutex<State>>,
    stop: CancellationToken,
    handle: JoinHandle<Memory>,
}

/// What is left of a loop that was stopped.
type Stopped = (Arc<Target>, Arc<Mutex<State>>, Memory);

/// What reports show.
#[derive(Default)]
struct View {
    active: Vec<(Arc<Target>, Arc<Mutex<State>>)>,
    dropped: Vec<Labels>,
    dropped_count: usize,
}

/// Memories of targets that went, until their ends are marked or they come back.
#[derive(Default)]
struct Retired {
    memories: Mutex<HashMap<u64, (u64, Memory)>>,
    next: std::sync::atomic::AtomicU64,
}

/// What discovered labels came to.
#[derive(Default)]
struct Found {
    targets: Vec<Arc<Target>>,
    dropped: Vec<Labels>,
    dropped_count: usize,
    failures: Vec<String>,
}

impl Pool {
    pub(crate) fn new(job: Arc<Job>) -> Self {
        let shared = Arc::clone(&job.shared);
        Self {
            name: job.config.job_name.as_str().into(),
            shared,
            inner: tokio::sync::Mutex::new(Inner {
                job,
                groups: Arc::default(),
                running: HashMap::new(),
            }),
            view: RwLock::default(),
            retired: Arc::default(),
            closed: CancellationToken::new(),
        }
    }

    /// Takes over a changed job: every target is scraped on under the new settings.
    pub(crate) async fn reload(&self, job: Arc<Job>) {
        self.shared.counters.reloads.inc();
        let mut inner = self.inner.lock().await;
        let reusable = reusable(&inner.job, &job);
        inner.job = job;
        let all: Vec<u64> = inner.running.keys().copied().collect();
        let stopped = self.stop_targets(&mut inner, &all).await;
        let memories = stopped
            .into_iter()
            .map(|(target, state, memory)| {
                let memory = if reusable { memory } else { memory.renewed() };
                (target, state, memory)
            })
            .collect();
        self.settle(&mut inner, memories).await;
    }

    /// Takes over the groups that discovery found.
    pub(crate) async fn sync(&self, groups: Vec<Arc<Group>>) {
        let began = Instant::now();
        let mut inner = self.inner.lock().await;
        inner.groups = Arc::new(groups);
        self.settle(&mut inner, Vec::new()).await;
        let counters = &self.shared.counters;
        counters.syncs.with(&[&self.name]).inc();
        let took = began.elapsed();
        let length = counters.sync_length.with(&[&self.name]);
        length.observe_duration(took);
        let length = counters.sync_length_histogram.with(&[&self.name]);
        length.observe_duration(took);
    }

    /// Makes the targets of the present groups run, and no others. `memories` are those of loops
    /// that were stopped just now.
    async fn settle(&self, inner: &mut Inner, mut memories: Vec<Stopped>) {
        let (job, groups) = (Arc::clone(&inner.job), Arc::clone(&inner.groups));
        // Relabelling thousands of targets takes its time.
        let made = tokio::task::spawn_blocking(move || make(&job, &groups)).await;
        let made = match made {
            Ok(made) => made,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        self.log_failures(&made.failures);

        let mut wanted: HashMap<u64, Arc<Target>> = HashMap::with_capacity(made.targets.len());
        let mut order = Vec::with_capacity(made.targets.len());
        for target in made.targets {
            if wanted.insert(target.key, Arc::clone(&target)).is_none() {
                order.push(target.key);
            }
        }
        let gone: Vec<u64> = inner
            .running
            .keys()
            .filter(|key| !wanted.contains_key(key))
            .copied()
            .collect();
        memories.extend(self.stop_targets(inner, &gone).await);

        let mut by_identity: HashMap<u64, Stopped> = memories
            .into_iter()
            .map(|entry| (entry.0.identity, entry))
            .collect();
        let targets = order.len();
        self.check_limit(&inner.job, targets);
        let mut active = Vec::with_capacity(targets);
        for key in order {
            let Some(target) = wanted.remove(&key) else {
                continue;
            };
            if let Some(running) = inner.running.get_mut(&key) {
                // The same target; what was discovered may read differently now.
                running.target = Arc::clone(&target);
                active.push((target, Arc::clone(&running.state)));
                continue;
            }
            let (state, memory) = match by_identity.remove(&target.identity) {
                Some((_, state, memory)) => (state, memory),
                None => (
                    Arc::default(),
                    self.retired.take(target.identity).unwrap_or_default(),
                ),
            };
            active.push((Arc::clone(&target), Arc::clone(&state)));
            let stop = CancellationToken::new();
            let task = Loop {
                target: Arc::clone(&target),
                job: Arc::clone(&inner.job),
                state: Arc::clone(&state),
                memory,
            };
            let handle = tokio::spawn(task.run(stop.clone()));
            inner.running.insert(
                key,
                Running {
                    target,
                    state,
                    stop,
                    handle,
                },
            );
        }
        for (target, _, memory) in by_identity.into_values() {
            self.retire(&target, memory);
        }
        self.shared
            .counters
            .targets
            .with(&[&self.name])
            .set(targets as i64);
        *self.view.write() = View {
            active,
            dropped: made.dropped,
            dropped_count: made.dropped_count,
        };
    }

    fn log_failures(&self, failures: &[String]) {
        let failed = self.shared.counters.sync_failed.with(&[&self.name]);
        failed.add(failures.len() as u64);
        for error in failures {
            tracing::error!(job = %self.name, %error, "creating target failed");
        }
    }

    fn check_limit(&self, job: &Job, targets: usize) {
        let limit = job.config.target_limit;
        self.shared
            .counters
            .target_limit
            .with(&[&self.name])
            .set(limit as i64);
        let exceeded = limit > 0 && targets as u64 > limit;
        if exceeded {
            self.shared.counters.exceeded_target_limit.inc();
        }
        *job.too_many.lock() = exceeded.then_some((targets, limit));
    }

    /// Stops loops and waits for the scrapes that are on the way.
    async fn stop_targets(&self, inner: &mut Inner, keys: &[u64]) -> Vec<Stopped> {
        let stopping: Vec<Running> = keys
            .iter()
            .filter_map(|key| inner.running.remove(key))
            .collect();
        for running in &stopping {
            running.stop.cancel();
        }
        join_all(stopping.into_iter().map(|running| async move {
            // A loop that died has left nothing to go on with.
            let memory = running.handle.await.unwrap_or_default();
            (running.target, running.state, memory)
        }))
        .await
    }

    /// Marks the ends of a target's series, unless it comes back within two intervals: what is
    /// found and lost again, and what moves to another replica, shall not be torn apart.
    fn retire(&self, target: &Target, memory: Memory) {
        let Some(last) = memory.last_due() else {
            return;
        };
        let interval = target.interval;
        let ends = last + interval;
        let wait = ends + interval + interval / 10 - self.shared.clock.now();
        let wait = Duration::from_millis(wait.clamp(0, 3 * interval).unsigned_abs());
        let identity = target.identity;
        let number = self.retired.put(identity, memory);
        let (retired, shared) = (Arc::clone(&self.retired), Arc::clone(&self.shared));
        let closed = self.closed.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = closed.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            if let Some(memory) = retired.take_if(identity, number) {
                mark_ends(&*shared.sink, memory, ends).await;
            }
        });
    }

    /// Stops all loops. `forget`: the job is gone for good, so that the ends of its series are
    /// marked; else the process ends, and will go on where it was.
    pub(crate) async fn stop(&self, forget: bool) {
        let mut inner = self.inner.lock().await;
        let all: Vec<u64> = inner.running.keys().copied().collect();
        let stopped = self.stop_targets(&mut inner, &all).await;
        if forget {
            for (target, _, memory) in stopped {
                self.retire(&target, memory);
            }
            self.shared.counters.forget(&self.name);
        } else {
            self.closed.cancel();
        }
        *self.view.write() = View::default();
    }

    /// The targets as they are.
    pub(crate) fn report(
        &self,
        active: &mut Vec<ActiveTarget>,
        dropped: &mut Vec<DroppedTarget>,
        counts: &mut Vec<(Str, usize)>,
        global_url: impl Fn(&str) -> String,
    ) {
        let view = self.view.read();
        for (target, state) in &view.active {
            let state = state.lock().clone();
            active.push(ActiveTarget {
                discovered_labels: target.discovered.clone(),
                labels: target.labels.clone(),
                scrape_pool: Arc::clone(&self.name),
                scrape_url: target.url.clone(),
                global_url: global_url(&target.url),
                last_error: state.last_error,
                last_scrape: state.last_scrape,
                last_duration: state.last_duration,
                health: state.health,
                interval: target.interval,
                timeout: target.timeout,
            });
        }
        dropped.extend(view.dropped.iter().map(|labels| DroppedTarget {
            discovered_labels: labels.clone(),
            scrape_pool: Arc::clone(&self.name),
        }));
        counts.push((Arc::clone(&self.name), view.dropped_count));
    }

    /// The name of the job.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Labels and state of every target.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Target, &State)) {
        for (target, state) in &self.view.read().active {
            visit(target, &state.lock());
        }
    }
}

impl Retired {
    fn put(&self, identity: u64, memory: Memory) -> u64 {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.memories.lock().insert(identity, (number, memory));
        number
    }

    fn take(&self, identity: u64) -> Option<Memory> {
        self.memories
            .lock()
            .remove(&identity)
            .map(|(_, memory)| memory)
    }

    fn take_if(&self, identity: u64, number: u64) -> Option<Memory> {
        let mut memories = self.memories.lock();
        match memories.get(&identity) {
            Some((n, _)) if *n == number => memories.remove(&identity).map(|(_, memory)| memory),
            _ => None,
        }
    }
}

/// Makes targets of what was discovered.
fn make(job: &Job, groups: &[Arc<Group>]) -> Found {
    let mut made = Found::default();
    let keep = match job.config.keep_dropped_targets {
        0 => usize::MAX,
        keep => usize::try_from(keep).unwrap_or(usize::MAX),
    };
    for group in groups {
        for (i, own) in group.targets.iter().enumerate() {
            match Target::make(&job.config, &job.relabel, own, &group.labels) {
                Ok(Made::Target(target)) => made.targets.push(Arc::from(target)),
                Ok(Made::Dropped(labels)) => {
                    made.dropped_count += 1;
                    if made.dropped.len() < keep {
                        made.dropped.push(labels);
                    }
                }
                Err(error) => {
                    made.failures
                        .push(format!("instance {i} in group {}: {error}", group.source));
                }
            }
        }
    }
    made
}

/// Whether two configurations of a job make the same series of the same answers.
fn reusable(old: &Job, new: &Job) -> bool {
    let what_matters = |job: &Job| {
        let mut config = (*job.config).clone();
        config.scrape_interval = Default::default();
        config.scrape_timeout = Default::default();
        config.sample_limit = 0;
        config.http = Default::default();
        config.discovery = Default::default();
        config
    };
    what_matters(old) == what_matters(new)
}
