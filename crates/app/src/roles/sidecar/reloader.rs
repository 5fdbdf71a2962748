//! Makes Prometheus reload when its configuration or rules have changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use metrics::{Counter, FloatGauge, Gauge, Registry};
use model::Cancel;
use model::time::{Clock as _, WallClock, span};
use wire::client::HttpClient;

use crate::kingpin::{FlagError, Typed};
use crate::outpost::listed;

/// What is watched, and where the result goes.
pub(super) struct Reloader {
    config: Option<PathBuf>,
    /// Where the configuration is written with `$(NAME)` replaced by the environment.
    output: Option<PathBuf>,
    rules: Vec<PathBuf>,
    watch: Duration,
    retry: Duration,
    means: Means,
}

/// How Prometheus is told.
enum Means {
    /// A POST to this URL.
    Http(String),
    /// A signal to the process of this name.
    Signal(String),
}

/// What is counted, under Thanos' names.
pub(super) struct Meters {
    applied: Counter,
    not_applied: Counter,
    reloads: Counter,
    failures: Counter,
    success: Gauge,
    success_time: FloatGauge,
    watches: Gauge,
    changes: Counter,
}

impl Meters {
    pub(super) fn new(registry: &Registry) -> Result<Self, metrics::Error> {
        let counter =
            |name: &str, help| registry.counter(&format!("thanos_sidecar_reloader_{name}"), help);
        Ok(Self {
            applied: counter(
                "config_apply_operations_total",
                "Total number of config apply operations.",
            )?,
            not_applied: counter(
                "config_apply_operations_failed_total",
                "Total number of config apply operations that failed.",
            )?,
            reloads: counter("reloads_total", "Total number of reload requests.")?,
            failures: counter(
                "reloads_failed_total",
                "Total number of reload requests that failed.",
            )?,
            success: registry.gauge(
                "thanos_sidecar_reloader_last_reload_successful",
                "Whether the last reload attempt was successful",
            )?,
            success_time: registry.float_gauge(
                "thanos_sidecar_reloader_last_reload_success_timestamp_seconds",
                "Timestamp of the last successful reload",
            )?,
            watches: registry.gauge(
                "thanos_sidecar_reloader_watches",
                "Number of resources watched by the reloader.",
            )?,
            changes: counter(
                "watch_events_total",
                "Total number of events received by the reloader from the watcher.",
            )?,
        })
    }
}

/// How often files are looked at: a look costs little, and a change should not wait for long.
const LOOK: Duration = Duration::from_secs(5);

type Seen = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

impl Reloader {
    pub(super) fn from_flags(typed: &Typed<'_>, url: &str) -> Result<Self, FlagError> {
        let path = |flag: &str| {
            typed
                .text(flag)
                .filter(|t| !t.is_empty())
                .map(PathBuf::from)
        };
        let (config, output) = (
            path("reloader.config-file"),
            path("reloader.config-envsubst-file"),
        );
        let means = match typed.required("reloader.method")? {
            "http" | "" => Means::Http(format!("{url}/-/reload")),
            "signal" => Means::Signal(typed.required("reloader.process-name")?.to_owned()),
            other => {
                let message = format!("{other:?} is no method; use http or signal");
                return Err(typed.error("reloader.method", message));
            }
        };
        Ok(Self {
            config,
            output,
            rules: listed(typed, "reloader.rule-dir")
                .into_iter()
                .map(PathBuf::from)
                .collect(),
            watch: span(typed.duration("reloader.watch-interval")?),
            retry: span(typed.duration("reloader.retry-interval")?),
            means,
        })
    }

