//! `epimetheus compact`: compact, downsample, retain and clean a bucket, with Thanos' flags.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use bucket::{Bucket, Catalog, CatalogOptions};
use compact::claims::{Claims, Settings as ClaimSettings};
use compact::{Compactor, Options, catalog_options};
use model::Cancel;
use model::time::{WallClock, span};
use parking_lot::Mutex;
use serde_json::json;
use wire::grpc::Routes;

use crate::blocks::{self, Blocks};
use crate::flags::{compact as flags, thanos};
use crate::house::settings::hostname;
use crate::kingpin::{Flag, Typed};
use crate::outpost::{Outpost, Settings};
use crate::{limits, logging};

use settings::options;
pub use settings::{hash_func, objstore, retention, selection};

mod settings;

/// The flags of this role.
pub const FLAGS: &[&[Flag]] = &[
    flags::COMPACT,
    flags::RETENTION,
    flags::SELECT,
    flags::DISCOVERY,
    thanos::HTTP,
    thanos::GLOBAL,
    thanos::OBJSTORE,
    thanos::WEB,
    limits::FLAGS,
    logging::FLAGS,
];

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

    let mut shown = outpost.options();
    if conduct.pages {
        shown.more_pages = vec!["blocks", "loaded"];
    }
    let mut app = api::router(shown);
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
