//! Prometheus' web configuration file: TLS, extra headers, users, a rate limit.
//!
//! The format is that of `prometheus/exporter-toolkit` (`docs/web-configuration.md`). The file
//! and the certificates it names are followed: a change is in force within a second, for new
//! connections (TLS) and for new requests (users, headers). A changed file that is wrong is
//! reported and the last good configuration stays.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::ServerError;
use super::tls::{self, TlsSection};

/// A web configuration file as it is in force.
#[derive(Debug, Default)]
pub struct WebConfig {
    tls: Option<Arc<rustls::ServerConfig>>,
    http2: bool,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// bcrypt hashes by user.
    pub(super) users: HashMap<String, String>,
    pub(super) rate: Option<Rate>,
    files: Vec<PathBuf>,
}

/// How many requests are let through: a token bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    /// A token is added each interval.
    pub(super) interval: Duration,
    /// Tokens the bucket holds.
    pub(super) burst: u32,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    tls_server_config: TlsSection,
    http_server_config: HttpSection,
    basic_auth_users: BTreeMap<String, String>,
    rate_limit: RateSection,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpSection {
    http2: bool,
    headers: BTreeMap<String, String>,
}

impl Default for HttpSection {
    fn default() -> Self {
        Self {
            http2: true,
            headers: BTreeMap::new(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RateSection {
    interval: String,
    burst: u32,
}

/// The headers that may be configured, with the values they may have (none: any value).
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

impl WebConfig {
    /// Reads and checks the file and everything it names. Paths in it are relative to its folder.
    pub fn load(path: &Path) -> Result<Self, ServerError> {
        let text = std::fs::read_to_string(path).map_err(|source| ServerError::Read {
            what: "web configuration",
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(&text, path).map_err(|e| match e {
            Wrong::Here(message) => ServerError::WebConfig {
                path: path.display().to_string(),
                message,
            },
            Wrong::Elsewhere(e) => e,
        })
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Wrong> {
        let options = serde_saphyr::options! { emit_comments: false };
        let file: Option<File> = serde_saphyr::from_str_with_options(text, options)
            .map_err(|e| Wrong::Here(e.to_string()))?;
        let file = file.unwrap_or_default();
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut files = vec![path.to_owned()];
        let http2 = file.http_server_config.http2;
        let tls = tls::build(&file.tls_server_config, http2, folder, &mut files)?;
        let mut headers = Vec::new();
        for (name, value) in &file.http_server_config.headers {
            headers.extend(header(name, value).map_err(Wrong::Here)?);
        }
        for (user, hash) in &file.basic_auth_users {
            bcrypt::HashParts::from_str(hash).map_err(|e| {
                Wrong::Here(format!("password of user {user:?} is no bcrypt hash: {e}"))
            })?;
        }
        Ok(Self {
            tls: tls.map(Arc::new),
            http2,
            headers,
            users: file.basic_auth_users.into_iter().collect(),
            rate: rate(&file.rate_limit).map_err(Wrong::Here)?,
            files,
        })
    }

    /// Whether clients must speak TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether a name and password are asked for.
    pub fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    pub(super) fn tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.tls.clone()
    }

    pub(super) fn http2(&self) -> bool {
        self.http2
    }
}

/// Something wrong with the configuration: in the file itself, or with a file it names.
pub(super) enum Wrong {
    Here(String),
    Elsewhere(ServerError),
}

impl From<ServerError> for Wrong {
    fn from(e: ServerError) -> Self {
        Wrong::Elsewhere(e)
    }
}

fn header(name: &str, value: &str) -> Result<Option<(HeaderName, HeaderValue)>, String> {
    let Some((_, allowed)) = HEADERS.iter().find(|(known, _)| *known == name) else {
        return Err(format!("HTTP header {name:?} can not be configured"));
    };
    if !allowed.is_empty() && !allowed.contains(&value) {
        return Err(format!(
            "invalid value for {name}. Expected one of: {allowed:?}, but got: {value:?}"
        ));
    }
    if value.is_empty() {
        return Ok(None);
    }
    let name = HeaderName::from_str(name).map_err(|e| format!("header {name:?}: {e}"))?;
    let value = HeaderValue::from_str(value).map_err(|e| format!("value of header {name}: {e}"))?;
    Ok(Some((name, value)))
}

fn rate(section: &RateSection) -> Result<Option<Rate>, String> {
    let interval = match section.interval.as_str() {
        "" => Duration::ZERO,
        text => go_duration(text)
            .ok_or_else(|| format!("rate_limit: interval {text:?} is no duration"))?,
    };
    Ok((!interval.is_zero()).then_some(Rate {
        interval,
        burst: section.burst,
    }))
}

/// A duration as Go's `time.ParseDuration` reads it: `1.5s`, `1m30s`, `100ms`. Negative ones make
/// no sense here and are refused.
fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = tail;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// A configuration file that is followed.
pub(super) struct Watched {
    path: PathBuf,
    current: RwLock<Arc<WebConfig>>,
    /// The last complaint, so that a file that stays wrong is reported once.
    complaint: Mutex<String>,
}

/// What is compared to notice a change: modification time, length, and (through a symbolic link
/// that was turned, as Kubernetes does it) the file's number.
type Stamp = Option<(SystemTime, u64, u64)>;

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    files
        .iter()
        .map(|file| {
            let meta = std::fs::metadata(file).ok()?;
            Some((meta.modified().ok()?, meta.len(), meta.ino()))
        })
        .collect()
}

impl Watched {
    pub(super) fn open(path: &Path) -> Result<Self, ServerError> {
        Ok(Self {
            path: path.to_owned(),
            current: RwLock::new(Arc::new(WebConfig::load(path)?)),
            complaint: Mutex::default(),
        })
    }

    pub(super) fn current(&self) -> Arc<WebConfig> {
        // The lock is only held to copy or replace a pointer, so it cannot be poisoned midway.
        let current = self.current.read().unwrap_or_else(|e| e.into_inner());
        Arc::clone(&current)
    }

    /// Looks for changes for ever.
    pub(super) async fn follow(self: &Arc<Self>, interval: Duration) {
        let interval = interval.max(Duration::from_millis(10));
        let mut seen = None;
        loop {
            let this = Arc::clone(self);
            let before = seen.take();
            let after = tokio::task::spawn_blocking(move || this.look(before)).await;
            seen = after.ok();
            tokio::time::sleep(interval).await;
        }
    }

    /// Reads the file again if its stamps differ from `before`; the stamps found.
    fn look(&self, before: Option<Vec<Stamp>>) -> Vec<Stamp> {
        let current = self.current();
        let now = stamps(&current.files);
        if before.as_ref() == Some(&now) {
            return now;
        }
        let new = match WebConfig::load(&self.path) {
            Ok(new) if new.is_tls() == current.is_tls() => new,
            wrong => {
                self.complain(match wrong {
                    Ok(_) => "turning TLS on or off needs a restart".to_owned(),
                    Err(error) => error.to_string(),
                });
                // No stamps: what is missing may appear at any time.
                return Vec::new();
            }
        };
        if before.is_some() {
            tracing::info!(path = %self.path.display(), "web configuration was read again");
        }
        self.complaint
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .clear();
        // Stamps of the files that the new configuration names: a certificate of another name
        // must be followed from now on.
        let now = if new.files == current.files {
            now
        } else {
            stamps(&new.files)
        };
        *self.current.write().unwrap_or_else(|e| e.into_inner()) = Arc::new(new);
        now
    }

    fn complain(&self, error: String) {
        let mut last = self.complaint.lock().unwrap_or_else(|e| e.into_inner());
        if *last != error {
            tracing::error!(
                path = %self.path.display(),
                %error,
                "web configuration changed but cannot be used; the previous one stays in force"
            );
            *last = error;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<WebConfig, String> {
        WebConfig::parse(text, Path::new("/nowhere/web.yml")).map_err(|e| match e {
            Wrong::Here(message) => message,
            Wrong::Elsewhere(e) => e.to_string(),
        })
    }

    #[test]
    fn good_files() {
        for text in ["", "# nothing\n", "{}"] {
            let config = parse(text).unwrap();
            assert!(!config.is_tls() && !config.has_users() && config.http2());
        }
        let config = parse(
            "http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n    \
             X-XSS-Protection: ''\nrate_limit:\n  interval: 1m0.5s\n  burst: 3\n",
        )
        .unwrap();
        assert!(!config.http2());
        assert_eq!(config.headers.len(), 1);
        assert_eq!(
            config.rate,
            Some(Rate {
                interval: Duration::from_millis(60_500),
                burst: 3
            })
        );
    }

    #[test]
    fn wrong_files_say_why() {
        for (text, why) in [
            ("tls: {}", "tls"),
            (
                "http_server_config: {headers: {X-Powered-By: us}}",
                "can not be configured",
            ),
            (
                "http_server_config: {headers: {X-Frame-Options: maybe}}",
                "Expected one of",
            ),
            ("basic_auth_users: {alice: secret}", "alice"),
            ("tls_server_config: {cert_file: a.crt}", "key"),
            (
                "tls_server_config: {cert_file: a.crt, key_file: a.key}",
                "/nowhere/a.crt",
            ),
            (
                "tls_server_config: {client_auth_type: Sometimes, cert: x, key: y}",
                "Sometimes",
            ),
            ("tls_server_config: {min_version: SSL3}", "SSL3"),
            ("rate_limit: {interval: often}", "often"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(why), "{text}: {message}");
        }
    }
}
