//! Whether the process can answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Where the process is in its life; clones share it. It begins as [`State::Starting`].
#[derive(Clone, Debug, Default)]
pub struct Ready(Arc<AtomicU8>);

/// The stations of a process' life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It replays, loads or connects: questions are answered with 503.
    Starting,
    /// It answers.
    Ready,
    /// It drains: load balancers are told to go elsewhere.
    Stopping,
}

impl State {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Stopping => "stopping",
        }
    }
}

impl Ready {
    /// Moves on.
    pub fn set(&self, state: State) {
        self.0.store(state as u8, Ordering::Release);
    }

    /// Where it is now.
    pub fn get(&self) -> State {
        match self.0.load(Ordering::Acquire) {
            0 => State::Starting,
            1 => State::Ready,
            _ => State::Stopping,
        }
    }
}
