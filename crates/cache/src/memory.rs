//! The cache in this process' memory.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metrics::{Counter, Gauge, Registry};
use quick_cache::sync::{Cache as Quick, DefaultLifecycle, EntryAction, EntryResult};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use crate::{BoxFuture, Cache, Key};

/// What an entry costs beside its key and bytes: the table's slot, two counters, the time.
const OVERHEAD: u64 = 128;

/// How much a [`Memory`] may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryOptions {
    /// Bytes in all, keys and bookkeeping included.
    pub max_bytes: u64,
    /// Bytes of one entry; a larger one is not kept.
    pub max_entry_bytes: u64,
}

impl MemoryOptions {
    /// At most `max_bytes` in all, and a sixteenth of that in one entry.
    pub fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            max_entry_bytes: max_bytes / 16,
        }
    }
}

/// Bytes in memory: the least useful go first when it is full. Clones are the same cache.
#[derive(Clone)]
pub struct Memory {
    entries: Arc<Entries>,
    max_entry_bytes: u64,
    now: fn() -> Instant,
    counters: Counters,
}

type Entries = Quick<Key, Entry, Weight, DefaultHashBuilder, Evictions>;

#[derive(Clone)]
struct Entry {
    bytes: Bytes,
    expires: Option<Instant>,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Entry> for Weight {
    fn weight(&self, key: &Key, entry: &Entry) -> u64 {
        OVERHEAD + key.len() as u64 + entry.bytes.len() as u64
    }
}

#[derive(Clone)]
struct Evictions(Counter);

impl Lifecycle<Key, Entry> for Evictions {
    type RequestState = <DefaultLifecycle<Key, Entry> as Lifecycle<Key, Entry>>::RequestState;

    fn on_evict(&self, _: &mut Self::RequestState, _: Key, _: Entry) {
        self.0.inc();
    }
}

#[derive(Clone)]
struct Counters {
    requests: Counter,
    hits: Counter,
    expired: Counter,
    added: Counter,
    refused: Counter,
    entries: Gauge,
    bytes: Gauge,
}

impl Memory {
    /// A cache that its metrics call `name`. Names are unique within a registry.
    pub fn new(
        name: &str,
        options: MemoryOptions,
        registry: &Registry,
    ) -> Result<Self, metrics::Error> {
        Self::with_clock(name, options, registry, Instant::now)
    }

    /// The same with a clock that a test can turn.
    pub fn with_clock(
        name: &str,
        options: MemoryOptions,
        registry: &Registry,
        now: fn() -> Instant,
    ) -> Result<Self, metrics::Error> {
        let counter = |what: &str, help: &str| {
            let family =
                registry.counters(&format!("epimetheus_cache_{what}_total"), help, ["cache"]);
            family.map(|f| f.with(&[name]))
        };
        let gauge = |what: &str, help: &str| {
            let family = registry.gauges(&format!("epimetheus_cache_{what}"), help, ["cache"]);
            family.map(|f| f.with(&[name]))
        };
        gauge("limit_bytes", "Bytes that may be kept.")?
            .set(i64::try_from(options.max_bytes).unwrap_or(i64::MAX));
        let counters = Counters {
            requests: counter("requests", "Keys that were asked for.")?,
            hits: counter("hits", "Keys that were found.")?,
            expired: counter("expired", "Keys that were found too late.")?,
            added: counter("added", "Entries that were added.")?,
            refused: counter("refused", "Entries that were too large to be kept.")?,
            entries: gauge("entries", "Entries that are kept.")?,
            bytes: gauge("bytes", "Bytes that are kept, with keys and bookkeeping.")?,
        };
        let evicted = counter("evicted", "Entries that gave way to others.")?;
        // A shard holds only what fits in it: leave room for several of the largest.
        let largest = options.max_entry_bytes.max(1).saturating_mul(4);
        let shards = (options.max_bytes / largest).clamp(1, 16) as usize;
        let estimate = (options.max_bytes / 4096).clamp(16, 1 << 20) as usize;
        let built = OptionsBuilder::new()
            .shards(shards)
            .estimated_items_capacity(estimate)
            .weight_capacity(options.max_bytes)
            .build();
        let (hasher, evictions) = (DefaultHashBuilder::default(), Evictions(evicted));
        let entries = Arc::new(match built {
            Ok(built) => Quick::with_options(built, Weight, hasher, evictions),
            // Both sizes are given, so this is never reached; it would only be less well tuned.
            Err(_) => Quick::with(estimate, options.max_bytes, Weight, hasher, evictions),
        });
        Ok(Self {
            entries,
            max_entry_bytes: options.max_entry_bytes,
            now,
            counters,
        })
    }

