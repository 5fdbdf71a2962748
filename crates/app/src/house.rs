//! The house that `server` and `all-in-one` share: one local database, its targets, and perhaps a
//! bucket, behind one HTTP server.
//!
//! Opening goes in one order, each step using only what stands: configuration (judged in full
//! before anything is touched), listeners (health answers from here on), database (replays), bucket,
//! engine, API, scraping. Closing goes the other way round.

pub mod agent;
pub mod bucket;
pub mod config;
mod delay;
pub mod discovery;
mod front;
mod journal;
pub mod life;
pub mod meters;
pub mod push;
pub mod remote;
pub mod rules;
pub mod settings;
mod signing;
mod told;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use api::ready::State;
use metrics::Registry;
use model::time::{Clock as _, WallClock};
use model::{Millis, Source};
use tokio::runtime::Handle;

use crate::limits::Memory;
use config::{Current, Place};
use front::Front;

/// The commit this was built from, if whoever built it said so.
pub(crate) const REVISION: &str = match option_env!("EPIMETHEUS_REVISION") {
    Some(revision) => revision,
    None => "",
};

/// Everything a house obeys.
pub struct Settings {
    /// `server` or `all-in-one`.
    pub role: &'static str,
    /// Where the configuration comes from.
    pub config: Place,
    /// Start although parts of the configuration are not supported.
    pub allow_unsupported: bool,
    /// External labels to use when the configuration has none.
    pub default_labels: model::Labels,
    /// How often the configuration's files are looked at for changes, if they are.
    pub auto_reload: Option<Duration>,
    /// HTTP.
    pub web: settings::Web,
    /// The local database.
    pub storage: settings::Storage,
    /// Queries.
    pub queries: settings::Queries,
    /// Rules and alerts.
    pub rules: rules::Settings,
    /// What other servers push and read.
    pub push: push::Settings,
    /// The bucket, if blocks are shipped.
    pub bucket: Option<settings::Bucket>,
    /// Memory budgets.
    pub memory: Memory,
    /// Nothing is asked, all is sent on: an agent's storage, instead of the database.
    pub agent: Option<settings::AgentStorage>,
    /// How long sending the rest on may take at the end.
    pub flush_deadline: Duration,
    /// How far from its due time a scrape may begin and still be stamped with it, ms.
    pub timestamp_tolerance: Millis,
    /// Changes of targets are taken over at most this often.
    pub discovery_throttle: Duration,
    /// Where StoreAPI is served, if it is.
    pub grpc: Option<String>,
    /// All flags, for the API.
    pub flags: BTreeMap<String, String>,
    /// Said on standard output once it runs.
    pub banner: Vec<String>,
}

/// Runs a house until it is told to stop.
pub fn run(settings: Settings) -> Result<ExitCode> {
    match settings.agent.clone() {
        Some(storage) => crate::runtime::run(agent::live(settings, storage)),
        None => crate::runtime::run(live(settings)),
    }
}

/// Says what is there to work with, begins to count, and reads the configuration.
fn begin(settings: &Settings) -> Result<(Registry, Arc<Current>)> {
    let Settings {
        queries, memory, ..
    } = settings;
    for name in &queries.unknown_features {
        tracing::warn!(feature = %name, "Unknown option for --enable-feature");
    }
    // The standard library knows the cgroup's cpu.max; both pools ask it.
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    tracing::info!(
        threads,
        memory_limit = memory.total.limit(),
        head = memory.head,
        queries = memory.queries.limit(),
        per_query = memory.per_query,
        "resources (TOKIO_WORKER_THREADS, RAYON_NUM_THREADS and --memory.limit change them)"
    );
    let registry = Registry::new();
    metrics::process(&registry)?;
    let version = env!("CARGO_PKG_VERSION");
    // Dashboards and alerts look for Prometheus'.
    for program in ["prometheus", "epimetheus"] {
        metrics::build_info(&registry, program, version, REVISION, "", "")?;
    }
    let current = Current::load(
        settings.config.clone(),
        settings.allow_unsupported,
        settings.default_labels.clone(),
        queries.features,
        &registry,
    )?;
    let traced = current.loaded().config.tracing.clone();
    if let Some(change) = crate::traces::prepare(traced.map(Into::into))? {
        change.put();
    }
    Ok((registry, Arc::new(current)))
}

/// How targets are scraped, but for exemplars.
fn scraping(settings: &Settings, labels: &model::Labels) -> scrape::Options {
    scrape::Options {
        seed: scrape::seed(&settings::hostname(), labels),
        timestamp_tolerance: settings.timestamp_tolerance,
        external_host: settings.web.external_url.host_str().map(String::from),
        allow_unsupported: settings.allow_unsupported,
        starts: settings.storage.starts != tsdb::Starts::Ignore,
        type_and_unit: settings.queries.type_and_unit,
        metadata: settings.push.metadata,
        ..scrape::Options::default()
    }
}

