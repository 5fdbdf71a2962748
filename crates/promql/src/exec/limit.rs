//! `topk`, `bottomk`, `limitk`, `limit_ratio`: some series of each group and step.

use std::sync::Arc;

use super::aggregate::Grouping;
use super::block::{Block, Pair, Row, count, each_set, words};
use super::context::{Context, Held, Weigh as _, execution};
use super::index::{Key, LabelIndex};
use super::operator::{Blocks, Description, Operator, Yield, blocking, fold};
use super::pace::Pace;
use super::pipe::Pipe;
use super::scalar::ScalarOp;
use crate::annotations::Note;
use crate::ast::Span;
use crate::grid::Grid;
use crate::histogram::{Histogram, Point};
use crate::kernels::Param;
use crate::numbers::{go_max, go_min};
use crate::value::QueryError;
use model::Symbols;
use model::text::format_g;

/// Which series of a group stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    Topk,
    Bottomk,
    Limitk,
    /// `limit_ratio` where there is one step: those whose hash says so, in the order of a heap. `k` is
    /// the ratio.
    Ratio,
}

impl Pick {
    /// Whether values decide who stays.
    fn by_value(self) -> bool {
        matches!(self, Pick::Topk | Pick::Bottomk)
    }
}

/// `pick(k, input) by (labels)`. A heap of k values a group and step; series that never get into
/// one leave nothing behind.
pub(crate) struct TopK {
    pub(crate) pick: Pick,
    pub(crate) k: ScalarOp,
    pub(crate) key: Grouping,
    pub(crate) input: Pipe,
    pub(crate) grid: Grid,
    /// Where the aggregation was written.
    pub(crate) span: Span,
}

/// The least and the greatest of a parameter, and whether one is NaN, as Prometheus checks them.
fn extremes(param: &Param, steps: usize) -> (f64, f64, bool) {
    let (mut min, mut max, mut nan) = (f64::INFINITY, f64::NEG_INFINITY, false);
    for v in param.iter(steps) {
        nan |= v.is_nan();
        min = go_min(min, v);
        max = go_max(max, v);
    }
    (min, max, nan)
}

const TOO_LARGE: f64 = 9_223_372_036_854_775_807.0;

/// k at every step; none if no step wants a series.
fn checked_k(k: &Param, steps: usize) -> Result<Option<Vec<usize>>, QueryError> {
    let (min, max, nan) = extremes(k, steps);
    if max < 1.0 {
        return Ok(None);
    }
    if nan {
        return Err(execution("Parameter value is NaN"));
    }
    if min <= -TOO_LARGE {
        let v = format_g(min);
        return Err(execution(format!("Scalar value {v} underflows int64")));
    }
    if max >= TOO_LARGE {
        let v = format_g(max);
        return Err(execution(format!("Scalar value {v} overflows int64")));
    }
    Ok(Some(
        (0..steps)
            .map(|i| k.at(i).clamp(0.0, f64::from(u32::MAX)) as usize)
            .collect(),
    ))
}

/// What `limit_ratio` refuses or warns of.
pub(crate) fn check_ratio(
    cx: &Context,
    ratio: &Param,
    steps: usize,
    span: Span,
) -> Result<(), QueryError> {
    let (min, max, nan) = extremes(ratio, steps);
    if max == 0.0 && min == 0.0 {
        return Ok(());
    }
    if nan {
        return Err(execution("Ratio value is NaN"));
    }
    if max > 1.0 {
        cx.say(|a| a.invalid_ratio(max, 1.0, span));
    }
    if min < -1.0 {
        cx.say(|a| a.invalid_ratio(min, -1.0, span));
    }
    Ok(())
}

/// Whether a series whose hash lies at `offset` of [0, 1) is among the `ratio` that stays; a
/// negative ratio keeps the others.
pub(crate) fn in_ratio(ratio: f64, offset: f64) -> bool {
    let ratio = ratio.clamp(-1.0, 1.0);
    if ratio == 0.0 {
        false
    } else if ratio > 0.0 {
        offset < ratio
    } else {
        offset >= 1.0 + ratio
    }
}

