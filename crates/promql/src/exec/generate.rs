//! Series that are not read: `absent`, `vector`, and what has none.

use std::sync::Arc;

use super::block::{Block, Row, words};
use super::context::Context;
use super::operator::{Blocks, Description, Operator, blocking, fold};
use super::pipe::Pipe;
use crate::annotations::Note;
use crate::ast::{BinaryOp, Span};
use crate::grid::Grid;

/// `absent` and `absent_over_time`: 1 where no series has a value.
pub(crate) struct Absent {
    pub(crate) labels: model::Labels,
    /// Whether it is `absent_over_time`: then the name counts as dropped (it never is there; the flag
    /// travels on).
    pub(crate) drops_name: bool,
    pub(crate) input: Pipe,
    pub(crate) grid: Grid,
}

impl Operator for Absent {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        blocking(async move {
            let steps = self.grid.count;
            // A row, and its copy in a block.
            let _row = cx.hold(steps.saturating_mul(18))?;
            let state = vec![0u64; words(steps)];
            let bits = fold(&cx, self.input.blocks(&cx), state, |_, bits, block| {
                super::stage::presence(bits, &block);
                Ok(())
            })
            .await?;
            let mut row = Row::default();
            row.reset(steps);
            cx.scope
                .symbols
                .intern_labels(&self.labels, &mut row.labels);
            row.drop_name = self.drops_name && cx.delayed_names;
            for (w, word) in row.bits.iter_mut().enumerate() {
                *word = !bits[w] & super::block::full(steps, w);
            }
            if row.is_empty() {
                return Ok(Vec::new());
            }
            row.values.fill(1.0);
            let mut block = Block::new(steps);
            block.push(row.as_ref());
            Ok(vec![cx.hold_block(block)?])
        })
    }

    fn describe(&self) -> Description {
        let absent = Description::new("Absent", false, "steps / 8 B");
        // Prometheus goes on counting what `absent_over_time` has looked at.
        let absent = match self.drops_name {
            true => absent.transparent(),
            false => absent,
        };
        absent.over([self.input.describe()])
    }
}

/// `vector(scalar)`: one series without labels.
pub(crate) struct Vector {
    pub(crate) scalar: super::scalar::ScalarOp,
    pub(crate) grid: Grid,
}

impl Operator for Vector {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        blocking(async move {
            let steps = self.grid.count;
            let param = self.scalar.eval(&cx, &self.grid).await?;
            let _row = cx.hold(steps.saturating_mul(18))?;
            let mut row = Row::default();
            row.reset(steps);
            for i in 0..steps {
                row.values[i] = param.at(i);
            }
            for (w, word) in row.bits.iter_mut().enumerate() {
                *word = super::block::full(steps, w);
            }
            let mut block = Block::new(steps);
            if steps > 0 {
                block.push(row.as_ref());
            }
            Ok(vec![cx.hold_block(block)?])
        })
    }

    fn describe(&self) -> Description {
        Description::new("Vector", true, "steps x 8 B")
            .over([self.scalar.describe(self.grid.count)])
    }
}

/// `scalar </ vector` and `scalar >/ vector`: no series, for reasons.
pub(crate) struct NoTrim {
    pub(crate) op: BinaryOp,
    /// Where it was written.
    pub(crate) span: Span,
    pub(crate) input: Pipe,
}

impl Operator for NoTrim {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        blocking(async move {
            // Of each step, as in Prometheus, only the last series is mentioned: whether it is a
            // histogram.
            let last: Vec<Option<bool>> = vec![None; self.input.grid.count];
            let last = fold(&cx, self.input.blocks(&cx), last, |_, last, block| {
                for row in block.rows() {
                    super::block::each_set(row.bits, |i| last[i] = Some(false));
                    for (i, _) in row.histograms {
                        last[*i as usize] = Some(true);
                    }
                }
                Ok(())
            })
            .await?;
            for (histogram, kind) in [(false, "float"), (true, "histogram")] {
                if last.contains(&Some(histogram)) {
                    let note = Note::Types("float", self.op.as_str(), kind);
                    cx.say(|a| a.note(&note, self.span));
                }
            }
            Ok(Vec::new())
        })
    }

    fn describe(&self) -> Description {
        let name = format!("Scalar operation {}", self.op.as_str());
        let number = Description::number(self.input.grid.count);
        Description::new(name, false, "steps").over([number, self.input.describe()])
    }
}
