//! Signals, reloading, and the end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use api::Ready;
use model::BoxFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::config::Current;
use super::discovery::Targets;
use super::rules::Rules;
use super::settings::Storage;
use crate::config::Config;

/// The life of a process; clones share it.
#[derive(Clone)]
pub struct Life {
    /// Whether it answers.
    pub ready: Ready,
    stop: CancellationToken,
    drain: CancellationToken,
}

impl Life {
    /// Begins to listen to signals: the first SIGTERM or SIGINT stops in good order, the second at
    /// once.
    pub fn start() -> Result<Self> {
        let life = Self {
            ready: Ready::default(),
            stop: CancellationToken::new(),
            drain: CancellationToken::new(),
        };
        let first = Told::listen()?;
        let stop = life.stop.clone();
        tokio::spawn(async move {
            first.told().await;
            tracing::info!("stopping in good order; a second signal ends at once");
            stop.cancel();
            // Some supervisors send one and the same signal to the process and to its group.
            tokio::time::sleep(Duration::from_millis(500)).await;
            if let Ok(second) = Told::listen() {
                second.told().await;
                tracing::warn!("ending at once");
                std::process::exit(1);
            }
        });
        Ok(life)
    }

    /// Finishes when the process shall stop.
    pub async fn told_to_stop(&self) {
        self.stop.cancelled().await;
    }

    /// Finishes when the HTTP server shall take no more requests.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static {
        self.drain.clone().cancelled_owned()
    }

    /// Lets the HTTP server finish.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Begins the end, as a signal would.
    pub fn quit(&self) {
        self.stop.cancel();
    }
}

/// SIGTERM or SIGINT, from now on.
struct Told(Signal, Signal);

impl Told {
    fn listen() -> std::io::Result<Self> {
        Ok(Self(
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        ))
    }

    async fn told(mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

/// What queries read from.
#[derive(Clone)]
pub struct Reads {
    /// What queries ask.
    pub switch: Arc<store::Switch>,
    /// What of it is here.
    pub local: Arc<dyn model::Source>,
}

/// What a configuration is applied to.
pub struct Parts {
    /// The configuration in force.
    pub current: Arc<Current>,
    /// What is scraped.
    pub targets: Arc<Targets>,
    /// What is evaluated, and who is told.
    pub rules: Arc<Rules>,
    /// The local database.
    pub db: Arc<tsdb::Db>,
    /// What the flags say of storage.
    pub storage: Storage,
    /// Where samples are sent on.
    pub writes: Arc<ingest::RemoteWrites>,
    /// What queries read from.
    pub reads: Reads,
    /// What takes samples from others, if anything does.
    pub receiver: Option<(ingest::Receiver, Arc<super::push::Settings>)>,
    /// Where people are told that it failed.
    pub notices: api::Notices,
}

/// Reads the configuration again and applies it: all of it, or nothing.
#[derive(Clone)]
pub struct Reload {
    parts: Arc<Parts>,
    one_at_a_time: Arc<Mutex<()>>,
}

impl Reload {
    /// Reloads into `parts`.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts: Arc::new(parts),
            one_at_a_time: Arc::default(),
        }
    }

    /// Does it.
    pub async fn reload(&self) -> Result<()> {
        let _guard = self.one_at_a_time.lock().await;
        let parts = &self.parts;
        let result = async {
            let current = Arc::clone(&parts.current);
            let loaded = tokio::task::spawn_blocking(move || current.read_again()).await??;
            let labels = parts.current.labels_of(&loaded);
            let writes = super::remote::writes(&loaded.config, &labels)?;
            let (local, config) = (&parts.reads.local, &loaded.config);
            let source = super::remote::reads(config, &labels, local, &parts.db)?;
            parts.rules.apply(&loaded.config, &labels).await?;
            parts.targets.apply(&loaded.jobs).await?;
            let (db, storage) = (Arc::clone(&parts.db), parts.storage.clone());
            let config = loaded.config.clone();
            tokio::task::spawn_blocking(move || apply_storage(&db, &storage, &config)).await??;
            parts.writes.apply(writes).await?;
            parts.reads.switch.set(source);
            if let Some((receiver, push)) = &parts.receiver {
                receiver.set_otlp(push.otlp(&loaded.config));
            }
            parts.current.put(loaded);
            anyhow::Ok(())
        }
        .await;
        match &result {
            Ok(()) => {
                parts.notices.clear(api::notices::RELOAD_FAILED);
                tracing::info!("configuration reloaded");
            }
            Err(e) => {
                parts.notices.show(api::notices::RELOAD_FAILED);
                tracing::error!(error = format!("{e:#}"), "the old configuration stays");
            }
        }
        result
    }
}

/// Applies what the configuration says of storage, and can be changed while running.
pub fn apply_storage(db: &tsdb::Db, storage: &Storage, config: &Config) -> Result<()> {
    let tsdb = config.storage.tsdb.as_ref();
    let window = tsdb.map_or(0, |t| t.out_of_order_time_window.0);
    db.set_out_of_order_window(window)
        .context("storage.tsdb.out_of_order_time_window")?;
    db.set_retention(storage.retention_under(config));
    db.set_max_exemplars(storage.exemplars_under(config));
    Ok(())
}

/// Reloads whenever a SIGHUP comes.
pub async fn reload_on_hangup(reload: Reload) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return;
    };
    while hangup.recv().await.is_some() {
        // Success and failure were logged.
        let _ = reload.reload().await;
    }
}

/// Reloads whenever a file of the configuration has changed (`--config.auto-reload`).
pub async fn reload_on_change(reload: Reload, every: Duration) {
    let look = async || {
        let current = Arc::clone(&reload.parts.current);
        let read = tokio::task::spawn_blocking(move || current.fingerprint());
        read.await.ok().flatten()
    };
    let mut in_force = look().await;
    loop {
        tokio::time::sleep(every).await;
        let now = look().await;
        // A file that is just being replaced is there the next time.
        if now.is_none() || now == in_force {
            continue;
        }
        tracing::info!("the configuration has changed: reloading it");
        if reload.reload().await.is_ok() {
            // It may name other files than before.
            in_force = look().await;
        }
    }
}

/// Reload and quit over HTTP.
pub struct OverHttp {
    reload: Reload,
    life: Life,
}

impl OverHttp {
    /// For `--web.enable-lifecycle`.
    pub fn new(reload: Reload, life: Life) -> Self {
        Self { reload, life }
    }
}

impl api::Lifecycle for OverHttp {
    fn reload(&self) -> BoxFuture<'static, Result<(), String>> {
        let reload = self.reload.clone();
        Box::pin(async move { reload.reload().await.map_err(|e| format!("{e:#}")) })
    }

    fn quit(&self) {
        self.life.quit();
    }
}
