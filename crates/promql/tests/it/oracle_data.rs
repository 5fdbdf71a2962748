//! Data and queries for comparisons: native histograms of every kind, with everything that happens
//! to them.

use chunk::HistogramRow;
use chunk::memory::StoredSeries;
use model::histogram::{
    Buckets, CUSTOM_SCHEMA, CounterReset, FloatHistogram, Histogram, IntBuckets, IntHistogram,
};
use model::{Labels, STALE_NAN, Sample};

/// First and last time, ms.
pub const START: i64 = 1_700_000_000_000;
pub const END: i64 = START + 2 * 3_600_000;
const STEP: i64 = 30_000;

/// Numbers that a seed decides.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // States of seeds side by side lie apart: else one stream would be another's, a bit later.
        let mut first = Self(seed);
        Self(first.next())
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

fn labels(name: &str, job: usize, inst: usize) -> Labels {
    let (job, inst) = (format!("j{job}"), format!("i{inst}"));
    Labels::from_pairs([("__name__", name), ("job", &job), ("inst", &inst)])
}

/// The integers of a histogram whose counts are whole.
fn to_int(h: &FloatHistogram) -> IntHistogram {
    let buckets = |b: &Buckets| {
        let mut before = 0;
        let deltas = b.counts.iter().map(|c| {
            let delta = *c as i64 - before;
            before = *c as i64;
            delta
        });
        IntBuckets {
            spans: b.spans.clone(),
            deltas: deltas.collect(),
        }
    };
    IntHistogram {
        counter_reset: h.counter_reset,
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count: h.zero_count as u64,
        count: h.count as u64,
        sum: h.sum,
        positive: buckets(&h.positive),
        negative: buckets(&h.negative),
        custom_values: h.custom_values.clone(),
    }
}

/// A counter or gauge of observations.
struct Observed {
    schema: i32,
    positive: Vec<f64>,
    negative: Vec<f64>,
    zero: f64,
    zero_threshold: f64,
    sum: f64,
    custom: Vec<f64>,
    nans: f64,
}

impl Observed {
    fn new(r: &mut Random, schema: i32) -> Self {
        let custom = if schema == CUSTOM_SCHEMA {
            r.pick(&[
                &[1.0, 2.0, 5.0, 10.0][..],
                &[1.0, 5.0, 10.0, 20.0],
                &[0.0, 2.0, 5.0],
            ])
            .to_vec()
        } else {
            Vec::new()
        };
        Self {
            schema,
            positive: vec![
                0.0;
                if custom.is_empty() {
                    16
                } else {
                    custom.len() + 1
                }
            ],
            negative: vec![0.0; 6],
            zero: 0.0,
            zero_threshold: r.pick(&[0.001, 0.001, 0.01, 0.25]),
            sum: 0.0,
            custom,
            nans: 0.0,
        }
    }

    fn observe(&mut self, r: &mut Random, with_negative: bool) {
        for _ in 0..r.below(6) {
            let n = self.positive.len() as u64;
            self.positive[r.below(n) as usize] += r.below(5) as f64;
            self.sum += r.below(40) as f64 / 4.0;
        }
        if self.custom.is_empty() {
            self.zero += r.below(2) as f64;
            if with_negative {
                self.negative[r.below(6) as usize] += r.below(3) as f64;
                self.sum -= 1.5;
            }
        }
    }

    fn histogram(&self) -> FloatHistogram {
        let first = if self.custom.is_empty() { -5 } else { 0 };
        let populated = |from: i32, counts: &[f64]| {
            let pairs = (from..).zip(counts.iter().copied());
            Buckets::from_pairs(pairs.filter(|(_, c)| *c != 0.0))
        };
        let custom = !self.custom.is_empty();
        let (positive, negative) = (
            populated(first, &self.positive),
            populated(-1, if custom { &[] } else { &self.negative }),
        );
        let mut zero = if custom { 0.0 } else { self.zero };
        let mut outside = |buckets: Buckets| {
            // What is within the threshold is in the zero bucket.
            let inside = |i: i32| {
                !custom && model::histogram::upper_bound(self.schema, i) <= self.zero_threshold
            };
            zero += buckets
                .iter()
                .filter(|b| inside(b.0))
                .map(|b| b.1)
                .sum::<f64>();
            Buckets::from_pairs(buckets.iter().filter(|b| !inside(b.0)))
        };
        let (positive, negative) = (outside(positive), outside(negative));
        let counts = positive.counts.iter().chain(&negative.counts);
        FloatHistogram {
            schema: self.schema,
            zero_threshold: if custom { 0.0 } else { self.zero_threshold },
            zero_count: zero,
            count: counts.sum::<f64>() + zero + self.nans,
            sum: if self.nans > 0.0 { f64::NAN } else { self.sum },
            positive,
            negative,
            custom_values: self.custom.clone().into(),
            ..FloatHistogram::default()
        }
    }
}

