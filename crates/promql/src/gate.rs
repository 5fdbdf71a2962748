//! How many queries run at once.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_channel::oneshot;
use parking_lot::Mutex;

/// Lets a fixed number in; the rest waits in the order of arrival.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// A place inside; dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct Turn(Option<Arc<Gate>>);

impl Gate {
    pub(crate) fn new(places: usize) -> Self {
        Self {
            state: Mutex::new(State {
                free: places,
                waiting: VecDeque::new(),
            }),
        }
    }

    /// How many places are free.
    pub(crate) fn free(&self) -> usize {
        self.state.lock().free
    }

    /// How many wait for a place.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.state.lock();
        state
            .waiting
            .iter()
            .filter(|next| !next.is_canceled())
            .count()
    }

    /// Finishes once there is a place.
    pub(crate) fn enter(self: &Arc<Self>) -> impl Future<Output = Turn> + Send + 'static {
        let gate = Arc::clone(self);
        async move {
            let wait = {
                let mut state = gate.state.lock();
                if state.free > 0 {
                    state.free -= 1;
                    None
                } else {
                    let (next, wait) = oneshot::channel();
                    state.waiting.push_back(next);
                    Some(wait)
                }
            };
            match wait {
                None => Turn(Some(gate)),
                // The sender lives in the gate, which lives as long as this future.
                Some(wait) => match wait.await {
                    Ok(turn) => turn,
                    Err(_) => std::future::pending().await,
                },
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(gate) = self.0.take() else {
            return;
        };
        loop {
            let next = {
                let mut state = gate.state.lock();
                match state.waiting.pop_front() {
                    Some(next) => next,
                    None => {
                        state.free += 1;
                        return;
                    }
                }
            };
            // If that one gave up, its turn must not open the gate again.
            match next.send(Turn(Some(Arc::clone(&gate)))) {
                Ok(()) => return,
                Err(mut turn) => drop(turn.0.take()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn who_gives_up_is_passed_over() {
        let gate = Arc::new(Gate::new(1));
        let first = block_on(gate.enter());
        let mut second = gate.enter().boxed();
        let mut third = gate.enter().boxed();
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!(gate.waiting(), 2);
        drop(second);
        assert_eq!(gate.waiting(), 1);
        drop(first);
        let third = third.now_or_never().unwrap();
        drop(third);
        assert_eq!(gate.state.lock().free, 1);
    }
}
