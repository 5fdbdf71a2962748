//! How long and how much is kept on the local disk.
//!
//! Blocks are looked at from the newest to the oldest. By time, a block goes that ended so long
//! before the newest one; by size, the block that would be one too many, and everything older. A
//! share of the disk is a size. A block that is still to be shipped stays, whatever the limits
//! say, until the disk is full.

use std::path::Path;

use model::Millis;
use model::report::LostBlock;
use ulid::Ulid;

use super::local::{self, LocalBlock};
use super::{Inner, blocks};
use crate::Error;

/// How long and how much is kept; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Retention {
    /// Blocks that ended so long before the newest are deleted, ms.
    pub time: Millis,
    /// The oldest blocks are deleted while everything together has more bytes.
    pub bytes: u64,
    /// The same, in percent of the disk; goes before `bytes`.
    pub percent: f64,
}

impl Retention {
    /// Everything, for ever.
    pub const NONE: Retention = Retention {
        time: 0,
        bytes: 0,
        percent: 0.0,
    };

    /// So long.
    pub fn time(time: Millis) -> Self {
        Self { time, ..Self::NONE }
    }

    /// So many bytes.
    pub fn bytes(bytes: u64) -> Self {
        Self {
            bytes,
            ..Self::NONE
        }
    }

    /// The limit in bytes on a disk of `total` bytes; 0 is no limit.
    fn limit(&self, total: u64) -> u64 {
        match self.percent > 0.0 && total > 0 {
            // A float to an integer saturates.
            true => (total as f64 * self.percent / 100.0) as u64,
            false => self.bytes,
        }
    }
}

/// How much a disk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes it has.
    pub total: u64,
    /// Bytes that can still be written.
    pub available: u64,
}

impl Space {
    /// What the system says of the disk that holds `path`.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Self {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    /// Less than a fiftieth is left, and less than 256 MiB.
    pub fn is_full(&self) -> bool {
        self.available < (self.total / 50).min(256 << 20)
    }
}

/// What retention needs to know of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    /// Exclusive end of its time, ms.
    max: Millis,
    bytes: u64,
}

/// Why a block goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Time,
    Size,
}

/// What is beyond the limits, of blocks from the newest to the oldest. `others` is what the rest of
/// the data folder takes, `limit` how many bytes all may take (0: any).
fn beyond(blocks: &[Kept], time: Millis, limit: u64, others: u64) -> Vec<Option<Rule>> {
    let newest = blocks.first().map_or(0, |b| b.max);
    let mut sum = others;
    let (mut too_old, mut too_much) = (false, false);
    blocks
        .iter()
        .enumerate()
        .map(|(i, block)| {
            sum = sum.saturating_add(block.bytes);
            too_old |= time > 0 && i > 0 && newest.saturating_sub(block.max) >= time;
            too_much |= limit > 0 && sum > limit;
            match (too_old, too_much) {
                (true, _) => Some(Rule::Time),
                (_, true) => Some(Rule::Size),
                _ => None,
            }
        })
        .collect()
}

impl Inner {
    /// Deletes what is beyond the limits; the names of what went.
    pub(super) fn retain(&self) -> Result<Vec<Ulid>, Error> {
        let list = self.layout().blocks.clone();
        let mut newest_first = list;
        newest_first.sort_by_key(|b| std::cmp::Reverse((b.meta().max_time, b.ulid())));
        let retention = *self.retention.lock();
        let space = (self.options.disk)(&self.dir);
        if let Err(e) = &space
            && retention.percent > 0.0
        {
            tracing::warn!(error = %e, "the size of the disk is not known: no limit by percentage");
        }
        let limit = retention.limit(space.as_ref().map_or(0, |s| s.total));
        let kept: Vec<Kept> = newest_first
            .iter()
            .map(|b| Kept {
                max: b.meta().max_time,
                bytes: b.bytes,
            })
            .collect();
        let others = match limit {
            0 => 0,
            _ => self.other_bytes()?,
        };
        let rules = beyond(&kept, retention.time, limit, others);
        let (mut gone, mut held) = (Vec::new(), Vec::new());
        let mut counted = (false, false);
        for (block, rule) in newest_first.into_iter().zip(rules) {
            if rule.is_none() && !block.meta().compaction.deletable {
                continue;
            }
            if self.is_held(block.ulid()) {
                held.push(block);
                continue;
            }
            counted.0 |= rule == Some(Rule::Time);
            counted.1 |= rule == Some(Rule::Size);
            gone.push(block);
        }
        if counted.0 {
            self.stats.storage.time_retentions.inc();
        }
        if counted.1 {
            self.stats.storage.size_retentions.inc();
        }
        let mut ulids: Vec<Ulid> = gone.iter().map(|b| b.ulid()).collect();
        for block in &gone {
            tracing::info!(block = %block.ulid(), min = block.meta().min_time, max = block.meta().max_time, "deleting a block that is beyond the retention");
        }
        self.drop_blocks(&gone)?;
        // The oldest first, one by one, and only for want of space.
        while self.is_disk_full()
            && let Some(block) = held.pop()
        {
            tracing::error!(block = %block.ulid(), min = block.meta().min_time, max = block.meta().max_time, "the disk is full: deleting a block that was not shipped; its samples are lost");
            self.drop_blocks(std::slice::from_ref(&block))?;
            self.stats.storage.lost(block.ulid());
            let mut lost = self.lost.lock();
            lost.push(LostBlock {
                ulid: block.ulid().to_string().into(),
                min: block.meta().min_time,
                max: block.meta().max_time,
                at: self.options.clock.now(),
            });
            let excess = lost.len().saturating_sub(REMEMBERED);
            lost.drain(..excess);
            ulids.push(block.ulid());
        }
        self.tell_of_held(&held);
        Ok(ulids)
    }

