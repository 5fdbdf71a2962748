//! What all operators of a query share: scope, data, CPU pool, limits, what is to be said.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use futures_channel::{mpsc, oneshot};
use model::labels::{is_legacy_label_name, write_quoted};
use model::{Kind, METRIC_NAME, OverBudget, Reservation, Scope, SourceError, Stopped, Symbol};
use parking_lot::Mutex;

use super::block::{Block, Pair, RowRef};
use super::exchange::Task;
use super::meter::{self, Meter};
use super::operator::Description;
use super::selects::Selects;
use super::tally::Tally;
use crate::annotations::Annotations;
use crate::value::QueryError;

/// The error of a query that would hold too many samples.
pub(crate) const TOO_MANY_SAMPLES: &str =
    "query processing would load too many samples into memory in query execution";

/// The error of two series that became equal.
pub(crate) const SAME_LABELSET: &str = "vector cannot contain metrics with the same labelset";

const EVALUATION: &str = "expression evaluation";

/// Bytes that a query's jobs may work on where the query is polled: half a millisecond.
/// Handing a job to the pool and waking up for its result costs tens of microseconds, which is most
/// of what a light query takes.
const AT_ONCE: usize = 384 << 10;
/// Each of these jobs counts at least as so many bytes.
const LEAST: usize = 512;
/// What is made of blocks that are there, of up to so many bytes, takes less than handing it over:
/// it is done where the query is polled, however much was before.
const TRIFLE: usize = 32 << 10;

/// One query while it runs.
pub(crate) struct Context {
    pub(crate) scope: Arc<Scope>,
    pub(crate) selects: Selects,
    pub(crate) pool: Arc<rayon::ThreadPool>,
    /// Jobs one operator may have under way.
    pub(crate) credits: usize,
    /// Whether metric names are dropped only at the end.
    pub(crate) delayed_names: bool,
    /// Whether `rate` and its kin use start timestamps.
    pub(crate) start_timestamps: bool,
    /// Whether time is measured.
    pub(crate) analyze: bool,
    /// Samples per step, if somebody will ask.
    pub(crate) tally: Option<Tally>,
    max_samples: u64,
    /// Samples that all parts of the plan have yielded so far, and the numbers of its scalars.
    yielded: AtomicU64,
    /// Those of the widest window seen.
    window: AtomicU64,
    /// What is left of [`AT_ONCE`].
    at_once: AtomicUsize,
    plan: Plan,
    described: OnceLock<Description>,
    tasks: mpsc::UnboundedSender<Task>,
    annotations: Mutex<Annotations>,
    kept: Mutex<Vec<Held>>,
    /// How many bytes of symbols are held.
    symbols: AtomicUsize,
    metadata: [Symbol; 3],
}

/// How a query is to be run.
pub(crate) struct Rules {
    /// `query.max-samples`
    pub(crate) max_samples: u64,
    /// Numbers that the query's scalars are, each step counted.
    pub(crate) numbers: u64,
    pub(crate) delayed_names: bool,
    pub(crate) start_timestamps: bool,
    pub(crate) analyze: bool,
    pub(crate) tally: Option<Tally>,
    pub(crate) plan: Plan,
}

/// Says what the physical plan is, with its meters.
pub(crate) type Plan = Box<dyn Fn() -> Description + Send + Sync>;

/// Bytes that are held; given back on drop.
#[derive(Debug)]
pub(crate) struct Held(Reservation);

impl Held {
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes() as usize
    }

    /// Changes how many bytes are held.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), QueryError> {
        self.0.resize("series", bytes as u64).map_err(over_budget)
    }

    /// Sees to it that as many bytes are held as lists of so many bytes may take, which grow by
    /// doubling.
    pub(crate) fn ensure(&mut self, bytes: usize) -> Result<(), QueryError> {
        match bytes.saturating_mul(2) {
            most if most > self.bytes() => self.resize(most.saturating_add(most / 4)),
            _ => Ok(()),
        }
    }
}

