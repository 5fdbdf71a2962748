use chunk::{Chunker, HistogramRow, xor};
use model::histogram::{Buckets, FloatHistogram, Histogram};
use proptest::prelude::*;

use super::*;

type Points = Vec<(Millis, f64)>;

fn stale() -> f64 {
    f64::from_bits(0x7ff0_0000_0000_0002)
}

fn raw(chunks: &[&[(Millis, f64)]]) -> Vec<MergedChunk> {
    let encode = |samples: &&[(Millis, f64)]| {
        let mut encoder = xor::Encoder::new();
        for (ts, value) in samples.iter() {
            encoder.append(*ts, *value);
        }
        MergedChunk {
            min: samples[0].0,
            max: samples[samples.len() - 1].0,
            encoding: Encoding::XOR,
            data: encoder.into_bytes().into(),
        }
    };
    chunks.iter().map(encode).collect()
}

/// An aggregate chunk of the columns count, sum, min, max, counter.
fn aggregate_chunk(columns: [&[(Millis, f64)]; 5]) -> MergedChunk {
    let encoders = columns.map(|samples| {
        let mut encoder = xor::Encoder::new();
        for (ts, value) in samples {
            encoder.append(*ts, *value);
        }
        encoder
    });
    let ts = || columns[..4].iter().flat_map(|c| c.iter().map(|s| s.0));
    let parts = encoders
        .each_ref()
        .map(|e| (!e.is_empty()).then_some((Encoding::XOR, e.bytes())));
    MergedChunk {
        min: ts().min().unwrap_or(columns[4].first().map_or(0, |s| s.0)),
        max: ts().max().unwrap_or(columns[4].last().map_or(0, |s| s.0)),
        encoding: Encoding::AGGREGATE,
        data: aggregate::encode(parts).into(),
    }
}

fn made(chunks: &[MergedChunk], from: Millis, to: Millis) -> Vec<EncodedChunk> {
    let mut out = Vec::new();
    Downsampler::default()
        .series(chunks, from, to, &mut out)
        .unwrap();
    out
}

fn column(chunks: &[EncodedChunk], wanted: Aggregate) -> Vec<Columns> {
    chunks
        .iter()
        .map(|c| {
            let mut columns = Columns::default();
            for part in aggregate::parts(&c.data).map(Result::unwrap) {
                if part.aggregate == wanted {
                    chunk::decode(part.encoding, &c.data[part.range], &mut columns).unwrap();
                }
            }
            columns
        })
        .collect()
}

fn points(chunks: &[EncodedChunk], wanted: Aggregate) -> Vec<Points> {
    column(chunks, wanted)
        .iter()
        .map(|c| c.iter().collect())
        .collect()
}

const FIRST: &[(Millis, f64)] = &[
    (20, 1.0),
    (40, 2.0),
    (60, 3.0),
    (80, 1.0),
    (100, 2.0),
    (120, 5.0),
    (180, 10.0),
    (250, 1.0),
];

#[test]
fn raw_samples_become_windows() {
    let mut samples = FIRST.to_vec();
    samples.insert(5, (101, stale()));
    let out = made(&raw(&[&samples]), 0, 100);
    let [chunk] = out.as_slice() else {
        panic!("{out:?}");
    };
    assert_eq!((chunk.range, chunk.samples), (TimeRange::new(99, 250), 3));
    for (aggregate, want) in [
        (Aggregate::Count, vec![(99, 4.0), (199, 3.0), (250, 1.0)]),
        (Aggregate::Sum, vec![(99, 7.0), (199, 17.0), (250, 1.0)]),
        (Aggregate::Min, vec![(99, 1.0), (199, 2.0), (250, 1.0)]),
        (Aggregate::Max, vec![(99, 3.0), (199, 10.0), (250, 1.0)]),
        (
            Aggregate::Counter,
            vec![(20, 1.0), (99, 4.0), (199, 13.0), (250, 14.0), (250, 1.0)],
        ),
    ] {
        assert_eq!(points(&out, aggregate), [want], "{aggregate:?}");
    }
}

