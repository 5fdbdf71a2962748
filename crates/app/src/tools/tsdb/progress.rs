//! Long work says how far it is, on the error stream.

use std::time::{Duration, Instant};

/// Says something every few seconds.
pub struct Progress {
    next: Instant,
}

const EVERY: Duration = Duration::from_secs(5);

impl Progress {
    /// Silent for the first seconds.
    pub fn new() -> Self {
        Self {
            next: Instant::now() + EVERY,
        }
    }

    /// Says what `text` gives, if it is time to.
    pub fn tick(&mut self, text: impl FnOnce() -> String) {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + EVERY;
            eprintln!("{}", text());
        }
    }
}

/// `done` of `total` in percent.
pub fn percent(done: u64, total: u64) -> u64 {
    (u128::from(done) * 100 / u128::from(total.max(1))) as u64
}
