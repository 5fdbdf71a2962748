//! A query never sees half of a batch.
//!
//! Every batch takes a number before its first sample goes to memory and gives it back after the
//! last. A [`Snapshot`] remembers which numbers were out when it was taken: those batches, and all
//! that began later, are invisible to it for as long as it lives. A series remembers the number of
//! the last batch that touched it and how many samples that brought; only while some batch or
//! snapshot is old enough to care does it remember more (see `page`).

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

#[derive(Debug)]
struct State {
    next: u64,
    /// Batches that are being appended: as many as there are appending threads.
    running: Vec<u64>,
    /// How many snapshots hold each lowest number.
    readers: BTreeMap<u64, usize>,
}

impl State {
    fn oldest_running(&self) -> u64 {
        self.running.iter().copied().min().unwrap_or(self.next)
    }

    fn low(&self) -> u64 {
        let oldest = self.oldest_running();
        let oldest_read = self.readers.keys().next();
        oldest_read.map_or(oldest, |&r| r.min(oldest))
    }
}

/// Gives out batch numbers and snapshots.
#[derive(Debug)]
pub(crate) struct Isolation(Mutex<State>);

impl Default for Isolation {
    fn default() -> Self {
        Self(Mutex::new(State {
            next: 1,
            running: Vec::new(),
            readers: BTreeMap::new(),
        }))
    }
}

/// A batch being appended; it becomes visible when this is dropped.
pub(crate) struct Running<'a> {
    isolation: &'a Isolation,
    /// The batch's number.
    pub(crate) number: u64,
    /// Batches with a lower number are visible to everybody, now and later.
    pub(crate) low: u64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.isolation
            .0
            .lock()
            .running
            .retain(|&n| n != self.number);
    }
}

/// Which batches a query sees.
#[derive(Debug)]
pub(crate) struct Snapshot {
    isolation: Arc<Isolation>,
    next: u64,
    running: Box<[u64]>,
    low: u64,
}

impl Snapshot {
    /// Whether the samples of batch `number` may be seen.
    #[inline]
    pub(crate) fn sees(&self, number: u64) -> bool {
        number < self.low || (number < self.next && !self.running.contains(&number))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let readers = &mut self.isolation.0.lock().readers;
        if let Some(count) = readers.get_mut(&self.low) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&self.low);
            }
        }
    }
}

impl Isolation {
    pub(crate) fn begin(&self) -> Running<'_> {
        let state = &mut *self.0.lock();
        let number = state.next;
        let low = state.low();
        state.next += 1;
        state.running.push(number);
        Running {
            isolation: self,
            number,
            low,
        }
    }

    pub(crate) fn snapshot(self: &Arc<Self>) -> Snapshot {
        let state = &mut *self.0.lock();
        let low = state.oldest_running();
        *state.readers.entry(low).or_default() += 1;
        Snapshot {
            isolation: Arc::clone(self),
            next: state.next,
            running: state.running.as_slice().into(),
            low,
        }
    }

    /// Batches with a lower number are visible to everybody, now and later.
    pub(crate) fn low(&self) -> u64 {
        self.watermarks().0
    }

    /// What [`Isolation::low`] says, and the number of the newest batch.
    pub(crate) fn watermarks(&self) -> (u64, u64) {
        let state = self.0.lock();
        (state.low(), state.next - 1)
    }

    /// Snapshots that are alive.
    #[cfg(test)]
    pub(crate) fn readers(&self) -> usize {
        self.0.lock().readers.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sees_what_had_ended() {
        let iso = Arc::new(Isolation::default());
        let a = iso.begin();
        let b = iso.begin();
        let (na, nb) = (a.number, b.number);
        drop(b);
        let s = iso.snapshot();
        let c = iso.begin();
        assert!(!s.sees(na) && s.sees(nb) && !s.sees(c.number));
        assert_eq!(c.low, na);
        drop(a);
        drop(c);
        assert!(!s.sees(na), "what was hidden stays hidden");
        assert_eq!(iso.begin().low, na, "the snapshot still cares");
        drop(s);
        assert_eq!(iso.readers(), 0);
        let last = iso.begin();
        assert_eq!(last.low, last.number);
        assert!(iso.snapshot().sees(na));
    }
}
