//! `epimetheus store`: StoreAPI over the blocks in a bucket, with Thanos' flags.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use api::ready::State;
use bucket::catalog::{Strategy, relabel_filter};
use bucket::{Catalog, CatalogOptions};
use model::TimeRange;
use store::{Gateway, GatewayOptions, Serve, ServeOptions, TierConfig};
use tokio::runtime::Handle;

use model::time::span;

use crate::blocks::{self, Blocks};
use crate::kingpin::{Flag, FlagError, Typed};
use crate::outpost::{Outpost, Settings, content, moment};
use crate::{flags::thanos, limits, logging};

/// The flags of this role.
pub const FLAGS: &[&[Flag]] = &[
    thanos::STORE,
    thanos::HTTP,
    thanos::GRPC,
    thanos::REQUESTS,
    thanos::GLOBAL,
    thanos::LIMITS,
    thanos::OBJSTORE,
    thanos::WEB,
    limits::FLAGS,
    logging::FLAGS,
];

/// The first listing may take so long before the store goes on without it, if it can.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the role.
pub fn run(typed: &Typed<'_>) -> Result<ExitCode> {
    logging::init(typed)?;
    let settings = Settings::from_flags(typed, "store")?;
    let config = content(typed, "objstore.config")?
        .context("a bucket is needed: give --objstore.config-file or --objstore.config")?;
    let config = bucket::Config::parse(&config).map_err(|e| typed.error("objstore.config", e))?;
    let data_dir = std::path::PathBuf::from(typed.required("data-dir")?);
    let labels = match content(typed, "selector.relabel-config")? {
        None => None,
        Some(text) => {
            let wrong = |e: String| typed.error("selector.relabel-config", e);
            let list: Vec<model::relabel::Config> = wire::yaml(&text).map_err(wrong)?;
            let rules = model::relabel::compile(&list, model::relabel::NameScheme::Utf8);
            Some(relabel_filter(rules.map_err(|e| wrong(e.to_string()))?))
        }
    };
    let strategy = match typed.required("block-discovery-strategy")? {
        "concurrent" => Strategy::Concurrent,
        "recursive" => Strategy::Recursive,
        other => {
            let message = format!("{other:?} is no strategy; use concurrent or recursive");
            return Err(typed.error("block-discovery-strategy", message).into());
        }
    };
    let catalog = CatalogOptions {
        strategy,
        cache_dir: Some(data_dir.clone()),
        concurrency: typed.number("block-meta-fetch-concurrency")?,
        time: (moment(typed, "min-time")?, moment(typed, "max-time")?),
        labels,
        consistency_delay: span(typed.duration("consistency-delay")?),
        ignore_deletion_marks_delay: Some(span(typed.duration("ignore-deletion-marks-delay")?)),
        interval: span(typed.duration("sync-block-duration")?),
        ..CatalogOptions::default()
    };
    let tier = |flag: &str, read: fn(&str) -> Result<TierConfig, String>| {
        let Some(text) = content(typed, flag)? else {
            return Ok(None);
        };
        let config = read(&text).map_err(|e| typed.error(flag, e))?;
        for warning in &config.warnings {
            tracing::warn!("--{flag}: {warning}");
        }
        Ok::<_, FlagError>(Some(config))
    };
    let index_cache = tier("index-cache.config", TierConfig::index_cache)?;
    let caching_bucket = tier("store.caching-bucket.config", TierConfig::caching_bucket)?;
    let memory = |tier: &Option<TierConfig>| tier.as_ref().map_or(0, TierConfig::memory);
    let gateway = GatewayOptions {
        data_dir: typed.switch("cache-index-header").then_some(data_dir),
        // A configured cache in memory stands in the place of the flag's, as in Thanos.
        cache_bytes: match memory(&index_cache) {
            0 => typed.bytes("index-cache-size")?,
            bytes => bytes,
        }
        .saturating_add(memory(&caching_bucket)),
        touched_limit: typed.bytes("store.grpc.downloaded-bytes-limit")?,
        header_idle: Some(span(
            typed.duration("store.index-header-lazy-reader-idle-timeout")?,
        )),
        ..GatewayOptions::default()
    };
    let limit = |new: &str, old: &str| -> Result<u64> {
        let (new, old) = (typed.number::<u64>(new)?, typed.number::<u64>(old)?);
        Ok(if new > 0 { new } else { old })
    };
    let serve = ServeOptions {
        component: "store".to_owned(),
        series_limit: limit(
            "store.limits.request-series",
            "store.grpc.touched-series-limit",
        )?,
        sample_limit: limit(
            "store.limits.request-samples",
            "store.grpc.series-sample-limit",
        )?,
        concurrency: typed.number("store.grpc.series-max-concurrency")?,
        ..ServeOptions::default()
    };
    super::warn_without_effect(typed);
    let pages = (!typed.switch("web.disable"))
        .then(|| typed.switch("disable-admin-operations"))
        .map(|closed| !closed);
    let tiers = (index_cache, caching_bucket);
    crate::runtime::run(live(
        settings, config, catalog, gateway, tiers, serve, pages,
    ))
}

