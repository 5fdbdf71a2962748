//! Instant selectors: the newest sample of the lookback window, unless it is a stale marker.

use model::is_stale;

use super::histograms::Newest;
use super::{Cols, Out};
use crate::grid::Slide;

/// Writes the value (or what else is wanted) of the newest sample in each step's window. A stale
/// marker there means no value; it never falls back to an older sample.
pub(crate) fn select(cols: &Cols<'_>, what: Newest, out: &mut Out<'_>) {
    let Cols {
        ts,
        values,
        starts,
        grid,
        window,
        ..
    } = *cols;
    if ts.is_empty() || grid.count == 0 || window.range <= 0 {
        return;
    }
    let mut slide = Slide::starting(ts, window.end(grid, 0), window.range);
    for i in 0..grid.count {
        slide.to(ts, window.end(grid, i), window.range);
        if slide.lo == slide.hi {
            if slide.lo == ts.len() {
                return;
            }
            continue;
        }
        let newest = slide.hi - 1;
        let v = values[newest];
        if is_stale(v) {
            continue;
        }
        out.set(
            i,
            match what {
                Newest::Value => v,
                Newest::Time | Newest::InfoTime => ts[newest] as f64 / 1000.0,
                Newest::Start => starts.get(newest).copied().unwrap_or(0) as f64 / 1000.0,
            },
        );
    }
}
