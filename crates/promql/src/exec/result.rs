//! The answer: blocks become series with their label sets.

use std::sync::Arc;

use futures_util::stream::{Stream, StreamExt as _, TryStreamExt as _};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::histogram::FloatHistogram;
use model::{Labels, Millis};

use super::block::{Block, Pair, RowRef, count, each_set};
use super::context::{Context, Held, SAME_LABELSET, Weigh, execution, of_chunk};
use super::meter::{Counts, Meter};
use super::operator::Blocks;
use super::pace::{Pace, sort};
use super::scan::drop_stale;
use super::tally::{self, Steps};
use crate::grid::{Grid, Window};
use crate::histogram::{Histogram, Point};
use crate::kernels::extended::{Extension, extend};
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

/// Makes a part of the answer of each piece of input, several at once on the CPU pool, in order;
/// what the parts hold is held until the query ends.
async fn parts<I: Weigh + Send + 'static, T: Send + 'static>(
    cx: &Arc<Context>,
    input: impl Stream<Item = Result<I, QueryError>> + Send,
    part: impl Fn(&Context, I) -> Result<(Vec<T>, Held), QueryError> + Clone + Send + 'static,
) -> Result<Vec<Vec<T>>, QueryError> {
    input
        .map(|piece| {
            let (cx, part) = (Arc::clone(cx), part.clone());
            async move {
                let piece = piece?;
                // It is only copied, which takes a fraction of what making it took.
                let bytes = piece.weight() / 4;
                let (made, held) = cx.run(bytes, move |cx| part(cx, piece)).await?;
                cx.keep_with_answer(held);
                Ok(made)
            }
        })
        .buffered(cx.credits)
        .try_collect()
        .await
}

/// What a histogram of an answer takes beside its buckets: itself, its lists' spans, and counts.
const SHOWN: usize = size_of::<FloatHistogram>() + 80;

/// Histograms as results show them: steps that share one share it still.
#[derive(Default)]
struct Shown(Option<(Arc<Histogram>, Arc<FloatHistogram>)>);

impl Shown {
    fn of(&mut self, h: &Arc<Histogram>) -> Arc<FloatHistogram> {
        if let Some((last, shown)) = &self.0
            && Arc::ptr_eq(last, h)
        {
            return Arc::clone(shown);
        }
        let shown = Arc::new(h.to_float());
        self.0 = Some((Arc::clone(h), Arc::clone(&shown)));
        shown
    }
}

/// The samples of an instant query, in the order of evaluation.
pub(crate) async fn vector(
    cx: &Arc<Context>,
    blocks: Blocks,
    ts: Millis,
) -> Result<Vec<InstantSample>, QueryError> {
    let parts = parts(cx, blocks, move |cx, block: Block| {
        let held = cx.hold(answer::<InstantSample>(cx, &block)?)?;
        let mut scratch = Vec::new();
        let sample = |row: RowRef<'_>| InstantSample {
            labels: label_set(cx, row, &mut scratch),
            ts,
            value: match row.histograms {
                [] => row.values[0],
                _ => 0.0,
            },
            histogram: row.histograms.first().map(|(_, h)| Arc::new(h.to_float())),
        };
        let rows = block.rows().filter(|row| row.bits[0] & 1 == 1);
        Ok((paced(cx, rows, 1, sample)?, held))
    })
    .await?;
    cx.run(weight(&parts), move |cx| {
        let count: usize = parts.iter().map(Vec::len).sum();
        let _beside = cx.hold(count.saturating_mul(size_of::<InstantSample>() + 16))?;
        let all: Vec<InstantSample> = parts.into_iter().flatten().collect();
        let mut seen = hashbrown::HashSet::with_capacity(all.len());
        let mut pace = Pace::default();
        for sample in &all {
            pace.step(cx, 64)?;
            if !seen.insert(&sample.labels) {
                return Err(execution(SAME_LABELSET));
            }
        }
        drop(seen);
        Ok(all)
    })
    .await
}

