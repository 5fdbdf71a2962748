//! Which endpoints a querier is told of: by flags, by a file of endpoints, by files of targets.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use metrics::Registry;
use model::Cancel;
use serde::Deserialize;
use store::{EndpointSpec, Endpoints};
use wire::client::{TlsSettings, TlsVersion};
use wire::grpc::ChannelSettings;

use model::time::span;

use crate::kingpin::{FlagError, Typed};
use crate::outpost::{content, listed};

/// Where endpoints come from.
pub(super) struct Sources {
    flags: Vec<EndpointSpec>,
    /// `--endpoint.sd-config-file`, read again and again.
    file: Option<String>,
    reload: Duration,
    /// `--store.sd-files`.
    patterns: Vec<String>,
    refresh: String,
    channel: ChannelSettings,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct SdConfig {
    default_client_config: Option<ClientConfig>,
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Endpoint {
    address: String,
    strict: bool,
    group: bool,
    service_config: String,
    client_config: Option<ClientConfig>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
struct ClientConfig {
    tls_config: Option<TlsConfig>,
    server_name: String,
    compression: String,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
struct TlsConfig {
    enabled: Option<bool>,
    insecure_skip_verify: bool,
    cert_file: String,
    key_file: String,
    ca_file: String,
    min_version: String,
}

fn version(text: &str) -> Result<Option<TlsVersion>, String> {
    match TlsVersion::numbered(text) {
        None if text.is_empty() => Ok(None),
        Some(version) if version >= TlsVersion::Tls12 => Ok(Some(version)),
        _ => Err(format!(
            "TLS version {text:?} is not supported; use 1.2 or 1.3"
        )),
    }
}

fn snappy(text: &str) -> Result<bool, String> {
    match text {
        "" | "none" => Ok(false),
        "snappy" => Ok(true),
        other => Err(format!("{other:?} is no compression; use none or snappy")),
    }
}

impl ClientConfig {
    fn channel(&self, default: &ChannelSettings) -> Result<ChannelSettings, String> {
        let mut channel = default.clone();
        if !self.compression.is_empty() {
            channel.snappy = snappy(&self.compression)?;
        }
        if let Some(tls) = &self.tls_config {
            channel.tls = match tls.enabled {
                Some(false) => None,
                _ => Some(TlsSettings {
                    insecure_skip_verify: tls.insecure_skip_verify,
                    cert_file: tls.cert_file.clone(),
                    key_file: tls.key_file.clone(),
                    ca_file: tls.ca_file.clone(),
                    min_version: version(&tls.min_version)?,
                    ..TlsSettings::default()
                }),
            };
        }
        if let (Some(tls), false) = (&mut channel.tls, self.server_name.is_empty()) {
            tls.server_name = self.server_name.clone();
        }
        Ok(channel)
    }
}

/// The endpoints of a file of endpoints.
fn parse(text: &str, default: &ChannelSettings) -> Result<Vec<EndpointSpec>, String> {
    let config: SdConfig = wire::yaml(text)?;
    let default = match &config.default_client_config {
        Some(client) => client.channel(default)?,
        None => default.clone(),
    };
    config
        .endpoints
        .into_iter()
        .map(|e| {
            if e.address.is_empty() {
                return Err("an endpoint has no address".to_owned());
            }
            let _ = e.service_config;
            Ok(EndpointSpec {
                channel: match &e.client_config {
                    Some(client) => client.channel(&default)?,
                    None => default.clone(),
                },
                address: e.address,
                strict: e.strict,
                group: e.group,
            })
        })
        .collect()
}

impl Sources {
    pub(super) fn from_flags(typed: &Typed<'_>) -> Result<Self, FlagError> {
        let text = |flag: &str| typed.text(flag).unwrap_or_default().to_owned();
        let tls = match typed.switch("grpc-client-tls-secure") {
            false => None,
            true => Some(TlsSettings {
                insecure_skip_verify: typed.switch("grpc-client-tls-skip-verify"),
                cert_file: text("grpc-client-tls-cert"),
                key_file: text("grpc-client-tls-key"),
                ca_file: text("grpc-client-tls-ca"),
                server_name: text("grpc-client-server-name"),
                min_version: version(&text("grpc-client-tls-min-version"))
                    .map_err(|e| typed.error("grpc-client-tls-min-version", e))?,
                ..TlsSettings::default()
            }),
        };
        let channel = ChannelSettings {
            tls,
            snappy: snappy(&text("grpc-compression"))
                .map_err(|e| typed.error("grpc-compression", e))?,
            ..ChannelSettings::default()
        };
        let mut flags = Vec::new();
        for (flag, strict, group, gone) in [
            ("endpoint", false, false, None),
            ("endpoint-group", false, true, None),
            ("endpoint-strict", true, false, None),
            ("endpoint-group-strict", true, true, None),
            ("store", false, false, Some("endpoint")),
            ("rule", false, false, Some("endpoint")),
            ("metadata", false, false, Some("endpoint")),
            ("exemplar", false, false, Some("endpoint")),
            ("target", false, false, Some("endpoint")),
            ("store-strict", true, false, Some("endpoint-strict")),
        ] {
            let addresses = listed(typed, flag);
            if let (Some(instead), false) = (gone, addresses.is_empty()) {
                tracing::warn!("--{flag} was removed in Thanos; taken as --{instead}");
            }
            for address in addresses {
                let spec = EndpointSpec {
                    address,
                    strict,
                    group,
                    channel: channel.clone(),
                };
                // Flags of old name the same address once for every service.
                if !flags.contains(&spec) {
                    flags.push(spec);
                }
            }
        }
        let inline = content(typed, "endpoint.sd-config")?;
        if let Some(text) = &inline {
            let wrong = |e| typed.error("endpoint.sd-config", e);
            let found = parse(text, &channel).map_err(wrong)?;
            if typed
                .text("endpoint.sd-config-file")
                .is_none_or(str::is_empty)
            {
                flags.extend(found);
            }
        }
        Ok(Self {
            flags,
            file: typed
                .text("endpoint.sd-config-file")
                .filter(|f| !f.is_empty())
                .map(String::from),
            reload: span(typed.duration("endpoint.sd-config-reload-interval")?),
            patterns: listed(typed, "store.sd-files"),
            refresh: text("store.sd-interval"),
            channel,
        })
    }

    /// Tells `endpoints` what there is, now and whenever it changes.
    pub(super) async fn follow(
        self,
        endpoints: Arc<Endpoints>,
        registry: &Registry,
        stop: Cancel,
    ) -> Result<()> {
        let mut files = None;
        if !self.patterns.is_empty() {
            let options = discovery::ManagerOptions {
                reload_interval: Duration::from_secs(1),
            };
            let manager = discovery::Manager::new("store", registry, options)?;
            let config = serde_json::json!({
                "file_sd_configs": [{"files": self.patterns, "refresh_interval": self.refresh}]
            });
            let config: discovery::config::Discovery = serde_json::from_value(config)?;
            manager.apply([("store", &config)]);
            let mut found = manager.subscribe();
            // What is there at the start is there for the first query.
            let _ = tokio::time::timeout(Duration::from_secs(2), found.changed()).await;
            files = Some((manager, found));
        }
        let mut from_file = self.read(&[]);
        endpoints.set(self.all(&from_file, &files));
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(self.reload.max(Duration::from_secs(1)));
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
                    _ = tick.tick() => from_file = self.read(&from_file),
                    () = changed => {}
                }
                endpoints.set(self.all(&from_file, &files));
            }
        });
        Ok(())
    }

