//! Rounds of compaction: look, throw garbage away, plan, claim, merge, publish, mark.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use block::Meta;
use bucket::CatalogBlock;
use bucket::marks::{self, DeletionMark};
use futures_util::{Stream, StreamExt as _, stream};
use model::Millis;
use ulid::Ulid;

use super::{Compactor, SIGNATURE, Sight};
use crate::Error;
use crate::claims::Held;
use crate::group::Group;
use crate::input::{self, Files};
use crate::job::{Job, Made, Work, made_by_us};
use crate::meters::resolution;
use crate::plan::Apart;

/// What became of a job.
pub(super) enum Outcome {
    /// There is a new block, or the inputs were empty.
    Done,
    /// Somebody else has the blocks.
    Taken,
}

impl Compactor {
    /// Compacts all groups until there is nothing left to do. What fails is named in `failed`.
    pub(super) async fn compact(&self, failed: &mut Vec<String>) -> Result<(), Error> {
        let mut given_up: HashSet<String> = HashSet::new();
        let mut first = true;
        loop {
            self.check()?;
            let sight = self.look().await?;
            if std::mem::take(&mut first) {
                self.reconsider();
            }
            self.collect_garbage(&sight).await?;
            self.progress_of(&sight);
            let mut jobs = Vec::new();
            let mut taken = false;
            for group in &sight.groups {
                if self.is_halted(&group.key) || given_up.contains(&group.key) {
                    continue;
                }
                self.meters
                    .runs_started
                    .with(&[&resolution(group.resolution)])
                    .inc();
                match self.plan(group).await {
                    Ok((mut planned, busy)) => {
                        taken |= busy;
                        jobs.append(&mut planned);
                    }
                    Err(e) => self.failed(&group.key, e, failed, &mut given_up)?,
                }
            }
            if jobs.is_empty() {
                if taken {
                    tracing::info!("what is left to compact is claimed by others");
                }
                return Ok(());
            }
            tracing::info!(jobs = jobs.len(), "start of compactions");
            let mut running = self.do_jobs(jobs);
            let mut done = 0;
            while let Some((job, result)) = running.next().await {
                let label = resolution(job.resolution);
                match result {
                    Ok(Outcome::Done) => {
                        done += 1;
                        self.meters.runs_completed.with(&[&label]).inc();
                    }
                    Ok(Outcome::Taken) => {}
                    Err(e) => {
                        self.meters.failures.with(&[&label]).inc();
                        self.failed(&job.group, e, failed, &mut given_up)?;
                    }
                }
            }
            if done == 0 {
                // All that is left failed, or belongs to others: the next iteration looks again.
                return Ok(());
            }
        }
    }

    /// What a failure means: the group is set aside, or tried again in the next iteration.
    pub(super) fn failed(
        &self,
        group: &str,
        error: Error,
        failed: &mut Vec<String>,
        given_up: &mut HashSet<String>,
    ) -> Result<(), Error> {
        if matches!(error, Error::Stopped) {
            return Err(error);
        }
        if error.halts() {
            self.halt(group, error.to_string());
        } else {
            tracing::error!(group, %error, "retriable error");
            failed.push(format!("group {group}: {error}"));
        }
        given_up.insert(group.to_owned());
        Ok(())
    }

    async fn collect_garbage(&self, sight: &Sight) -> Result<(), Error> {
        let start = Instant::now();
        self.meters.garbage.inc();
        let mut busy: BTreeMap<&str, HashSet<Ulid>> = BTreeMap::new();
        for block in &sight.garbage {
            let group = self.group_key(block);
            let Some(group) = sight.groups.iter().find(|g| g.key == group) else {
                continue;
            };
            if self.is_halted(&group.key) {
                continue;
            }
            if !busy.contains_key(group.key.as_str()) {
                let state = self.claims.state(&group.key).await?;
                busy.insert(&group.key, state.busy(self.now()).collect());
            }
            let is_busy = busy.get(group.key.as_str());
            if is_busy.is_some_and(|busy| busy.contains(&block.ulid())) {
                continue;
            }
            let why = "outdated block: all of it is in another one";
            match self.mark_for_deletion(block.ulid(), why).await {
                Ok(true) => self.meters.garbage_blocks.inc(),
                Ok(false) => {}
                Err(e) => {
                    self.meters.garbage_failures.inc();
                    return Err(e);
                }
            }
        }
        self.meters
            .garbage_duration
            .observe_duration(start.elapsed());
        Ok(())
    }

