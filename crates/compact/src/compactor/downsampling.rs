//! One pass of downsampling over all groups.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use block::Meta;
use futures_util::{StreamExt as _, stream};
use ulid::Ulid;

use super::Compactor;
use super::progress::{Step, bytes};
use super::rounds::Outcome;
use crate::Error;
use crate::downsample::plan::plan;
use crate::job::{Job, Work};
use crate::meters::resolution;

impl Compactor {
    pub(super) async fn downsample(&self, failed: &mut Vec<String>) -> Result<(), Error> {
        self.check()?;
        let sight = self.look_again().await?;
        let blocks = || sight.groups.iter().flat_map(|g| &g.blocks);
        let unmarked = blocks().filter(|b| b.marks.no_downsample.is_none());
        let metas: Vec<&Meta> = unmarked.map(|b| &b.meta).collect();
        let mut jobs = Vec::new();
        for (ulid, to) in plan(metas) {
            let Some(block) = blocks().find(|b| b.ulid() == ulid) else {
                continue;
            };
            let group = self.group_key(block);
            if self.is_halted(&group) {
                continue;
            }
            jobs.push(Job {
                group,
                work: Work::Downsample(to),
                inputs: vec![Arc::clone(block)],
                labels: block.labels.clone(),
                resolution: to,
                output: Ulid::generate(),
            });
        }
        self.begin("downsampling", &jobs);
        let concurrency = self.options.downsample_concurrency.max(1);
        let mut running = stream::iter(jobs)
            .map(|job| async move {
                let job = Arc::new(job);
                let start = Instant::now();
                let result = self.do_job(Arc::clone(&job)).await;
                (job, result, start.elapsed())
            })
            .buffer_unordered(concurrency);
        let mut given_up = HashSet::new();
        while let Some((job, result, took)) = running.next().await {
            self.step(Step::Done { bytes: bytes(&job) });
            let from = job.inputs.first().map_or(0, |b| b.meta.resolution());
            let label = resolution(from);
            match result {
                Ok(Outcome::Done) => {
                    self.meters.downsamples.with(&[&label]).inc();
                    self.meters
                        .downsample_duration
                        .with(&[&label])
                        .observe_duration(took);
                }
                Ok(Outcome::Taken) => {}
                Err(e) => {
                    self.meters.downsample_failures.with(&[&label]).inc();
                    self.failed(&job.group, e, failed, &mut given_up)?;
                }
            }
        }
        Ok(())
    }
}