/// The times of a series: some are left out, and some are stale markers.
fn times(r: &mut Random) -> Vec<(i64, bool)> {
    let shift = r.below(STEP as u64) as i64;
    let mut out = Vec::new();
    let mut left_out = 0;
    let mut t = START + shift;
    while t < END {
        if left_out > 0 {
            left_out -= 1;
        } else if r.below(60) == 0 {
            left_out = r.below(20);
            if r.below(2) == 0 {
                out.push((t, true));
            }
        } else {
            out.push((t, false));
        }
        t += STEP;
    }
    out
}

/// All series.
pub fn series(seed: u64) -> Vec<StoredSeries> {
    let mut r = Random::new(seed);
    let mut all = Vec::new();
    for job in 0..3 {
        for inst in 0..3 {
            all.push(counter(&mut r, labels("h_total", job, inst), false));
            all.push(counter(&mut r, labels("n_total", job, inst), true));
            all.push(gauge(&mut r, labels("g", job, inst)));
            all.push(mixed(&mut r, labels("mix", job, inst)));
            all.push(floats(&mut r, labels("f_total", job, inst), true));
            all.push(floats(&mut r, labels("f", job, inst), false));
        }
        classic(&mut r, job, &mut all);
    }
    all
}

fn row(r: &mut Random, ts: i64, start: i64, h: FloatHistogram, int: bool) -> HistogramRow {
    let value = if int {
        Histogram::Int(to_int(&h))
    } else {
        let _ = r;
        Histogram::Float(h)
    };
    HistogramRow { ts, start, value }
}

fn stale(ts: i64, int: bool) -> HistogramRow {
    let h = FloatHistogram {
        sum: STALE_NAN,
        ..FloatHistogram::default()
    };
    let value = if int {
        Histogram::Int(to_int(&h))
    } else {
        Histogram::Float(h)
    };
    HistogramRow {
        ts,
        start: 0,
        value,
    }
}

fn counter(r: &mut Random, labels: Labels, custom: bool) -> StoredSeries {
    let schema = if custom {
        CUSTOM_SCHEMA
    } else {
        r.pick(&[0, 1, 3])
    };
    let (int, negative, started) = (r.below(2) == 0, r.below(3) == 0, r.below(3) == 0);
    let coarser_from = r.below(400) as usize;
    let mut state = Observed::new(r, schema);
    if r.below(6) == 0 {
        state.nans = 3.0;
    }
    let mut start = START - 1000;
    let mut rows = Vec::new();
    for (i, (t, is_stale)) in times(r).into_iter().enumerate() {
        if is_stale {
            rows.push(stale(t, int));
            continue;
        }
        if r.below(70) == 0 {
            // Buckets may change at a reset, or behind the back.
            let nans = state.nans;
            state = Observed::new(r, schema);
            state.nans = nans;
            start = t - r.below(STEP as u64 - 1) as i64 - 1;
        }
        state.observe(r, negative);
        let mut h = state.histogram();
        if i > coarser_from {
            h.reduce_to(schema - 1);
        }
        rows.push(row(r, t, if started { start } else { 0 }, h, int));
    }
    StoredSeries::histograms(labels, rows)
}

fn gauge(r: &mut Random, labels: Labels) -> StoredSeries {
    let schema = r.pick(&[0, 2, CUSTOM_SCHEMA]);
    let marked = r.below(3) != 0;
    let mut rows = Vec::new();
    for (t, is_stale) in times(r) {
        if is_stale {
            rows.push(stale(t, false));
            continue;
        }
        let mut state = Observed::new(r, schema);
        for _ in 0..3 {
            state.observe(r, true);
        }
        let mut h = state.histogram();
        if marked {
            h.counter_reset = CounterReset::Gauge;
        }
        rows.push(row(r, t, 0, h, false));
    }
    StoredSeries::histograms(labels, rows)
}