    pub(super) fn group_key(&self, block: &CatalogBlock) -> String {
        let labels = crate::group::without_replicas(&block.labels, &self.options.replica_labels);
        crate::group::key(block.meta.resolution(), &labels)
    }

    /// All jobs of a group that do not wait for one another, and whether others work at it.
    async fn plan(&self, group: &Group) -> Result<(Vec<Job>, bool), Error> {
        let metas: Vec<&Meta> = group.blocks.iter().map(|b| &b.meta).collect();
        if !self.options.vertical {
            refuse_overlaps(group)?;
        }
        let sizes = self.index_sizes(group).await?;
        let size = |meta: &Meta| sizes.get(&meta.ulid).copied().unwrap_or(0);
        let marked = group.blocks.iter().filter(|b| b.marks.no_compact.is_some());
        let mut apart = Apart {
            excluded: marked.map(|b| b.ulid()).collect(),
            busy: HashSet::new(),
        };
        if self
            .options
            .planner
            .decide(&metas, &apart, size)
            .plan
            .is_empty()
        {
            // Nobody needs to be asked where there is nothing to do. Marks are set all the same.
            let decision = self.options.planner.decide(&metas, &apart, size);
            self.exclude(&decision.exclude).await?;
            return Ok((Vec::new(), false));
        }
        let state = self.claims.state(&group.key).await?;
        refuse_strangers(group, state.since)?;
        apart.busy = state.busy(self.now()).collect();
        let claimed = !apart.busy.is_empty();
        let mut jobs = Vec::new();
        loop {
            let decision = self.options.planner.decide(&metas, &apart, size);
            self.exclude(&decision.exclude).await?;
            apart.excluded.extend(decision.exclude.iter().map(|e| e.0));
            if decision.plan.is_empty() {
                return Ok((jobs, claimed));
            }
            apart.busy.extend(decision.plan.iter().copied());
            let wanted = |b: &&Arc<CatalogBlock>| decision.plan.contains(&b.ulid());
            jobs.push(Job {
                group: group.key.clone(),
                work: Work::Compact(self.options.overlap),
                inputs: group.blocks.iter().filter(wanted).cloned().collect(),
                labels: group.labels.clone(),
                resolution: group.resolution,
                output: Ulid::generate(),
            });
        }
    }

    async fn exclude(&self, list: &[(Ulid, crate::plan::Exclusion)]) -> Result<(), Error> {
        for (block, why) in list {
            let details = "what it would become part of cannot be made; it is served as it is";
            self.mark_no_compact(*block, why.reason(), details).await?;
        }
        Ok(())
    }

    async fn index_sizes(&self, group: &Group) -> Result<HashMap<Ulid, u64>, Error> {
        let mut sizes = HashMap::new();
        if self.options.planner.max_index_size == u64::MAX {
            return Ok(sizes);
        }
        for block in &group.blocks {
            let size = match self.catalog.index_size(block) {
                Some(size) => size,
                None => {
                    let key = marks::key(block.ulid(), block::index::FILE);
                    self.bucket().head(&key).await?.size
                }
            };
            sizes.insert(block.ulid(), size);
        }
        Ok(sizes)
    }

    /// Does jobs, as many at once as the options allow; each comes with its outcome when it is done.
    pub(super) fn do_jobs(
        &self,
        jobs: Vec<Job>,
    ) -> impl Stream<Item = (Arc<Job>, Result<Outcome, Error>)> + Unpin {
        let one = move |job| {
            Box::pin(async move {
                let job = Arc::new(job);
                (Arc::clone(&job), self.do_job(job).await)
            })
        };
        stream::iter(jobs)
            .map(one)
            .buffer_unordered(self.options.concurrency.max(1))
    }

    /// Claims the blocks of a job, makes the new block, publishes it and marks the old ones.
    pub(super) async fn do_job(&self, job: Arc<Job>) -> Result<Outcome, Error> {
        let inputs: Vec<Ulid> = job.inputs.iter().map(|b| b.ulid()).collect();
        let Some(held) = self.claims.claim(&job.group, &inputs, job.output).await? else {
            return Ok(Outcome::Taken);
        };
        let result = self.claimed(&job, &held).await;
        held.release().await;
        result
    }

