//! `epimetheus compact`: compact, downsample, retain and clean a bucket, with Thanos' flags.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use block::merge::Overlap;
use bucket::catalog::{Strategy, relabel_filter};
use bucket::{Bucket, Catalog, CatalogOptions};
use compact::claims::{Claims, Settings as ClaimSettings};
use compact::output::HashFunc;
use compact::plan::{Planner, RANGES};
use compact::retention::{Keep, Retention};
use compact::{Compactor, Options, catalog_options};
use model::time::{WallClock, span};
use model::{Cancel, Millis};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use wire::grpc::Routes;

use crate::blocks::{self, Blocks};
use crate::flags::{compact as flags, thanos};
use crate::house::settings::hostname;
use crate::kingpin::{Flag, Typed};
use crate::outpost::{Outpost, Settings, content, moment};
use crate::{limits, logging};

/// The flags of this role.
pub const FLAGS: &[&[Flag]] = &[
    flags::COMPACT,
    flags::RETENTION,
    flags::SELECT,
    flags::DISCOVERY,
    flags::HTTP,
    flags::GLOBAL,
    thanos::OBJSTORE,
    thanos::WEB,
    limits::FLAGS,
    logging::FLAGS,
];

/// After so long nobody goes on with an upload.
const PARTIAL_AGE: Duration = Duration::from_secs(48 * 3600);

/// When the role looks.
struct Times {
    wait: Option<Duration>,
    cleanup: Duration,
    progress: Duration,
    global: Duration,
    global_timeout: Duration,
}

/// How the role differs from what the compactor does.
struct Conduct {
    times: Times,
    claim: Duration,
    ends_on_halt: bool,
    pages: bool,
    label: String,
    admin: bool,
}

/// The bucket that the flags name.
pub fn objstore(typed: &Typed<'_>) -> Result<bucket::Config> {
    let config = content(typed, "objstore.config")?
        .context("a bucket is needed: give --objstore.config-file or --objstore.config")?;
    Ok(bucket::Config::parse(&config).map_err(|e| typed.error("objstore.config", e))?)
}

/// Which blocks the flags select; tables [`flags::SELECT`] and [`flags::DISCOVERY`].
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

/// A rule of `--retention.config`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetentionRule {
    selector: String,
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
        rules: Vec::new(),
    };
    if let Some(text) = content(typed, "retention.config")? {
        let wrong = |e: String| typed.error("retention.config", e);
        let rules: Vec<RetentionRule> = wire::yaml(&text).map_err(wrong)?;
        for rule in rules {
            let matchers = promql::parse::parse_selector(&rule.selector)
                .map_err(|e| wrong(format!("selector {:?}: {e}", rule.selector)))?;
            let ms = |text: &str| match text {
                "" => Ok(0),
                text => model::time::parse_duration(text).map_err(|e| wrong(e.to_string())),
            };
            let keep = Keep {
                raw: ms(&rule.raw)?,
                five_minutes: ms(&rule.five_minutes)?,
                hour: ms(&rule.hour)?,
            };
            retention.rules.push((matchers, keep));
        }
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
fn options(typed: &Typed<'_>) -> Result<Options> {
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
    let retention = retention(typed)?;
    let downsampling = !typed.switch("downsampling.disable");
    if downsampling {
        check_retention(&retention)?;
    }
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
        clock: Arc::new(WallClock),
    })
}