    /// Says once of each block that it is kept beyond the retention.
    fn tell_of_held(&self, held: &[std::sync::Arc<LocalBlock>]) {
        let mut told = self.told.lock();
        told.retain(|ulid| held.iter().any(|b| b.ulid() == *ulid));
        for block in held {
            if told.insert(block.ulid()) {
                tracing::warn!(block = %block.ulid(), "kept beyond the retention, because it is not shipped yet");
            }
        }
        self.stats.storage.held.set(held.len() as i64);
    }

    fn drop_blocks(&self, gone: &[std::sync::Arc<LocalBlock>]) -> Result<(), Error> {
        if gone.is_empty() {
            return Ok(());
        }
        let layout = self.layout();
        let left = layout
            .blocks
            .iter()
            .filter(|b| gone.iter().all(|g| g.ulid() != b.ulid()));
        self.publish(left.cloned().collect(), layout.floor);
        // Whoever still reads them has their files open.
        for block in gone {
            blocks::delete(&*self.options.fs, block.dir())?;
        }
        Ok(())
    }

    /// Bytes of the data folder beside the blocks.
    fn other_bytes(&self) -> Result<u64, Error> {
        ["wal", "wbl", "chunks_head"]
            .iter()
            .try_fold(0, |sum: u64, name| {
                Ok(sum.saturating_add(local::size(&self.dir.join(name))?))
            })
    }

    pub(super) fn is_disk_full(&self) -> bool {
        (self.options.disk)(&self.dir).is_ok_and(|space| space.is_full())
    }
}

/// So many blocks that were lost are remembered for the status page.
const REMEMBERED: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(list: &[(Millis, u64)]) -> Vec<Kept> {
        list.iter()
            .map(|&(max, bytes)| Kept { max, bytes })
            .collect()
    }

    #[test]
    fn by_time_and_size() {
        use Rule::{Size, Time};
        let blocks = kept(&[(100, 5), (80, 5), (60, 5), (70, 5)]);
        let none = [None; 4];
        assert_eq!(beyond(&blocks, 0, 0, 1000), none);
        assert_eq!(beyond(&blocks, 41, 0, 0), none);
        assert_eq!(
            beyond(&blocks, 40, 0, 0),
            [None, None, Some(Time), Some(Time)],
            "what comes behind goes too"
        );
        assert_eq!(beyond(&blocks, 0, 20, 0), none);
        assert_eq!(
            beyond(&blocks, 0, 20, 6),
            [None, None, Some(Size), Some(Size)]
        );
        assert_eq!(beyond(&blocks, 0, 20, 21), [Some(Size); 4]);
        assert_eq!(
            beyond(&kept(&[(100, 5)]), 1, 0, 0),
            [None],
            "the newest stays"
        );
        assert_eq!(beyond(&[], 1, 1, 1), []);
    }

    #[test]
    fn a_share_goes_before_a_size() {
        let both = Retention {
            time: 0,
            bytes: 7,
            percent: 12.5,
        };
        assert_eq!(both.limit(800), 100);
        assert_eq!(both.limit(0), 7, "the disk does not say");
        assert_eq!(Retention::bytes(7).limit(800), 7);
        assert_eq!(Retention::time(5).limit(800), 0);
    }

    #[test]
    fn when_a_disk_is_full() {
        let space = |total, available| Space { total, available };
        assert!(!space(1000, 20).is_full());
        assert!(space(1000, 19).is_full());
        assert!(!space(1 << 40, 300 << 20).is_full());
        assert!(Space::of(Path::new("/")).is_ok_and(|s| s.total > 0));
    }
}
