use std::sync::Arc;

use futures::executor::block_on;
use model::histogram::{
    CUSTOM_SCHEMA, CounterReset, FloatHistogram, Histogram, IntBuckets, IntHistogram,
};
use model::sink::{Column, HistogramSample};
use model::{
    Batch, Labels, Matcher, Millis, Reject, STALE_NAN, Sample, Scope, Select, SeriesRef,
    SeriesRows, Sink, SinkError, Source, TimeRange, is_stale,
};

use super::collect_columns;
use crate::memory::StoredSeries;
use crate::{Columns, HistogramRow};

/// When the checks' samples begin: any time will do, as long as it is later than a sink's own
/// beginning.
const START: Millis = 1_700_000_000_000;

/// Checks that what `make` builds of some series with histograms gives them back as a
/// `model::Source` must. `name` is put before every failure.
pub fn histogram_source(name: &str, make: impl Fn(Vec<StoredSeries>) -> Arc<dyn Source>) {
    for (what, series) in [
        ("integer histograms", vec![stored("int", counter(300, int))]),
        (
            "float histograms",
            vec![stored("float", counter(300, float))],
        ),
        ("resets", vec![stored("resets", resets())]),
        ("gauges", vec![stored("gauge", gauges())]),
        ("custom buckets", vec![stored("custom", custom())]),
        ("stale markers", vec![stored("stale", stale())]),
        ("both kinds", vec![stored("kinds", kinds())]),
        ("floats and histograms", vec![mixed()]),
        (
            "many series",
            vec![
                stored("int", counter(20, int)),
                stored("float", counter(20, float)),
                mixed(),
                stored("custom", custom()),
            ],
        ),
    ] {
        let name = format!("{name}: {what}");
        let source = make(series.clone());
        let all = TimeRange::ALL;
        let last = series
            .iter()
            .flat_map(|s| s.histograms.last())
            .map(|h| h.ts);
        let last = last.max().unwrap_or(START);
        let part = TimeRange::new(START + (last - START) / 3, last - (last - START) / 3);
        for range in [all, part] {
            let scope = Scope::unbounded(all);
            let view = source.open(Arc::clone(&scope));
            let view = view.unwrap_or_else(|e| panic!("{name}: open: {e}"));
            let select = Select::new(vec![Matcher::equal("absent", "")], range);
            let got = collect_columns(view.select(select), &scope, range);
            let got = got.unwrap_or_else(|e| panic!("{name}: {e}"));
            let inside = |s: &&StoredSeries| {
                s.floats.iter().any(|s| range.contains(s.ts))
                    || s.histograms.iter().any(|h| range.contains(h.ts))
            };
            let want: Vec<&StoredSeries> = series.iter().filter(inside).collect();
            assert_eq!(got.len(), want.len(), "{name}: {:?}", got.keys());
            for one in want {
                let got = got.get(&one.labels);
                let got = got.unwrap_or_else(|| panic!("{name}: no {}", one.labels));
                check(&name, got, one, range);
            }
        }
    }
}

/// Compares decoded samples with those that were given.
fn check(name: &str, got: &Columns, want: &StoredSeries, range: TimeRange) {
    let inside = want.floats.iter().filter(|s| range.contains(s.ts));
    let floats: Vec<Sample> = inside.copied().collect();
    assert!(
        super::same_samples(&got.samples(), &floats),
        "{name}: floats {:?}, expected {floats:?}",
        got.samples()
    );
    let rows = want.histograms.iter().filter(|h| range.contains(h.ts));
    let rows: Vec<&HistogramRow> = rows.collect();
    let times: Vec<Millis> = rows.iter().map(|h| h.ts).collect();
    assert_eq!(got.histograms.ts, times, "{name}: times of histograms");
    for ((ts, h), row) in got.histograms.iter().zip(rows) {
        assert_eq!(
            plain(h.to_histogram()),
            plain(row.value.to_float()),
            "{name}: the histogram at {ts}"
        );
        let gauge = row.value.to_float().counter_reset == CounterReset::Gauge;
        let is_gauge = h.scalars.counter_reset == CounterReset::Gauge;
        assert!(
            gauge == is_gauge || is_stale(row.value.sum()),
            "{name}: gauge or counter at {ts}"
        );
    }
}

/// Without what is known of resets and without empty buckets, which a chunk may add.
fn plain(mut h: FloatHistogram) -> FloatHistogram {
    if is_stale(h.sum) {
        return FloatHistogram {
            count: -1.0,
            ..FloatHistogram::default()
        };
    }
    h.counter_reset = CounterReset::Unknown;
    h.compact();
    h
}

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", "h"), ("kind", name)])
}

fn stored(name: &str, histograms: Vec<HistogramRow>) -> StoredSeries {
    StoredSeries::histograms(labels(name), histograms)
}

