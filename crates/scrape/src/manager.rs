//! All jobs of the process.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use metrics::Registry;
use model::owner::{Everything, Owner};
use model::report::{Metadata, MetadataReport, Targets, TargetsReport};
use model::time::{Clock, WallClock};
use model::{Labels, Matcher, Millis, Sink, Str, relabel};
use parking_lot::{Mutex, RwLock};
use reqwest::header::HeaderValue;
use wire::client::{ClientOptions, HttpClient};

use crate::Group;
use crate::config::ScrapeConfig;
use crate::counters::Counters;
use crate::error::ScrapeError;
use crate::fetch::Fetcher;
use crate::looping::{Buffers, Job, Shared};
use crate::metadata::{Table, Tables};
use crate::parse::{ScrapeProtocol, accept_header};
use crate::pool::Pool;

/// What a [`Manager`] works with.
#[derive(Clone)]
pub struct Options {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Which targets are this process' own.
    pub owner: Arc<dyn Owner>,
    /// Sets the times of scrapes apart from those of other replicas.
    pub seed: u64,
    /// How far from its due time a scrape may begin and still be stamped with it, ms.
    pub timestamp_tolerance: Millis,
    /// Whether exemplars are stored.
    pub exemplars: bool,
    /// Whether start timestamps are taken. Protobuf is then asked for first.
    pub starts: bool,
    /// Whether series have type and unit among their labels (`type-and-unit-labels`).
    pub type_and_unit: bool,
    /// Whether the sink is given the metadata of series (`metadata-wal-records`).
    pub metadata: bool,
    /// The host by which others reach this machine, for links to targets on `localhost`.
    pub external_host: Option<String>,
    /// Run what can be run of jobs that ask for something that this version cannot do. Else such a
    /// job is an error.
    pub allow_unsupported: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Arc::new(WallClock),
            owner: Arc::new(Everything),
            seed: 0,
            timestamp_tolerance: 2,
            exemplars: false,
            starts: false,
            type_and_unit: false,
            metadata: false,
            external_host: None,
            allow_unsupported: false,
        }
    }
}

/// A seed for [`Options::seed`]: replicas on other hosts, or with other external labels, scrape at
/// other times.
pub fn seed(host: &str, external_labels: &Labels) -> u64 {
    crate::target::fnv(&format!("{host}{external_labels}"))
}

/// Jobs by name.
type Pools = BTreeMap<Str, (Arc<Job>, Arc<Pool>)>;

/// Registers how much metadata the targets of each job have. Tables that targets share count once.
fn count_metadata(pools: &Arc<RwLock<Pools>>, registry: &Registry) -> Result<(), metrics::Error> {
    /// How much a table is.
    type Measure = fn(&Table) -> usize;
    let families: [(&str, &str, Measure); 2] = [
        (
            "prometheus_target_metadata_cache_entries",
            "Total number of metric metadata entries in the cache",
            |table| table.0.len(),
        ),
        (
            "prometheus_target_metadata_cache_bytes",
            "The number of bytes that are currently used for storing metric metadata in the cache",
            Table::bytes,
        ),
    ];
    for (name, help, measure) in families {
        let pools = Arc::downgrade(pools);
        let kind = metrics::Kind::Gauge;
        registry.callbacks(kind, name, help, &["scrape_job"], move |push| {
            let Some(pools) = pools.upgrade() else {
                return;
            };
            let pools: Vec<Arc<Pool>> = pools.read().values().map(|(_, p)| Arc::clone(p)).collect();
            for pool in pools {
                let mut seen = HashSet::new();
                let mut sum = 0;
                pool.for_each(|_, state| {
                    if let Some(table) = &state.table
                        && seen.insert(Arc::as_ptr(table))
                    {
                        sum += measure(table);
                    }
                });
                push(&[pool.name()], sum as f64);
            }
        })?;
    }
    Ok(())
}

/// Scrapes the targets of all jobs.
///
/// [`Manager::apply`] takes a configuration, [`Manager::sync`] the targets that discovery found for
/// a job. Lives on a tokio runtime; its loops end with [`Manager::stop`].
pub struct Manager {
    shared: Arc<Shared>,
    external_host: Option<String>,
    allow_unsupported: bool,
    pools: Arc<RwLock<Pools>>,
    /// One configuration at a time.
    applying: tokio::sync::Mutex<()>,
}

