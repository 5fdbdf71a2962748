//! The bucket's part of the house: ship blocks there, know what lies there, answer from it, compact it.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Result;
use bucket::{Catalog, CatalogOptions, Shipper, ShipperOptions};
use metrics::Registry;
use model::report::{BucketBlock, BucketReport, BucketStatus};
use model::{Cancel, Millis};
use parking_lot::Mutex;
use store::{ExternalLabels, Gateway, GatewayOptions};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::config::Current;
use super::settings;
use crate::compaction;

/// Answers the database's question which blocks must stay, once there is a shipper to ask.
#[derive(Clone, Default)]
pub struct Hold(Arc<OnceLock<Arc<Shipper>>>);

impl Hold {
    /// The question as the database asks it. Before the shipper is there every block stays.
    pub fn question(self) -> tsdb::Hold {
        Arc::new(move |ulid| self.0.get().is_none_or(|shipper| shipper.holds(ulid)))
    }

    /// From now on `shipper` knows.
    pub fn ask(&self, shipper: &Arc<Shipper>) {
        // Filled once.
        let _ = self.0.set(Arc::clone(shipper));
    }
}

/// Shipper, catalog and gateway over one bucket.
pub struct Part {
    shipper: Arc<Shipper>,
    catalog: Arc<Catalog>,
    gateway: Arc<Gateway>,
    db: Arc<tsdb::Db>,
    min_block: Millis,
    location: String,
    last_error: Arc<Mutex<String>>,
    compaction: Option<Compaction>,
}

/// What compacts our own blocks beside everything else.
#[derive(Clone)]
struct Compaction {
    catalog: Arc<Catalog>,
    settings: settings::Compaction,
    registry: Registry,
}

impl Compaction {
    /// Looks only at blocks with our own external labels: what others ship is not ours to change.
    fn new(
        settings: settings::Compaction,
        bucket: &Arc<bucket::Bucket>,
        cache_dir: &Path,
        labels: Arc<dyn Fn() -> model::Labels + Send + Sync>,
        registry: &Registry,
    ) -> Result<Self> {
        let options = CatalogOptions {
            cache_dir: Some(cache_dir.join("compactor")),
            consistency_delay: Duration::ZERO,
            labels: Some(Arc::new(move |_, of_block| *of_block == labels())),
            ..CatalogOptions::default()
        };
        // What is counted of the bucket's blocks counts the gateway's view of them.
        let uncounted = Registry::new();
        let options = compact::catalog_options(options);
        let catalog = Catalog::new(Arc::clone(bucket), options, &uncounted)?;
        Ok(Self {
            catalog: Arc::new(catalog),
            settings,
            registry: registry.clone(),
        })
    }

    async fn run(self, stop: Cancel) {
        let settings::Compaction { options, pace } = self.settings;
        let shown = compaction::Current::default();
        let ran = compaction::run(self.catalog, options, pace, shown, stop, self.registry).await;
        if let Err(error) = ran {
            tracing::error!(error = %format!("{error:#}"), "the bucket is not compacted any more");
        }
    }
}

/// Tasks that ship and list until they are stopped.
pub struct Running {
    stop: Cancel,
    tasks: Vec<JoinHandle<()>>,
}

impl Part {
    /// Sets everything up; the bucket is not asked yet, and may be away.
    pub fn open(
        bucket: settings::Bucket,
        storage: &settings::Storage,
        current: Arc<Current>,
        db: Arc<tsdb::Db>,
        hold: &Hold,
        lookback: Millis,
        registry: &Registry,
    ) -> Result<Self> {
        let opened = bucket::open(&bucket.config, registry)?;
        let labels: Arc<dyn Fn() -> model::Labels + Send + Sync> =
            Arc::new(move || current.external_labels());
        let shipper = Arc::new(Shipper::new(
            Arc::clone(&opened),
            ShipperOptions {
                labels: Arc::clone(&labels),
                upload_compacted: bucket.upload_compacted,
                interval: bucket.ship_every,
                ..ShipperOptions::new(&storage.dir, model::Labels::default())
            },
            registry,
        )?);
        hold.ask(&shipper);
        let compaction = bucket.compaction.map(|settings| {
            let labels = Arc::clone(&labels);
            Compaction::new(settings, &opened, &bucket.cache_dir, labels, registry)
        });
        let catalog = Arc::new(Catalog::new(
            Arc::clone(&opened),
            CatalogOptions {
                cache_dir: Some(bucket.cache_dir.clone()),
                interval: bucket.list_every,
                // Our own blocks are complete when their meta.json is there.
                consistency_delay: Duration::ZERO,
                ..CatalogOptions::default()
            },
            registry,
        )?);
        let newest_elsewhere = {
            let db = Arc::clone(&db);
            // A sample that came out of order must not hide what the bucket has of its time.
            move || db.ordered_from()
        };
        let gateway = Arc::new(Gateway::new(
            Arc::clone(&catalog),
            GatewayOptions {
                data_dir: Some(bucket.cache_dir),
                labels: ExternalLabels::Own(labels),
                before: Some(Arc::new(newest_elsewhere)),
                lookback,
                ..GatewayOptions::default()
            },
            Handle::current(),
            registry,
        )?);
        Ok(Self {
            location: opened.name().to_owned(),
            shipper,
            catalog,
            gateway,
            db,
            min_block: storage.min_block,
            last_error: Arc::default(),
            compaction: compaction.transpose()?,
        })
    }