    /// Watches until `stop`.
    pub(super) async fn run(self, client: HttpClient, meters: Meters, stop: Cancel) {
        let watched = self.rules.len() + usize::from(self.config.is_some());
        meters
            .watches
            .set(i64::try_from(watched).unwrap_or(i64::MAX));
        if self.config.is_none() && self.rules.is_empty() {
            return;
        }
        let mut applied: Option<Seen> = None;
        loop {
            let seen = self.look();
            let mut pause = LOOK.min(self.watch).max(Duration::from_millis(100));
            if applied.as_ref() != Some(&seen) {
                meters.changes.inc();
                meters.applied.inc();
                match self.apply(&client, &meters).await {
                    Ok(()) => {
                        tracing::info!("Prometheus reload triggered");
                        applied = Some(seen);
                    }
                    Err(error) => {
                        meters.not_applied.inc();
                        tracing::error!(error, "Prometheus cannot be reloaded; trying again");
                        pause = self.retry;
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn look(&self) -> Seen {
        let mut seen = Seen::new();
        let mut note = |path: &Path| {
            if let Ok(meta) = std::fs::metadata(path)
                && meta.is_file()
            {
                seen.insert(path.to_owned(), (meta.modified().ok(), meta.len()));
            }
        };
        self.config.iter().for_each(|c| note(c));
        for dir in &self.rules {
            let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
            files.for_each(|entry| note(&entry.path()));
        }
        seen
    }

    async fn apply(&self, client: &HttpClient, meters: &Meters) -> Result<(), String> {
        if let (Some(config), Some(output)) = (&self.config, &self.output) {
            let text = read(config).map_err(|e| format!("{}: {e}", config.display()))?;
            let text = expand(&text, |name| std::env::var(name).ok())?;
            let half = output.with_extension("tmp");
            let write = std::fs::write(&half, text).and_then(|()| std::fs::rename(&half, output));
            write.map_err(|e| format!("{}: {e}", output.display()))?;
        }
        meters.reloads.inc();
        let reloaded = self.reload(client).await;
        match &reloaded {
            Ok(()) => {
                meters.success.set(1);
                meters.success_time.set(WallClock.now() as f64 / 1000.0);
            }
            Err(_) => {
                meters.failures.inc();
                meters.success.set(0);
            }
        }
        reloaded
    }

    async fn reload(&self, client: &HttpClient) -> Result<(), String> {
        let url = match &self.means {
            Means::Http(url) => url,
            Means::Signal(name) => return hang_up(name),
        };
        let request = client
            .request(wire::client::Method::POST, url)
            .map_err(|e| e.to_string())?;
        let answer = client.send(request).await.map_err(|e| e.to_string())?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!(
                "received non-200 response: {status}; have you set `--web.enable-lifecycle` Prometheus flag?"
            )),
        }
    }
}

/// A configuration may be that large, bytes.
const MOST: u64 = 64 << 20;

/// The text of a file, which may be gzipped.
fn read(path: &Path) -> std::io::Result<String> {
    use std::io::{Error, ErrorKind, Read as _};
    let bytes = std::fs::read(path)?;
    let text = match bytes.starts_with(&[0x1f, 0x8b]) {
        false => bytes,
        true => {
            let mut text = Vec::new();
            let unpacked = flate2::read::GzDecoder::new(&bytes[..]);
            unpacked.take(MOST).read_to_end(&mut text)?;
            text
        }
    };
    String::from_utf8(text).map_err(|e| Error::new(ErrorKind::InvalidData, e))
}

/// Sends SIGHUP to the one process of this name.
fn hang_up(name: &str) -> Result<(), String> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir("/proc").map_err(|e| format!("/proc: {e}"))?;
    for entry in entries.flatten() {
        let pid = entry.file_name();
        let Some(pid) = pid.to_str().and_then(|p| p.parse::<i32>().ok()) else {
            continue;
        };
        // The name of the program, which `comm` would cut after 15 bytes.
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let program = command.split(|b| *b == 0).next().unwrap_or_default();
        let program = String::from_utf8_lossy(program);
        if program.rsplit('/').next() == Some(name) {
            found.push(pid);
        }
    }
    let pid = match found.as_slice() {
        [pid] => rustix::process::Pid::from_raw(*pid),
        [] => {
            return Err(format!(
                "no process is called {name:?}; see --reloader.process-name"
            ));
        }
        more => {
            return Err(format!(
                "{} processes are called {name:?}; use --reloader.method=http",
                more.len()
            ));
        }
    };
    let pid = pid.ok_or_else(|| "a process without a number".to_owned())?;
    rustix::process::kill_process(pid, rustix::process::Signal::HUP)
        .map_err(|e| format!("signalling {name}: {e}"))
}

/// Replaces `$(NAME)`; a name that is not set is an error, so that no half configuration runs.
fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("$(") {
        out.push_str(&rest[..at]);
        let after = &rest[at + 2..];
        let name = after.find(')').map(|end| &after[..end]).filter(|name| {
            let plain = |(i, b): (usize, u8)| {
                b == b'_' || b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit())
            };
            !name.is_empty() && name.bytes().enumerate().all(plain)
        });
        match name {
            Some(name) => {
                let value = variable(name).ok_or_else(|| {
                    format!("found reference to unset environment variable {name:?}")
                })?;
                out.push_str(&value);
                rest = &after[name.len() + 1..];
            }
            None => {
                out.push_str("$(");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::{expand, hang_up, read};

    #[test]
    fn a_gzipped_configuration_is_read() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prometheus.yml.gz");
        let file = std::fs::File::create(&path).unwrap();
        let mut gz = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        gz.write_all(b"global: {}").unwrap();
        gz.finish().unwrap();
        assert_eq!(read(&path).unwrap(), "global: {}");
        std::fs::write(&path, "plain").unwrap();
        assert_eq!(read(&path).unwrap(), "plain");
        std::fs::write(&path, [0x1f, 0x8b, 1]).unwrap();
        assert!(read(&path).is_err());
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let e = hang_up("no-such-process-anywhere").unwrap_err();
        assert!(e.contains("--reloader.process-name"), "{e}");
    }

    #[test]
    fn the_environment_is_put_in() {
        let env = |name: &str| (name == "POD").then(|| "p-1".to_owned());
        assert_eq!(
            expand("a: $(POD), $(not a name) $POD", env).unwrap(),
            "a: p-1, $(not a name) $POD"
        );
        assert!(expand("$(GONE)", env).is_err());
        assert_eq!(expand("$(", env).unwrap(), "$(");
    }
}
