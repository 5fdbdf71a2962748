//! A shared cache behind the memory of gateways.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache::{BoxFuture, Cache, Key, Memory, MemoryOptions};
use chunk::suite;
use model::{Labels, Matcher, Scope, Select, Source, TimeRange};
use s3kit::Op;
use store::{GatewayOptions, Tier};

use crate::kit::{Kept, Place, fleet};

fn tier(cache: Arc<dyn Cache>, page: u64) -> Tier {
    Tier {
        cache,
        page,
        ttl: Duration::from_secs(600),
    }
}

fn options(tier: Tier) -> GatewayOptions {
    GatewayOptions {
        // Nothing is remembered by the gateway itself.
        cache_bytes: 0,
        index_tier: Some(tier.clone()),
        chunk_tier: Some(tier),
        ..GatewayOptions::default()
    }
}

fn memory() -> Arc<dyn Cache> {
    let options = MemoryOptions {
        max_bytes: 64 << 20,
        max_entry_bytes: 1 << 20,
    };
    Arc::new(Memory::new("tier", options, &metrics::Registry::new()).unwrap())
}

/// Forgets everything.
struct Forgetful;

impl Cache for Forgetful {
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Vec<Option<Bytes>>> {
        Box::pin(std::future::ready(vec![None; keys.len()]))
    }

    fn put_many<'a>(&'a self, _: Vec<(Key, Bytes)>, _: Duration) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[test]
fn suite_of_a_gateway_with_pages() {
    type Make = fn() -> Arc<dyn Cache>;
    let makes: [(Make, u64); 3] = [
        (memory, 1024),
        (memory, 16_000),
        (|| Arc::new(Forgetful), 1024),
    ];
    for (make, page) in makes {
        suite::source("gateway with pages", move |series| {
            let place = Place::disk();
            place.add(1, TimeRange::ALL, &Labels::default(), &series);
            // The blocks of all cases have one ULID, so each has a cache of its own.
            let source = place.gateway(options(tier(make(), page)));
            Arc::new(Kept {
                source,
                _place: place,
            })
        });
    }
}

fn all(source: &dyn Source) -> usize {
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = source.open(Arc::clone(&scope)).unwrap();
    let select = Select::new(vec![Matcher::equal("__name__", "a")], TimeRange::ALL);
    let rows = suite::collect(view.select(select), &scope, TimeRange::ALL).unwrap();
    rows.values().map(|samples| samples.len()).sum()
}

#[test]
fn what_one_gateway_fetched_another_finds() {
    let place = Place::s3();
    let series = fleet("a", 200, 1_700_000_000_000, 240);
    place.add(1, TimeRange::ALL, &Labels::default(), &series);
    let cache = memory();
    let first = place.gateway(options(tier(Arc::clone(&cache), 4096)));
    assert_eq!(all(&first), 200 * 240);
    let second = place.gateway(options(tier(cache, 4096)));
    let counters = place.server().counters();
    counters.reset();
    assert_eq!(all(&second), 200 * 240);
    let log = counters.log();
    let fetched: Vec<&str> = log
        .iter()
        .filter(|r| r.op == Op::Get && r.key.contains("/chunks/"))
        .map(|r| r.key.as_str())
        .collect();
    assert!(fetched.is_empty(), "{fetched:?}");
    // The index-header is each gateway's own: three reads.
    let index = log.iter().filter(|r| r.key.ends_with("/index")).count();
    assert!(index <= 3, "{index}");
}