async fn live(mut settings: Settings) -> Result<ExitCode> {
    let started = WallClock.now();
    let (registry, current) = begin(&settings)?;
    if settings.bucket.is_some() && current.external_labels().is_empty() {
        bail!(
            "shipping blocks needs external labels that tell this server from others: set global.external_labels in {}",
            current.place()
        );
    }
    let stats = Arc::new(tsdb::Stats::new(&registry)?);
    let ships_merged = settings.bucket.as_ref().is_some_and(|b| b.upload_compacted);
    let flags = &mut settings.flags;
    flags.extend(settings.storage.as_flags(ships_merged));
    // A text that is no duration tells a sidecar that this is no Prometheus.
    flags.retain(|name, value| name != "storage.tsdb.retention" || !value.is_empty());
    let kept = front::Kept {
        corruptions: stats.wal_corruptions.clone(),
        retention: Box::new({
            let (storage, current) = (settings.storage.clone(), Arc::clone(&current));
            move || settings::retention_text(storage.retention_under(&current.loaded().config))
        }),
    };
    let mut front = Front::open(&settings, started, &registry, &current, kept).await?;
    let scraping = scrape::Options {
        exemplars: settings.storage.exemplars,
        ..scraping(&settings, &current.external_labels())
    };
    let Settings {
        web,
        storage,
        queries,
        memory,
        ..
    } = settings;

    // The replay may take its time, and computes: not on a thread that serves.
    let hold = bucket::Hold::default();
    let db = tokio::task::spawn_blocking({
        let (storage, hold) = (storage.clone(), hold.clone());
        let shipping = settings.bucket.is_some();
        let (current, replay) = (Arc::clone(&current), front.replay.clone());
        move || {
            let config = &current.loaded().config;
            let retention = storage.retention_under(config);
            let hold = shipping.then_some(hold);
            let db = open_db(&storage, retention, stats, hold, ships_merged, replay)?;
            life::apply_storage(&db, &storage, config)?;
            anyhow::Ok(db)
        }
    })
    .await??;
    let db = Arc::new(db);

    let local: Arc<dyn Source> = Arc::clone(&db) as Arc<dyn Source>;
    let mut shipping = None;
    let source: Arc<dyn Source> = match settings.bucket {
        None => local,
        Some(bucket) => {
            let part = bucket::Part::open(
                bucket,
                &storage,
                Arc::clone(&current),
                Arc::clone(&db),
                &hold,
                queries.lookback,
                &registry,
            )?;
            part.look().await;
            let children = vec![
                ("local".into(), local),
                ("bucket".into(), part.gateway() as Arc<dyn Source>),
            ];
            front.options.bucket = Some(part.report());
            shipping = Some(part);
            Arc::new(store::Proxy::new(children, Handle::current()))
        }
    };

    let local = source;
    let labels = current.external_labels();
    let asked = remote::asked(&registry)?;
    let reads = remote::reads(&current.loaded().config, &labels, &local, &db, &asked)?;
    let reads = Arc::new(store::Switch::new(reads));
    let source: Arc<dyn Source> = Arc::clone(&reads) as Arc<dyn Source>;

    let pool = rayon::ThreadPoolBuilder::new()
        .thread_name(|n| format!("query-{n}"))
        .build()
        .context("starting the query pool")?;
    let engine = promql::Engine::new(
        Arc::clone(&source),
        promql::EngineOptions {
            lookback: queries.lookback,
            timeout: queries.timeout,
            max_samples: queries.max_samples,
            max_concurrency: queries.concurrency,
            subquery_step: current.subquery_step(),
            features: queries.features,
            delayed_name_removal: queries.delayed_name_removal,
            start_timestamps: queries.start_timestamps,
            memory: Arc::clone(&memory.queries),
            query_memory: memory.per_query,
            watch: Some(meters::durations(&registry)?),
            ..promql::EngineOptions::default()
        },
        Arc::new(pool),
    );
    let manager =
        scrape::Manager::new(Arc::clone(&db) as Arc<dyn model::Sink>, &registry, scraping)?;
    let targets = Arc::new(discovery::Targets::new(
        Arc::new(manager),
        &registry,
        settings.discovery_throttle,
    )?);
    targets.apply(&current.loaded().jobs).await?;

    let engine = Arc::new(engine);
    meters::queries(&engine, &registry)?;
    let engine: Arc<dyn promql::Evaluator> = Arc::new(journal::Journal::new(
        engine,
        Arc::clone(&current),
        &storage.dir,
        queries.concurrency,
        &registry,
    )?);
    let rules = Arc::new(rules::Rules::open(
        &settings.rules,
        rules::Means {
            evaluator: Arc::clone(&engine),
            sink: Arc::clone(&db) as Arc<dyn model::Sink>,
            external_url: web.external_url.to_string(),
            features: queries.features,
            discovery_throttle: settings.discovery_throttle,
        },
        &registry,
    )?);
    rules.apply(&current.loaded().config, &labels).await?;

    let writes = Arc::new(ingest::RemoteWrites::new(
        &storage.dir,
        Some(targets.manager() as Arc<dyn model::report::MetadataReport>),
        settings.flush_deadline,
        &registry,
    )?);
    writes
        .apply(remote::writes(&current.loaded().config, &labels)?)
        .await?;
    let push = Arc::new(settings.push);
    let receiver = push.receiver(Arc::clone(&db) as Arc<dyn model::Sink>, &registry)?;
    if let Some(receiver) = &receiver {
        receiver.set_otlp(push.otlp(&current.loaded().config));
        push.serve(receiver, &mut front.options);
    }
    let options = &mut front.options;
    options.read = push.read.clone();
    options.lookback = queries.lookback;
    db.set_readers(Arc::clone(&writes) as Arc<dyn tsdb::Readers>);
    let reload = life::Reload::new(life::Parts {
        current: Arc::clone(&current),
        targets: Arc::clone(&targets),
        kept: life::Kept::Database {
            db: Arc::clone(&db),
            storage: Arc::new(storage),
            reads: life::Reads {
                switch: reads,
                local: Arc::clone(&local),
                asked,
            },
            rules: Arc::clone(&rules),
        },
        writes: Arc::clone(&writes),
        receiver: receiver.map(|receiver| (receiver, push)),
        notices: front.notices.clone(),
    });
    options.evaluator = Some(engine);
    options.exemplars = Some(Arc::clone(&db) as Arc<dyn model::report::ExemplarReport>);
    options.rules = Some(rules.manager());
    options.alertmanagers = Some(rules.notifier());
    let grpc = match settings.grpc {
        None => None,
        Some(address) => {
            let (current, ready) = (Arc::clone(&current), front.life.ready.clone());
            let labels = Arc::new(move || current.external_labels());
            let is_ready = move || ready.get() == State::Ready;
            let labels: Arc<dyn Fn() -> model::Labels + Send + Sync> = labels;
            let reports = model::report::Own {
                rules: options.rules.clone(),
                targets: Some(targets.manager()),
                metadata: Some(targets.manager()),
                exemplars: options.exemplars.clone(),
                head: Some(Arc::clone(&db) as Arc<dyn model::report::HeadReport>),
                labels: Arc::clone(&labels),
            };
            // Others ask the remotes themselves.
            let shared = (Arc::clone(&local), labels, memory.clone());
            Some(
                store_api(
                    address,
                    shared,
                    Arc::new(reports),
                    Arc::new(is_ready),
                    &registry,
                    front.life.draining(),
                )
                .await?,
            )
        }
    };
    options.source = Some(source);
    options.local = Some(local);
    options.head = Some(Arc::clone(&db) as Arc<dyn model::report::HeadReport>);
    if web.admin {
        options.admin = Some(Arc::clone(&db) as Arc<dyn model::report::Admin>);
    }
    options.budget = memory.queries.child("labels and series", memory.per_query);
    let mut background = front.ready(reload, &targets);
    for line in &settings.banner {
        println!(
            "{}",
            line.replace("{address}", front.addresses.first().map_or("", |a| a))
        );
    }

    background.push(tokio::spawn(count_head(Arc::clone(&db), memory.clone())));
    let ships = shipping.as_ref().map(bucket::Part::start);
    front.life.told_to_stop().await;

    // Closing, in the order that loses nothing: no new samples, then answers, then what is open.
    front.stopping();
    targets.stop().await;
    rules.stop().await;
    front.close().await?;
    writes.stop().await;
    if let Some(grpc) = grpc {
        grpc.await.context("the gRPC server")??;
    }
    background.iter().for_each(|task| task.abort());
    if let (Some(part), Some(ships)) = (shipping, ships) {
        part.finish(ships).await;
    }
    tokio::task::spawn_blocking(move || db.close()).await??;
    tracing::info!("See you next time!");
    Ok(ExitCode::SUCCESS)
}

