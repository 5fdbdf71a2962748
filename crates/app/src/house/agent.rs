//! An agent: targets and receivers into a log, and from there to others. Nothing can be asked.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use model::time::{Clock as _, WallClock, format_duration, span};

use super::front::{self, Front};
use super::life;
use super::settings::AgentStorage;
use super::{Settings, begin, discovery, remote, scraping, told};

/// Runs an agent until it is told to stop.
pub async fn live(settings: Settings, storage: AgentStorage) -> Result<ExitCode> {
    let started = WallClock.now();
    let (registry, current) = begin(&settings)?;
    let stats = Arc::new(tsdb::AgentStats::new(&registry)?);
    let retention = format!(
        "{} to {}",
        format_duration(storage.min_time),
        format_duration(storage.max_time)
    );
    let kept = front::Kept {
        corruptions: stats.corruptions.clone(),
        retention: Box::new(move || retention.clone()),
    };
    let mut front = Front::open(&settings, started, &registry, &current, kept).await?;
    let labels = current.external_labels();
    let scraping = scraping(&settings, &labels);

    let agent = tokio::task::spawn_blocking({
        let (storage, replay) = (storage.clone(), front.replay.clone());
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
    let manager = scrape::Manager::new(
        Arc::clone(&sink),
        &registry,
        scrape::Options {
            // An exemplar costs an agent nothing but its place in the log.
            exemplars: true,
            ..scraping
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
        push.serve(receiver, &mut front.options);
    }
    let reload = life::Reload::new(life::Parts {
        current: Arc::clone(&current),
        targets: Arc::clone(&targets),
        kept: life::Kept::Log(Arc::clone(&agent)),
        writes: Arc::clone(&writes),
        receiver: receiver.map(|receiver| (receiver, push)),
        notices: front.notices.clone(),
    });
    let background = front.ready(reload, &targets);
    front.life.told_to_stop().await;

    front.stopping();
    targets.stop().await;
    front.close().await?;
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
