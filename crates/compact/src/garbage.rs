//! Blocks that nobody needs any more: all that is in them is in another block of their group, too.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use block::Meta;
use ulid::Ulid;

/// The blocks of a group all of whose sources are in another block of it. Of equal blocks the oldest
/// stays.
pub fn covered<'a>(group: impl IntoIterator<Item = &'a Meta>) -> Vec<Ulid> {
    let mut all: Vec<&Meta> = group.into_iter().collect();
    all.sort_by_key(|m| (Reverse(m.compaction.sources.len()), m.min_time, m.ulid));
    let mut holders: HashMap<Ulid, Vec<usize>> = HashMap::new();
    let mut kept: Vec<HashSet<Ulid>> = Vec::new();
    let mut covered = Vec::new();
    for meta in all {
        let sources = &meta.compaction.sources;
        let Some(first) = sources.first() else {
            continue;
        };
        let candidates = holders.get(first).into_iter().flatten();
        let all_in = |i: &usize| {
            let set = kept.get(*i);
            set.is_some_and(|set| sources.iter().all(|s| set.contains(s)))
        };
        if candidates.into_iter().any(all_in) {
            covered.push(meta.ulid);
            continue;
        }
        for source in sources {
            holders.entry(*source).or_default().push(kept.len());
        }
        kept.push(sources.iter().copied().collect());
    }
    covered.sort_unstable();
    covered
}

#[cfg(test)]
mod tests {
    use model::TimeRange;

    use super::*;

    fn covered_of(list: &[(u64, &[u64])]) -> Vec<u64> {
        let ulid = |n: u64| Ulid::from_parts(n, 0);
        let metas: Vec<Meta> = list
            .iter()
            .map(|(id, sources)| {
                let mut meta = Meta::new(ulid(*id), TimeRange::new(0, 9));
                meta.compaction.sources = sources.iter().map(|s| ulid(*s)).collect();
                meta
            })
            .collect();
        let covered = covered(&metas);
        covered.iter().map(Ulid::timestamp_ms).collect()
    }

    #[test]
    fn what_is_in_another_block_is_garbage() {
        assert!(covered_of(&[(1, &[1]), (2, &[2])]).is_empty());
        assert_eq!(covered_of(&[(1, &[1]), (2, &[2]), (9, &[1, 2])]), [1, 2]);
        assert_eq!(
            covered_of(&[(8, &[1, 2]), (9, &[1, 2]), (10, &[3, 2])]),
            [9]
        );
        assert!(
            covered_of(&[(8, &[]), (9, &[])]).is_empty(),
            "no sources, no claim"
        );
        assert_eq!(
            covered_of(&[(1, &[1]), (5, &[1, 2]), (6, &[1, 2, 3]), (7, &[4])]),
            [1, 5]
        );
    }
}
