//! Instant selectors: the newest sample of the lookback window, unless it is a stale marker.

use model::{Millis, is_stale};

use super::Out;
use crate::grid::{Grid, Slide, Window};

/// Writes the value (or, with `timestamps`, the time in seconds) of the newest sample in each
/// step's window. A stale marker there means no value; it never falls back to an older sample.
pub(crate) fn select(
    ts: &[Millis],
    values: &[f64],
    grid: &Grid,
    window: &Window,
    timestamps: bool,
    out: &mut Out<'_>,
) {
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
            if timestamps {
                ts[newest] as f64 / 1000.0
            } else {
                v
            },
        );
    }
}
