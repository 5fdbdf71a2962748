//! Rows from a source through stages: everything that happens to one series alone.
//!
//! A pipe is what one CPU job does: take a batch, decode each series once into reusable columns,
//! run the kernel, apply the stages, hand the row on. The next operator (an aggregation, say)
//! works inside the same job, so rows between them are never stored.

use std::sync::Arc;
use std::time::Instant;

use chunk::{Columns, SeriesDecoder};
use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use model::{BoxStream, SeriesBatch, Statistics};

use super::block::{Block, Row};
use super::context::{Context, Held, Weigh as _, of_chunk};
use super::meter::{Counts, Meter, metered};
use super::operator::{Blocks, Description, Operator};
use super::pace::Pace;
use super::scan::{ReadyScan, Scan};
use super::stage::{ReadyStage, Stage};
use super::subquery::{ReadySubquery, Subquery};
use super::tally::{self, Steps};
use crate::grid::Grid;
use crate::kernels::Scratch;
use crate::value::QueryError;

/// Where rows come from.
#[derive(Clone)]
pub(crate) enum Feed {
    /// A selector and the kernel over it.
    Scan(Scan),
    /// A kernel over the steps of another expression.
    Subquery(Subquery),
    /// Another operator.
    Rows(Arc<dyn Operator>),
}

/// Rows on a grid.
#[derive(Clone)]
pub(crate) struct Pipe {
    feed: Feed,
    stages: Vec<Stage>,
    pub(crate) grid: Grid,
    /// One of the feed, and one of each stage.
    meters: Vec<Arc<Meter>>,
}

/// One job's input.
pub(crate) enum Work<'a> {
    Batch(&'a SeriesBatch),
    Block(Block),
}

/// A pipe whose scalar parameters are known.
pub(crate) struct ReadyPipe {
    feed: ReadyFeed,
    stages: Vec<ReadyStage>,
    pub(crate) grid: Grid,
    meters: Vec<Arc<Meter>>,
    /// The memory of one row a job.
    _rows: Held,
}

enum ReadyFeed {
    Scan(ReadyScan),
    Subquery(ReadySubquery),
    Rows,
}

/// Memory of a job, reused from series to series.
#[derive(Default)]
pub(crate) struct JobMemory {
    pub(crate) decoder: SeriesDecoder,
    pub(crate) columns: Columns,
    /// Histograms with the buckets that nobody asked for.
    pub(crate) whole: chunk::Histograms,
    pub(crate) scratch: Scratch,
    /// What the lists take.
    held: Option<Held>,
}

impl JobMemory {
    /// Counts what the lists take, which grow to what the largest series needs.
    fn hold(&mut self, cx: &Context) -> Result<(), QueryError> {
        let bytes = self.columns.bytes() + self.whole.bytes();
        match &mut self.held {
            Some(held) if bytes <= held.bytes() => Ok(()),
            Some(held) => held.resize(bytes),
            none => {
                *none = Some(cx.hold(bytes)?);
                Ok(())
            }
        }
    }
}

impl Pipe {
    pub(crate) fn new(feed: Feed, grid: Grid) -> Self {
        Self {
            feed,
            stages: Vec::new(),
            grid,
            meters: vec![Arc::default()],
        }
    }

    pub(crate) fn of(operator: impl Operator + 'static, grid: Grid) -> Self {
        Self::new(Feed::Rows(Arc::new(operator)), grid)
    }

    pub(crate) fn then(mut self, stage: Stage) -> Self {
        self.stages.push(stage);
        self.meters.push(Arc::default());
        self
    }

    /// The blocks of the operator it begins with.
    fn operate(&self, operator: &Arc<dyn Operator>, cx: &Arc<Context>) -> Blocks {
        let blocks = Arc::clone(operator).run(Arc::clone(cx));
        match self.meters.first() {
            Some(meter) => metered(blocks, meter, cx),
            None => blocks,
        }
    }

