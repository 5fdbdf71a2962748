//! What the flags of `server` and `all-in-one` mean, with nothing opened yet.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use model::Millis;
use model::settings::Bytes;
use model::time::{format_duration, parse_duration, span};
use promql::features::Features;
use tsdb::wal::{Compression, SyncMode, WalOptions};

use crate::config::Config;
use crate::kingpin::{FlagError, Typed};

const HOUR: Millis = 3_600_000;
const DAY: Millis = 24 * HOUR;

/// Web: where and how HTTP is served.
pub struct Web {
    /// The shell's settings.
    pub server: wire::server::Settings,
    /// The URL under which the world sees us.
    pub external_url: url::Url,
    /// The path under which routes are served; `""` for the root.
    pub route_prefix: String,
    /// Whose pages may read our answers.
    pub cors: wire::server::Cors,
    /// Reload and quit over HTTP.
    pub lifecycle: bool,
    /// Delete and snapshot over HTTP.
    pub admin: bool,
    /// The title of the page.
    pub title: String,
    /// How many may listen to notifications.
    pub listeners: usize,
}

impl Web {
    /// As the flags say.
    pub fn from_flags(typed: &Typed<'_>) -> Result<Self> {
        let listen: Vec<String> = typed
            .list("web.listen-address")
            .into_iter()
            .map(String::from)
            .collect();
        let first = listen.first().map_or("", |l| l);
        let external_url = wire::server::prefix::external_url(
            typed.text("web.external-url").unwrap_or_default(),
            first,
            &hostname(),
        )
        .map_err(|e| typed.error("web.external-url", e))?;
        let cors = wire::server::Cors::new(typed.required("web.cors.origin")?)
            .map_err(|e| typed.error("web.cors.origin", e))?;
        Ok(Self {
            route_prefix: wire::server::prefix::route_prefix(
                typed.text("web.route-prefix"),
                &external_url,
            ),
            external_url,
            cors,
            lifecycle: typed.switch("web.enable-lifecycle"),
            admin: typed.switch("web.enable-admin-api"),
            title: typed.required("web.page-title")?.to_owned(),
            listeners: typed.number("web.max-notifications-subscribers")?,
            server: wire::server::Settings {
                listen,
                web_config: path(typed, "web.config.file"),
                max_connections: typed.number("web.max-connections")?,
                read_timeout: span(typed.duration("web.read-timeout")?),
                ..wire::server::Settings::default()
            },
        })
    }
}

/// Storage: the local database.
#[derive(Clone, Debug)]
pub struct Storage {
    /// The data folder.
    pub dir: PathBuf,
    /// Length of the blocks that are cut, ms.
    pub min_block: Millis,
    /// Length up to which they are merged, ms; none: by retention.
    pub max_block: Option<Millis>,
    /// How long and how much is kept, where the configuration does not say.
    pub retention: tsdb::Retention,
    /// Whether overlapping blocks are merged.
    pub merge_overlapping: bool,
    /// A foreign shipper's list of what it has uploaded.
    pub uploaded_elsewhere: Option<PathBuf>,
    /// Whether to take the lock file.
    pub lock: bool,
    /// The log.
    pub wal: WalOptions,
    /// Whether exemplars are kept (`exemplar-storage`).
    pub exemplars: bool,
    /// What is done with start timestamps (`created-timestamp-zero-ingestion`, `st-storage`).
    pub starts: tsdb::Starts,
}

