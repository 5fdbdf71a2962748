//! The engine: expressions in, finished steps out.

mod crowd;
mod run;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use model::{BoxFuture, Budget, Cancel, Millis, Scope, Source, Statistics, Symbols};
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info_span};

use crate::ast::{Expr, ValueType};
use crate::deep;
use crate::exec::operator::Description;
use crate::features::Features;
use crate::gate::Gate;
use crate::grid::Grid;
use crate::parse::parse;
use crate::peers::Peers;
use crate::profile::Timings;
use crate::timer::Timer;
use crate::value::{
    Evaluator, Explain, InstantQuery, QueryError, QueryOptions, QueryResult, RangeQuery,
};

/// Is told where the time of a query went that has ended.
pub type Watch = Arc<dyn Fn(&Timings) + Send + Sync>;

/// How an [`Engine`] evaluates. The defaults are Prometheus'.
#[derive(Clone)]
pub struct EngineOptions {
    /// How far back an instant selector looks, ms.
    pub lookback: Millis,
    /// How long a query may take, waiting for its turn included.
    pub timeout: Duration,
    /// How many samples a query may hold at once.
    pub max_samples: u64,
    /// How many queries run at once; others wait.
    pub max_concurrency: usize,
    /// The step of a subquery that has none, by its range, both ms.
    pub subquery_step: Arc<dyn Fn(Millis) -> Millis + Send + Sync>,
    /// Which optional parts of the language are on.
    pub features: Features,
    /// `promql-delayed-name-removal`: metric names are dropped at the very end.
    pub delayed_name_removal: bool,
    /// `use-start-timestamps`: `rate` and its kin know of resets from start timestamps, and
    /// `start_timestamp()` has results.
    pub start_timestamps: bool,
    /// The memory of all queries together.
    pub memory: Arc<Budget>,
    /// The memory of one query, bytes.
    pub query_memory: u64,
    /// Is told of every query that has ended, well or not, and where its time went.
    pub watch: Option<Watch>,
    /// Other evaluators that may do parts of queries.
    pub peers: Option<Arc<dyn Peers>>,
    /// How many selectors of one query may wait for the first of their series at once.
    pub max_selects: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            lookback: 300_000,
            timeout: Duration::from_secs(120),
            max_samples: 50_000_000,
            max_concurrency: 20,
            subquery_step: Arc::new(|_| 60_000),
            features: Features::default(),
            delayed_name_removal: false,
            start_timestamps: false,
            memory: Budget::new("all queries", u64::MAX),
            query_memory: u64::MAX,
            watch: None,
            peers: None,
            max_selects: usize::MAX,
        }
    }
}

/// Evaluates PromQL over a [`Source`].
///
/// It needs no runtime of its own: whoever polls its futures drives I/O, and everything that
/// computes runs on the pool. Nothing on the pool ever waits.
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    source: Arc<dyn Source>,
    options: EngineOptions,
    pool: Arc<rayon::ThreadPool>,
    gate: Arc<Gate>,
    /// Lets those that others left no memory for try again, one at a time.
    again: Arc<Gate>,
    timer: Timer,
}

/// When to evaluate.
#[derive(Clone, Copy)]
struct When {
    start: Millis,
    end: Millis,
    /// `None` for an instant query.
    step: Option<Millis>,
}

impl When {
    fn grid(&self) -> Grid {
        match self.step {
            Some(step) => Grid::range(self.start, self.end, step),
            None => Grid::instant(self.start),
        }
    }
}

