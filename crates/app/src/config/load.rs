//! Reading the file, and saying where it is wrong.

use std::path::{Path, PathBuf};

use scrape::config::{ScrapeConfig, ScrapeConfigs};
use serde::de::DeserializeOwned;
use serde_saphyr::UserMessageFormatter;

use super::{Config, glob};

/// A configuration that cannot be used: nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not YAML, or says something wrong.
    #[error("parsing YAML file {}: {}{message}", path.display(), place(*.line, key.as_deref()))]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where in it, from 1; 0 if it is about the file as a whole.
        line: u64,
        /// The key that stands there.
        key: Option<String>,
        /// What is wrong.
        message: String,
    },
    /// It is about the file as a whole, or about several files.
    #[error("{}: {message}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

fn place(line: u64, key: Option<&str>) -> String {
    match (line, key) {
        (0, _) => String::new(),
        (line, Some(key)) => format!("line {line}: {key}: "),
        (line, None) => format!("line {line}: "),
    }
}

/// What the file is read for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A server.
    #[default]
    Server,
    /// An agent, which neither evaluates rules nor reads from remotes.
    Agent,
}

/// A configuration as it was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The file.
    pub config: Config,
    /// All jobs: the file's own, and those of `scrape_config_files`.
    pub jobs: Vec<ScrapeConfig>,
    /// Environment variables in external labels that are not set.
    pub unset_variables: Vec<String>,
}

impl Config {
    /// Reads the configuration file at `path` and the files of jobs that it names. Other files that
    /// it names are not touched.
    pub fn load(path: &Path, mode: Mode) -> Result<Loaded, ConfigError> {
        let text = read(path)?;
        let mut config = Self::parse(path, &text)?;
        let variable = |name: &str| std::env::var(name).ok();
        let unset_variables = config.global.external_labels.expand(variable);
        if mode == Mode::Agent {
            config.check_agent(path)?;
        }
        config.set_folder(path.parent().unwrap_or(Path::new("")));
        let jobs = config.jobs(path)?;
        Ok(Loaded {
            config,
            jobs,
            unset_variables,
        })
    }

    /// Reads `text` as the configuration file at `path`, which is named in errors only.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut config: Self = parse(path, text)?;
        // An empty file never came to be judged.
        config.complete().map_err(|message| ConfigError::Invalid {
            path: path.to_owned(),
            message,
        })?;
        Ok(config)
    }

    fn check_agent(&self, path: &Path) -> Result<(), ConfigError> {
        let alerting = &self.alerting;
        for (used, field) in [
            (
                !alerting.alertmanagers.is_empty() || !alerting.alert_relabel_configs.is_empty(),
                "alerting",
            ),
            (!self.rule_files.is_empty(), "rule_files"),
            (!self.remote_read.is_empty(), "remote_read"),
        ] {
            if used {
                return Err(ConfigError::Invalid {
                    path: path.to_owned(),
                    message: format!("field {field} is not allowed in agent mode"),
                });
            }
        }
        Ok(())
    }

    /// All jobs, those of `scrape_config_files` included.
    fn jobs(&self, main: &Path) -> Result<Vec<ScrapeConfig>, ConfigError> {
        let mut jobs = self.scrape_configs.clone();
        let mut from: Vec<PathBuf> = vec![main.to_owned(); jobs.len()];
        for pattern in &self.scrape_config_files {
            let files = glob(pattern).map_err(|message| ConfigError::Invalid {
                path: main.to_owned(),
                message: format!("error retrieving scrape config files: {message}"),
            })?;
            for path in files {
                let text = read(&path)?;
                let file: ScrapeConfigs = parse(&path, &text)?;
                for mut job in file.scrape_configs {
                    let invalid = |message| ConfigError::Invalid {
                        path: path.clone(),
                        message,
                    };
                    job.complete(&self.global).map_err(invalid)?;
                    if let Some(i) = jobs.iter().position(|other| other.job_name == job.job_name) {
                        let first = from.get(i).map(|p| p.display().to_string());
                        return Err(invalid(format!(
                            "found multiple scrape configs with job name {:?}, first found in {}",
                            job.job_name,
                            first.unwrap_or_default()
                        )));
                    }
                    job.set_folder(path.parent().unwrap_or(Path::new("")));
                    jobs.push(job);
                    from.push(path.clone());
                }
            }
        }
        Ok(jobs)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::Read {
        path: path.to_owned(),
        error,
    })
}

/// Reads strict YAML. Nothing of the text itself stands in an error but keys: values may be
/// secrets.
fn parse<T: DeserializeOwned + Default>(path: &Path, text: &str) -> Result<T, ConfigError> {
    // A page of comments is no attack: they are not kept.
    let options = serde_saphyr::options! { with_snippet: false, emit_comments: false };
    serde_saphyr::from_str_with_options::<Option<T>>(text, options)
        .map(Option::unwrap_or_default)
        .map_err(|error| {
            let line = error.location().map_or(0, |l| l.line());
            ConfigError::Parse {
                path: path.to_owned(),
                line,
                key: key_at(text, line),
                message: without_place(&error.render_with_formatter(&UserMessageFormatter)),
            }
        })
}

/// The key on a line: what stands before its colon.
fn key_at(text: &str, line: u64) -> Option<String> {
    let line = text
        .lines()
        .nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    let line = line.trim_start_matches([' ', '\t', '-', '{', '[']);
    let (key, _) = line.split_once(':')?;
    let key = key.trim().trim_matches(['"', '\'']);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (!key.is_empty() && key.chars().all(plain)).then(|| key.to_owned())
}

/// The parser puts line and column behind (or before) its messages; they are said once already.
fn without_place(message: &str) -> String {
    let message = message.trim();
    let message = match message.split_once(": ") {
        Some((place, rest)) if place.contains("line ") && place.len() < 40 => rest,
        _ => message,
    };
    match message.rfind(" at line ") {
        Some(at) => message.get(..at).unwrap_or(message).to_owned(),
        None => message.to_owned(),
    }
}
