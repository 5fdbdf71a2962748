//! When a target is scraped: on a grid of its own, so that load is spread and survives restarts.

use model::Millis;

/// Times that lie an interval apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    interval: Millis,
    offset: Millis,
}

impl Grid {
    /// The grid of the target with this key; `seed` sets it apart from other replicas'.
    pub(crate) fn new(interval: Millis, key: u64, seed: u64) -> Self {
        let interval = interval.max(1);
        Self {
            interval,
            offset: ((key ^ seed) % interval.unsigned_abs()) as Millis,
        }
    }

    /// The first point of the grid at or after `now`, and after `last`.
    pub(crate) fn next(&self, now: Millis, last: Option<Millis>) -> Millis {
        let after = (now - self.offset).rem_euclid(self.interval);
        let next = if after == 0 {
            now
        } else {
            now - after + self.interval
        };
        match last {
            // The clock may stand still or go back a little. If it went back further than an
            // interval, what was is of no use any more.
            Some(last) if next <= last && last - next < self.interval => last + self.interval,
            _ => next,
        }
    }

    /// The timestamp of a scrape that was due at `due` and began at `now`: the due time if it began
    /// close to it, because even spacing compresses best.
    pub(crate) fn snap(&self, due: Millis, now: Millis, tolerance: Millis) -> Millis {
        let tolerance = tolerance.min(self.interval / 100);
        if (now - due).abs() <= tolerance {
            due
        } else {
            now
        }
    }

    /// The interval, ms.
    pub(crate) fn interval(&self) -> Millis {
        self.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_on_the_grid_and_go_forward() {
        let grid = Grid::new(1_000, 1_234, 0);
        assert_eq!(grid.next(10_000, None), 10_234);
        assert_eq!(grid.next(10_234, None), 10_234);
        assert_eq!(grid.next(10_234, Some(10_234)), 11_234);
        assert_eq!(grid.next(10_233, Some(10_234)), 11_234);
        assert_eq!(grid.next(10_235, Some(10_234)), 11_234);
        // Points were missed.
        assert_eq!(grid.next(15_000, Some(10_234)), 15_234);
        // The clock was set back an hour.
        assert_eq!(
            grid.next(10_000 - 3_600_000, Some(10_234)),
            10_234 - 3_600_000
        );
        assert_eq!(grid.next(-5, None), 234);
    }

    #[test]
    fn timestamps_snap_to_the_grid_when_close() {
        let grid = Grid::new(15_000, 0, 0);
        assert_eq!(grid.snap(30_000, 30_002, 2), 30_000);
        assert_eq!(grid.snap(30_000, 30_003, 2), 30_003);
        assert_eq!(Grid::new(100, 0, 0).snap(300, 302, 2), 302);
    }
}
