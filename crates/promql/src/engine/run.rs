//! From the tree of an expression to operators, and these at work.

use std::sync::Arc;

use futures_channel::{mpsc, oneshot};
use futures_util::FutureExt as _;
use model::{Millis, Scope, View};

use super::{Inner, When};
use crate::annotations::Annotations;
use crate::ast::Expr;
use crate::deep;
use crate::exec::context::{Context, Held, Rules, of_source};
use crate::exec::exchange::drive;
use crate::exec::meter::{self, Meter};
use crate::exec::operator::{Description, Yield};
use crate::exec::pipe::Pipe;
use crate::exec::result;
use crate::exec::scalar::ScalarOp;
use crate::exec::selects::Selects;
use crate::exec::tally::Tally;
use crate::grid::{Grid, Window};
use crate::kernels::Param;
use crate::kernels::extended::Extension;
use crate::plan::build::{Query, build};
use crate::plan::distribute::Pushes;
use crate::plan::hints::Around;
use crate::plan::lower::Lowering;
use crate::plan::{Root, Selector};
use crate::profile::{Profile, Profiling, StepSamples, Timings};
use crate::value::{QueryError, QueryOptions, RangeSeries, Value};

/// What is to be done, at whichever steps.
pub(super) struct Plan {
    pub(super) root: Root,
    /// How deep the expression is.
    depth: usize,
    when: When,
    max_resolution: Millis,
    delayed_names: bool,
}

/// A plan ready to run on a grid.
pub(super) struct Prepared {
    pub(super) physical: Arc<Physical>,
    pub(super) lowering: Lowering,
    grid: Grid,
}

pub(super) enum Physical {
    Vector(Pipe),
    Scalar(ScalarOp),
    String(String),
    Samples(usize, Window, Option<Extension>, Arc<Meter>),
    Subquery(Pipe),
}

/// What has been run before of a query that runs in windows of steps.
pub(super) struct Before<'a> {
    /// The plan for all steps.
    pub(super) whole: &'a Arc<Description>,
    /// The plan of the window before, if there is one, with all that was counted so far.
    pub(super) plan: Option<&'a Description>,
    /// Samples that all parts of the plan have yielded so far.
    pub(super) yielded: u64,
}

/// What one run of the operators gives.
pub(super) struct Ran {
    pub(super) value: Value,
    pub(super) said: Annotations,
    /// The plan with its meters, if it is wanted.
    pub(super) plan: Option<Description>,
    pub(super) samples: StepSamples,
    /// Samples that all parts of the plan have yielded.
    pub(super) yielded: u64,
    /// The memory of the value.
    pub(super) held: Vec<Held>,
}

/// How a run has failed.
pub(super) struct Failed {
    pub(super) error: QueryError,
    /// Bytes of the answer that there were by then.
    pub(super) answered: u64,
}

/// What running a query gives.
pub(super) struct Done {
    pub(super) value: Value,
    pub(super) warnings: Vec<model::Str>,
    pub(super) infos: Vec<model::Str>,
    pub(super) profile: Option<Profile>,
}

impl Plan {
    /// The operators for the steps of `grid`, which are all of the query's, or some.
    pub(super) fn lower(&self, grid: Grid) -> Result<Prepared, QueryError> {
        deep::run(self.depth, || Ok(self.lowered(grid)))
    }

    fn lowered(&self, grid: Grid) -> Prepared {
        let mut lowering = Lowering::new(
            self.delayed_names,
            self.max_resolution,
            grid,
            self.when.start != self.when.end,
        );
        let around = Around::default();
        let physical = match &self.root {
            Root::Vector(node) => Physical::Vector(lowering.node(node, grid, &around)),
            Root::Scalar(scalar) => Physical::Scalar(lowering.scalar(scalar, grid)),
            Root::String(text) => Physical::String(text.clone()),
            Root::Samples(selector) => {
                let (question, _) = lowering.ask(selector, &grid, None, &around);
                let window = Selector::window(selector);
                Physical::Samples(question, window, selector.extension, Arc::default())
            }
            Root::Subquery(subquery) => Physical::Subquery(lowering.inside(subquery, &grid)),
        };
        Prepared {
            physical: Arc::new(physical),
            lowering,
            grid,
        }
    }