/// Where in [0, 1) the hash of a series lies.
pub(crate) fn offset(symbols: &Symbols, labels: &[Pair]) -> f64 {
    symbols.labels(labels).hash64() as f64 / u64::MAX as f64
}

/// A value and the number of its series.
type Entry = (f64, u32);

/// For so many entries a heap has room from the first on.
const FIRST: usize = 4;

struct State {
    k: Vec<usize>,
    /// That of `limit_ratio`.
    ratio: Option<f64>,
    pick: Pick,
    groups: LabelIndex,
    /// Heap of group g at step s: number `g * steps + s`.
    heaps: Vec<Vec<Entry>>,
    series: LabelIndex,
    drop_name: Vec<bool>,
    /// Histograms that stay (`limitk`): step, series, histogram.
    histograms: Vec<(u32, u32, Arc<Histogram>)>,
    /// Whether histograms were left out.
    ignored: bool,
    held: Held,
    /// For how many there is room in the heaps; those that are larger may double.
    entries: usize,
}

impl Operator for TopK {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        blocking(async move {
            let steps = self.grid.count;
            let k = self.k.eval(&cx, &self.grid).await?;
            let ratio = match self.pick {
                Pick::Ratio => {
                    check_ratio(&cx, &k, steps, self.span)?;
                    Some(k.at(0))
                }
                _ => None,
            };
            let k = match checked_k(&k, steps) {
                _ if ratio.is_some() => vec![usize::MAX; steps],
                Ok(Some(k)) => k,
                // The input may still fail, or have something to say.
                nothing => {
                    let input = self.input.blocks(&cx);
                    fold(&cx, input, (), |_, (), _| Ok(())).await?;
                    return nothing.map(|_| Vec::new());
                }
            };
            let mut state = State {
                k,
                ratio,
                pick: self.pick,
                groups: LabelIndex::default(),
                heaps: Vec::new(),
                series: LabelIndex::default(),
                drop_name: Vec::new(),
                histograms: Vec::new(),
                ignored: false,
                held: cx.hold(0)?,
                entries: 0,
            };
            let key = self.key.key(&cx);
            if !self.pick.by_value() {
                // In the order of labels: all have to be seen.
                let mut rows = super::gather::sorted_rows(&cx, self.input.blocks(&cx)).await?;
                state = cx
                    .run(rows.weight(), move |cx| {
                        for block in rows.drain(..) {
                            state.add(cx, &key, &block)?;
                        }
                        Ok(state)
                    })
                    .await?;
            } else {
                state = fold(
                    &cx,
                    self.input.blocks(&cx),
                    state,
                    move |cx, state, block| state.add(cx, &key, &block),
                )
                .await?;
            }
            if state.ignored {
                let op = if self.pick == Pick::Topk {
                    "topk"
                } else {
                    "bottomk"
                };
                let note = Note::IgnoredInAggregation(op);
                cx.say(|a| a.note(&note, self.span));
            }
            let block = cx
                .run(state.held.bytes(), move |cx| {
                    // The survivors' rows are laid out, then copied.
                    let rows = match steps {
                        1 => 0,
                        _ => state.series.len(),
                    };
                    let _beside = cx.hold(rows.saturating_mul(steps.saturating_mul(9)))?;
                    state.finish(steps, cx)
                })
                .await?;
            Ok(vec![block])
        })
    }

    fn describe(&self) -> Description {
        let name = format!("{:?} {}", self.pick, self.key);
        Description::new(name, false, "groups x steps x k x 16 B")
            .yields(Yield::Instead)
            .over([self.k.describe(self.grid.count)])
            .over([self.input.describe()])
    }
}

