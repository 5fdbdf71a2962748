//! Whole series out of pieces, and the checks for series that became equal.

use std::sync::Arc;

use futures_util::stream::{StreamExt as _, TryStreamExt as _};

use super::block::{Block, Row, RowRef, each_set, first_common, unite, words};
use super::context::{Context, Held, SAME_LABELSET, Weigh as _, execution};
use super::index::LabelIndex;
use super::operator::{Blocks, Description, Operator, blocking};
use super::pace::{Pace, sort};
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
        let mut pace = Pace::default();
        for row in block.rows() {
            pace.step(cx, words * 64)?;
            let held = match &mut self.held {
                Some(held) => held,
                none => none.insert(cx.hold(0)?),
            };
            let of_row = size_of_val(row.labels) + words * 8 + 16;
            held.ensure(self.labels.bytes() / 2 + self.bits.len() * 8 + of_row)?;
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
            Some(held) => held.resize(bytes),
            None => Ok(()),
        }
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
                .run(blocks.weight(), move |cx| united(cx, &blocks, steps))
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

fn united(cx: &Context, blocks: &[Block], steps: usize) -> Result<Block, QueryError> {
    let mut index = LabelIndex::default();
    let mut rows: Vec<Row> = Vec::new();
    let (mut beside, mut pace) = (cx.growing()?, Pace::default());
    for row in blocks.iter().flat_map(Block::rows) {
        pace.step(cx, steps)?;
        let (i, new) = index.intern(row.labels);
        if new {
            beside.add(row.bytes() + size_of_val(row.labels) + size_of::<Row>() + 16)?;
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
    let mut out = cx.build(steps)?;
    for row in rows {
        pace.step(cx, steps)?;
        // A row that was copied is given back at once.
        out.push(row.as_ref())?;
    }
    out.finish()
}

/// All rows, ascending by labels.
pub(crate) async fn sorted_rows(
    cx: &Arc<Context>,
    input: Blocks,
) -> Result<Vec<Block>, QueryError> {
    let blocks: Vec<Block> = input.try_collect().await?;
    cx.run(blocks.weight(), move |cx| {
        let symbols = &cx.scope.symbols;
        let block = reordered(cx, &blocks, |rows| {
            sort(cx, rows, |a, b| symbols.compare(a.labels, b.labels))
        })?;
        Ok(block.into_iter().collect())
    })
    .await
}

/// The rows of `blocks` in the order that `order` brings them into; none if there are none.
pub(crate) fn reordered<'a>(
    cx: &Context,
    blocks: &'a [Block],
    order: impl FnOnce(Vec<RowRef<'a>>) -> Result<Vec<RowRef<'a>>, QueryError>,
) -> Result<Option<Block>, QueryError> {
    let count: usize = blocks.iter().map(Block::len).sum();
    // Sorting merges from one list into another.
    let _refs = cx.hold(count.saturating_mul(2 * size_of::<RowRef<'_>>()))?;
    let rows = order(blocks.iter().flat_map(Block::rows).collect())?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let mut out = cx.build(first.values.len())?;
    let mut pace = Pace::default();
    for row in rows {
        pace.step(cx, row.values.len())?;
        out.push(row)?;
    }
    out.finish().map(Some)
}
