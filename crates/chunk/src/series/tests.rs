use std::collections::BTreeMap;

use model::histogram::{CounterReset, Histogram, IntHistogram};
use model::{Encoding, Labels, Sample, Scope};
use proptest::prelude::*;

use super::*;
use crate::memory::StoredSeries;
use crate::{HistogramRow, xor};

/// A batch of one series; chunks as (lane, samples), in the order in which they are given.
fn batch(chunks: &[(u16, Vec<(i64, f64)>)]) -> SeriesBatch {
    let scope = Scope::unbounded(TimeRange::ALL);
    let mut batch = SeriesBatch::default();
    let mut buffer = Vec::new();
    scope
        .symbols
        .intern_labels(&Labels::from_pairs([("a", "b")]), &mut batch.labels);
    for (lane, samples) in chunks {
        let mut e = xor::Encoder::new();
        for &(t, v) in samples {
            e.append(t, v);
        }
        batch.chunks.push(ChunkRef {
            min: samples.iter().map(|s| s.0).min().unwrap_or(0),
            max: samples.iter().map(|s| s.0).max().unwrap_or(0),
            encoding: Encoding::XOR,
            aggregate: Aggregate::Raw,
            lane: *lane,
            buffer: 0,
            offset: buffer.len() as u32,
            len: e.bytes().len() as u32,
        });
        buffer.extend_from_slice(e.bytes());
    }
    batch.chunks.sort_by_key(|c| (c.lane, c.min, c.max));
    batch.buffers.push(buffer.into());
    batch.finish_series();
    batch
}

fn decode(batch: &SeriesBatch, min: i64, max: i64, dedup: Dedup) -> Columns {
    let mut out = Columns::default();
    let want = Want {
        dedup,
        ..Want::raw(TimeRange::new(min, max))
    };
    SeriesDecoder::new()
        .decode(batch, 0, &want, &mut out)
        .unwrap();
    out
}

fn run(ts: std::ops::Range<i64>, v: f64) -> Vec<(i64, f64)> {
    ts.map(|t| (t * 10, v)).collect()
}

#[test]
fn chunks_outside_the_range_stay_closed() {
    let b = batch(&[
        (0, run(0..10, 1.0)),
        (0, run(10..20, 2.0)),
        (0, run(20..30, 3.0)),
    ]);
    let mut out = Columns::default();
    let decoded = SeriesDecoder::new()
        .decode(&b, 0, &Want::raw(TimeRange::new(95, 150)), &mut out)
        .unwrap();
    assert_eq!(
        decoded,
        Decoded {
            chunks: 1,
            samples: 10
        }
    );
    assert_eq!(out.ts, [100, 110, 120, 130, 140, 150]);
    let none = SeriesDecoder::new()
        .decode(&b, 0, &Want::raw(TimeRange::new(295, 400)), &mut out)
        .unwrap();
    assert_eq!((none.chunks, out.len()), (0, 0));
}

#[test]
fn overlaps_in_a_lane_are_united_and_the_first_wins() {
    let b = batch(&[
        (0, vec![(10, 1.0), (30, 1.0), (50, 1.0)]),
        (0, vec![(20, 2.0), (30, 2.0), (40, 2.0)]),
        (0, vec![(20, 2.0), (30, 2.0), (40, 2.0)]),
        (0, vec![(25, 3.0)]),
    ]);
    let out = decode(&b, 0, 100, Dedup::Chain);
    assert_eq!(
        out,
        [
            (10, 1.0),
            (20, 2.0),
            (25, 3.0),
            (30, 1.0),
            (40, 2.0),
            (50, 1.0)
        ]
        .into_iter()
        .collect()
    );
}

