//! Counts and sums of histograms, without their buckets.

use std::sync::Arc;

use chunk::histograms::{Layout, is_reset};
use chunk::{HistogramRef, Histograms};
use model::Millis;
use model::histogram::CounterReset;

/// Histograms without their buckets, for those who want count and sum only: what their buckets say
/// about resets becomes their hint. As in Prometheus nothing is known of a histogram whose
/// predecessor no window shows, because between two `windows` (from, to; both ends included) all is
/// jumped over. `floats` are the times of the floats beside them.
pub(crate) fn without_buckets(
    from: &Histograms,
    floats: &[Millis],
    windows: impl Iterator<Item = (Millis, Millis)>,
    to: &mut Histograms,
) {
    to.clear();
    let mut jumps = jumps(floats, &from.ts, windows).into_iter().peekable();
    let mut prev: Option<HistogramRef<'_>> = None;
    let mut layout: Option<Arc<Layout>> = None;
    for (i, (t, h)) in from.iter().enumerate() {
        while jumps.next_if(|jump| *jump <= t).is_some() {
            prev = None;
        }
        let mut scalars = h.scalars;
        scalars.zero_count = 0.0;
        if !h.is_stale() {
            if scalars.counter_reset == CounterReset::Unknown
                && let Some(prev) = prev
            {
                scalars.counter_reset = if is_reset(h, prev) {
                    CounterReset::Reset
                } else {
                    CounterReset::NotReset
                };
            }
            prev = Some(h);
        }
        let layout = match &layout {
            Some(layout) if layout.schema == h.layout.schema => layout,
            _ => layout.insert(Arc::new(Layout {
                schema: h.layout.schema,
                ..Default::default()
            })),
        };
        to.shared_layout(layout);
        to.push(t, scalars, []);
        to.started(from.starts.get(i).copied().unwrap_or(0));
    }
}

/// The beginnings of the windows that lie wholly behind the first sample at or after the end of the
/// one before.
fn jumps(
    floats: &[Millis],
    histograms: &[Millis],
    windows: impl Iterator<Item = (Millis, Millis)>,
) -> Vec<Millis> {
    let mut jumps = Vec::new();
    let (mut floats, mut histograms) = (floats, histograms);
    let mut at = Millis::MIN;
    let behind = |ts: &mut &[Millis], end: Millis| {
        *ts = ts.split_at(ts.partition_point(|t| *t < end)).1;
        ts.first().copied().unwrap_or(Millis::MAX)
    };
    for (from, to) in windows {
        if from > at {
            jumps.push(from);
        }
        at = behind(&mut floats, to).min(behind(&mut histograms, to));
    }
    jumps
}
