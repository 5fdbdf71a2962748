//! Which of the blocks are served (`pkg/block/fetcher.go` of Thanos).

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use block::Meta;
use model::{Labels, Millis, TimeRange};
use ulid::Ulid;

use super::find::Found;
use super::{Catalog, CatalogBlock, LabelFilter, Snapshot};

/// The label under which relabelling sees a block's ULID.
const BLOCK_ID: &str = "__block_id";

/// The filter of `--selector.relabel-config`: a block is wanted if the rules leave anything of its
/// external labels and `__block_id`.
pub fn relabel_filter(rules: Vec<model::relabel::Rule>) -> LabelFilter {
    Arc::new(move |ulid, labels| {
        let mut builder = labels.builder();
        builder.set(BLOCK_ID, ulid.to_string());
        let left = model::relabel::process(&builder.build(), &rules);
        left.is_some_and(|labels| !labels.is_empty())
    })
}

/// Sources whose blocks are consistent from the first moment: they replace what is there.
const COMPACTORS: [&str; 3] = ["compactor", "compactor.repair", "bucket.repair"];

impl Catalog {
    /// Filters what was found; counts, by Thanos' names, what became of it.
    pub(super) fn choose(
        &self,
        found: Found,
        now: Millis,
    ) -> (Snapshot, BTreeMap<&'static str, usize>) {
        let states = [
            "loaded",
            "failed",
            "no-meta-json",
            "corrupted-meta-json",
            "time-excluded",
            "label-excluded",
            "too-fresh",
            "marked-for-deletion",
            "duplicate",
        ];
        let mut counts: BTreeMap<&'static str, usize> = states.map(|s| (s, 0)).into();
        let mut count = |state| *counts.entry(state).or_default() += 1;
        let mut blocks = Vec::new();
        for (meta, marks) in found.blocks {
            let labels = external_labels(&meta);
            let marked = marks.deletion.as_ref().map(|mark| mark.set_at());
            if let Some(state) = self.rejects(&meta, &labels, marked, now) {
                count(state);
                continue;
            }
            blocks.push(CatalogBlock {
                meta: Meta::clone(&meta),
                labels,
                marks,
            });
        }
        if self.options.deduplicate {
            let covered = covered(blocks.iter().map(|b| &b.meta));
            blocks.retain(|b| {
                let keep = !covered.contains(&b.ulid());
                if !keep {
                    count("duplicate");
                }
                keep
            });
        }
        blocks.sort_by_key(|b| (b.meta.min_time, b.ulid()));
        counts.insert("loaded", blocks.len());
        counts.insert("no-meta-json", found.partial.len());
        counts.insert("corrupted-meta-json", found.corrupted);
        counts.insert("failed", found.unreadable.len() - found.corrupted);
        let snapshot = Snapshot {
            blocks: blocks.into_iter().map(Arc::new).collect(),
            unreadable: found.unreadable,
            incomplete: found.failed,
            partial: found.partial,
            taken: None,
        };
        (snapshot, counts)
    }

    fn rejects(
        &self,
        meta: &Meta,
        labels: &Labels,
        marked: Option<Millis>,
        now: Millis,
    ) -> Option<&'static str> {
        let options = &self.options;
        let (from, to) = options.time;
        if !meta
            .range()
            .overlaps(TimeRange::new(from.at(now), to.at(now)))
        {
            return Some("time-excluded");
        }
        let wanted = options.labels.as_ref();
        if wanted.is_some_and(|wanted| !wanted(meta.ulid, labels)) {
            return Some("label-excluded");
        }
        let thanos = meta.thanos.as_ref();
        let consistent = thanos.is_some_and(|t| COMPACTORS.contains(&t.source.as_str()));
        let delay = options.consistency_delay.as_millis() as Millis;
        if !consistent && now.saturating_sub(born(meta)) < delay {
            return Some("too-fresh");
        }
        let patience = options.ignore_deletion_marks_delay;
        if let (Some(marked), Some(patience)) = (marked, patience)
            && now.saturating_sub(marked) > patience.as_millis() as Millis
        {
            return Some("marked-for-deletion");
        }
        None
    }
}

/// When a block came into the bucket, ms.
fn born(meta: &Meta) -> Millis {
    let uploaded = meta.thanos.as_ref().and_then(|t| t.upload_time.as_deref());
    let uploaded = uploaded.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    match uploaded {
        Some(time) => time.as_millisecond(),
        None => meta.ulid.timestamp_ms() as Millis,
    }
}

fn external_labels(meta: &Meta) -> Labels {
    let labels = meta.thanos.iter().flat_map(|t| &t.labels);
    Labels::from_pairs(labels.map(|(n, v)| (n.as_str(), v.as_str())))
}

/// The blocks all of whose sources are in another block of the same resolution.
fn covered<'a>(metas: impl Iterator<Item = &'a Meta>) -> HashSet<Ulid> {
    let mut all: Vec<&Meta> = metas.collect();
    // The block with the most sources covers the others; of equal ones the older stays.
    all.sort_by_key(|m| (Reverse(m.compaction.sources.len()), m.min_time, m.ulid));
    let mut kept: HashMap<(Millis, Ulid), Vec<usize>> = HashMap::new();
    let mut sets: Vec<HashSet<Ulid>> = Vec::new();
    let mut covered = HashSet::new();
    for meta in all {
        let sources = &meta.compaction.sources;
        let Some(&first) = sources.first() else {
            continue;
        };
        let key = (meta.resolution(), first);
        let holders = kept.get(&key).into_iter().flatten();
        let is_covered = holders
            .filter_map(|&i| sets.get(i))
            .any(|set| sources.iter().all(|s| set.contains(s)));
        if is_covered {
            covered.insert(meta.ulid);
            continue;
        }
        for &source in sources {
            let key = (meta.resolution(), source);
            kept.entry(key).or_default().push(sets.len());
        }
        sets.push(sources.iter().copied().collect());
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(id: u64, sources: &[u64], resolution: Millis) -> Meta {
        let ulid = |n: u64| Ulid::from_parts(n, 0);
        let mut meta = Meta::new(ulid(id), TimeRange::new(0, 9));
        meta.compaction.sources = sources.iter().map(|&s| ulid(s)).collect();
        meta.thanos = Some(block::meta::Thanos {
            downsample: block::meta::Downsample { resolution },
            ..Default::default()
        });
        meta
    }

    fn left(metas: &[Meta]) -> Vec<u64> {
        let covered = covered(metas.iter());
        let left = metas.iter().filter(|m| !covered.contains(&m.ulid));
        left.map(|m| m.ulid.timestamp_ms()).collect()
    }

    #[test]
    fn compacted_blocks_hide_their_sources() {
        let level1 = [meta(1, &[1], 0), meta(2, &[2], 0), meta(3, &[3], 0)];
        assert_eq!(left(&level1), [1, 2, 3]);
        let mut all = level1.to_vec();
        all.push(meta(10, &[1, 2], 0));
        assert_eq!(left(&all), [3, 10]);
        all.push(meta(11, &[1, 2, 3], 300_000));
        assert_eq!(
            left(&all),
            [3, 10, 11],
            "another resolution is another thing"
        );
        all.push(meta(12, &[1, 2, 3], 0));
        assert_eq!(left(&all), [11, 12]);
        all.push(meta(13, &[1, 2, 3], 0));
        assert_eq!(left(&all), [11, 12], "of two equal ones the older stays");
        all.push(meta(14, &[3, 4], 0));
        assert_eq!(left(&all), [11, 12, 14], "partly covered is not covered");
    }
}