fn row(i: usize, value: Histogram) -> HistogramRow {
    HistogramRow {
        ts: START + i as i64 * 15_000,
        start: 0,
        value,
    }
}

/// A counter after `i` scrapes: buckets grow, and new ones come.
fn int(i: usize) -> Histogram {
    let i = i as i64;
    let positive = (0..4 + i as i32 / 50).map(|b| (b * 2 - 3, i * (b as i64 + 1)));
    let positive = IntBuckets::from_pairs(positive);
    let negative = IntBuckets::from_pairs([(0, i / 2), (1, i / 3)]);
    let count = positive.counts().sum::<i64>() + negative.counts().sum::<i64>() + i / 10;
    Histogram::Int(IntHistogram {
        schema: 2,
        zero_threshold: 2.938_735_877_055_719e-39,
        zero_count: (i / 10) as u64,
        count: count as u64,
        sum: i as f64 * 18.5,
        positive,
        negative,
        ..IntHistogram::default()
    })
}

fn float(i: usize) -> Histogram {
    let mut h = int(i).to_float();
    h.positive.counts.iter_mut().for_each(|c| *c += 0.25);
    h.count += h.positive.counts.len() as f64 * 0.25;
    Histogram::Float(h)
}

fn counter(n: usize, make: fn(usize) -> Histogram) -> Vec<HistogramRow> {
    (0..n).map(|i| row(i, make(i))).collect()
}

fn resets() -> Vec<HistogramRow> {
    (0..100).map(|i| row(i, int(i % 30))).collect()
}

fn gauges() -> Vec<HistogramRow> {
    let gauge = |i: usize| {
        let at = [3, 90, 10, 0, 160][i % 5];
        let Histogram::Int(mut h) = int(at) else {
            return int(at);
        };
        h.counter_reset = CounterReset::Gauge;
        Histogram::Int(h)
    };
    (0..60).map(|i| row(i, gauge(i))).collect()
}

fn custom() -> Vec<HistogramRow> {
    let bounds = |i: usize| -> Arc<[f64]> {
        match i < 30 {
            true => [0.005, 0.1, 2.5, 1e9].into(),
            false => [0.005, 0.1, 2.5].into(),
        }
    };
    let one = |i: usize| {
        let positive = IntBuckets::from_pairs((0..4).map(|b| (b, i as i64 * (b as i64 + 1))));
        Histogram::Int(IntHistogram {
            schema: CUSTOM_SCHEMA,
            count: positive.counts().sum::<i64>() as u64,
            sum: i as f64,
            positive,
            custom_values: bounds(i),
            ..IntHistogram::default()
        })
    };
    (0..60).map(|i| row(i, one(i))).collect()
}

fn stale() -> Vec<HistogramRow> {
    let marker = |h: Histogram| match h {
        Histogram::Int(_) => Histogram::Int(IntHistogram {
            sum: STALE_NAN,
            ..IntHistogram::default()
        }),
        Histogram::Float(_) => Histogram::Float(FloatHistogram {
            sum: STALE_NAN,
            ..FloatHistogram::default()
        }),
    };
    let one = |i: usize| match i % 7 {
        4 => marker(int(i)),
        _ => int(i),
    };
    let mut rows: Vec<_> = (0..50).map(|i| row(i, one(i))).collect();
    rows.push(row(50, marker(float(0))));
    rows
}

fn kinds() -> Vec<HistogramRow> {
    let one = |i: usize| match i / 10 % 2 {
        0 => int(i),
        _ => float(i),
    };
    (0..50).map(|i| row(i, one(i))).collect()
}

fn mixed() -> StoredSeries {
    let mut one = stored("mixed", Vec::new());
    for i in 0..200 {
        match i / 33 % 2 {
            0 => one.histograms.push(row(i, int(i))),
            _ => one.floats.push(Sample {
                ts: row(i, int(i)).ts,
                value: i as f64,
            }),
        }
    }
    one
}

