//! From settings to `object_store`'s clients.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::{
    Attribute, Attributes, BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig,
};

use crate::config::{Azure, Filesystem, Gcs, Http, Provider, S3, Sse};
use crate::retry::RetryPolicy;
use crate::{Config, Error};

/// Parts of multipart uploads where nothing is configured, bytes.
const PART_SIZE: u64 = 16 << 20;

/// Where S3 credentials come from when none are configured, and under which names.
const AWS_ENVIRONMENT: [(&str, AmazonS3ConfigKey); 8] = [
    ("AWS_ACCESS_KEY_ID", AmazonS3ConfigKey::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", AmazonS3ConfigKey::SecretAccessKey),
    ("AWS_SESSION_TOKEN", AmazonS3ConfigKey::Token),
    (
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        AmazonS3ConfigKey::WebIdentityTokenFile,
    ),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    (
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
    ),
    (
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        AmazonS3ConfigKey::ContainerCredentialsFullUri,
    ),
    (
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        AmazonS3ConfigKey::ContainerAuthorizationTokenFile,
    ),
];

pub(super) struct Connected {
    pub store: Arc<dyn ObjectStore>,
    pub multipart: Option<Arc<dyn MultipartStore>>,
    pub attributes: Attributes,
    pub part_size: u64,
    pub sorted: bool,
    /// Whether a range can be asked for by its distance from the end.
    pub suffixes: bool,
    max_retries: Option<u32>,
    attempt_timeout: Option<Duration>,
}

impl Connected {
    fn remote<S: ObjectStore + MultipartStore>(store: S) -> Self {
        let store = Arc::new(store);
        Self {
            multipart: Some(store.clone()),
            store,
            attributes: Attributes::new(),
            part_size: PART_SIZE,
            sorted: true,
            suffixes: true,
            max_retries: None,
            attempt_timeout: None,
        }
    }

    /// The policy with what the configuration says about it.
    pub(super) fn adjust(&self, mut policy: RetryPolicy) -> RetryPolicy {
        if let Some(retries) = self.max_retries.filter(|&n| n > 0) {
            policy.attempts = retries.saturating_add(1);
        }
        if let Some(timeout) = self.attempt_timeout.filter(|t| !t.is_zero()) {
            policy.attempt_timeout = timeout;
        }
        policy
    }
}

pub(super) fn connect(config: &Config) -> Result<Connected, Error> {
    // rustls needs one provider per process; that somebody else has set it is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match &config.provider {
        Provider::Filesystem(fs) => filesystem(fs),
        Provider::S3(s3) => amazon(s3),
        Provider::Gcs(gcs) => google(gcs),
        Provider::Azure(blob) => azure(blob),
    }
}

/// Retries are ours, so that they have one budget.
fn no_retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        backoff: BackoffConfig::default(),
        ..RetryConfig::default()
    }
}

fn refused(e: object_store::Error) -> Error {
    Error::Config(e.to_string())
}