/// What an operator keeps beside its blocks, which grows: it is held before it is there.
pub(crate) struct Growing {
    held: Held,
    /// Bytes so far.
    used: usize,
}

impl Growing {
    /// So many bytes more.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), QueryError> {
        self.used += bytes;
        self.held.ensure(self.used)
    }
}

/// A block that grows row by row: what it takes is held before it is there.
pub(crate) struct Building {
    block: Block,
    held: Held,
    /// Bytes of the rows so far.
    used: usize,
}

impl Building {
    pub(crate) fn push(&mut self, row: RowRef<'_>) -> Result<(), QueryError> {
        self.used += row.bytes();
        match self.block.is_empty() {
            // Most blocks of large rows have one.
            true => self.held.resize(self.used)?,
            false => self.held.ensure(self.used)?,
        }
        self.block.push(row);
        Ok(())
    }

    /// The block, with what it really takes.
    pub(crate) fn finish(self) -> Result<Block, QueryError> {
        let Self {
            mut block,
            mut held,
            ..
        } = self;
        held.resize(block.bytes())?;
        block.held = Some(held);
        Ok(block)
    }
}

impl Context {
    pub(crate) fn new(
        scope: Arc<Scope>,
        selects: Selects,
        pool: Arc<rayon::ThreadPool>,
        rules: Rules,
        tasks: mpsc::UnboundedSender<Task>,
    ) -> Self {
        let metadata = [METRIC_NAME, "__type__", "__unit__"].map(|n| scope.symbols.intern(n));
        Self {
            credits: pool.current_num_threads() + 1,
            scope,
            selects,
            pool,
            delayed_names: rules.delayed_names,
            start_timestamps: rules.start_timestamps,
            analyze: rules.analyze,
            tally: rules.tally,
            max_samples: rules.max_samples,
            yielded: AtomicU64::new(rules.numbers),
            window: AtomicU64::new(0),
            at_once: AtomicUsize::new(AT_ONCE),
            plan: rules.plan,
            described: OnceLock::new(),
            tasks,
            annotations: Mutex::default(),
            kept: Mutex::default(),
            symbols: AtomicUsize::new(0),
            metadata,
        }
    }

    /// Counts the symbols that came since it was asked last. They live as long as the answer.
    fn hold_symbols(&self) -> Result<(), QueryError> {
        /// As many as tables of many small labels have.
        const FEW: usize = 64 << 10;
        let (bytes, held) = (
            self.scope.symbols.bytes(),
            self.symbols.load(Ordering::Relaxed),
        );
        if bytes < held + FEW {
            return Ok(());
        }
        let taken =
            self.symbols
                .compare_exchange(held, bytes, Ordering::Relaxed, Ordering::Relaxed);
        // Else another job has just counted them.
        if taken.is_ok() {
            self.keep_with_answer(self.hold(bytes - held)?);
        }
        Ok(())
    }