    /// All steps.
    pub(super) fn grid(&self) -> Grid {
        self.when.grid()
    }

    /// The operators as `explain` shows them.
    pub(super) fn describe(&self, physical: &Physical) -> Result<Description, QueryError> {
        deep::run(self.depth, || Ok(physical.describe()))
    }
}

impl Inner {
    pub(super) fn prepare(
        &self,
        expr: &Expr,
        when: When,
        options: &QueryOptions,
    ) -> Result<(Plan, Prepared), QueryError> {
        let mut query = Query {
            start: when.start,
            end: when.end,
            step: when.step.unwrap_or(0),
            lookback: options.lookback.unwrap_or(self.options.lookback),
            subquery_step: Arc::clone(&self.options.subquery_step),
            start_timestamps: self.options.start_timestamps,
            pushes: Pushes::default(),
        };
        // Whose names are still to be dropped cannot be said over the wire.
        let peers = self.options.peers.as_ref();
        let peers = peers.filter(|_| !self.options.delayed_name_removal);
        if let Some(parties) = peers.and_then(|p| p.parties(options)) {
            query.pushes = Pushes::plan(expr, &query, &parties);
        }
        let mut root = build(expr, &query)?;
        root.optimize();
        let plan = Plan {
            root,
            depth: deep::depth(expr),
            when,
            max_resolution: options.gather.max_resolution.max(0),
            delayed_names: self.options.delayed_name_removal,
        };
        let prepared = plan.lowered(when.grid());
        Ok((plan, prepared))
    }

    /// Runs the query, in windows of steps if it does not fit its memory as a whole.
    pub(super) async fn run(
        &self,
        plan: Plan,
        prepared: Prepared,
        scope: Arc<Scope>,
        text: &str,
        profiling: Profiling,
    ) -> Result<Done, QueryError> {
        let view = self.source.open(Arc::clone(&scope)).map_err(of_source)?;
        let view: Arc<dyn View> = Arc::from(view);
        let whole = Arc::clone(&prepared.physical);
        let attempt = self.attempt(&plan, prepared, (&view, &scope), profiling, None);
        let ran = match attempt.await {
            Ok(ran) => ran,
            Err(failed) if plan.grid().count > 1 && scope.budget.take_refusal() => {
                let whole = plan.describe(&whole)?;
                self.in_windows(plan, whole, (&view, &scope), profiling, failed)
                    .await?
            }
            Err(failed) => return Err(failed.error),
        };
        let (warnings, infos) = if ran.said.is_empty() {
            Default::default()
        } else {
            ran.said.texts(text)
        };
        let plan = ran.plan.filter(|_| profiling > Profiling::Off);
        let profile = plan.map(|plan| Profile {
            timings: Timings::default(),
            samples: ran.samples,
            peak_samples: meter::peak(&plan),
            plan,
        });
        Ok(Done {
            value: ran.value,
            warnings,
            infos,
            profile,
        })
    }

