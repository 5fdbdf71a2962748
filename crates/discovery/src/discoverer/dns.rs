//! Targets from DNS: one group for each name.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hickory_resolver::proto::rr::{RData, RecordType};
use model::Labels;
use tokio_util::sync::CancellationToken;

use super::Discoverer;
use crate::config;
use crate::counters::Counters;
use crate::dns::Dns;
use crate::{Group, Updates};

/// How long the look-up of a name may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Names {
    dns: Dns,
    names: Vec<String>,
    kind: RecordType,
    port: u16,
    interval: Duration,
    counters: Counters,
}

impl Names {
    pub(super) fn new(config: &config::Dns, counters: Counters) -> Self {
        Self {
            dns: Dns::default(),
            names: config.names.clone(),
            kind: match config.kind.to_ascii_uppercase().as_str() {
                "A" => RecordType::A,
                "AAAA" => RecordType::AAAA,
                "MX" => RecordType::MX,
                "NS" => RecordType::NS,
                // Nothing else is accepted by the configuration.
                _ => RecordType::SRV,
            },
            port: config.port,
            interval: config
                .refresh_interval
                .as_std()
                .max(Duration::from_millis(50)),
            counters,
        }
    }

    /// The groups of all names that could be looked up.
    async fn refresh(&self) -> Vec<Group> {
        let asked = self.names.iter().map(|name| async move {
            self.counters.dns_lookups.inc();
            let looked = tokio::time::timeout(PATIENCE, self.dns.records(name, self.kind)).await;
            let looked = looked.unwrap_or_else(|_| Err(format!("no answer about {name:?}")));
            match looked {
                Ok(records) => Some(Group {
                    source: name.clone(),
                    targets: records
                        .iter()
                        .filter_map(|r| self.target(name, r))
                        .collect(),
                    labels: Labels::default(),
                }),
                Err(error) => {
                    self.counters.dns_failures.inc();
                    tracing::error!(error, name, "Error refreshing DNS targets");
                    None
                }
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    fn target(&self, name: &str, record: &RData) -> Option<Labels> {
        // Rooted names end in a dot; targets do not.
        let bare = |host: &str| host.trim_end_matches('.').to_owned();
        let (host, port, more) = match record {
            RData::SRV(service) => {
                let target = service.target.to_utf8();
                let more = vec![
                    ("__meta_dns_srv_record_port", service.port.to_string()),
                    ("__meta_dns_srv_record_target", target.clone()),
                ];
                (bare(&target), service.port, more)
            }
            RData::MX(mail) => {
                let target = mail.exchange.to_utf8();
                let more = vec![("__meta_dns_mx_record_target", target.clone())];
                (bare(&target), self.port, more)
            }
            RData::NS(server) => {
                let target = server.0.to_utf8();
                let more = vec![("__meta_dns_ns_record_target", target.clone())];
                (bare(&target), self.port, more)
            }
            RData::A(address) => (address.0.to_string(), self.port, Vec::new()),
            RData::AAAA(address) => (format!("[{}]", address.0), self.port, Vec::new()),
            // An alias on the way to an address.
            _ => return None,
        };
        let mut labels = vec![
            ("__address__", format!("{host}:{port}")),
            ("__meta_dns_name", name.to_owned()),
        ];
        labels.extend(more);
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
                let groups = tokio::select! {
                    () = stop.cancelled() => return,
                    groups = self.refresh() => groups,
                };
                let refreshes = self.counters.refreshes.with(&["dns"]);
                refreshes.observe_duration(began.elapsed());
                updates.send(groups);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use metrics::Registry;

    use super::*;
    use crate::dns::tests::server;

    async fn found(section: &str, known: Vec<(&'static str, u16, Vec<u8>)>) -> Vec<String> {
        let config: config::Dns = serde_saphyr::from_str(section).unwrap();
        let counters = Counters::new("t", &Registry::new()).unwrap();
        let mut names = Names::new(&config, counters);
        names.dns = server(known).await;
        let groups = names.refresh().await;
        assert_eq!(groups.len(), config.names.len());
        let targets = groups.into_iter().flat_map(|g| g.targets);
        let mut texts: Vec<String> = targets.map(|t| t.to_string()).collect();
        texts.sort();
        texts
    }

    #[tokio::test]
    async fn records_become_targets() {
        let host = b"\x02am\x07example\x00";
        let mut service = vec![0, 10, 0, 5, 0x23, 0x85];
        service.extend(host);
        let mut mail = vec![0, 10];
        mail.extend(host);
        let known = || {
            vec![
                ("_web._tcp.am.example", 33, service.clone()),
                ("am.example", 1, vec![10, 0, 0, 1]),
                ("am.example", 1, vec![10, 0, 0, 2]),
                ("am.example", 15, mail.clone()),
            ]
        };
        assert_eq!(
            found("names: [_web._tcp.am.example.]", known()).await,
            [
                r#"{__address__="am.example:9093", __meta_dns_name="_web._tcp.am.example.", __meta_dns_srv_record_port="9093", __meta_dns_srv_record_target="am.example."}"#
            ]
        );
        let a = found(
            "{names: [am.example., gone.example.], type: a, port: 9093}",
            known(),
        )
        .await;
        assert_eq!(
            a,
            [
                r#"{__address__="10.0.0.1:9093", __meta_dns_name="am.example."}"#,
                r#"{__address__="10.0.0.2:9093", __meta_dns_name="am.example."}"#
            ]
        );
        let mx = found("{names: [am.example.], type: MX, port: 25}", known()).await;
        assert!(mx[0].contains(r#"__address__="am.example:25""#), "{mx:?}");
        // It exists, but has no such record.
        assert!(
            found("{names: [am.example.], type: AAAA, port: 1}", known())
                .await
                .is_empty()
        );
    }
}
