//! Targets from Consul: its catalog says which services there are, its health API which instances
//! each has. Both are asked to answer when something changed.

mod api;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Labels;
use tokio_util::sync::CancellationToken;

use self::api::{Api, Instance};
use super::Discoverer;
use crate::config;
use crate::counters::Counters;
use crate::{Error, Group, Updates};

/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(15);
/// The least time between two questions, however short the interval that was asked for.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

pub(super) struct Catalog {
    shared: Arc<Shared>,
}

struct Shared {
    config: config::Consul,
    api: Api,
    interval: Duration,
    counters: Counters,
}

impl Catalog {
    pub(super) fn new(config: &config::Consul, counters: Counters) -> Result<Self, Error> {
        let shared = Shared {
            api: Api::new(config)?,
            interval: config.refresh_interval.as_std().max(MIN_INTERVAL),
            config: config.clone(),
            counters,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }
}

impl Discoverer for Catalog {
    fn run(
        self: Box<Self>,
        updates: Updates,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let Some(datacenter) = stop.run_until_cancelled(self.shared.datacenter()).await else {
                return;
            };
            let datacenter: Arc<str> = datacenter.into();
            let config = &self.shared.config;
            let watch = |service: &str, stop: CancellationToken| {
                let following = follow(
                    Arc::clone(&self.shared),
                    service.to_owned(),
                    Arc::clone(&datacenter),
                    updates.clone(),
                );
                tokio::spawn(stop.run_until_cancelled_owned(following));
            };
            let named = !config.services.is_empty();
            if named && config.tags.is_empty() && config.filter.is_empty() {
                for service in &config.services {
                    watch(service, stop.clone());
                }
                return;
            }
            let mut watched: BTreeMap<String, CancellationToken> = BTreeMap::new();
            let mut asked = Question::new(&self.shared, "services");
            loop {
                let path = "/v1/catalog/services";
                let answer = asked.ask::<BTreeMap<String, Vec<String>>>(path, false);
                let Some(services) = stop.run_until_cancelled(answer).await else {
                    return;
                };
                for (service, tags) in &services {
                    if !watched.contains_key(service) && self.shared.wants(service, tags) {
                        let token = stop.child_token();
                        watch(service, token.clone());
                        watched.insert(service.clone(), token);
                    }
                }
                let mut gone = Vec::new();
                watched.retain(|service, token| {
                    let there = services.contains_key(service);
                    if !there {
                        token.cancel();
                        gone.push(Group {
                            source: service.clone(),
                            ..Group::default()
                        });
                    }
                    there
                });
                if !gone.is_empty() {
                    updates.send(gone);
                }
            }
        })
    }
}

impl Shared {
    /// Whether a service of the catalog is asked for.
    fn wants(&self, service: &str, tags: &[String]) -> bool {
        let named =
            self.config.services.is_empty() || self.config.services.iter().any(|s| s == service);
        named && self.config.tags.iter().all(|tag| tags.contains(tag))
    }

    /// The datacenter; that of the agent if none is named.
    async fn datacenter(&self) -> String {
        if !self.config.datacenter.is_empty() {
            return self.config.datacenter.clone();
        }
        loop {
            match self.api.datacenter().await {
                Ok(name) => return name,
                Err(error) => {
                    tracing::error!(
                        error,
                        server = self.config.server,
                        "cannot ask Consul for its datacenter"
                    );
                    self.counters.consul_failures.inc();
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// A question that is asked for ever, answered when the answer has changed.
struct Question<'a> {
    shared: &'a Shared,
    call: &'static str,
    index: u64,
    began: Option<Instant>,
}

impl<'a> Question<'a> {
    fn new(shared: &'a Shared, call: &'static str) -> Self {
        Self {
            shared,
            call,
            index: 0,
            began: None,
        }
    }

    /// The next answer that differs from the last one.
    async fn ask<T: serde::de::DeserializeOwned>(&mut self, path: &str, instances: bool) -> T {
        let Shared {
            api,
            interval,
            counters,
            ..
        } = self.shared;
        loop {
            if let Some(began) = self.began {
                tokio::time::sleep(interval.saturating_sub(began.elapsed())).await;
            }
            let began = Instant::now();
            self.began = Some(began);
            let answer = api.watch::<T>(path, self.index, instances).await;
            let duration = counters.consul_calls.with(&["catalog", self.call]);
            duration.observe_duration(began.elapsed());
            match answer {
                Ok((index, answer)) => {
                    let before = std::mem::replace(&mut self.index, index);
                    if before != index || index == 0 {
                        // An index that goes back is one of another history.
                        if index < before {
                            self.index = 0;
                        }
                        return answer;
                    }
                }
                Err(error) => {
                    tracing::error!(error, path, "cannot ask Consul; keeping the last targets");
                    counters.consul_failures.inc();
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Follows the instances of one service for ever.
async fn follow(shared: Arc<Shared>, service: String, datacenter: Arc<str>, updates: Updates) {
    let labels = Labels::from_pairs([
        ("__meta_consul_service", service.as_str()),
        ("__meta_consul_dc", &datacenter),
    ]);
    let path = format!("/v1/health/service/{}", api::escaped(&service));
    let mut asked = Question::new(&shared, "service");
    loop {
        let instances: Vec<Instance> = asked.ask(&path, true).await;
        let separator = &shared.config.tag_separator;
        updates.send(vec![Group {
            source: service.clone(),
            targets: instances.iter().map(|i| i.labels(separator)).collect(),
            labels: labels.clone(),
        }]);
    }
}
