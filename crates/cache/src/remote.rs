//! What caches at the other end of a connection have in common: connections that are kept, a bounded
//! queue of what is to be stored, and a pause after many failures.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metrics::{Counter, Registry};
use parking_lot::{Mutex, RwLock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};

use crate::{BoxFuture, Cache, Key};

/// A connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Makes connections; whoever has TLS makes its own.
pub type Dial = Arc<
    dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>> + Send + Sync,
>;

/// Connections without TLS.
pub fn plain() -> Dial {
    Arc::new(|address| {
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect(address.as_str()).await?;
            let _ = stream.set_nodelay(true);
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    })
}

/// How a remote cache is spoken to. The names are those of Thanos' YAML.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// How long a connection may take to be made.
    pub dial_timeout: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Connections kept for each server.
    pub max_idle: usize,
    /// Keys asked for in one message.
    pub batch: usize,
    /// Messages of one question on their way at once.
    pub concurrency: usize,
    /// Workers that store.
    pub writers: usize,
    /// Entries that wait to be stored; more are dropped.
    pub queue: usize,
    /// Entries larger than this are not stored, bytes; 0: any size.
    pub max_entry_bytes: u64,
    /// After so many failures in a row a server is left alone,
    pub failures: u32,
    /// for so long.
    pub pause: Duration,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            dial_timeout: Duration::from_secs(5),
            timeout: Duration::from_millis(500),
            max_idle: 100,
            batch: 100,
            concurrency: 100,
            writers: 20,
            queue: 10_000,
            max_entry_bytes: 1 << 20,
            failures: 5,
            pause: Duration::from_secs(5),
        }
    }
}

/// What is said over a connection.
pub(crate) trait Protocol: Send + Sync + 'static {
    /// Says hello.
    fn greet<'a>(&'a self, io: &'a mut dyn Io) -> BoxFuture<'a, io::Result<()>>;

    /// Asks for keys; the answers come in their order.
    fn get<'a>(
        &'a self,
        io: &'a mut dyn Io,
        keys: &'a [Key],
    ) -> BoxFuture<'a, io::Result<Vec<Option<Bytes>>>>;

    /// Stores entries.
    fn put<'a>(
        &'a self,
        io: &'a mut dyn Io,
        entries: &'a [(Key, Bytes)],
        ttl: Duration,
    ) -> BoxFuture<'a, io::Result<()>>;
}

/// An answer that cannot be one.
pub(crate) fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// A cache on one or several servers; keys are dealt out among them.
pub(crate) struct Remote {
    inner: Arc<Inner>,
    queue: mpsc::Sender<Write>,
}

struct Write {
    entries: Vec<(Key, Bytes)>,
    ttl: Duration,
}

struct Inner {
    protocol: Box<dyn Protocol>,
    dial: Dial,
    options: RemoteOptions,
    /// Sorted, so that every process deals keys out alike.
    servers: RwLock<Arc<[String]>>,
    states: Mutex<HashMap<String, State>>,
    turns: Semaphore,
    meters: Meters,
}

