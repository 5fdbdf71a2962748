//! `verify`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use bucket::marks::{self, DeletionMark};
use bucket::{Bucket, CatalogBlock, CatalogOptions};
use compact::output::{HashFunc, Output};
use compact::rewrite::Rewrite;
use model::TimeRange;
use model::time::{Clock as _, WallClock, span};
use tokio::runtime::Handle;
use ulid::Ulid;

use crate::flags::thanos;
use crate::kingpin::{Flag, Typed, many, many_or, optional, switch, value};
use crate::logging;
use crate::outpost::content;
use crate::tools::progress::Work;

/// The flags of `verify`.
pub const FLAGS: &[&[Flag]] = &[
    &[
        switch("repair", "Attempt to repair blocks for which issues were detected.").short('r'),
        many_or("issues", "index_known_issues,overlapped_blocks", "Issues to verify (and optionally repair). Possible issue to verify, without repair: overlapped_blocks; possible issues to verify and repair: index_known_issues, duplicated_compaction.").short('i'),
        many("id", "Block IDs to verify (and optionally repair) only. If none is specified, all blocks will be verified. Repeated field."),
        value("delete-delay", "0s", "Duration after which blocks marked for deletion would be deleted permanently from source bucket by compactor component. If delete-delay is non zero, blocks will be marked for deletion and compactor component is required to delete blocks from source bucket. If delete-delay is 0, blocks will be deleted straight away. Use this if you want to get rid of or move the block immediately."),
        optional("objstore-backup.config", "YAML of a bucket to which a block is copied before it is deleted or marked for deletion."),
        optional("objstore-backup.config-file", "Path to YAML of a bucket to which a block is copied before it is deleted or marked for deletion."),
        value("tmp.dir", "/tmp/thanos-verify", "Working directory for indexes of repaired blocks."),
    ],
    thanos::OBJSTORE,
    logging::FLAGS,
];

struct Verifier {
    bucket: Arc<Bucket>,
    backup: Option<Arc<Bucket>>,
    repair: bool,
    delay: std::time::Duration,
    dir: PathBuf,
    issues: usize,
}

