//! Sections of mechanisms that we do not run: kept as they are, and judged by what is known to be
//! wrong in them.

use model::settings::Settings;
use serde::de::value::MapDeserializer;
use serde::de::{self, Error as _, MapAccess};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};
use wire::client::{HttpSettings, Url};

/// Keys of the sections of Prometheus 3.14 that we do not run.
pub(super) const KEYS: [&str; 31] = [
    "aws_sd_configs",
    "azure_sd_configs",
    "digitalocean_sd_configs",
    "docker_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "ecs_sd_configs",
    "elasticache_sd_configs",
    "eureka_sd_configs",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "ionos_sd_configs",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "msk_sd_configs",
    "nerve_sd_configs",
    "nomad_sd_configs",
    "oci_sd_configs",
    "openstack_sd_configs",
    "outscale_sd_configs",
    "ovhcloud_sd_configs",
    "puppetdb_sd_configs",
    "rds_sd_configs",
    "scaleway_sd_configs",
    "serverset_sd_configs",
    "stackit_sd_configs",
    "triton_sd_configs",
    "uyuni_sd_configs",
    "vultr_sd_configs",
];

/// One section as it was written. What may be a secret is shown as `<secret>`.
#[derive(Clone, PartialEq)]
pub struct Foreign(Map<String, Value>);

impl Foreign {
    /// The section's keys and values, secrets included.
    pub fn expose(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl std::fmt::Debug for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Foreign").field(&redacted(&self.0)).finish()
    }
}

impl Serialize for Foreign {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = redacted(&self.0);
        let mut map = serializer.serialize_map(Some(shown.len()))?;
        for (key, value) in &shown {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// The section with every text replaced whose key sounds like a secret. We do not know these
/// mechanisms, so rather one too many.
fn redacted(section: &Map<String, Value>) -> Map<String, Value> {
    const WORDS: [&str; 8] = [
        "secret",
        "password",
        "passphrase",
        "token",
        "credential",
        "key",
        "auth",
        "header",
    ];
    fn hide(key: &str, value: &Value, hidden: bool) -> Value {
        let key = key.to_ascii_lowercase();
        let names_file = key.ends_with("_file");
        let hidden = (hidden || WORDS.iter().any(|w| key.contains(w))) && !names_file;
        match value {
            Value::Object(map) => Value::Object(
                map.iter()
                    .map(|(k, v)| (k.clone(), hide(k, v, hidden && key != "oauth2")))
                    .collect(),
            ),
            Value::Array(list) => list.iter().map(|v| hide(&key, v, hidden)).collect(),
            Value::String(_) | Value::Number(_) if hidden => "<secret>".into(),
            other => other.clone(),
        }
    }
    section
        .iter()
        .map(|(k, v)| (k.clone(), hide(k, v, false)))
        .collect()
}

/// Reads and judges the sections under `key`.
pub(super) fn sections<'de, A: MapAccess<'de>>(
    key: &str,
    map: &mut A,
) -> Result<Vec<Foreign>, A::Error> {
    let list: Vec<Map<String, Value>> = super::sections(key, map)?;
    for section in &list {
        http_client(section).map_err(A::Error::custom)?;
        judge(key, section).map_err(A::Error::custom)?;
    }
    Ok(list.into_iter().map(Foreign).collect())
}

/// Whatever of the HTTP client's settings is there must make sense.
fn http_client(section: &Map<String, Value>) -> Result<(), String> {
    let mut settings = HttpSettings::default();
    let entries = section
        .iter()
        .map(|(k, v)| (k.as_str(), numbers_as_text(v)));
    let mut map: MapDeserializer<'_, _, serde_json::Error> = MapDeserializer::new(entries);
    let read = |map: &mut MapDeserializer<'_, _, serde_json::Error>,
                settings: &mut HttpSettings|
     -> Result<(), serde_json::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if !settings.read(&key, map)? {
                map.next_value::<de::IgnoredAny>()?;
            }
        }
        Ok(())
    };
    read(&mut map, &mut settings).map_err(|e| e.to_string())?;
    settings.check()
}

