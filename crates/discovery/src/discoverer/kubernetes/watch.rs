//! One kind of objects, listed and watched for all that ask for the same.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::listener::{Change, Listener};
use super::object::{Key, Object, Stored};
use crate::counters::Counters;

/// Objects in one answer to a list.
const PAGE: u32 = 500;

/// What there is of one kind, kept up to date until it is dropped.
pub(super) struct Watched<K> {
    shared: Arc<Shared<K>>,
    _stop: DropGuard,
}

/// Which objects to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    /// All namespaces if it is empty.
    pub namespace: String,
    pub label: String,
    pub field: String,
}

struct Shared<K> {
    state: Mutex<State<K>>,
    /// Whether everything was listed once.
    listed: watch::Sender<bool>,
}

struct State<K> {
    objects: HashMap<Key, Arc<Stored<K>>>,
    listeners: Vec<Weak<Listener>>,
    /// Objects that a list which is not over yet has not named so far.
    unseen: HashMap<Key, ()>,
}

impl<K: Object> Watched<K> {
    /// Starts watching.
    pub(super) fn start(client: Client, asked: &Asked, counters: Counters) -> Arc<Self>
    where
        K: 'static,
    {
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                objects: HashMap::new(),
                listeners: Vec::new(),
                unseen: HashMap::new(),
            }),
            listed: watch::Sender::new(false),
        });
        let path = K::url_path(&(), Some(&*asked.namespace).filter(|n| !n.is_empty()));
        let api = api(client, asked);
        let config = watcher::Config {
            label_selector: Some(asked.label.clone()).filter(|s| !s.is_empty()),
            field_selector: Some(asked.field.clone()).filter(|s| !s.is_empty()),
            page_size: Some(PAGE),
            ..watcher::Config::default()
        };
        let following = follow(Arc::clone(&shared), api, config, path, counters);
        tokio::spawn(stop.clone().run_until_cancelled_owned(following));
        Arc::new(Self {
            shared,
            _stop: stop.drop_guard(),
        })
    }

    /// Tells `listener` of everything from now on, and of what is there as if it came now.
    pub(super) fn listen(&self, listener: &Arc<Listener>) {
        let mut state = self.shared.state.lock();
        for key in state.objects.keys() {
            listener.tell(K::KIND, Change::Added, key, true);
        }
        state.listeners.push(Arc::downgrade(listener));
    }

    /// Returns once everything was listed.
    pub(super) async fn listed(&self) {
        // The sender lives as long as this does.
        let _ = self
            .shared
            .listed
            .subscribe()
            .wait_for(|listed| *listed)
            .await;
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<Stored<K>>> {
        self.shared.state.lock().objects.get(key).cloned()
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.shared.state.lock().objects.keys().cloned().collect()
    }
}

fn api<K: Object>(client: Client, asked: &Asked) -> Api<K> {
    match asked.namespace.as_str() {
        "" => Api::all(client),
        namespace => Api::namespaced_with(client, namespace, &()),
    }
}

/// Lists and watches for ever.
async fn follow<K: Object + 'static>(
    shared: Arc<Shared<K>>,
    api: Api<K>,
    config: watcher::Config,
    path: String,
    counters: Counters,
) {
    let mut pauses = DefaultBackoff::default();
    loop {
        let mut events = std::pin::pin!(watcher(api.clone(), config.clone()));
        while let Some(event) = events.next().await {
            let error = match event {
                Ok(event) => {
                    // The beginning of a list is not yet an answer.
                    if !matches!(event, Event::Init) {
                        pauses.reset();
                    }
                    shared.take(event);
                    continue;
                }
                Err(error) => error,
            };
            counters.kubernetes_failures.inc();
            let pause = pauses.next().unwrap_or(Duration::from_secs(30));
            tracing::warn!(
                %error,
                path,
                "cannot list or watch the cluster; trying again in {:.1}s",
                pause.as_secs_f64()
            );
            tokio::time::sleep(pause).await;
            if is_gone(&error) {
                break;
            }
        }
    }
}

/// Whether the place to go on from is forgotten, so that only a new list helps.
fn is_gone(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        _ => false,
    }
}

impl<K: Object> Shared<K> {
    fn take(&self, event: Event<K>) {
        let mut state = self.state.lock();
        let state = &mut *state;
        match event {
            Event::Init => {
                let keys = state.objects.keys();
                state.unseen = keys.map(|key| (Arc::clone(key), ())).collect();
            }
            Event::InitApply(object) => {
                let key = state.put(object);
                state.unseen.remove(&key);
            }
            Event::InitDone => {
                for key in std::mem::take(&mut state.unseen).into_keys() {
                    state.remove(&key);
                }
                state.objects.shrink_to_fit();
                self.listed.send_replace(true);
            }
            Event::Apply(object) => {
                state.put(object);
            }
            Event::Delete(object) => {
                let (key, _) = Stored::new(object);
                state.remove(&key);
            }
        }
    }
}

impl<K: Object> State<K> {
    fn put(&mut self, object: K) -> Key {
        let (key, stored) = Stored::new(object);
        let before = self.objects.get(&key);
        let differs = before.is_none_or(|old| **old != stored);
        let change = match before {
            Some(_) => Change::Updated,
            None => Change::Added,
        };
        if differs {
            self.objects.insert(Arc::clone(&key), Arc::new(stored));
        }
        self.tell(change, &key, differs);
        key
    }

    fn remove(&mut self, key: &Key) {
        if self.objects.remove(key).is_some() {
            self.tell(Change::Deleted, key, true);
        }
    }

    fn tell(&mut self, change: Change, key: &Key, differs: bool) {
        self.listeners.retain(|listener| match listener.upgrade() {
            Some(listener) => {
                listener.tell(K::KIND, change, key, differs);
                true
            }
            None => false,
        });
    }
}
