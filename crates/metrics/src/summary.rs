//! Summaries: sum and count, and quantiles of what was seen lately.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::snapshot::Value;

/// Observations older than this no longer count for the quantiles (as in Go's client).
const MAX_AGE: Duration = Duration::from_secs(600);
/// At most this many recent observations are kept: 24 KiB for a summary with quantiles.
const WINDOW: usize = 1024;

/// Sums observations; with quantiles asked for, also ranks the last 1,024 of the last ten minutes.
///
/// Without quantiles no observation is kept.
#[derive(Clone, Debug)]
pub struct Summary(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    quantiles: Arc<[f64]>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    count: u64,
    sum: f64,
    recent: VecDeque<(Instant, f64)>,
}

impl Summary {
    /// A summary with these quantiles (each in `[0, 1]`; none is fine).
    pub(crate) fn new(quantiles: &Arc<[f64]>) -> Self {
        Self(Arc::new(Inner {
            quantiles: Arc::clone(quantiles),
            state: Mutex::default(),
        }))
    }

    /// Takes in one observation.
    pub fn observe(&self, value: f64) {
        let mut state = self.0.state.lock();
        state.count += 1;
        state.sum += value;
        if !self.0.quantiles.is_empty() && !value.is_nan() {
            if state.recent.len() == WINDOW {
                state.recent.pop_front();
            }
            state.recent.push_back((Instant::now(), value));
        }
    }

    /// Observes a duration in seconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }

    /// How many observations there were.
    pub fn count(&self) -> u64 {
        self.0.state.lock().count
    }

    /// The sum of all observations.
    pub fn sum(&self) -> f64 {
        self.0.state.lock().sum
    }

    pub(crate) fn value(&self) -> Value {
        let (count, sum, mut recent) = {
            let mut state = self.0.state.lock();
            let now = Instant::now();
            while state
                .recent
                .front()
                .is_some_and(|(at, _)| now.duration_since(*at) > MAX_AGE)
            {
                state.recent.pop_front();
            }
            let recent: Vec<f64> = state.recent.iter().map(|(_, v)| *v).collect();
            (state.count, state.sum, recent)
        };
        recent.sort_unstable_by(f64::total_cmp);
        let rank = |q: f64| match recent.len() {
            0 => f64::NAN,
            // The smallest value that at least the share `q` of all values does not exceed.
            n => recent[((q * n as f64).ceil() as usize).clamp(1, n) - 1],
        };
        let quantiles = self.0.quantiles.iter().map(|&q| (q, rank(q))).collect();
        Value::Summary {
            quantiles,
            sum,
            count,
        }
    }
}
