//! Telling Alertmanagers.
//!
//! Every Alertmanager has a queue and a task of its own, so that a slow or dead one costs the
//! others nothing. What is not heard is told again with the next evaluation, so a batch that fails
//! is not sent twice; a queue that is full drops its oldest alerts, and counts them.

pub mod config;
mod counts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::metrics::Registry;
use discovery::{Found, Group, ManagerOptions};
use model::relabel::{self, NameScheme, Rule};
use model::report::AlertmanagersReport;
use model::time::span;
use model::{Labels, Millis};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use tokio::sync::Notify as Bell;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use wire::client::{ClientOptions, HttpClient, SigV4, Signer};

use crate::alerting::Alert;
use crate::manager::Notify;
use config::{Alerting, Alertmanager};
pub use counts::Names;
use counts::{Counts, Fate, Metrics};

const ALERTS_PATH: &str = "__alerts_path__";
const SCHEME: &str = "__scheme__";
const ADDRESS: &str = "__address__";

/// Why alerting cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The settings of an Alertmanager cannot be obeyed.
    #[error("alertmanager config {0}: {1}")]
    Client(usize, wire::client::ClientError),
    /// Requests cannot be signed as its settings say.
    #[error("alertmanager config {0}: {1}")]
    Signer(usize, String),
    /// Relabelling rules that cannot be used.
    #[error("alertmanager config {0}: {1}")]
    Relabel(usize, relabel::RelabelError),
    /// Metrics that exist already.
    #[error(transparent)]
    Metrics(#[from] ::metrics::Error),
    /// Discovery that cannot be set up.
    #[error(transparent)]
    Discovery(#[from] discovery::Error),
}

/// What the owner of a notifier decides.
#[derive(Clone, Debug)]
pub struct NotifierOptions {
    /// Alerts that may wait for one Alertmanager.
    pub capacity: usize,
    /// Most alerts in one request.
    pub batch: usize,
    /// As whose it behaves and is counted.
    pub names: Names,
    /// Whether what waits at the end is still sent.
    pub drain: bool,
    /// Changes of targets are taken over at most this often.
    pub discovery_throttle: Duration,
    /// Which names are valid.
    pub scheme: NameScheme,
    /// Makes what signs requests as a `sigv4` section says; none: such a section is an error.
    pub signer: Option<MakeSigner>,
}

/// Makes what signs requests as a `sigv4` section says, or tells why it cannot.
pub type MakeSigner = fn(&SigV4) -> Result<Arc<dyn Signer>, String>;

impl Default for NotifierOptions {
    fn default() -> Self {
        Self {
            capacity: 10_000,
            batch: 256,
            names: Names::Prometheus,
            drain: true,
            discovery_throttle: Duration::from_secs(5),
            scheme: NameScheme::default(),
            signer: None,
        }
    }
}

/// Takes alerts to all Alertmanagers that the configuration knows.
pub struct Notifier {
    inner: Arc<Inner>,
    finder: discovery::Manager,
    following: JoinHandle<()>,
}

struct Inner {
    options: NotifierOptions,
    metrics: Metrics,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    external_labels: Labels,
    relabel: Vec<Rule>,
    sets: BTreeMap<String, Set>,
    /// Those that are told, by URL.
    peers: BTreeMap<String, Peer>,
    dropped: Vec<String>,
}

/// The Alertmanagers of one section of the configuration.
struct Set {
    config: Alertmanager,
    client: HttpClient,
    targets: Vec<Rule>,
    alerts: Vec<Rule>,
}

struct Peer {
    set: String,
    queue: Arc<Queue>,
    counts: Counts,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

struct Queue {
    waiting: Mutex<VecDeque<Waiting>>,
    bell: Bell,
}

/// An alert on its way to one Alertmanager.
#[derive(Clone)]
struct Waiting {
    alert: Arc<Alert>,
    fate: Arc<Fate>,
}

impl Notifier {
    /// A notifier that knows nobody yet. Must be called inside a tokio runtime.
    pub fn new(registry: &Registry, options: NotifierOptions) -> Result<Self, NotifyError> {
        let finder = discovery::Manager::new(
            "notify",
            registry,
            ManagerOptions {
                reload_interval: options.discovery_throttle,
            },
        )?;
        let metrics = Metrics::new(registry, options.names, options.capacity)?;
        let inner = Arc::new(Inner {
            options,
            metrics,
            state: RwLock::default(),
        });
        let following = tokio::spawn({
            let (inner, mut found) = (Arc::clone(&inner), finder.subscribe());
            async move {
                while found.changed().await.is_ok() {
                    let now = Arc::clone(&found.borrow_and_update());
                    inner.meet(&now, false);
                }
            }
        });
        Ok(Self {
            inner,
            finder,
            following,
        })
    }

    /// Takes over a configuration; if it cannot be obeyed, nothing changes.
    pub fn apply(&self, alerting: &Alerting, external_labels: &Labels) -> Result<(), NotifyError> {
        let scheme = self.inner.options.scheme;
        let compile = |i, rules: &[relabel::Config]| {
            relabel::compile(rules, scheme).map_err(|e| NotifyError::Relabel(i, e))
        };
        let mut sets = BTreeMap::new();
        for (i, config) in alerting.alertmanagers.iter().enumerate() {
            let signer = match (&config.sigv4, self.inner.options.signer) {
                (None, _) => None,
                (Some(section), Some(make)) => {
                    Some(make(section).map_err(|e| NotifyError::Signer(i, e))?)
                }
                (Some(_), None) => {
                    return Err(NotifyError::Signer(
                        i,
                        "sigv4 is not supported here".to_owned(),
                    ));
                }
            };
            let options = ClientOptions {
                timeout: Some(span(config.timeout.0)),
                signer,
                ..ClientOptions::default()
            };
            let set = Set {
                client: HttpClient::new(&config.http, options)
                    .map_err(|e| NotifyError::Client(i, e))?,
                targets: compile(i, &config.relabel_configs)?,
                alerts: compile(i, &config.alert_relabel_configs)?,
                config: config.clone(),
            };
            sets.insert(format!("config-{i}"), set);
        }
        let relabel = compile(0, &alerting.alert_relabel_configs)?;
        {
            let mut state = self.inner.state.write();
            state.external_labels = external_labels.clone();
            state.relabel = relabel;
            state.sets = sets;
        }
        let names: Vec<String> = (0..alerting.alertmanagers.len())
            .map(|i| format!("config-{i}"))
            .collect();
        self.finder.apply(
            names
                .iter()
                .zip(&alerting.alertmanagers)
                .map(|(name, config)| (name.as_str(), &config.discovery)),
        );
        // Settings may have changed although the addresses have not.
        let found = Arc::clone(&self.finder.subscribe().borrow());
        self.inner.meet(&found, true);
        Ok(())
    }

    /// Ends it: what waits is sent first, if that was asked for, but no longer than `patience`.
    pub async fn stop(&self, patience: Duration) {
        self.following.abort();
        let peers = std::mem::take(&mut self.inner.state.write().peers);
        for peer in peers.values() {
            peer.stop.cancel();
            peer.queue.bell.notify_one();
        }
        let all = async {
            for (url, peer) in peers {
                if peer.task.await.is_err() {
                    tracing::error!(alertmanager = url, "sending alerts has failed");
                }
            }
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!("alerts that were still waiting have not been sent");
        }
    }
}

impl Notify for Notifier {
    fn notify(&self, alerts: Vec<Alert>) {
        self.inner.notify(alerts);
    }
}

impl AlertmanagersReport for Notifier {
    fn alertmanagers(&self) -> (Vec<String>, Vec<String>) {
        let state = self.inner.state.read();
        (state.peers.keys().cloned().collect(), state.dropped.clone())
    }
}

impl Inner {
    fn notify(&self, alerts: Vec<Alert>) {
        let state = self.state.read();
        let relabelled: Vec<Waiting> = alerts
            .into_iter()
            .filter_map(|mut alert| {
                // In Prometheus the process' labels give way to the alert's own, in Thanos not.
                let labels = match self.options.names {
                    Names::Prometheus => state.external_labels.overlay(&alert.labels),
                    Names::Thanos => alert.labels.overlay(&state.external_labels),
                };
                alert.labels = apply(&state.relabel, labels)?;
                Some(Waiting {
                    alert: Arc::new(alert),
                    fate: self.metrics.fate(),
                })
            })
            .collect();
        self.metrics.taken(relabelled.len());
        for (url, peer) in &state.peers {
            let rules = state.sets.get(&peer.set).map_or(&[][..], |s| &s.alerts);
            let mut own = Vec::with_capacity(relabelled.len());
            for waiting in &relabelled {
                if rules.is_empty() {
                    own.push(waiting.clone());
                } else if let Some(labels) = apply(rules, waiting.alert.labels.clone()) {
                    own.push(Waiting {
                        alert: Arc::new(Alert {
                            labels,
                            ..Alert::clone(&waiting.alert)
                        }),
                        fate: Arc::clone(&waiting.fate),
                    });
                }
            }
            self.enqueue(url, peer, own);
        }
    }

    fn enqueue(&self, url: &str, peer: &Peer, alerts: Vec<Waiting>) {
        if alerts.is_empty() {
            return;
        }
        let mut waiting = peer.queue.waiting.lock();
        waiting.extend(alerts);
        let over = waiting.len().saturating_sub(self.options.capacity);
        if over > 0 {
            waiting.drain(..over);
            peer.counts.overflowed(over);
            tracing::warn!(
                alertmanager = url,
                dropped = over,
                "Alert notification queue full, dropping the oldest alerts"
            );
        }
        peer.counts.waiting(waiting.len());
        drop(waiting);
        peer.queue.bell.notify_one();
    }

    /// Takes over what discovery found; `anew`: with settings that may have changed.
    fn meet(self: &Arc<Self>, found: &Found, anew: bool) {
        let mut state = self.state.write();
        let (mut wanted, mut dropped) = (BTreeMap::new(), Vec::new());
        for (name, set) in &state.sets {
            let groups = found.get(name.as_str());
            for group in groups.iter().flat_map(|groups| groups.iter()) {
                for (url, keep) in set.urls(group) {
                    if keep {
                        wanted.entry(url).or_insert_with(|| name.clone());
                    } else {
                        dropped.push(url);
                    }
                }
            }
        }
        state.dropped = dropped;
        let gone: Vec<String> = state
            .peers
            .iter()
            .filter(|(url, peer)| anew || wanted.get(*url) != Some(&peer.set))
            .map(|(url, _)| url.clone())
            .collect();
        let mut left: BTreeMap<String, VecDeque<Waiting>> = BTreeMap::new();
        for url in gone {
            let Some(peer) = state.peers.remove(&url) else {
                continue;
            };
            // Its task ends after the request that it is in; what waits goes to its successor.
            let waiting = std::mem::take(&mut *peer.queue.waiting.lock());
            peer.stop.cancel();
            peer.queue.bell.notify_one();
            if wanted.contains_key(&url) {
                left.insert(url, waiting);
            } else {
                self.metrics.forget(&url);
            }
        }
        for (url, name) in wanted {
            if state.peers.contains_key(&url) {
                continue;
            }
            let Some(set) = state.sets.get(&name) else {
                continue;
            };
            let queue = Arc::new(Queue {
                waiting: Mutex::new(left.remove(&url).unwrap_or_default()),
                bell: Bell::new(),
            });
            let stop = CancellationToken::new();
            let counts = self.metrics.of(&url);
            let sender = Sender {
                url: url.clone(),
                client: set.client.clone(),
                queue: Arc::clone(&queue),
                counts: counts.clone(),
                batch: self.options.batch.max(1),
                drain: self.options.drain,
            };
            let task = tokio::spawn(sender.run(stop.clone()));
            let peer = Peer {
                set: name,
                queue,
                counts,
                stop,
                task,
            };
            state.peers.insert(url, peer);
        }
        self.metrics.known(state.peers.len());
    }
}

impl Set {
    /// The URLs of a group's targets, and whether relabelling keeps them.
    fn urls(&self, group: &Group) -> Vec<(String, bool)> {
        let prefix = self.config.path_prefix.trim_matches('/');
        let path = match prefix {
            "" => "/api/v2/alerts".to_owned(),
            prefix => format!("/{prefix}/api/v2/alerts"),
        };
        let url = |labels: &Labels| {
            let of = |name| labels.get(name).unwrap_or("");
            format!("{}://{}{}", of(SCHEME), of(ADDRESS), of(ALERTS_PATH))
        };
        let mut urls = Vec::new();
        for target in &group.targets {
            let mut builder = group.labels.overlay(target).builder();
            for (name, value) in [(SCHEME, &self.config.scheme), (ALERTS_PATH, &path)] {
                if builder.get(name).is_empty() {
                    builder.set(name, value);
                }
            }
            let before = builder.build();
            match apply(&self.targets, before.clone()) {
                Some(after) => urls.push((url(&after), true)),
                None => urls.push((url(&before), false)),
            }
        }
        urls
    }
}

fn apply(rules: &[Rule], labels: Labels) -> Option<Labels> {
    if rules.is_empty() {
        return Some(labels);
    }
    relabel::process(&labels, rules)
}

/// Sends what waits for one Alertmanager.
struct Sender {
    url: String,
    client: HttpClient,
    queue: Arc<Queue>,
    counts: Counts,
    batch: usize,
    drain: bool,
}

impl Sender {
    /// Sends batch by batch until it is stopped.
    async fn run(self, stop: CancellationToken) {
        loop {
            let batch: Vec<Waiting> = {
                let mut waiting = self.queue.waiting.lock();
                let count = waiting.len().min(self.batch);
                let batch = waiting.drain(..count).collect();
                self.counts.waiting(waiting.len());
                batch
            };
            if batch.is_empty() {
                if stop.is_cancelled() {
                    return;
                }
                self.queue.bell.notified().await;
                continue;
            }
            if stop.is_cancelled() && !self.drain {
                self.counts.dropped(batch.len());
                return;
            }
            let began = Instant::now();
            let span = tracing::info_span!("post_alerts HTTP[client]", alerts = batch.len());
            match send(&self.client, &self.url, &batch).instrument(span).await {
                Ok(()) => batch.iter().for_each(|waiting| waiting.fate.heard()),
                Err(error) => {
                    let count = batch.len();
                    tracing::error!(alertmanager = %self.url, count, %error, "Error sending alerts");
                    self.counts.failed(count);
                }
            }
            self.counts.sent(batch.len(), began.elapsed());
        }
    }
}

/// An alert as Alertmanager's API v2 reads it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Posted<'a> {
    annotations: BTreeMap<&'a str, &'a str>,
    ends_at: String,
    starts_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
}

async fn send(client: &HttpClient, url: &str, alerts: &[Waiting]) -> Result<(), String> {
    let posted: Vec<Posted<'_>> = alerts
        .iter()
        .map(|Waiting { alert, .. }| Posted {
            annotations: alert.annotations.iter().collect(),
            ends_at: rfc3339(alert.ends_at),
            starts_at: rfc3339(alert.starts_at),
            generator_url: &alert.generator_url,
            labels: alert.labels.iter().collect(),
        })
        .collect();
    let body = serde_json::to_vec(&posted).map_err(|e| e.to_string())?;
    let mut request = client
        .request(reqwest::Method::POST, url)
        .map_err(|e| e.to_string())?;
    request.headers_mut().insert(
        reqwest::header::CONTENT_TYPE,
        reqwest::header::HeaderValue::from_static("application/json"),
    );
    *request.body_mut() = Some(body.into());
    let response = client.send(request).await.map_err(|e| e.to_string())?;
    if response.status().is_success() {
        return Ok(());
    }
    Err(format!("bad response status {}", response.status()))
}

/// A time as RFC 3339 writes it, UTC, with milliseconds.
fn rfc3339(ms: Millis) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(at) => format!("{at:.3}"),
        Err(_) => "0001-01-01T00:00:00.000Z".to_owned(),
    }
}
