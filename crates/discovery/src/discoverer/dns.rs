//! Targets from DNS, looked up again and again.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolveHosts;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{RData, RecordType};
use model::Labels;
use tokio_util::sync::CancellationToken;

use super::Discoverer;
use crate::config;
use crate::counters::Counters;
use crate::dns::records;
use crate::{Group, Updates};

/// The least time between two rounds, however short the interval that was asked for.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// Gives whom to ask, as the system says now.
type Resolver = Box<dyn Fn() -> Result<TokioResolver, NetError> + Send + Sync>;

pub(super) struct Names {
    names: Vec<String>,
    kind: RecordType,
    port: u16,
    interval: Duration,
    resolver: Resolver,
    counters: Counters,
}

impl Names {
    pub(super) fn new(config: &config::Dns, counters: Counters) -> Self {
        let resolver = || {
            let mut builder = TokioResolver::builder_tokio()?;
            let options = builder.options_mut();
            // Each round asks anew, and asks DNS.
            options.cache_size = 0;
            options.use_hosts_file = ResolveHosts::Never;
            builder.build()
        };
        Self::with(config, counters, Box::new(resolver))
    }

    fn with(config: &config::Dns, counters: Counters, resolver: Resolver) -> Self {
        let kind = match config.kind.to_ascii_uppercase().as_str() {
            "A" => RecordType::A,
            "AAAA" => RecordType::AAAA,
            "MX" => RecordType::MX,
            "NS" => RecordType::NS,
            _ => RecordType::SRV,
        };
        let mut names = config.names.clone();
        names.sort_unstable();
        names.dedup();
        Self {
            names,
            kind,
            port: config.port,
            interval: config.refresh_interval.as_std().max(MIN_INTERVAL),
            resolver,
            counters,
        }
    }

    /// The groups of all names that were answered; those of the others stay what they were.
    async fn refresh(&self) -> Result<Vec<Group>, NetError> {
        let resolver = (self.resolver)()?;
        let mut groups = Vec::new();
        // One after the other: a long list must not be a flood.
        for name in &self.names {
            self.counters.dns_lookups.inc();
            match self.targets(&resolver, name).await {
                Ok(targets) => groups.push(Group {
                    source: name.clone(),
                    targets,
                    labels: Labels::default(),
                }),
                Err(error) => {
                    self.counters.dns_failures.inc();
                    tracing::error!(%error, name, "cannot look targets up; keeping the last ones");
                }
            }
        }
        Ok(groups)
    }

    async fn targets(&self, resolver: &TokioResolver, name: &str) -> Result<Vec<Labels>, NetError> {
        let records = records(resolver, name, self.kind).await?;
        Ok(records
            .iter()
            .filter_map(|r| self.target(name, r))
            .collect())
    }

    /// The target that a record names; none for an alias on the way to it.
    fn target(&self, name: &str, record: &RData) -> Option<Labels> {
        // As DNS writes it, and without the dot that ends a whole name.
        let host = |name: &hickory_resolver::proto::rr::Name| {
            let rooted = format!("{}.", name.to_ascii().trim_end_matches('.'));
            (rooted.trim_end_matches('.').to_owned(), rooted)
        };
        let mut labels = vec![("__meta_dns_name", name.to_owned())];
        let (host, port) = match record {
            RData::SRV(service) => {
                let (host, rooted) = host(&service.target);
                labels.push(("__meta_dns_srv_record_target", rooted));
                labels.push(("__meta_dns_srv_record_port", service.port.to_string()));
                (host, service.port)
            }
            RData::MX(exchange) => {
                let (host, rooted) = host(&exchange.exchange);
                labels.push(("__meta_dns_mx_record_target", rooted));
                (host, self.port)
            }
            RData::NS(server) => {
                let (host, rooted) = host(&server.0);
                labels.push(("__meta_dns_ns_record_target", rooted));
                (host, self.port)
            }
            RData::A(address) => (address.0.to_string(), self.port),
            RData::AAAA(address) => (format!("[{}]", address.0), self.port),
            _ => return None,
        };
        labels.push(("__address__", format!("{host}:{port}")));
        Some(Labels::from_pairs(labels))
    }
}

impl Discoverer for Names {
    fn run(
        self: Box<Self>,
        updates: Updates,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let mut pause = tokio::time::interval(self.interval);
            pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = pause.tick() => {}
                }
                let began = Instant::now();
                let refreshed = tokio::select! {
                    () = stop.cancelled() => return,
                    refreshed = self.refresh() => refreshed,
                };
                self.counters.refreshed("dns", began.elapsed());
                match refreshed {
                    Ok(groups) => updates.send(groups),
                    Err(error) => {
                        tracing::error!(%error, "cannot find out which DNS server to ask");
                        self.counters.refresh_failures.with(&["dns"]).inc();
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
