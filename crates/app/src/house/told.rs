//! What the API tells of the process that no room knows alone: how far the replay is, which
//! features there are, how jobs are configured.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Settings;
use super::config::Current;

/// How far the replay is; clones share it.
#[derive(Clone, Default)]
pub struct Replay(Arc<(AtomicU64, AtomicU64)>);

impl Replay {
    /// It is there now.
    pub fn set(&self, progress: tsdb::Progress) {
        self.0.0.store(progress.done, Ordering::Relaxed);
        self.0.1.store(progress.total, Ordering::Relaxed);
    }

    /// For the API.
    pub fn report(&self) -> Arc<dyn Fn() -> api::Replay + Send + Sync> {
        let replay = self.clone();
        Arc::new(move || api::Replay {
            min: 0,
            max: replay.0.1.load(Ordering::Relaxed),
            current: replay.0.0.load(Ordering::Relaxed),
        })
    }
}

/// Finds jobs in the configuration in force.
pub fn scrape_pools(current: Arc<Current>) -> api::ScrapePools {
    Arc::new(move |name| {
        let loaded = current.loaded();
        let job = loaded.jobs.iter().find(|job| job.job_name == name)?;
        Some(api::ScrapePool {
            yaml: crate::config::yaml_redacted(job),
            relabel: job.relabel_configs.clone(),
            scheme: job
                .metric_name_validation_scheme
                .unwrap_or_else(|| loaded.config.scheme()),
        })
    })
}

/// The features of this process by category, but those of the API and of the language, which know
/// their own.
pub fn features(settings: &Settings) -> api::FeatureTable {
    let (storage, queries) = (&settings.storage, &settings.queries);
    let auto_reload = settings.auto_reload.is_some();
    api::FeatureTable::from([
        (
            "otlp_receiver",
            BTreeMap::from([
                ("delta_conversion", false),
                ("native_delta_ingestion", settings.push.native_delta),
            ]),
        ),
        (
            "prometheus",
            BTreeMap::from([
                ("agent_mode", settings.agent.is_some()),
                ("auto_reload_config", auto_reload),
                ("server_mode", settings.agent.is_none()),
            ]),
        ),
        (
            "promql",
            BTreeMap::from([
                ("delayed_name_removal", queries.delayed_name_removal),
                ("type_and_unit_labels", queries.type_and_unit),
            ]),
        ),
        (
            "rules",
            BTreeMap::from([
                ("concurrent_rule_eval", settings.rules.beside.is_some()),
                ("keep_firing_for", true),
                ("query_offset", true),
            ]),
        ),
        (
            "scrape",
            BTreeMap::from([
                ("extra_scrape_metrics", true),
                (
                    "start_timestamp_zero_ingestion",
                    storage.starts == tsdb::Starts::Zeros,
                ),
                ("type_and_unit_labels", queries.type_and_unit),
            ]),
        ),
        (
            "service_discovery_providers",
            discovery::config::providers().collect(),
        ),
        (
            "templating_functions",
            rules::template::functions()
                .map(|name| (name, true))
                .collect(),
        ),
        (
            "tsdb",
            BTreeMap::from([
                ("delayed_compaction", false),
                ("exemplar_storage", storage.exemplars),
                ("isolation", true),
                ("native_histograms", true),
                ("st_storage", storage.starts == tsdb::Starts::Store),
            ]),
        ),
        ("ui", BTreeMap::from([("ui_v2", false), ("ui_v3", true)])),
    ])
}
