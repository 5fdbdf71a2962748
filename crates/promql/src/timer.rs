//! Deadlines without a runtime: one thread that wakes whoever is late. It starts with the first
//! deadline and ends when there have been none for a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Wakes futures at their time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wakers: BTreeMap<(Instant, u64), Waker>,
    next: u64,
    running: bool,
    /// The thread looks again then at the latest.
    looks: Option<Instant>,
}

const IDLE: Duration = Duration::from_secs(10);

impl Timer {
    /// Finishes at `at`; never, if there is no time.
    pub(crate) fn at(&self, at: Option<Instant>) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(&self.0);
        let mut entry: Option<Entry> = None;
        std::future::poll_fn(move |cx| {
            let Some(at) = at else {
                return Poll::Pending;
            };
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            match &entry {
                Some(entry) => entry.renew(cx.waker()),
                None => entry = Some(Entry::new(&shared, at, cx.waker())),
            }
            Poll::Pending
        })
    }
}

/// A waker in the list; removed on drop.
struct Entry {
    shared: Arc<Shared>,
    key: (Instant, u64),
}

impl Entry {
    fn new(shared: &Arc<Shared>, at: Instant, waker: &Waker) -> Self {
        let mut state = shared.state.lock();
        let key = (at, state.next);
        state.next += 1;
        state.wakers.insert(key, waker.clone());
        if state.running {
            // Most deadlines lie behind those that are there: nobody has to wake up for them.
            if state.looks.is_none_or(|looks| at < looks) {
                shared.changed.notify_one();
            }
        } else {
            let of_thread = Arc::clone(shared);
            state.running = std::thread::Builder::new()
                .name("query-deadlines".to_owned())
                .spawn(move || of_thread.run())
                .is_ok();
        }
        drop(state);
        Self {
            shared: Arc::clone(shared),
            key,
        }
    }

    fn renew(&self, waker: &Waker) {
        let mut state = self.shared.state.lock();
        match state.wakers.get_mut(&self.key) {
            Some(old) => old.clone_from(waker),
            None => {
                state.wakers.insert(self.key, waker.clone());
                if state.looks.is_none_or(|looks| self.key.0 < looks) {
                    self.shared.changed.notify_one();
                }
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.state.lock().wakers.remove(&self.key);
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            let now = Instant::now();
            let first = state.wakers.keys().next().map(|(at, _)| *at);
            match first {
                Some(at) if at <= now => {
                    if let Some((_, waker)) = state.wakers.pop_first() {
                        waker.wake();
                    }
                }
                Some(at) => {
                    state.looks = Some(at);
                    self.changed.wait_until(&mut state, at);
                }
                None => {
                    let until = now + IDLE;
                    state.looks = Some(until);
                    let idle = self.changed.wait_until(&mut state, until);
                    if idle.timed_out() && state.wakers.is_empty() {
                        state.running = false;
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_wakes_in_time() {
        let timer = Timer::default();
        let start = Instant::now();
        let (a, b) = (Duration::from_millis(30), Duration::from_millis(5));
        let both = async {
            futures::join!(
                timer.at(start.checked_add(a)),
                timer.at(start.checked_add(b))
            )
        };
        futures::executor::block_on(both);
        assert!(start.elapsed() >= a && start.elapsed() < Duration::from_secs(5));
    }
}
