//! Every kernel against the plain reading of its definition, window by window.

use proptest::prelude::*;

use super::*;
use crate::numbers::{nan_first, quantile_of_sorted};

fn windows<'a>(
    ts: &'a [Millis],
    values: &'a [f64],
    grid: &'a Grid,
    w: &'a Window,
) -> impl Iterator<Item = (usize, Vec<(Millis, f64)>)> + 'a {
    (0..grid.count).map(move |i| {
        let end = w.end(grid, i);
        let inside = ts
            .iter()
            .zip(values)
            .filter(|(t, _)| **t <= end && **t > end - w.range)
            .map(|(t, v)| (*t, *v))
            .collect();
        (i, inside)
    })
}

fn naive(
    func: RangeFn,
    params: &[f64],
    w: &[(Millis, f64)],
    end: Millis,
    range: Millis,
) -> Option<f64> {
    let v: Vec<f64> = w.iter().map(|p| p.1).collect();
    let n = v.len();
    if n == 0 {
        return None;
    }
    let pairs = |is: fn(f64, f64) -> bool| v.windows(2).filter(|p| is(p[0], p[1])).count() as f64;
    let sorted = |mut v: Vec<f64>| {
        v.sort_by(nan_first);
        v
    };
    Some(match func {
        RangeFn::Rate | RangeFn::Increase | RangeFn::Delta => {
            if n < 2 {
                return None;
            }
            let counter = func != RangeFn::Delta;
            let mut result = v[n - 1] - v[0];
            if counter {
                for p in v.windows(2) {
                    if p[1] < p[0] {
                        result += p[0];
                    }
                }
            }
            let sampled = (w[n - 1].0 - w[0].0) as f64 / 1000.0;
            let gap = sampled / (n - 1) as f64;
            let mut left = (w[0].0 - (end - range)) as f64 / 1000.0;
            let mut right = (end - w[n - 1].0) as f64 / 1000.0;
            if left >= gap * 1.1 {
                left = gap / 2.0;
            }
            if counter && result > 0.0 && v[0] >= 0.0 {
                left = left.min(sampled * (v[0] / result));
            }
            if right >= gap * 1.1 {
                right = gap / 2.0;
            }
            let mut factor = (sampled + left + right) / sampled;
            if func == RangeFn::Rate {
                factor /= range as f64 / 1000.0;
            }
            result * factor
        }
        RangeFn::Irate | RangeFn::Idelta => {
            if n < 2 {
                return None;
            }
            let seconds = (w[n - 1].0 - w[n - 2].0) as f64 / 1000.0;
            let d = v[n - 1] - v[n - 2];
            match func {
                RangeFn::Idelta => d,
                _ if d < 0.0 => v[n - 1] / seconds,
                _ => d / seconds,
            }
        }
        // These look before their window and are tested where they stand.
        RangeFn::Xrate | RangeFn::Xincrease | RangeFn::Xdelta => return None,
        RangeFn::Changes => pairs(|a, b| a != b),
        RangeFn::Resets => pairs(|a, b| b < a),
        RangeFn::Sum => v.iter().sum(),
        RangeFn::Avg => v.iter().sum::<f64>() / n as f64,
        RangeFn::Min => v.iter().copied().fold(f64::INFINITY, f64::min),
        RangeFn::Max => v.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        RangeFn::Count => n as f64,
        RangeFn::Last => v[n - 1],
        RangeFn::First => v[0],
        RangeFn::Present => 1.0,
        RangeFn::TsOfFirst => w[0].0 as f64 / 1000.0,
        RangeFn::TsOfLast => w[n - 1].0 as f64 / 1000.0,
        RangeFn::TsOfMin | RangeFn::TsOfMax => {
            let best = if func == RangeFn::TsOfMin {
                v.iter().copied().fold(f64::INFINITY, f64::min)
            } else {
                v.iter().copied().fold(f64::NEG_INFINITY, f64::max)
            };
            w.iter().rev().find(|p| p.1 == best)?.0 as f64 / 1000.0
        }
        RangeFn::Stddev | RangeFn::Stdvar => {
            let mean = v.iter().sum::<f64>() / n as f64;
            let var = v.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n as f64;
            if func == RangeFn::Stddev {
                var.sqrt()
            } else {
                var
            }
        }
        RangeFn::Quantile => quantile_of_sorted(params[0], &sorted(v)),
        RangeFn::Mad => {
            let median = quantile_of_sorted(0.5, &sorted(v.clone()));
            quantile_of_sorted(0.5, &sorted(v.iter().map(|x| (x - median).abs()).collect()))
        }
        RangeFn::Deriv | RangeFn::PredictLinear => {
            if n < 2 {
                return None;
            }
            // Centred sums: another way than the kernel's.
            let xm = w.iter().map(|p| p.0 as f64 / 1e3).sum::<f64>() / n as f64;
            let ym = v.iter().sum::<f64>() / n as f64;
            let (mut xy, mut xx) = (0.0, 0.0);
            for p in w {
                let dx = p.0 as f64 / 1e3 - xm;
                xy += dx * (p.1 - ym);
                xx += dx * dx;
            }
            let slope = xy / xx;
            if func == RangeFn::Deriv {
                slope
            } else {
                ym + slope * (end as f64 / 1e3 - xm) + slope * params[0]
            }
        }
        RangeFn::DoubleExponentialSmoothing => return None,
    })
}