impl Storage {
    /// As the flags say. `short` is the block length that is used when none was given.
    pub fn from_flags(typed: &Typed<'_>, dir: PathBuf, short: Option<Millis>) -> Result<Self> {
        let min_block = typed
            .optional_duration("storage.tsdb.min-block-duration")?
            .or(short)
            .unwrap_or(2 * HOUR);
        let max_block = typed
            .optional_duration("storage.tsdb.max-block-duration")?
            .or(short.map(|_| min_block));
        if max_block.is_some_and(|max| max < min_block) {
            let message = format!(
                "must not be below the minimum, {}",
                format_duration(min_block)
            );
            return Err(typed
                .error("storage.tsdb.max-block-duration", message)
                .into());
        }
        let bytes = typed.bytes("storage.tsdb.retention.size")?;
        let time = match typed.optional_duration("storage.tsdb.retention.time")? {
            Some(time) => time,
            None => typed
                .optional_duration("storage.tsdb.retention")?
                .unwrap_or(if bytes > 0 { 0 } else { 15 * DAY }),
        };
        let retention = tsdb::Retention {
            time,
            bytes,
            percent: 0.0,
        };
        Ok(Self {
            dir,
            min_block,
            max_block,
            retention,
            merge_overlapping: typed.switch("storage.tsdb.allow-overlapping-compaction"),
            uploaded_elsewhere: path(typed, "storage.tsdb.delay-compact-file.path"),
            lock: !typed.switch("storage.tsdb.no-lockfile"),
            exemplars: asked(typed, "exemplar-storage"),
            starts: starts(typed),
            wal: WalOptions {
                compression: compression(typed)?,
                segment_size: segment_size(typed, "storage.tsdb.wal-segment-size")?,
                sync: sync(typed)?,
            },
        })
    }

    /// The flags as they come to be obeyed: for the API, which is where a sidecar looks for the folder
    /// and the lengths of blocks before it ships anything.
    pub fn as_flags(&self, ships_merged: bool) -> Vec<(String, String)> {
        let min = self.min_block;
        let max = match (self.max_block, ships_merged, self.retention.time) {
            (Some(max), ..) => max,
            (None, true, _) => min,
            (None, false, 0) => 31 * DAY,
            (None, false, time) => (time / 10).min(31 * DAY).max(min),
        };
        let bytes = i64::try_from(self.retention.bytes).unwrap_or(i64::MAX);
        let flag = |name: &str, value: String| (format!("storage.tsdb.{name}"), value);
        vec![
            flag("path", self.dir.display().to_string()),
            flag("min-block-duration", format_duration(min)),
            flag("max-block-duration", format_duration(max)),
            flag("retention.time", format_duration(self.retention.time)),
            flag("retention.size", Bytes(bytes).to_string()),
        ]
    }

    /// How many exemplars are kept under that configuration.
    pub fn exemplars_under(&self, config: &Config) -> usize {
        if !self.exemplars {
            return 0;
        }
        let said = config.storage.exemplars.as_ref().map(|e| e.max_exemplars);
        said.map_or(100_000, |max| usize::try_from(max).unwrap_or(0))
    }

    /// How long and how much is kept under a configuration: what it says goes before the flags, as
    /// a whole.
    pub fn retention_under(&self, config: &Config) -> tsdb::Retention {
        let tsdb = config.storage.tsdb.as_ref();
        let Some(said) = tsdb.and_then(|t| t.retention.as_ref()) else {
            return self.retention;
        };
        tsdb::Retention {
            time: said.time.0,
            bytes: u64::try_from(said.size.0).unwrap_or(0),
            percent: said.percentage,
        }
    }
}

/// An agent's storage.
#[derive(Clone, Debug)]
pub struct AgentStorage {
    /// The data folder.
    pub dir: PathBuf,
    /// Whether to take the lock file.
    pub lock: bool,
    /// The log.
    pub wal: WalOptions,
    /// How often the log is truncated, ms.
    pub truncate_every: Millis,
    /// Least age of what is deleted, ms.
    pub min_time: Millis,
    /// Greatest age of what is kept, ms.
    pub max_time: Millis,
    /// What is done with start timestamps.
    pub starts: tsdb::Starts,
}

impl AgentStorage {
    /// As the flags say.
    pub fn from_flags(typed: &Typed<'_>) -> Result<Self> {
        let compression = match typed.switch("storage.agent.wal-compression") {
            false => Compression::None,
            true => named(typed, "storage.agent.wal-compression-type")?,
        };
        Ok(Self {
            dir: PathBuf::from(typed.required("storage.agent.path")?),
            lock: !typed.switch("storage.agent.no-lockfile"),
            wal: WalOptions {
                compression,
                segment_size: segment_size(typed, "storage.agent.wal-segment-size")?,
                sync: sync(typed)?,
            },
            truncate_every: typed.duration("storage.agent.wal-truncate-frequency")?,
            min_time: typed.duration("storage.agent.retention.min-time")?,
            max_time: typed.duration("storage.agent.retention.max-time")?,
            starts: starts(typed),
        })
    }
}

