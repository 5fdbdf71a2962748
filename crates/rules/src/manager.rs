//! All groups of a process: each on a task of its own, taken over by a reload without a gap.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use ::metrics::Registry;
use model::owner::Owner;
use model::report::{RuleGroupStatus, RulesReport};
use model::time::{Clock, span};
use model::{Cancel, Millis, Sink, Str};
use parking_lot::RwLock;
use promql::Evaluator;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::alerting::Alert;
use crate::file::{self, FileError, ReadOptions, RuleFile};
use crate::group::{Group, Means, write};
use crate::link::Link;
use crate::metrics::{GroupMetrics, Metrics};
use crate::rule::Shared;

/// Is told the alerts.
pub trait Notify: Send + Sync {
    /// Takes alerts; does not wait for anybody to hear them.
    fn notify(&self, alerts: Vec<Alert>);
}

/// Nobody is told.
pub(crate) struct Silence;

impl Notify for Silence {
    fn notify(&self, _: Vec<Alert>) {}
}

/// What a manager works with.
pub struct Options {
    /// Answers the expressions.
    pub evaluator: Arc<dyn Evaluator>,
    /// Takes what is recorded.
    pub sink: Arc<dyn Sink>,
    /// Is told the alerts.
    pub notify: Arc<dyn Notify>,
    /// Says which groups are this process'.
    pub owner: Arc<dyn Owner>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The URL under which the process is reached.
    pub external_url: String,
    /// Where below it an expression is looked at.
    pub link: Link,
    /// What a start goes on with.
    pub history: History,
    /// How often a firing alert is told again, ms.
    pub resend_delay: Millis,
    /// How many rules may run beside the first of each group; none: the rules of a group follow
    /// each other.
    pub beside: Option<usize>,
    /// Whether metrics tell Thanos' partial response strategies apart.
    pub by_strategy: bool,
    /// How to read rule files.
    pub read: ReadOptions,
}

/// Where the state of alerts before a start is found.
pub struct History {
    /// Answers for what was recorded.
    pub evaluator: Arc<dyn Evaluator>,
    /// How long an outage may be for the state of alerts to be restored, ms.
    pub outage_tolerance: Millis,
    /// The least time between a restored alert and its firing, ms.
    pub grace_period: Millis,
    /// Labels that what was recorded has and the alerts have not.
    pub ignored_labels: Vec<String>,
}

/// What a configuration says about rules.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// The files, patterns already resolved.
    pub files: Vec<PathBuf>,
    /// The interval of groups without one, ms.
    pub interval: Millis,
    /// The query offset of groups without one, ms.
    pub offset: Millis,
    /// The process' labels, for templates.
    pub external_labels: model::Labels,
}

/// Evaluates all groups.
pub struct Manager {
    works: Arc<Works>,
    running: tokio::sync::Mutex<BTreeMap<(Str, Str), Running>>,
}

struct Works {
    options: Options,
    metrics: Metrics,
    /// Evaluations beside the first of each group.
    beside: Option<Semaphore>,
    /// The process ends: nothing is waited for that can be asked again.
    closing: Cancel,
    /// What people are shown: written by the groups' tasks.
    seen: RwLock<BTreeMap<(Str, Str), RuleGroupStatus>>,
}

