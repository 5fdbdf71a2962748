//! What every operator can do: yield blocks of series, and say what it is.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use model::BoxStream;

use super::block::Block;
use super::context::{Context, Weigh as _};
use super::meter::{Measured, Meter};
use crate::value::QueryError;

/// Blocks in an order that depends on the data alone, never on the number of threads.
pub(crate) type Blocks = BoxStream<'static, Result<Block, QueryError>>;

/// A step of the physical plan.
pub(crate) trait Operator: Send + Sync {
    /// Starts it. Nothing runs until the stream is polled.
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks;

    /// What it is, for `explain`.
    fn describe(&self) -> Description;
}

/// How the result of a part of the plan stands beside those of its operands when Prometheus
/// evaluates it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Yield {
    /// It grows beside them, and the operands of one step are gathered once more.
    #[default]
    Gathered,
    /// It grows beside them, and so does the widest window; numbers among them stay when it leaves.
    Beside,
    /// It grows while the samples of one step, one of each of its own, are gathered.
    Selected,
    /// It grows beside them, those of one step are gathered once more, and they stay when it leaves.
    Joined,
    /// It takes their place.
    Instead,
    /// There is none: what enters leaves.
    Input,
    /// Prometheus holds only a part of it, which is counted where that is known.
    Elsewhere,
}

/// An operator as `explain` shows it.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// Its name and parameters.
    pub name: String,
    /// Whether series leave it while others still enter.
    pub streams: bool,
    /// What it holds, as a formula.
    pub memory: &'static str,
    /// Where its series come from, in the order of evaluation in Prometheus, numbers included.
    pub(crate) children: Vec<Description>,
    /// How many samples its result has, where no meter has to count them: a number at each step.
    pub(crate) numbers: usize,
    /// What it has done.
    pub(crate) meter: Option<Arc<Meter>>,
    /// How its result stands beside those of its operands.
    pub(crate) result: Yield,
    /// How many steps it is evaluated at; 0 if that is not known.
    pub(crate) steps: usize,
}

impl Description {
    pub(crate) fn new(name: impl Into<String>, streams: bool, memory: &'static str) -> Self {
        Self {
            name: name.into(),
            streams,
            memory,
            children: Vec::new(),
            numbers: 0,
            meter: None,
            result: Yield::Gathered,
            steps: 0,
        }
    }

    /// Says that its result is a number at each of so many steps.
    pub(crate) fn numbers(mut self, steps: usize) -> Self {
        self.numbers = steps;
        self.steps = steps;
        self
    }

    /// A number at each of so many steps; a plan does not show it.
    pub(crate) fn number(steps: usize) -> Self {
        Self::new("", false, "").numbers(steps)
    }

    /// Where its series come from.
    pub fn children(&self) -> Vec<&Description> {
        let mut shown = Vec::new();
        for child in &self.children {
            match child.name.is_empty() {
                true => shown.extend(child.children()),
                false => shown.push(child),
            }
        }
        shown
    }

    /// With the meter that counts its result, unless it has one.
    pub(crate) fn metered(mut self, meter: &Arc<Meter>) -> Self {
        self.meter.get_or_insert_with(|| Arc::clone(meter));
        self
    }

    /// With how its result stands beside those of its operands.
    pub(crate) fn yields(mut self, result: Yield) -> Self {
        self.result = result;
        self
    }

    /// Its result is its input's.
    pub(crate) fn transparent(mut self) -> Self {
        self.result = Yield::Input;
        self
    }

    /// The most samples an evaluation step by step holds at once for it and what is below.
    pub fn peak_samples(&self) -> u64 {
        super::meter::peak(self)
    }

    /// What it has done so far.
    pub fn measured(&self) -> Measured {
        self.meter.as_ref().map(|m| m.read()).unwrap_or_default()
    }

    pub(crate) fn over(mut self, children: impl IntoIterator<Item = Description>) -> Self {
        self.children.extend(children);
        self
    }

    fn write(&self, depth: usize, out: &mut String) {
        let how = if self.streams { "streams" } else { "blocks" };
        for _ in 0..depth {
            out.push_str("  ");
        }
        out.push_str(&self.name);
        out.push_str(&format!("  [{how}; {}]\n", self.memory));
        for child in self.children() {
            child.write(depth + 1, out);
        }
    }
}

/// One line an operator, children indented below it.
impl std::fmt::Display for Description {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = String::new();
        self.write(0, &mut out);
        f.write_str(&out)
    }
}

/// The blocks that `all` yields once it is done.
pub(crate) fn blocking(
    all: impl Future<Output = Result<Vec<Block>, QueryError>> + Send + 'static,
) -> Blocks {
    stream::once(all)
        .map_ok(|blocks| stream::iter(blocks).map(Ok))
        .try_flatten()
        .boxed()
}

/// The error of an operation whose right side has failed: its left side is evaluated first in
/// Prometheus, so an error there comes before it.
pub(crate) async fn left_first(error: QueryError, mut lhs: Blocks) -> QueryError {
    if matches!(error, QueryError::Execution(_)) {
        while let Some(block) = lhs.next().await {
            if let Err(earlier) = block {
                return earlier;
            }
        }
    }
    error
}

/// Hands every block of `input` to `each` on the CPU pool, in order, with a state that travels
/// along; yields the state.
pub(crate) async fn fold<S: Send + 'static>(
    cx: &Arc<Context>,
    mut input: Blocks,
    mut state: S,
    each: impl Fn(&Arc<Context>, &mut S, Block) -> Result<(), QueryError> + Clone + Send + 'static,
) -> Result<S, QueryError> {
    while let Some(block) = input.next().await {
        let block = block?;
        let each = each.clone();
        state = cx
            .run(block.weight(), move |cx| {
                each(cx, &mut state, block)?;
                Ok(state)
            })
            .await?;
    }
    Ok(state)
}