    /// Ends the query once it was cancelled or is late.
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        self.scope.check().map_err(stopped)
    }

    /// Runs `job` on the CPU pool. Jobs never wait: they get all they need.
    async fn run_on_pool<T: Send + 'static>(
        self: &Arc<Self>,
        job: impl FnOnce(&Arc<Context>) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, QueryError> {
        self.check()?;
        let (done, result) = oneshot::channel();
        let cx = Arc::clone(self);
        self.pool.spawn_fifo(move || {
            let result = cx.check().and_then(|()| guarded(|| job(&cx)));
            drop(cx);
            // Whoever asked may have gone.
            let _ = done.send(result);
        });
        result
            .await
            .unwrap_or_else(|_| Err(QueryError::Internal("a query job was lost".into())))
    }

    /// Whether work over so many bytes is done where the query is polled, which is so as long as all
    /// such work of the query is little.
    pub(crate) fn takes(&self, bytes: usize) -> bool {
        let bytes = bytes.max(LEAST);
        let left = |left: usize| left.checked_sub(bytes);
        self.at_once
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .is_ok()
    }

    /// Runs `job` over so many bytes: at once if they are few, or as long as those of the query are, else
    /// on the CPU pool.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        bytes: usize,
        job: impl FnOnce(&Arc<Context>) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, QueryError> {
        match bytes <= TRIFLE || self.takes(bytes) {
            true => self.check().and_then(|()| guarded(|| job(self))),
            false => self.run_on_pool(job).await,
        }
    }

    /// The plan with its meters.
    pub(crate) fn plan(&self) -> &Description {
        self.described.get_or_init(|| (self.plan)())
    }

    /// Notes that a part of the plan has yielded so many samples, after its meter has; ends the
    /// query once they are too many.
    pub(crate) fn count(&self, samples: u64) -> Result<(), QueryError> {
        self.hold_symbols()?;
        let yielded = self.yielded.fetch_add(samples, Ordering::Relaxed) + samples;
        let window = self.window.load(Ordering::Relaxed);
        // Each is held once, gathered at most once more, and a window stands beside them.
        let most = yielded.saturating_mul(2).saturating_add(window);
        if most > self.max_samples && meter::peak(self.plan()) > self.max_samples {
            return Err(execution(TOO_MANY_SAMPLES));
        }
        Ok(())
    }

    /// Whether a window of so many samples at most can decide whether there are too many, or will be
    /// asked for. `own` samples are there that were not noted yet.
    pub(crate) fn must_measure(&self, samples: usize, own: u64) -> bool {
        /// Those of other jobs are not noted yet, either.
        const FAR: u64 = 8;
        let known = self.yielded.load(Ordering::Relaxed).saturating_add(own);
        let near = known.saturating_mul(FAR).saturating_add(samples as u64);
        self.tally.is_some() || near > self.max_samples
    }

    /// A range function looked at a window of so many samples.
    pub(crate) fn saw_window(&self, meter: &Meter, samples: u64) {
        meter.window(samples);
        self.window.fetch_max(samples, Ordering::Relaxed);
    }

    /// Counts bytes as held.
    pub(crate) fn hold(&self, bytes: usize) -> Result<Held, QueryError> {
        let reserved = self.scope.budget.reserve("series", bytes as u64);
        reserved.map(Held).map_err(over_budget)
    }

    /// Counts the rows that an operator's jobs work on; refuses grids that no row fits.
    pub(crate) fn hold_rows(&self, steps: usize) -> Result<Held, QueryError> {
        const MOST: u64 = 1 << 26;
        if steps as u64 > self.max_samples.clamp(MOST, 1 << 32) {
            return Err(execution(TOO_MANY_SAMPLES));
        }
        self.hold(self.credits.saturating_mul(steps.saturating_mul(9)))
    }

    /// Begins to hold what grows.
    pub(crate) fn growing(&self) -> Result<Growing, QueryError> {
        Ok(Growing {
            held: self.hold(0)?,
            used: 0,
        })
    }

    /// Begins a block of so many steps.
    pub(crate) fn build(&self, steps: usize) -> Result<Building, QueryError> {
        Ok(Building {
            block: Block::new(steps),
            held: self.hold(0)?,
            used: 0,
        })
    }

    /// Counts the columns of so many samples that an operator's jobs make.
    pub(crate) fn hold_columns(&self, samples: usize) -> Result<Held, QueryError> {
        self.hold(self.credits.saturating_mul(samples.saturating_mul(16)))
    }

    /// Counts what the block holds.
    pub(crate) fn hold_block(&self, mut block: Block) -> Result<Block, QueryError> {
        block.held = Some(self.hold(block.bytes())?);
        Ok(block)
    }

    /// The block that `make` makes: so many rows of so many steps are counted before they are there.
    pub(crate) fn make_block(
        &self,
        (rows, steps): (usize, usize),
        make: impl FnOnce() -> Result<Block, QueryError>,
    ) -> Result<Block, QueryError> {
        let mut held = self.hold(rows.saturating_mul(steps.saturating_mul(9)))?;
        let mut block = make()?;
        held.resize(block.bytes())?;
        block.held = Some(held);
        Ok(block)
    }

    /// Has `task` polled beside the query.
    pub(crate) fn spawn(&self, task: Task) {
        // Fails only once the query has ended, and then nobody waits for the task.
        let _ = self.tasks.unbounded_send(task);
    }

    /// Holds something until the query ends.
    pub(crate) fn keep(&self, held: Held) {
        self.kept.lock().push(held);
    }

    /// Holds a part of the answer as long as it is there.
    pub(crate) fn keep_with_answer(&self, held: Held) {
        self.scope.keep(held.0);
    }

    /// Says something.
    pub(crate) fn say(&self, what: impl FnOnce(&mut Annotations)) {
        what(&mut self.annotations.lock());
    }

    pub(crate) fn take_annotations(&self) -> Annotations {
        std::mem::take(&mut *self.annotations.lock())
    }

    /// Whether the label belongs to the metric's schema: its name, type and unit.
    pub(crate) fn is_metadata(&self, name: Symbol) -> bool {
        self.metadata.contains(&name)
    }

    pub(crate) fn name_symbol(&self) -> Symbol {
        self.metadata[0]
    }

    /// Removes name, type and unit.
    pub(crate) fn drop_metadata(&self, labels: &mut Vec<Pair>) {
        labels.retain(|(n, _)| !self.is_metadata(*n));
    }

    /// The text of the labels, for error messages: the name is one of them.
    pub(crate) fn text(&self, labels: &[Pair]) -> String {
        let symbols = &self.scope.symbols;
        let mut out = String::from("{");
        for (i, (name, value)) in labels.iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            let name = symbols.get(*name);
            // Writing to a String cannot fail.
            if is_legacy_label_name(name) {
                out.push_str(name);
            } else {
                let _ = write_quoted(&mut out, name);
            }
            out.push('=');
            let _ = write_quoted(&mut out, symbols.get(*value));
        }
        out.push('}');
        out
    }
}