#[test]
fn disorder_inside_a_chunk_is_mended() {
    let b = batch(&[
        (0, vec![(10, 1.0), (30, 3.0), (20, 2.0), (20, 9.0)]),
        (0, vec![(40, 4.0)]),
    ]);
    let out = decode(&b, 0, 100, Dedup::Chain);
    assert_eq!(out.ts, [10, 20, 30, 40]);
    assert_eq!(out.values, [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn lanes_are_deduplicated() {
    let b = batch(&[
        (0, vec![(10_000, 1.0), (20_000, 1.0), (30_000, 1.0)]),
        (3, vec![(11_000, 2.0), (21_000, 2.0), (31_000, 2.0)]),
    ]);
    let penalty = Dedup::Penalty { counter: false };
    assert_eq!(decode(&b, 0, 40_000, penalty).ts, [10_000, 20_000, 30_000]);
    assert_eq!(decode(&b, 0, 40_000, Dedup::Chain).len(), 6);
    // Clipped before replicas are chosen: lane 3 is all there is.
    assert_eq!(decode(&b, 30_500, 40_000, penalty).ts, [31_000]);
}

/// A batch of one series; chunks as (lane, series), in the order in which they are given.
fn stored(chunks: &[(u16, StoredSeries)]) -> SeriesBatch {
    let mut batch = batch(&[]);
    let mut buffer = Vec::new();
    batch.series.clear();
    for (lane, series) in chunks {
        for chunk in series.chunks() {
            batch.chunks.push(ChunkRef {
                min: chunk.range.min,
                max: chunk.range.max,
                encoding: chunk.encoding,
                aggregate: Aggregate::Raw,
                lane: *lane,
                buffer: 0,
                offset: buffer.len() as u32,
                len: chunk.data.len() as u32,
            });
            buffer.extend_from_slice(&chunk.data);
        }
    }
    batch.chunks.sort_by_key(|c| (c.lane, c.min, c.max));
    batch.buffers = vec![buffer.into()];
    batch.finish_series();
    batch
}

/// Histograms at these times, whose counts are the times, and floats at those.
fn both(histograms: &[i64], floats: &[i64]) -> StoredSeries {
    let histogram = |&ts: &i64| HistogramRow {
        ts,
        start: 0,
        value: Histogram::Int(IntHistogram {
            count: ts as u64,
            ..IntHistogram::default()
        }),
    };
    let float = |&ts: &i64| Sample {
        ts,
        value: ts as f64,
    };
    StoredSeries {
        floats: floats.iter().map(float).collect(),
        histograms: histograms.iter().map(histogram).collect(),
        ..StoredSeries::default()
    }
}

fn resets(columns: &Columns) -> Vec<(i64, CounterReset)> {
    let all = columns.histograms.iter();
    all.map(|(ts, h)| (ts, h.scalars.counter_reset)).collect()
}

#[test]
fn floats_and_histograms_of_a_lane_are_one_series() {
    use CounterReset::{NotReset, Unknown};
    // One after the other; then on top of each other, where the earlier chunk wins.
    let b = stored(&[(0, both(&[10, 20, 60, 70], &[30, 40]))]);
    let out = decode(&b, 15, 65, Dedup::Chain);
    assert_eq!(out.ts, [30, 40]);
    assert_eq!(resets(&out), [(20, NotReset), (60, Unknown)]);
    let b = stored(&[
        (0, both(&[10, 20, 30, 40], &[])),
        (0, both(&[], &[15, 30, 45])),
        (0, both(&[25, 30, 40, 50, 60], &[])),
    ]);
    let out = decode(&b, 0, 100, Dedup::Chain);
    assert_eq!(
        (out.ts.clone(), out.values.clone()),
        (vec![15, 45], vec![15.0, 45.0])
    );
    assert_eq!(
        resets(&out),
        [
            (10, Unknown),
            (20, Unknown),
            (25, Unknown),
            (30, Unknown),
            (40, NotReset),
            (50, Unknown),
            (60, NotReset),
        ]
    );
    let counts: Vec<f64> = out
        .histograms
        .iter()
        .map(|(_, h)| h.scalars.count)
        .collect();
    assert_eq!(counts, [10.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0]);
}

#[test]
fn lanes_with_histograms_are_deduplicated() {
    use CounterReset::{NotReset, Unknown};
    let b = stored(&[
        (0, both(&[10_000, 20_000, 30_000, 90_000], &[100_000])),
        (
            1,
            both(
                &[11_000, 21_000, 31_000, 41_000, 51_000, 61_000, 71_000],
                &[101_000],
            ),
        ),
    ]);
    let out = decode(&b, 0, 200_000, Dedup::Penalty { counter: true });
    assert_eq!(
        resets(&out),
        [
            (10_000, Unknown),
            (20_000, NotReset),
            (30_000, NotReset),
            (51_000, Unknown),
            (61_000, NotReset),
            (71_000, NotReset),
        ]
    );
    assert_eq!(
        (out.ts.clone(), out.values.clone()),
        (vec![100_000], vec![100_000.0])
    );
    let out = decode(&b, 0, 200_000, Dedup::Chain);
    assert_eq!((out.histograms.len(), out.len()), (11, 2));
}

#[test]
fn counter_columns_are_added_up() {
    let mut b = batch(&[
        (0, vec![(10, 1.0), (20, 9.0), (20, 2.0)]),
        (0, vec![(30, 5.0), (40, 6.0), (40, 6.0)]),
        (0, vec![(50, 1.0), (60, 2.0)]),
    ]);
    b.chunks[0].aggregate = Aggregate::Counter;
    b.chunks[1].aggregate = Aggregate::Counter;
    let want = Want {
        aggregate: Aggregate::Counter,
        ..Want::raw(TimeRange::new(15, 100))
    };
    let mut out = Columns::default();
    SeriesDecoder::new().decode(&b, 0, &want, &mut out).unwrap();
    let added = [(20, 9.0), (30, 12.0), (40, 13.0), (50, 14.0), (60, 15.0)];
    assert_eq!(out, added.into_iter().collect());
}

#[test]
fn a_broken_chunk_is_an_error() {
    let mut b = batch(&[(0, run(0..10, 1.5))]);
    b.chunks[0].len -= 3;
    let mut out = Columns::default();
    let want = Want::raw(TimeRange::ALL);
    assert!(SeriesDecoder::new().decode(&b, 0, &want, &mut out).is_err());
    b.chunks[0].offset = 1 << 30;
    assert!(SeriesDecoder::new().decode(&b, 0, &want, &mut out).is_err());
    b.chunks[0].encoding = Encoding::AGGREGATE;
    let e = SeriesDecoder::new()
        .decode(&b, 0, &want, &mut out)
        .unwrap_err();
    assert_eq!(
        e.to_string(),
        "not implemented: reading whole aggregate chunks"
    );
}

proptest! {
    #[test]
    fn one_lane_is_a_map(
        chunks in prop::collection::vec(prop::collection::btree_map(0i64..500, 0i32..5, 1..40), 0..8),
        min in 0i64..500,
        len in 0i64..500,
    ) {
        let lists: Vec<(u16, Vec<(i64, f64)>)> = chunks
            .iter()
            .map(|m| (0, m.iter().map(|(t, v)| (*t, *v as f64)).collect()))
            .collect();
        let b = batch(&lists);
        let mut in_order: Vec<_> = lists.iter().map(|(_, s)| s).collect();
        in_order.sort_by_key(|s| (s[0].0, s[s.len() - 1].0));
        let mut want = BTreeMap::new();
        for (t, v) in in_order.into_iter().flatten() {
            if (min..=min + len).contains(t) {
                want.entry(*t).or_insert(*v);
            }
        }
        let out = decode(&b, min, min + len, Dedup::Penalty { counter: false });
        // A chunk that does not reach into the range is not opened; equal ones make no difference.
        prop_assert_eq!(out, want.into_iter().collect::<Columns>());
    }
}
