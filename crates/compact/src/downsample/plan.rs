//! Which blocks are downsampled.

use std::collections::HashSet;

use block::Meta;
use model::Millis;
use ulid::Ulid;

use crate::{FIVE_MINUTES, HOUR};

/// A raw block is downsampled to 5 minutes from this length on, ms.
pub const LENGTH_FOR_FIVE_MINUTES: Millis = 40 * HOUR;
/// A block of 5 minutes is downsampled to 1 hour from this length on, ms.
pub const LENGTH_FOR_HOUR: Millis = 240 * HOUR;

/// The blocks to downsample, each with the resolution that it gets, by their names: those long enough
/// whose sources are not all in a block of that resolution yet.
pub fn plan<'a>(blocks: impl IntoIterator<Item = &'a Meta>) -> Vec<(Ulid, Millis)> {
    let mut blocks: Vec<&Meta> = blocks.into_iter().collect();
    blocks.sort_by_key(|m| m.ulid);
    let sources = |resolution: Millis| -> HashSet<Ulid> {
        let of = blocks.iter().filter(|m| m.resolution() == resolution);
        of.flat_map(|m| m.compaction.sources.iter().copied())
            .collect()
    };
    let (five_minutes, hour) = (sources(FIVE_MINUTES), sources(HOUR));
    let mut plan = Vec::new();
    for meta in &blocks {
        let (done, length, to) = match meta.resolution() {
            0 => (&five_minutes, LENGTH_FOR_FIVE_MINUTES, FIVE_MINUTES),
            FIVE_MINUTES => (&hour, LENGTH_FOR_HOUR, HOUR),
            _ => continue,
        };
        let missing = meta.compaction.sources.iter().any(|s| !done.contains(s));
        if missing && meta.max_time.saturating_sub(meta.min_time) >= length {
            plan.push((meta.ulid, to));
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use model::TimeRange;

    use super::*;

    #[test]
    fn long_blocks_are_downsampled_once() {
        let ulid = |n: u64| Ulid::from_parts(n, 0);
        let meta = |id: u64, resolution, hours: Millis, sources: &[u64]| {
            let mut meta = Meta::new(ulid(id), TimeRange::new(0, hours * HOUR - 1));
            meta.compaction.sources = sources.iter().map(|s| ulid(*s)).collect();
            meta.thanos = Some(block::meta::Thanos {
                downsample: block::meta::Downsample { resolution },
                ..Default::default()
            });
            meta
        };
        let blocks = [
            meta(20, 0, 40, &[1, 2]),
            meta(21, 0, 39, &[3]),
            meta(22, 0, 48, &[4, 5]),
            meta(23, FIVE_MINUTES, 48, &[4, 5]),
            meta(24, FIVE_MINUTES, 240, &[6, 7]),
            meta(25, FIVE_MINUTES, 336, &[8, 9]),
            meta(26, HOUR, 336, &[8]),
            meta(27, HOUR, 1000, &[10]),
        ];
        assert_eq!(
            plan(&blocks),
            [(ulid(20), FIVE_MINUTES), (ulid(24), HOUR), (ulid(25), HOUR)]
        );
    }
}
