//! What a cache keeps, for how long, and who fetches what it lacks.

#![allow(clippy::unwrap_used)]

mod remote;

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache::{Cache, Key, Memory, MemoryOptions};
use metrics::{Registry, Value};

const LONG: Duration = Duration::from_secs(3600);

fn memory(max_bytes: u64) -> (Memory, Registry) {
    let registry = Registry::new();
    (
        Memory::new("test", MemoryOptions::new(max_bytes), &registry).unwrap(),
        registry,
    )
}

fn number(registry: &Registry, name: &str) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|f| *f.desc.name == *name).unwrap();
    match family.metrics[0].value {
        Value::Number(n) => n,
        ref other => panic!("{other:?}"),
    }
}

/// Runs a future on this thread, sleeping until it is woken.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(out) => return out,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn many_at_once_in_order() {
    let (memory, registry) = memory(1 << 20);
    let entries = [("a", "1"), ("b", "22")].map(|(k, v)| (Key::from(k), Bytes::from(v)));
    block_on(memory.put_many(entries.to_vec(), LONG));
    let keys: Vec<Key> = ["b", "none", "a"].map(Key::from).to_vec();
    let found = block_on(memory.get_many(&keys));
    assert_eq!(
        found,
        [Some(Bytes::from("22")), None, Some(Bytes::from("1"))]
    );
    assert_eq!(number(&registry, "epimetheus_cache_requests_total"), 3.0);
    assert_eq!(number(&registry, "epimetheus_cache_hits_total"), 2.0);
    assert_eq!(number(&registry, "epimetheus_cache_entries"), 2.0);
    memory.remove("a");
    assert_eq!(memory.get("a"), None);
}

#[test]
fn it_never_grows_over_its_limit() {
    let (memory, registry) = memory(1 << 18);
    for i in 0..2000 {
        memory.put(format!("key-{i}").into(), &[7; 1000], LONG);
        assert!(memory.used_bytes() <= 1 << 18);
    }
    assert!(memory.used_bytes() > 1 << 17);
    assert!(number(&registry, "epimetheus_cache_evicted_total") > 1000.0);

    memory.put("large".into(), &[0; 1 << 15], LONG);
    assert_eq!(memory.get("large"), None);
    assert_eq!(number(&registry, "epimetheus_cache_refused_total"), 1.0);
}

#[test]
fn the_largest_allowed_entry_is_kept() {
    for max in [1 << 14, 1 << 20, 1 << 24] {
        let (memory, _) = memory(max);
        let bytes = vec![1; max as usize / 16];
        memory.put("large".into(), &bytes, LONG);
        assert_eq!(
            memory.get("large").map(|b| b.len()),
            Some(bytes.len()),
            "{max}"
        );
    }
}

#[test]
fn entries_live_for_their_own_time() {
    thread_local!(static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) });
    fn now() -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(Instant::now) + AHEAD.get()
    }
    let registry = Registry::new();
    let options = MemoryOptions::new(1 << 20);
    let memory = Memory::with_clock("test", options, &registry, now).unwrap();
    memory.put("short".into(), b"s", Duration::from_secs(1));
    memory.put("long".into(), b"l", Duration::from_secs(60));
    memory.put("forever".into(), b"f", Duration::MAX);
    AHEAD.set(Duration::from_secs(1));
    assert_eq!(memory.get("short"), None);
    assert!(memory.get("long").is_some());
    AHEAD.set(Duration::from_secs(61));
    let fetched = block_on(memory.get_or_fetch(&"long".into(), LONG, async {
        Ok::<_, ()>(Bytes::from("again"))
    }));
    assert_eq!(fetched, Ok(Bytes::from("again")));
    assert_eq!(memory.get("long"), Some(Bytes::from("again")));
    assert!(memory.get("forever").is_some());
    assert_eq!(number(&registry, "epimetheus_cache_expired_total"), 2.0);
}

#[test]
fn one_fetches_for_all() {
    let (memory, _) = memory(1 << 20);
    let fetched = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let fetch = async {
                    fetched.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(30));
                    Ok::<_, ()>(Bytes::from("value"))
                };
                let got = block_on(memory.get_or_fetch(&"key".into(), LONG, fetch));
                assert_eq!(got, Ok(Bytes::from("value")));
            });
        }
    });
    assert_eq!(fetched.load(Ordering::SeqCst), 1);
}

#[test]
fn after_a_failure_the_next_one_fetches() {
    let (memory, _) = memory(1 << 20);
    let key = Key::from("key");
    let failed = block_on(memory.get_or_fetch(&key, LONG, async { Err::<Bytes, _>("no") }));
    assert_eq!(failed, Err("no"));
    // A fetch that is given up in the middle frees the key too.
    {
        let mut given_up =
            pin!(memory.get_or_fetch(&key, LONG, std::future::pending::<Result<Bytes, ()>>()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(given_up.as_mut().poll(&mut context).is_pending());
    }
    let fetch = async { Ok::<_, ()>(Bytes::from("yes")) };
    assert_eq!(
        block_on(memory.get_or_fetch(&key, LONG, fetch)),
        Ok(Bytes::from("yes"))
    );
    assert_eq!(memory.get("key"), Some(Bytes::from("yes")));
}
