//! Groups that are set aside because their data is in the way, until it is another one.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use model::Millis;

use super::Compactor;

/// A group whose blocks stay what they were is examined again after so long, ms: what was in the way may
/// lie outside of the blocks (a claim, another compactor).
const AGAIN: Millis = 3_600_000;

/// Why a group is set aside, and what it looked like then.
pub(super) struct Halt {
    reason: String,
    /// A hash of its blocks and their marks.
    blocks: u64,
    at: Millis,
}

impl Compactor {
    /// The groups that are set aside, with the reason.
    pub fn halted(&self) -> BTreeMap<String, String> {
        let halted = self.halted.lock();
        let each = halted.iter().map(|(g, h)| (g.clone(), h.reason.clone()));
        each.collect()
    }

    pub(super) fn is_halted(&self, group: &str) -> bool {
        self.halted.lock().contains_key(group)
    }

    /// Sets a group aside.
    pub(super) fn halt(&self, group: &str, reason: String) {
        tracing::error!(
            group,
            reason,
            "critical error detected; the group is set aside, the others go on"
        );
        let blocks = self.looks().remove(group).unwrap_or_default();
        let halt = Halt {
            reason,
            blocks,
            at: self.now(),
        };
        let mut halted = self.halted.lock();
        halted.insert(group.to_owned(), halt);
        self.count(&halted);
    }

    /// Lets the groups be examined again whose blocks or marks are others than they were, or that have
    /// been aside for a while.
    pub(super) fn reconsider(&self) {
        if self.halted.lock().is_empty() {
            return;
        }
        let (looks, now) = (self.looks(), self.now());
        let mut halted = self.halted.lock();
        halted.retain(|group, halt| {
            let looks = looks.get(group).copied().unwrap_or_default();
            let stays = looks == halt.blocks && now.saturating_sub(halt.at) < AGAIN;
            if !stays {
                tracing::info!(group, "a group that was set aside is examined again");
            }
            stays
        });
        self.count(&halted);
    }

    fn count(&self, halted: &BTreeMap<String, Halt>) {
        self.meters.halted.set(i64::from(!halted.is_empty()));
        self.meters.halted_groups.set(halted.len() as i64);
    }

    /// What the groups look like: a hash of the names and marks of their blocks.
    fn looks(&self) -> HashMap<String, u64> {
        let mut groups: HashMap<String, DefaultHasher> = HashMap::new();
        for block in &self.catalog.snapshot().blocks {
            let hasher = groups.entry(self.group_key(block)).or_default();
            let marks = &block.marks;
            let marks = (
                marks.deletion.is_some(),
                marks.no_compact.is_some(),
                marks.no_downsample.is_some(),
            );
            (block.ulid().0, marks).hash(hasher);
        }
        let each = groups.into_iter();
        each.map(|(group, hasher)| (group, hasher.finish()))
            .collect()
    }
}
