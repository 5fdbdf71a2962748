//! Single duties of the compactor: `downsample`, `cleanup`, `retention`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use compact::{Compactor, Options, catalog_options};
use model::Cancel;
use model::time::{WallClock, span};

use crate::compaction::claims;
use crate::flags::{compact as flags, thanos};
use crate::house::life::Life;
use crate::kingpin::{Flag, Typed, value};
use crate::logging;
use crate::roles::compact::{hash_func, retention as kept, selection};
use crate::tools::progress;

const CONSISTENCY: Flag = value(
    "consistency-delay",
    "30m",
    "Minimum age of fresh (non-compacted) blocks before they are being processed.",
);

/// The flags of `downsample`.
pub const DOWNSAMPLE: &[&[Flag]] = &[
    &[
        value(
            "wait-interval",
            "5m",
            "Wait interval between downsample runs.",
        ),
        value(
            "downsample.concurrency",
            "1",
            "Number of downsamplings at once.",
        ),
        value(
            "block-files-concurrency",
            "1",
            "Number of files of a block that are fetched or uploaded at once.",
        )
        .accepted("blocks are read where they lie"),
        value(
            "data-dir",
            "./data",
            "Data directory in which indexes lie until their blocks are whole.",
        ),
        value(
            "hash-func",
            "",
            "Specify which hash function to use when calculating the hashes of produced files: \"\" or SHA256.",
        ),
    ],
    flags::SELECT,
    flags::DISCOVERY,
    thanos::HTTP,
    thanos::OBJSTORE,
    logging::FLAGS,
];

/// The flags of `cleanup`.
pub const CLEANUP: &[&[Flag]] = &[
    &[
        value(
            "delete-delay",
            "48h",
            "Time before a block marked for deletion is deleted from bucket.",
        ),
        CONSISTENCY,
        value(
            "block-sync-concurrency",
            "20",
            "Number of requests at once when fetching block metadata.",
        ),
    ],
    flags::SELECT,
    thanos::OBJSTORE,
    logging::FLAGS,
];

/// The flags of `retention`.
pub const RETENTION: &[&[Flag]] = &[
    &[
        CONSISTENCY,
        value(
            "block-sync-concurrency",
            "20",
            "Number of requests at once when fetching block metadata.",
        ),
        value(
            "data-dir",
            "./data",
            "Data directory in which indexes lie until blocks are whole that are written again without some series.",
        ),
    ],
    flags::RETENTION,
    flags::SELECT,
    thanos::OBJSTORE,
    logging::FLAGS,
];

/// Has a compactor do its duty until that is done or a signal comes. Then others may work on the
/// bucket, whether it succeeded or not.
async fn on_duty<F>(
    typed: &Typed<'_>,
    options: Options,
    consistency: Duration,
    duty: impl FnOnce(Arc<Compactor>, Cancel) -> F,
) -> Result<ExitCode>
where
    F: Future<Output = Result<(), compact::Error>>,
{
    let (life, stop) = (Arc::new(Life::start()?), Cancel::default());
    let (told, stopped) = (Arc::clone(&life), stop.clone());
    tokio::spawn(async move {
        told.told_to_stop().await;
        stopped.cancel();
    });
    let bucket = super::open(typed)?;
    let options = Options {
        on_step: Some(progress::steps(&bucket)),
        ..options
    };
    let claims = claims(&bucket, None, Duration::from_secs(120), false, &stop).await?;
    let base = bucket::CatalogOptions {
        consistency_delay: consistency,
        on_read: Some(progress::looks()),
        ..selection(typed)?
    };
    let registry = metrics::Registry::new();
    let catalog = bucket::Catalog::new(bucket, catalog_options(base), &registry)?;
    let compactor = Compactor::new(Arc::new(catalog), claims, options, stop.clone(), &registry)?;
    let compactor = Arc::new(compactor);
    let done = duty(Arc::clone(&compactor), stop).await;
    compactor.end().await;
    match done {
        Ok(()) => tracing::info!("done"),
        Err(compact::Error::Stopped) => tracing::info!("stopped before all was done"),
        Err(e) => return Err(e.into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn options(data_dir: impl Into<PathBuf>) -> Options {
    Options::new(data_dir.into(), Arc::new(WallClock))
}

/// Runs `downsample`: again and again, unless there is no interval.
pub fn downsample(typed: &Typed<'_>) -> Result<ExitCode> {
    let options = Options {
        downsample_concurrency: typed.number("downsample.concurrency")?,
        hash: hash_func(typed)?,
        ..options(Path::new(typed.required("data-dir")?).join("downsample"))
    };
    let pause = span(typed.duration("wait-interval")?);
    let duty = async move |compactor: Arc<Compactor>, stop: Cancel| {
        loop {
            compactor.downsample_all().await?;
            if pause.is_zero() {
                return Ok(());
            }
            tracing::info!(wait = ?pause, "downsampled; --wait-interval=0s would end here");
            if tokio::time::timeout(pause, stop.cancelled()).await.is_ok() {
                return Ok(());
            }
        }
    };
    crate::runtime::run(on_duty(typed, options, Duration::ZERO, duty))
}

/// Runs `cleanup`.
pub fn cleanup(typed: &Typed<'_>) -> Result<ExitCode> {
    let options = Options {
        delete_delay: span(typed.duration("delete-delay")?),
        // It writes nothing there.
        ..options("")
    };
    let consistency = span(typed.duration("consistency-delay")?);
    let duty = async |compactor: Arc<Compactor>, _| compactor.clean().await;
    crate::runtime::run(on_duty(typed, options, consistency, duty))
}

/// Runs `retention`.
pub fn retention(typed: &Typed<'_>) -> Result<ExitCode> {
    let options = Options {
        retention: kept(typed)?,
        delete_delay: span(typed.duration("delete-delay")?),
        ..options(Path::new(typed.required("data-dir")?).join("retention"))
    };
    let consistency = span(typed.duration("consistency-delay")?);
    let duty = async |compactor: Arc<Compactor>, _| compactor.retain_all().await;
    crate::runtime::run(on_duty(typed, options, consistency, duty))
}
