//! Bytes by key, for a while.
//!
//! [`Cache`] is what every tier answers: many keys at once, because whoever asks a remote cache
//! pays by the round trip. [`Memory`] keeps bytes in this process, bounded by their weight, each
//! entry for its own time, and lets only one of many callers fetch what all of them miss.
//! [`Memcached`] and [`Redis`] keep them at servers: what they do not answer in time is missing.
//!
//! ```
//! use std::time::Duration;
//! use cache::{Cache, Key, Memory, MemoryOptions};
//!
//! let memory = Memory::new("index", MemoryOptions::new(1 << 20), &metrics::Registry::new())?;
//! memory.put("postings:1".into(), b"abc", Duration::from_secs(60));
//! assert_eq!(memory.get("postings:1").as_deref(), Some(&b"abc"[..]));
//! assert_eq!(memory.get("postings:2"), None);
//! # Ok::<(), metrics::Error>(())
//! ```
//!
//! Useful for: what can be had again at some cost, such as ranges of blocks and listings. Not
//! useful for: what must not be lost, or decoded things (keep those where they are decoded).

mod lines;
mod memcached;
mod memory;
mod redis;
mod remote;
mod sentinel;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use memcached::Memcached;
pub use memory::{Memory, MemoryOptions};
pub use redis::{Redis, RedisLogin};
pub use remote::{Dial, Io, RemoteOptions, plain};
pub use sentinel::sentinel;

/// A key: readable text, so that it can also name an entry of a remote cache.
pub type Key = Arc<str>;

/// A boxed future, as the trait returns it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Bytes by key, for a while. An answer is never wrong; it may be missing at any time.
///
/// Trouble inside a cache (a server that does not answer) is a miss, counted and logged there:
/// whoever asks can always fetch.
pub trait Cache: Send + Sync {
    /// The bytes of each key, in the order of the keys.
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Vec<Option<Bytes>>>;

    /// Keeps each of these for at most `ttl`. Returns once they are handed over, which need not
    /// mean that they are there.
    fn put_many<'a>(&'a self, entries: Vec<(Key, Bytes)>, ttl: Duration) -> BoxFuture<'a, ()>;
}