    async fn claimed(&self, job: &Arc<Job>, held: &Held) -> Result<Outcome, Error> {
        // Between our look and our claim another one may have done the work.
        let files = self.files(job).await?;
        if files.iter().any(|f| !f.meta) || self.marked_since(job, &files).await?.is_some() {
            return Ok(Outcome::Taken);
        }
        if self.options.skip_out_of_order && matches!(job.work, Work::Compact(_)) {
            for (block, files) in job.inputs.iter().zip(&files) {
                if self.has_disorder(block, files).await? {
                    let reason = "block-index-out-of-order-chunk";
                    let why = "chunks of a series are out of order";
                    self.mark_no_compact(block.ulid(), reason, why).await?;
                    return Ok(Outcome::Done);
                }
            }
        }
        if let (Work::Drop(outdated), [block], [files]) =
            (&job.work, job.inputs.as_slice(), files.as_slice())
            && !self.has_outdated(block, files, outdated).await?
        {
            return Ok(Outcome::Done);
        }
        let plan: Vec<String> = job.inputs.iter().map(|b| b.ulid().to_string()).collect();
        let plan = plan.join(",");
        tracing::info!(group = %job.group, plan, output = %job.output, work = ?job.work, "making a block");
        let start = Instant::now();
        let made = Arc::clone(job).run(&self.workshop(), files).await?;
        let label = resolution(job.resolution);
        let Some(made) = made else {
            tracing::info!(group = %job.group, plan, "no samples are left; marking the blocks for deletion");
            return self.mark_inputs(job).await.map(|()| Outcome::Done);
        };
        let meta = match self.may_publish(job, held, made).await? {
            Some(made) => {
                if let (Work::Drop(_), Some(from)) = (&job.work, job.inputs.first()) {
                    self.hand_on_marks(from, job.output).await?;
                }
                self.changed();
                made.publish().await?
            }
            None => {
                self.meters.claims_lost.inc();
                return Ok(Outcome::Taken);
            }
        };
        let stats = &meta.stats;
        tracing::info!(
            group = %job.group, plan, output = %meta.ulid,
            series = stats.num_series, chunks = stats.num_chunks, samples = stats.num_samples,
            seconds = start.elapsed().as_secs_f64(), "made a block"
        );
        match job.work {
            Work::Compact(_) => {
                self.meters.compactions.with(&[&label]).inc();
                if overlaps(&job.inputs) {
                    self.meters.vertical.with(&[&label]).inc();
                }
                self.mark_inputs(job).await?;
            }
            Work::Drop(_) => {
                self.meters.outdated.with(&[&label]).inc();
                self.mark_inputs(job).await?;
            }
            Work::Downsample(_) => {}
        }
        Ok(Outcome::Done)
    }

    async fn mark_inputs(&self, job: &Job) -> Result<(), Error> {
        for block in &job.inputs {
            let why = match job.work {
                Work::Drop(_) => format!("written again as {} without outdated series", job.output),
                _ => format!("source of compacted block {}", job.output),
            };
            if block.marks.deletion.is_none() && self.mark_for_deletion(block.ulid(), &why).await? {
                self.meters.garbage_blocks.inc();
            }
        }
        Ok(())
    }

    /// Whether the block may be seen. If not, it is removed again; a stranger at work is an error.
    async fn may_publish(&self, job: &Job, held: &Held, made: Made) -> Result<Option<Made>, Error> {
        let verdict = async {
            if !held.confirm().await? {
                return Ok(false);
            }
            let files = self.files(job).await?;
            match self.marked_since(job, &files).await? {
                None => Ok(files.iter().all(|f| f.meta)),
                Some(mark) if mark.details.contains(SIGNATURE) => Ok(false),
                Some(mark) => Err(Error::Halt(format!(
                    "block {} was marked for deletion by another one while it was being compacted ({}): is there another compactor at work on the bucket? Nothing of the group was changed",
                    mark.id, mark.details
                ))),
            }
        };
        match verdict.await {
            Ok(true) => Ok(Some(made)),
            Ok(false) => {
                made.discard().await;
                Ok(None)
            }
            Err(e) => {
                made.discard().await;
                Err(e)
            }
        }
    }

