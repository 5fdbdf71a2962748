//! The configuration in force, and how another takes its place.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use anyhow::{Result, bail};
use arc_swap::ArcSwap;
use metrics::{FloatGauge, Gauge, Registry};
use model::time::{Clock as _, WallClock};
use model::{Labels, Millis};
use promql::features::Features;

use crate::config::{Config, Loaded, Mode, unsupported};

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// The file of an agent.
    Agent(PathBuf),
    /// A text that is part of the program.
    BuiltIn(String),
}

impl Place {
    fn load(&self) -> Result<Loaded> {
        Ok(match self {
            Place::File(path) => Config::load(path, Mode::Server)?,
            Place::Agent(path) => Config::load(path, Mode::Agent)?,
            Place::BuiltIn(text) => {
                let config = Config::parse(Path::new("(built in)"), text)?;
                let jobs = config.scrape_configs.clone();
                Loaded {
                    config,
                    jobs,
                    unset_variables: Vec::new(),
                }
            }
        })
    }
}

/// The configuration in force.
pub struct Current {
    place: Place,
    allow_unsupported: bool,
    default_labels: Labels,
    features: Features,
    loaded: ArcSwap<Loaded>,
    success: AtomicBool,
    since: AtomicI64,
    last_success: Gauge,
    last_success_time: FloatGauge,
    unsupported: Gauge,
}

impl Current {
    /// Reads and judges the configuration. Nothing else was touched when it fails.
    pub fn load(
        place: Place,
        allow_unsupported: bool,
        default_labels: Labels,
        features: Features,
        registry: &Registry,
    ) -> Result<Self> {
        let loaded = place.load()?;
        let current = Self {
            place,
            allow_unsupported,
            default_labels,
            features,
            loaded: ArcSwap::from_pointee(loaded.clone()),
            success: AtomicBool::new(true),
            since: AtomicI64::new(0),
            last_success: registry.gauge(
                "prometheus_config_last_reload_successful",
                "Whether the last configuration reload attempt was successful.",
            )?,
            last_success_time: registry.float_gauge(
                "prometheus_config_last_reload_success_timestamp_seconds",
                "Timestamp of the last successful configuration reload.",
            )?,
            unsupported: registry.gauge(
                "epimetheus_config_unsupported",
                "Number of mechanisms that the configuration uses and this version does not have.",
            )?,
        };
        current.judge(&loaded)?;
        current.put(loaded);
        Ok(current)
    }

    /// Reads the configuration again; it is not in force before [`Current::put`].
    pub fn read_again(&self) -> Result<Loaded> {
        let read = self.place.load().and_then(|loaded| {
            self.judge(&loaded)?;
            Ok(loaded)
        });
        if read.is_err() {
            self.success.store(false, Ordering::Relaxed);
            self.last_success.set(0);
        }
        read
    }

    /// Puts a configuration in force.
    pub fn put(&self, loaded: Loaded) {
        let now = WallClock.now();
        self.loaded.store(Arc::new(loaded));
        self.success.store(true, Ordering::Relaxed);
        self.since.store(now, Ordering::Relaxed);
        self.last_success.set(1);
        self.last_success_time.set(now as f64 / 1000.0);
    }

    /// Refuses what is in use and not in this version, or counts it where that is allowed.
    fn judge(&self, loaded: &Loaded) -> Result<()> {
        for name in &loaded.unset_variables {
            tracing::warn!(
                name,
                "an environment variable of the external labels is not set"
            );
        }
        super::rules::judge(&loaded.config, self.features)?;
        let missing = unsupported(&loaded.config, &loaded.jobs);
        self.unsupported.set(missing.len() as i64);
        if missing.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = missing.iter().map(ToString::to_string).collect();
        if !self.allow_unsupported {
            bail!(
                "{}: {}; --config.allow-unsupported runs the rest",
                self.place(),
                list.join("; ")
            );
        }
        for line in list {
            tracing::warn!("{line}: running without it");
        }
        Ok(())
    }

    /// What is in force.
    pub fn loaded(&self) -> Arc<Loaded> {
        self.loaded.load_full()
    }

    /// The labels of everything that leaves this process.
    pub fn external_labels(&self) -> Labels {
        self.labels_of(&self.loaded.load())
    }

    /// The labels of everything that leaves this process under that configuration.
    pub fn labels_of(&self, loaded: &Loaded) -> Labels {
        let labels = loaded.config.global.external_labels.0.clone();
        if labels.is_empty() {
            self.default_labels.clone()
        } else {
            labels
        }
    }

    /// The step of a subquery that names none: the evaluation interval.
    pub fn subquery_step(self: &Arc<Self>) -> Arc<dyn Fn(Millis) -> Millis + Send + Sync> {
        let current = Arc::clone(self);
        Arc::new(move |_| current.loaded.load().config.global.evaluation_interval.0)
    }

    /// When the configuration in force was read, ms, and whether the last attempt worked.
    pub fn last_reload(&self) -> (Millis, bool) {
        (
            self.since.load(Ordering::Relaxed),
            self.success.load(Ordering::Relaxed),
        )
    }

    /// What the files that the configuration in force is made of hold now: its own, those of rules
    /// and those of jobs. None where there is no file, or one cannot be read.
    pub fn fingerprint(&self) -> Option<u64> {
        let (Place::File(path) | Place::Agent(path)) = &self.place else {
            return None;
        };
        let config = &self.loaded().config;
        let mut files = vec![path.clone()];
        files.extend(super::rules::files(config).ok()?);
        for pattern in &config.scrape_config_files {
            files.extend(crate::config::glob(pattern).ok()?);
        }
        let mut hasher = DefaultHasher::new();
        for file in files {
            std::fs::read(&file).ok()?.hash(&mut hasher);
            file.hash(&mut hasher);
        }
        Some(hasher.finish())
    }

    /// Where it comes from, for people.
    pub fn place(&self) -> String {
        match &self.place {
            Place::File(path) | Place::Agent(path) => path.display().to_string(),
            Place::BuiltIn(_) => "the built-in configuration".to_owned(),
        }
    }
}