    /// Lists the bucket once. A bucket that is away is waited for elsewhere, never here for long.
    pub async fn look(&self) {
        match tokio::time::timeout(Duration::from_secs(10), self.catalog.sync()).await {
            Ok(Ok(change)) => tracing::info!(blocks = change.added.len(), "listed the bucket"),
            Ok(Err(e)) => self.failed(e.to_string()).await,
            Err(_) => self.failed("no answer within 10 s".to_owned()).await,
        }
    }

    async fn failed(&self, error: String) {
        let blocks = self.catalog.recall().await;
        tracing::warn!(
            error,
            blocks,
            "the bucket cannot be listed; answering without it until it can, but for blocks that were there before, as far as their data is at hand"
        );
        *self.last_error.lock() = error;
    }

    /// The source over the bucket.
    pub fn gateway(&self) -> Arc<Gateway> {
        Arc::clone(&self.gateway)
    }

    /// What the API shows of the bucket.
    pub fn report(&self) -> Arc<dyn BucketReport> {
        Arc::new(Report {
            catalog: Arc::clone(&self.catalog),
            db: Arc::clone(&self.db),
            min_block: self.min_block,
            location: self.location.clone(),
            last_error: Arc::clone(&self.last_error),
        })
    }

    /// Starts shipping, listing and compacting.
    pub fn start(&self) -> Running {
        let stop = Cancel::default();
        let (shipper, catalog) = (Arc::clone(&self.shipper), Arc::clone(&self.catalog));
        let (s, c) = (stop.clone(), stop.clone());
        let mut tasks = vec![
            tokio::spawn(async move { shipper.run(s).await }),
            tokio::spawn(async move { catalog.run(c).await }),
        ];
        if let Some(compaction) = self.compaction.clone() {
            tasks.push(tokio::spawn(compaction.run(stop.clone())));
        }
        Running { stop, tasks }
    }

    /// Ends the tasks, and ships what was cut last, if the bucket lets it soon.
    pub async fn finish(self, running: Running) {
        running.stop.cancel();
        for task in running.tasks {
            let _ = tokio::time::timeout(Duration::from_secs(10), task).await;
        }
        match tokio::time::timeout(Duration::from_secs(30), self.shipper.sync()).await {
            Ok(Ok(report)) => {
                tracing::info!(blocks = report.uploaded.len(), "shipped the last blocks")
            }
            Ok(Err(e)) => {
                tracing::warn!(error = %e, "the last blocks are shipped after the next start")
            }
            Err(_) => tracing::warn!("the last blocks are shipped after the next start: no answer"),
        }
    }
}

struct Report {
    catalog: Arc<Catalog>,
    db: Arc<tsdb::Db>,
    min_block: Millis,
    location: String,
    last_error: Arc<Mutex<String>>,
}

impl BucketReport for Report {
    fn bucket(&self) -> BucketStatus {
        let snapshot = self.catalog.snapshot();
        let mut blocks: Vec<BucketBlock> = snapshot
            .blocks
            .iter()
            .map(|block| {
                let stats = &block.meta.stats;
                let thanos = block.meta.thanos.as_ref();
                BucketBlock {
                    ulid: block.ulid().to_string().into(),
                    min: block.meta.min_time,
                    max: block.meta.max_time,
                    counts: (stats.num_series, stats.num_samples, stats.num_chunks),
                    level: block.meta.compaction.level,
                    resolution: thanos.map_or(0, |t| t.downsample.resolution),
                    bytes: thanos.map(|_| block.meta.bytes()),
                    labels: block.labels.clone(),
                    source: thanos.map_or("", |t| t.source.as_str()).into(),
                }
            })
            .collect();
        blocks.sort_by_key(|b| b.min);
        // The head is cut when it spans one and a half blocks; the first range ends at a border.
        let next_block_due = self.db.head_range().map(|head| {
            let border = head.min.div_euclid(self.min_block) * self.min_block + self.min_block;
            border + self.min_block / 2
        });
        let last_error = if snapshot.taken.is_some() {
            String::new()
        } else {
            self.last_error.lock().clone()
        };
        BucketStatus {
            location: self.location.clone(),
            partial: snapshot.partial.len(),
            last_sync: snapshot.taken.unwrap_or(0),
            last_error,
            next_block_due,
            blocks,
        }
    }
}
