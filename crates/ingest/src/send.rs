//! Remote write out: what the log of the database holds is sent on, as `remote_write` says.
//!
//! A thread per remote reads the log as it grows ([`tail`]), drops and relabels series once, and
//! fills batches for the shards ([`queue`]); when all shards are busy it waits, and the log keeps
//! what is to come. A file in the data folder says up to where all has been settled ([`track`]): a
//! new process goes on there. What was on its way when a process died is sent twice, and where the
//! receiver refuses a request for that, it is sent in ever smaller parts.

mod counters;
mod encode;
pub mod push;
mod queue;
mod reshard;
mod run;
mod tail;
mod track;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use metrics::Registry;
use model::Labels;
use model::relabel::Rule;
use model::report::MetadataReport;
use model::time::{Clock, WallClock};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use wire::client::{ClientOptions, HttpClient, HttpSettings, Signer};

use crate::receive::Message;
use counters::Families;
use run::Running;

/// A `remote_write` section, judged.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name, for metrics and logs.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// The same without a password.
    pub shown_url: String,
    /// How to talk to it.
    pub http: HttpSettings,
    /// Signs requests, beside or instead of what `http` says.
    pub signer: Option<Arc<dyn Signer>>,
    /// Connect to the addresses of its name in turn.
    pub round_robin: bool,
    /// How long a request may take.
    pub timeout: Duration,
    /// Headers to add.
    pub headers: BTreeMap<String, String>,
    /// What becomes of the series.
    pub relabel: Vec<Rule>,
    /// The same as it was typed, to tell one setting from another.
    pub fingerprint: String,
    /// Labels of everything that leaves.
    pub external_labels: Labels,
    /// Send exemplars.
    pub exemplars: bool,
    /// Send native histograms.
    pub histograms: bool,
    /// Which message is sent.
    pub message: Message,
    /// The queue in front of it.
    pub queue: Queue,
    /// How often metadata is sent; none: never.
    pub metadata_every: Option<Duration>,
    /// Most metadata entries of a request.
    pub metadata_most: usize,
}

/// The queue in front of a remote.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Samples waiting per shard.
    pub capacity: usize,
    /// Most shards.
    pub max_shards: usize,
    /// Fewest shards.
    pub min_shards: usize,
    /// Most samples in a request.
    pub most: usize,
    /// Longest time that a sample waits for others.
    pub deadline: Duration,
    /// First wait before a retry.
    pub min_backoff: Duration,
    /// Longest wait before a retry.
    pub max_backoff: Duration,
    /// Retry on 429.
    pub retry_on_429: bool,
    /// Older samples are dropped; zero for never.
    pub sample_age_limit: Duration,
}

/// Everything that is sent on.
pub struct RemoteWrites {
    wal: PathBuf,
    marks: PathBuf,
    families: Families,
    clock: Arc<dyn Clock>,
    metadata: Option<Arc<dyn MetadataReport>>,
    flush_deadline: Duration,
    running: Mutex<BTreeMap<String, (Settings, Running)>>,
    /// Those that are running, for who asks how far they are.
    progress: parking_lot::Mutex<Vec<Arc<queue::Shared>>>,
}

/// A remote cannot be sent to.
#[derive(Debug, thiserror::Error)]
#[error("remote_write {url:?}: {message}")]
pub struct SendError {
    /// Which one.
    pub url: String,
    /// Why.
    pub message: String,
}

impl RemoteWrites {
    /// Sends what lies in the data folder `data`. `flush_deadline`: how long the end may take.
    pub fn new(
        data: &Path,
        metadata: Option<Arc<dyn MetadataReport>>,
        flush_deadline: Duration,
        registry: &Registry,
    ) -> Result<Self, metrics::Error> {
        Ok(Self {
            wal: data.join("wal"),
            marks: data.join("remote_write"),
            families: Families::new(registry)?,
            clock: Arc::new(WallClock),
            metadata,
            flush_deadline,
            running: Mutex::default(),
            progress: parking_lot::Mutex::default(),
        })
    }

    /// Sends to these from now on; those that stay as they are go on undisturbed.
    pub async fn apply(&self, all: Vec<Settings>) -> Result<(), SendError> {
        let mut clients = Vec::with_capacity(all.len());
        for settings in &all {
            let options = ClientOptions {
                gzip: false,
                signer: settings.signer.clone(),
                round_robin: settings.round_robin,
                ..ClientOptions::default()
            };
            let client = HttpClient::new(&settings.http, options).map_err(|e| SendError {
                url: settings.shown_url.clone(),
                message: e.to_string(),
            })?;
            clients.push(client);
        }
        let mut running = self.running.lock().await;
        let mut old = std::mem::take(&mut *running);
        let mut fresh = Vec::new();
        for (settings, client) in all.into_iter().zip(clients) {
            // Equal sections are told apart by their number.
            let mut key = settings.fingerprint.clone();
            while running.contains_key(&key) || fresh.iter().any(|(k, _, _)| *k == key) {
                key.push('+');
            }
            match old.remove(&key) {
                Some(same) => {
                    running.insert(key, same);
                }
                None => fresh.push((key, settings, client)),
            }
        }
        // Those that end first: a changed one takes the place of its predecessor.
        for (_, (_, ended)) in old {
            ended.stop(self.flush_deadline).await;
        }
        for (key, settings, client) in fresh {
            let mark = self.marks.join(mark_name(&settings));
            let started = Running::start(self, settings.clone(), client, mark, Handle::current());
            running.insert(key, (settings, started));
        }
        *self.progress.lock() = running.values().map(|(_, r)| r.shared()).collect();
        Ok(())
    }

    /// Sends what is left, as far as the deadline allows, and ends.
    pub async fn stop(&self) {
        let running = std::mem::take(&mut *self.running.lock().await);
        let deadline = self.flush_deadline;
        let stops = running
            .into_values()
            .map(|(_, r)| tokio::spawn(r.stop(deadline)));
        for stop in stops.collect::<Vec<_>>() {
            let _ = stop.await;
        }
    }
}

impl tsdb::Readers for RemoteWrites {
    fn segment(&self) -> Option<u64> {
        let progress = self.progress.lock();
        let needed = progress.iter().map(|shared| shared.progress.needs());
        needed.min()
    }

    fn sent(&self) -> Option<model::Millis> {
        let progress = self.progress.lock();
        progress.iter().map(|shared| shared.progress.sent()).min()
    }
}

/// The name of the file that keeps how far a remote is: of its name and URL, so that other settings
/// change nothing.
fn mark_name(settings: &Settings) -> String {
    let hash = xxhash_rust::xxh3::xxh3_64(settings.url.as_bytes());
    let name = settings
        .name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-');
    format!("{}-{hash:016x}", name.take(64).collect::<String>())
}