impl State {
    fn add(&mut self, cx: &Context, key: &Key, block: &Block) -> Result<(), QueryError> {
        let (mut labels, mut scratch) = (Vec::new(), Vec::new());
        let (steps, mut pace) = (self.k.len(), Pace::default());
        for row in block.rows() {
            // A row may touch a heap for each step.
            pace.step(cx, steps * 8)?;
            let mut bits = row.bits;
            if self.pick.by_value() && !row.histograms.is_empty() {
                let k = &self.k;
                self.ignored |= row.histograms.iter().any(|(i, _)| k[*i as usize] > 0);
                bits = row.float_bits(&mut scratch);
            }
            key.of(row.labels, &mut labels);
            // A row may enter the heap of each of its steps, and be the first of its group.
            let entering = count(row.bits) * FIRST * size_of::<Entry>() + size_of_val(row.labels);
            let grouped = steps * size_of::<Vec<Entry>>() + size_of_val(row.labels);
            self.held.ensure(self.bytes() + entering + grouped + 32)?;
            let (group, new) = self.groups.intern(&labels);
            if new {
                self.heaps.resize_with((group + 1) * steps, Vec::new);
            }
            // Groups stand in the order of their first series, whether it stays or not.
            let stays = |ratio| in_ratio(ratio, offset(&cx.scope.symbols, row.labels));
            if !self.ratio.is_none_or(stays) {
                continue;
            }
            let mut number = None;
            let State {
                k,
                pick,
                heaps,
                series,
                drop_name,
                histograms,
                entries,
                ..
            } = self;
            each_set(bits, |i| {
                let heap = &mut heaps[group * steps + i];
                let k = k[i];
                // A histogram's float is zero in Prometheus.
                let v = match row.histogram(i) {
                    Some(_) => 0.0,
                    None => row.values[i],
                };
                let enters = heap.len() < k
                    || heap.first().is_some_and(|&(least, _)| match pick {
                        Pick::Topk => least < v || (least.is_nan() && !v.is_nan()),
                        Pick::Bottomk => least > v || (least.is_nan() && !v.is_nan()),
                        Pick::Limitk | Pick::Ratio => false,
                    });
                if !enters || k == 0 {
                    return;
                }
                let number = *number.get_or_insert_with(|| {
                    let (n, new) = series.intern(row.labels);
                    if new {
                        drop_name.push(row.drop_name);
                    }
                    n as u32
                });
                if heap.len() < k {
                    if heap.is_empty() {
                        // A list that grows by itself begins with four.
                        heap.reserve_exact(k.min(FIRST));
                        *entries += k.min(FIRST);
                    } else if heap.len() >= FIRST {
                        *entries += 1;
                    }
                    heap.push((v, number));
                    if let Some(h) = row.histogram(i) {
                        histograms.push((i as u32, number, Arc::clone(h)));
                    }
                    up(heap, *pick);
                } else {
                    heap[0] = (v, number);
                    down(heap, *pick);
                }
            });
        }
        Ok(())
    }

    /// Bytes of what is there; lists that grow may take twice as much.
    fn bytes(&self) -> usize {
        self.entries * size_of::<Entry>()
            + self.heaps.len() * size_of::<Vec<Entry>>()
            + (self.series.bytes() + self.groups.bytes()) / 2
            + self.histograms.len() * size_of::<(u32, u32, Arc<Histogram>)>()
    }