    /// Runs the operators once.
    pub(super) async fn attempt(
        &self,
        plan: &Plan,
        prepared: Prepared,
        (view, scope): (&Arc<dyn View>, &Arc<Scope>),
        profiling: Profiling,
        before: Option<Before<'_>>,
    ) -> Result<Ran, Failed> {
        let Prepared {
            physical,
            lowering,
            grid,
        } = prepared;
        if let Some(done) = before.as_ref().and_then(|before| before.plan) {
            let own = plan.describe(&physical).map_err(Failed::at_once)?;
            own.go_on_from(done);
        }
        let whole = before.as_ref().map(|before| Arc::clone(before.whole));
        // Only who may try again waits for what is still at work.
        let (alive, gone) = match plan.grid().count > 1 {
            true => {
                let (alive, gone) = oneshot::channel();
                (Some(alive), Some(gone))
            }
            false => (None, None),
        };
        let (described, depth) = (Arc::clone(&physical), plan.depth);
        let rules = Rules {
            max_samples: self.options.max_samples,
            delayed_names: self.options.delayed_name_removal,
            start_timestamps: self.options.start_timestamps,
            analyze: profiling == Profiling::Analyze,
            tally: (profiling > Profiling::Off).then(|| Tally::new(lowering.parts)),
            yielded: before.as_ref().map_or(0, |before| before.yielded),
            plan: Box::new(move || {
                let plan = deep::run(depth, || {
                    let plan = described.describe();
                    Ok(match &whole {
                        Some(whole) => plan.with_steps_of(whole),
                        None => plan,
                    })
                });
                // Without a thread to describe it on there is nothing to show, nor to count.
                plan.unwrap_or_else(|_| Description::new("", false, ""))
            }),
            alive,
        };
        let selects = Selects::new(
            Arc::clone(view),
            lowering.questions,
            self.options.max_selects,
        );
        let (tasks, arriving) = mpsc::unbounded();
        let cx = Arc::new(Context::new(
            Arc::clone(scope),
            selects,
            Arc::clone(&self.pool),
            rules,
            tasks,
        ));
        let value = value(&cx, &physical, plan.when, grid);
        let value = match drive(value.boxed(), arriving).await {
            Ok(value) => value,
            Err(error) => {
                let kept = cx.take_kept();
                let answered = kept.iter().map(|held| held.bytes() as u64).sum();
                drop((cx, kept));
                if let Some(gone) = gone {
                    // Jobs that are still at work hold memory. Nothing is ever sent.
                    let _ = gone.await;
                }
                return Err(Failed { error, answered });
            }
        };
        let mut said = cx.take_annotations();
        said.merge(lowering.annotations);
        Ok(Ran {
            value,
            said,
            plan: (profiling > Profiling::Off || before.is_some()).then(|| cx.plan().clone()),
            samples: cx.tally.as_ref().map(Tally::finish).unwrap_or_default(),
            yielded: cx.yielded(),
            held: cx.take_kept(),
        })
    }
}

impl Failed {
    fn at_once(error: QueryError) -> Self {
        Self { error, answered: 0 }
    }
}

/// What the operators make at the steps of `grid`.
async fn value(
    cx: &Arc<Context>,
    physical: &Physical,
    when: When,
    grid: Grid,
) -> Result<Value, QueryError> {
    let instant = when.step.is_none();
    Ok(match physical {
        Physical::String(text) => Value::String(when.start, text.clone()),
        Physical::Scalar(scalar) => {
            let param = scalar.eval(cx, &grid).await?;
            if instant {
                Value::Scalar(when.start, param.at(0))
            } else {
                Value::Matrix(scalar_series(cx, &param, &grid)?)
            }
        }
        Physical::Vector(pipe) if instant => {
            Value::Vector(result::vector(cx, pipe.blocks(cx), when.start).await?)
        }
        Physical::Vector(pipe) => Value::Matrix(result::matrix(cx, pipe.blocks(cx), grid).await?),
        Physical::Samples(question, window, extension, meter) => {
            let over = (*window, *extension);
            let read = result::samples(cx, *question, over, grid, meter);
            Value::Matrix(read.await?)
        }
        Physical::Subquery(pipe) => {
            let inner = pipe.grid;
            Value::Matrix(result::matrix(cx, pipe.blocks(cx), inner).await?)
        }
    })
}

/// A scalar on a grid: one series without labels.
fn scalar_series(cx: &Context, param: &Param, grid: &Grid) -> Result<Vec<RangeSeries>, QueryError> {
    cx.keep(cx.hold(grid.count.saturating_mul(16))?);
    if grid.count == 0 {
        return Ok(Vec::new());
    }
    Ok(vec![RangeSeries {
        labels: Default::default(),
        ts: (0..grid.count).map(|i| grid.at(i)).collect(),
        values: (0..grid.count).map(|i| param.at(i)).collect(),
        histograms: Vec::new(),
    }])
}

impl Physical {
    pub(super) fn describe(&self) -> Description {
        match self {
            Physical::Vector(pipe) | Physical::Subquery(pipe) => pipe.describe(),
            Physical::Scalar(scalar) => {
                Description::new("Scalar", false, "steps x 8 B").over(scalar.children())
            }
            Physical::String(_) => Description::new("String", true, "nothing"),
            Physical::Samples(_, window, _, meter) => Description::new(
                format!("Samples range={}ms", window.range),
                false,
                "samples x 16 B",
            )
            .metered(meter)
            .yields(Yield::Beside),
        }
    }
}