#[test]
fn windows_reach_across_raw_chunks() {
    let mut first = FIRST.to_vec();
    first.pop();
    first.push((250, 2.0));
    let second = [
        (260, 1.0),
        (300, 10.0),
        (340, 15.0),
        (380, 25.0),
        (420, 35.0),
    ];
    let third = [(460, stale()), (500, 10.0), (540, 3.0)];
    let out = made(&raw(&[&first, &second, &third]), 0, 100);
    for (aggregate, want) in [
        (Aggregate::Count, [4.0, 3.0, 2.0, 3.0, 1.0, 2.0]),
        (Aggregate::Sum, [7.0, 17.0, 3.0, 50.0, 35.0, 13.0]),
        (Aggregate::Min, [1.0, 2.0, 1.0, 10.0, 35.0, 3.0]),
        (Aggregate::Max, [3.0, 10.0, 2.0, 25.0, 35.0, 10.0]),
    ] {
        let ts = [99, 199, 299, 399, 499, 540];
        let want: Points = ts.into_iter().zip(want).collect();
        assert_eq!(points(&out, aggregate), [want], "{aggregate:?}");
    }
    assert_eq!(
        points(&out, Aggregate::Counter),
        [[
            (20, 1.0),
            (99, 4.0),
            (199, 13.0),
            (299, 16.0),
            (399, 40.0),
            (499, 50.0),
            (540, 63.0),
            (540, 3.0)
        ]]
    );

    // A chunk of nothing but NaN.
    let empty: Points = FIRST.iter().map(|(ts, _)| (*ts, f64::NAN)).collect();
    let out = made(&raw(&[&empty, &second, &third]), 0, 100);
    assert_eq!(
        points(&out, Aggregate::Counter),
        [[
            (260, 1.0),
            (299, 1.0),
            (399, 25.0),
            (499, 35.0),
            (540, 48.0),
            (540, 3.0)
        ]]
    );
    assert!(made(&raw(&[&empty]), 0, 100).is_empty());
}

#[test]
fn chunks_that_overlap_are_refused() {
    let chunks = raw(&[&[(0, 1.0), (50, 2.0)], &[(50, 1.0), (60, 2.0)]]);
    let e = Downsampler::default()
        .series(&chunks, 0, 100, &mut Vec::new())
        .unwrap_err();
    assert!(e.to_string().contains("found overlapping chunks"), "{e}");
}

#[test]
fn aggregates_are_aggregated() {
    let chunks = [
        aggregate_chunk([
            &[(199, 5.0), (299, 1.0), (399, 10.0), (400, 3.0), (499, 10.0)],
            &[(199, 5.0), (299, 1.0), (399, 10.0), (400, 3.0), (499, 10.0)],
            &[
                (199, 5.0),
                (299, 1.0),
                (399, 10.0),
                (400, -3.0),
                (499, 10.0),
            ],
            &[
                (199, 5.0),
                (299, 1.0),
                (399, 10.0),
                (400, -3.0),
                (499, 10.0),
            ],
            &[(99, 100.0), (299, 150.0), (499, 210.0), (499, 10.0)],
        ]),
        aggregate_chunk([
            &[(699, 0.0), (999, 100.0)],
            &[(699, 0.0), (999, 100.0)],
            &[(699, 0.0), (999, 100.0)],
            &[(699, 0.0), (999, 100.0)],
            &[(599, 20.0), (799, 50.0), (999, 120.0), (999, 50.0)],
        ]),
        aggregate_chunk([
            &[],
            &[],
            &[],
            &[],
            &[(1099, 40.0), (1199, 80.0), (1299, 110.0)],
        ]),
    ];
    let out = made(&chunks, 10, 500);
    assert_eq!(
        points(&out, Aggregate::Count),
        [[(499, 29.0), (999, 100.0)]]
    );
    assert_eq!(points(&out, Aggregate::Sum), [[(499, 29.0), (999, 100.0)]]);
    assert_eq!(points(&out, Aggregate::Min), [[(499, -3.0), (999, 0.0)]]);
    assert_eq!(points(&out, Aggregate::Max), [[(499, 10.0), (999, 100.0)]]);
    assert_eq!(
        points(&out, Aggregate::Counter),
        [[
            (99, 100.0),
            (499, 210.0),
            (999, 320.0),
            (1299, 430.0),
            (1299, 110.0)
        ]]
    );
}

