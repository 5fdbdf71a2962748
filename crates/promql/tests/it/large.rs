//! Many series, and a query for each operator over them: for memory and for cancelling.

use chunk::HistogramRow;
use chunk::memory::{MemorySource, StoredSeries};
use model::histogram::{Buckets, FloatHistogram, Histogram};
use model::{Labels, Sample};

/// Steps between samples, ms.
pub const STEP: i64 = 15_000;
/// When queries end, ms.
pub const END: i64 = 100 * STEP;

fn samples(i: u32) -> Vec<Sample> {
    let value = |s: i64| f64::from(i) * 0.25 + (s * i64::from(i % 7)) as f64;
    (0..=100)
        .map(|s| Sample {
            ts: s * STEP,
            value: value(s),
        })
        .collect()
}

fn histograms(i: u32) -> Vec<HistogramRow> {
    let of = |s: i64| {
        let buckets = (0..12).map(|b| (b, (s * i64::from(b + 1)) as f64));
        let positive = Buckets::from_pairs(buckets);
        FloatHistogram {
            count: positive.counts.iter().sum(),
            sum: f64::from(i) + s as f64,
            positive,
            zero_threshold: 0.001,
            ..FloatHistogram::default()
        }
    };
    (0..=100)
        .map(|s| HistogramRow {
            ts: s * STEP,
            start: 0,
            value: Histogram::Float(of(s)),
        })
        .collect()
}

/// `m` and `n` with as many series, each of an instance of its own and of one of ten jobs;
/// `b_bucket` with as many, eight of an instance; a sixteenth as many of `h`, which are native
/// histograms, and of `target_info`.
pub fn source(series: u32) -> MemorySource {
    let mut all = Vec::new();
    let labels = |name: &str, i: u32, le: Option<String>| {
        let mut pairs = vec![
            ("__name__", name.to_owned()),
            ("instance", format!("instance-{i:06}:9100")),
            ("job", format!("job-{}", i % 10)),
        ];
        pairs.extend(le.map(|le| ("le", le)));
        Labels::from_pairs(pairs)
    };
    for i in 0..series {
        all.push(StoredSeries::floats(labels("m", i, None), samples(i)));
        all.push(StoredSeries::floats(labels("n", i, None), samples(i + 1)));
        let le = match i % 8 {
            7 => "+Inf".to_owned(),
            le => format!("{le}.5"),
        };
        let bucket = labels("b_bucket", i / 8, Some(le));
        all.push(StoredSeries::floats(bucket, samples(i)));
    }
    for i in 0..series / 16 {
        let mut native = StoredSeries::floats(labels("h", i, None), Vec::new());
        native.histograms = histograms(i);
        all.push(native);
        let info = Labels::from_pairs([
            ("__name__", "target_info".to_owned()),
            ("instance", format!("instance-{i:06}:9100")),
            ("job", format!("job-{}", i % 10)),
            ("version", format!("v{}", i % 3)),
        ]);
        all.push(StoredSeries::floats(info, samples(1)));
    }
    MemorySource::with_histograms(all)
}

/// A query of each operator, and whether it is asked at one time only.
pub const OPERATORS: &[(&str, bool)] = &[
    ("m", false),
    ("m", true),
    ("-m * 2 > 1", false),
    ("rate(m[5m])", false),
    ("quantile_over_time(0.9, m[10m])", false),
    ("double_exponential_smoothing(m[10m], 0.5, 0.5)", false),
    ("m[25m]", true),
    ("sum by (instance) (m)", false),
    ("avg by (instance) (m)", false),
    ("stddev by (instance, job) (m)", false),
    ("sum by (instance) (m)", true),
    ("sum(h)", false),
    ("sum by (instance) (h)", false),
    ("h * 2", false),
    ("sum_over_time(h[5m])", false),
    ("m + on (instance) n", false),
    ("m * on (job) group_left sum by (job) (n)", false),
    ("m / on (instance, job) group_right n", false),
    ("m and n", false),
    ("m or n", false),
    ("m unless on (job) n{job=\"job-1\"}", false),
    ("topk(1000, m)", false),
    ("bottomk by (instance) (1, m)", false),
    ("limitk(1000, m)", false),
    ("limit_ratio(0.5, m)", true),
    ("quantile by (instance) (0.5, m)", false),
    ("quantile(0.5, m)", false),
    ("count_values(\"v\", m)", false),
    ("count_values by (instance) (\"v\", m)", true),
    ("sort(m)", true),
    ("sort_by_label_desc(m, \"instance\")", true),
    ("histogram_quantile(0.9, b_bucket)", false),
    ("histogram_quantile(0.9, h)", false),
    ("histogram_fraction(0, 3, rate(h[5m]))", false),
    (
        "label_replace(m, \"x\", \"$1-$2\", \"instance\", \"(.*)-(.*):.*\")",
        false,
    ),
    ("label_join(m, \"x\", \"-\", \"instance\", \"job\")", false),
    ("abs({__name__=~\"m|nothing\"})", false),
    ("info(m)", false),
    ("absent(m)", false),
    ("m + scalar(sum(n))", false),
    ("max_over_time(m[10m:15s])", false),
    ("avg_over_time(max_over_time(m[5m:15s])[5m:30s])", false),
    ("m{instance=~\".*[13579]:.*|.*0{3}.*\"}", false),
    ("m @ 600", false),
    ("sum_over_time(vector(1)[10d:1s])", true),
    ("sum_over_time(vector(time() * 2)[10d:1s])", true),
];