    fn read(&self, before: &[EndpointSpec]) -> Vec<EndpointSpec> {
        let Some(file) = &self.file else {
            return Vec::new();
        };
        let read = std::fs::read_to_string(file).map_err(|e| e.to_string());
        match read.and_then(|text| parse(&text, &self.channel)) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(
                    file,
                    error,
                    "the file of endpoints cannot be read; what was known stays"
                );
                before.to_vec()
            }
        }
    }

    fn all(
        &self,
        from_file: &[EndpointSpec],
        files: &Option<(
            discovery::Manager,
            tokio::sync::watch::Receiver<discovery::Found>,
        )>,
    ) -> Vec<EndpointSpec> {
        let mut all = self.flags.clone();
        all.extend_from_slice(from_file);
        if let Some((_, found)) = files {
            for group in found.borrow().values().flat_map(|groups| groups.iter()) {
                for target in &group.targets {
                    let address = target.get("__address__").unwrap_or_default().to_owned();
                    all.push(EndpointSpec {
                        address,
                        channel: self.channel.clone(),
                        ..Default::default()
                    });
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_endpoints_is_read() {
        let text = "default_client_config:\n  compression: snappy\nendpoints:\n- address: a:1\n  strict: true\n- address: dns+b:2\n  client_config:\n    compression: none\n    server_name: other\n    tls_config: {enabled: true, ca_file: ca.pem}\n";
        let found = parse(text, &ChannelSettings::default()).unwrap();
        assert!(found[0].strict && found[0].channel.snappy && found[0].channel.tls.is_none());
        let tls = found[1].channel.tls.clone().unwrap();
        assert_eq!(
            (tls.server_name.as_str(), tls.ca_file.as_str()),
            ("other", "ca.pem")
        );
        assert!(!found[1].channel.snappy);
        assert!(parse("endpoints: [{adress: x}]", &ChannelSettings::default()).is_err());
    }
}