/// Floats, exponential and custom histograms after one another.
fn mixed(r: &mut Random, labels: Labels) -> StoredSeries {
    let mut out = StoredSeries::floats(labels, Vec::new());
    let mut kind = r.below(3);
    let mut state = Observed::new(r, 1);
    for (ts, is_stale) in times(r) {
        if r.below(25) == 0 {
            kind = r.below(3);
            let schema = if kind == 2 { CUSTOM_SCHEMA } else { 1 };
            state = Observed::new(r, schema);
        }
        state.observe(r, false);
        match (kind, is_stale) {
            (0, true) => out.floats.push(Sample {
                ts,
                value: STALE_NAN,
            }),
            (0, false) => {
                let value = state.histogram().count;
                out.floats.push(Sample { ts, value });
            }
            (_, true) => out.histograms.push(stale(ts, false)),
            (_, false) => out.histograms.push(row(r, ts, 0, state.histogram(), false)),
        }
    }
    out
}

fn floats(r: &mut Random, labels: Labels, counter: bool) -> StoredSeries {
    let mut value = 0.0;
    let started = counter && r.below(2) == 0;
    let mut start = START - 5000;
    let mut out = StoredSeries::floats(labels, Vec::new());
    for (ts, is_stale) in times(r) {
        if counter {
            value += r.below(20) as f64;
            if r.below(50) == 0 {
                value = r.below(5) as f64;
                start = ts - r.below(STEP as u64 - 1) as i64 - 1;
            }
        } else {
            value = r.below(1000) as f64 / 8.0 - 40.0;
        }
        let value = if is_stale { STALE_NAN } else { value };
        out.floats.push(Sample { ts, value });
        if started {
            out.starts.push(start);
        }
    }
    out
}

/// A classic histogram.
fn classic(r: &mut Random, job: usize, all: &mut Vec<StoredSeries>) {
    let bounds = ["0.5", "1", "2.5", "10", "+Inf"];
    let mut counts = [0.0; 5];
    let times = times(r);
    let mut series = vec![Vec::new(); 5];
    for (ts, is_stale) in times {
        let at = r.below(5) as usize;
        counts[at] += r.below(9) as f64;
        let mut sum = 0.0;
        for (i, count) in counts.iter().enumerate() {
            sum += count;
            let value = if is_stale { STALE_NAN } else { sum };
            series[i].push(Sample { ts, value });
        }
    }
    for (le, samples) in bounds.iter().zip(series) {
        let job = format!("j{job}");
        let labels = [("__name__", "c_bucket"), ("job", &*job), ("le", le)];
        all.push(StoredSeries::floats(Labels::from_pairs(labels), samples));
    }
}

/// A random expression that gives a vector.
pub fn expression(r: &mut Random) -> String {
    vector(r, 3)
}

fn selector(r: &mut Random) -> String {
    let name = r.pick(&[
        "h_total", "h_total", "h_total", "n_total", "n_total", "g", "mix", "mix", "f_total", "f",
        "c_bucket",
    ]);
    let matchers = r.pick(&["", "", "{job=\"j1\"}", "{job!=\"j0\"}", "{inst=~\"i[01]\"}"]);
    format!("{name}{matchers}")
}

fn shift(r: &mut Random) -> &'static str {
    r.pick(&[
        "",
        "",
        "",
        "",
        " offset 3m",
        " offset -2m",
        " @ 1700003600.5",
    ])
}

fn range(r: &mut Random) -> &'static str {
    r.pick(&["1m", "2m", "5m", "5m", "17m", "50s"])
}

fn quantile(r: &mut Random) -> &'static str {
    r.pick(&["0.5", "0.9", "0.1", "0", "1", "0.99", "0.3", "1.2", "-0.5"])
}

fn grouping(r: &mut Random) -> &'static str {
    r.pick(&[
        "",
        " by (job)",
        " by (inst)",
        " without (inst)",
        " by (job, inst, le)",
    ])
}

fn over_range(r: &mut Random, depth: u32) -> String {
    if r.below(6) == 0 {
        let modifier = r.pick(&["anchored", "smoothed"]);
        let f = if modifier == "anchored" {
            r.pick(&["rate", "increase", "delta", "resets", "changes"])
        } else {
            r.pick(&["rate", "increase", "delta"])
        };
        let (s, w, at) = (selector(r), range(r), shift(r));
        return format!("{f}({s}[{w}] {modifier}{at})");
    }
    let over = if depth > 0 && r.below(5) == 0 {
        let inner = vector(r, depth - 1);
        format!("({inner})[{}:{}]", range(r), r.pick(&["30s", "1m", "45s"]))
    } else {
        let (s, w, at) = (selector(r), range(r), shift(r));
        format!("{s}[{w}]{at}")
    };
    match r.below(10) {
        0..=4 => {
            let f = r.pick(&[
                "rate", "rate", "increase", "delta", "irate", "idelta", "resets", "changes",
            ]);
            format!("{f}({over})")
        }
        5 => format!("quantile_over_time({}, {over})", quantile(r)),
        6 => format!("predict_linear({over}, 60)"),
        7 => {
            let f = r.pick(&["sum_over_time", "avg_over_time"]);
            format!("{f}({over})")
        }
        _ => {
            let f = r.pick(&[
                "count_over_time",
                "last_over_time",
                "first_over_time",
                "present_over_time",
                "min_over_time",
                "max_over_time",
                "stddev_over_time",
                "stdvar_over_time",
                "mad_over_time",
                "deriv",
                "ts_of_first_over_time",
                "ts_of_last_over_time",
                "ts_of_max_over_time",
                "absent_over_time",
            ]);
            format!("{f}({over})")
        }
    }
}

