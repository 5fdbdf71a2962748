//! Running the discoverers of all jobs, and telling what they found.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::time::{Clock as _, WallClock};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::config::Discovery;
use crate::counters::Counters;
use crate::discoverer::{self, Shelf, Spec};
use crate::group::{Found, Group, Groups};

/// Runs discoverers and publishes the groups that they find, by job.
///
/// A discoverer that several jobs ask for runs once, and goes on running over a change of the
/// configuration that does not touch it. What is found is published at once, and then at most
/// once in an interval. Dropping the manager stops everything.
pub struct Manager {
    shared: Arc<Shared>,
    stop: CancellationToken,
}

/// How a [`Manager`] behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManagerOptions {
    /// The least time between two publications (`--discovery-reload-interval`).
    pub reload_interval: Duration,
}

impl Default for ManagerOptions {
    fn default() -> Self {
        Self {
            reload_interval: Duration::from_secs(5),
        }
    }
}

struct Shared {
    state: Mutex<State>,
    /// Something was found that is not published.
    changed: Notify,
    found: watch::Sender<Found>,
    counters: Counters,
    shelf: Shelf,
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<Arc<str>, Job>,
    providers: Vec<Provider>,
    next: u64,
}

/// What is known for one job.
struct Job {
    groups: Groups,
    stale: bool,
}

/// A discoverer that runs.
struct Provider {
    number: u64,
    spec: Spec,
    jobs: Vec<Arc<str>>,
    groups: BTreeMap<String, Arc<Group>>,
    stop: CancellationToken,
}

/// Where a discoverer puts what it finds.
#[derive(Clone)]
pub struct Updates {
    shared: Arc<Shared>,
    provider: u64,
}

impl Manager {
    /// A manager without jobs. `name` tells its metrics from those of others (`scrape`, `notify`).
    /// Must be called within a tokio runtime.
    pub fn new(
        name: &str,
        registry: &metrics::Registry,
        options: ManagerOptions,
    ) -> Result<Self, Error> {
        let counters = Counters::new(name, registry)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Notify::new(),
            found: watch::Sender::default(),
            shelf: Shelf::new(counters.clone()),
            counters,
        });
        let stop = CancellationToken::new();
        tokio::spawn(publish(
            Arc::clone(&shared),
            options.reload_interval,
            stop.clone(),
        ));
        Ok(Self { shared, stop })
    }

    /// What is found, now and from now on.
    pub fn subscribe(&self) -> watch::Receiver<Found> {
        self.shared.found.subscribe()
    }

    /// Takes over these jobs and no others. Publishes at once, so that static targets are there
    /// when this returns. Must be called within a tokio runtime.
    ///
    /// A section that cannot be run (see [`Discovery::unsupported`]) finds nothing; who starts
    /// should have refused it. One that fails to start finds nothing, is logged and counted.
    pub fn apply<'a>(&self, jobs: impl IntoIterator<Item = (&'a str, &'a Discovery)>) {
        let mut wanted: Vec<(Spec, Vec<Arc<str>>)> = Vec::new();
        let mut state = self.shared.state.lock();
        let mut known = std::mem::take(&mut state.jobs);
        for (name, discovery) in jobs {
            let name: Arc<str> = name.into();
            for spec in Spec::all(discovery) {
                match wanted.iter_mut().find(|(s, _)| *s == spec) {
                    Some((_, jobs)) => jobs.push(Arc::clone(&name)),
                    None => wanted.push((spec, vec![Arc::clone(&name)])),
                }
            }
            let groups = known
                .remove(&name)
                .map_or_else(Groups::default, |job| job.groups);
            state.jobs.insert(
                name,
                Job {
                    groups,
                    stale: true,
                },
            );
        }

        let mut failed = 0;
        let mut running = std::mem::take(&mut state.providers);
        for (spec, jobs) in wanted {
            if let Some(at) = running.iter().position(|p| p.spec == spec) {
                let provider = running.swap_remove(at);
                state.providers.push(Provider { jobs, ..provider });
                continue;
            }
            state.next += 1;
            let number = state.next;
            let stop = self.stop.child_token();
            match discoverer::open(&spec, &self.shared.shelf) {
                Ok(opened) => {
                    let groups = opened.at_once.into_iter().map(Arc::new);
                    let groups = groups.map(|g| (g.source.clone(), g)).collect();
                    if let Some(discoverer) = opened.discoverer {
                        let updates = Updates {
                            shared: Arc::clone(&self.shared),
                            provider: number,
                        };
                        tokio::spawn(discoverer.run(updates, stop.clone()));
                    }
                    state.providers.push(Provider {
                        number,
                        spec,
                        jobs,
                        groups,
                        stop,
                    });
                }
                Err(error) => {
                    failed += 1;
                    tracing::error!(%error, jobs = ?jobs, "cannot start service discovery");
                }
            }
        }
        running.iter().for_each(|provider| provider.stop.cancel());
        self.shared.counters.failed_configs.set(failed);
        self.shared.counters.clear();
        self.shared.publish(&mut state);
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    /// Makes the lists of jobs that changed, and tells everybody.
    fn publish(&self, state: &mut State) {
        for (name, job) in state.jobs.iter_mut().filter(|(_, job)| job.stale) {
            let providers = state.providers.iter().filter(|p| p.jobs.contains(name));
            let groups: Vec<_> = providers.flat_map(|p| p.groups.values().cloned()).collect();
            job.stale = false;
            let targets: usize = groups.iter().map(|g| g.targets.len()).sum();
            self.counters.discovered(name).set(targets as i64);
            let same = groups.len() == job.groups.len()
                && groups
                    .iter()
                    .zip(job.groups.iter())
                    .all(|(a, b)| Arc::ptr_eq(a, b));
            if !same {
                job.groups = Arc::new(groups);
            }
        }
        let all = state
            .jobs
            .iter()
            .map(|(name, job)| (Arc::clone(name), Arc::clone(&job.groups)));
        self.counters.updates.inc();
        let now = WallClock.now() as f64 / 1000.0;
        for name in state.jobs.keys() {
            self.counters.told(name, now);
        }
        self.found.send_replace(Arc::new(all.collect()));
    }
}

/// Publishes what was found, at most once in an interval.
async fn publish(shared: Arc<Shared>, interval: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.changed.notified() => {}
        }
        shared.publish(&mut shared.state.lock());
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
    }
}

impl Updates {
    /// Takes over these groups, each in the place of the one with its source. A group without
    /// targets removes that one.
    pub fn send(&self, groups: Vec<Group>) {
        let mut state = self.shared.state.lock();
        let state = &mut *state;
        // Nobody asks for a provider that is not there any more.
        let Some(provider) = state
            .providers
            .iter_mut()
            .find(|p| p.number == self.provider)
        else {
            return;
        };
        self.shared.counters.received.inc();
        let mut changed = false;
        for group in groups {
            if group.targets.is_empty() {
                changed |= provider.groups.remove(&group.source).is_some();
            } else if provider
                .groups
                .get(&group.source)
                .is_none_or(|old| **old != group)
            {
                provider
                    .groups
                    .insert(group.source.clone(), Arc::new(group));
                changed = true;
            }
        }
        if changed {
            let mut waits = false;
            for name in &provider.jobs {
                if let Some(job) = state.jobs.get_mut(name) {
                    waits |= std::mem::replace(&mut job.stale, true);
                }
            }
            // The change before is still to be told: consumers are not told at any time.
            self.shared.counters.delayed.add(u64::from(waits));
            self.shared.changed.notify_one();
        }
    }
}
