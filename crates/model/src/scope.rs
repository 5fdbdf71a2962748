//! What belongs to one query: range, tenant, deadline, cancellation, budget, symbols, statistics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::source::Shard;
use crate::{Budget, Matcher, Millis, Reservation, Str, Symbols, TimeRange};

/// What to do when a part of the data cannot be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartialResponse {
    /// Answer from the rest, and say so in a warning.
    #[default]
    Warn,
    /// Fail.
    Abort,
}

/// How the answers of many stores are brought together for one query. A source that is one store
/// by itself does not look at it.
#[derive(Clone, Debug, Default)]
pub struct Gather {
    /// Labels that tell replicas apart, to deduplicate over. None: what the source is set to;
    /// empty: replicas stay apart.
    pub replica_labels: Option<Arc<[Str]>>,
    /// Only stores whose `__address__` satisfies all matchers of one of these lists; empty: all.
    pub stores: Vec<Vec<Matcher>>,
    /// The coarsest downsampled resolution that will do, ms; 0 means raw only.
    pub max_resolution: Millis,
    /// Take only one part of the series, where a selector does not say.
    pub shard: Option<Shard>,
}

/// Everything that belongs to one query and to all of its selectors.
#[derive(Debug)]
pub struct Scope {
    /// The widest range the query will ask for.
    pub range: TimeRange,
    /// Whose data is asked for.
    pub tenant: Option<Str>,
    /// When the answer is of no use any more.
    pub deadline: Option<Instant>,
    /// Ends the query early.
    pub cancel: Cancel,
    /// The memory it may hold.
    pub budget: Arc<Budget>,
    /// What to do when data is missing.
    pub partial_response: PartialResponse,
    /// How the answers of many stores are brought together.
    pub gather: Gather,
    /// The one symbol table of all answers to this query.
    pub symbols: Arc<Symbols>,
    /// What was done for it.
    pub statistics: Statistics,
    /// What the answer takes, which lives as long as this.
    pub kept: Mutex<Vec<Reservation>>,
}

impl Scope {
    /// A scope without deadline, tenant or limit, for tests and tools.
    pub fn unbounded(range: TimeRange) -> Arc<Self> {
        Arc::new(Self::new(range, Budget::unlimited()))
    }

    /// A scope over `range` that holds at most what `budget` allows.
    pub fn new(range: TimeRange, budget: Arc<Budget>) -> Self {
        Self {
            range,
            tenant: None,
            deadline: None,
            cancel: Cancel::default(),
            budget,
            partial_response: PartialResponse::Warn,
            gather: Gather::default(),
            symbols: Arc::default(),
            statistics: Statistics::default(),
            kept: Mutex::default(),
        }
    }

    /// Holds what a part of the answer takes until the scope goes: an answer that is still being
    /// written counts.
    pub fn keep(&self, held: Reservation) {
        self.kept.lock().push(held);
    }

    /// The same scope with a deadline `timeout` from now.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.deadline = Instant::now().checked_add(timeout);
        self
    }

    /// Fails once the query was cancelled or its deadline has passed. Cheap enough to ask once a
    /// batch.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.cancel.is_cancelled() {
            return Err(Stopped::Cancelled);
        }
        match self.deadline {
            Some(at) if Instant::now() >= at => Err(Stopped::Deadline),
            _ => Ok(()),
        }
    }

    /// Time left until the deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline
            .map(|at| at.saturating_duration_since(Instant::now()))
    }
}

/// Why a query ended before its answer was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// Whoever asked has gone.
    #[error("query was canceled")]
    Cancelled,
    /// It took too long.
    #[error("query timed out")]
    Deadline,
}

/// A flag that ends a query; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<CancelInner>);

#[derive(Debug, Default)]
struct CancelInner {
    cancelled: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Cancel {
    /// Cancels, and wakes everything that waits in [`Cancel::cancelled`].
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
        for waker in self.0.wakers.lock().drain(..) {
            waker.wake();
        }
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Finishes when it is cancelled.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + 'static {
        let inner = Arc::clone(&self.0);
        std::future::poll_fn(move |cx: &mut Context<'_>| {
            let mut wakers = inner.wakers.lock();
            if inner.cancelled.load(Ordering::Acquire) {
                return Poll::Ready(());
            }
            if !wakers.iter().any(|w| w.will_wake(cx.waker())) {
                wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }

    /// A guard that cancels when it is dropped, for the task that serves a client.
    pub fn on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }
}

/// Cancels when dropped.
#[derive(Debug)]
pub struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Counters of what was done for one query.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Series touched.
    pub series: AtomicU64,
    /// Samples decoded.
    pub samples: AtomicU64,
    /// Chunks decoded.
    pub chunks: AtomicU64,
    /// Bytes fetched from disk or network.
    pub bytes: AtomicU64,
    /// Samples held at once, at most, as Prometheus counts them for `query.max-samples`.
    pub peak_samples: AtomicU64,
}

impl Statistics {
    /// Adds `n` to one of the counters.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancelling_is_seen_by_clones_and_waiters() {
        let cancel = Cancel::default();
        let mut waiting = Box::pin(cancel.cancelled());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        drop(cancel.clone().on_drop());
        assert!(cancel.is_cancelled());
        assert!(waiting.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn a_passed_deadline_stops() {
        let scope = Scope::new(TimeRange::ALL, Budget::unlimited()).with_timeout(Duration::ZERO);
        assert_eq!(scope.check(), Err(Stopped::Deadline));
        scope.cancel.cancel();
        assert_eq!(scope.check(), Err(Stopped::Cancelled));
    }
}