struct Running {
    group: Arc<tokio::sync::Mutex<Group>>,
    definition: file::RuleGroup,
    external_labels: model::Labels,
    /// Interval and offset, ms.
    times: (Millis, Millis),
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Manager {
    /// A manager without groups.
    pub fn new(registry: &Registry, options: Options) -> Result<Self, ::metrics::Error> {
        Ok(Self {
            works: Arc::new(Works {
                metrics: Metrics::new(registry, options.by_strategy)?,
                beside: options
                    .beside
                    .map(|n| Semaphore::new(n.min(Semaphore::MAX_PERMITS))),
                closing: Cancel::default(),
                options,
                seen: RwLock::default(),
            }),
            running: tokio::sync::Mutex::default(),
        })
    }

    /// Reads and judges the files of an update, without changing anything.
    pub fn load(&self, update: &Update) -> Result<Vec<(PathBuf, RuleFile)>, Vec<FileError>> {
        let loaded = load(&update.files, self.works.options.read);
        if loaded.is_err() {
            self.works.metrics.loads_failed.inc();
        }
        loaded
    }

    /// Takes over the rules of an update: groups that are still there keep their alerts and their
    /// ticks. If a file is wrong, nothing changes.
    pub async fn update(&self, update: &Update) -> Result<(), Vec<FileError>> {
        let files = self.load(update)?;
        let mut running = self.running.lock().await;
        let first = running.is_empty();
        let mut old = std::mem::take(&mut *running);
        for (path, file) in files {
            let file_name: Str = path.display().to_string().into();
            for definition in file.groups {
                let key = (Arc::clone(&file_name), Str::from(definition.name.as_str()));
                let fresh = Group::new(
                    Arc::clone(&file_name),
                    &definition,
                    update.interval,
                    update.offset,
                );
                let before = old.remove(&key);
                // A group that nothing has changed for goes on undisturbed.
                let times = (fresh.interval, fresh.offset);
                let before = match before {
                    Some(same)
                        if same.definition == definition
                            && same.external_labels == update.external_labels
                            && same.times == times =>
                    {
                        running.insert(key, same);
                        continue;
                    }
                    other => other,
                };
                let group = self.take_over(fresh, before, first).await;
                let started = self.start(group, definition, &update.external_labels).await;
                running.insert(key, started);
            }
        }
        for (key, gone) in old {
            self.end(key, gone).await;
        }
        Ok(())
    }

    /// The group as it goes on, and whether there is a state to restore.
    async fn take_over(
        &self,
        mut fresh: Group,
        before: Option<Running>,
        first: bool,
    ) -> (Group, bool) {
        let Some(before) = before else {
            // Only a start looks back: a group that a reload brings has no past.
            if !first {
                fresh.skip_restore();
            }
            return (fresh, first);
        };
        before.stop.cancel();
        if before.task.await.is_err() {
            tracing::error!(group = %fresh.name, "the task of a rule group has failed");
        }
        fresh.inherit(&mut *before.group.lock().await);
        (fresh, false)
    }

    async fn start(
        &self,
        (group, restore): (Group, bool),
        definition: file::RuleGroup,
        external_labels: &model::Labels,
    ) -> Running {
        let works = Arc::clone(&self.works);
        let stop = CancellationToken::new();
        let key = (Arc::clone(&group.file), Arc::clone(&group.name));
        works.seen.write().insert(key, group.status());
        let times = (group.interval, group.offset);
        let group = Arc::new(tokio::sync::Mutex::new(group));
        let shared = Shared {
            evaluator: Arc::clone(&works.options.evaluator),
            external_labels: external_labels.clone(),
            external_url: works.options.external_url.clone(),
            link: works.options.link.clone(),
            expansions: works.metrics.expansions.clone(),
        };
        let task = tokio::spawn(run(
            works,
            Arc::clone(&group),
            shared,
            restore,
            stop.clone(),
        ));
        Running {
            group,
            definition,
            external_labels: external_labels.clone(),
            times,
            stop,
            task,
        }
    }

    /// Ends a group that is no more; its series end two intervals later, so that a group that was
    /// only renamed goes on without a gap.
    async fn end(&self, key: (Str, Str), gone: Running) {
        gone.stop.cancel();
        let _ = gone.task.await;
        self.works.seen.write().remove(&key);
        self.works.metrics.forget(&label(&key.0, &key.1));
        let mut group = gone.group.lock().await;
        let series = group.all_series();
        let (interval, offset) = (group.interval, group.offset);
        let now = self.works.options.clock.now();
        if series.is_empty() {
            return;
        }
        let works = Arc::clone(&self.works);
        tokio::spawn(async move {
            tokio::time::sleep(span(2 * interval)).await;
            let sink = &*works.options.sink;
            if let Err(error) = write(sink, Vec::new(), series, now - offset).await {
                tracing::warn!(%error, "Stale markers of a removed rule group could not be written");
            }
        });
    }

    /// Ends all groups, in the middle of what they ask. Series stay as they are: a restart goes on
    /// with them.
    pub async fn stop(&self) {
        self.works.closing.cancel();
        let running = std::mem::take(&mut *self.running.lock().await);
        for group in running.values() {
            group.stop.cancel();
        }
        for group in running.into_values() {
            let _ = group.task.await;
        }
    }
}

impl RulesReport for Manager {
    fn rule_groups(&self) -> Vec<RuleGroupStatus> {
        self.works.seen.read().values().cloned().collect()
    }
}

/// Reads and judges rule files.
pub fn load(
    files: &[PathBuf],
    options: ReadOptions,
) -> Result<Vec<(PathBuf, RuleFile)>, Vec<FileError>> {
    let (mut read, mut errors) = (Vec::new(), Vec::new());
    for path in files {
        match file::read(path, options) {
            Ok(found) => {
                if found.more_documents {
                    tracing::warn!(
                        file = %path.display(),
                        "Multiple document yaml rules files are not supported, only the first document is processed"
                    );
                }
                read.push((path.clone(), found.file));
            }
            Err(wrong) => errors.extend(wrong),
        }
    }
    if errors.is_empty() {
        Ok(read)
    } else {
        Err(errors)
    }
}

fn label(file: &str, group: &str) -> String {
    format!("{file};{group}")
}

/// Evaluates a group at its ticks until it is stopped.
async fn run(
    works: Arc<Works>,
    group: Arc<tokio::sync::Mutex<Group>>,
    shared: Shared,
    mut restore: bool,
    stop: CancellationToken,
) {
    let (key, interval, strategy, mut tick) = {
        let group = group.lock().await;
        let key = (Arc::clone(&group.file), Arc::clone(&group.name));
        let before = group.tick_before(works.options.clock.now());
        // After a reload no tick is done twice and none is left out.
        let tick = match before - group.last {
            0 => before + group.interval,
            behind if behind == group.interval => before,
            _ => before + group.interval,
        };
        (key, group.interval, group.partial_response, tick)
    };
    let rules = group.lock().await.rules.len();
    let metrics = works.metrics.of(&label(&key.0, &key.1), strategy);
    metrics.interval.set(interval as f64 / 1000.0);
    metrics.rules.set(rules as i64);
    let hash = Group::hash(&key.0, &key.1);
    let mut evaluated = 0;
    loop {
        let wait = span(tick - works.options.clock.now());
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        metrics.iterations.inc();
        if works.options.owner.owns(hash, tick) {
            let mut group = group.lock().await;
            tokio::select! {
                biased;
                () = iterate(&works, &mut group, &shared, &metrics, tick) => {}
                () = works.closing.cancelled() => return,
            }
            evaluated += 1;
            // The first evaluation says which alerts there are; what is known of them comes with
            // the second, when recorded series of other groups may be there as well.
            if restore && evaluated == 2 {
                restore = false;
                let (began, now) = (Instant::now(), works.options.clock.now());
                group.restore(&shared, &works.options.history, now).await;
                metrics.last_restore.set(began.elapsed().as_secs_f64());
            }
        }
        let late = (works.options.clock.now() - tick).div_euclid(interval);
        let missed = late.max(0);
        if missed > 0 {
            metrics.missed.add(missed as u64);
            metrics.iterations.add(missed as u64);
        }
        tick += (missed + 1) * interval;
    }
}

async fn iterate(
    works: &Works,
    group: &mut Group,
    shared: &Shared,
    metrics: &GroupMetrics,
    tick: Millis,
) {
    let means = Means {
        shared,
        sink: &*works.options.sink,
        notify: &*works.options.notify,
        clock: &*works.options.clock,
        resend_delay: works.options.resend_delay,
        metrics,
        beside: works.beside.as_ref(),
    };
    group.evaluate(&means, tick).await;
    let key = (Arc::clone(&group.file), Arc::clone(&group.name));
    works.seen.write().insert(key, group.status());
}