/// Runs the role.
pub fn run(typed: &Typed<'_>) -> Result<ExitCode> {
    logging::init(typed)?;
    let settings = Settings::without_grpc(typed, "compact")?;
    let config = objstore(typed)?;
    let options = options(typed)?;
    let data_dir = std::path::PathBuf::from(typed.required("data-dir")?);
    let catalog = CatalogOptions {
        cache_dir: Some(data_dir),
        consistency_delay: span(typed.duration("consistency-delay")?),
        ..selection(typed)?
    };
    let wait = typed.switch("wait");
    let conduct = Conduct {
        times: Times {
            wait: wait
                .then(|| typed.duration("wait-interval").map(span))
                .transpose()?,
            cleanup: span(typed.duration("compact.cleanup-interval")?),
            progress: span(typed.duration("compact.progress-interval")?),
            global: span(typed.duration("block-viewer.global.sync-block-interval")?),
            global_timeout: span(typed.duration("block-viewer.global.sync-block-timeout")?),
        },
        claim: span(typed.duration("compact.claim-duration")?).max(Duration::from_secs(3)),
        ends_on_halt: !typed.switch("debug.halt-on-error"),
        pages: wait && !typed.switch("web.disable"),
        label: typed
            .text("bucket-web-label")
            .unwrap_or_default()
            .to_owned(),
        admin: !typed.switch("disable-admin-operations"),
    };
    super::warn_without_effect(typed);
    crate::runtime::run(live(settings, config, catalog, options, conduct))
}

async fn live(
    settings: Settings,
    config: bucket::Config,
    catalog: CatalogOptions,
    options: Options,
    conduct: Conduct,
) -> Result<ExitCode> {
    let outpost = Outpost::open(settings).await?;
    let (registry, stop, life) = (
        outpost.registry.clone(),
        outpost.stop.clone(),
        outpost.life.clone(),
    );
    let bucket = bucket::open(&config, &registry)?;
    // What an earlier process did not finish is of no use to this one.
    if let Err(e) = std::fs::remove_dir_all(&options.data_dir)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        bail!("removing {}: {e}", options.data_dir.display());
    }
    // The page shows all there is, whatever this role works with.
    let all = CatalogOptions {
        interval: conduct.times.global,
        deduplicate: false,
        ignore_deletion_marks_delay: None,
        strategy: catalog.strategy,
        ..CatalogOptions::default()
    };
    let global = Catalog::new(Arc::clone(&bucket), all, &metrics::Registry::new())?;
    let global = Arc::new(global);
    let catalog = Catalog::new(Arc::clone(&bucket), catalog_options(catalog), &registry)?;
    let catalog = Arc::new(catalog);
    let current: Arc<Mutex<Option<Arc<Compactor>>>> = Arc::default();

    let mut app = api::router(outpost.options());
    if conduct.pages {
        let compactor = Arc::clone(&current);
        app = app.merge(blocks::router(Blocks {
            bucket: Arc::clone(&bucket),
            label: conduct.label.clone(),
            global: Arc::clone(&global),
            loaded: Some(Arc::clone(&catalog)),
            plan: Some(Arc::new(move || plan_of(compactor.lock().as_deref()))),
            admin: conduct.admin,
        }));
        let (stop, timeout) = (stop.clone(), conduct.times.global_timeout);
        tokio::spawn(async move {
            let first = tokio::time::timeout(timeout, global.sync()).await;
            if let Ok(Err(error)) = first {
                tracing::warn!(%error, "the bucket cannot be listed for the page");
            }
            global.run(stop).await;
        });
    }
    let failure: Arc<Mutex<Option<anyhow::Error>>> = Arc::default();
    let work = {
        let (failure, stop, life) = (Arc::clone(&failure), stop.clone(), life.clone());
        tokio::spawn(async move {
            let worked = work(bucket, catalog, options, conduct, current, stop, registry).await;
            *failure.lock() = worked.err();
            life.quit();
        })
    };
    let served = outpost
        .serve_app(app, Routes::default(), async { Ok(()) })
        .await;
    // Claims are let go of before the process ends.
    let _ = tokio::time::timeout(Duration::from_secs(30), work).await;
    let code = served?;
    match failure.lock().take() {
        None => Ok(code),
        Some(e) => Err(e),
    }
}

/// What a compactor would do, for the page.
fn plan_of(compactor: Option<&Compactor>) -> serde_json::Value {
    let Some(compactor) = compactor else {
        return json!({ "todo": null, "halted": {} });
    };
    let todo = compactor.todo();
    json!({
        "todo": {
            "compactions": todo.compactions,
            "blocks": todo.blocks,
            "bytes": todo.bytes,
            "downsamples": todo.downsamples,
            "deletions": todo.deletions,
        },
        "halted": compactor.halted(),
    })
}