/// Runs `verify`: success if nothing is wrong, or everything could be repaired.
pub fn run(typed: &Typed<'_>) -> Result<ExitCode> {
    let backup = match content(typed, "objstore-backup.config")? {
        None => None,
        Some(text) => {
            let config = bucket::Config::parse(&text);
            let config = config.map_err(|e| typed.error("objstore-backup.config", e))?;
            Some(bucket::open(&config, &metrics::Registry::new())?)
        }
    };
    let mut verifier = Verifier {
        bucket: super::open(typed)?,
        repair: typed.switch("repair"),
        delay: span(typed.duration("delete-delay")?),
        dir: PathBuf::from(typed.required("tmp.dir")?),
        issues: 0,
        backup,
    };
    if verifier.repair && verifier.delay.is_zero() && verifier.backup.is_none() {
        bail!(
            "repair option requires --objstore-backup.config-file, for blocks are deleted straight away; or give a --delete-delay"
        );
    }
    let ids = super::ulids(typed, "id")?;
    let issues = typed.list("issues").into_iter().flat_map(|l| l.split(','));
    let issues: Vec<&str> = issues.collect();
    crate::runtime::run(async {
        let options = CatalogOptions {
            ignore_deletion_marks_delay: Some(std::time::Duration::ZERO),
            deduplicate: false,
            ..CatalogOptions::default()
        };
        let catalog = super::look(&verifier.bucket, options).await?;
        let snapshot = catalog.snapshot();
        verifier.issues += snapshot.unreadable.len();
        let wanted = |b: &&Arc<CatalogBlock>| ids.is_empty() || ids.contains(&b.ulid());
        let blocks: Vec<Arc<CatalogBlock>> =
            snapshot.blocks.iter().filter(wanted).cloned().collect();
        for issue in issues {
            tracing::info!(
                verifier = issue,
                blocks = blocks.len(),
                "started verifying issue"
            );
            match issue {
                "index_known_issues" => verifier.indexes(&blocks).await?,
                "overlapped_blocks" => verifier.overlaps(&blocks),
                "duplicated_compaction" => verifier.duplicates(&blocks).await?,
                other => {
                    let message = format!(
                        "{other:?} is no issue; there are index_known_issues, overlapped_blocks and duplicated_compaction"
                    );
                    return Err(typed.error("issues", message).into());
                }
            }
        }
        tracing::info!(issues = verifier.issues, "verify done");
        Ok(match verifier.issues {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    })
}

/// The groups that blocks belong to.
fn groups(blocks: &[Arc<CatalogBlock>]) -> Vec<compact::group::Group> {
    compact::group::groups(blocks.iter().cloned(), &[])
}

impl Verifier {
    async fn indexes(&mut self, blocks: &[Arc<CatalogBlock>]) -> Result<()> {
        let count = blocks.len() as u64;
        let bytes = blocks.iter().map(|b| b.meta.index_bytes()).sum();
        let source = Arc::clone(&self.bucket);
        let moved = move || source.fetched_bytes();
        let work = Work::begin("verifying", "blocks", count, bytes, moved);
        for block in blocks {
            let (bucket, meta) = (Arc::clone(&self.bucket), block.meta.clone());
            let runtime = Handle::current();
            let check = move || {
                let window = compact::input::window(1);
                let (block, _) = compact::input::open(&bucket, &runtime, &meta, window)?;
                compact::health::of_index(&block)
            };
            let ulid = block.ulid();
            match tokio::task::spawn_blocking(check).await? {
                Ok(health) if health.is_good() => {
                    tracing::debug!(block = %ulid, "no issue");
                }
                Ok(health) => {
                    let problems = health.problems().join("; ");
                    tracing::warn!(block = %ulid, problems, "detected issue");
                    // Labels and series out of order come out in order; so do chunks.
                    if self.repair && health.unsorted_series + health.out_of_order_labels == 0 {
                        self.mend(block).await?;
                    } else {
                        self.issues += 1;
                    }
                }
                Err(error) => {
                    tracing::warn!(block = %ulid, %error, "detected issue: the block cannot be read");
                    self.issues += 1;
                }
            }
            work.done(block.meta.index_bytes());
        }
        Ok(())
    }

    /// Writes a block again: chunks in order, each sample once, nothing outside its time.
    async fn mend(&self, block: &Arc<CatalogBlock>) -> Result<()> {
        let new = Ulid::generate();
        let parent = self.dir.join(new.to_string());
        let output = Output::new(
            Arc::clone(&self.bucket),
            Handle::current(),
            new,
            &parent,
            HashFunc::None,
        );
        let range = block.range();
        let rewrite = Rewrite {
            outside: vec![
                TimeRange::new(i64::MIN, range.min.saturating_sub(1)),
                TimeRange::new(range.max.saturating_add(1), i64::MAX),
            ],
            ..Rewrite::default()
        };
        let making = {
            let (bucket, old) = (Arc::clone(&self.bucket), block.meta.clone());
            let (output, parent, runtime) =
                (Arc::clone(&output), parent.clone(), Handle::current());
            move || -> Result<Option<block::Meta>> {
                let window = compact::input::window(1);
                let (block, _) = compact::input::open(&bucket, &runtime, &old, window)?;
                let plan = rewrite.plan(&block, |_| {})?;
                let mut meta = old;
                meta.ulid = new;
                meta.thanos.get_or_insert_default().source = "bucket.repair".to_owned();
                Ok(plan.write(&block, output, &parent, meta)?)
            }
        };
        let made = tokio::task::spawn_blocking(making).await?;
        let done = async {
            if let Some(mut meta) = made? {
                output.upload_index(&mut meta).await?;
                output.publish(&mut meta).await?;
            }
            Ok::<_, anyhow::Error>(())
        };
        let done = done.await;
        let _ = std::fs::remove_dir_all(parent);
        if let Err(e) = done {
            output.discard().await;
            return Err(e);
        }
        tracing::info!(block = %block.ulid(), %new, "repaired the block");
        self.remove(block.ulid(), "source of repaired block").await
    }

    fn overlaps(&mut self, blocks: &[Arc<CatalogBlock>]) {
        for group in groups(blocks) {
            for pair in group.blocks.windows(2) {
                let [a, b] = pair else { continue };
                if b.meta.min_time < a.meta.max_time {
                    self.issues += 1;
                    tracing::warn!(
                        group = %group.key, labels = %group.labels,
                        first = %a.ulid(), second = %b.ulid(),
                        from = b.meta.min_time, until = a.meta.max_time.min(b.meta.max_time),
                        "found overlapped blocks; a compactor with vertical compaction makes them one"
                    );
                }
            }
        }
    }

    async fn duplicates(&mut self, blocks: &[Arc<CatalogBlock>]) -> Result<()> {
        for group in groups(blocks) {
            let mut same: BTreeMap<Vec<Ulid>, Vec<Ulid>> = BTreeMap::new();
            for block in &group.blocks {
                let mut sources = block.meta.compaction.sources.clone();
                sources.sort_unstable();
                if !sources.is_empty() {
                    same.entry(sources).or_default().push(block.ulid());
                }
            }
            for mut list in same.into_values().filter(|list| list.len() > 1) {
                list.sort_unstable();
                for ulid in list.iter().skip(1) {
                    tracing::warn!(block = %ulid, same_as = %list[0], "found a block compacted twice");
                    match self.repair {
                        true => self.remove(*ulid, "duplicated compaction").await?,
                        false => self.issues += 1,
                    }
                }
            }
        }
        Ok(())
    }

    /// Copies a block to the backup, if there is one, and then marks it for deletion, or deletes it straight away.
    async fn remove(&self, ulid: Ulid, why: &str) -> Result<()> {
        if let Some(backup) = &self.backup {
            compact::replicate::replicate(&self.bucket, backup, ulid).await?;
            tracing::info!(block = %ulid, why, "copied the block to the backup");
            if self.delay.is_zero() {
                marks::delete_block(&self.bucket, ulid).await?;
                tracing::info!(block = %ulid, why, "deleted the block");
                return Ok(());
            }
        }
        let mark = DeletionMark::new(ulid, why, WallClock.now());
        marks::write(&self.bucket, ulid, &mark).await?;
        tracing::info!(block = %ulid, why, "marked the block for deletion");
        Ok(())
    }
}