/// None of those settings is a number; a password may look like one.
fn numbers_as_text(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.to_string().into(),
        Value::Array(list) => list.iter().map(numbers_as_text).collect(),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(k, v)| (k.clone(), numbers_as_text(v)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// The commonest mistakes, in Prometheus' words.
fn judge(key: &str, section: &Map<String, Value>) -> Result<(), String> {
    let text = |key: &str| match section.get(key) {
        Some(Value::String(text)) => text.as_str(),
        Some(Value::Null) | None => "",
        Some(_) => "?",
    };
    let has = |key: &str| !text(key).is_empty();
    let list = |key: &str| section.get(key).and_then(Value::as_array);
    let wrong = |wrong: bool, message: &str| match wrong {
        true => Err(message.to_owned()),
        false => Ok(()),
    };
    let secret_key = || {
        let (here, there) = (has("secret_key"), has("secret_key_file"));
        wrong(
            here && there,
            "at most one of secret_key & secret_key_file must be configured",
        )?;
        wrong(
            !here && !there,
            "one of secret_key & secret_key_file must be configured",
        )
    };
    match key {
        "azure_sd_configs" => {
            let method = text("authentication_method");
            let known = ["", "OAuth", "ManagedIdentity", "SDK", "WorkloadIdentity"];
            let require = |key: &str| match has(key) {
                true => Ok(()),
                false => Err(format!("azure SD configuration requires a {key}")),
            };
            require("subscription_id")?;
            if matches!(method, "" | "OAuth") {
                require("tenant_id")?;
                require("client_id")?;
                require("client_secret")?;
            }
            wrong(
                !known.contains(&method),
                &format!(
                    "unknown authentication_type {method:?}. Supported types are \"OAuth\", \"ManagedIdentity\", \"SDK\" or \"WorkloadIdentity\""
                ),
            )
        }
        "ec2_sd_configs" => {
            let empty = |f: &Value| {
                f.get("values")
                    .and_then(Value::as_array)
                    .is_none_or(|values| values.is_empty())
            };
            let filters = list("filters").into_iter().flatten();
            wrong(
                filters.into_iter().any(empty),
                "EC2 SD configuration filter values cannot be empty",
            )
        }
        "eureka_sd_configs" => {
            wrong(!has("server"), "eureka_sd: empty or null eureka server")?;
            let url: Option<Url> = text("server").parse().ok();
            wrong(
                url.is_none_or(|u| u.scheme().is_empty() || u.host().is_empty()),
                "eureka_sd: invalid eureka server URL",
            )
        }
        "hetzner_sd_configs" => role(text("role"), &["robot", "hcloud"]),
        "ionos_sd_configs" => wrong(!has("datacenter_id"), "datacenter id can't be empty"),
        "marathon_sd_configs" => marathon(&has, list("servers")),
        "oci_sd_configs" => {
            let method = text("auth");
            wrong(
                !["", "api_key", "instance_principal"].contains(&method),
                &format!(
                    "oci_sd: unknown auth method {method:?}, expected \"api_key\" or \"instance_principal\""
                ),
            )
        }
        "openstack_sd_configs" => {
            let available = text("availability");
            wrong(
                !["", "public", "internal", "admin"].contains(&available),
                &format!(
                    "unknown availability {available}, must be one of admin, internal or public"
                ),
            )?;
            wrong(
                !has("role"),
                "role missing (one of: instance, hypervisor, loadbalancer)",
            )?;
            let known = ["instance", "hypervisor", "loadbalancer"];
            let name = text("role");
            wrong(
                !known.contains(&name),
                &format!("unknown OpenStack SD role {name:?}"),
            )?;
            wrong(
                !has("region"),
                "openstack SD configuration requires a region",
            )
        }
        "outscale_sd_configs" => {
            wrong(
                !has("region"),
                "outscale SD configuration requires a region",
            )?;
            wrong(
                !has("access_key"),
                "outscale SD configuration requires an access_key",
            )?;
            secret_key()
        }
        "ovhcloud_sd_configs" => {
            wrong(!has("endpoint"), "endpoint can not be empty")?;
            wrong(!has("application_key"), "application key can not be empty")?;
            wrong(
                !has("application_secret"),
                "application secret can not be empty",
            )?;
            wrong(!has("consumer_key"), "consumer key can not be empty")?;
            let service = text("service");
            wrong(
                !["vps", "dedicated_server"].contains(&service),
                &format!("unknown service: {service}"),
            )
        }
        "puppetdb_sd_configs" => {
            wrong(!has("url"), "URL is missing")?;
            let url: Option<Url> = text("url").parse().ok();
            let scheme = url.as_ref().map_or("", Url::scheme);
            let bare = super::is_bare_http(text("url"));
            wrong(
                !bare && !["http", "https"].contains(&scheme),
                "URL scheme must be 'http' or 'https'",
            )?;
            wrong(bare, "host is missing in URL")?;
            wrong(!has("query"), "query missing")
        }
        "scaleway_sd_configs" => {
            secret_key()?;
            role(text("role"), &["instance", "baremetal"])
        }
        "stackit_sd_configs" => {
            let endpoint = text("endpoint");
            let url: Result<Url, _> = endpoint.parse();
            let broken = url.map_or(true, |u| u.scheme().is_empty());
            wrong(
                has("endpoint") && broken,
                &format!("invalid endpoint {endpoint:?}"),
            )
        }
        "uyuni_sd_configs" => wrong(
            !has("server"),
            "Uyuni SD configuration requires server host",
        ),
        _ => Ok(()),
    }
}

fn role(name: &str, known: &[&str]) -> Result<(), String> {
    match name {
        "" => Err(format!("role missing (one of: {})", known.join(", "))),
        name if known.contains(&name) => Ok(()),
        name => Err(format!("unknown role {name:?}")),
    }
}

fn marathon(has: &dyn Fn(&str) -> bool, servers: Option<&Vec<Value>>) -> Result<(), String> {
    if servers.is_none_or(Vec::is_empty) {
        return Err("marathon_sd: must contain at least one Marathon server".to_owned());
    }
    let token = has("auth_token") || has("auth_token_file");
    let wrong = if has("auth_token") && has("auth_token_file") {
        "auth_token & auth_token_file"
    } else if token && has("basic_auth") {
        "basic_auth, auth_token & auth_token_file"
    } else if token && (has("bearer_token") || has("bearer_token_file")) {
        "bearer_token, bearer_token_file, auth_token & auth_token_file"
    } else if token && has("authorization") {
        "auth_token, auth_token_file & authorization"
    } else {
        return Ok(());
    };
    Err(format!(
        "marathon_sd: at most one of {wrong} must be configured"
    ))
}
