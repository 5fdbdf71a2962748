//! What the flags of the compactor, and of the bucket's tools, mean.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use block::merge::Overlap;
use bucket::CatalogOptions;
use bucket::catalog::{Strategy, relabel_filter};
use compact::Options;
use compact::output::HashFunc;
use compact::plan::{Planner, RANGES};
use compact::retention::{Keep, Retention, SeriesRule};
use model::Millis;
use model::time::{WallClock, span};
use serde::Deserialize;

use crate::kingpin::Typed;
use crate::outpost::{content, moment};

/// After so long nobody goes on with an upload.
const PARTIAL_AGE: Duration = Duration::from_secs(48 * 3600);

/// The bucket that the flags name.
pub fn objstore(typed: &Typed<'_>) -> Result<bucket::Config> {
    let config = content(typed, "objstore.config")?
        .context("a bucket is needed: give --objstore.config-file or --objstore.config")?;
    Ok(bucket::Config::parse(&config).map_err(|e| typed.error("objstore.config", e))?)
}

/// Which blocks the flags select; tables `SELECT` and `DISCOVERY`.
pub fn selection(typed: &Typed<'_>) -> Result<CatalogOptions> {
    let labels = match content(typed, "selector.relabel-config")? {
        None => None,
        Some(text) => {
            let wrong = |e: String| typed.error("selector.relabel-config", e);
            let list: Vec<model::relabel::Config> = wire::yaml(&text).map_err(wrong)?;
            let rules = model::relabel::compile(&list, model::relabel::NameScheme::Utf8);
            Some(relabel_filter(rules.map_err(|e| wrong(e.to_string()))?))
        }
    };
    let strategy = match typed.text("block-discovery-strategy") {
        Some("recursive") | None => Strategy::Recursive,
        Some("concurrent") => Strategy::Concurrent,
        Some(other) => {
            let message = format!("{other:?} is no strategy; use concurrent or recursive");
            return Err(typed.error("block-discovery-strategy", message).into());
        }
    };
    let concurrency = match typed.text("block-meta-fetch-concurrency") {
        Some(_) => typed.number("block-meta-fetch-concurrency")?,
        None => 32,
    };
    Ok(CatalogOptions {
        strategy,
        concurrency,
        time: (moment(typed, "min-time")?, moment(typed, "max-time")?),
        labels,
        ..CatalogOptions::default()
    })
}

const NO_SELECTOR: &str =
    "a rule needs a selector (for blocks, by their external labels) or series (for series in them)";

/// A rule of `--retention.config`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetentionRule {
    #[serde(default)]
    selector: String,
    #[serde(default)]
    series: String,
    #[serde(default)]
    raw: String,
    #[serde(default, rename = "5m")]
    five_minutes: String,
    #[serde(default, rename = "1h")]
    hour: String,
}

/// How long the flags keep blocks.
pub fn retention(typed: &Typed<'_>) -> Result<Retention> {
    let mut retention = Retention {
        default: Keep {
            raw: typed.duration("retention.resolution-raw")?,
            five_minutes: typed.duration("retention.resolution-5m")?,
            hour: typed.duration("retention.resolution-1h")?,
        },
        ..Retention::default()
    };
    if let Some(text) = content(typed, "retention.config")? {
        let wrong = |e: String| typed.error("retention.config", e);
        let rules: Vec<RetentionRule> = wire::yaml(&text).map_err(wrong)?;
        for rule in rules {
            let matchers = |key: &str, text: &str| {
                promql::parse::parse_selector(text)
                    .map_err(|e| wrong(format!("{key} {text:?}: {e}")))
            };
            let ms = |text: &str| match text {
                "" => Ok(0),
                text => model::time::parse_duration(text).map_err(|e| wrong(e.to_string())),
            };
            let keep = Keep {
                raw: ms(&rule.raw)?,
                five_minutes: ms(&rule.five_minutes)?,
                hour: ms(&rule.hour)?,
            };
            match (rule.selector.as_str(), rule.series.as_str()) {
                ("", "") => return Err(wrong(NO_SELECTOR.to_owned()).into()),
                (blocks, "") => {
                    let blocks = matchers("selector", blocks)?;
                    retention.rules.push((blocks, keep));
                }
                (blocks, series) => retention.series.push(Arc::new(SeriesRule {
                    blocks: match blocks {
                        "" => Vec::new(),
                        blocks => matchers("selector", blocks)?,
                    },
                    series: matchers("series", series)?,
                    text: rule.series.clone(),
                    keep,
                })),
            }
        }
    }
    Ok(retention)
}