fn open_db(
    storage: &settings::Storage,
    retention: tsdb::Retention,
    stats: Arc<tsdb::Stats>,
    hold: Option<bucket::Hold>,
    ships_merged: bool,
    replay: told::Replay,
) -> Result<tsdb::Db> {
    let options = tsdb::Options {
        wal: storage.wal.clone(),
        min_block: storage.min_block,
        // Where merged blocks are shipped too, the bucket must not get the same samples twice.
        max_block: storage
            .max_block
            .or(ships_merged.then_some(storage.min_block)),
        merge_overlapping: storage.merge_overlapping,
        retention,
        lock: storage.lock,
        // Short blocks want to be cut soon after they are due.
        maintain_every: Some(model::time::span(
            (storage.min_block / 10).clamp(500, 60_000),
        )),
        hold: hold.map(bucket::Hold::question),
        starts: storage.starts,
        delay: storage.uploaded_elsewhere.clone().map(delay::missing_from),
        stats,
        progress: Some(Arc::new(move |p: tsdb::Progress| {
            replay.set(p);
            tracing::info!(done = p.done, total = p.total, "replaying the WAL");
        })),
        ..tsdb::Options::default()
    };
    tsdb::Db::open(&storage.dir, options)
        .with_context(|| format!("opening the database in {}", storage.dir.display()))
}