/// The size of a segment of the log, bytes, which that flag says.
fn segment_size(typed: &Typed<'_>, flag: &'static str) -> Result<u64, FlagError> {
    let bytes = typed.bytes(flag)?;
    if !(10 << 20..=256 << 20).contains(&bytes) {
        return Err(typed.error(flag, "must be between 10MB and 256MB"));
    }
    Ok(bytes)
}

fn starts(typed: &Typed<'_>) -> tsdb::Starts {
    if asked(typed, "st-storage") {
        tsdb::Starts::Store
    } else if asked(typed, "created-timestamp-zero-ingestion") {
        tsdb::Starts::Zeros
    } else {
        tsdb::Starts::Ignore
    }
}

/// A retention for people: `15d or 512MiB or 80%`.
pub fn retention_text(retention: tsdb::Retention) -> String {
    let mut limits = Vec::new();
    if retention.time != 0 {
        limits.push(format_duration(retention.time));
    }
    if retention.bytes != 0 {
        let bytes = i64::try_from(retention.bytes).unwrap_or(i64::MAX);
        limits.push(Bytes(bytes).to_string());
    }
    if retention.percent != 0.0 {
        limits.push(format!("{}%", retention.percent));
    }
    limits.join(" or ")
}

fn compression(typed: &Typed<'_>) -> Result<Compression> {
    if !typed.switch("storage.tsdb.wal-compression") {
        return Ok(Compression::None);
    }
    named(typed, "storage.tsdb.wal-compression-type")
}

fn named(typed: &Typed<'_>, flag: &str) -> Result<Compression> {
    match typed.required(flag)? {
        "snappy" => Ok(Compression::Snappy),
        "zstd" => Ok(Compression::Zstd),
        other => {
            let message = format!("{other:?} is no compression; use snappy or zstd");
            Err(typed.error(flag, message).into())
        }
    }
}

fn sync(typed: &Typed<'_>) -> Result<SyncMode> {
    const FLAG: &str = "storage.tsdb.wal-sync-interval";
    match typed.required(FLAG)? {
        "always" => Ok(SyncMode::Always),
        text => match parse_duration(text) {
            Ok(ms) if ms > 0 => Ok(SyncMode::Interval(span(ms))),
            Ok(_) => Err(typed.error(FLAG, "must be positive, or 'always'").into()),
            Err(e) => Err(typed.error(FLAG, e).into()),
        },
    }
}

/// Queries.
pub struct Queries {
    /// How far back an instant selector looks, ms.
    pub lookback: Millis,
    /// How long a query may take.
    pub timeout: Duration,
    /// How many run at once.
    pub concurrency: usize,
    /// How many samples one may hold.
    pub max_samples: u64,
    /// Which optional parts of the language are on.
    pub features: Features,
    /// `stats=all` says the samples of each step.
    pub per_step_stats: bool,
    /// Metric names are dropped at the very end.
    pub delayed_name_removal: bool,
    /// Functions over counters mind when a counter started.
    pub start_timestamps: bool,
    /// Whether scraped series have type and unit among their labels.
    pub type_and_unit: bool,
    /// The largest limit of a search, 0 for any; none: there is no search.
    pub search: Option<usize>,
    /// Features that were asked for and mean nothing to us.
    pub unknown_features: Vec<String>,
}