impl Manager {
    /// A manager without jobs that gives its samples to `sink`.
    pub fn new(
        sink: Arc<dyn Sink>,
        registry: &Registry,
        options: Options,
    ) -> Result<Self, ScrapeError> {
        let shared = Shared {
            sink,
            clock: options.clock,
            owner: options.owner,
            counters: Counters::new(registry)?,
            seed: options.seed,
            tolerance: options.timestamp_tolerance.max(0),
            exemplars: options.exemplars,
            starts: options.starts,
            type_and_unit: options.type_and_unit,
            metadata: options.metadata,
            readers: wire::Turns::new(0),
            buffers: Buffers::default(),
            failures: Default::default(),
        };
        let pools = Arc::new(RwLock::new(Pools::new()));
        count_metadata(&pools, registry)?;
        Ok(Self {
            shared: Arc::new(shared),
            external_host: options.external_host,
            allow_unsupported: options.allow_unsupported,
            pools,
            applying: tokio::sync::Mutex::default(),
        })
    }

    /// Takes over a completed configuration. Jobs that have not changed are not touched; targets
    /// of those that have are scraped on, without a gap. If a job cannot be set up nothing changes.
    pub async fn apply(&self, configs: &[ScrapeConfig]) -> Result<(), ScrapeError> {
        let _one_at_a_time = self.applying.lock().await;
        let mut new = Pools::new();
        let mut changed = Vec::new();
        for config in configs {
            if !self.can_run(config)? {
                continue;
            }
            let name: Str = config.job_name.as_str().into();
            let old = self.pools.read().get(&name).cloned();
            let entry = match old {
                Some((job, pool)) if *job.config == *config => (job, pool),
                Some((_, pool)) => {
                    let job = self.job(config).inspect_err(|_| {
                        self.shared.counters.reloads_failed.inc();
                    })?;
                    changed.push((Arc::clone(&job), Arc::clone(&pool)));
                    (job, pool)
                }
                None => {
                    self.shared.counters.pools.inc();
                    let job = self.job(config).inspect_err(|_| {
                        self.shared.counters.pools_failed.inc();
                    })?;
                    let pool = Arc::new(Pool::new(Arc::clone(&job)));
                    (job, pool)
                }
            };
            new.insert(name, entry);
        }
        let old = std::mem::replace(&mut *self.pools.write(), new);
        let kept: HashSet<Str> = self.pools.read().keys().cloned().collect();
        let gone = old.into_iter().filter(|(name, _)| !kept.contains(name));
        let stopping = gone.map(|(_, (_, pool))| async move { pool.stop(true).await });
        let reloading = changed
            .into_iter()
            .map(|(job, pool)| async move { pool.reload(job).await });
        futures_util::future::join(
            futures_util::future::join_all(stopping),
            futures_util::future::join_all(reloading),
        )
        .await;
        Ok(())
    }

    /// Whether a job can be run, at least in part.
    fn can_run(&self, config: &ScrapeConfig) -> Result<bool, ScrapeError> {
        let unsupported = config.unsupported();
        if unsupported.is_empty() {
            return Ok(true);
        }
        let message = format!("not supported in this version: {}", unsupported.join(", "));
        if !self.allow_unsupported {
            return Err(ScrapeError::Job {
                job: config.job_name.clone(),
                message,
            });
        }
        // Without its credentials a job could only fail.
        let runs = config.http.unsupported().is_empty();
        tracing::warn!(job = %config.job_name, runs, "{message}");
        Ok(runs)
    }

    fn job(&self, config: &ScrapeConfig) -> Result<Arc<Job>, ScrapeError> {
        let failed = |message: String| ScrapeError::Job {
            job: config.job_name.clone(),
            message,
        };
        let options = ClientOptions {
            gzip: false,
            ..ClientOptions::default()
        };
        let client = HttpClient::new(&config.http, options).map_err(|e| failed(e.to_string()))?;
        let mut protocols = config.protocols();
        if self.shared.starts && protocols == ScrapeProtocol::DEFAULT {
            // Nobody chose: protobuf tells starts best.
            protocols.insert(0, ScrapeProtocol::PrometheusProto);
        }
        let accept = accept_header(&protocols, config.escaping());
        let accept = HeaderValue::try_from(accept).map_err(|e| failed(e.to_string()))?;
        let scheme = config.validation();
        let compile = |rules: &[relabel::Config]| {
            relabel::compile(rules, scheme).map_err(|e| failed(e.to_string()))
        };
        Ok(Arc::new(Job {
            relabel: compile(&config.relabel_configs)?,
            metric_relabel: compile(&config.metric_relabel_configs)?,
            scheme,
            fallback: config.fallback(),
            fetcher: Fetcher {
                client,
                accept,
                gzip: config.enable_compression,
                limit: usize::try_from(config.body_size_limit.0).unwrap_or(0),
            },
            tables: Arc::<Tables>::default(),
            failures: self
                .shared
                .failures
                .open(&config.scrape_failure_log_file)
                .map_err(failed)?,
            shared: Arc::clone(&self.shared),
            too_many: Arc::<Mutex<Option<(usize, u64)>>>::default(),
            config: Arc::new(config.clone()),
        }))
    }