impl Engine {
    /// An engine over `source` that computes on `pool`.
    pub fn new(
        source: Arc<dyn Source>,
        options: EngineOptions,
        pool: Arc<rayon::ThreadPool>,
    ) -> Self {
        let gate = Gate::new(options.max_concurrency.max(1));
        let inner = Inner {
            source,
            options,
            pool,
            gate: Arc::new(gate),
            again: Arc::new(Gate::new(1)),
            timer: Timer::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The options it was made with.
    pub fn options(&self) -> &EngineOptions {
        &self.inner.options
    }

    /// How many queries run now.
    pub fn running(&self) -> usize {
        let places = self.inner.options.max_concurrency.max(1);
        places.saturating_sub(self.inner.gate.free())
    }

    /// How many queries wait until they may run.
    pub fn waiting(&self) -> usize {
        self.inner.gate.waiting()
    }

    /// The operators that would answer a query, without running it. `step` is `None` for an
    /// instant query at `start`.
    pub fn explain(
        &self,
        expr: &str,
        start: Millis,
        end: Millis,
        step: Option<Millis>,
    ) -> Result<Description, QueryError> {
        let when = When { start, end, step };
        self.inner.explain(expr, when, &QueryOptions::default())
    }

    /// Evaluates a tree at one time. `text` is what annotations point into.
    pub fn instant_tree(
        &self,
        expr: Expr,
        text: &str,
        ts: Millis,
        options: QueryOptions,
    ) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        let when = When {
            start: ts,
            end: ts,
            step: None,
        };
        self.evaluate(Ok(expr), text, when, options)
    }

    /// Evaluates a tree on a grid. `text` is what annotations point into.
    pub fn range_tree(
        &self,
        expr: Expr,
        text: &str,
        (start, end, step): (Millis, Millis, Millis),
        options: QueryOptions,
    ) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        let when = When {
            start,
            end,
            step: Some(step),
        };
        let expr = check_range(&expr, when).map(|()| expr);
        self.evaluate(expr, text, when, options)
    }

    fn evaluate(
        &self,
        expr: Result<Expr, QueryError>,
        text: &str,
        when: When,
        options: QueryOptions,
    ) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        let (inner, text) = (Arc::clone(&self.inner), text.to_owned());
        async move { inner.evaluate(expr?, &text, when, options).await }.boxed()
    }
}

impl Evaluator for Engine {
    fn instant(&self, query: InstantQuery) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        let when = When {
            start: query.ts,
            end: query.ts,
            step: None,
        };
        let expr = self.inner.parse(&query.expr, when);
        self.evaluate(expr, &query.expr, when, query.options)
    }

    fn range(&self, query: RangeQuery) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        let when = When {
            start: query.start,
            end: query.end,
            step: Some(query.step),
        };
        let expr = self.inner.parse(&query.expr, when);
        self.evaluate(expr, &query.expr, when, query.options)
    }

    fn explain(&self, query: &Explain) -> Option<Result<Description, QueryError>> {
        let when = When {
            start: query.start,
            end: query.end,
            step: query.step,
        };
        Some(self.inner.explain(&query.expr, when, &query.options))
    }
}

fn check_range(expr: &Expr, when: When) -> Result<(), QueryError> {
    let Some(step) = when.step else {
        return Ok(());
    };
    let bad = |text: String| Err(QueryError::BadData(text));
    if step <= 0 {
        return bad("zero or negative query resolution step widths are not accepted. Try a positive integer".to_owned());
    }
    match expr.value_type() {
        ValueType::Vector | ValueType::Scalar => Ok(()),
        other => bad(format!(
            "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
            other.documented()
        )),
    }
}

impl Inner {
    fn parse(&self, text: &str, when: When) -> Result<Expr, QueryError> {
        let expr =
            parse(text, &self.options.features).map_err(|e| QueryError::BadData(e.to_string()))?;
        check_range(&expr, when)?;
        Ok(expr)
    }

    fn explain(
        &self,
        text: &str,
        when: When,
        options: &QueryOptions,
    ) -> Result<Description, QueryError> {
        let expr = self.parse(text, when)?;
        deep::call(&expr, || {
            let prepared = self.prepare(&expr, when, options)?;
            Ok(prepared.physical.describe(prepared.grid.count))
        })
    }

    async fn evaluate(
        self: Arc<Self>,
        expr: Expr,
        text: &str,
        when: When,
        options: QueryOptions,
    ) -> Result<QueryResult, QueryError> {
        let mut timings = Timings::default();
        // The spans of a query have Prometheus' names.
        let span = info_span!(
            "promqlExec",
            query = text,
            start = when.start,
            end = when.end,
            step = when.step,
            otel.status_code = Empty,
            otel.status_description = Empty,
        );
        let result = Arc::clone(&self)
            .evaluate_timed(expr, text, when, options, &mut timings)
            .instrument(span.clone())
            .await;
        fails(&span, result.as_ref().err());
        if let Some(watch) = &self.options.watch {
            watch(&timings);
        }
        result
    }

