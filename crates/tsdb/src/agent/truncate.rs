//! Truncating an agent's log.

use std::time::{Duration, Instant, SystemTime};

use model::Millis;

use super::Inner;
use crate::Error;
use crate::wal::{self, checkpoint};

impl Inner {
    pub(super) fn truncate(&self) -> Result<(), Error> {
        let _alone = self.truncating.lock();
        let started = Instant::now();
        let result = self.truncate_alone();
        self.options
            .stats
            .truncate
            .observe_duration(started.elapsed());
        result
    }

    fn truncate_alone(&self) -> Result<(), Error> {
        let (options, stats) = (&self.options, &self.options.stats);
        let readers = self.readers.read().clone();
        // Series stay while samples of them may be under way; very old ones go whatever was sent.
        let sent = readers.as_ref().and_then(|r| r.sent()).unwrap_or(0);
        let oldest = options.clock.now().saturating_sub(options.max_time);
        let min = sent.saturating_sub(options.min_time).max(0).max(oldest);
        {
            let (table, _) = &mut *self.table.lock();
            table.forget(min, self.wal.segment());
            stats.series.set(table.len() as i64);
            stats.deleted.set(table.deleted.len() as i64);
        }
        let Some(&(first, _)) = wal::segments(self.wal.dir())?.first() else {
            return Ok(());
        };
        let ended = self.wal.rotate()?;
        self.wal.sync()?;
        // The lower two thirds hold mostly what is old; with fewer segments it is not worth it.
        let last = first + ended.saturating_sub(first) * 2 / 3;
        let needed = readers.and_then(|r| r.segment()).unwrap_or(u64::MAX);
        let last = last_to_go(
            &self.wal,
            (first, last, needed),
            options.max_time,
            &stats.unsent,
        );
        let Some(last) = last.filter(|last| *last > first) else {
            return Ok(());
        };
        stats.checkpoints.inc();
        let wanted = {
            let (table, _) = &*self.table.lock();
            let later = table.deleted.iter().filter(|(_, until)| **until > last);
            later.map(|(id, _)| *id).collect::<hashbrown::HashSet<_>>()
        };
        let keep = |id: u64| wanted.contains(&id) || self.table.lock().0.has(id);
        let dir = self.wal.dir();
        checkpoint::write(dir, last, min, &keep, self.wal.options(), &options.fs)
            .inspect_err(|_| stats.checkpoints_failed.inc())?;
        self.wal.delete_segments(last)?;
        {
            let (table, _) = &mut *self.table.lock();
            table.deleted.retain(|_, until| *until > last);
            stats.deleted.set(table.deleted.len() as i64);
        }
        stats.checkpoint_deletions.inc();
        checkpoint::delete_older(&*options.fs, dir)
            .inspect_err(|_| stats.checkpoint_deletions_failed.inc())?;
        tracing::info!(first, last, "the log was truncated");
        Ok(())
    }
}

/// The last segment of `first..=last` that may go: those from `needed` on stay while they are younger
/// than `max` ms. None: all stay.
pub(crate) fn last_to_go(
    wal: &wal::Wal,
    (first, last, needed): (u64, u64, u64),
    max: Millis,
    unsent: &metrics::Counter,
) -> Option<u64> {
    if last < needed {
        return Some(last);
    }
    let max = Duration::from_millis(u64::try_from(max).unwrap_or(0));
    let now = SystemTime::now();
    let is_old = |n: u64| {
        let path = wal.dir().join(wal::segment_name(n));
        // Its last write.
        let time = std::fs::metadata(path).and_then(|m| m.modified());
        time.is_ok_and(|t| now.duration_since(t).unwrap_or_default() > max)
    };
    let old = (needed.max(first)..=last)
        .take_while(|n| is_old(*n))
        .count() as u64;
    if old > 0 {
        unsent.add(old);
        tracing::error!(
            from = needed.max(first),
            segments = old,
            "remote write is too far behind: segments of the log go before they were sent"
        );
    }
    (needed.max(first) + old)
        .checked_sub(1)
        .filter(|n| *n >= first)
}