    /// Computes scalar parameters.
    async fn ready(&self, cx: &Arc<Context>) -> Result<ReadyPipe, QueryError> {
        let mut stages = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            stages.push(stage.ready(cx, &self.grid).await?);
        }
        let feed = match &self.feed {
            Feed::Scan(scan) => ReadyFeed::Scan(scan.ready(cx, &self.grid).await?),
            Feed::Subquery(subquery) => ReadyFeed::Subquery(subquery.ready(cx, &self.grid).await?),
            Feed::Rows(_) => ReadyFeed::Rows,
        };
        Ok(ReadyPipe {
            feed,
            stages,
            grid: self.grid,
            meters: self.meters.clone(),
            _rows: cx.hold_rows(self.grid.count)?,
        })
    }

    /// Runs `job` on each piece of input, several at once, and yields the results in order.
    pub(crate) fn jobs<T: Send + 'static>(
        &self,
        cx: &Arc<Context>,
        job: impl Fn(&Arc<Context>, &ReadyPipe, Work<'_>) -> Result<T, QueryError>
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> BoxStream<'static, Result<T, QueryError>> {
        let (pipe, cx) = (self.clone(), Arc::clone(cx));
        let started = async move {
            let ready = Arc::new(pipe.ready(&cx).await?);
            let blocks = match &pipe.feed {
                Feed::Scan(scan) => {
                    let steps = pipe.grid.count;
                    return Ok(cx
                        .selects
                        .each(scan.question, &cx, steps, move |cx, batch| {
                            job(cx, &ready, Work::Batch(batch))
                        }));
                }
                Feed::Subquery(subquery) => Arc::clone(&subquery.input).run(Arc::clone(&cx)),
                Feed::Rows(operator) => pipe.operate(operator, &cx),
            };
            let credits = cx.credits;
            let made = blocks.map(move |block| {
                let (cx, ready, job) = (Arc::clone(&cx), Arc::clone(&ready), job.clone());
                async move {
                    let block = block?;
                    let bytes = block.weight();
                    let work = move |cx: &Arc<Context>| job(cx, &ready, Work::Block(block));
                    cx.run(bytes, work).await
                }
            });
            Ok::<_, QueryError>(made.buffered(credits).boxed())
        };
        futures_util::stream::once(started).try_flatten().boxed()
    }

    /// The rows as blocks.
    pub(crate) fn blocks(&self, cx: &Arc<Context>) -> Blocks {
        if let Feed::Rows(operator) = &self.feed
            && self.stages.is_empty()
        {
            return self.operate(operator, cx);
        }
        self.jobs(cx, |cx, ready, work| {
            let mut block = cx.build(ready.grid.count)?;
            ready.drive(cx, work, &mut |row| block.push(row.as_ref()))?;
            block.finish()
        })
        .filter(|block| {
            let empty = block.as_ref().is_ok_and(Block::is_empty);
            async move { !empty }
        })
        .boxed()
    }

    pub(crate) fn describe(&self) -> Description {
        let below = match &self.feed {
            Feed::Scan(scan) => scan.describe(self.grid.count),
            Feed::Subquery(subquery) => subquery.describe(self.grid.count),
            Feed::Rows(operator) => operator.describe(),
        };
        let mut meters = self.meters.iter();
        let metered = |mut part: Description, meter: Option<&Arc<Meter>>| {
            part.steps = self.grid.count;
            match meter {
                Some(meter) => part.metered(meter),
                None => part,
            }
        };
        let below = metered(below, meters.next());
        let stages = self.stages.iter().zip(meters);
        stages.fold(below, |below, (stage, meter)| {
            metered(stage.describe(below, self.grid.count), Some(meter))
        })
    }
}

impl Operator for Pipe {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        self.blocks(&cx)
    }

    fn describe(&self) -> Description {
        Pipe::describe(self)
    }
}

impl ReadyPipe {
    /// Hands every row of `work` that has a value to `each`.
    pub(crate) fn drive(
        &self,
        cx: &Arc<Context>,
        work: Work<'_>,
        each: &mut dyn FnMut(&mut Row) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let mut counts = vec![Counts::default(); self.meters.len()];
        let result = match (&self.feed, work) {
            (ReadyFeed::Scan(scan), Work::Batch(batch)) => {
                self.scan(cx, scan, batch, &mut counts, each)
            }
            (ReadyFeed::Subquery(subquery), Work::Block(block)) => {
                self.subquery(cx, subquery, &block, &mut counts, each)
            }
            (_, Work::Block(block)) => {
                let (mut row, mut pace) = (Row::default(), Pace::default());
                let work = self.grid.count * (1 + self.stages.len());
                block.rows().try_for_each(|inner| {
                    inner.copy_to(&mut row);
                    pace.step(cx, work)?;
                    self.stage(cx, &mut row, &mut counts, each)
                })
            }
            // Only scans are fed with batches.
            (_, Work::Batch(_)) => Ok(()),
        };
        let mut samples = 0;
        for (meter, counts) in self.meters.iter().zip(&counts) {
            meter.add(counts);
            samples += counts.samples;
        }
        result.and_then(|()| cx.count(samples))
    }

