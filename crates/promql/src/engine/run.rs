//! From the tree of an expression to operators, and these at work.

use std::sync::Arc;

use futures_channel::mpsc;
use futures_util::FutureExt as _;
use model::Scope;

use super::{Inner, When};
use crate::ast::Expr;
use crate::deep;
use crate::exec::context::{Context, Rules, of_source};
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
use crate::profile::{Profile, Profiling, Timings};
use crate::value::{QueryError, QueryOptions, RangeSeries, Value};

/// A query ready to run.
pub(super) struct Prepared {
    pub(super) physical: Arc<Physical>,
    pub(super) lowering: Lowering,
    /// How deep the expression is.
    depth: usize,
    when: When,
    pub(super) grid: Grid,
}

pub(super) enum Physical {
    Vector(Pipe),
    Scalar(ScalarOp),
    String(String),
    Samples(usize, Window, Option<Extension>, Arc<Meter>),
    Subquery(Pipe),
}

/// What running a query gives.
pub(super) struct Done {
    pub(super) value: Value,
    pub(super) warnings: Vec<model::Str>,
    pub(super) infos: Vec<model::Str>,
    pub(super) profile: Option<Profile>,
}

impl Inner {
    pub(super) fn prepare(
        &self,
        expr: &Expr,
        when: When,
        options: &QueryOptions,
    ) -> Result<Prepared, QueryError> {
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
        let grid = when.grid();
        let mut lowering = Lowering::new(
            self.options.delayed_name_removal,
            options.gather.max_resolution.max(0),
            grid,
            when.start != when.end,
        );
        let around = Around::default();
        let physical = match &root {
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
        Ok(Prepared {
            physical: Arc::new(physical),
            lowering,
            depth: deep::depth(expr),
            when,
            grid,
        })
    }

    /// Runs the operators.
    pub(super) async fn run(
        &self,
        prepared: Prepared,
        scope: Arc<Scope>,
        text: &str,
        profiling: Profiling,
    ) -> Result<Done, QueryError> {
        let Prepared {
            physical,
            lowering,
            depth,
            when,
            grid,
        } = prepared;
        let described = Arc::clone(&physical);
        let rules = Rules {
            max_samples: self.options.max_samples,
            numbers: lowering.numbers,
            delayed_names: self.options.delayed_name_removal,
            start_timestamps: self.options.start_timestamps,
            analyze: profiling == Profiling::Analyze,
            tally: (profiling > Profiling::Off).then(|| Tally::new(lowering.parts)),
            plan: Box::new(move || {
                let plan = deep::run(depth, || Ok(described.describe(grid.count)));
                // Without a thread to describe it on there is nothing to show, nor to count.
                plan.unwrap_or_else(|_| Description::new("", false, ""))
            }),
        };
        let view = self.source.open(Arc::clone(&scope)).map_err(of_source)?;
        let selects = Selects::new(
            Arc::from(view),
            lowering.questions,
            self.options.max_selects,
        );
        let (tasks, arriving) = mpsc::unbounded();
        let cx = Arc::new(Context::new(
            scope,
            selects,
            Arc::clone(&self.pool),
            rules,
            tasks,
        ));
        let value = value(&cx, &physical, when, grid);
        let value = drive(value.boxed(), arriving).await?;
        // What has no series is held, too.
        cx.count(0)?;
        let mut said = cx.take_annotations();
        said.merge(lowering.annotations);
        let (warnings, infos) = if said.is_empty() {
            Default::default()
        } else {
            said.texts(text)
        };
        let profile = (profiling > Profiling::Off).then(|| {
            let plan = cx.plan();
            Profile {
                timings: Timings::default(),
                samples: cx.tally.as_ref().map(Tally::finish).unwrap_or_default(),
                peak_samples: meter::peak(plan),
                plan: plan.clone(),
            }
        });
        Ok(Done {
            value,
            warnings,
            infos,
            profile,
        })
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
    cx.keep_with_answer(cx.hold(grid.count.saturating_mul(16))?);
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
    /// What it is, at so many steps.
    pub(super) fn describe(&self, steps: usize) -> Description {
        match self {
            Physical::Vector(pipe) | Physical::Subquery(pipe) => pipe.describe(),
            Physical::Scalar(scalar) => {
                let numbers = scalar.describe(steps);
                let name = "Scalar";
                Description::new(name, false, "steps x 8 B")
                    .transparent()
                    .over([numbers])
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
