//! Who is told of alerts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use discovery::config::{self, Discovery};
use metrics::Registry;
use model::relabel::{self, NameScheme};
use model::settings::Duration as Span;
use model::time::span;
use model::{Cancel, Labels};
use rules::notify::Notifier;
use rules::notify::config::{Alerting, Alertmanager};
use serde::Deserialize;
use wire::client::{BasicAuth, HttpSettings};

use super::peers::{self, FileSd, HttpConfig};
use crate::addresses::{Known, Lookups, Sources};
use crate::kingpin::Typed;
use crate::outpost::listed;

/// `--alertmanagers.config`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Config {
    alertmanagers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Entry {
    http_config: HttpConfig,
    static_configs: Vec<String>,
    file_sd_configs: Vec<FileSd>,
    /// Prometheus' section, which Thanos does not have.
    kubernetes_sd_configs: Vec<config::Kubernetes>,
    /// What becomes of the targets of those.
    relabel_configs: Vec<relabel::Config>,
    scheme: String,
    path_prefix: String,
    timeout: String,
    api_version: String,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            http_config: HttpConfig::default(),
            static_configs: Vec::new(),
            file_sd_configs: Vec::new(),
            kubernetes_sd_configs: Vec::new(),
            relabel_configs: Vec::new(),
            scheme: "http".to_owned(),
            path_prefix: String::new(),
            timeout: "10s".to_owned(),
            api_version: "v2".to_owned(),
        }
    }
}

/// Alertmanagers with equal settings.
#[derive(Debug)]
struct Group {
    /// How to talk to them; its discovery is of those that the notifier finds itself.
    settings: Alertmanager,
    /// The addresses of all others.
    sources: Sources,
}

/// Whom to tell, and what becomes of alerts on the way.
#[derive(Debug)]
pub(super) struct Settings {
    groups: Vec<Group>,
    relabel: Vec<relabel::Config>,
    dns_interval: Duration,
}

impl Settings {
    pub(super) fn from_flags(typed: &Typed<'_>) -> Result<Self> {
        let urls = listed(typed, "alertmanagers.url");
        let timeout = Span(typed.duration("alertmanagers.send-timeout")?);
        let groups = match peers::content(typed, "alertmanagers.config")? {
            Some(_) if !urls.is_empty() => bail!(
                "--alertmanagers.url and --alertmanagers.config* parameters cannot be defined at the same time"
            ),
            Some(text) => parse(&text).map_err(|e| typed.error("alertmanagers.config", e))?,
            None => urls
                .iter()
                .map(|url| group_of(url, timeout))
                .collect::<Result<_, _>>()
                .map_err(|e| typed.error("alertmanagers.url", e))?,
        };
        if groups.is_empty() {
            tracing::warn!("no alertmanager configured");
        }
        let mut relabel = drop_labels(&listed(typed, "alert.label-drop"))?;
        if let Some(text) = peers::content(typed, "alert.relabel-config")? {
            let wrong = |e: String| typed.error("alert.relabel-config", e);
            let rules: Vec<relabel::Config> = wire::yaml(&text).map_err(wrong)?;
            for rule in &rules {
                let judged = rule.compile(NameScheme::default());
                judged.map_err(|e| wrong(format!("validate relabel config: {e}")))?;
            }
            relabel.extend(rules);
        }
        Ok(Self {
            groups,
            relabel,
            dns_interval: span(typed.duration("alertmanagers.sd-dns-interval")?),
        })
    }