    /// Takes over the groups that discovery found for a job; a job that is not configured has none.
    pub async fn sync(&self, job: &str, groups: Vec<Arc<Group>>) {
        let pool = self.pools.read().get(job).map(|(_, pool)| Arc::clone(pool));
        if let Some(pool) = pool {
            pool.sync(groups).await;
        }
    }

    /// Names of the jobs.
    pub fn jobs(&self) -> Vec<Str> {
        self.pools.read().keys().cloned().collect()
    }

    /// Stops all loops and waits for the scrapes that are on the way. No ends of series are marked:
    /// the process will go on where it was.
    pub async fn stop(&self) {
        let _one_at_a_time = self.applying.lock().await;
        let pools = std::mem::take(&mut *self.pools.write());
        futures_util::future::join_all(
            pools
                .into_values()
                .map(|(_, pool)| async move { pool.stop(false).await }),
        )
        .await;
    }

    fn global_url(&self, url: &str) -> String {
        let Some(host) = &self.external_host else {
            return url.to_owned();
        };
        for local in ["//localhost", "//127.0.0.1", "//[::1]"] {
            if let Some((before, after)) = url.split_once(local)
                && matches!(after.bytes().next(), None | Some(b':' | b'/' | b'?'))
            {
                return format!("{before}//{host}{after}");
            }
        }
        url.to_owned()
    }

    fn pools(&self) -> Vec<Arc<Pool>> {
        self.pools
            .read()
            .values()
            .map(|(_, pool)| Arc::clone(pool))
            .collect()
    }
}

impl Targets for Manager {
    fn targets(&self) -> TargetsReport {
        let mut report = TargetsReport::default();
        for pool in self.pools() {
            pool.report(
                &mut report.active,
                &mut report.dropped,
                &mut report.dropped_counts,
                |url| self.global_url(url),
            );
        }
        report
    }
}

impl MetadataReport for Manager {
    fn metadata(&self, metric: Option<&str>) -> Vec<(Str, Vec<Metadata>)> {
        let mut tables: Vec<Arc<Table>> = Vec::new();
        let mut seen: HashSet<*const Table> = HashSet::new();
        for pool in self.pools() {
            pool.for_each(|_, state| {
                if let Some(table) = &state.table
                    && seen.insert(Arc::as_ptr(table))
                {
                    tables.push(Arc::clone(table));
                }
            });
        }
        let mut all: BTreeMap<Str, Vec<Metadata>> = BTreeMap::new();
        for table in &tables {
            for (name, metadata) in rows(table, metric) {
                let known = all.entry(Arc::clone(name)).or_default();
                if !known.contains(metadata) {
                    known.push(metadata.clone());
                }
            }
        }
        all.into_iter().collect()
    }

    fn target_metadata(
        &self,
        matchers: &[Matcher],
        metric: Option<&str>,
    ) -> Vec<(Labels, Str, Metadata)> {
        let mut all = Vec::new();
        for pool in self.pools() {
            pool.for_each(|target, state| {
                let matches = matchers
                    .iter()
                    .all(|m| m.matches(target.labels.get(&m.name).unwrap_or("")));
                if let Some(table) = state.table.as_ref().filter(|_| matches) {
                    all.extend(rows(table, metric).map(|(name, metadata)| {
                        (target.labels.clone(), Arc::clone(name), metadata.clone())
                    }));
                }
            });
        }
        all
    }
}

/// The rows of a table, or the one about a metric.
fn rows<'a>(
    table: &'a Table,
    metric: Option<&str>,
) -> impl Iterator<Item = &'a (Str, Metadata)> + use<'a> {
    let (all, one) = match metric {
        None => (table.0.as_slice(), None),
        Some(metric) => (&[][..], table.get(metric)),
    };
    all.iter().chain(one)
}
