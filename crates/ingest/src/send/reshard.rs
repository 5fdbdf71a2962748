//! How many shards a queue should have: as many as keep up with what comes, and a little more to
//! catch up (`calculateDesiredShards` of Prometheus).

/// How often the number is thought over, seconds.
pub(super) const EVERY: f64 = 10.0;
const WEIGHT: f64 = 0.2;

/// A rate per second that forgets slowly.
#[derive(Default)]
struct Rate(Option<f64>);

impl Rate {
    fn tick(&mut self, count: f64) -> f64 {
        let now = count / EVERY;
        let rate = self
            .0
            .map_or(now, |before| before + WEIGHT * (now - before));
        self.0 = Some(rate);
        rate
    }
}

/// What a queue did since the last time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Items read, those that are not sent included.
    pub(super) read: f64,
    pub(super) dropped: f64,
    pub(super) sent: f64,
    /// How long sending took, all shards together, seconds.
    pub(super) seconds: f64,
    /// How far the newest sample sent is behind the newest read, seconds.
    pub(super) behind: f64,
}

/// Remembers rates.
#[derive(Default)]
pub(super) struct Sharding {
    read: Rate,
    dropped: Rate,
    sent: Rate,
    seconds: Rate,
}

impl Sharding {
    /// How many shards are wanted where there are `now`: exactly, and in whole ones that are worth
    /// the change.
    pub(super) fn desired(&mut self, seen: Seen, now: usize) -> (f64, usize) {
        let read = self.read.tick(seen.read);
        let dropped = self.dropped.tick(seen.dropped);
        let sent = self.sent.tick(seen.sent);
        let seconds = self.seconds.tick(seen.seconds);
        if sent <= 0.0 {
            return (now as f64, now);
        }
        let kept = sent / (dropped + sent);
        let per_item = seconds / sent;
        let pending = seen.behind.max(0.0) * read * kept;
        let desired = per_item * (read * kept + 0.05 * pending);
        let bounds = (now as f64 * 0.7)..=(now as f64 * 1.3);
        if bounds.contains(&desired) {
            return (desired, now);
        }
        let whole = desired.ceil().clamp(1.0, 1e6) as usize;
        (desired, whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_receivers_get_more_shards() {
        let mut sharding = Sharding::default();
        let slow = Seen {
            read: 10_000.0,
            sent: 5_000.0,
            seconds: 10.0,
            ..Seen::default()
        };
        assert_eq!(sharding.desired(slow, 1).1, 2);
        let mut sharding = Sharding::default();
        let fast = Seen {
            read: 10_000.0,
            sent: 10_000.0,
            seconds: 0.1,
            ..Seen::default()
        };
        assert_eq!(sharding.desired(fast, 8).1, 1);
        let mut sharding = Sharding::default();
        assert_eq!(sharding.desired(Seen::default(), 3).1, 3);
    }
}