const ALL: [RangeFn; 25] = [
    RangeFn::Rate,
    RangeFn::Increase,
    RangeFn::Delta,
    RangeFn::Irate,
    RangeFn::Idelta,
    RangeFn::Changes,
    RangeFn::Resets,
    RangeFn::Deriv,
    RangeFn::PredictLinear,
    RangeFn::Sum,
    RangeFn::Avg,
    RangeFn::Min,
    RangeFn::Max,
    RangeFn::Count,
    RangeFn::Last,
    RangeFn::First,
    RangeFn::Present,
    RangeFn::Stddev,
    RangeFn::Stdvar,
    RangeFn::Quantile,
    RangeFn::Mad,
    RangeFn::TsOfFirst,
    RangeFn::TsOfLast,
    RangeFn::TsOfMin,
    RangeFn::TsOfMax,
];

fn computed(
    func: RangeFn,
    params: &[f64],
    (ts, values): (&[Millis], &[f64]),
    grid: &Grid,
    w: &Window,
) -> Vec<Option<f64>> {
    let params: Vec<Param> = params.iter().map(|v| Param::Const(*v)).collect();
    let mut out = vec![0.0; grid.count];
    let mut bits = vec![0u64; grid.count.div_ceil(64)];
    let mut scratch = Scratch::default();
    let mut o = Out {
        values: &mut out,
        bits: &mut bits,
    };
    let cols = Cols {
        ts,
        values,
        starts: &[],
        grid,
        window: w,
        stop: Stop::default(),
    };
    run(func, &params, &cols, &mut scratch, &mut o);
    (0..grid.count)
        .map(|i| (bits[i / 64] >> (i % 64) & 1 == 1).then_some(out[i]))
        .collect()
}

/// How much the rounding of products may move what `predict_linear` says. As Prometheus does, it adds up
/// squares of distances from the evaluation and takes their mean away: of samples that lie close
/// together and far off, few digits are left.
fn rounding(w: &[(Millis, f64)], end: Millis, ahead: f64) -> f64 {
    let n = w.len() as f64;
    let x: Vec<f64> = w.iter().map(|p| (p.0 - end) as f64 / 1e3).collect();
    let mean = x.iter().sum::<f64>() / n;
    let spread: f64 = x.iter().map(|x| (x - mean) * (x - mean)).sum();
    let squares: f64 = x.iter().map(|x| x * x).sum();
    let products: f64 = x.iter().zip(w).map(|(x, p)| (x * p.1).abs()).sum();
    let ym = w.iter().map(|p| p.1).sum::<f64>() / n;
    let slope: f64 = x
        .iter()
        .zip(w)
        .map(|(x, p)| (x - mean) * (p.1 - ym))
        .sum::<f64>()
        / spread;
    let of_slope = 8.0 * f64::EPSILON * (products + slope.abs() * squares) / spread;
    let moved = of_slope * (mean.abs() + ahead.abs());
    // Of one sample there is no line.
    if moved.is_finite() { moved } else { 0.0 }
}