/// How long the flags keep blocks, which must be long enough to downsample them where that is done.
pub fn checked_retention(typed: &Typed<'_>, downsampling: bool) -> Result<Retention> {
    let retention = retention(typed)?;
    if downsampling {
        check_retention(&retention)?;
    }
    Ok(retention)
}

/// Refuses to throw data away before it can be downsampled.
fn check_retention(retention: &Retention) -> Result<()> {
    use compact::downsample::plan::{LENGTH_FOR_FIVE_MINUTES, LENGTH_FOR_HOUR};
    let keeps = retention.rules.iter().map(|(_, keep)| keep);
    for keep in keeps.chain([&retention.default]) {
        let short = |ms: Millis, least: Millis| ms > 0 && ms < least;
        if short(keep.raw, LENGTH_FOR_FIVE_MINUTES) {
            bail!(
                "raw resolution must be higher than the minimum block size after which 5m resolution downsampling will occur (40 hours)"
            );
        }
        if short(keep.five_minutes, LENGTH_FOR_HOUR) {
            bail!(
                "5m resolution retention must be higher than the minimum block size after which 1h resolution downsampling will occur (10 days)"
            );
        }
    }
    Ok(())
}

/// The hash function that `--hash-func` names.
pub fn hash_func(typed: &Typed<'_>) -> Result<HashFunc> {
    match typed.text("hash-func").unwrap_or_default() {
        "" => Ok(HashFunc::None),
        "SHA256" => Ok(HashFunc::Sha256),
        other => {
            let message = format!("{other:?} is no hash function; use \"\" or SHA256");
            Err(typed.error("hash-func", message).into())
        }
    }
}

/// What the flags say about compaction.
pub fn options(typed: &Typed<'_>) -> Result<Options> {
    let level: usize = typed.number("debug.max-compaction-level")?;
    let Some(ranges) = RANGES.get(..=level) else {
        let message = format!("{level} is too high; the highest is {}", RANGES.len() - 1);
        return Err(typed.error("debug.max-compaction-level", message).into());
    };
    let replica_labels: Vec<String> = typed
        .list("deduplication.replica-label")
        .into_iter()
        .map(String::from)
        .collect();
    let overlap = match typed.required("deduplication.func")? {
        "" => Overlap::Unite,
        "penalty" if replica_labels.is_empty() => {
            let message = "penalty needs --deduplication.replica-label";
            return Err(typed.error("deduplication.func", message).into());
        }
        "penalty" => Overlap::Penalty,
        other => {
            let message = format!("{other:?} is no way to deduplicate; use \"\" or penalty");
            return Err(typed.error("deduplication.func", message).into());
        }
    };
    let downsampling = !typed.switch("downsampling.disable");
    let retention = checked_retention(typed, downsampling)?;
    Ok(Options {
        planner: Planner {
            ranges: ranges.to_vec(),
            max_index_size: typed.bytes("compact.block-max-index-size")?,
        },
        vertical: typed.switch("compact.enable-vertical-compaction") || !replica_labels.is_empty(),
        replica_labels,
        overlap,
        skip_out_of_order: typed.switch("compact.skip-block-with-out-of-order-chunks"),
        downsampling,
        concurrency: typed.number("compact.concurrency")?,
        downsample_concurrency: typed.number("downsample.concurrency")?,
        retention,
        delete_delay: span(typed.duration("delete-delay")?),
        partial_age: PARTIAL_AGE.max(span(typed.duration("consistency-delay")?)),
        hash: hash_func(typed)?,
        data_dir: std::path::PathBuf::from(typed.required("data-dir")?).join("compact"),
        on_step: None,
        clock: Arc::new(WallClock),
    })
}