    /// The bytes of `key`, if they are there and their time is not over.
    pub fn get(&self, key: &str) -> Option<Bytes> {
        self.counters.requests.inc();
        let entry = self.entries.get(key)?;
        if self.is_over(&entry) {
            self.counters.expired.inc();
            self.entries.remove_if(key, |entry| self.is_over(entry));
            return None;
        }
        self.counters.hits.inc();
        Some(entry.bytes)
    }

    /// Keeps a copy of `bytes` for at most `ttl`.
    ///
    /// It is a copy because a slice of a larger buffer would keep all of that alive, uncounted.
    pub fn put(&self, key: Key, bytes: &[u8], ttl: Duration) {
        if let Some(entry) = self.entry(bytes, ttl) {
            self.entries.insert(key, entry);
            self.counters.added.inc();
            self.show();
        }
    }

    /// The bytes of `key`, or what `fetch` brings, which is then kept for at most `ttl`.
    ///
    /// Of several callers that miss the same key one fetches, the others wait for it; if it fails
    /// or is dropped, the next one fetches. Needs no particular runtime. What is too large to be
    /// kept is fetched by each caller, one after the other.
    pub async fn get_or_fetch<E>(
        &self,
        key: &Key,
        ttl: Duration,
        fetch: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<Bytes, E> {
        self.counters.requests.inc();
        let keep_or_replace = |_: &Key, entry: &mut Entry| match self.is_over(entry) {
            true => EntryAction::ReplaceWithGuard,
            false => EntryAction::Retain(entry.bytes.clone()),
        };
        let guard = match self.entries.entry_async(key, keep_or_replace).await {
            EntryResult::Retained(bytes) => {
                self.counters.hits.inc();
                return Ok(bytes);
            }
            EntryResult::Replaced(guard, _) => {
                self.counters.expired.inc();
                Some(guard)
            }
            EntryResult::Vacant(guard) => Some(guard),
            EntryResult::Removed(..) | EntryResult::Timeout => None, // we ask for neither
        };
        let bytes = fetch.await?;
        if let (Some(guard), Some(entry)) = (guard, self.entry(&bytes, ttl)) {
            // Refused if somebody has put the key meanwhile, which is as good.
            if guard.insert(entry).is_ok() {
                self.counters.added.inc();
                self.show();
            }
        }
        Ok(bytes)
    }

    /// Forgets `key`.
    pub fn remove(&self, key: &str) {
        self.entries.remove(key);
        self.show();
    }

    /// Bytes in use, keys and bookkeeping included.
    pub fn used_bytes(&self) -> u64 {
        self.entries.weight()
    }

    fn show(&self) {
        self.counters.entries.set(self.entries.len() as i64);
        self.counters
            .bytes
            .set(i64::try_from(self.entries.weight()).unwrap_or(i64::MAX));
    }

    fn is_over(&self, entry: &Entry) -> bool {
        entry.expires.is_some_and(|at| at <= (self.now)())
    }

    fn entry(&self, bytes: &[u8], ttl: Duration) -> Option<Entry> {
        if bytes.len() as u64 > self.max_entry_bytes {
            self.counters.refused.inc();
            return None;
        }
        // A time too far away to be counted never comes.
        let expires = (self.now)().checked_add(ttl);
        Some(Entry {
            bytes: Bytes::copy_from_slice(bytes),
            expires,
        })
    }
}

impl Cache for Memory {
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Vec<Option<Bytes>>> {
        let found = keys.iter().map(|key| self.get(key)).collect();
        Box::pin(std::future::ready(found))
    }

    fn put_many<'a>(&'a self, entries: Vec<(Key, Bytes)>, ttl: Duration) -> BoxFuture<'a, ()> {
        for (key, bytes) in entries {
            self.put(key, &bytes, ttl);
        }
        Box::pin(std::future::ready(()))
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Memory({} entries, {} bytes)",
            self.entries.len(),
            self.entries.weight()
        )
    }
}
