//! `objstore.config`: which bucket, as Thanos' YAML names it.
//!
//! ```yaml
//! type: S3
//! config:
//!   bucket: metrics
//!   endpoint: s3.eu-west-1.amazonaws.com
//! prefix: ""
//! ```
//! Source of the keys: `thanos-io/objstore`, `client/factory.go` and `providers/*`. Every key is
//! known; one that is not honoured yet is refused, or named in [`Config::warnings`] where ignoring
//! it changes nothing but speed.

mod other;
mod s3;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::time::Duration;

pub use other::{Azure, Filesystem, Gcs};
pub use s3::{Lookup, S3, Sse};

use crate::Error;

/// Which bucket, and how to speak to it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The provider and its settings.
    pub provider: Provider,
    /// Put before every key; without slashes at its ends.
    pub prefix: String,
    /// What was asked for but will not be done.
    pub warnings: Vec<String>,
}

/// A provider with its settings.
#[derive(Clone, Debug)]
pub enum Provider {
    /// A local directory.
    Filesystem(Filesystem),
    /// Amazon's S3, and whatever speaks like it.
    S3(Box<S3>),
    /// Google Cloud Storage.
    Gcs(Box<Gcs>),
    /// Azure Blob Storage.
    Azure(Box<Azure>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outer<T> {
    #[serde(rename = "type")]
    kind: String,
    config: Option<T>,
    prefix: Option<String>,
    hedging_config: Option<Hedging>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Hedging {
    enabled: bool,
    /// Known, so that it is not called unknown.
    up_to: Option<u64>,
    quantile: Option<f64>,
}

/// Providers that Thanos has and we do not, with what can be done instead.
const ABSENT: [(&str, &str); 6] = [
    (
        "SWIFT",
        "use an S3 gateway in front of it (s3api) with type: S3",
    ),
    (
        "COS",
        "use its S3 endpoint (cos.REGION.myqcloud.com) with type: S3",
    ),
    (
        "ALIYUNOSS",
        "use its S3 endpoint (s3.oss-REGION.aliyuncs.com) with type: S3",
    ),
    (
        "OBS",
        "use its S3 endpoint (obs.REGION.myhuaweicloud.com) with type: S3",
    ),
    (
        "BOS",
        "use its S3 endpoint (s3.REGION.bcebos.com) with type: S3",
    ),
    ("OCI", "use its S3 compatibility endpoint with type: S3"),
];

impl Config {
    /// A directory as a bucket.
    pub fn filesystem(directory: impl Into<std::path::PathBuf>) -> Self {
        Self {
            provider: Provider::Filesystem(Filesystem {
                directory: directory.into(),
            }),
            prefix: String::new(),
            warnings: Vec::new(),
        }
    }

    /// Reads the YAML text. Errors name the line and the key.
    pub fn parse(yaml: &str) -> Result<Self, Error> {
        let outer: Outer<IgnoredAny> = read(yaml)?;
        let mut warnings = Vec::new();
        let kind = outer.kind.to_ascii_uppercase();
        if outer.hedging_config.is_some_and(|h| h.enabled) {
            warnings.push("hedging_config is not honoured".to_owned());
        }
        let provider = match kind.as_str() {
            "FILESYSTEM" => Provider::Filesystem(inner::<Filesystem>(yaml)?.checked()?),
            "S3" => Provider::S3(Box::new(inner::<s3::Raw>(yaml)?.checked(&mut warnings)?)),
            "GCS" => Provider::Gcs(Box::new(inner::<Gcs>(yaml)?.checked(&mut warnings)?)),
            "AZURE" => Provider::Azure(Box::new(inner::<Azure>(yaml)?.checked(&mut warnings)?)),
            other => {
                let known = ABSENT.iter().find(|(name, _)| *name == other);
                let (what, remedy) = known.map_or((outer.kind.as_str(), ""), |(n, r)| (n, r));
                let dash = if remedy.is_empty() { "" } else { "; " };
                return Err(Error::Unsupported(format!(
                    "objstore type {what:?}: FILESYSTEM, S3, GCS and AZURE are supported\
                     {dash}{remedy}"
                )));
            }
        };
        let prefix = outer.prefix.unwrap_or_default();
        let prefix = prefix.trim_matches('/').to_owned();
        if prefix.split('/').any(|part| part == "." || part == "..") {
            return Err(Error::Config(format!(
                "prefix {prefix:?} has relative parts"
            )));
        }
        Ok(Self {
            provider,
            prefix,
            warnings,
        })
    }

    /// The bucket's name, as the metrics' label `bucket` has it.
    pub fn name(&self) -> String {
        match &self.provider {
            Provider::Filesystem(fs) => fs.directory.display().to_string(),
            Provider::S3(s3) => s3.bucket.clone(),
            Provider::Gcs(gcs) => gcs.bucket.clone(),
            Provider::Azure(azure) => azure.container.clone(),
        }
    }
}

fn read<T: DeserializeOwned>(yaml: &str) -> Result<T, Error> {
    let options = serde_saphyr::options! { emit_comments: false };
    serde_saphyr::from_str_with_options(yaml, options).map_err(|e| Error::Config(e.to_string()))
}

fn inner<T: DeserializeOwned + Default>(yaml: &str) -> Result<T, Error> {
    Ok(read::<Outer<T>>(yaml)?.config.unwrap_or_default())
}

/// A key that must not be printed.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl Secret {
    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() {
            "\"\""
        } else {
            "<secret>"
        })
    }
}

/// Settings of the HTTP client (`http_config`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "Thanos' keys")]
pub struct Http {
    #[serde(deserialize_with = "duration")]
    pub idle_conn_timeout: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub response_header_timeout: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub tls_handshake_timeout: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub expect_continue_timeout: Option<Duration>,
    pub insecure_skip_verify: bool,
    pub max_idle_conns: Option<usize>,
    pub max_idle_conns_per_host: Option<usize>,
    pub max_conns_per_host: Option<usize>,
    pub disable_compression: bool,
    pub tls_config: Tls,
}

/// Settings of TLS (`tls_config`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "Thanos' keys")]
pub struct Tls {
    pub ca_file: String,
    pub cert_file: String,
    pub key_file: String,
    pub server_name: String,
    pub insecure_skip_verify: bool,
}

impl Http {
    /// Whether any server's certificate is trusted.
    pub fn trusts_anybody(&self) -> bool {
        self.insecure_skip_verify || self.tls_config.insecure_skip_verify
    }

    fn check(&self, warnings: &mut Vec<String>) -> Result<(), Error> {
        refuse(
            "http_config.tls_config.cert_file",
            !self.tls_config.cert_file.is_empty(),
        )?;
        refuse(
            "http_config.tls_config.key_file",
            !self.tls_config.key_file.is_empty(),
        )?;
        refuse(
            "http_config.tls_config.server_name",
            !self.tls_config.server_name.is_empty(),
        )?;
        if self.max_conns_per_host.is_some_and(|n| n > 0) {
            warnings.push("http_config.max_conns_per_host is not honoured".to_owned());
        }
        Ok(())
    }
}

/// Refuses a setting that would change what happens and that we cannot honour.
fn refuse(key: &str, is_set: bool) -> Result<(), Error> {
    match is_set {
        true => Err(Error::Unsupported(format!("objstore setting {key}"))),
        false => Ok(()),
    }
}

/// Go's duration text, or a bare number of nanoseconds as Go's YAML has it.
fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else {
        return Ok(None);
    };
    let ms = model::time::parse_duration(&text).map_err(serde::de::Error::custom)?;
    Ok(Some(Duration::from_millis(ms as u64)))
}
