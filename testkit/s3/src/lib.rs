//! An S3 server for tests: in memory, in this process, on a port of its own.
//!
//! It verifies signatures (SigV4) and keeps every promise that leases and shippers lean on: a PUT
//! is atomic, `If-None-Match: *` has exactly one winner, `If-Match` compares and swaps. Beyond
//! that it does what real object storage does on bad days: [`Faults`] injects errors, hangs, cut
//! bodies and lost answers by a seeded plan, every request can be delayed, and [`Counters`] says
//! what was asked, of which keys, how many bytes went over the wire and how many requests had to
//! wait for one another.
//!
//! ```
//! use s3kit::{Config, Op, Server};
//!
//! let server = Server::start(Config::default()).unwrap();
//! server.put("blocks/a", b"hello".to_vec());
//! assert!(server.endpoint().starts_with("http://127.0.0.1:"));
//! assert_eq!(server.get("blocks/a").as_deref(), Some(&b"hello"[..]));
//! assert_eq!(server.counters().requests(Op::Get, ""), 0, "that was no request");
//! ```
//!
//! Useful for: tests of anything that talks S3, request-cost benchmarks, demos. Not useful for:
//! keeping data (it dies with the process), versioning, ACLs, encryption, lifecycle rules.

mod counters;
mod faults;
mod listings;
mod serve;
mod service;
mod state;

pub use counters::{Counters, Op, Request, Totals};
pub use faults::{Fault, Faults, Rule};
pub use listings::{Listings, Wild};

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::state::State;

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The buckets that exist from the start. The first is the one that [`Server::put`] and its
    /// kin mean.
    pub buckets: Vec<String>,
    /// The one access key that is known.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// Added to every request before it is handled.
    pub latency: Duration,
    /// Seed of the fault plan's dice.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            buckets: vec!["test".into()],
            access_key: "test-access".into(),
            secret_key: "test-secret".into(),
            latency: Duration::ZERO,
            seed: 1,
        }
    }
}

/// What the listening thread and the handle share.
#[derive(Debug)]
struct Shared {
    config: Config,
    state: State,
    counters: Counters,
    faults: Faults,
    listings: Listings,
    latency_micros: AtomicU64,
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<serve::Thread>,
}

impl Server {
    /// Starts a server on a thread of its own, so that it neither needs nor hinders the caller's
    /// runtime. Fails if the address cannot be bound.
    pub fn start(config: Config) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: State::new(&config.buckets),
            counters: Counters::default(),
            faults: Faults::new(config.seed),
            listings: Listings::default(),
            latency_micros: AtomicU64::new(config.latency.as_micros() as u64),
            config,
        });
        let (address, thread) = serve::Thread::start(Arc::clone(&shared))?;
        Ok(Self {
            shared,
            address,
            thread: Some(thread),
        })
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `127.0.0.1:port`, as Thanos' configuration wants it.
    pub fn host_port(&self) -> String {
        self.address.to_string()
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The first bucket.
    pub fn bucket(&self) -> &str {
        self.shared.config.buckets.first().map_or("", |b| b)
    }

    /// The access key and its secret.
    pub fn keys(&self) -> (&str, &str) {
        (
            &self.shared.config.access_key,
            &self.shared.config.secret_key,
        )
    }

    /// What was asked so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The plan of faults.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// What is wrong with listings.
    pub fn listings(&self) -> &Listings {
        &self.shared.listings
    }

    /// Delays every later request by `latency`.
    pub fn set_latency(&self, latency: Duration) {
        let micros = latency.as_micros() as u64;
        self.shared.latency_micros.store(micros, Ordering::Relaxed);
    }

    /// The bytes of an object of the first bucket, past all faults and counters.
    pub fn get(&self, key: &str) -> Option<Bytes> {
        self.shared.state.peek(self.bucket(), key)
    }

    /// Stores an object in the first bucket, past all faults and counters.
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        self.shared.state.poke(self.bucket(), key, bytes.into());
    }

    /// Removes an object of the first bucket, past all faults and counters.
    pub fn remove(&self, key: &str) -> bool {
        self.shared.state.erase(self.bucket(), key)
    }

    /// The keys of the first bucket that begin with `prefix`, ascending.
    pub fn keys_under(&self, prefix: &str) -> Vec<String> {
        self.shared.state.keys(self.bucket(), prefix)
    }

    /// How many multipart uploads were begun and neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.shared.state.open_uploads()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.stop();
        }
    }
}