/// Checks that what `make` builds takes histograms as a `model::Sink` must. `read` gives everything
/// that a sink holds. `name` is put before every failure.
pub fn histogram_sink<S: Sink>(
    name: &str,
    make: impl Fn() -> S,
    read: impl Fn(&S) -> Vec<StoredSeries>,
) {
    let resolve = |sink: &S, series: &[StoredSeries]| -> Vec<SeriesRef> {
        let labels = series.iter().map(|s| s.labels.clone()).collect();
        block_on(sink.resolve(SeriesRows { labels }))
            .unwrap_or_else(|e| panic!("{name}: resolve: {e}"))
    };
    // Scrape by scrape, as they come.
    let series = vec![
        stored("int", counter(250, int)),
        stored("float", counter(250, float)),
        stored("resets", resets()),
        stored("gauge", gauges()),
        stored("custom", custom()),
        stored("stale", stale()),
        stored("kinds", kinds()),
        mixed(),
    ];
    let sink = make();
    let refs = resolve(&sink, &series);
    for i in 0..250 {
        let ts = START + i * 15_000;
        let mut batch = Batch::default();
        for (one, &series) in series.iter().zip(&refs) {
            for s in one.floats.iter().filter(|s| s.ts == ts) {
                batch.push(series, s.ts, s.value);
            }
            for h in one.histograms.iter().filter(|h| h.ts == ts) {
                batch.histograms.push(sample(series, h));
            }
        }
        let (floats, histograms) = (batch.len(), batch.histograms.len());
        let took = block_on(sink.append(batch));
        let took = took.unwrap_or_else(|e| panic!("{name}: append: {e}"));
        assert_eq!(
            (took.samples, took.histograms, took.rejected),
            (floats, histograms, vec![]),
            "{name}: scrape {i}"
        );
        assert!(took.batch.is_empty(), "{name}: the batch comes back empty");
    }
    let held = read(&sink);
    for one in &series {
        let found = held.iter().find(|s| s.labels == one.labels);
        let found = found.unwrap_or_else(|| panic!("{name}: {} is not held", one.labels));
        let mut columns: Columns = found.floats.iter().map(|s| (s.ts, s.value)).collect();
        for h in &found.histograms {
            columns.histograms.push_histogram(h.ts, &h.value.to_float());
        }
        check(name, &columns, one, TimeRange::ALL);
    }

    rejections(name, &make(), resolve);
}

fn sample(series: SeriesRef, h: &HistogramRow) -> HistogramSample {
    HistogramSample {
        series,
        ts: h.ts,
        start: h.start,
        value: h.value.clone(),
    }
}

fn rejections<S: Sink>(
    name: &str,
    sink: &S,
    resolve: impl Fn(&S, &[StoredSeries]) -> Vec<SeriesRef>,
) {
    let r = resolve(sink, &[stored("a", vec![]), stored("b", vec![])]);
    let append = |rows: &[(SeriesRef, usize, Histogram)], floats: &[(SeriesRef, usize)], atomic| {
        let mut batch = Batch {
            atomic,
            ..Batch::default()
        };
        for (series, i, h) in rows {
            batch.histograms.push(sample(*series, &row(*i, h.clone())));
        }
        for (series, i) in floats {
            batch.push(*series, row(*i, int(0)).ts, 1.0);
        }
        block_on(sink.append(batch))
    };
    let took = append(&[(r[0], 10, int(10)), (r[1], 10, float(10))], &[], false);
    let took = took.unwrap_or_else(|e| panic!("{name}: append: {e}"));
    assert_eq!((took.histograms, took.rejected.len()), (2, 0), "{name}");
    // The same again is no new sample and no error.
    let took = append(&[(r[0], 10, int(10))], &[], false);
    let took = took.unwrap_or_else(|e| panic!("{name}: append: {e}"));
    assert!(
        took.rejected.is_empty(),
        "{name}: the same again: {:?}",
        took.rejected
    );
    let rows = [
        (r[0], 10, int(11)),
        (r[0], 9, int(9)),
        (r[0], 10, float(10)),
        (r[1], 11, float(11)),
    ];
    let took = append(&rows, &[(r[0], 10), (r[0], 9)], false);
    let took = took.unwrap_or_else(|e| panic!("{name}: append: {e}"));
    assert_eq!((took.samples, took.histograms), (0, 1), "{name}");
    let mut rejected: Vec<_> = took
        .rejected
        .iter()
        .map(|r| (r.column, r.row, r.reason))
        .collect();
    rejected.sort_by_key(|r| (r.0 != Column::Floats, r.1));
    assert_eq!(
        rejected,
        [
            (Column::Floats, 0, Reject::Duplicate),
            (Column::Floats, 1, Reject::OutOfOrder),
            (Column::Histograms, 0, Reject::Duplicate),
            (Column::Histograms, 1, Reject::OutOfOrder),
            (Column::Histograms, 2, Reject::Duplicate),
        ],
        "{name}"
    );
    // All or nothing.
    let rows = [(r[1], 12, float(12)), (r[0], 9, int(9))];
    match append(&rows, &[(r[0], 13)], true) {
        Err(SinkError::Rejected(rejected)) => assert_eq!(
            (rejected.column, rejected.row, rejected.reason),
            (Column::Histograms, 1, Reject::OutOfOrder),
            "{name}"
        ),
        other => panic!("{name}: an atomic batch: {other:?}"),
    }
    let took = append(&[(r[1], 12, float(12))], &[], true);
    assert!(
        took.is_ok_and(|t| t.histograms == 1),
        "{name}: nothing was taken before"
    );
}
