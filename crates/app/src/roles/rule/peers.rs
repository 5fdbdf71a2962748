//! What the files of queriers and of Alertmanagers have in common.

use serde::Deserialize;
use wire::client::HttpSettings;

use crate::addresses::Sources;
use crate::kingpin::{FlagError, Typed};
use crate::outpost;

/// `http_config` as Thanos reads it: Prometheus' keys, and how Go keeps connections.
#[derive(Deserialize, Default)]
#[serde(transparent)]
pub(super) struct HttpConfig(serde_json::Map<String, serde_json::Value>);

impl HttpConfig {
    pub(super) fn settings(&self) -> Result<HttpSettings, String> {
        let mut keys = self.0.clone();
        if keys.remove("transport_config").is_some() {
            tracing::warn!(
                "http_config.transport_config has no effect: connections are kept as they are used"
            );
        }
        serde_json::from_value(keys.into()).map_err(|e| format!("http_config: {e}"))
    }
}

/// `file_sd_configs` as Thanos reads them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSd {
    files: Vec<String>,
    #[serde(default = "five_minutes")]
    refresh_interval: String,
}

fn five_minutes() -> String {
    "5m".to_owned()
}

/// Where addresses come from: one for what is written down, one for each section of files.
pub(super) fn sources(written: Vec<String>, files: Vec<FileSd>) -> Vec<Sources> {
    let mut all: Vec<Sources> = files
        .into_iter()
        .map(|section| Sources {
            written: Vec::new(),
            files: section.files,
            refresh: section.refresh_interval,
        })
        .collect();
    if !written.is_empty() {
        all.push(Sources {
            written,
            ..Sources::default()
        });
    }
    all
}

/// A path to put before others: `""`, or it begins with a slash and does not end in one.
pub(super) fn prefix(path: &str) -> String {
    match path.trim_matches('/') {
        "" => String::new(),
        path => format!("/{path}"),
    }
}

/// The text of a pair of flags with `$(VARIABLE)`s of the environment put in; none if it is empty.
pub(super) fn content(typed: &Typed<'_>, flag: &str) -> Result<Option<String>, FlagError> {
    let Some(text) = outpost::content(typed, flag)? else {
        return Ok(None);
    };
    let text = substituted(&text, |name| std::env::var(name).ok()).map_err(|name| {
        let message = format!("found reference to unset environment variable {name:?}");
        typed.error(flag, message)
    })?;
    Ok((!text.trim().is_empty()).then_some(text))
}

fn substituted(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("$(") {
        out.push_str(before);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        match after.split_once(')') {
            Some((name, behind)) if !name.is_empty() && name.chars().all(plain) => {
                out.push_str(&value(name).ok_or_else(|| name.to_owned())?);
                rest = behind;
            }
            _ => {
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
    use super::*;

    #[test]
    fn variables_are_put_in() {
        let value = |name: &str| (name == "A_1").then(|| "x".to_owned());
        assert_eq!(substituted("$(A_1)b$(A_1)", value).unwrap(), "xbx");
        assert_eq!(
            substituted("$A $(no name) $(", value).unwrap(),
            "$A $(no name) $("
        );
        assert_eq!(substituted("$(B)", value).unwrap_err(), "B");
    }
}