async fn live(
    settings: Settings,
    config: bucket::Config,
    catalog: CatalogOptions,
    mut gateway: GatewayOptions,
    (index_cache, caching_bucket): (Option<TierConfig>, Option<TierConfig>),
    serve: ServeOptions,
    pages: Option<bool>,
) -> Result<ExitCode> {
    let prefix = settings.route_prefix.clone();
    let outpost = Outpost::open(settings).await?;
    let (registry, ready) = (outpost.registry.clone(), outpost.life.ready.clone());
    let open = |tier: Option<TierConfig>, name: &str| match tier {
        None => Ok(None),
        Some(tier) => tier.open(name, &registry).map_err(anyhow::Error::msg),
    };
    gateway.index_tier = open(index_cache, "index-cache")?;
    gateway.chunk_tier = open(caching_bucket, "caching-bucket")?;
    let bucket = bucket::open(&config, &registry)?;
    let catalog = Arc::new(Catalog::new(Arc::clone(&bucket), catalog, &registry)?);
    let gateway = Gateway::new(Arc::clone(&catalog), gateway, Handle::current(), &registry)?;
    let serve = ServeOptions {
        memory: Arc::clone(&outpost.memory().queries),
        request_memory: outpost.memory().per_query,
        ready: Arc::new(move || ready.get() == State::Ready),
        range: Arc::new(|| TimeRange::ALL),
        ..serve
    };
    let serve = Serve::new(Arc::new(gateway), serve, Handle::current(), &registry)?;
    let routes = serve.routes();
    let mut options = outpost.options();
    let shown = pages.map(|admin| {
        options.more_pages = vec!["loaded"];
        blocks::router(Blocks {
            bucket,
            label: String::new(),
            global: Arc::clone(&catalog),
            loaded: Some(Arc::clone(&catalog)),
            plan: None,
            admin,
        })
    });
    let app = api::router(options).merge(shown.unwrap_or_default());
    let app = wire::server::prefix::mount(app, &prefix);
    let stop = outpost.stop.clone();
    let opened = async move {
        listed(&catalog).await;
        tokio::spawn(async move { catalog.run(stop).await });
        Ok(())
    };
    outpost.serve_app(app, routes, opened).await
}

/// Waits until there is something to answer from: the bucket was listed, or it is away and an earlier
/// process knew some of its blocks. What is missing then is said with every answer.
async fn listed(catalog: &Catalog) {
    let mut pause = Duration::from_secs(1);
    loop {
        let mut look = std::pin::pin!(catalog.sync());
        let early = tokio::time::timeout(PATIENCE, &mut look).await;
        let failed = match &early {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        if let Some(error) = failed {
            let blocks = catalog.recall().await;
            if blocks > 0 {
                tracing::warn!(
                    error,
                    blocks,
                    "the bucket cannot be listed; answering from the blocks that were there before, as far as their data is at hand"
                );
                return;
            }
        }
        // A listing may take its time where nothing is known without it.
        let looked = match early {
            Ok(looked) => looked,
            Err(_) => look.await,
        };
        match looked {
            Ok(change) => {
                tracing::info!(blocks = change.added.len(), "listed the bucket");
                return;
            }
            Err(error) => tracing::warn!(%error, "the bucket cannot be listed; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(30));
    }
}