impl Queries {
    /// As the flags say.
    pub fn from_flags(typed: &Typed<'_>) -> Result<Self, FlagError> {
        let mut features = Features {
            x_functions: typed.switch("query.enable-x-functions"),
            ..Features::default()
        };
        let mut per_step_stats = false;
        let (mut delayed_name_removal, mut start_timestamps) = (false, false);
        let (mut type_and_unit, mut search) = (false, false);
        let mut unknown_features = Vec::new();
        for name in typed
            .list("enable-feature")
            .into_iter()
            .flat_map(|l| l.split(','))
        {
            match name.trim() {
                "" => {}
                "promql-per-step-stats" => per_step_stats = true,
                "promql-delayed-name-removal" => delayed_name_removal = true,
                "use-start-timestamps" => start_timestamps = true,
                "type-and-unit-labels" => type_and_unit = true,
                "search-api" => search = true,
                name if features.enable(name) => {}
                // Those that other rooms ask for.
                "auto-reload-config"
                | "created-timestamp-zero-ingestion"
                | "st-storage"
                | "metadata-wal-records"
                | "otlp-native-delta-ingestion" => {}
                // Always on here, or absorbed by Prometheus 3: charts still pass them.
                "concurrent-rule-eval"
                | "native-histograms"
                | "ooo-native-histograms"
                | "exemplar-storage"
                | "promql-duration-expr"
                | "promql-at-modifier"
                | "promql-negative-offset"
                | "remote-write-receiver"
                | "utf8-names"
                | "expand-external-labels"
                | "no-default-scrape-port"
                | "new-service-discovery-manager"
                | "auto-gomemlimit"
                | "auto-gomaxprocs" => {}
                other => unknown_features.push(other.to_owned()),
            }
        }
        Ok(Self {
            lookback: typed.duration("query.lookback-delta")?,
            timeout: span(typed.duration("query.timeout")?),
            concurrency: typed.number("query.max-concurrency")?,
            max_samples: typed.number("query.max-samples")?,
            features,
            per_step_stats,
            delayed_name_removal,
            start_timestamps,
            type_and_unit,
            search: match search {
                true => Some(typed.number("web.search.max-limit")?),
                false => None,
            },
            unknown_features,
        })
    }
}

/// The bucket, if there is one.
pub struct Bucket {
    /// How it is reached.
    pub config: bucket::Config,
    /// Whether merged blocks are shipped too.
    pub upload_compacted: bool,
    /// How often blocks to ship are looked for.
    pub ship_every: Duration,
    /// How often new blocks in the bucket are looked for.
    pub list_every: Duration,
    /// Where index-headers and metas are kept; all of it can be had again.
    pub cache_dir: PathBuf,
    /// What compacts it in this process, if anything does.
    pub compaction: Option<Compaction>,
}

/// How this process' blocks in the bucket are compacted.
#[derive(Clone)]
pub struct Compaction {
    /// What is done.
    pub options: compact::Options,
    /// When.
    pub pace: crate::compaction::Pace,
}

impl Bucket {
    /// As the flags say; `local` is the folder of a filesystem bucket when none is named.
    pub fn from_flags(
        typed: &Typed<'_>,
        local: Option<&Path>,
        cache_dir: PathBuf,
    ) -> Result<Option<Self>> {
        let inline = typed.text("objstore.config").filter(|t| !t.is_empty());
        let file = typed.text("objstore.config-file").filter(|t| !t.is_empty());
        let (flag, text) = match (inline, file) {
            (Some(_), Some(_)) => {
                let message = "cannot be given together with --objstore.config-file";
                return Err(typed.error("objstore.config", message).into());
            }
            (Some(text), None) => ("objstore.config", text.to_owned()),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|e| typed.error("objstore.config-file", format!("{file}: {e}")))?;
                ("objstore.config-file", text)
            }
            (None, None) => match local {
                None => return Ok(None),
                Some(dir) => {
                    let dir = serde_json::to_string(&dir.display().to_string())?;
                    (
                        "data-dir",
                        format!("type: FILESYSTEM\nconfig:\n  directory: {dir}\n"),
                    )
                }
            },
        };
        Ok(Some(Self {
            config: bucket::Config::parse(&text).map_err(|e| typed.error(flag, e))?,
            upload_compacted: typed.switch("shipper.upload-compacted"),
            ship_every: span(typed.duration("shipper.sync-interval")?),
            list_every: span(typed.duration("store.sync-interval")?),
            cache_dir,
            compaction: None,
        }))
    }
}

pub(super) fn path(typed: &Typed<'_>, flag: &str) -> Option<PathBuf> {
    typed
        .text(flag)
        .filter(|t| !t.is_empty())
        .map(PathBuf::from)
}

/// Whether a feature was asked for.
pub fn asked(typed: &Typed<'_>, feature: &str) -> bool {
    let lists = typed.list("enable-feature").into_iter();
    lists
        .flat_map(|l| l.split(','))
        .any(|f| f.trim() == feature)
}

/// The computer's name.
pub fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