#[test]
fn resets_at_the_borders_of_chunks_are_kept() {
    let chunks: [&[(Millis, f64)]; 4] = [
        &[(10, 1.0), (20, 3.0), (30, 5.0)],
        &[(50, 1.0), (60, 8.0), (70, 10.0)],
        &[(120, 1.0), (130, 18.0), (140, 20.0)],
        &[(160, 21.0), (170, 38.0), (180, 40.0)],
    ];
    let fine: Vec<EncodedChunk> = chunks
        .iter()
        .flat_map(|c| made(&raw(&[c]), 0, 50))
        .collect();
    assert_eq!(
        points(&fine, Aggregate::Counter).concat(),
        [
            (10, 1.0),
            (30, 5.0),
            (30, 5.0),
            (50, 1.0),
            (70, 10.0),
            (70, 10.0),
            (120, 1.0),
            (140, 20.0),
            (140, 20.0),
            (160, 21.0),
            (180, 40.0),
            (180, 40.0)
        ]
    );
    let iterated = |chunks: &[EncodedChunk]| -> Vec<f64> {
        let mut counter = aggregate::Counter::default();
        let mut out = Columns::default();
        for c in column(chunks, Aggregate::Counter) {
            counter.add(&c, &mut out);
        }
        out.values
    };
    assert_eq!(
        iterated(&fine),
        [1.0, 5.0, 6.0, 15.0, 16.0, 35.0, 36.0, 55.0]
    );
    let fine: Vec<MergedChunk> = fine.into_iter().map(MergedChunk::from).collect();
    let coarse: Vec<EncodedChunk> = fine
        .chunks(2)
        .flat_map(|pair| made(pair, 50, 100))
        .collect();
    assert_eq!(
        points(&coarse, Aggregate::Counter).concat(),
        [
            (10, 1.0),
            (70, 15.0),
            (70, 10.0),
            (120, 1.0),
            (180, 40.0),
            (180, 40.0)
        ]
    );
    assert_eq!(iterated(&coarse), [1.0, 15.0, 16.0, 55.0]);
}

#[test]
fn chunks_get_about_140_samples() {
    let count = |from: Millis, to: Millis, step, resolution, n| {
        chunk_count(TimeRange::new(from, to), step, resolution, n)
    };
    assert_eq!(count(0, 0, 60_000, 300_000, 1), 1);
    assert_eq!(count(0, 14 * 24 * HOUR_MS, 60_000, 300_000, 20_160), 29);
    assert_eq!(count(0, 14 * 24 * HOUR_MS, 60_000, 300_000, 201), 1);
    // Four chunks of 120 samples at twice the resolution: one chunk would be too much for 140 only
    // if they were dense.
    assert_eq!(count(0, 479 * 60_000, 60_000, 120_000, 480), 2);
}

const HOUR_MS: Millis = 3_600_000;

fn histogram(counts: &[f64]) -> FloatHistogram {
    FloatHistogram {
        schema: 1,
        zero_threshold: 0.01,
        count: counts.iter().sum(),
        sum: counts.iter().sum::<f64>() * 2.0,
        positive: Buckets::from_pairs((1..).zip(counts.iter().copied())),
        ..FloatHistogram::default()
    }
}

fn chunks_of(rows: impl IntoIterator<Item = (Millis, FloatHistogram)>) -> Vec<MergedChunk> {
    let mut chunker = Chunker::default();
    for (ts, value) in rows {
        let value = Histogram::Float(value);
        chunker
            .histogram(&HistogramRow {
                ts,
                start: 0,
                value,
            })
            .unwrap();
    }
    chunker
        .finish()
        .into_iter()
        .map(MergedChunk::from)
        .collect()
}

fn rows(chunks: &[EncodedChunk], wanted: Aggregate) -> Vec<(Millis, FloatHistogram)> {
    let all = column(chunks, wanted);
    let rows = all.iter().flat_map(|c| c.histograms.iter());
    rows.map(|(ts, row)| (ts, row.to_histogram())).collect()
}

