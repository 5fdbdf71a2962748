use std::collections::BTreeMap;

use model::{Encoding, Labels, Scope};
use proptest::prelude::*;

use super::*;
use crate::xor;

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

#[test]
fn a_broken_chunk_is_an_error() {
    let mut b = batch(&[(0, run(0..10, 1.5))]);
    b.chunks[0].len -= 3;
    let mut out = Columns::default();
    let want = Want::raw(TimeRange::ALL);
    assert!(SeriesDecoder::new().decode(&b, 0, &want, &mut out).is_err());
    b.chunks[0].offset = 1 << 30;
    assert!(SeriesDecoder::new().decode(&b, 0, &want, &mut out).is_err());
    b.chunks[0].encoding = Encoding::HISTOGRAM;
    let e = SeriesDecoder::new()
        .decode(&b, 0, &want, &mut out)
        .unwrap_err();
    assert_eq!(
        e.to_string(),
        "not implemented: reading native histogram chunks"
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