    /// Sends a row through the stages.
    fn stage(
        &self,
        cx: &Context,
        row: &mut Row,
        counts: &mut [Counts],
        each: &mut dyn FnMut(&mut Row) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        for (i, stage) in self.stages.iter().enumerate() {
            let clock = Clock::start(cx);
            stage.apply(cx, row)?;
            let counts = &mut counts[i + 1];
            clock.stop(counts);
            if row.is_empty() {
                return Ok(());
            }
            counts.row(row);
        }
        each(row)
    }

    fn scan(
        &self,
        cx: &Context,
        scan: &ReadyScan,
        batch: &SeriesBatch,
        counts: &mut [Counts],
        each: &mut dyn FnMut(&mut Row) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        for warning in &batch.warnings {
            cx.say(|a| a.of_source(warning));
        }
        let mut row = Row::default();
        let mut memory = JobMemory::default();
        let mut steps = cx.tally.as_ref().map(|_| Steps::new(self.grid.count));
        let (mut chunks, mut samples, mut pace) = (0, 0, Pace::default());
        for i in 0..batch.len() {
            let clock = Clock::start(cx);
            let decoded = memory
                .decoder
                .decode(batch, i, &scan.want, &mut memory.columns)
                .map_err(of_chunk)?;
            chunks += decoded.chunks;
            samples += decoded.samples;
            memory.hold(cx)?;
            pace.step(cx, decoded.samples as usize * 4 + self.grid.count)?;
            row.reset(self.grid.count);
            scan.row(cx, &self.grid, batch.labels_of(i), &mut memory, &mut row)?;
            clock.stop(&mut counts[0]);
            if cx.must_measure(tally::samples(&memory.columns), counts[0].samples) {
                let widest = scan.measure(&self.grid, &memory, &row, steps.as_mut());
                cx.saw_window(&self.meters[0], widest);
            }
            if !row.is_empty() {
                counts[0].row(&row);
                self.stage(cx, &mut row, counts, each)?;
            }
        }
        counts[0].bytes += batch.chunks.iter().map(|c| u64::from(c.len)).sum::<u64>();
        if let (Some(tally), Some(steps)) = (&cx.tally, &steps) {
            tally.add(scan.part, steps);
        }
        let statistics = &cx.scope.statistics;
        Statistics::add(&statistics.series, batch.len() as u64);
        Statistics::add(&statistics.chunks, chunks);
        Statistics::add(&statistics.samples, samples);
        Ok(())
    }

    fn subquery(
        &self,
        cx: &Context,
        subquery: &ReadySubquery,
        block: &Block,
        counts: &mut [Counts],
        each: &mut dyn FnMut(&mut Row) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let mut row = Row::default();
        let mut memory = JobMemory::default();
        let mut steps = cx.tally.as_ref().map(|_| Steps::new(self.grid.count));
        let mut pace = Pace::default();
        for inner in block.rows() {
            pace.step(cx, inner.values.len() * 2 + self.grid.count)?;
            let clock = Clock::start(cx);
            row.reset(self.grid.count);
            subquery.row(cx, &self.grid, inner, &mut memory, &mut row)?;
            clock.stop(&mut counts[0]);
            if cx.must_measure(tally::samples(&memory.columns), counts[0].samples) {
                let widest = subquery.measure(&self.grid, &memory, &row, steps.as_mut());
                cx.saw_window(&self.meters[0], widest);
            }
            if !row.is_empty() {
                counts[0].row(&row);
                self.stage(cx, &mut row, counts, each)?;
            }
        }
        if let (Some(tally), Some(steps)) = (&cx.tally, &steps) {
            tally.add(subquery.part, steps);
        }
        Ok(())
    }
}

/// Measures what one row takes, if somebody will ask.
struct Clock(Option<Instant>);

impl Clock {
    fn start(cx: &Context) -> Self {
        Self(cx.analyze.then(Instant::now))
    }

    fn stop(self, counts: &mut Counts) {
        if let Some(begun) = self.0 {
            counts.nanos += begun.elapsed().as_nanos() as u64;
        }
    }
}