    /// The survivors. At one step: best first, group after group.
    fn finish(mut self, steps: usize, cx: &Context) -> Result<Block, QueryError> {
        let (mut row, mut pace) = (Row::default(), Pace::default());
        let mut block = cx.build(steps)?;
        if steps == 1 {
            self.histograms.sort_unstable_by_key(|(_, n, _)| *n);
            for heap in &mut self.heaps {
                pace.step(cx, heap.len())?;
                match self.pick {
                    Pick::Topk => heap.sort_by(|a, b| order(b.0, a.0)),
                    Pick::Bottomk => heap.sort_by(|a, b| order(-a.0, -b.0).reverse()),
                    // As they lie in the heap.
                    Pick::Limitk | Pick::Ratio => {}
                }
                for &(v, number) in heap.iter() {
                    pace.step(cx, 0)?;
                    row.reset(1);
                    row.labels
                        .extend_from_slice(self.series.labels(number as usize));
                    row.drop_name = self.drop_name[number as usize];
                    row.values[0] = v;
                    row.bits[0] = 1;
                    let all = &self.histograms;
                    let h = all.binary_search_by_key(&number, |(_, n, _)| *n);
                    row.histograms
                        .extend(h.ok().map(|at| (all[at].0, Arc::clone(&all[at].2))));
                    block.push(row.as_ref())?;
                }
            }
            return block.finish();
        }
        // Turn heaps into series: count, then fill.
        let n = self.series.len();
        let words = words(steps);
        let mut values = vec![0.0; n * steps];
        let mut bits = vec![0u64; n * words];
        for (at, heap) in self.heaps.iter().enumerate() {
            let i = at % steps;
            pace.step(cx, heap.len())?;
            for &(v, number) in heap {
                values[number as usize * steps + i] = v;
                bits[number as usize * words + (i >> 6)] |= 1 << (i & 63);
            }
        }
        let mut histograms = std::mem::take(&mut self.histograms);
        histograms.sort_by_key(|(i, number, _)| (*number, *i));
        let mut histograms = histograms.into_iter().peekable();
        for number in 0..n {
            pace.step(cx, steps)?;
            let mut of_series: Vec<Point> = Vec::new();
            while let Some((i, _, h)) = histograms.next_if(|(_, n, _)| *n as usize == number) {
                of_series.push((i, h));
            }
            let bits = &bits[number * words..(number + 1) * words];
            if bits.iter().any(|w| *w != 0) {
                block.push(super::block::RowRef {
                    labels: self.series.labels(number),
                    drop_name: self.drop_name[number],
                    values: &values[number * steps..(number + 1) * steps],
                    bits,
                    histograms: &of_series,
                })?;
            }
        }
        block.finish()
    }
}

/// Ascending, NaN first.
fn order(a: f64, b: f64) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal),
    }
}

/// Whether `a` must stand above `b`: the one to give way first is the root. As in Prometheus, NaN
/// is below everything.
fn above(a: f64, b: f64, pick: Pick) -> bool {
    a.is_nan()
        || match pick {
            Pick::Topk | Pick::Limitk | Pick::Ratio => a < b,
            Pick::Bottomk => a > b,
        }
}

/// Moves the last entry up to its place. The steps are those of Go's `container/heap`, so that of
/// equal values the same ones survive.
fn up(heap: &mut [Entry], pick: Pick) {
    let mut at = heap.len() - 1;
    while at > 0 {
        let parent = (at - 1) / 2;
        if !above(heap[at].0, heap[parent].0, pick) {
            break;
        }
        heap.swap(at, parent);
        at = parent;
    }
}

/// Moves the first entry down to its place.
fn down(heap: &mut [Entry], pick: Pick) {
    let mut at = 0;
    loop {
        let mut child = 2 * at + 1;
        if child >= heap.len() {
            break;
        }
        if child + 1 < heap.len() && above(heap[child + 1].0, heap[child].0, pick) {
            child += 1;
        }
        if !above(heap[child].0, heap[at].0, pick) {
            break;
        }
        heap.swap(at, child);
        at = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_heap_gives_way_first() {
        let mut heap: Vec<Entry> = Vec::new();
        for (i, v) in [5.0, 1.0, f64::NAN, 3.0].into_iter().enumerate() {
            heap.push((v, i as u32));
            up(&mut heap, Pick::Topk);
        }
        assert!(heap[0].0.is_nan());
        heap[0] = (9.0, 9);
        down(&mut heap, Pick::Topk);
        assert_eq!(heap[0].0, 1.0);
        let mut values: Vec<f64> = heap.iter().map(|e| e.0).collect();
        values.sort_by(|a, b| order(*b, *a));
        assert_eq!(values, [9.0, 5.0, 3.0, 1.0]);
    }

    #[test]
    fn ratios_are_complements() {
        for offset in [0.0, 0.3, 0.7, 0.999] {
            assert!(in_ratio(0.4, offset) != in_ratio(-0.6, offset));
            assert!(in_ratio(1.5, offset) && in_ratio(-1.0, offset) && !in_ratio(0.0, offset));
        }
        assert!(checked_k(&Param::Const(0.5), 1).unwrap().is_none());
        assert!(checked_k(&Param::Const(f64::NAN), 1).is_err());
        assert!(checked_k(&Param::Const(1e30), 1).is_err());
    }
}