    /// Looks up where the Alertmanagers are, tells `notifier`, and goes on doing so.
    pub(super) async fn open(
        self,
        notifier: &Arc<Notifier>,
        external_labels: &Labels,
        registry: &Registry,
        stop: &Cancel,
    ) -> Result<()> {
        let lookups = Lookups::new("thanos_rule_alertmanagers_", self.dns_interval, registry)?;
        let mut followed: Vec<(Alertmanager, Known)> = Vec::new();
        for (i, group) in self.groups.into_iter().enumerate() {
            let name = format!("alertmanagers-{i}");
            let known = lookups
                .follow(&name, group.sources, registry, stop.clone())
                .await?;
            followed.push((group.settings, known));
        }
        let relabel = self.relabel;
        let now = move |followed: &mut [(Alertmanager, Known)]| {
            let mut alertmanagers = Vec::new();
            for (alertmanager, known) in followed {
                let written = config::Static {
                    targets: Vec::clone(&known.borrow_and_update()),
                    ..config::Static::default()
                };
                let mut alertmanager = alertmanager.clone();
                alertmanager.discovery.static_configs = vec![written];
                alertmanagers.push(alertmanager);
            }
            Alerting {
                alert_relabel_configs: relabel.clone(),
                alertmanagers,
            }
        };
        notifier.apply(&now(&mut followed), external_labels)?;
        let (notifier, labels, stop) =
            (Arc::clone(notifier), external_labels.clone(), stop.clone());
        tokio::spawn(async move {
            while changed(&mut followed, &stop).await {
                if let Err(error) = notifier.apply(&now(&mut followed), &labels) {
                    tracing::error!(%error, "changed Alertmanagers cannot be told; those before stay");
                }
            }
        });
        Ok(())
    }
}

/// Waits until any of the addresses change; false when it is to end.
async fn changed(followed: &mut [(Alertmanager, Known)], stop: &Cancel) -> bool {
    let mut any = futures_util::stream::FuturesUnordered::new();
    for (_, known) in followed.iter_mut() {
        any.push(known.changed());
    }
    if any.is_empty() {
        return false;
    }
    tokio::select! {
        () = stop.cancelled() => false,
        changed = futures_util::StreamExt::next(&mut any) => matches!(changed, Some(Ok(()))),
    }
}

/// A relabelling rule that drops these labels.
fn drop_labels(names: &[String]) -> Result<Vec<relabel::Config>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let escaped = |name: &String| {
        let mut out = String::new();
        for c in name.chars() {
            if !c.is_alphanumeric() && c != '_' {
                out.push('\\');
            }
            out.push(c);
        }
        out
    };
    let names: Vec<String> = names.iter().map(escaped).collect();
    let rule = serde_json::json!({"action": "labeldrop", "regex": names.join("|")});
    Ok(vec![serde_json::from_value(rule)?])
}

/// The Alertmanagers at a URL of `--alertmanagers.url`.
fn group_of(text: &str, timeout: Span) -> Result<Group, String> {
    const PORT: &str = "9093";
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| format!("{text:?}: alertmanagers.url contains empty scheme"))?;
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, path),
        None => (rest, ""),
    };
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if host.is_empty() {
        return Err(format!("{text:?}: alertmanagers.url contains empty host"));
    }
    let (lookup, scheme) = match scheme.split_once('+') {
        Some((lookup, scheme)) => (Some(lookup.to_ascii_lowercase()), scheme),
        None => (None, scheme),
    };
    let address = match lookup.as_deref() {
        None => host.to_owned(),
        Some("dns") if !host.contains(':') => format!("dns+{host}:{PORT}"),
        Some(kind @ ("dns" | "dnssrv" | "dnssrvnoa")) => format!("{kind}+{host}"),
        Some(other) => return Err(format!("{text:?}: {other:?} is no kind of DNS lookup")),
    };
    let basic_auth = user.map(|user| {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        BasicAuth {
            username: name.to_owned(),
            password: model::settings::Secret::new(password),
            ..BasicAuth::default()
        }
    });
    Ok(Group {
        settings: Alertmanager {
            http: HttpSettings {
                basic_auth,
                ..HttpSettings::default()
            },
            scheme: scheme.to_owned(),
            path_prefix: peers::prefix(path),
            timeout,
            ..Alertmanager::default()
        },
        sources: Sources {
            written: vec![address],
            ..Sources::default()
        },
    })
}