    async fn evaluate_timed(
        self: Arc<Self>,
        expr: Expr,
        text: &str,
        when: When,
        options: QueryOptions,
        timings: &mut Timings,
    ) -> Result<QueryResult, QueryError> {
        let timeout = options.timeout.unwrap_or(self.options.timeout);
        let begun = Instant::now();
        let deadline = begun.checked_add(timeout);
        let turn = {
            let stop = self.stopped(deadline, &options.cancel, "query queue");
            let waited = select(self.gate.enter().boxed(), stop);
            let waited = waited.instrument(info_span!("promqlExecQueue")).await;
            timings.queue = begun.elapsed();
            timings.total = timings.queue;
            match waited {
                Either::Left((turn, _)) => turn,
                Either::Right((e, _)) => return Err(e),
            }
        };
        let mut result = self
            .attempt(&expr, text, when, &options, deadline, timings)
            .await;
        let mut alone = None;
        for _ in 0..crowd::ATTEMPTS {
            let Err(Failed { crowded: true, .. }) = &result else {
                break;
            };
            alone = self.room(alone, deadline, &options.cancel).await?;
            result = self
                .attempt(&expr, text, when, &options, deadline, timings)
                .await;
        }
        drop((turn, alone));
        timings.total = begun.elapsed();
        let (scope, done) = result.map_err(|failed| failed.error)?;
        let run::Done {
            value,
            warnings,
            infos,
            mut profile,
        } = done;
        if let Some(profile) = &mut profile {
            profile.timings = *timings;
        }
        Ok(QueryResult {
            value,
            warnings,
            infos,
            scope: Some(scope),
            profile: profile.map(Arc::new),
        })
    }

    /// Evaluates once.
    async fn attempt(
        &self,
        expr: &Expr,
        text: &str,
        when: When,
        options: &QueryOptions,
        deadline: Option<Instant>,
        timings: &mut Timings,
    ) -> Result<(Arc<Scope>, run::Done), Failed> {
        let entered = Instant::now();
        let eval = info_span!("promqlEval");
        let prepared = info_span!(parent: &eval, "promqlPrepare")
            .in_scope(|| deep::call(expr, || self.prepare(expr, when, options)))?;
        // Dropping this future ends the query's jobs, too.
        let cancel = Cancel::default();
        let _ends = cancel.on_drop();
        let budget = self
            .options
            .memory
            .child("one query", self.options.query_memory);
        let scope = Arc::new(Scope {
            range: prepared.lowering.range(),
            tenant: options.tenant.clone(),
            deadline,
            cancel,
            budget,
            partial_response: options.partial_response,
            gather: options.gather.clone(),
            symbols: Arc::<Symbols>::default(),
            statistics: Statistics::default(),
            kept: parking_lot::Mutex::default(),
        });
        timings.prepare = entered.elapsed();
        let work = self.run(prepared, Arc::clone(&scope), text, options.profiling);
        let stop = self.stopped(deadline, &options.cancel, "expression evaluation");
        let work = work.instrument(info_span!(parent: &eval, "promqlInnerEval"));
        let result = match select(work.boxed(), stop).await {
            Either::Left((result, _)) => result,
            Either::Right((e, _)) => Err(e),
        };
        drop(eval);
        timings.eval = entered.elapsed();
        timings.inner = timings.eval.saturating_sub(timings.prepare);
        match result {
            Ok(done) => Ok((scope, done)),
            Err(error) => Err(Failed {
                crowded: scope.budget.crowded(),
                error,
            }),
        }
    }

    /// Finishes when the query is cancelled or late.
    fn stopped(
        &self,
        deadline: Option<Instant>,
        cancel: &Cancel,
        during: &'static str,
    ) -> BoxFuture<'static, QueryError> {
        let cancelled = cancel.cancelled();
        let late = self.timer.at(deadline);
        async move {
            match select(cancelled.boxed(), late.boxed()).await {
                Either::Left(_) => QueryError::Canceled(during),
                Either::Right(_) => QueryError::Timeout(during),
            }
        }
        .boxed()
    }
}

/// An attempt that failed.
struct Failed {
    error: QueryError,
    /// Whether its own budget had room for what others left no memory for.
    crowded: bool,
}

impl From<QueryError> for Failed {
    fn from(error: QueryError) -> Self {
        Self {
            error,
            crowded: false,
        }
    }
}

/// A span ends well, or says why not.
fn fails(span: &Span, error: Option<&QueryError>) {
    if let Some(error) = error {
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", tracing::field::display(error));
    }
}