fn vector(r: &mut Random, depth: u32) -> String {
    if depth == 0 {
        return match r.below(4) {
            0 => {
                let (s, at) = (selector(r), shift(r));
                format!("{s}{at}")
            }
            1 => format!("{} smoothed", selector(r)),
            _ => over_range(r, 0),
        };
    }
    let next = depth - 1;
    match r.below(14) {
        0 => {
            let (s, at) = (selector(r), shift(r));
            format!("{s}{at}")
        }
        1 | 2 => over_range(r, depth),
        3 => {
            let f = r.pick(&[
                "histogram_count",
                "histogram_sum",
                "histogram_avg",
                "histogram_stddev",
                "histogram_stdvar",
            ]);
            format!("{f}({})", vector(r, next))
        }
        4 => format!("histogram_quantile({}, {})", quantile(r), vector(r, next)),
        5 => {
            let (a, b) = (
                r.pick(&["-Inf", "-1", "0", "0.2", "3"]),
                r.pick(&["+Inf", "1", "0.7", "12", "0"]),
            );
            format!("histogram_fraction({a}, {b}, {})", vector(r, next))
        }
        6 | 7 => {
            let op = r.pick(&[
                "sum", "sum", "sum", "avg", "avg", "count", "min", "max", "group", "stddev",
                "stdvar",
            ]);
            format!("{op}{}({})", grouping(r), vector(r, next))
        }
        8 => {
            let op = r.pick(&["limitk", "topk", "bottomk", "quantile", "limit_ratio"]);
            let k = if op == "quantile" || op == "limit_ratio" {
                "0.6"
            } else {
                r.pick(&["1", "2", "0"])
            };
            // Which of equal values stay depends on the order of the input, which is random in
            // Prometheus beyond functions of selectors.
            let v = match op {
                "quantile" => vector(r, next),
                _ => over_range(r, 0),
            };
            format!("{op}{}({k}, {v})", grouping(r))
        }
        9 => {
            let op = r.pick(&[
                "+", "-", "*", "/", "==", "!=", "== bool", "!= bool", ">", "</", ">/", "^",
            ]);
            let s = r.pick(&["2", "0.5", "-1", "0", "3"]);
            let v = vector(r, next);
            if r.below(3) == 0 {
                format!("{s} {op} ({v})")
            } else {
                format!("({v}) {op} {s}")
            }
        }
        10 | 11 => {
            let op = r.pick(&[
                "+", "-", "+", "-", "*", "/", "==", "!=", "== bool", ">", "and", "or", "unless",
                ">/",
            ]);
            let how = match op {
                "and" | "or" | "unless" => r.pick(&["", " on (job)", " ignoring (inst)"]),
                _ => r.pick(&[
                    "",
                    "",
                    " on (job, inst)",
                    " on (job) group_left ()",
                    " ignoring (inst)",
                    " fill (1)",
                ]),
            };
            let (a, b) = (vector(r, next), vector(r, next));
            format!("({a}) {op}{how} ({b})")
        }
        12 => format!("-({})", vector(r, next)),
        _ => {
            let v = vector(r, next);
            match r.below(9) {
                0 => format!("abs({v})"),
                1 => format!("clamp_max({v}, 5)"),
                2 => format!("timestamp({v})"),
                3 => format!("absent({v})"),
                4 => format!("label_replace({v}, \"x\", \"$1\", \"job\", \"(.*)\")"),
                5 => format!("sort({v})"),
                6 => format!("histogram_quantiles({v}, \"q\", 0.5, {})", quantile(r)),
                // Not of what has rounding errors: they would show in the label.
                7 => {
                    let (s, at) = (selector(r), shift(r));
                    format!("count_values(\"v\", -({s}{at}))")
                }
                _ => format!("start_timestamp({})", selector(r)),
            }
        }
    }
}