/// How often the head is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long a head that was emptied early is left alone.
const RELIEVED: Duration = Duration::from_secs(60);

/// Counts the head's memory in the one budget, so that queries get what it leaves. A head that has
/// too much takes nothing until it has less again, for which it is written into a block early.
pub(crate) async fn count_head(db: Arc<tsdb::Db>, memory: Memory) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let Ok(mut held) = memory.total.reserve("head", 0) else {
        return;
    };
    let (mut crowded, mut full) = (false, false);
    let mut relieved: Option<tokio::time::Instant> = None;
    loop {
        tick.tick().await;
        let bytes = db.head_bytes() as u64;
        let refused = held.resize("head", bytes).err();
        match &refused {
            Some(e) if !crowded => {
                tracing::warn!(error = %e, "the head leaves no memory to queries")
            }
            _ => {}
        }
        crowded = refused.is_some();
        // Once it is full, it must shrink by a tenth before it takes anything again.
        let limit = memory.head - u64::from(full) * (memory.head / 10);
        if bytes <= limit {
            if std::mem::take(&mut full) {
                tracing::info!(bytes, "the head takes samples again");
                db.refuse(None);
            }
            continue;
        }
        let why = format!(
            "the head holds {bytes} bytes, but is limited to {} bytes (three quarters of \
             --memory.limit): nothing is taken until it holds less",
            memory.head
        );
        if !std::mem::replace(&mut full, true) {
            tracing::error!("{why}");
        }
        db.refuse(Some(why));
        if relieved.is_none_or(|at| at.elapsed() >= RELIEVED) {
            relieved = Some(tokio::time::Instant::now());
            let db = Arc::clone(&db);
            match tokio::task::spawn_blocking(move || db.relieve()).await {
                Ok(Ok(cut)) => tracing::warn!(blocks = cut.len(), "the head was cut early"),
                Ok(Err(e)) => tracing::error!(error = %e, "the head could not be cut early"),
                // It ends with the process.
                Err(_) => return,
            }
        }
    }
}

/// Serves StoreAPI over everything that is answered locally, under the external labels.
async fn store_api(
    address: String,
    (source, labels, memory): (
        Arc<dyn Source>,
        Arc<dyn Fn() -> model::Labels + Send + Sync>,
        Memory,
    ),
    reports: Arc<dyn model::report::Reports>,
    ready: Arc<dyn Fn() -> bool + Send + Sync>,
    registry: &Registry,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<tokio::task::JoinHandle<Result<(), wire::server::ServerError>>> {
    let settings = wire::grpc::Settings {
        listen: address,
        grace: Duration::from_secs(30),
        ..wire::grpc::Settings::default()
    };
    let server = wire::grpc::Server::bind(settings, registry).await?;
    tracing::info!(address = %server.address(), "serving StoreAPI");
    let source = store::Labelled::new(source, labels, Handle::current());
    let options = store::ServeOptions {
        // What it is to a querier: the newest data of one Prometheus.
        component: "sidecar".to_owned(),
        memory: memory.queries,
        request_memory: memory.per_query,
        ready,
        reports: Some(reports),
        ..store::ServeOptions::default()
    };
    let serve = store::Serve::new(Arc::new(source), options, Handle::current(), registry)?;
    let routes = serve.routes();
    Ok(tokio::spawn(server.serve(routes, shutdown)))
}

/// Clients such as Grafana decide by `version` what they may ask: the Prometheus that we equal.
pub(crate) fn build_info() -> api::BuildInfo {
    api::BuildInfo {
        version: "3.14.0".to_owned(),
        revision: REVISION.to_owned(),
        application: "Epimetheus".to_owned(),
        application_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..api::BuildInfo::default()
    }
}
