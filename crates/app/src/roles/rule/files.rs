//! The rule files: read at the start, on SIGHUP and on POST `/-/reload`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use metrics::{Family, FloatGauge, Gauge, Registry};
use model::BoxFuture;
use model::report::RulesReport as _;
use model::scope::PartialResponse;
use model::time::{Clock as _, WallClock};
use rules::file::FileError;
use rules::{Manager, Update};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;

use crate::config::glob;

pub(super) struct Files {
    manager: Arc<Manager>,
    patterns: Vec<String>,
    update: Update,
    success: Gauge,
    success_time: FloatGauge,
    loaded: Family<Gauge, 3>,
    one_at_a_time: Mutex<()>,
}

fn all(errors: Vec<FileError>) -> anyhow::Error {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    anyhow!("error loading rules: {}", texts.join("; "))
}

impl Files {
    /// The files that `patterns` name, for `manager`; all else that it is told stands in `update`.
    pub(super) fn new(
        manager: Arc<Manager>,
        patterns: Vec<String>,
        update: Update,
        registry: &Registry,
    ) -> Result<Self> {
        Ok(Self {
            manager,
            patterns,
            update,
            success: registry.gauge(
                "thanos_rule_config_last_reload_successful",
                "Whether the last configuration reload attempt was successful.",
            )?,
            success_time: registry.float_gauge(
                "thanos_rule_config_last_reload_success_timestamp_seconds",
                "Timestamp of the last successful configuration reload.",
            )?,
            loaded: registry.gauges(
                "thanos_rule_loaded_rules",
                "Loaded rules partitioned by file and group.",
                ["strategy", "file", "group"],
            )?,
            one_at_a_time: Mutex::default(),
        })
    }

    fn found(&self) -> Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = Vec::new();
        for pattern in &self.patterns {
            let found = glob(pattern)
                .map_err(|e| anyhow!("retrieving rule files failed, pattern {pattern:?}: {e}"))?;
            for file in found {
                if file.is_dir() {
                    // The default names a folder that may well be there.
                    tracing::warn!(folder = %file.display(), "--rule-file names a folder; name files, as rules/*.yml");
                } else if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }

    fn update(&self) -> Result<Update> {
        Ok(Update {
            files: self.found()?,
            ..self.update.clone()
        })
    }

    /// Reads the files without using them; all that is wrong is said.
    pub(super) async fn judge(&self) -> Result<()> {
        let update = self.update()?;
        tracing::info!(files = update.files.len(), "read rule files");
        let manager = Arc::clone(&self.manager);
        let judged = tokio::task::spawn_blocking(move || manager.load(&update).map(drop));
        judged.await?.map_err(all)
    }

    /// Reads the files again and takes over what they say: all of it, or nothing.
    pub(super) async fn reload(&self) -> Result<()> {
        let _guard = self.one_at_a_time.lock().await;
        let result = async {
            let update = self.update()?;
            self.manager.update(&update).await.map_err(all)
        }
        .await;
        match &result {
            Ok(()) => {
                self.success.set(1);
                self.success_time.set(WallClock.now() as f64 / 1000.0);
                self.loaded.clear();
                for group in self.manager.rule_groups() {
                    let strategy = match group.partial_response {
                        PartialResponse::Abort => "ABORT",
                        PartialResponse::Warn => "WARN",
                    };
                    let by = [strategy, &*group.file, &*group.name];
                    self.loaded.with(&by).set(group.rules.len() as i64);
                }
                tracing::info!("rules loaded");
            }
            Err(error) => {
                self.success.set(0);
                tracing::error!(error = format!("{error:#}"), "the rules before stay");
            }
        }
        result
    }

    /// Reloads whenever a SIGHUP comes.
    pub(super) async fn on_hangup(&self) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            return std::future::pending().await;
        };
        while hangup.recv().await.is_some() {
            // Success and failure were logged.
            let _ = self.reload().await;
        }
    }
}

/// Reloading over HTTP, which a ruler always allows.
pub(super) struct OverHttp(pub(super) Arc<Files>);

impl api::Lifecycle for OverHttp {
    fn reload(&self) -> BoxFuture<'static, Result<(), String>> {
        let files = Arc::clone(&self.0);
        Box::pin(async move { files.reload().await.map_err(|e| format!("{e:#}")) })
    }

    fn may_quit(&self) -> bool {
        false
    }

    fn quit(&self) {}
}
