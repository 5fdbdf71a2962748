//! The answer: blocks become series with their label sets.

use std::sync::Arc;

use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::{Labels, Millis};

use super::block::{Pair, RowRef, count, each_set};
use super::context::{Context, SAME_LABELSET, execution, of_chunk};
use super::meter::{Counts, Meter};
use super::operator::Blocks;
use super::scan::drop_stale;
use super::tally::Steps;
use crate::grid::{Grid, Window};
use crate::value::{InstantSample, QueryError, RangeSeries};

/// A row's labels as a set, its name dropped if it is to be.
fn label_set(cx: &Context, row: RowRef<'_>, scratch: &mut Vec<Pair>) -> Labels {
    if !row.drop_name {
        return cx.scope.symbols.labels(row.labels);
    }
    scratch.clear();
    scratch.extend_from_slice(row.labels);
    cx.drop_metadata(scratch);
    cx.scope.symbols.labels(scratch)
}

/// The samples of an instant query, in the order of evaluation.
pub(crate) async fn vector(
    cx: &Arc<Context>,
    blocks: Blocks,
    ts: Millis,
) -> Result<Vec<InstantSample>, QueryError> {
    let credits = cx.credits;
    let parts: Vec<Vec<InstantSample>> = blocks
        .map(|block| {
            let cx = Arc::clone(cx);
            async move {
                let block = block?;
                cx.run(move |cx| {
                    let mut scratch = Vec::new();
                    let sample = |row: RowRef<'_>| InstantSample {
                        labels: label_set(cx, row, &mut scratch),
                        ts,
                        value: row.values[0],
                    };
                    Ok(block
                        .rows()
                        .filter(|row| row.bits[0] & 1 == 1)
                        .map(sample)
                        .collect())
                })
                .await
            }
        })
        .buffered(credits)
        .try_collect()
        .await?;
    cx.run(move |_| {
        let all: Vec<InstantSample> = parts.into_iter().flatten().collect();
        let mut seen = hashbrown::HashSet::with_capacity(all.len());
        if all.iter().all(|s| seen.insert(&s.labels)) {
            drop(seen);
            Ok(all)
        } else {
            Err(execution(SAME_LABELSET))
        }
    })
    .await
}

/// The series of a range query, ascending by labels; pieces of one series are united.
pub(crate) async fn matrix(
    cx: &Arc<Context>,
    blocks: Blocks,
    grid: Grid,
) -> Result<Vec<RangeSeries>, QueryError> {
    let credits = cx.credits;
    let parts: Vec<Vec<RangeSeries>> = blocks
        .map(|block| {
            let cx = Arc::clone(cx);
            async move {
                let block = block?;
                cx.run(move |cx| {
                    let mut scratch = Vec::new();
                    let series = |row: RowRef<'_>| {
                        let n = count(row.bits);
                        let mut series = RangeSeries {
                            labels: label_set(cx, row, &mut scratch),
                            ts: Vec::with_capacity(n),
                            values: Vec::with_capacity(n),
                        };
                        each_set(row.bits, |i| {
                            series.ts.push(grid.at(i));
                            series.values.push(row.values[i]);
                        });
                        series
                    };
                    let all: Vec<_> = block.rows().map(series).collect();
                    // The samples are in the answer now.
                    let samples = all.iter().map(|s| s.ts.len()).sum::<usize>();
                    let held = cx.hold(samples * 16)?;
                    Ok((all, held))
                })
                .await
            }
        })
        .buffered(credits)
        .map_ok(|(all, held)| {
            // Held until the query ends.
            cx.keep(held);
            all
        })
        .try_collect()
        .await?;
    cx.run(move |_| merged(parts.into_iter().flatten())).await
}

/// Unites series with equal labels and sorts.
fn merged(parts: impl Iterator<Item = RangeSeries>) -> Result<Vec<RangeSeries>, QueryError> {
    let mut all: HashMap<Labels, RangeSeries> = HashMap::new();
    for series in parts.filter(|s| !s.ts.is_empty()) {
        match all.entry(series.labels.clone()) {
            Entry::Vacant(place) => {
                place.insert(series);
            }
            Entry::Occupied(mut place) => {
                let into = place.get_mut();
                let mut samples: Vec<(Millis, f64)> = into
                    .ts
                    .drain(..)
                    .zip(into.values.drain(..))
                    .chain(series.ts.into_iter().zip(series.values))
                    .collect();
                samples.sort_by_key(|(t, _)| *t);
                if samples.windows(2).any(|w| w[0].0 == w[1].0) {
                    return Err(execution(SAME_LABELSET));
                }
                (into.ts, into.values) = samples.into_iter().unzip();
            }
        }
    }
    let mut all: Vec<RangeSeries> = all.into_values().collect();
    all.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
    Ok(all)
}

/// The raw samples of a range selector in an instant query.
pub(crate) async fn samples(
    cx: &Arc<Context>,
    question: usize,
    window: Window,
    grid: Grid,
    meter: &Arc<Meter>,
) -> Result<Vec<RangeSeries>, QueryError> {
    let want = chunk::Want::raw(window.reach(&grid));
    let parts: Vec<Vec<RangeSeries>> = cx
        .selects
        .read(question, cx)
        .map(|batch| {
            let (cx, meter) = (Arc::clone(cx), Arc::clone(meter));
            async move {
                let batch = batch?;
                cx.run(move |cx| {
                    let mut counts = Counts::default();
                    let mut decoder = chunk::SeriesDecoder::default();
                    let mut columns = chunk::Columns::default();
                    let mut out = Vec::new();
                    for warning in &batch.warnings {
                        cx.say(|a| a.of_source(warning));
                    }
                    for i in 0..batch.len() {
                        decoder
                            .decode(&batch, i, &want, &mut columns)
                            .map_err(of_chunk)?;
                        drop_stale(&mut columns);
                        if columns.is_empty() {
                            continue;
                        }
                        counts.row(columns.len());
                        cx.keep(cx.hold(columns.len() * 16)?);
                        out.push(RangeSeries {
                            labels: cx.scope.symbols.labels(batch.labels_of(i)),
                            ts: columns.ts.clone(),
                            values: columns.values.clone(),
                        });
                    }
                    meter.add(&counts);
                    if let Some(tally) = &cx.tally {
                        tally.add(0, &Steps::one(counts.samples));
                    }
                    cx.count(counts.samples)?;
                    Ok(out)
                })
                .await
            }
        })
        .buffered(cx.credits)
        .try_collect()
        .await?;
    cx.run(move |_| merged(parts.into_iter().flatten())).await
}