/// Begins to claim; with `patient`, waits for a bucket that is away or that another one has alone.
pub async fn claims(
    bucket: &Arc<Bucket>,
    hold: Duration,
    patient: bool,
    stop: &Cancel,
) -> Result<Arc<Claims>> {
    let owner = format!(
        "{}-{}-{}",
        hostname(),
        std::process::id(),
        ulid::Ulid::generate()
    );
    let mut pause = Duration::from_secs(1);
    loop {
        let settings = ClaimSettings {
            owner: owner.clone(),
            time_to_live: hold,
            clock: Arc::new(WallClock),
        };
        match Claims::begin(Arc::clone(bucket), settings).await {
            Ok(claims) => {
                if !claims.shared() {
                    tracing::warn!(
                        bucket = bucket.name(),
                        "this bucket has no conditional writes: only one compactor can work on it"
                    );
                }
                return Ok(claims);
            }
            Err(error) if patient && !stop.is_cancelled() => {
                tracing::warn!(%error, "cannot begin; trying again");
                let _ = tokio::time::timeout(pause, stop.cancelled()).await;
                pause = (pause * 2).min(Duration::from_secs(30));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn work(
    bucket: Arc<Bucket>,
    catalog: Arc<Catalog>,
    options: Options,
    conduct: Conduct,
    current: Arc<Mutex<Option<Arc<Compactor>>>>,
    stop: Cancel,
    registry: metrics::Registry,
) -> Result<()> {
    let times = &conduct.times;
    let claims = claims(&bucket, conduct.claim, times.wait.is_some(), &stop).await?;
    let compactor = Compactor::new(
        catalog,
        Arc::clone(&claims),
        options,
        stop.clone(),
        &registry,
    )?;
    let compactor = Arc::new(compactor);
    *current.lock() = Some(Arc::clone(&compactor));
    let worked = match times.wait {
        None => {
            let worked = compactor.iterate().await;
            let halted = compactor.halted();
            match (worked, halted.iter().next()) {
                (Err(e), _) => Err(anyhow::Error::new(e)),
                (Ok(()), Some((group, why))) => Err(anyhow::anyhow!(
                    "{} of the groups are set aside; group {group}: {why}",
                    halted.len()
                )),
                (Ok(()), None) => Ok(()),
            }
        }
        Some(wait) => {
            let background = [
                tokio::spawn(cleaning(Arc::clone(&compactor), times.cleanup)),
                tokio::spawn(telling(Arc::clone(&compactor), times.progress)),
            ];
            let worked = again_and_again(&compactor, wait, conduct.ends_on_halt, &stop).await;
            background.iter().for_each(|task| task.abort());
            worked
        }
    };
    claims.end().await;
    worked
}

async fn again_and_again(
    compactor: &Compactor,
    wait: Duration,
    ends_on_halt: bool,
    stop: &Cancel,
) -> Result<()> {
    while !stop.is_cancelled() {
        let start = std::time::Instant::now();
        match compactor.iterate().await {
            Ok(()) => tracing::info!(seconds = start.elapsed().as_secs_f64(), "iteration done"),
            Err(compact::Error::Stopped) => break,
            Err(error) => tracing::error!(%error, "iteration failed; trying again"),
        }
        if ends_on_halt && let Some((group, why)) = compactor.halted().iter().next() {
            bail!("critical error detected: group {group}: {why}");
        }
        let _ = tokio::time::timeout(wait, stop.cancelled()).await;
    }
    Ok(())
}

/// Cleans beside iterations, which may take long.
async fn cleaning(compactor: Arc<Compactor>, every: Duration) {
    while !every.is_zero() {
        tokio::time::sleep(every).await;
        match compactor.clean().await {
            Ok(()) | Err(compact::Error::Stopped) => {}
            Err(error) => tracing::error!(%error, "cleaning failed; trying again"),
        }
    }
}

/// Tells what is left to do.
async fn telling(compactor: Arc<Compactor>, every: Duration) {
    while !every.is_zero() {
        tokio::time::sleep(every).await;
        compactor.tell(compactor.todo());
    }
}
