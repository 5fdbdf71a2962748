//! How a database is opened.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::Millis;
use model::time::{Clock, WallClock};
use ulid::Ulid;

use crate::fs::{Fs, OsFs};
use crate::head::Starts;
use crate::wal::WalOptions;
use crate::{Error, Progress, Retention, Space, Stats};

/// Whether a block must not be deleted or compacted yet: it has not been shipped.
pub type Hold = Arc<dyn Fn(Ulid) -> bool + Send + Sync>;
/// Tells how much the disk under a folder holds.
pub type Disk = Arc<dyn Fn(&Path) -> std::io::Result<Space> + Send + Sync>;
/// Hears how far the replay is.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// Those that read the log on.
pub trait Readers: Send + Sync {
    /// The oldest segment that one of them still needs; none: nobody reads.
    fn segment(&self) -> Option<u64>;
    /// The time of the newest sample that all of them are done with, ms.
    fn sent(&self) -> Option<Millis>;
}

const HOUR: Millis = 3_600_000;
const DAY: Millis = 24 * HOUR;

/// How a database is opened and kept.
#[derive(Clone)]
pub struct Options {
    /// The write-ahead log.
    pub wal: WalOptions,
    /// Length of the blocks that are cut from the head, ms: 2 h unless a test is in a hurry.
    pub min_block: Millis,
    /// Length up to which local blocks are merged, ms; `min_block` turns merging off, as shipping
    /// wants it. None: a tenth of the retention time, at most 31 days.
    pub max_block: Option<Millis>,
    /// Merge blocks that overlap. A foreign compactor may want to do that itself.
    pub merge_overlapping: bool,
    /// How long and how much is kept, until [`Db::set_retention`](crate::Db::set_retention).
    pub retention: Retention,
    /// Samples later than now plus this are refused, ms. None takes any time (tests, backfilling).
    pub future_limit: Option<Millis>,
    /// How far behind the newest sample of all one may be and still be taken, though its series has
    /// newer ones, ms; 0: not at all. [`Db::set_out_of_order_window`](crate::Db::set_out_of_order_window)
    /// changes it.
    pub out_of_order_window: Millis,
    /// Exemplars that are kept, of all series together; 0: none.
    /// [`Db::set_max_exemplars`](crate::Db::set_max_exemplars) changes it.
    pub max_exemplars: usize,
    /// What is done with start timestamps.
    pub starts: Starts,
    /// Floats of the head are encoded as XOR2, which Prometheus before 3.9 cannot read.
    pub xor2: bool,
    /// No more series than this are made in the head; 0: no limit.
    pub max_series: usize,
    /// Take the lock file.
    pub lock: bool,
    /// How often a thread of the database does [`Db::maintain`](crate::Db::maintain); none: never.
    pub maintain_every: Option<Duration>,
    /// How long maintenance waits for queries that still read what it wants to drop, before it
    /// leaves that to its next round.
    pub patience: Duration,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Which blocks must stay: they are still to be shipped. Those of level 1 are not merged, and
    /// retention deletes them only when the disk is full.
    pub hold: Option<Hold>,
    /// Which blocks of level 1 must not be merged yet, though retention may delete them: somebody
    /// else ships them.
    pub delay: Option<Hold>,
    /// How much the disk holds.
    pub disk: Disk,
    /// Where it counts.
    pub stats: Arc<Stats>,
    /// Hears how far the replay is.
    pub progress: Option<OnProgress>,
    /// Files of the log.
    pub fs: Arc<dyn Fs>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            wal: WalOptions::default(),
            min_block: 2 * HOUR,
            max_block: None,
            merge_overlapping: true,
            retention: Retention::time(15 * DAY),
            future_limit: Some(10 * 60_000),
            out_of_order_window: 0,
            max_exemplars: 0,
            starts: Starts::Ignore,
            xor2: false,
            max_series: 0,
            lock: true,
            maintain_every: Some(Duration::from_secs(60)),
            patience: Duration::from_secs(30),
            clock: Arc::new(WallClock),
            hold: None,
            delay: None,
            disk: Arc::new(Space::of),
            stats: Arc::default(),
            progress: None,
            fs: Arc::new(OsFs),
        }
    }
}

impl Options {
    /// For tests and tools: any timestamp is taken, nothing happens by itself, nothing is deleted.
    pub fn quiet() -> Self {
        Self {
            future_limit: None,
            maintain_every: None,
            retention: Retention::NONE,
            ..Self::default()
        }
    }

    /// The lengths that blocks may have, ascending: `min_block` and its multiples by three up to
    /// `max_block` (`ExponentialBlockRanges` and `validateOpts` of Prometheus).
    pub fn ranges(&self) -> Vec<Millis> {
        let max = self.max_block.unwrap_or(match self.retention.time {
            0 => 31 * DAY,
            time => (time / 10).min(31 * DAY),
        });
        let mut ranges = vec![self.min_block];
        let mut next = self.min_block.saturating_mul(3);
        while next <= max && ranges.len() < 10 {
            ranges.push(next);
            next = next.saturating_mul(3);
        }
        ranges
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.min_block <= 0 {
            return Err(Error::Invalid(format!(
                "the block duration must be positive, not {} ms",
                self.min_block
            )));
        }
        if self.max_block.is_some_and(|max| max < self.min_block) {
            return Err(Error::Invalid(
                "the maximum block duration must not be below the minimum".into(),
            ));
        }
        if self.retention.time < 0 {
            return Err(Error::Invalid(
                "the retention time must not be negative".into(),
            ));
        }
        if self.out_of_order_window < 0 {
            return Err(Error::Invalid(
                "the out-of-order window must not be negative".into(),
            ));
        }
        if self.wal.segment_size < crate::wal::PAGE as u64
            || !self
                .wal
                .segment_size
                .is_multiple_of(crate::wal::PAGE as u64)
        {
            return Err(Error::Invalid(
                "the WAL segment size must be a multiple of 32 KiB".into(),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_by_three() {
        let o = Options::default();
        assert_eq!(o.ranges(), [2 * HOUR, 6 * HOUR, 18 * HOUR]);
        let o = Options {
            max_block: Some(2 * HOUR),
            ..o
        };
        assert_eq!(o.ranges(), [2 * HOUR]);
        let o = Options {
            min_block: 3 * HOUR,
            ..o
        };
        assert!(o.check().is_err());
    }
}
