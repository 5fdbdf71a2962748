//! Counters and gauges: one shared atomic each.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// An `f64` that threads can share; addition retries until nobody was in between.
#[derive(Debug, Default)]
pub(crate) struct AtomicF64(AtomicU64);

impl AtomicF64 {
    pub(crate) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }

    pub(crate) fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }

    pub(crate) fn add(&self, more: f64) {
        let mut seen = self.0.load(Relaxed);
        while let Err(now) = self.0.compare_exchange_weak(
            seen,
            (f64::from_bits(seen) + more).to_bits(),
            Relaxed,
            Relaxed,
        ) {
            seen = now;
        }
    }
}

/// A count of events or bytes that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A sum, such as seconds, that only grows.
#[derive(Clone, Debug, Default)]
pub struct FloatCounter(Arc<AtomicF64>);

impl FloatCounter {
    /// Adds `more`; a negative number or NaN is ignored, since a counter never falls.
    pub fn add(&self, more: f64) {
        if more > 0.0 {
            self.0.add(more);
        }
    }

    /// The present value.
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

/// A whole number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.add(-1);
    }

    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }

    /// Adds one until the guard is dropped: for things in flight.
    #[must_use = "the gauge falls when the guard is dropped"]
    pub fn in_flight(&self) -> InFlight {
        self.inc();
        InFlight(self.clone())
    }
}

/// Counts as one in a [`Gauge`] for as long as it lives.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct FloatGauge(Arc<AtomicF64>);

impl FloatGauge {
    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }

    /// Adds `more`, which may be negative.
    pub fn add(&self, more: f64) {
        self.0.add(more);
    }

    /// The present value.
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}
