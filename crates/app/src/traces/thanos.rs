//! `--tracing.config` of Thanos' programs.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use wire::client::TlsSettings;

use super::{Collector, Protocol, Sampling, Settings};
use crate::kingpin::{FlagError, Typed};
use crate::outpost::content;
use crate::tools::query::print::parse_go_duration;

const FLAG: &str = "tracing.config";

/// What Thanos can send to, and we cannot.
const OTHERS: [&str; 5] = [
    "JAEGER",
    "STACKDRIVER",
    "GOOGLE_CLOUD",
    "ELASTIC_APM",
    "LIGHTSTEP",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tracing {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    config: Option<Value>,
}

/// The keys of `type: OTLP`; others are passed over, as Thanos does. `retry_config` and
/// `reconnection_period` are: failed requests are tried again, and connections made again, in any case.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Otlp {
    client_type: String,
    service_name: String,
    resource_attributes: BTreeMap<String, String>,
    compression: String,
    insecure: bool,
    endpoint: String,
    url_path: String,
    timeout: Option<Value>,
    headers: BTreeMap<String, String>,
    tls_config: TlsSettings,
    sampler_type: String,
    sampler_param: Option<Value>,
}

/// Where the flags of `role` have traces sent, if anywhere.
pub fn from_flags(typed: &Typed<'_>, role: &str) -> Result<Option<Settings>, FlagError> {
    match content(typed, FLAG)? {
        None => Ok(None),
        Some(text) => read(&text, role).map_err(|e| typed.error(FLAG, e)),
    }
}

fn read(text: &str, role: &str) -> Result<Option<Settings>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let Tracing { kind, config } = wire::yaml(text)?;
    let kind = kind.to_uppercase();
    if OTHERS.contains(&kind.as_str()) {
        tracing::warn!(
            "--{FLAG}: traces are not sent to {kind} in this version; type OTLP sends them"
        );
        return Ok(None);
    }
    if kind != "OTLP" {
        return Err(format!("tracing with type {kind} is not supported"));
    }
    let otlp: Otlp = match config {
        Some(config) => serde_json::from_value(config).map_err(|e| format!("config: {e}"))?,
        None => Otlp::default(),
    };
    otlp.settings(role).map(Some)
}

impl Otlp {
    fn settings(self, role: &str) -> Result<Settings, String> {
        let protocol = match self.client_type.as_str() {
            "grpc" => Protocol::Grpc,
            "http" => Protocol::Http {
                path: match self.url_path.as_str() {
                    "" => "/v1/traces".to_owned(),
                    path => path.to_owned(),
                },
            },
            other => {
                return Err(format!(
                    "invalid client_type {other:?}: only http and grpc are accepted"
                ));
            }
        };
        if let Some(key) = self.tls_config.unsupported().first() {
            return Err(format!("{key} is not supported in this version"));
        }
        let endpoint = match (self.endpoint.as_str(), &protocol) {
            ("", Protocol::Grpc) => "localhost:4317",
            ("", Protocol::Http { .. }) => "localhost:4318",
            (endpoint, _) => endpoint,
        };
        let timeout = match &self.timeout {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => {
                let ns = parse_go_duration(text).map_err(|e| format!("timeout: {e}"))?;
                Some(ns)
            }
            Some(other) => match other.as_i64() {
                Some(ns) => Some(ns),
                None => return Err(format!("timeout: {other} is no duration")),
            },
        };
        let timeout = timeout.and_then(|ns| u64::try_from(ns).ok());
        let mut resource = BTreeMap::from([("service.name".to_owned(), format!("thanos-{role}"))]);
        if !self.service_name.is_empty() {
            resource.insert("service.name".to_owned(), self.service_name.clone());
        }
        resource.extend(self.resource_attributes.clone());
        Ok(Settings {
            sampling: self.sampling(),
            collector: Collector {
                protocol,
                endpoint: endpoint.to_owned(),
                insecure: self.insecure,
                tls: self.tls_config,
                headers: self.headers,
                gzip: self.compression == "gzip",
                timeout: timeout
                    .filter(|ns| *ns > 0)
                    .map(std::time::Duration::from_nanos),
            },
            resource,
        })
    }

    fn sampling(&self) -> Sampling {
        let param = match &self.sampler_param {
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.parse().ok(),
            _ => None,
        };
        let share = || {
            param.unwrap_or_else(|| {
                tracing::warn!("--{FLAG}: sampler_param is no number: all traces are sent");
                1.0
            })
        };
        let (share, by_parent) = match self.sampler_type.to_lowercase().as_str() {
            "alwayssample" => (1.0, false),
            "neversample" => (0.0, false),
            "traceidratiobased" => (share(), false),
            "parentbasedneversample" => (0.0, true),
            "parentbasedtraceidratiobased" => (share(), true),
            // `parentbasedalwayssample`, and whatever Thanos does not know either.
            _ => (1.0, true),
        };
        Sampling {
            share,
            by_parent,
            forced: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn otlp_is_read_as_thanos_reads_it() {
        let text = "type: otlp\nconfig:\n  client_type: http\n  service_name: q\n  endpoint: otel:4318\n  insecure: true\n  compression: gzip\n  url_path: /x\n  timeout: 1.5s\n  headers: {a: b}\n  resource_attributes: {zone: z}\n  sampler_type: TraceIDRatioBased\n  sampler_param: '0.25'\n  reconnection_period: 1s\n";
        let settings = read(text, "query").unwrap().unwrap();
        assert_eq!(
            settings,
            Settings {
                collector: Collector {
                    protocol: Protocol::Http { path: "/x".into() },
                    endpoint: "otel:4318".into(),
                    insecure: true,
                    tls: TlsSettings::default(),
                    headers: BTreeMap::from([("a".into(), "b".into())]),
                    gzip: true,
                    timeout: Some(std::time::Duration::from_millis(1500)),
                },
                sampling: Sampling {
                    share: 0.25,
                    by_parent: false,
                    forced: true,
                },
                resource: BTreeMap::from([
                    ("service.name".into(), "q".into()),
                    ("zone".into(), "z".into()),
                ]),
            }
        );
        let plain = read("type: OTLP\nconfig: {client_type: grpc}", "store");
        let plain = plain.unwrap().unwrap();
        assert_eq!(plain.collector.endpoint, "localhost:4317");
        assert_eq!(plain.resource["service.name"], "thanos-store");
        assert!(plain.sampling.by_parent && plain.sampling.share == 1.0);
    }

    #[test]
    fn what_is_not_sent_is_said_and_what_is_wrong_is_refused() {
        for kind in OTHERS {
            let text = format!("type: {kind}\nconfig: {{service_name: x}}");
            assert_eq!(read(&text, "query"), Ok(None), "{kind}");
        }
        for (text, says) in [
            ("type: ZIPKIN", "tracing with type ZIPKIN is not supported"),
            ("kind: OTLP", "unknown field"),
            ("type: OTLP\nconfig: {client_type: udp}", "client_type"),
            (
                "type: OTLP\nconfig: {client_type: grpc, timeout: long}",
                "timeout",
            ),
        ] {
            let error = read(text, "query").unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
