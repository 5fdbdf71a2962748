//! Whole series out of pieces, and the checks for series that became equal.

use std::sync::Arc;

use futures_util::stream::{StreamExt as _, TryStreamExt as _};

use super::block::{Block, Row, each_set, first_common, unite, words};
use super::context::{Context, Held, SAME_LABELSET, execution};
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
    held: Option<Held>,
}

impl Operator for Unique {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        let strict = self.strict;
        let words = words(self.input.grid.count);
        let input = self.input.blocks(&cx);
        let state = (input, Some(Seen::default()), cx);
        futures_util::stream::try_unfold(state, move |(mut input, seen, cx)| async move {
            let Some(block) = input.next().await.transpose()? else {
                return Ok(None);
            };
            let mut seen = seen.unwrap_or_default();
            let (block, seen) = cx
                .run(move |cx| {
                    for row in block.rows() {
                        let (i, new) = seen.labels.intern(row.labels);
                        seen.bits.resize(seen.labels.len() * words, 0);
                        let before = &mut seen.bits[i * words..(i + 1) * words];
                        if !new && (strict || first_common(before, row.bits).is_some()) {
                            return Err(execution(SAME_LABELSET));
                        }
                        unite(before, row.bits);
                    }
                    let bytes = seen.labels.bytes() + seen.bits.capacity() * 8;
                    match &mut seen.held {
                        Some(held) => held.resize(bytes)?,
                        None => seen.held = Some(cx.hold(bytes)?),
                    }
                    Ok((block, seen))
                })
                .await?;
            Ok(Some((block, (input, Some(seen), cx))))
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
                .run(move |cx| cx.hold_block(united(&blocks, steps)?))
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
    cx.run(move |cx| {
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
