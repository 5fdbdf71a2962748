//! Aggregations that need to see values side by side: `quantile`, `count_values`.

use std::sync::Arc;

use futures_util::stream::TryStreamExt as _;
use hashbrown::HashMap;

use super::block::{Block, Row, each_set};
use super::context::{Context, Held, Weigh as _};
use super::index::LabelIndex;
use super::operator::{Blocks, Description, Operator, Yield, blocking, fold};
use super::pace::Pace;
use super::pipe::Pipe;
use crate::annotations::Note;
use crate::ast::Span;
use crate::grid::Grid;
use crate::histogram;
use crate::value::QueryError;

/// `quantile(q, input) by (labels)`: columns of all series, then values sorted step by step.
pub(crate) struct Quantile {
    pub(crate) q: super::scalar::ScalarOp,
    pub(crate) q_span: Span,
    pub(crate) key: super::aggregate::Grouping,
    pub(crate) input: Pipe,
    /// Where the input was written.
    pub(crate) span: Span,
    pub(crate) grid: Grid,
}

impl Operator for Quantile {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        blocking(async move {
            let steps = self.grid.count;
            let q = self.q.eval(&cx, &self.grid).await?;
            // The checks look at the extremes over all steps, so each is said once.
            let (mut min, mut max, mut nan) = (f64::INFINITY, f64::NEG_INFINITY, false);
            for v in q.iter(steps) {
                nan |= v.is_nan();
                min = crate::numbers::go_min(min, v);
                max = crate::numbers::go_max(max, v);
            }
            let span = self.q_span;
            cx.say(|a| {
                if nan {
                    a.invalid_quantile(f64::NAN, span);
                }
                if max > 1.0 {
                    a.invalid_quantile(max, span);
                }
                if min < 0.0 {
                    a.invalid_quantile(min, span);
                }
            });
            let blocks: Vec<Block> = self.input.blocks(&cx).try_collect().await?;
            let key = self.key.key(&cx);
            let input_span = self.span;
            let block = cx
                .run(blocks.weight(), move |cx| {
                    let any = |block: &Block| block.rows().any(|r| !r.histograms.is_empty());
                    if blocks.iter().any(any) {
                        let note = Note::IgnoredInAggregation("quantile");
                        cx.say(|a| a.note(&note, input_span));
                    }
                    let mut groups = LabelIndex::default();
                    let mut members: Vec<(bool, Vec<super::block::RowRef<'_>>)> = Vec::new();
                    let (mut labels, mut pace) = (Vec::new(), Pace::default());
                    let mut beside = cx.growing()?;
                    for row in blocks.iter().flat_map(Block::rows) {
                        pace.step(cx, row.labels.len())?;
                        // A reference, its value, and perhaps a group.
                        beside.add(size_of_val(&row) + size_of_val(row.labels) + 64)?;
                        key.of(row.labels, &mut labels);
                        let (g, new) = groups.intern(&labels);
                        if new {
                            members.push((false, Vec::new()));
                        }
                        members[g].0 |= row.drop_name;
                        members[g].1.push(row);
                    }
                    let mut out = cx.build(steps)?;
                    let mut row = Row::default();
                    let mut values = Vec::new();
                    for (g, (drop_name, rows)) in members.iter().enumerate() {
                        row.reset(steps);
                        row.labels.extend_from_slice(groups.labels(g));
                        row.drop_name = *drop_name;
                        for i in 0..steps {
                            // Sorting, too.
                            pace.step(cx, rows.len() * 4)?;
                            values.clear();
                            values.extend(
                                rows.iter()
                                    .filter(|r| super::block::is_set(r.bits, i))
                                    .filter(|r| r.histogram(i).is_none())
                                    .map(|r| r.values[i]),
                            );
                            if values.is_empty() {
                                continue;
                            }
                            values.sort_unstable_by(crate::numbers::nan_first);
                            row.values[i] = crate::numbers::quantile_of_sorted(q.at(i), &values);
                            row.bits[i >> 6] |= 1 << (i & 63);
                        }
                        if !row.is_empty() {
                            out.push(row.as_ref())?;
                        }
                    }
                    out.finish()
                })
                .await?;
            Ok(vec![block])
        })
    }