/// The groups of `--alertmanagers.config`.
fn parse(text: &str) -> Result<Vec<Group>, String> {
    let config: Config = wire::yaml(text)?;
    let mut groups = Vec::new();
    for entry in config.alertmanagers {
        match entry.api_version.as_str() {
            "v2" => {}
            "v1" => tracing::warn!("api_version v1 is gone from Alertmanager; v2 is spoken"),
            other => {
                return Err(format!(
                    "expected Alertmanager API version to be one of [v1 v2] but got {other:?}"
                ));
            }
        }
        let timeout = model::time::parse_duration(&entry.timeout)
            .map_err(|e| format!("timeout {:?}: {e}", entry.timeout))?;
        let settings = Alertmanager {
            http: entry.http_config.settings()?,
            scheme: entry.scheme,
            path_prefix: peers::prefix(&entry.path_prefix),
            timeout: Span(timeout),
            ..Alertmanager::default()
        };
        if !entry.kubernetes_sd_configs.is_empty() {
            let found = Alertmanager {
                discovery: Discovery {
                    kubernetes_sd_configs: entry.kubernetes_sd_configs,
                    ..Discovery::default()
                },
                relabel_configs: entry.relabel_configs,
                ..settings.clone()
            };
            if let Some(key) = found.unsupported().first() {
                return Err(format!("{key} is not supported"));
            }
            relabel::compile(&found.relabel_configs, NameScheme::default())
                .map_err(|e| format!("relabel_configs: {e}"))?;
            groups.push(Group {
                settings: found,
                sources: Sources::default(),
            });
        } else if !entry.relabel_configs.is_empty() {
            return Err("relabel_configs needs kubernetes_sd_configs beside it".to_owned());
        }
        for sources in peers::sources(entry.static_configs, entry.file_sd_configs) {
            groups.push(Group {
                settings: settings.clone(),
                sources,
            });
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_thanos_reads_them() {
        let of = |url| group_of(url, Span(10_000)).unwrap();
        let plain = of("http://am:9093/prefix/");
        assert_eq!(
            (
                plain.settings.scheme.as_str(),
                plain.settings.path_prefix.as_str()
            ),
            ("http", "/prefix")
        );
        assert_eq!(plain.sources.written, ["am:9093"]);
        assert_eq!(of("dns+https://am").sources.written, ["dns+am:9093"]);
        let service = of("dnssrv+http://u:p@_web._tcp.am.svc/x");
        assert_eq!(service.sources.written, ["dnssrv+_web._tcp.am.svc"]);
        assert_eq!(service.settings.http.basic_auth.unwrap().username, "u");
        for wrong in ["am:9093", "http://", "x+http://am"] {
            assert!(group_of(wrong, Span(0)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_of_alertmanagers_is_read() {
        let text = "alertmanagers:\n- static_configs: ['dns+am:9093']\n  scheme: https\n  timeout: 5s\n  api_version: v2\n  http_config: {bearer_token: t}\n- file_sd_configs: [{files: [am.json]}]\n";
        let groups = parse(text).unwrap();
        assert_eq!(groups[0].settings.timeout, Span(5000));
        assert_eq!(groups[1].sources.refresh, "5m");
        let cluster = "alertmanagers:\n- kubernetes_sd_configs: [{role: pod, namespaces: {names: [monitoring]}}]\n  relabel_configs: [{source_labels: [__meta_kubernetes_pod_container_port_name], regex: web, action: keep}]\n  static_configs: ['am:9093']\n";
        let groups = parse(cluster).unwrap();
        assert_eq!(groups[0].settings.discovery.kubernetes_sd_configs.len(), 1);
        assert_eq!(groups[0].settings.relabel_configs.len(), 1);
        assert_eq!(groups[1].settings.relabel_configs, []);
        for wrong in [
            "alertmanagers: [{relabel_configs: [{regex: a, action: labeldrop}]}]",
            "alertmanagers: [{kubernetes_sd_configs: [{role: dog}]}]",
            "alertmanagers: [{kubernetes_sd_configs: [{role: pod}], relabel_configs: [{regex: '(', action: labeldrop}]}]",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("alertmanagers: [{api_version: v3}]").is_err());
        assert!(parse("alertmanager: []").is_err());
    }

    #[test]
    fn dropped_labels_are_names_not_patterns() {
        let rules = drop_labels(&["replica".into(), "a.b".into()]).unwrap();
        let rules = relabel::compile(&rules, NameScheme::default()).unwrap();
        let labels = Labels::from_pairs([("replica", "1"), ("a.b", "2"), ("axb", "3")]);
        let left = relabel::process(&labels, &rules).unwrap();
        assert_eq!(left.to_string(), r#"{axb="3"}"#);
    }
}
