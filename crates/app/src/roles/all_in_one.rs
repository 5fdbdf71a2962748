//! `epimetheus all-in-one`: everything in one process over a local folder.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use model::Labels;
use model::time::{WallClock, format_duration, span};

use crate::compaction::Pace;
use crate::flags::compact as flags;
use crate::house::{self, config::Place, settings};
use crate::kingpin::{Flag, Typed, optional, value};
use crate::{limits, logging};

const OWN: &[Flag] = &[
    value(
        "data-dir",
        "./data",
        "Folder for everything this process keeps: tsdb/, bucket/ (unless --objstore.config-file names another bucket), store/.",
    ),
    optional(
        "config.file",
        "Prometheus configuration file path. Without one, a small built-in configuration scrapes this process and a node_exporter on port 9100 if there is one.",
    ),
];

/// The flags of this role.
pub const FLAGS: &[&[Flag]] = &super::of_a_house(OWN, [flags::BESIDE, flags::RETENTION]);

/// Block length under the built-in configuration: the bucket fills while one watches.
const DEMO_BLOCK: model::Millis = 120_000;

/// Runs the role.
pub fn run(typed: &Typed<'_>) -> Result<ExitCode> {
    logging::init(typed)?;
    let data = PathBuf::from(typed.required("data-dir")?);
    let file = typed.text("config.file").filter(|f| !f.is_empty());
    let storage = settings::Storage::from_flags(
        typed,
        data.join("tsdb"),
        file.is_none().then_some(DEMO_BLOCK),
    )?;
    let local = data.join("bucket");
    let mut bucket = settings::Bucket::from_flags(typed, Some(&local), data.join("store"))?;
    if let Some(bucket) = &mut bucket {
        bucket.compaction = compaction(typed, &data)?;
    }
    let web = settings::Web::from_flags(typed)?;
    let queries = settings::Queries::from_flags(typed)?;
    let memory = limits::Memory::from_flags(typed)?;
    let timestamp_tolerance = super::tolerance(typed)?;
    let discovery_throttle = super::throttle(typed)?;
    let id = instance_id(&data)?;
    let mut banner = vec![
        "Epimetheus is running.".to_owned(),
        "  UI and API   http://{address}".to_owned(),
        format!(
            "  data         {} (tsdb: newest data; blocks go to the bucket)",
            data.display()
        ),
    ];
    let config = match file {
        Some(file) => Place::File(PathBuf::from(file)),
        None => {
            let port = web
                .server
                .listen
                .first()
                .and_then(|l| l.rsplit_once(':'))
                .map_or("9090", |l| l.1);
            let node = node_exporter_is_there();
            banner.push(format!(
                "  scraping     itself{}",
                if node {
                    ", node_exporter on port 9100"
                } else {
                    ""
                }
            ));
            tracing::warn!(
                block_range = format_duration(storage.min_block),
                "built-in configuration with very short blocks, so that the bucket fills soon; do not keep it: give --config.file for real use"
            );
            banner.push(format!(
                "  blocks       every {}: for trying out only; --config.file=prometheus.yml cuts them every 2h",
                format_duration(storage.min_block)
            ));
            Place::BuiltIn(built_in(port, node, &id))
        }
    };
    let settings = house::Settings {
        role: "all-in-one",
        config,
        allow_unsupported: typed.switch("config.allow-unsupported"),
        auto_reload: super::auto_reload(typed)?,
        default_labels: Labels::from_pairs([("instance_id", id.as_str())]),
        web,
        storage,
        queries,
        rules: house::rules::Settings::from_flags(typed)?,
        agent: None,
        push: house::push::Settings::from_flags(typed)?,
        flush_deadline: model::time::span(typed.duration("storage.remote.flush-deadline")?),
        bucket,
        memory,
        timestamp_tolerance,
        discovery_throttle,
        grpc: typed
            .text("grpc-address")
            .filter(|a| !a.is_empty())
            .map(String::from),
        flags: typed.all().into_iter().collect(),
        banner,
    };
    super::warn_without_effect(typed);
    house::run(settings)
}

/// What compacts the bucket beside everything else, unless that is left to others.
fn compaction(typed: &Typed<'_>, data: &Path) -> Result<Option<settings::Compaction>> {
    if !typed.switch("compact") {
        return Ok(None);
    }
    let downsampling = !typed.switch("downsampling.disable");
    let options = compact::Options {
        downsampling,
        concurrency: typed.number("compact.concurrency")?,
        retention: super::compact::checked_retention(typed, downsampling)?,
        delete_delay: span(typed.duration("delete-delay")?),
        ..compact::Options::new(data.join("compact"), Arc::new(WallClock))
    };
    let pace = Pace {
        wait: Some(span(typed.duration("compact.interval")?)),
        ..Pace::default()
    };
    Ok(Some(settings::Compaction { options, pace }))
}

/// What tells this instance's blocks from others': made once, kept in the data folder.
fn instance_id(data: &Path) -> Result<String> {
    let file = data.join("instance_id");
    match std::fs::read_to_string(&file) {
        Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("reading {}", file.display()));
        }
        _ => {}
    }
    let id = ulid::Ulid::generate().to_string().to_lowercase();
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(data)?;
        let half = data.join("instance_id.tmp");
        std::fs::write(&half, format!("{id}\n"))?;
        std::fs::File::open(&half)?.sync_all()?;
        std::fs::rename(&half, &file)
    };
    write().with_context(|| format!("writing {}", file.display()))?;
    tracing::info!(instance_id = %id, file = %file.display(), "made an instance id; blocks carry it when the configuration has no external labels");
    Ok(id)
}

/// The configuration that is used when none is given.
fn built_in(port: &str, node_exporter: bool, id: &str) -> String {
    let mut text = format!(
        "global:\n  scrape_interval: 5s\n  scrape_timeout: 5s\n  external_labels:\n    instance_id: {id}\nscrape_configs:\n- job_name: epimetheus\n  static_configs:\n  - targets: ['localhost:{port}']\n"
    );
    if node_exporter {
        text.push_str("- job_name: node\n  static_configs:\n  - targets: ['localhost:9100']\n");
    }
    text
}

fn node_exporter_is_there() -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], 9100));
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_id_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let id = instance_id(&dir.path().join("data")).unwrap();
        assert_eq!(instance_id(&dir.path().join("data")).unwrap(), id);
    }

    #[test]
    fn the_built_in_configuration_is_sound() {
        let text = built_in("9090", true, "x");
        let config = crate::config::Config::parse(Path::new("built-in"), &text).unwrap();
        assert_eq!(config.scrape_configs.len(), 2);
        assert!(crate::config::unsupported(&config, &config.scrape_configs).is_empty());
    }
}
