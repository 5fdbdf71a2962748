//! `prometheus.yml`: the whole file, as Prometheus 3.14 reads it.
//!
//! Each room owns the settings it obeys; this module puts them together, reads the file and says
//! where it is wrong. A section that cannot be run yet is read and judged all the same, and
//! [`unsupported`] names it if it is in use.

mod glob;
mod load;
mod otlp;
mod remote;
mod storage;
mod tracing;

#[cfg(test)]
mod tests;

use std::path::Path;

use model::settings;
use model::settings::join_folder;
use scrape::config::{Global, ScrapeConfig};

pub use glob::glob;
pub use load::{ConfigError, Loaded, Mode};
pub use otlp::Otlp;
pub use remote::{AzureAd, AzureIdentity, GoogleIam, Metadata, Queue, RemoteRead, RemoteWrite};
pub use rules::notify::config::{Alerting, Alertmanager, ApiVersion};
pub use storage::{ChunkEncodings, Exemplars, Retention, Storage, Tsdb};
pub use tracing::Tracing;

settings! {
    /// The whole file.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Config ("config.plain") check(Config::complete) {
        /// What holds everywhere.
        pub global ("global"): Global => always;
        /// Knobs of Go's runtime: read, and of no effect here.
        pub runtime ("runtime"): Runtime;
        /// Where alerts go.
        pub alerting ("alerting"): Alerting;
        /// Files of rules; the last part of a path may be a pattern.
        pub rule_files ("rule_files"): Vec<String>;
        /// Files of more jobs; the last part of a path may be a pattern.
        pub scrape_config_files ("scrape_config_files"): Vec<String>;
        /// The jobs.
        pub scrape_configs ("scrape_configs"): Vec<ScrapeConfig>,
            nulls "empty or null scrape config section";
        /// What can be set about storage while running.
        pub storage ("storage"): Storage;
        /// Where traces go.
        pub tracing ("tracing"): Option<Tracing>;
        /// Where samples are sent on.
        pub remote_write ("remote_write"): Vec<RemoteWrite>,
            nulls "empty or null remote write config section";
        /// Where samples are read from.
        pub remote_read ("remote_read"): Vec<RemoteRead>,
            nulls "empty or null remote read config section";
        /// How OTLP is taken in.
        pub otlp ("otlp"): Option<Otlp>;
    }
}

settings! {
    /// Knobs of Go's runtime.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Runtime ("config.plain") {
        /// `GOGC`.
        pub gogc ("gogc"): i64 = 75;
    }
}

impl Config {
    /// Fills in what follows from other parts, and judges the whole.
    fn complete(&mut self) -> Result<(), String> {
        self.global.complete()?;
        for path in &self.rule_files {
            if !is_path_pattern(path) {
                return Err(format!("invalid rule file path {path:?}"));
            }
        }
        for path in &self.scrape_config_files {
            if !is_path_pattern(path) {
                return Err(format!("invalid scrape config file path {path:?}"));
            }
        }
        for job in &mut self.scrape_configs {
            job.complete(&self.global)?;
        }
        no_duplicates(
            "scrape configs",
            self.scrape_configs.iter().map(|j| j.job_name.as_str()),
        )?;
        let scheme = self.scheme();
        self.alerting.check_rules(scheme)?;
        for remote in &self.remote_write {
            remote.check_rules(scheme)?;
        }
        no_duplicates(
            "remote write configs",
            self.remote_write.iter().map(|r| r.name.as_str()),
        )?;
        no_duplicates(
            "remote read configs",
            self.remote_read.iter().map(|r| r.name.as_str()),
        )?;
        match &self.otlp {
            Some(otlp) => otlp.check_names(scheme),
            None => Ok(()),
        }
    }

    /// Which names are valid.
    pub fn scheme(&self) -> model::relabel::NameScheme {
        self.global
            .metric_name_validation_scheme
            .unwrap_or(model::relabel::NameScheme::Utf8)
    }

    /// Takes the files that are named relative to `folder`.
    pub fn set_folder(&mut self, folder: &Path) {
        self.global.set_folder(folder);
        self.alerting.set_folder(folder);
        if let Some(tracing) = &mut self.tracing {
            tracing.tls_config.set_folder(folder);
        }
        for path in self
            .rule_files
            .iter_mut()
            .chain(&mut self.scrape_config_files)
        {
            join_folder(folder, path);
        }
        for job in &mut self.scrape_configs {
            job.set_folder(folder);
        }
        for remote in &mut self.remote_write {
            remote.http.set_folder(folder);
        }
        for remote in &mut self.remote_read {
            remote.http.set_folder(folder);
        }
    }

    /// The configuration in force, as YAML: with all defaults, and `<secret>` for every secret.
    pub fn to_yaml_redacted(&self) -> String {
        yaml_redacted(self)
    }
}

/// A part of the configuration as YAML, likewise.
pub fn yaml_redacted(part: &impl serde::Serialize) -> String {
    serde_saphyr::to_string(part)
        .unwrap_or_else(|e| format!("# error creating config string: {e}\n"))
}

/// `[^*]*` and then perhaps a pattern within the last part of the path.
fn is_path_pattern(path: &str) -> bool {
    match path.split_once('*') {
        Some((_, after)) => !after.contains('/'),
        None => true,
    }
}

fn no_duplicates<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        // Nameless remotes are told apart otherwise.
        if !name.is_empty() && !seen.insert(name) {
            return Err(format!("found multiple {what} with job name {name:?}"));
        }
    }
    Ok(())
}

/// Something in use that this version cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Where: `job "node"`, or a section.
    pub place: String,
    /// The key.
    pub key: String,
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {} is not supported in this version",
            self.place, self.key
        )
    }
}

/// What is in use in the file and in its jobs (those of `scrape_config_files` included) that this
/// version cannot do.
pub fn unsupported(config: &Config, jobs: &[ScrapeConfig]) -> Vec<Unsupported> {
    let mut found = Vec::new();
    let mut add = |place: &str, key: &str| {
        found.push(Unsupported {
            place: place.to_owned(),
            key: key.to_owned(),
        });
    };
    for job in jobs {
        let place = format!("job {:?}", job.job_name);
        for key in job.unsupported() {
            add(&place, &key);
        }
    }
    for alertmanager in &config.alerting.alertmanagers {
        for key in alertmanager.unsupported() {
            add("alerting", &key);
        }
    }
    for remote in &config.remote_write {
        let place = format!("remote_write {:?}", remote.url().redacted());
        for key in remote.unsupported() {
            add(&place, key);
        }
    }
    for remote in &config.remote_read {
        let place = format!("remote_read {:?}", remote.url().redacted());
        for key in remote.http.unsupported() {
            add(&place, key);
        }
    }
    for key in config
        .tracing
        .iter()
        .flat_map(|t| t.tls_config.unsupported())
    {
        add("tracing", key);
    }
    if config
        .storage
        .tsdb
        .as_ref()
        .is_some_and(|t| t.chunk_encoding.floats == "xor2")
    {
        add("storage", "tsdb.chunk_encoding.floats: xor2");
    }
    found
}
