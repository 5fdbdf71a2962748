//! `epimetheus compact`: compact, downsample, retain and clean a bucket, with Thanos' flags.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bucket::{Catalog, CatalogOptions};
use compact::{Compactor, Options, catalog_options};
use model::time::span;
use parking_lot::Mutex;
use serde_json::json;
use wire::grpc::Routes;

use crate::blocks::{self, Blocks};
use crate::compaction::{self, Pace};
use crate::flags::{compact as flags, thanos};
use crate::kingpin::{Flag, Typed};
use crate::outpost::{Outpost, Settings};
use crate::{limits, logging};

use settings::options;
pub use settings::{checked_retention, hash_func, objstore, retention, selection};

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

/// What the role does beside compacting.
struct Conduct {
    pace: Pace,
    /// How often the page's blocks are looked for.
    global: Duration,
    /// How long that may take at first.
    global_timeout: Duration,
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
        pace: Pace {
            claim: span(typed.duration("compact.claim-duration")?).max(Duration::from_secs(3)),
            wait: wait
                .then(|| typed.duration("wait-interval").map(span))
                .transpose()?,
            cleanup: span(typed.duration("compact.cleanup-interval")?),
            progress: span(typed.duration("compact.progress-interval")?),
            ends_on_halt: !typed.switch("debug.halt-on-error"),
        },
        global: span(typed.duration("block-viewer.global.sync-block-interval")?),
        global_timeout: span(typed.duration("block-viewer.global.sync-block-timeout")?),
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
    // The page shows all there is, whatever this role works with.
    let all = CatalogOptions {
        interval: conduct.global,
        deduplicate: false,
        ignore_deletion_marks_delay: None,
        strategy: catalog.strategy,
        ..CatalogOptions::default()
    };
    let global = Catalog::new(Arc::clone(&bucket), all, &metrics::Registry::new())?;
    let global = Arc::new(global);
    let catalog = Catalog::new(Arc::clone(&bucket), catalog_options(catalog), &registry)?;
    let catalog = Arc::new(catalog);
    let current = compaction::Current::default();

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
        let (stop, timeout) = (stop.clone(), conduct.global_timeout);
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
            let pace = conduct.pace;
            let worked = compaction::run(catalog, options, pace, current, stop, registry).await;
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
