//! Compacting a bucket once or again and again: what `compact` does alone, and `all-in-one` beside
//! everything else. Blocks are made on threads of their own, never on those that serve.

mod place;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use bucket::{Bucket, Catalog};
use compact::claims::{Claims, Settings};
use compact::{Compactor, Options};
use model::Cancel;
use model::time::WallClock;
use parking_lot::Mutex;

use crate::house::settings::hostname;
use place::Place;

/// When a compactor does what, and what ends it.
#[derive(Clone, Debug)]
pub struct Pace {
    /// How long a claim holds that is not extended.
    pub claim: Duration,
    /// How long it waits between two iterations; none: one iteration and no more.
    pub wait: Option<Duration>,
    /// How often it cleans beside iterations; zero: never.
    pub cleanup: Duration,
    /// How often it tells what is left to do; zero: never.
    pub progress: Duration,
    /// Whether a group that is set aside ends it.
    pub ends_on_halt: bool,
}

impl Default for Pace {
    /// As the flags of `compact` have it, and never ending.
    fn default() -> Self {
        let five_minutes = Duration::from_secs(300);
        Self {
            claim: Duration::from_secs(120),
            wait: Some(five_minutes),
            cleanup: five_minutes,
            progress: five_minutes,
            ends_on_halt: false,
        }
    }
}

/// The compactor, once it has begun.
pub type Current = Arc<Mutex<Option<Arc<Compactor>>>>;

/// Begins to claim, at a place if it has one; with `patient`, waits for a bucket that is away or that another one has alone.
pub async fn claims(
    bucket: &Arc<Bucket>,
    place: Option<&Place>,
    hold: Duration,
    patient: bool,
    stop: &Cancel,
) -> Result<Arc<Claims>> {
    let owner = format!(
        "{}-{}.{}",
        ulid::Ulid::generate(),
        std::process::id(),
        place.map_or_else(hostname, |place| place.name.clone())
    );
    let mut pause = Duration::from_secs(1);
    loop {
        let settings = Settings {
            owner: owner.clone(),
            place: place.map(|place| place.name.clone()),
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

/// Compacts until it is told to stop, or once. A bucket that is away is waited for, unless it is to be done
/// once.
pub async fn run(
    catalog: Arc<Catalog>,
    options: Options,
    pace: Pace,
    current: Current,
    stop: Cancel,
    registry: metrics::Registry,
) -> Result<()> {
    let place = Place::take(&options.data_dir)?;
    // What an earlier process did not finish is of no use to this one.
    if let Err(e) = std::fs::remove_dir_all(&options.data_dir)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        bail!("removing {}: {e}", options.data_dir.display());
    }
    let patient = pace.wait.is_some();
    let claims = claims(catalog.bucket(), place.as_ref(), pace.claim, patient, &stop).await?;
    let compactor = Compactor::new(
        catalog,
        Arc::clone(&claims),
        options,
        stop.clone(),
        &registry,
    )?;
    let compactor = Arc::new(compactor);
    *current.lock() = Some(Arc::clone(&compactor));
    let worked = match pace.wait {
        None => once(&compactor).await,
        Some(wait) => {
            let background = [
                tokio::spawn(cleaning(Arc::clone(&compactor), pace.cleanup)),
                tokio::spawn(telling(Arc::clone(&compactor), pace.progress)),
            ];
            let worked = again_and_again(&compactor, wait, pace.ends_on_halt, &stop).await;
            background.iter().for_each(|task| task.abort());
            worked
        }
    };
    claims.end().await;
    worked
}

async fn once(compactor: &Compactor) -> Result<()> {
    compactor.iterate().await?;
    let halted = compactor.halted();
    match halted.iter().next() {
        Some((group, why)) => bail!(
            "{} of the groups are set aside; group {group}: {why}",
            halted.len()
        ),
        None => Ok(()),
    }
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
