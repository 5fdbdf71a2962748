//! Groups: the blocks that may be compacted into one another. They have the same external labels, but
//! for those of replicas, and the same resolution (`pkg/compact/compact.go` of Thanos).

use std::collections::BTreeMap;
use std::sync::Arc;

use bucket::CatalogBlock;
use model::{Labels, Millis};
use xxhash_rust::xxh64::xxh64;

/// What the first replica label says where nothing else is left of the labels.
const DEDUPED: &str = "deduped";

/// Blocks that belong together.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name: `<resolution>@<hash of labels>`.
    pub key: String,
    /// External labels, without those of replicas.
    pub labels: Labels,
    /// Distance of samples, ms; 0: raw.
    pub resolution: Millis,
    /// The blocks, by time.
    pub blocks: Vec<Arc<CatalogBlock>>,
}

/// The name of a group, as Thanos writes it.
pub fn key(resolution: Millis, labels: &Labels) -> String {
    let mut bytes = Vec::new();
    for (name, value) in labels {
        for part in [name, value] {
            bytes.extend_from_slice(part.as_bytes());
            bytes.push(0xff);
        }
    }
    format!("{resolution}@{}", xxh64(&bytes, 0))
}

/// External labels without those that tell replicas apart. Something is always left.
pub fn without_replicas(labels: &Labels, replica_labels: &[String]) -> Labels {
    let Some(first) = replica_labels.first() else {
        return labels.clone();
    };
    let mut left = labels.builder();
    for name in replica_labels {
        left.remove(name);
    }
    if left.iter().next().is_none() {
        left.set(first, DEDUPED);
    }
    left.build()
}

/// Puts blocks into their groups; groups ascend by name, blocks by time.
pub fn groups(
    blocks: impl IntoIterator<Item = Arc<CatalogBlock>>,
    replica_labels: &[String],
) -> Vec<Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for block in blocks {
        let labels = without_replicas(&block.labels, replica_labels);
        let resolution = block.meta.resolution();
        let key = key(resolution, &labels);
        let group = groups.entry(key.clone()).or_insert_with(|| Group {
            key,
            labels,
            resolution,
            blocks: Vec::new(),
        });
        group.blocks.push(block);
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    for group in &mut groups {
        group.blocks.sort_by_key(|b| (b.meta.min_time, b.ulid()));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_thanos_own() {
        // The hash of no bytes, and one computed with the reference implementation of xxHash.
        assert_eq!(key(0, &Labels::default()), "0@17241709254077376921");
        let labels = Labels::from_pairs([("b", "2"), ("a", "1")]);
        let hash = xxh64(b"a\xff1\xffb\xff2\xff", 0);
        assert_eq!(key(300_000, &labels), format!("300000@{hash}"));
    }

    #[test]
    fn replicas_share_a_group() {
        let names = ["replica".to_owned(), "rule_replica".to_owned()];
        let labels = Labels::from_pairs([("replica", "a"), ("region", "eu")]);
        assert_eq!(
            without_replicas(&labels, &names),
            Labels::from_pairs([("region", "eu")])
        );
        let only = Labels::from_pairs([("rule_replica", "a")]);
        assert_eq!(
            without_replicas(&only, &names),
            Labels::from_pairs([("replica", "deduped")])
        );
        assert_eq!(without_replicas(&labels, &[]), labels);
    }
}
