//! Settings of the other providers (`providers/{filesystem,gcs,azure}`).

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Http, Secret, refuse};
use crate::Error;

/// A local directory.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filesystem {
    /// It is made if it is missing.
    pub directory: PathBuf,
}

impl Filesystem {
    pub(super) fn checked(self) -> Result<Self, Error> {
        match self.directory.as_os_str().is_empty() {
            true => Err(Error::Config(
                "missing directory for filesystem bucket".to_owned(),
            )),
            false => Ok(self),
        }
    }
}

/// A bucket of Google Cloud Storage.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "Thanos' keys")]
pub struct Gcs {
    pub bucket: String,
    /// JSON text of the service account; with none, the environment is asked.
    pub service_account: Secret,
    pub use_grpc: bool,
    pub grpc_conn_pool_size: Option<u64>,
    pub http_config: Http,
    pub chunk_size_bytes: Option<u64>,
    pub max_retries: Option<u32>,
}

impl Gcs {
    pub(super) fn checked(self, warnings: &mut Vec<String>) -> Result<Self, Error> {
        if self.bucket.is_empty() {
            return Err(Error::Config(
                "missing Google Cloud Storage bucket name".to_owned(),
            ));
        }
        if self.use_grpc {
            warnings.push("use_grpc is not honoured; HTTP is used".to_owned());
        }
        self.http_config.check(warnings)?;
        Ok(self)
    }
}

/// A container of Azure Blob Storage.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "Thanos' keys")]
pub struct Azure {
    pub az_tenant_id: String,
    pub client_id: String,
    pub client_secret: Secret,
    pub storage_account: String,
    pub storage_account_key: Secret,
    pub storage_connection_string: Secret,
    pub storage_create_container: Option<bool>,
    pub container: String,
    pub endpoint: String,
    pub user_assigned_id: String,
    pub max_retries: Option<u32>,
    pub msi_resource: String,
    pub reader_config: Option<IgnoredConfig>,
    pub pipeline_config: Option<IgnoredConfig>,
    pub http_config: Http,
}

/// Settings that only name retries, which our own policy decides.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(transparent)]
pub struct IgnoredConfig(IgnoredAny);

impl Azure {
    pub(super) fn checked(self, warnings: &mut Vec<String>) -> Result<Self, Error> {
        refuse(
            "storage_connection_string",
            !self.storage_connection_string.is_empty(),
        )?;
        for (key, value) in [
            ("storage_account", &self.storage_account),
            ("container", &self.container),
        ] {
            if value.is_empty() {
                return Err(Error::Config(format!("missing Azure {key}")));
            }
        }
        if self.storage_create_container == Some(true) {
            warnings.push("storage_create_container is not honoured".to_owned());
        }
        for (key, given) in [
            ("reader_config", self.reader_config.is_some()),
            ("pipeline_config", self.pipeline_config.is_some()),
        ] {
            if given {
                warnings.push(format!("{key} is not honoured; max_retries is"));
            }
        }
        self.http_config.check(warnings)?;
        Ok(self)
    }
}