fn series_of(labels: Labels, row: RowRef<'_>, grid: &Grid) -> RangeSeries {
    let mut scratch = Vec::new();
    let bits = row.float_bits(&mut scratch);
    let n = count(bits);
    let mut series = RangeSeries {
        labels,
        ts: Vec::with_capacity(n),
        values: Vec::with_capacity(n),
        histograms: Vec::new(),
    };
    each_set(bits, |i| {
        series.ts.push(grid.at(i));
        series.values.push(row.values[i]);
    });
    let mut shown = Shown::default();
    let point = |(i, h): &Point| (grid.at(*i as usize), shown.of(h));
    series.histograms = row.histograms.iter().map(point).collect();
    series
}

/// The series of a range query, ascending by labels; pieces of one series are united.
pub(crate) async fn matrix(
    cx: &Arc<Context>,
    blocks: Blocks,
    grid: Grid,
) -> Result<Vec<RangeSeries>, QueryError> {
    let parts = parts(cx, blocks, move |cx, block: Block| {
        let mut scratch = Vec::new();
        let samples = block.points().saturating_mul(16);
        let held = cx.hold(samples.saturating_add(answer::<RangeSeries>(cx, &block)?))?;
        let steps = grid.count;
        let series = |row: RowRef<'_>| series_of(label_set(cx, row, &mut scratch), row, &grid);
        Ok((paced(cx, block.rows(), steps, series)?, held))
    })
    .await?;
    cx.run(weight(&parts), move |cx| merged(cx, parts)).await
}

/// Bytes that the series of a block take in an answer beside their samples: `T`, labels as text,
/// and histograms.
fn answer<T>(cx: &Context, block: &Block) -> Result<usize, QueryError> {
    // The counts of an `Arc`, and what the allocator rounds up.
    const SHARED: usize = 32;
    let (symbols, mut pace) = (&cx.scope.symbols, Pace::default());
    let mut bytes = 0;
    for row in block.rows() {
        pace.step(cx, row.labels.len())?;
        let texts = row.labels.iter().flat_map(|&(name, value)| [name, value]);
        let labels: usize = texts.map(|text| symbols.get(text).len() + 1).sum();
        bytes += size_of::<T>() + SHARED + labels;
        bytes += super::block::bytes_of(row.histograms) + row.histograms.len() * SHOWN;
    }
    Ok(bytes)
}

/// `make` of each row of so many steps, as long as the query goes on.
fn paced<'a, T>(
    cx: &Context,
    rows: impl Iterator<Item = RowRef<'a>>,
    steps: usize,
    mut make: impl FnMut(RowRef<'a>) -> T,
) -> Result<Vec<T>, QueryError> {
    let mut pace = Pace::default();
    rows.map(|row| {
        pace.step(cx, steps + row.labels.len() * 4)?;
        Ok(make(row))
    })
    .collect()
}

/// What uniting and sorting series costs, as if in bytes.
fn weight<T>(parts: &[Vec<T>]) -> usize {
    parts.iter().map(Vec::len).sum::<usize>() * 128
}

/// Two lists of samples as one in the order of time; both at one time are an error.
fn joined<T>(a: Vec<(Millis, T)>, b: Vec<(Millis, T)>) -> Result<Vec<(Millis, T)>, QueryError> {
    let mut all = a;
    all.extend(b);
    all.sort_by_key(|(t, _)| *t);
    if all.windows(2).any(|w| w[0].0 == w[1].0) {
        return Err(execution(SAME_LABELSET));
    }
    Ok(all)
}