    /// The files of the inputs as they are now.
    async fn files(&self, job: &Job) -> Result<Vec<Files>, Error> {
        let inputs: Vec<Ulid> = job.inputs.iter().map(|b| b.ulid()).collect();
        let objects = self.catalog.objects_of(&inputs).await?;
        let of = |ulid| {
            objects
                .get(ulid)
                .map_or_else(Files::default, |o| Files::of(o))
        };
        Ok(inputs.iter().map(of).collect())
    }

    /// A deletion mark of an input that was not there when the bucket was looked at.
    async fn marked_since(
        &self,
        job: &Job,
        files: &[Files],
    ) -> Result<Option<DeletionMark>, Error> {
        for (block, files) in job.inputs.iter().zip(files) {
            if block.marks.deletion.is_some() || !files.deletion_mark {
                continue;
            }
            let mark = marks::read::<DeletionMark>(self.bucket(), block.ulid()).await?;
            if mark.is_some() {
                return Ok(mark);
            }
        }
        Ok(None)
    }

    async fn has_disorder(&self, block: &Arc<CatalogBlock>, files: &Files) -> Result<bool, Error> {
        self.look_into(block, files, |opened| {
            let health = crate::health::of_index(opened)?;
            Ok(health.out_of_order_chunks > 0)
        })
        .await
    }

    /// Opens a block where it lies, and asks something of it.
    pub(super) async fn look_into<T: Send + 'static>(
        &self,
        block: &Arc<CatalogBlock>,
        files: &Files,
        ask: impl FnOnce(&block::Block) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (bucket, block) = (Arc::clone(self.bucket()), Arc::clone(block));
        let (runtime, files) = (tokio::runtime::Handle::current(), files.clone());
        let look = move || {
            let window = input::window(1);
            let opened = input::open_listed(&bucket, &runtime, &block.meta, &files, window)?;
            ask(&opened)
        };
        tokio::task::spawn_blocking(look)
            .await
            .unwrap_or(Err(Error::Stopped))
    }
}

/// Whether blocks, given by time, overlap.
pub(super) fn overlaps(blocks: &[Arc<CatalogBlock>]) -> bool {
    first_overlap(blocks).is_some()
}

fn first_overlap(blocks: &[Arc<CatalogBlock>]) -> Option<(&CatalogBlock, &CatalogBlock)> {
    let mut longest: Option<&CatalogBlock> = None;
    for block in blocks {
        match longest {
            Some(before) if block.meta.min_time < before.meta.max_time => {
                return Some((before, block));
            }
            Some(before) if before.meta.max_time >= block.meta.max_time => {}
            _ => longest = Some(block),
        }
    }
    None
}

fn refuse_overlaps(group: &Group) -> Result<(), Error> {
    match first_overlap(&group.blocks) {
        None => Ok(()),
        Some((a, b)) => Err(Error::Halt(format!(
            "pre compaction overlap check: blocks {} ({} to {}) and {} ({} to {}) of {} overlap; give --deduplication.replica-label or --compact.enable-vertical-compaction if that is meant, or mark one of them",
            a.ulid(),
            a.meta.min_time,
            a.meta.max_time,
            b.ulid(),
            b.meta.min_time,
            b.meta.max_time,
            group.labels
        ))),
    }
}

/// A block that a compactor made after we began here, and that is not ours, is a stranger's.
fn refuse_strangers(group: &Group, since: Millis) -> Result<(), Error> {
    let strange = group.blocks.iter().find(|b| {
        let source = b.meta.thanos.as_ref().map(|t| t.source.as_str());
        source == Some("compactor")
            && b.ulid().timestamp_ms() as Millis > since
            && !made_by_us(&b.meta)
    });
    match strange {
        None => Ok(()),
        Some(block) => Err(Error::Halt(format!(
            "block {} was made by another compactor than ours, which is at work here since {since} (ms): let only one kind of compactor work on the bucket, then remove {}/{}.json to go on",
            block.ulid(),
            crate::claims::FOLDER,
            group.key
        ))),
    }
}