fn close(a: Option<f64>, b: Option<f64>, scale: f64) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a == b
                || (a.is_nan() && b.is_nan())
                || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) + 1e-9 * scale
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn kernels_equal_their_definitions(
        gaps in prop::collection::vec(1i64..40, 1..200),
        raw in prop::collection::vec(-50i32..1000, 200),
        start in -200i64..2000,
        step in 1i64..200,
        range in 1i64..1500,
        offset in -50i64..50,
        count in 1usize..150,
    ) {
        let mut t = 0;
        let ts: Vec<Millis> = gaps.iter().map(|g| { t += g; t }).collect();
        let values: Vec<f64> = raw.iter().take(ts.len()).map(|v| f64::from(*v) / 4.0).collect();
        let grid = Grid { start, step, count };
        let w = Window { range, offset, at: None };
        for func in ALL {
            let params = [0.3];
            let got = computed(func, &params, (&ts, &values), &grid, &w);
            for (i, inside) in windows(&ts, &values, &grid, &w) {
                // predict_linear looks from the step's own time.
                let end = if func == RangeFn::PredictLinear { grid.at(i) } else { w.end(&grid, i) };
                let want = naive(func, &params, &inside, end, range);
                let scale = match func {
                    RangeFn::PredictLinear => 1.0 + 1e9 * rounding(&inside, end, params[0]),
                    _ => 1.0,
                };
                prop_assert!(
                    close(got[i], want, scale),
                    "{func:?} step {i}: {:?} instead of {want:?} of {inside:?}", got[i]
                );
            }
        }
    }

    #[test]
    fn special_values_survive_sliding(
        raw in prop::collection::vec(prop::sample::select(vec![1.0, -2.5, 1e308, -1e308, f64::NAN, f64::INFINITY, 1e-3]), 40..80),
        step in 1i64..30,
        range in 100i64..400,
    ) {
        // Sliding and walking agree: a grid of one step always walks.
        let ts: Vec<Millis> = (0..raw.len() as i64).map(|i| i * 10).collect();
        let grid = Grid { start: 0, step, count: 60 };
        let w = Window { range, offset: 0, at: None };
        for func in [RangeFn::Sum, RangeFn::Avg, RangeFn::Min, RangeFn::Max, RangeFn::Quantile, RangeFn::Stdvar] {
            if func == RangeFn::Stdvar && raw.iter().any(|v| v.abs() > 1e300) {
                continue;
            }
            let got = computed(func, &[0.9], (&ts, &raw), &grid, &w);
            for (i, v) in got.iter().enumerate() {
                let one = Grid::instant(grid.at(i));
                let want = computed(func, &[0.9], (&ts, &raw), &one, &w)[0];
                prop_assert!(close(*v, want, 1e-12), "{func:?} step {i}: {v:?} instead of {want:?}");
            }
        }
    }
}

#[test]
fn many_resets_in_a_window_use_prefix_sums() {
    // A sawtooth of 3,000 resets.
    let ts: Vec<Millis> = (0..9000).map(|i| i * 1000).collect();
    let values: Vec<f64> = (0..9000).map(|i| f64::from(i % 3) * 0.1 + 0.05).collect();
    let grid = Grid::range(0, 9_000_000, 30_000);
    let w = Window {
        range: 3_600_000,
        offset: 0,
        at: None,
    };
    let got = computed(RangeFn::Increase, &[], (&ts, &values), &grid, &w);
    for (i, inside) in windows(&ts, &values, &grid, &w).step_by(17) {
        let want = naive(RangeFn::Increase, &[], &inside, w.end(&grid, i), w.range);
        assert!(close(got[i], want, 0.0), "{i}: {:?} {want:?}", got[i]);
    }
}

#[test]
fn a_stale_marker_hides_older_samples() {
    let ts = [0, 10_000, 20_000, 30_000];
    let values = [1.0, 2.0, model::STALE_NAN, 4.0];
    let grid = Grid::range(0, 60_000, 5_000);
    let w = Window {
        range: 10_000,
        offset: 0,
        at: None,
    };
    let mut out = vec![0.0; grid.count];
    let mut bits = vec![0u64; 1];
    let mut o = Out {
        values: &mut out,
        bits: &mut bits,
    };
    let cols = Cols {
        ts: &ts,
        values: &values,
        starts: &[],
        grid: &grid,
        window: &w,
        stop: Stop::default(),
    };
    instant::select(&cols, histograms::Newest::Value, &mut o);
    let got: Vec<_> = (0..grid.count)
        .map(|i| (bits[0] >> i & 1 == 1).then_some(out[i]))
        .collect();
    let some = Some;
    assert_eq!(
        got,
        [
            some(1.0),
            some(1.0),
            some(2.0),
            some(2.0),
            None,
            None,
            some(4.0),
            some(4.0),
            None,
            None,
            None,
            None,
            None
        ]
    );
}

#[test]
fn a_fixed_time_gives_every_step_the_same_window() {
    let ts = [0, 10, 20];
    let values = [1.0, 2.0, 3.0];
    let grid = Grid::range(0, 100, 50);
    let w = Window {
        range: 15,
        offset: 0,
        at: Some(20),
    };
    let got = computed(RangeFn::Sum, &[], (&ts, &values), &grid, &w);
    assert_eq!(got, [Some(5.0); 3]);
}