/// What a server is asked.
enum Call<'a> {
    Get(&'a [Key]),
    Put(&'a [(Key, Bytes)], Duration),
}

#[derive(Default)]
struct State {
    idle: VecDeque<Box<dyn Io>>,
    failures: u32,
    rests_until: Option<Instant>,
}

struct Meters {
    requests: Counter,
    hits: Counter,
    failures: Counter,
    skipped: Counter,
    stored: Counter,
}

/// Which of `count` servers has a key: jump consistent hashing, so that one server more moves few
/// keys (Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm").
fn jump(mut key: u64, count: usize) -> usize {
    let (mut at, mut next) = (0i64, 0i64);
    while next < count as i64 {
        at = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let part = (1u64 << 31) as f64 / ((key >> 33) + 1) as f64;
        next = ((at + 1) as f64 * part) as i64;
    }
    at as usize
}

impl Remote {
    /// A cache that its metrics call `name`. Must be made within a tokio runtime.
    pub(crate) fn new(
        name: &str,
        protocol: Box<dyn Protocol>,
        servers: Vec<String>,
        dial: Dial,
        options: RemoteOptions,
        registry: &Registry,
    ) -> Result<Self, metrics::Error> {
        let counter = |what: &str, help: &str| {
            let name_of = format!("epimetheus_cache_{what}_total");
            let family = registry.counters(&name_of, help, ["cache"]);
            family.map(|f| f.with(&[name]))
        };
        let meters = Meters {
            requests: counter("requests", "Keys that were asked for.")?,
            hits: counter("hits", "Keys that were found.")?,
            failures: counter("failures", "Calls to servers of the cache that failed.")?,
            skipped: counter(
                "skipped",
                "Entries that were not stored: too large, or too many at once.",
            )?,
            stored: counter("added", "Entries that were added.")?,
        };
        let (queue, waiting) = mpsc::channel(options.queue.max(1));
        let inner = Arc::new(Inner {
            protocol,
            dial,
            turns: Semaphore::new(options.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            servers: RwLock::default(),
            states: Mutex::default(),
            meters,
            options,
        });
        inner.set_servers(servers);
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        for _ in 0..inner.options.writers.clamp(1, 64) {
            tokio::spawn(store(Arc::downgrade(&inner), Arc::clone(&waiting)));
        }
        Ok(Self { inner, queue })
    }

    /// Takes over other servers.
    pub(crate) fn set_servers(&self, servers: Vec<String>) {
        self.inner.set_servers(servers);
    }
}

/// Stores what waits, until nobody has the cache any more.
async fn store(
    inner: std::sync::Weak<Inner>,
    waiting: Arc<tokio::sync::Mutex<mpsc::Receiver<Write>>>,
) {
    loop {
        let Some(write) = waiting.lock().await.recv().await else {
            return;
        };
        let Some(inner) = inner.upgrade() else {
            return;
        };
        for (server, at) in inner.deal(write.entries.iter().map(|e| &e.0)) {
            let entries: Vec<(Key, Bytes)> = at
                .into_iter()
                .filter_map(|i| write.entries.get(i).cloned())
                .collect();
            let call = Call::Put(&entries, write.ttl);
            if inner.call(&server, call).await.is_some() {
                inner.meters.stored.add(entries.len() as u64);
            }
        }
    }
}

impl Inner {
    fn set_servers(&self, mut servers: Vec<String>) {
        servers.sort_unstable();
        servers.dedup();
        self.states.lock().retain(|name, _| servers.contains(name));
        *self.servers.write() = servers.into();
    }

    /// The places of keys, by the server that has them.
    fn deal<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Vec<(String, Vec<usize>)> {
        let servers = Arc::clone(&self.servers.read());
        let mut by_server: Vec<Vec<usize>> = vec![Vec::new(); servers.len()];
        for (i, key) in keys.enumerate() {
            let hash = xxhash_rust::xxh64::xxh64(key.as_bytes(), 0);
            if let Some(list) = by_server.get_mut(jump(hash, servers.len())) {
                list.push(i);
            }
        }
        let all = servers.iter().cloned().zip(by_server);
        all.filter(|(_, list)| !list.is_empty()).collect()
    }

    /// Asks `server`; none if that failed, or if the server is left alone. Storing has no answer.
    async fn call(&self, server: &str, call: Call<'_>) -> Option<Vec<Option<Bytes>>> {
        let idle = {
            let mut states = self.states.lock();
            let state = states.entry(server.to_owned()).or_default();
            if state
                .rests_until
                .is_some_and(|until| Instant::now() < until)
            {
                return None;
            }
            state.idle.pop_front()
        };
        let done = async {
            let mut io = match idle {
                Some(io) => io,
                None => {
                    let dialled = (self.dial)(server.to_owned());
                    let mut io = limited(self.options.dial_timeout, dialled).await?;
                    limited(self.options.timeout, self.protocol.greet(&mut *io)).await?;
                    io
                }
            };
            let protocol = &self.protocol;
            let answer = async {
                match call {
                    Call::Get(keys) => protocol.get(&mut *io, keys).await,
                    Call::Put(entries, ttl) => {
                        protocol.put(&mut *io, entries, ttl).await?;
                        Ok(Vec::new())
                    }
                }
            };
            let answer = limited(self.options.timeout, answer).await?;
            Ok::<_, io::Error>((io, answer))
        };
        let done = done.await;
        let mut states = self.states.lock();
        let state = states.entry(server.to_owned()).or_default();
        match done {
            Ok((io, answer)) => {
                state.failures = 0;
                if state.idle.len() < self.options.max_idle {
                    state.idle.push_front(io);
                }
                Some(answer)
            }
            Err(error) => {
                self.meters.failures.inc();
                state.failures += 1;
                // Connections that were made before it went away are dead, too.
                state.idle.clear();
                if state.failures >= self.options.failures {
                    if state
                        .rests_until
                        .is_none_or(|until| until <= Instant::now())
                    {
                        tracing::warn!(server, %error, "a cache does not answer; it is left alone for a while");
                    }
                    state.rests_until = Some(Instant::now() + self.options.pause);
                } else {
                    tracing::debug!(server, %error, "a call to a cache failed");
                }
                None
            }
        }
    }
}

async fn limited<T>(most: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(most, work).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

impl Cache for Remote {
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Vec<Option<Bytes>>> {
        Box::pin(async move {
            let inner = &*self.inner;
            inner.meters.requests.add(keys.len() as u64);
            let mut found: Vec<Option<Bytes>> = vec![None; keys.len()];
            let batch = inner.options.batch.max(1);
            let mut calls = Vec::new();
            for (server, at) in inner.deal(keys.iter()) {
                for part in at.chunks(batch) {
                    let asked: Vec<Key> = part.iter().map(|&i| Arc::clone(&keys[i])).collect();
                    calls.push((server.clone(), part.to_vec(), asked));
                }
            }
            let calls = calls.into_iter().map(|(server, places, asked)| async move {
                let _turn = inner.turns.acquire().await;
                (places, inner.call(&server, Call::Get(&asked)).await)
            });
            for (places, got) in join_all(calls).await {
                for (place, bytes) in places.into_iter().zip(got.unwrap_or_default()) {
                    inner.meters.hits.add(u64::from(bytes.is_some()));
                    found[place] = bytes;
                }
            }
            found
        })
    }

    fn put_many<'a>(&'a self, mut entries: Vec<(Key, Bytes)>, ttl: Duration) -> BoxFuture<'a, ()> {
        let most = self.inner.options.max_entry_bytes;
        let before = entries.len();
        if most > 0 {
            entries.retain(|(_, bytes)| bytes.len() as u64 <= most);
        }
        let mut skipped = before - entries.len();
        let count = entries.len();
        if count > 0 && self.queue.try_send(Write { entries, ttl }).is_err() {
            skipped += count;
        }
        self.inner.meters.skipped.add(skipped as u64);
        Box::pin(std::future::ready(()))
    }
}

/// Runs futures side by side, within one task.
async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        let mut waits = false;
        for (future, slot) in running.iter_mut().zip(&mut done) {
            if slot.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(output) => *slot = Some(output),
                    std::task::Poll::Pending => waits = true,
                }
            }
        }
        match waits {
            true => std::task::Poll::Pending,
            false => std::task::Poll::Ready(()),
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_more_moves_few_keys() {
        let keys: Vec<u64> = (0..10_000u64)
            .map(|k| xxhash_rust::xxh64::xxh64(&k.to_le_bytes(), 0))
            .collect();
        assert_eq!(jump(12345, 1), 0);
        let moved = keys.iter().filter(|k| jump(**k, 4) != jump(**k, 5)).count();
        assert!((1500..2500).contains(&moved), "{moved}");
        for count in 1..9 {
            let mut of = vec![0usize; count];
            keys.iter().for_each(|k| of[jump(*k, count)] += 1);
            let fair = keys.len() / count;
            assert!(of.iter().all(|n| n.abs_diff(fair) < fair / 5), "{of:?}");
        }
    }
}
