//! Addresses of peers as Thanos' roles are told them: written down, in files, to be looked up in DNS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use discovery::dns::{Dns, is_dynamic};
use metrics::{Counter, Family, Gauge, Registry};
use model::Cancel;
use tokio::sync::watch;

/// Where addresses come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources {
    /// Written down.
    pub written: Vec<String>,
    /// Files of targets, by pattern.
    pub files: Vec<String>,
    /// How often files are read though nothing seems to have changed.
    pub refresh: String,
}

/// The addresses as they are known now.
pub type Known = watch::Receiver<Arc<Vec<String>>>;

/// Looks addresses up, for all that is followed under one prefix.
#[derive(Clone)]
pub struct Lookups {
    dns: Arc<Dns>,
    interval: Duration,
    lookups: Counter,
    failures: Counter,
    results: Family<Gauge, 1>,
}

/// How long one lookup may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl Lookups {
    /// Lookups every `interval`, counted as `PREFIXdns_lookups_total` and so on.
    pub fn new(prefix: &str, interval: Duration, registry: &Registry) -> Result<Self> {
        Ok(Self {
            dns: Arc::default(),
            interval: interval.max(Duration::from_secs(1)),
            lookups: registry.counter(
                &format!("{prefix}dns_lookups_total"),
                "The number of DNS lookups resolutions attempts",
            )?,
            failures: registry.counter(
                &format!("{prefix}dns_failures_total"),
                "The number of DNS lookup failures",
            )?,
            results: registry.gauges(
                &format!("{prefix}dns_provider_results"),
                "The number of resolved endpoints for each configured address",
                ["addr"],
            )?,
        })
    }

    /// What `sources` name, now and as it changes. What cannot be looked up stays as it was.
    pub async fn follow(
        &self,
        name: &str,
        sources: Sources,
        registry: &Registry,
        stop: Cancel,
    ) -> Result<Known> {
        let mut files = None;
        if !sources.files.is_empty() {
            let options = discovery::ManagerOptions {
                reload_interval: Duration::from_secs(1),
            };
            let manager = discovery::Manager::new(name, registry, options)?;
            let section = serde_json::json!({
                "file_sd_configs": [{"files": sources.files, "refresh_interval": sources.refresh}]
            });
            let section: discovery::config::Discovery = serde_json::from_value(section)
                .map_err(|e| anyhow::anyhow!("{name}: files of addresses: {e}"))?;
            manager.apply([(name, &section)]);
            let mut found = manager.subscribe();
            // What is there at the start is there for the first question.
            let _ = tokio::time::timeout(Duration::from_secs(2), found.changed()).await;
            files = Some((manager, found));
        }
        let mut resolved = BTreeMap::new();
        let first = self.all(&sources.written, &files, &mut resolved).await;
        let (send, known) = watch::channel(Arc::new(first));
        let this = self.clone();
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(this.interval);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            tick.tick().await;
            loop {
                let changed = async {
                    match &mut files {
                        Some((_, found)) => drop(found.changed().await),
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = tick.tick() => {}
                    () = changed => {}
                }
                let now = this.all(&sources.written, &files, &mut resolved).await;
                send.send_if_modified(|known| {
                    let other = **known != now;
                    if other {
                        *known = Arc::new(now);
                    }
                    other
                });
            }
        });
        Ok(known)
    }

    async fn all(
        &self,
        written: &[String],
        files: &Option<(discovery::Manager, watch::Receiver<discovery::Found>)>,
        resolved: &mut BTreeMap<String, Vec<String>>,
    ) -> Vec<String> {
        let mut names = written.to_vec();
        if let Some((_, found)) = files {
            let found = found.borrow();
            let groups = found.values().flat_map(|groups| groups.iter());
            for target in groups.flat_map(|group| &group.targets) {
                names.extend(target.get("__address__").map(String::from));
            }
        }
        resolved.retain(|name, _| names.contains(name));
        let mut all = Vec::new();
        for name in names {
            if !is_dynamic(&name) {
                all.push(name);
                continue;
            }
            self.lookups.inc();
            match tokio::time::timeout(PATIENCE, self.dns.lookup(&name)).await {
                Ok(Ok(found)) => {
                    resolved.insert(name.clone(), found);
                }
                Ok(Err(error)) => {
                    self.failures.inc();
                    tracing::error!(%error, "an address cannot be looked up; what was known stays");
                }
                Err(_) => {
                    self.failures.inc();
                    tracing::error!(address = %name, "an address is not looked up in time; what was known stays");
                }
            }
            let known = resolved.get(&name).cloned().unwrap_or_default();
            self.results.with(&[&name]).set(known.len() as i64);
            all.extend(known);
        }
        all.sort();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_are_looked_up_and_files_followed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("queriers.json");
        let write = |targets: &str| {
            let half = dir.path().join("half");
            std::fs::write(&half, format!(r#"[{{"targets": [{targets}]}}]"#)).unwrap();
            std::fs::rename(half, &file).unwrap();
        };
        write(r#""c:1", "dns+127.0.0.1:2""#);
        let registry = Registry::new();
        let lookups = Lookups::new("x_", Duration::from_secs(30), &registry).unwrap();
        let sources = Sources {
            written: vec!["b:1".into(), "dns+localhost:9".into(), "dns+x".into()],
            files: vec![file.display().to_string()],
            refresh: "1s".to_owned(),
        };
        let stop = Cancel::default();
        let mut known = lookups
            .follow("queriers", sources, &registry, stop.clone())
            .await
            .unwrap();
        let first = Vec::clone(&known.borrow_and_update());
        for address in ["b:1", "c:1", "127.0.0.1:2", "127.0.0.1:9"] {
            assert!(first.iter().any(|a| a == address), "{first:?}");
        }
        assert_eq!((lookups.lookups.get(), lookups.failures.get()), (3, 1));
        write(r#""d:1""#);
        let changed = tokio::time::timeout(Duration::from_secs(20), known.changed());
        changed.await.unwrap().unwrap();
        assert!(known.borrow().contains(&"d:1".to_owned()));
        stop.cancel();
    }
}
