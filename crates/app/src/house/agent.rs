//! An agent: targets and receivers into a log, and from there to others. Nothing can be asked.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use api::ready::State;
use model::time::{Clock as _, WallClock, format_duration, span};
use tokio::sync::watch;

use super::config::Current;
use super::life::{self, Life};
use super::settings::AgentStorage;
use super::{Settings, begin, build_info, discovery, remote, runtime_info, settings, told};

/// Runs an agent until it is told to stop.
pub async fn live(settings: Settings, storage: AgentStorage) -> Result<ExitCode> {
    let started = WallClock.now();
    let features = told::features(&settings);
    let Settings {
        role,
        web,
        queries,
        memory,
        ..
    } = settings;
    let registry = begin(&queries, &memory)?;
    let current = Arc::new(Current::load(
        settings.config,
        settings.allow_unsupported,
        settings.default_labels,
        queries.features,
        &registry,
    )?);
    let server = wire::server::Server::bind(web.server.clone(), &registry).await?;
    let addresses: Vec<String> = server.addresses().iter().map(|a| a.to_string()).collect();
    let life = Life::start()?;
    life.count(&registry)?;
    let stats = Arc::new(tsdb::AgentStats::new(&registry)?);
    let notices = api::Notices::new(web.listeners, Arc::new(WallClock), &registry)?;
    notices.show(api::notices::STARTING);
    let replay = told::Replay::default();
    let kept = format!(
        "{} to {}",
        format_duration(storage.min_time),
        format_duration(storage.max_time)
    );
    let mut options = api::Options {
        flags: settings.flags,
        build: build_info(),
        registry: registry.clone(),
        features: queries.features,
        cors: web.cors.clone(),
        timeout: queries.timeout,
        external_path: web.external_url.path().trim_end_matches('/').to_owned(),
        title: web.title.clone(),
        runtime: Some(runtime_info(
            (role, started),
            &memory,
            &current,
            stats.corruptions.clone(),
            move || kept.clone(),
        )),
        notices: Some(notices.clone()),
        replay: Some(replay.report()),
        feature_table: features,
        agent: true,
        ..api::Options::default()
    };
    let prefix = web.route_prefix.clone();
    let mount = move |options| {
        wire::server::prefix::mount(
            api::router(options).merge(crate::profile::router()),
            &prefix,
        )
    };
    let (site, routes) = watch::channel(mount(options.clone()));
    let serving = tokio::spawn(server.serve_changing(routes, life.draining()));
    for address in &addresses {
        tracing::info!(address, tls = web.server.web_config.is_some(), "listening");
    }

    let agent = tokio::task::spawn_blocking({
        let storage = storage.clone();
        move || open(&storage, stats, replay)
    })
    .await??;
    let agent = Arc::new(agent);
    let replayed = agent.replayed();
    tracing::info!(
        series = replayed.series,
        samples = replayed.samples,
        took = ?replayed.took,
        "the log was read"
    );
    agent.set_out_of_order_window(life::out_of_order_window(&current.loaded().config));
    let sink = Arc::clone(&agent) as Arc<dyn model::Sink>;
    let labels = current.external_labels();
    let manager = scrape::Manager::new(
        Arc::clone(&sink),
        &registry,
        scrape::Options {
            seed: scrape::seed(&settings::hostname(), &labels),
            timestamp_tolerance: settings.timestamp_tolerance,
            external_host: web.external_url.host_str().map(String::from),
            allow_unsupported: settings.allow_unsupported,
            // An exemplar costs an agent nothing but its place in the log.
            exemplars: true,
            starts: storage.starts != tsdb::Starts::Ignore,
            ..scrape::Options::default()
        },
    )?;
    let targets = Arc::new(discovery::Targets::new(
        Arc::new(manager),
        &registry,
        settings.discovery_throttle,
    )?);
    // Before the first sample: those who send on begin where the log ends now.
    let writes = Arc::new(ingest::RemoteWrites::new(
        &storage.dir,
        Some(targets.manager() as Arc<dyn model::report::MetadataReport>),
        settings.flush_deadline,
        &registry,
    )?);
    writes
        .apply(remote::writes(&current.loaded().config, &labels)?)
        .await?;
    agent.set_readers(Arc::clone(&writes) as Arc<dyn tsdb::Readers>);
    targets.apply(&current.loaded().jobs).await?;
    let push = Arc::new(settings.push);
    let receiver = push.receiver(sink, &registry)?;
    if let Some(receiver) = &receiver {
        receiver.set_otlp(push.otlp(&current.loaded().config));
        push.serve(receiver, &mut options);
    }
    options.external_labels = Arc::new({
        let current = Arc::clone(&current);
        move || current.external_labels()
    });
    let reload = life::Reload::new(life::Parts {
        current: Arc::clone(&current),
        targets: Arc::clone(&targets),
        kept: life::Kept::Log(Arc::clone(&agent)),
        writes: Arc::clone(&writes),
        receiver: receiver.map(|receiver| (receiver, push)),
        notices: notices.clone(),
    });
    options.scrape_pool = Some(told::scrape_pools(Arc::clone(&current)));
    options.targets = Some(targets.manager());
    options.metadata = Some(targets.manager());
    options.config = Some(Arc::new({
        let current = Arc::clone(&current);
        move || current.loaded().config.to_yaml_redacted()
    }));
    if web.lifecycle {
        options.lifecycle = Some(Arc::new(life::OverHttp::new(reload.clone(), life.clone())));
    }
    options.ready = life.ready.clone();
    life.ready.set(State::Ready);
    notices.clear(api::notices::STARTING);
    // Nobody listens to the routes any more only when the server has ended.
    let _ = site.send(mount(options));
    tracing::info!(
        role,
        mode = "agent",
        addresses = addresses.join(" "),
        "ready to answer"
    );
    let mut background = vec![tokio::spawn(life::reload_on_hangup(reload.clone()))];
    if let Some(every) = settings.auto_reload {
        background.push(tokio::spawn(life::reload_on_change(reload, every)));
    }
    life.told_to_stop().await;

    life.ready.set(State::Stopping);
    notices.show(api::notices::STOPPING);
    targets.stop().await;
    notices.close();
    life.drain();
    serving.await.context("the HTTP server")??;
    writes.stop().await;
    background.iter().for_each(|task| task.abort());
    tokio::task::spawn_blocking(move || agent.close()).await??;
    tracing::info!("See you next time!");
    Ok(ExitCode::SUCCESS)
}

fn open(
    storage: &AgentStorage,
    stats: Arc<tsdb::AgentStats>,
    replay: told::Replay,
) -> Result<tsdb::Agent> {
    let options = tsdb::AgentOptions {
        wal: storage.wal.clone(),
        truncate_every: Some(span(storage.truncate_every).max(Duration::from_secs(1))),
        min_time: storage.min_time,
        max_time: storage.max_time,
        lock: storage.lock,
        starts: storage.starts,
        stats,
        progress: Some(Arc::new(move |p: tsdb::Progress| {
            replay.set(p);
            tracing::info!(done = p.done, total = p.total, "replaying the WAL");
        })),
        ..tsdb::AgentOptions::default()
    };
    tsdb::Agent::open(&storage.dir, options)
        .with_context(|| format!("opening the agent's log in {}", storage.dir.display()))
}
