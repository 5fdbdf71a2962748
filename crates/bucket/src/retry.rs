//! When to try again: attempts, times, and a budget that keeps an outage from being multiplied.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// How often and how long a bucket is tried.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Attempts of one operation, the first included.
    pub attempts: u32,
    /// The longest wait for the answer to one attempt, before any of its bytes count.
    pub attempt_timeout: Duration,
    /// Added to it for each MiB that is moved.
    pub per_mib: Duration,
    /// Pause before the second attempt; doubles from there.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// Retries that may be made in a row, over all operations, before each costs ten successes.
    pub budget: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            attempt_timeout: Duration::from_secs(30),
            per_mib: Duration::from_secs(2),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            budget: 100,
        }
    }
}

impl RetryPolicy {
    /// The time one attempt has that moves so many bytes.
    pub(crate) fn timeout(&self, bytes: u64) -> Duration {
        let mib = u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
        let more = self.per_mib.checked_mul(mib).unwrap_or(Duration::MAX);
        self.attempt_timeout.saturating_add(more)
    }

    /// The pause before attempt `n` (2 or more): exponential, of which a random half counts.
    pub(crate) fn pause(&self, n: u32, dice: &Dice) -> Duration {
        let doubled = self
            .first_pause
            .saturating_mul(1 << n.saturating_sub(2).min(20));
        let longest = doubled.min(self.longest_pause);
        longest.mul_f64(0.5 + 0.5 * dice.unit())
    }
}

/// Retries left: each success earns a tenth of one.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    tenths: AtomicI64,
    most: i64,
}

impl RetryBudget {
    pub(crate) fn new(policy: &RetryPolicy) -> Self {
        let most = i64::from(policy.budget) * 10;
        Self {
            tenths: AtomicI64::new(most),
            most,
        }
    }

    pub(crate) fn earn(&self) {
        // A little over the mark under a race does no harm.
        if self.tenths.load(Ordering::Relaxed) < self.most {
            self.tenths.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn spend(&self) -> bool {
        let spent = self
            .tenths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n >= 10).then(|| n - 10)
            });
        spent.is_ok()
    }
}

/// Random numbers for jitter, seeded by the process' hash keys.
#[derive(Debug)]
pub(crate) struct Dice(AtomicU64);

impl Default for Dice {
    fn default() -> Self {
        Self(AtomicU64::new(RandomState::new().build_hasher().finish()))
    }
}

impl Dice {
    /// A number in [0, 1).
    pub(crate) fn unit(&self) -> f64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15; // splitmix64
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let policy = RetryPolicy::default();
        let dice = Dice::default();
        for n in 2..40 {
            let pause = policy.pause(n, &dice);
            assert!(pause >= policy.first_pause / 2 && pause <= policy.longest_pause);
        }
        assert_eq!(policy.timeout(3 << 20), Duration::from_secs(36));
    }

    #[test]
    fn the_budget_runs_dry_and_is_earned_back() {
        let budget = RetryBudget::new(&RetryPolicy {
            budget: 2,
            ..RetryPolicy::default()
        });
        assert!(budget.spend() && budget.spend() && !budget.spend());
        (0..10).for_each(|_| budget.earn());
        assert!(budget.spend() && !budget.spend());
    }
}
