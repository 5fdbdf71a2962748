//! How much is left to do.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use block::{Meta, merge};
use parking_lot::Mutex;
use ulid::Ulid;

use super::{Compactor, Sight};
use crate::downsample::plan::plan;
use crate::job::Job;
use crate::plan::Apart;

/// What a compactor tells while it goes through blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It begins.
    Begun {
        /// What it does with them.
        what: &'static str,
        /// How many there are.
        blocks: usize,
        /// The bytes that are read for it, as far as each `meta.json` says; 0 if they are not read.
        bytes: u64,
    },
    /// It has come to the end of one.
    Done {
        /// Its bytes.
        bytes: u64,
    },
}

/// Is told of steps.
pub type OnStep = Arc<dyn Fn(Step) + Send + Sync>;

/// How fast it goes.
#[derive(Debug, Default)]
pub struct Progress {
    read: AtomicU64,
    since: Mutex<Option<(Instant, u64)>>,
}

impl Progress {
    pub(super) fn read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes a second since the last call; none at the first.
    fn speed(&self) -> Option<f64> {
        let read = self.read.load(Ordering::Relaxed);
        let now = Instant::now();
        let (then, before) = self.since.lock().replace((now, read))?;
        let seconds = now.duration_since(then).as_secs_f64();
        (seconds > 0.0 && read > before).then(|| (read - before) as f64 / seconds)
    }
}

/// What is left to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Todo {
    /// Compactions.
    pub compactions: usize,
    /// Blocks that go into them, some of them several times.
    pub blocks: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks to downsample.
    pub downsamples: usize,
    /// Blocks to mark because their retention is over.
    pub deletions: usize,
}

impl Compactor {
    pub(super) fn step(&self, step: Step) {
        if let Some(told) = &self.options.on_step {
            told(step);
        }
    }

    pub(super) fn begin(&self, what: &'static str, jobs: &[Job]) {
        self.step(Step::Begun {
            what,
            blocks: jobs.len(),
            bytes: jobs.iter().map(bytes).sum(),
        });
    }

    /// What is left to do, as far as the last look shows.
    pub fn todo(&self) -> Todo {
        let sight = self.sight();
        self.todo_of(&sight)
    }

    fn todo_of(&self, sight: &Sight) -> Todo {
        let mut todo = Todo::default();
        let mut left: Vec<Meta> = Vec::new();
        for group in &sight.groups {
            let mut metas: Vec<Meta> = group.blocks.iter().map(|b| b.meta.clone()).collect();
            let marked = group.blocks.iter().filter(|b| b.marks.no_compact.is_some());
            let mut apart = Apart {
                excluded: marked.map(|b| b.ulid()).collect(),
                busy: HashSet::new(),
            };
            // Each compaction takes at least one block away.
            for _ in 0..2 * metas.len() {
                let refs: Vec<&Meta> = metas.iter().collect();
                let index = |m: &Meta| m.index_bytes();
                let decision = self.options.planner.decide(&refs, &apart, index);
                apart.excluded.extend(decision.exclude.iter().map(|e| e.0));
                if decision.plan.is_empty() {
                    break;
                }
                let taken = |m: &&Meta| decision.plan.contains(&m.ulid);
                let inputs: Vec<&Meta> = metas.iter().filter(taken).collect();
                todo.compactions += 1;
                todo.blocks += inputs.len();
                todo.bytes += inputs.iter().map(|m| m.bytes()).sum::<u64>();
                let mut made = merge::meta_of(Ulid::generate(), &inputs);
                made.thanos = inputs.first().and_then(|m| m.thanos.clone());
                metas.retain(|m| !decision.plan.contains(&m.ulid));
                metas.push(made);
                metas.sort_by_key(|m| (m.min_time, m.ulid));
            }
            left.append(&mut metas);
        }
        if self.options.downsampling {
            todo.downsamples = plan(&left).len();
        }
        todo.deletions = self.over().len();
        todo
    }

    /// Tells what is left to do.
    pub(super) fn progress_of(&self, sight: &Sight) {
        let todo = self.todo_of(sight);
        self.tell(todo);
    }

    /// Tells, in the log and as metrics, what is left to do and how long that takes at the present speed.
    pub fn tell(&self, todo: Todo) {
        self.meters.todo_compactions.set(todo.compactions as i64);
        self.meters.todo_compaction_blocks.set(todo.blocks as i64);
        self.meters
            .todo_downsample_blocks
            .set(todo.downsamples as i64);
        self.meters.todo_deletion_blocks.set(todo.deletions as i64);
        let eta = self.progress.speed().map(|speed| {
            let ms = todo.bytes as f64 / speed * 1000.0;
            model::time::format_duration(ms as i64)
        });
        tracing::info!(
            compactions = todo.compactions,
            blocks = todo.blocks,
            bytes = todo.bytes,
            downsamples = todo.downsamples,
            deletions = todo.deletions,
            eta = eta.unwrap_or_else(|| "unknown".to_owned()),
            "left to do"
        );
    }
}

/// Bytes of what goes into a job.
pub(super) fn bytes(job: &Job) -> u64 {
    job.inputs.iter().map(|b| b.meta.bytes()).sum()
}