fn client(http: &Http) -> Result<ClientOptions, Error> {
    // The time limit of an attempt is ours, too.
    let mut options = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(
            http.tls_handshake_timeout
                .unwrap_or(Duration::from_secs(10)),
        )
        .with_pool_idle_timeout(http.idle_conn_timeout.unwrap_or(Duration::from_secs(90)))
        .with_pool_max_idle_per_host(http.max_idle_conns_per_host.unwrap_or(100))
        .with_allow_invalid_certificates(http.trusts_anybody());
    let ca_file = &http.tls_config.ca_file;
    if !ca_file.is_empty() {
        let pem = std::fs::read(ca_file).map_err(|e| Error::local(ca_file, e))?;
        for certificate in Certificate::from_pem_bundle(&pem).map_err(refused)? {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

fn filesystem(fs: &Filesystem) -> Result<Connected, Error> {
    let dir = &fs.directory;
    std::fs::create_dir_all(dir).map_err(|e| Error::local(dir, e))?;
    let store = LocalFileSystem::new_with_prefix(dir)
        .map_err(refused)?
        // Objects are written aside, synced and renamed.
        .with_fsync(true)
        .with_automatic_cleanup(true);
    Ok(Connected {
        store: Arc::new(store),
        multipart: None,
        attributes: Attributes::new(),
        part_size: PART_SIZE,
        sorted: false,
        suffixes: true,
        max_retries: None,
        attempt_timeout: None,
    })
}

fn amazon(s3: &S3) -> Result<Connected, Error> {
    let scheme = if s3.insecure { "http" } else { "https" };
    let endpoint = match s3.virtual_hosted() {
        true => format!("{scheme}://{}.{}", s3.bucket, s3.endpoint),
        false => format!("{scheme}://{}", s3.endpoint),
    };
    let mut builder = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_bucket_name(&s3.bucket)
        .with_region(&s3.region)
        .with_virtual_hosted_style_request(s3.virtual_hosted())
        .with_allow_http(s3.insecure)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_client_options(client(&s3.http)?.with_allow_http(s3.insecure))
        .with_retry(no_retries());
    if s3.access_key.is_empty() {
        for (name, key) in AWS_ENVIRONMENT {
            if let Some(value) = std::env::var(name).ok().filter(|v| !v.is_empty()) {
                builder = builder.with_config(key, value);
            }
        }
    } else {
        builder = builder
            .with_access_key_id(&s3.access_key)
            .with_secret_access_key(&s3.secret_key.0);
        if !s3.session_token.is_empty() {
            builder = builder.with_token(&s3.session_token.0);
        }
    }
    if !s3.sts_endpoint.is_empty() {
        builder = builder.with_config(AmazonS3ConfigKey::StsEndpoint, &s3.sts_endpoint);
    }
    builder = match &s3.sse {
        None => builder,
        Some(Sse::S3) => {
            // The key's name in object_store; it has no method of its own.
            let key = "aws_server_side_encryption".parse().map_err(refused)?;
            builder.with_config(key, "AES256")
        }
        Some(Sse::Kms { key_id }) => builder.with_sse_kms_encryption(key_id),
        Some(Sse::Customer { key_file }) => {
            let key = std::fs::read(key_file).map_err(|e| Error::local(key_file, e))?;
            builder.with_ssec_encryption(base64(&key))
        }
    };
    let mut connected = Connected::remote(builder.build().map_err(refused)?);
    connected.part_size = match s3.disable_multipart {
        true => u64::MAX,
        false => s3.part_size,
    };
    for (name, value) in &s3.user_metadata {
        let key = Attribute::Metadata(name.clone().into());
        connected.attributes.insert(key, value.clone().into());
    }
    connected.max_retries = s3.max_retries;
    connected.attempt_timeout = s3.http.response_header_timeout;
    Ok(connected)
}

fn google(gcs: &Gcs) -> Result<Connected, Error> {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&gcs.bucket)
        .with_client_options(client(&gcs.http_config)?)
        .with_retry(no_retries());
    if !gcs.service_account.is_empty() {
        builder = builder.with_service_account_key(&gcs.service_account.0);
    } else if let Ok(path) = std::env::var("GOOGLE_APPLICATION_CREDENTIALS") {
        builder = builder.with_application_credentials(path);
    }
    let mut connected = Connected::remote(builder.build().map_err(refused)?);
    connected.max_retries = gcs.max_retries;
    connected.attempt_timeout = gcs.http_config.response_header_timeout;
    Ok(connected)
}

fn azure(blob: &Azure) -> Result<Connected, Error> {
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(&blob.storage_account)
        .with_container_name(&blob.container)
        .with_client_options(client(&blob.http_config)?)
        .with_retry(no_retries());
    if !blob.endpoint.is_empty() && blob.endpoint != "blob.core.windows.net" {
        let host = format!("https://{}.{}", blob.storage_account, blob.endpoint);
        builder = builder.with_endpoint(host);
    }
    if !blob.storage_account_key.is_empty() {
        builder = builder.with_access_key(&blob.storage_account_key.0);
    }
    if !blob.client_secret.is_empty() {
        builder = builder.with_client_secret_authorization(
            &blob.client_id,
            &blob.client_secret.0,
            &blob.az_tenant_id,
        );
    } else if !blob.user_assigned_id.is_empty() {
        builder = builder.with_client_id(&blob.user_assigned_id);
    }
    let mut connected = Connected::remote(builder.build().map_err(refused)?);
    connected.suffixes = false;
    connected.max_retries = blob.max_retries;
    connected.attempt_timeout = blob.http_config.response_header_timeout;
    Ok(connected)
}

/// RFC 4648 with padding, for the one key that needs it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word =
            group.iter().fold(0u32, |w, &b| (w << 8) | u32::from(b)) << (8 * (3 - group.len()));
        for i in 0..4 {
            let six = (word >> (18 - 6 * i)) & 63;
            out.push(if i <= group.len() {
                ALPHABET[six as usize] as char
            } else {
                '='
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_pads() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(super::base64(plain.as_bytes()), coded);
        }
    }
}
