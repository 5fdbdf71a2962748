//! Memory that a query may hold: reserved before it is used, given back on drop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A counted limit in bytes. Budgets nest: what a child reserves, its parent reserves too.
///
/// Reserving never waits; it fails.
#[derive(Debug)]
pub struct Budget {
    name: &'static str,
    limit: u64,
    used: AtomicU64,
    peak: AtomicU64,
    crowded: AtomicBool,
    parent: Option<Arc<Budget>>,
}

/// A reservation that did not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} needs {wanted} more bytes, but {name} is limited to {limit} bytes ({used} in use); see --memory.limit"
)]
pub struct OverBudget {
    /// What the memory was for.
    pub what: &'static str,
    /// Which budget refused.
    pub name: &'static str,
    /// Its limit in bytes.
    pub limit: u64,
    /// Bytes in use at that moment.
    pub used: u64,
    /// Bytes asked for.
    pub wanted: u64,
}

impl Budget {
    /// A root budget.
    pub fn new(name: &'static str, limit: u64) -> Arc<Self> {
        Arc::new(Self {
            name,
            limit,
            used: 0.into(),
            peak: 0.into(),
            crowded: false.into(),
            parent: None,
        })
    }

    /// A budget without a limit, for tests and tools.
    pub fn unlimited() -> Arc<Self> {
        Self::new("everything", u64::MAX)
    }

    /// A budget inside this one.
    pub fn child(self: &Arc<Self>, name: &'static str, limit: u64) -> Arc<Self> {
        Arc::new(Self {
            name,
            limit,
            used: 0.into(),
            peak: 0.into(),
            crowded: false.into(),
            parent: Some(Arc::clone(self)),
        })
    }

    /// Sets `bytes` aside for `what`, here and in every budget around this one.
    pub fn reserve(
        self: &Arc<Self>,
        what: &'static str,
        bytes: u64,
    ) -> Result<Reservation, OverBudget> {
        self.take(what, bytes)?;
        Ok(Reservation {
            budget: Arc::clone(self),
            bytes,
        })
    }

    fn take(&self, what: &'static str, bytes: u64) -> Result<(), OverBudget> {
        let refused = |used| OverBudget {
            what,
            name: self.name,
            limit: self.limit,
            used,
            wanted: bytes,
        };
        let before = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= self.limit)
            })
            .map_err(refused)?;
        if let Some(parent) = &self.parent
            && let Err(e) = parent.take(what, bytes)
        {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            self.crowded.store(true, Ordering::Relaxed);
            return Err(e);
        }
        self.peak.fetch_max(before + bytes, Ordering::Relaxed);
        Ok(())
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.give_back(bytes);
        }
    }

    /// Bytes in use now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The most bytes that were in use at once.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Whether something was refused that this budget alone had room for: others hold too much.
    pub fn crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }
}

/// Bytes set aside; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Reservation {
    /// Makes the reservation `extra` bytes larger.
    pub fn grow(&mut self, what: &'static str, extra: u64) -> Result<(), OverBudget> {
        self.budget.take(what, extra)?;
        self.bytes += extra;
        Ok(())
    }

    /// Changes the reservation to `bytes`, up or down.
    pub fn resize(&mut self, what: &'static str, bytes: u64) -> Result<(), OverBudget> {
        if bytes > self.bytes {
            return self.grow(what, bytes - self.bytes);
        }
        self.budget.give_back(self.bytes - bytes);
        self.bytes = bytes;
        Ok(())
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_cannot_exceed_itself_or_its_parent() {
        let total = Budget::new("queries", 100);
        let a = total.child("one query", 80);
        let b = total.child("one query", 80);
        let held = a.reserve("columns", 70).unwrap();
        assert_eq!(a.reserve("columns", 20).unwrap_err().name, "one query");
        assert_eq!(b.reserve("columns", 40).unwrap_err().name, "queries");
        assert_eq!(b.used(), 0, "a refusal leaves nothing behind");
        assert!(b.crowded() && !a.crowded(), "b alone had room for it");
        drop(held);
        assert_eq!(total.used(), 0);
        assert_eq!(a.peak(), 70);
        let mut r = b.reserve("columns", 40).unwrap();
        r.resize("columns", 10).unwrap();
        assert_eq!((b.used(), total.used()), (10, 10));
    }
}
