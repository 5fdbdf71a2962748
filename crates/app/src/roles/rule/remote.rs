//! A ruler without state of its own: what is recorded is sent on.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ingest::RemoteWrites;
use metrics::Registry;
use model::Labels;

use super::peers;
use crate::config::{Config, unsupported};
use crate::house::remote::writes;
use crate::kingpin::Typed;

/// How long the end may take, as in Thanos.
const FLUSH: Duration = Duration::from_secs(60);

/// Where what is recorded is sent.
pub(super) struct Remotes(Config);

impl Remotes {
    /// What `--remote-write.config` says; none if it is not given.
    pub(super) fn from_flags(typed: &Typed<'_>) -> Result<Option<Self>> {
        const FLAG: &str = "remote-write.config";
        let Some(text) = peers::content(typed, FLAG)? else {
            return Ok(None);
        };
        parse(&text)
            .map(Some)
            .map_err(|e| typed.error(FLAG, e).into())
    }

    /// Sends on what the log in `dir` holds, with the labels of this ruler.
    pub(super) async fn open(
        &self,
        dir: &Path,
        labels: &Labels,
        registry: &Registry,
    ) -> Result<RemoteWrites> {
        let remotes = RemoteWrites::new(dir, None, FLUSH, registry)?;
        let settings = writes(&self.0, labels).context("--remote-write.config")?;
        remotes.apply(settings).await?;
        Ok(remotes)
    }
}

/// Prometheus' `remote_write` section, and nothing else.
fn parse(text: &str) -> Result<Remotes, String> {
    let config =
        Config::parse(Path::new("remote-write.config"), text).map_err(|e| e.to_string())?;
    if config.remote_write.is_empty() {
        return Err("it has no remote_write section that names a remote".to_owned());
    }
    let only = Config {
        remote_write: config.remote_write,
        ..Config::default()
    };
    match unsupported(&only, &[]).first() {
        Some(missing) => Err(missing.to_string()),
        None => Ok(Remotes(only)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_of_prometheus_is_read() {
        let good = "remote_write:\n- {url: 'http://r:19291/api/v1/receive', name: r, queue_config: {max_shards: 3}}\n- url: http://s/w\n";
        assert_eq!(parse(good).unwrap().0.remote_write.len(), 2);
        for (wrong, says) in [
            ("remote_write: []", "no remote_write"),
            ("global: {}", "no remote_write"),
            ("remote_write: [{name: r}]", "url"),
            ("remote_write: [{url: 'http://r/', nme: r}]", "nme"),
            (
                "remote_write: [{url: 'http://r/', azuread: {sdk: {tenant_id: a}}}]",
                "azuread",
            ),
        ] {
            let Err(error) = parse(wrong) else {
                panic!("{wrong} is read");
            };
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
