//! The S3 provider's settings (`providers/s3/s3.go`).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Http, Secret, refuse};
use crate::Error;

/// Part size of multipart uploads unless configured, bytes.
const PART_SIZE: u64 = 16 << 20;
/// The smallest part that S3 takes, bytes.
const MIN_PART_SIZE: u64 = 5 << 20;

/// A bucket that speaks S3.
#[derive(Clone, Debug)]
pub struct S3 {
    /// The bucket's name.
    pub bucket: String,
    /// Host and port, without scheme.
    pub endpoint: String,
    /// The region that signatures name.
    pub region: String,
    /// Plain HTTP.
    pub insecure: bool,
    /// Static keys; with none, environment, web identity and instance metadata are asked.
    pub access_key: String,
    /// The secret of `access_key`.
    pub secret_key: Secret,
    /// A temporary session's token.
    pub session_token: Secret,
    /// How the bucket is named in requests.
    pub lookup: Lookup,
    /// Encryption at rest.
    pub sse: Option<Sse>,
    /// Security token service for web identity.
    pub sts_endpoint: String,
    /// Stored with every object that is put.
    pub user_metadata: BTreeMap<String, String>,
    /// Files are uploaded in parts of so many bytes.
    pub part_size: u64,
    /// Files are uploaded in one request, whatever their size.
    pub disable_multipart: bool,
    /// Attempts beyond the first.
    pub max_retries: Option<u32>,
    /// The HTTP client.
    pub http: Http,
}

/// How the bucket is named in requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lookup {
    /// In the host for Amazon and Aliyun, else in the path.
    #[default]
    Auto,
    /// In the host.
    VirtualHosted,
    /// In the path.
    Path,
}

/// Encryption at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sse {
    /// The provider's own key.
    S3,
    /// A key of the key management service.
    Kms {
        /// Its id.
        key_id: String,
    },
    /// A key of ours: the file that holds its 32 bytes.
    Customer {
        /// The file.
        key_file: String,
    },
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    bucket: String,
    endpoint: String,
    region: String,
    /// There is nothing to disable: no dual stack is used.
    disable_dualstack: bool,
    aws_sdk_auth: bool,
    access_key: String,
    insecure: bool,
    signature_version2: bool,
    secret_key: Secret,
    session_token: Secret,
    put_user_metadata: BTreeMap<String, String>,
    http_config: Http,
    trace: Trace,
    list_objects_version: String,
    bucket_lookup_type: Lookup,
    send_content_md5: Option<bool>,
    disable_multipart: bool,
    part_size: Option<u64>,
    sse_config: RawSse,
    sts_endpoint: String,
    max_retries: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Trace {
    enable: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawSse {
    #[serde(rename = "type")]
    kind: String,
    kms_key_id: String,
    kms_encryption_context: BTreeMap<String, String>,
    encryption_key: String,
}

impl Raw {
    pub(super) fn checked(self, warnings: &mut Vec<String>) -> Result<S3, Error> {
        for (key, value) in [("bucket", &self.bucket), ("endpoint", &self.endpoint)] {
            if value.is_empty() {
                return Err(Error::Config(format!("no s3 {key} in config")));
            }
        }
        if self.endpoint.contains("://") {
            return Err(Error::Config(format!(
                "s3 endpoint {:?} must be host:port without a scheme; use insecure: true for http",
                self.endpoint
            )));
        }
        if self.access_key.is_empty() != self.secret_key.is_empty() {
            return Err(Error::Config(
                "access_key and secret_key must be given together".to_owned(),
            ));
        }
        if self.aws_sdk_auth && !self.access_key.is_empty() {
            return Err(Error::Config(
                "aws_sdk_auth and access_key exclude each other".to_owned(),
            ));
        }
        refuse("signature_version2", self.signature_version2)?;
        refuse(
            "list_objects_version: v1",
            self.list_objects_version == "v1",
        )?;
        self.http_config.check(warnings)?;
        if self.access_key.is_empty() {
            warnings.push(
                "credentials come from the environment, web identity or instance metadata; \
                 ~/.aws files are not read"
                    .to_owned(),
            );
        }
        if self.trace.enable {
            warnings.push("trace.enable is not honoured".to_owned());
        }
        if self.send_content_md5 == Some(true) {
            warnings.push("send_content_md5 is not honoured".to_owned());
        }
        let part_size = self.part_size.filter(|&n| n > 0).unwrap_or(PART_SIZE);
        if part_size < MIN_PART_SIZE {
            return Err(Error::Config(format!(
                "part_size {part_size} is less than the {MIN_PART_SIZE} bytes that S3 takes"
            )));
        }
        let region = match self.region.is_empty() {
            true => region_of(&self.endpoint),
            false => self.region,
        };
        Ok(S3 {
            bucket: self.bucket,
            endpoint: self.endpoint,
            region,
            insecure: self.insecure,
            access_key: self.access_key,
            secret_key: self.secret_key,
            session_token: self.session_token,
            lookup: self.bucket_lookup_type,
            sse: self.sse_config.checked()?,
            sts_endpoint: self.sts_endpoint,
            user_metadata: self.put_user_metadata,
            part_size,
            disable_multipart: self.disable_multipart,
            max_retries: self.max_retries,
            http: self.http_config,
        })
    }
}

impl RawSse {
    fn checked(self) -> Result<Option<Sse>, Error> {
        refuse(
            "sse_config.kms_encryption_context",
            !self.kms_encryption_context.is_empty(),
        )?;
        let missing = |key: &str| Err(Error::Config(format!("sse_config.{key} is missing")));
        match self.kind.as_str() {
            "" => Ok(None),
            "SSE-S3" => Ok(Some(Sse::S3)),
            "SSE-KMS" if self.kms_key_id.is_empty() => missing("kms_key_id"),
            "SSE-KMS" => Ok(Some(Sse::Kms {
                key_id: self.kms_key_id,
            })),
            "SSE-C" if self.encryption_key.is_empty() => missing("encryption_key"),
            "SSE-C" => Ok(Some(Sse::Customer {
                key_file: self.encryption_key,
            })),
            other => Err(Error::Config(format!(
                "sse_config.type {other:?} is none of SSE-S3, SSE-KMS, SSE-C"
            ))),
        }
    }
}

impl S3 {
    /// Whether requests name the bucket in the host.
    pub fn virtual_hosted(&self) -> bool {
        let host = self.endpoint.split(':').next().unwrap_or("");
        match self.lookup {
            Lookup::VirtualHosted => true,
            Lookup::Path => false,
            // A dot in the bucket's name breaks the certificate of https hosts.
            Lookup::Auto => {
                let known = [".amazonaws.com", ".amazonaws.com.cn", ".aliyuncs.com"];
                known.iter().any(|end| host.ends_with(end)) && !self.bucket.contains('.')
            }
        }
    }
}

/// The region that an Amazon endpoint names, else the one everything without regions takes.
fn region_of(endpoint: &str) -> String {
    let host = endpoint.split(':').next().unwrap_or("");
    let amazon = host
        .strip_suffix(".amazonaws.com.cn")
        .or_else(|| host.strip_suffix(".amazonaws.com"));
    let region = amazon
        .and_then(|h| h.strip_prefix("s3.").or_else(|| h.strip_prefix("s3-")))
        .map(|h| h.strip_prefix("dualstack.").unwrap_or(h));
    region
        .filter(|r| !r.is_empty())
        .unwrap_or("us-east-1")
        .to_owned()
}
