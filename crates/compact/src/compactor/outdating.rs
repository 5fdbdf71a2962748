//! Writing blocks again without series whose retention is over, while their blocks' is not.
//!
//! A block is looked into once for each set of rules. What was looked into stands in the bucket, in
//! `epimetheus/retention/<group>.json`; if two compactors write that at the same time, a block is looked
//! into once more, and nothing else comes of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bucket::marks::{self, NoCompactMark, NoDownsampleMark};
use bucket::{CatalogBlock, Put};
use futures_util::StreamExt as _;
use ulid::Ulid;

use super::Compactor;
use super::progress::{Step, bytes};
use super::rounds::Outcome;
use crate::Error;
use crate::group::Group;
use crate::input::Files;
use crate::job::{Job, Work};
use crate::retention::Outdated;

/// The folder of our own objects.
const FOLDER: &str = "epimetheus/retention";

/// For which rules a block was looked into, by its name.
type Seen = BTreeMap<String, String>;

impl Compactor {
    /// Writes blocks again without series that have been kept long enough.
    pub(super) async fn outdate(&self, failed: &mut Vec<String>) -> Result<(), Error> {
        if self.options.retention.series.is_empty() {
            return Ok(());
        }
        self.check()?;
        let sight = self.look_again().await?;
        let mut given_up = HashSet::new();
        let mut seen: HashMap<&str, Seen> = HashMap::new();
        let mut jobs = Vec::new();
        for group in &sight.groups {
            let outdated = self.outdated(group);
            if outdated.is_empty() || self.is_halted(&group.key) {
                continue;
            }
            let known = self.seen(group).await?;
            let state = self.claims.state(&group.key).await?;
            let busy: HashSet<Ulid> = state.busy(self.now()).collect();
            for (block, outdated) in outdated {
                let ulid = block.ulid();
                let done = known.get(&ulid.to_string()) == Some(&outdated.fingerprint());
                if done || busy.contains(&ulid) {
                    continue;
                }
                let selectors: Vec<&str> = outdated.selectors().collect();
                tracing::info!(
                    block = %ulid, labels = %block.labels, selectors = selectors.join(" "),
                    "series are kept no longer in this block: if it has any, it will be written again without them"
                );
                jobs.push(Job {
                    group: group.key.clone(),
                    labels: block.labels.clone(),
                    resolution: group.resolution,
                    inputs: vec![block],
                    work: Work::Drop(outdated),
                    output: Ulid::generate(),
                });
            }
            seen.insert(&group.key, known);
        }
        self.begin("rewriting", &jobs);
        let mut running = self.do_jobs(jobs);
        let mut changed = HashSet::new();
        while let Some((job, result)) = running.next().await {
            self.step(Step::Done { bytes: bytes(&job) });
            match (result, &job.work, job.inputs.first()) {
                (Ok(Outcome::Done), Work::Drop(outdated), Some(block)) => {
                    let Some(seen) = seen.get_mut(job.group.as_str()) else {
                        continue;
                    };
                    seen.insert(block.ulid().to_string(), outdated.fingerprint());
                    changed.insert(job.group.clone());
                }
                (Ok(_), ..) => {}
                (Err(e), ..) => self.failed(&job.group, e, failed, &mut given_up)?,
            }
        }
        for (group, seen) in seen.iter().filter(|(group, _)| changed.contains(**group)) {
            let json = serde_json::to_vec(seen).map_err(|e| Error::Refused(e.to_string()))?;
            let key = key(group);
            self.bucket().put(&key, json.into(), Put::Overwrite).await?;
        }
        Ok(())
    }

    /// The blocks of a group that may have series that have been kept long enough.
    fn outdated(&self, group: &Group) -> Vec<(Arc<CatalogBlock>, Outdated)> {
        let now = self.now();
        let whole = group.blocks.iter().filter(|b| b.marks.deletion.is_none());
        let each = whole.filter_map(|block| {
            let (meta, retention) = (&block.meta, &self.options.retention);
            let outdated =
                retention.outdated(&block.labels, meta.resolution(), meta.max_time, now)?;
            Some((Arc::clone(block), outdated))
        });
        each.collect()
    }

    /// What is known of the blocks that a group still has.
    async fn seen(&self, group: &Group) -> Result<Seen, Error> {
        let mut seen: Seen = match self.bucket().get(&key(&group.key)).await {
            // What cannot be read is looked into again.
            Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
            Err(e) if e.is_not_found() => Seen::new(),
            Err(e) => return Err(e.into()),
        };
        seen.retain(|ulid, _| group.blocks.iter().any(|b| b.ulid().to_string() == *ulid));
        Ok(seen)
    }

    /// Whether a block has such series.
    pub(super) async fn has_outdated(
        &self,
        block: &Arc<CatalogBlock>,
        files: &Files,
        outdated: &Outdated,
    ) -> Result<bool, Error> {
        let outdated = outdated.clone();
        let ask = move |opened: &block::Block| Ok(!outdated.series(opened)?.is_empty());
        self.look_into(block, files, ask).await
    }

    /// What must not be done with a block must not be done with the one that replaces it.
    pub(super) async fn hand_on_marks(&self, from: &CatalogBlock, to: Ulid) -> Result<(), Error> {
        if let Some(mark) = &from.marks.no_compact {
            let mark = NoCompactMark {
                id: to.to_string(),
                ..NoCompactMark::clone(mark)
            };
            marks::write(self.bucket(), to, &mark).await?;
        }
        if let Some(mark) = &from.marks.no_downsample {
            let mark = NoDownsampleMark {
                id: to.to_string(),
                ..NoDownsampleMark::clone(mark)
            };
            marks::write(self.bucket(), to, &mark).await?;
        }
        Ok(())
    }
}

fn key(group: &str) -> String {
    format!("{FOLDER}/{group}.json")
}