pub(crate) fn guarded<T>(job: impl FnOnce() -> Result<T, QueryError>) -> Result<T, QueryError> {
    catch_unwind(AssertUnwindSafe(job))
        .unwrap_or_else(|_| Err(QueryError::Internal("a query operator failed".into())))
}

/// A job's input, for [`Context::run`].
pub(crate) trait Weigh {
    /// Bytes to work on.
    fn weight(&self) -> usize;
}

impl Weigh for Block {
    fn weight(&self) -> usize {
        self.bytes()
    }
}

impl Weigh for Vec<Block> {
    fn weight(&self) -> usize {
        self.iter().map(Block::bytes).sum()
    }
}

pub(crate) fn stopped(e: Stopped) -> QueryError {
    match e {
        Stopped::Cancelled => QueryError::Canceled(EVALUATION),
        Stopped::Deadline => QueryError::Timeout(EVALUATION),
    }
}

pub(crate) fn over_budget(e: OverBudget) -> QueryError {
    QueryError::Execution(e.to_string())
}

pub(crate) fn execution(text: impl Into<String>) -> QueryError {
    QueryError::Execution(text.into())
}

/// What a failure of a source means for the query.
pub(crate) fn of_source(e: SourceError) -> QueryError {
    match e.kind {
        Kind::Cancelled => QueryError::Canceled(EVALUATION),
        Kind::Timeout => QueryError::Timeout(EVALUATION),
        Kind::Unavailable => QueryError::Unavailable(e.message),
        Kind::Internal => QueryError::Internal(e.message),
        Kind::NotFound | Kind::Invalid | Kind::Limit | Kind::Corrupt => {
            QueryError::Execution(format!("expanding series: {}", e.message))
        }
    }
}

/// What a chunk that cannot be opened means for the query.
pub(crate) fn of_chunk(e: chunk::ChunkError) -> QueryError {
    match e {
        chunk::ChunkError::NotImplemented(_) => execution(e.to_string()),
        _ => execution(format!("expanding series: {e}")),
    }
}