#[test]
fn histograms_have_counts_sums_and_counters() {
    let given = [
        (10, histogram(&[1.0, 2.0])),
        (60, histogram(&[2.0, 2.0])),
        (110, histogram(&[3.0, 4.0])),
        // A reset inside a window.
        (160, histogram(&[1.0, 1.0])),
        (210, histogram(&[1.0, 3.0])),
    ];
    let out = made(&chunks_of(given), 0, 100);
    assert_eq!(
        points(&out, Aggregate::Count).concat(),
        [(99, 2.0), (199, 2.0), (210, 1.0)]
    );
    let sums = rows(&out, Aggregate::Sum);
    assert_eq!(sums[0].1.count, 7.0);
    assert_eq!(sums[1].1.positive.counts, [4.0, 5.0]);
    assert_eq!(sums[0].1.counter_reset, CounterReset::Gauge);
    let counters = rows(&out, Aggregate::Counter);
    let counts: Vec<f64> = counters.iter().map(|(_, h)| h.count).collect();
    assert_eq!(counts, [4.0, 9.0, 11.0]);
    assert_eq!(counters[2].1.positive.counts, [4.0, 7.0]);
    assert_eq!(counters[2].1.sum, 22.0);

    let again: Vec<MergedChunk> = out.into_iter().map(MergedChunk::from).collect();
    let coarse = made(&again, 100, 200);
    assert_eq!(
        points(&coarse, Aggregate::Count).concat(),
        [(199, 4.0), (210, 1.0)]
    );
    let counters = rows(&coarse, Aggregate::Counter);
    assert_eq!(counters[1].1.positive.counts, [4.0, 7.0]);
    assert_eq!(rows(&coarse, Aggregate::Sum)[0].1.count, 16.0);
}

#[test]
fn counters_of_histograms_go_on_across_chunks() {
    // So many that there are several chunks, with a reset in the first of them.
    let given = (0..2000i64).map(|i| {
        let n = if i < 10 { i + 100 } else { i - 10 } as f64;
        (i * 1000, histogram(&[n, 2.0 * n]))
    });
    let out = made(&chunks_of(given), 0, 3000);
    assert!(out.len() > 1, "{}", out.len());
    let counters = rows(&out, Aggregate::Counter);
    let last = &counters[counters.len() - 1].1;
    assert_eq!(last.positive.counts[0], 109.0 + 1989.0);
    assert!(
        counters.windows(2).all(|w| w[0].1.count <= w[1].1.count),
        "nothing falls"
    );
}

#[test]
fn layouts_are_brought_together() {
    let custom = |bounds: &[f64], counts: &[f64]| FloatHistogram {
        schema: CUSTOM_SCHEMA,
        count: counts.iter().sum(),
        sum: 1.0,
        positive: Buckets::from_pairs((0..).zip(counts.iter().copied())),
        custom_values: bounds.into(),
        ..FloatHistogram::default()
    };
    let given = [
        (10, custom(&[1.0, 2.0, 5.0], &[1.0, 1.0, 1.0, 1.0])),
        (60, custom(&[1.0, 5.0], &[2.0, 2.0, 1.0])),
        (110, custom(&[1.0, 5.0], &[2.0, 4.0, 1.0])),
    ];
    let out = made(&chunks_of(given), 0, 100);
    let counters = rows(&out, Aggregate::Counter);
    assert_eq!(counters[1].1.positive.counts, [2.0, 4.0, 1.0]);
    assert_eq!(*counters[1].1.custom_values, [1.0, 5.0]);
    assert_eq!(
        rows(&out, Aggregate::Sum)[0].1.positive.counts,
        [3.0, 4.0, 2.0]
    );

    // Another resolution and a wider zero bucket; then custom bounds, which are another chunk.
    let mut coarse = histogram(&[5.0, 9.0]);
    coarse.schema = 0;
    coarse.zero_threshold = 0.02;
    let given = [
        (10, histogram(&[1.0, 2.0])),
        (60, coarse),
        (110, custom(&[1.0], &[3.0])),
    ];
    let out = made(&chunks_of(given), 0, 100);
    assert_eq!(out.len(), 2);
    let counters = rows(&out, Aggregate::Counter);
    assert_eq!(
        (counters[0].1.schema, counters[0].1.zero_threshold),
        (0, 0.02)
    );
    assert_eq!(counters[1].1.count, 3.0);
}

