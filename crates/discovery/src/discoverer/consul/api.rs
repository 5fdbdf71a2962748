//! Consul's HTTP API, as far as it is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use model::Labels;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use wire::client::{ClientError, ClientOptions, HttpClient, body};

use crate::config;
use crate::discoverer::sanitized;

/// How long Consul may wait for something to change.
const WAIT: Duration = Duration::from_secs(120);
/// No answer may be larger, bytes.
const MAX_SIZE: usize = 256 << 20;

pub(super) struct Api {
    client: HttpClient,
    /// Scheme, host and prefix.
    base: String,
    token: String,
    /// What each question says of where and how: `dc=...&stale=`.
    place: String,
    /// What questions for instances say beside it.
    instances: String,
    /// What questions for services say beside it.
    services: String,
}

/// One instance of a service, on its node and with its checks.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Instance {
    node: Node,
    service: Service,
    checks: Option<Vec<Check>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Node {
    node: String,
    address: String,
    meta: Option<BTreeMap<String, String>>,
    tagged_addresses: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    tags: Option<Vec<String>>,
    address: String,
    port: i64,
    meta: Option<BTreeMap<String, String>>,
    namespace: String,
    partition: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Check {
    #[serde(rename = "CheckID")]
    id: String,
    status: String,
}

impl Api {
    pub(super) fn new(config: &config::Consul) -> Result<Self, ClientError> {
        let options = ClientOptions {
            timeout: Some(WAIT + Duration::from_secs(15)),
            idle_timeout: WAIT * 2,
            ..ClientOptions::default()
        };
        // As Consul's own clients, what is not written is taken from the environment.
        let or_variable = |text: &str, variable| match text {
            "" => std::env::var(variable).unwrap_or_default(),
            text => text.to_owned(),
        };
        let (scheme, server) = match config.server.split_once("://") {
            Some((scheme @ ("http" | "https"), server)) => (scheme, server),
            Some((scheme, _)) => {
                let message = format!("consul server: unknown protocol scheme {scheme:?}");
                return Err(ClientError::Invalid(message));
            }
            None => (config.scheme.as_str(), config.server.as_str()),
        };
        let prefix = match config.path_prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("/{prefix}"),
        };
        let mut place = String::new();
        for (key, value) in [
            ("dc", config.datacenter.clone()),
            ("ns", or_variable(&config.namespace, "CONSUL_NAMESPACE")),
            (
                "partition",
                or_variable(&config.partition, "CONSUL_PARTITION"),
            ),
        ] {
            if !value.is_empty() {
                place += &format!("&{key}={}", escaped(&value));
            }
        }
        let mut watched = String::new();
        if config.allow_stale {
            watched += "&stale=";
        }
        for (key, value) in &config.node_meta {
            watched += &format!("&node-meta={}", escaped(&format!("{key}:{value}")));
        }
        let filter = |text: &str| match text {
            "" => String::new(),
            text => format!("&filter={}", escaped(text)),
        };
        let mut instances = format!("{watched}{}", filter(&config.health_filter));
        for tag in &config.tags {
            instances += &format!("&tag={}", escaped(tag));
        }
        Ok(Self {
            client: HttpClient::new(&config.http, options)?,
            base: format!("{scheme}://{}{prefix}", server.trim_end_matches('/')),
            token: or_variable(config.token.expose(), "CONSUL_HTTP_TOKEN"),
            services: format!("{watched}{}", filter(&config.filter)),
            place,
            instances,
        })
    }

    /// The datacenter of the agent that is asked.
    pub(super) async fn datacenter(&self) -> Result<String, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Agent {
            config: Config,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Config {
            datacenter: String,
        }
        let (_, agent) = self.get::<Agent>("/v1/agent/self", "").await?;
        Ok(agent.config.datacenter)
    }

    /// The answer, with its index, as soon as that is not `index` any more or the wait is over.
    pub(super) async fn watch<T: DeserializeOwned>(
        &self,
        path: &str,
        index: u64,
        instances: bool,
    ) -> Result<(u64, T), String> {
        let own = if instances {
            &self.instances
        } else {
            &self.services
        };
        let mut query = own.clone();
        if index > 0 {
            query += &format!("&index={index}");
        }
        query += &format!("&wait={}ms", WAIT.as_millis());
        self.get(path, &query).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &str) -> Result<(u64, T), String> {
        let query = format!("{}{query}", self.place);
        let url = format!("{}{path}?{}", self.base, query.trim_start_matches('&'));
        let mut request = self.client.get(&url).map_err(|e| e.to_string())?;
        if !self.token.is_empty() {
            let token = http::HeaderValue::try_from(&self.token);
            let mut token = token.map_err(|_| "the token holds a forbidden character")?;
            token.set_sensitive(true);
            request.headers_mut().insert("x-consul-token", token);
        }
        let answer = self.client.send(request).await.map_err(|e| e.to_string())?;
        let status = answer.status();
        let index = answer.headers().get("x-consul-index");
        let index = index.and_then(|v| v.to_str().ok()?.parse().ok());
        let text = body(answer, MAX_SIZE).await.map_err(|e| e.to_string())?;
        if !status.is_success() {
            let start: String = String::from_utf8_lossy(&text).chars().take(200).collect();
            return Err(format!(
                "unexpected response code: {status} ({})",
                start.trim()
            ));
        }
        let value = serde_json::from_slice(&text).map_err(|e| format!("{path}: {e}"))?;
        Ok((index.unwrap_or(0), value))
    }
}

impl Instance {
    /// The labels of the target that this is.
    pub(super) fn labels(&self, separator: &str) -> Labels {
        let Self {
            node,
            service,
            checks,
        } = self;
        let host = match service.address.as_str() {
            "" => &node.address,
            own => own,
        };
        let address = match host.contains(':') {
            true => format!("[{host}]:{}", service.port),
            false => format!("{host}:{}", service.port),
        };
        let tags = service.tags.as_deref().unwrap_or(&[]).join(separator);
        let mut labels: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in [
            ("address", node.address.clone()),
            ("node", node.node.clone()),
            ("namespace", service.namespace.clone()),
            ("partition", service.partition.clone()),
            ("tags", format!("{separator}{tags}{separator}")),
            ("service_address", service.address.clone()),
            ("service_port", service.port.to_string()),
            ("service_id", service.id.clone()),
            (
                "health",
                health(checks.as_deref().unwrap_or(&[])).to_owned(),
            ),
        ] {
            labels.insert(format!("__meta_consul_{name}"), value);
        }
        for (what, map) in [
            ("metadata", &node.meta),
            ("service_metadata", &service.meta),
            ("tagged_address", &node.tagged_addresses),
        ] {
            for (name, value) in map.iter().flatten() {
                let name: String = name.chars().map(sanitized).collect();
                labels.insert(format!("__meta_consul_{what}_{name}"), value.clone());
            }
        }
        labels.insert("__address__".to_owned(), address);
        Labels::from_pairs(labels)
    }
}

/// The worst that the checks say; nothing if one says what we do not know.
fn health(checks: &[Check]) -> &'static str {
    let mut worst = (0, "passing");
    for check in checks {
        let maintained =
            check.id == "_node_maintenance" || check.id.starts_with("_service_maintenance:");
        let said = match check.status.as_str() {
            _ if maintained => (3, "maintenance"),
            "passing" => (0, "passing"),
            "warning" => (1, "warning"),
            "critical" => (2, "critical"),
            "maintenance" => (3, "maintenance"),
            _ => return "",
        };
        worst = worst.max(said);
    }
    worst.1
}

/// Text for a part of a URL.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}