/// Unites series with equal labels and sorts.
fn merged(cx: &Context, parts: Vec<Vec<RangeSeries>>) -> Result<Vec<RangeSeries>, QueryError> {
    let count: usize = parts.iter().map(Vec::len).sum();
    // They are moved into a table, out of it, and once more in order.
    let of_series = size_of::<RangeSeries>() + size_of::<Labels>() + 8;
    let _beside = cx.hold(count.saturating_mul(2 * of_series))?;
    let mut all: HashMap<Labels, RangeSeries> = HashMap::with_capacity(count);
    let mut pace = Pace::default();
    let parts = parts.into_iter().flatten();
    for series in parts.filter(|s| !s.ts.is_empty() || !s.histograms.is_empty()) {
        pace.step(cx, 64)?;
        match all.entry(series.labels.clone()) {
            Entry::Vacant(place) => {
                place.insert(series);
            }
            Entry::Occupied(mut place) => {
                let into = place.get_mut();
                let floats = |s: &mut RangeSeries| -> Vec<(Millis, f64)> {
                    s.ts.drain(..).zip(s.values.drain(..)).collect()
                };
                let mut series = series;
                let samples = joined(floats(into), floats(&mut series))?;
                (into.ts, into.values) = samples.into_iter().unzip();
                let before = std::mem::take(&mut into.histograms);
                into.histograms = joined(before, series.histograms)?;
            }
        }
    }
    let all: Vec<RangeSeries> = all.into_values().collect();
    sort(cx, all, |a, b| a.labels.cmp(&b.labels))
}

/// The raw samples of a range selector in an instant query.
pub(crate) async fn samples(
    cx: &Arc<Context>,
    question: usize,
    (window, extension): (Window, Option<Extension>),
    grid: Grid,
    meter: &Arc<Meter>,
) -> Result<Vec<RangeSeries>, QueryError> {
    let want = chunk::Want::raw(window.reach(&grid));
    let end = window.end(&grid, 0);
    let meter = Arc::clone(meter);
    let part = move |cx: &Arc<Context>, batch: &model::SeriesBatch| {
        let mut counts = Counts::default();
        let mut decoder = chunk::SeriesDecoder::default();
        let mut columns = chunk::Columns::default();
        let (mut out, mut pace) = (Vec::new(), Pace::default());
        for warning in &batch.warnings {
            cx.say(|a| a.of_source(warning));
        }
        for i in 0..batch.len() {
            decoder
                .decode(batch, i, &want, &mut columns)
                .map_err(of_chunk)?;
            drop_stale(&mut columns);
            if let Some(extension) = extension {
                if !columns.histograms.is_empty() {
                    let modifier = if extension.smoothed {
                        "smoothed"
                    } else {
                        "anchored"
                    };
                    return Err(execution(format!(
                        "{modifier} modifier is not supported with histograms"
                    )));
                }
                extend(extension, (end, window.range), &mut columns);
            }
            if columns.is_empty() && columns.histograms.is_empty() {
                continue;
            }
            let points = columns.len() + columns.histograms.len();
            counts.samples(points, tally::samples(&columns));
            let histograms = columns.histograms.iter();
            let histograms: Vec<(Millis, Arc<FloatHistogram>)> = histograms
                .map(|(t, h)| (t, Arc::new(h.to_histogram())))
                .collect();
            let labels = size_of::<RangeSeries>() + 32 * batch.labels_of(i).len();
            let shown = columns.histograms.len() * SHOWN;
            let bytes = columns.len() * 16 + columns.histograms.bytes() + shown;
            cx.keep_with_answer(cx.hold(bytes + labels)?);
            pace.step(cx, columns.len())?;
            out.push(RangeSeries {
                labels: cx.scope.symbols.labels(batch.labels_of(i)),
                ts: columns.ts.clone(),
                values: columns.values.clone(),
                histograms,
            });
        }
        meter.add(&counts);
        if let Some(tally) = &cx.tally {
            tally.add(0, &Steps::one(counts.samples));
        }
        cx.count(counts.samples)?;
        Ok(out)
    };
    let parts = cx.selects.each(question, cx, 0, part);
    let parts: Vec<Vec<RangeSeries>> = parts.try_collect().await?;
    cx.run(weight(&parts), move |cx| merged(cx, parts)).await
}