    fn describe(&self) -> Description {
        Description::new(
            format!("Quantile {}", self.key),
            false,
            "series x steps x 8 B",
        )
        .yields(Yield::Instead)
        .over([self.q.describe(self.grid.count)])
        .over([self.input.describe()])
    }
}

/// `count_values("label", input) by (labels)`
pub(crate) struct CountValues {
    pub(crate) label: model::Str,
    pub(crate) key: super::aggregate::Grouping,
    pub(crate) input: Pipe,
}

#[derive(Default)]
struct Counted {
    index: LabelIndex,
    rows: Vec<Row>,
    texts: HashMap<u64, model::Symbol>,
    held: Option<Held>,
}

impl Counted {
    /// So many rows more are looked at together: whether the query goes on, and has the memory.
    const ROWS: usize = 64;

    /// Counts what is held, with room for [`Self::ROWS`] rows more.
    fn account(&mut self, cx: &Context, steps: usize) -> Result<(), QueryError> {
        cx.check()?;
        // The texts of values are symbols.
        cx.count(0)?;
        let rows = self.rows.len() + Self::ROWS;
        // A row, its text and its symbol, and that the text is known.
        let of_row = steps * 9 + size_of::<Row>() + 100;
        let bytes = 2 * self.index.bytes() + self.texts.capacity() * 16 + rows * of_row;
        match &mut self.held {
            Some(held) => held.resize(bytes),
            None => {
                self.held = Some(cx.hold(bytes)?);
                Ok(())
            }
        }
    }
}

impl Operator for CountValues {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        blocking(async move {
            let steps = self.input.grid.count;
            let mut key = self.key.clone();
            if !key.without {
                key.labels.push(model::Str::clone(&self.label));
            }
            let key = key.key(&cx);
            let label = cx.scope.symbols.intern(&self.label);
            let input = self.input.blocks(&cx);
            let counted = fold(&cx, input, Counted::default(), move |cx, state, block| {
                let symbols = &cx.scope.symbols;
                let (mut labels, mut group) = (Vec::new(), Vec::new());
                let (mut failed, mut pace) = (None, Pace::default());
                for row in block.rows() {
                    pace.step(cx, row.values.len() * 8)?;
                    each_set(row.bits, |i| {
                        if failed.is_some() {
                            return;
                        }
                        let v = row.values[i];
                        let text = match row.histogram(i) {
                            Some(h) => symbols.intern(&histogram::text::text(h)),
                            None => *state
                                .texts
                                .entry(v.to_bits())
                                .or_insert_with(|| symbols.intern(&model::text::format_f(v))),
                        };
                        labels.clear();
                        labels.extend_from_slice(row.labels);
                        super::block::set_label(&mut labels, label, text, symbols);
                        key.of(&labels, &mut group);
                        let (g, new) = state.index.intern(&group);
                        if new {
                            // Each value may be another one: a row of steps for every sample.
                            if state.rows.len().is_multiple_of(Counted::ROWS)
                                && let Err(e) = state.account(cx, steps)
                            {
                                failed = Some(e);
                                return;
                            }
                            let mut row = Row::default();
                            row.reset(steps);
                            row.labels.extend_from_slice(&group);
                            state.rows.push(row);
                        }
                        let row = &mut state.rows[g];
                        let bit = 1 << (i & 63);
                        if row.bits[i >> 6] & bit == 0 {
                            row.values[i] = 0.0;
                            row.bits[i >> 6] |= bit;
                        }
                        row.values[i] += 1.0;
                    });
                }
                failed.map_or(Ok(()), Err)
            })
            .await?;
            let bytes = counted.held.as_ref().map_or(0, Held::bytes);
            let block = cx
                .run(bytes, move |cx| {
                    let mut out = cx.build(steps)?;
                    for (i, row) in counted.rows.into_iter().enumerate() {
                        if i.is_multiple_of(Counted::ROWS) {
                            cx.check()?;
                        }
                        // A row that was copied is given back at once.
                        out.push(row.as_ref())?;
                    }
                    out.finish()
                })
                .await?;
            Ok(vec![block])
        })
    }

    fn describe(&self) -> Description {
        let name = format!("CountValues[{}] {}", self.label, self.key);
        Description::new(name, false, "groups x values x steps x 8 B").over([self.input.describe()])
    }
}
