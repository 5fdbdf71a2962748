//! Removing what was marked long enough ago, and what was never finished.

use std::sync::Arc;

use bucket::CatalogBlock;
use bucket::marks::{self, DeletionMark};
use model::Millis;
use ulid::Ulid;

use super::{Compactor, Step};
use crate::Error;

impl Compactor {
    /// Deletes blocks whose deletion mark is old enough, and folders that are no block and to which
    /// nothing was written for long. One that fails does not keep the others.
    pub async fn clean(&self) -> Result<(), Error> {
        self.changed();
        self.clean_up().await
    }

    pub(super) async fn clean_up(&self) -> Result<(), Error> {
        self.check()?;
        let mut snapshot = self.look_again().await?.snapshot;
        let marked = |b: &Arc<CatalogBlock>| b.marks.deletion.is_some();
        if snapshot.blocks.iter().any(marked) || !snapshot.partial.is_empty() {
            // A mark may have been taken off again in the meantime.
            snapshot = self.look().await?.snapshot;
        }
        let now = self.now();
        let delay = self.options.delete_delay.as_millis() as Millis;
        let marks = snapshot
            .blocks
            .iter()
            .filter_map(|b| Some((b, b.marks.deletion.as_ref()?)));
        let marked: Vec<_> = marks.collect();
        self.step(Step::Begun {
            what: "cleaning",
            blocks: marked.len() + snapshot.partial.len(),
            bytes: 0,
        });
        for (block, mark) in marked {
            let is_old = now.saturating_sub(mark.set_at()) > delay;
            // Of a group that is set aside nothing is deleted.
            if is_old && !self.is_halted(&self.group_key(block)) {
                self.check()?;
                self.delete(block.ulid(), "its deletion mark is old enough")
                    .await;
            }
            self.step(Step::Done { bytes: 0 });
        }
        for partial in &snapshot.partial {
            self.check()?;
            match self.is_abandoned(partial.ulid, partial.modified, now).await {
                Ok(true) => {
                    self.meters.partial_attempts.inc();
                    let why = "it is no whole block, and nobody writes to it";
                    self.delete(partial.ulid, why).await;
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(block = %partial.ulid, %error, "cannot tell whether an upload was given up");
                    self.meters.cleanup_failures.inc();
                }
            }
            self.step(Step::Done { bytes: 0 });
        }
        self.meters.cleanups.inc();
        Ok(())
    }

    async fn is_abandoned(
        &self,
        ulid: Ulid,
        modified: Option<Millis>,
        now: Millis,
    ) -> Result<bool, Error> {
        // A deletion that was broken off is finished by the mark that it leaves for the end.
        let mark = marks::read::<DeletionMark>(self.bucket(), ulid).await?;
        let delay = self.options.delete_delay.as_millis() as Millis;
        if mark.is_some_and(|mark| now.saturating_sub(mark.set_at()) > delay) {
            return Ok(true);
        }
        let newest = match modified {
            Some(newest) => newest,
            None => {
                let mut newest = ulid.timestamp_ms() as Millis;
                let each = |o: bucket::Object| newest = newest.max(o.modified);
                self.bucket().list(&ulid.to_string(), each).await?;
                newest
            }
        };
        let age = self.options.partial_age.as_millis() as Millis;
        if now.saturating_sub(newest) <= age {
            return Ok(false);
        }
        // Listings may leave things out. What makes it a block must really not be there.
        let whole = marks::key(ulid, block::meta::FILE);
        let is_there = self.bucket().exists(&whole).await?;
        if is_there {
            tracing::warn!(block = %ulid, "the bucket's listing does not show the meta.json of a block that has one; the block is left alone");
        }
        Ok(!is_there)
    }

    async fn delete(&self, ulid: Ulid, why: &str) {
        self.changed();
        match marks::delete_block(self.bucket(), ulid).await {
            Ok(()) => {
                self.meters.cleaned.inc();
                tracing::info!(block = %ulid, why, "deleted a block");
            }
            Err(error) => {
                self.meters.cleanup_failures.inc();
                tracing::error!(block = %ulid, %error, "a block cannot be deleted");
            }
        }
    }
}
