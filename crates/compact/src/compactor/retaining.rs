//! Marking what has been kept long enough.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bucket::CatalogBlock;
use model::time::format_duration;
use ulid::Ulid;

use super::{Compactor, Step};
use crate::Error;

impl Compactor {
    /// The blocks whose time is over and that are not marked yet.
    pub(super) fn over(&self) -> Vec<Arc<CatalogBlock>> {
        let now = self.now();
        let snapshot = self.catalog.snapshot();
        let is_over = |b: &&Arc<CatalogBlock>| {
            let (labels, meta) = (&b.labels, &b.meta);
            let retention = &self.options.retention;
            b.marks.deletion.is_none()
                && retention.is_over(labels, meta.resolution(), meta.max_time, now)
        };
        snapshot.blocks.iter().filter(is_over).cloned().collect()
    }

    /// Marks for deletion what has been kept long enough.
    pub(super) async fn retain(&self) -> Result<(), Error> {
        self.check()?;
        self.look_again().await?;
        let over = self.over();
        if over.is_empty() {
            return Ok(());
        }
        // All of it is said before the first is touched.
        tracing::info!(
            blocks = over.len(),
            "retention will mark these blocks for deletion; they stay in the bucket for --delete-delay"
        );
        let now = self.now();
        for block in &over {
            let age = format_duration(now.saturating_sub(block.meta.max_time));
            tracing::info!(
                block = %block.ulid(), labels = %block.labels,
                resolution = block.meta.resolution(), age, "its retention is over"
            );
        }
        self.step(Step::Begun {
            what: "marking",
            blocks: over.len(),
            bytes: 0,
        });
        let mut busy: BTreeMap<String, HashSet<Ulid>> = BTreeMap::new();
        for block in over {
            let group = self.group_key(&block);
            if !busy.contains_key(&group) {
                let state = self.claims.state(&group).await?;
                busy.insert(group.clone(), state.busy(now).collect());
            }
            // Somebody reads it; the next iteration comes.
            if busy.get(&group).is_none_or(|b| !b.contains(&block.ulid())) {
                let why = "block exceeding retention";
                self.mark_for_deletion(block.ulid(), why).await?;
            }
            self.step(Step::Done { bytes: 0 });
        }
        Ok(())
    }
}
