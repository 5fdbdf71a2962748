//! Whole series out of pieces, and the checks for series that became equal.

use std::sync::Arc;

use futures_util::stream::{StreamExt as _, TryStreamExt as _};

use super::block::{Block, Row, each_set, first_common, unite, words};
use super::context::{Context, Held, SAME_LABELSET, Weigh as _, execution};
use super::index::LabelIndex;
use super::operator::{Blocks, Description, Operator, blocking};
use super::pipe::Pipe;
use crate::value::QueryError;

/// Lets rows pass and fails where two series with equal labels have the same step.
pub(crate) struct Unique {
    pub(crate) input: Pipe,
    /// Equal labels are an error even where they share no step.
    pub(crate) strict: bool,
}

#[derive(Default)]
struct Seen {
    labels: LabelIndex,
    bits: Vec<u64>,
    /// Whether two series were equal.
    twice: bool,
    held: Option<Held>,
}

impl Seen {
    fn add(
        &mut self,
        cx: &Context,
        block: &Block,
        words: usize,
        strict: bool,
    ) -> Result<(), QueryError> {
        for row in block.rows() {
            let (i, new) = self.labels.intern(row.labels);
            self.bits.resize(self.labels.len() * words, 0);
            let before = &mut self.bits[i * words..(i + 1) * words];
            if !new && (strict || first_common(before, row.bits).is_some()) {
                self.twice = true;
                return Ok(());
            }
            unite(before, row.bits);
        }
        let bytes = self.labels.bytes() + self.bits.capacity() * 8;
        match &mut self.held {
            Some(held) => held.resize(bytes)?,
            None => self.held = Some(cx.hold(bytes)?),
        }
        Ok(())
    }
}

impl Operator for Unique {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        let strict = self.strict;
        let words = words(self.input.grid.count);
        let input = self.input.blocks(&cx);
        let state = (input, Some(Seen::default()), cx);
        futures_util::stream::try_unfold(state, move |(mut input, seen, cx)| async move {
            let mut seen = seen.unwrap_or_default();
            loop {
                let Some(block) = input.next().await.transpose()? else {
                    // A failure of the input is what Prometheus would have met first.
                    return if seen.twice {
                        Err(execution(SAME_LABELSET))
                    } else {
                        Ok(None)
                    };
                };
                if seen.twice {
                    continue;
                }
                let (block, after) = cx
                    .run(block.weight(), move |cx| {
                        seen.add(cx, &block, words, strict)?;
                        Ok((block, seen))
                    })
                    .await?;
                seen = after;
                if !seen.twice {
                    return Ok(Some((block, (input, Some(seen), cx))));
                }
            }
        })
        .boxed()
    }

    fn describe(&self) -> Description {
        Description::new("Unique", true, "series x (labels + steps / 8 B)")
            .transparent()
            .over([self.input.describe()])
    }
}

/// Unites the pieces of series with equal labels.
pub(crate) struct Gather {
    pub(crate) input: Pipe,
}

impl Operator for Gather {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        blocking(async move {
            let steps = self.input.grid.count;
            let blocks: Vec<Block> = self.input.blocks(&cx).try_collect().await?;
            let merged = cx
                .run(blocks.weight(), move |cx| {
                    cx.hold_block(united(&blocks, steps)?)
                })
                .await?;
            Ok(vec![merged])
        })
    }

    fn describe(&self) -> Description {
        Description::new("Gather", false, "series x steps x 8 B")
            .transparent()
            .over([self.input.describe()])
    }
}

fn united(blocks: &[Block], steps: usize) -> Result<Block, QueryError> {
    let mut index = LabelIndex::default();
    let mut rows: Vec<Row> = Vec::new();
    for row in blocks.iter().flat_map(Block::rows) {
        let (i, new) = index.intern(row.labels);
        if new {
            let mut first = Row::default();
            row.copy_to(&mut first);
            rows.push(first);
            continue;
        }
        let into = &mut rows[i];
        if first_common(&into.bits, row.bits).is_some() {
            return Err(execution(SAME_LABELSET));
        }
        each_set(row.bits, |s| into.values[s] = row.values[s]);
        unite(&mut into.bits, row.bits);
        if !row.histograms.is_empty() {
            into.histograms.extend_from_slice(row.histograms);
            into.histograms.sort_by_key(|(i, _)| *i);
        }
    }
    let mut out = Block::new(steps);
    for row in &rows {
        out.push(row.as_ref());
    }
    Ok(out)
}

/// All rows, ascending by labels.
pub(crate) async fn sorted_rows(
    cx: &Arc<Context>,
    input: Blocks,
) -> Result<Vec<Block>, QueryError> {
    let blocks: Vec<Block> = input.try_collect().await?;
    cx.run(blocks.weight(), move |cx| {
        let symbols = &cx.scope.symbols;
        let mut rows: Vec<_> = blocks.iter().flat_map(Block::rows).collect();
        rows.sort_by(|a, b| symbols.compare(a.labels, b.labels));
        let Some(first) = rows.first() else {
            return Ok(Vec::new());
        };
        let mut out = Block::new(first.values.len());
        for row in &rows {
            out.push(*row);
        }
        Ok(vec![cx.hold_block(out)?])
    })
    .await
}