proptest! {
    #[test]
    fn any_bytes_are_windows_or_an_error(
        chunks in prop::collection::vec((0u8..7, prop::collection::vec(any::<u8>(), 0..200)), 1..4),
        from in prop::sample::select(vec![0i64, 300_000]),
    ) {
        let chunks: Vec<MergedChunk> = chunks
            .into_iter()
            .enumerate()
            .map(|(i, (encoding, data))| MergedChunk {
                min: i as i64 * 10,
                max: i as i64 * 10 + 9,
                encoding: if encoding == 0 { Encoding::AGGREGATE } else { Encoding(encoding) },
                data: data.into(),
            })
            .collect();
        let _ = Downsampler::default().series(&chunks, from, 3_600_000, &mut Vec::new());
    }

    #[test]
    fn aggregates_are_what_a_plain_sum_says(
        steps in prop::collection::vec((1i64..400, -50i32..1000), 1..900),
        resolution in 50i64..5000,
        per_chunk in 1usize..200,
    ) {
        let mut at = 0;
        let samples: Points = steps
            .iter()
            .map(|(step, value)| {
                at += step;
                (at, if *value < 0 { f64::NAN } else { *value as f64 })
            })
            .collect();
        let chunks: Vec<&[(Millis, f64)]> = samples.chunks(per_chunk).collect();
        let fine = made(&raw(&chunks), 0, resolution);
        let live: Points = samples.iter().copied().filter(|s| !s.1.is_nan()).collect();

        let total = |a| points(&fine, a).concat().iter().map(|p| p.1).sum::<f64>();
        prop_assert_eq!(total(Aggregate::Count), live.len() as f64);
        prop_assert_eq!(total(Aggregate::Sum), live.iter().map(|s| s.1).sum::<f64>());
        for (i, (ts, min)) in points(&fine, Aggregate::Min).concat().into_iter().enumerate() {
            let in_window = |s: &&(Millis, f64)| window_end(s.0, resolution) == window_end(ts, resolution);
            let values = live.iter().filter(in_window).map(|s| s.1);
            prop_assert_eq!(min, values.clone().fold(f64::INFINITY, f64::min));
            let max = points(&fine, Aggregate::Max).concat()[i].1;
            prop_assert_eq!(max, values.fold(f64::NEG_INFINITY, f64::max));
        }
        prop_assert!(fine.windows(2).all(|w| w[0].range.max < w[1].range.min));

        // The counter rises by what the raw counter rises, in both resolutions.
        let rise = |values: &[f64]| {
            let mut last: Option<f64> = None;
            values.iter().fold(0.0, |sum, v| {
                let more = last.map_or(0.0, |l| if *v < l { *v } else { v - l });
                last = Some(*v);
                sum + more
            })
        };
        let values: Vec<f64> = live.iter().map(|s| s.1).collect();
        let read = |chunks: &[EncodedChunk]| {
            let mut counter = aggregate::Counter::default();
            let mut out = Columns::default();
            for c in column(chunks, Aggregate::Counter) {
                counter.add(&c, &mut out);
            }
            rise(&out.values)
        };
        prop_assert_eq!(read(&fine), rise(&values));
        let fine: Vec<MergedChunk> = fine.into_iter().map(MergedChunk::from).collect();
        let coarse = made(&fine, resolution, resolution * 12);
        prop_assert_eq!(read(&coarse), rise(&values));
        let total = |a| points(&coarse, a).concat().iter().map(|p| p.1).sum::<f64>();
        prop_assert_eq!(total(Aggregate::Count), live.len() as f64);
        prop_assert_eq!(total(Aggregate::Sum), live.iter().map(|s| s.1).sum::<f64>());
    }
}
