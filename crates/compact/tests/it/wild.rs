//! Whatever lies in the bucket where metas, marks and claims lie, the compactor goes on.

use std::sync::Arc;

use bucket::Put;
use compact::Options;
use compact::retention::{Keep, Retention, SeriesRule};
use model::Matcher;
use proptest::prelude::*;
use serde_json::{Value, json};
use ulid::Ulid;

use crate::kit::*;

/// Numbers that computing with ends badly.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        prop::sample::select(vec![
            i64::MIN,
            i64::MAX,
            -1,
            0,
            1,
            HOUR,
            2 * HOUR,
            14 * DAY,
            9_223_372_036_854_775,
        ]),
        any::<i64>(),
        0i64..100 * HOUR,
    ]
}

fn meta(block: Ulid) -> impl Strategy<Value = Value> {
    let numbers = prop::collection::vec(number(), 6);
    let resolution = prop::sample::select(vec![0, 300_000, 3_600_000, -7]);
    let sources = prop::collection::vec(1u64..4, 0..3);
    (numbers, resolution, sources).prop_map(move |(n, resolution, sources)| {
        let sources: Vec<String> = sources
            .iter()
            .map(|n| Ulid::from_parts(*n, 0).to_string())
            .collect();
        json!({
            "ulid": block.to_string(), "minTime": n[0], "maxTime": n[1], "version": 1,
            "stats": {"numSamples": n[2].unsigned_abs(), "numTombstones": n[3].unsigned_abs(), "numSeries": 1},
            "compaction": {"level": n[4].unsigned_abs() as u32, "sources": sources, "failed": n[5] == 1},
            "thanos": {
                "version": 1, "labels": {"region": "eu"}, "downsample": {"resolution": resolution},
                "source": "compactor", "files": [{"rel_path": "index", "size_bytes": n[5].unsigned_abs()}],
                "extensions": {"epimetheus": {"block": block.to_string(), "replaces": sources.first()}},
            },
        })
    })
}

fn mark(block: Ulid) -> impl Strategy<Value = Value> {
    (number(), any::<bool>()).prop_map(move |(at, known)| {
        json!({
            "id": block.to_string(), "version": u8::from(known), "details": "x", "reason": "manual",
            "deletion_time": at, "no_compact_time": at, "no_downsample_time": at,
        })
    })
}

fn claims() -> impl Strategy<Value = Value> {
    (number(), number()).prop_map(|(since, expires)| {
        json!({
            "version": 1, "since": since,
            "claims": [{"owner": "x", "output": "y", "inputs": [Ulid::from_parts(1, 0).to_string(), "z"], "expires": expires}],
        })
    })
}

/// The text, of which a byte may be another one.
fn spoilt(value: Value, at: Option<(usize, u8)>) -> Vec<u8> {
    let mut text = value.to_string().into_bytes();
    if let Some((at, byte)) = at {
        let at = at % text.len();
        text[at] = byte;
    }
    text
}

fn spoil() -> impl Strategy<Value = Option<(usize, u8)>> {
    prop::option::weighted(0.2, (any::<usize>(), any::<u8>()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_compactor_goes_on(
        metas in [1u64, 2, 3].map(|n| (meta(Ulid::from_parts(n, 0)), spoil())),
        marks in [1u64, 2, 3].map(|n| (prop::option::of(mark(Ulid::from_parts(n, 0))), spoil())),
        file in prop::sample::select(vec!["deletion-mark.json", "no-compact-mark.json", "no-downsample-mark.json"]),
        claims in (claims(), spoil()),
    ) {
        run(async move {
            let bench = Bench::new(bucket::Bucket::in_memory());
            let put = async |key: String, text: Vec<u8>| {
                bench.bucket.put(&key, text.into(), Put::Overwrite).await.unwrap();
            };
            for (n, (value, at)) in metas.into_iter().enumerate() {
                let block = Ulid::from_parts(n as u64 + 1, 0);
                put(format!("{block}/meta.json"), spoilt(value, at)).await;
                put(format!("{block}/index"), vec![0xba, 0xaa, 0xd7, 0x00, 2]).await;
            }
            for (n, (value, at)) in marks.into_iter().enumerate() {
                let block = Ulid::from_parts(n as u64 + 1, 0);
                if let Some(value) = value {
                    put(format!("{block}/{file}"), spoilt(value, at)).await;
                }
            }
            for resolution in [0, 300_000, 3_600_000, -7] {
                let labels = model::Labels::from_pairs([("region", "eu")]);
                let key = compact::group::key(resolution, &labels);
                let text = spoilt(claims.0.clone(), claims.1);
                put(format!("epimetheus/compact/{key}.json"), text.clone()).await;
                put(format!("epimetheus/retention/{key}.json"), text).await;
            }
            let keep = Keep { raw: DAY, five_minutes: i64::MAX, hour: 1 };
            let options = Options {
                vertical: true,
                skip_out_of_order: true,
                retention: Retention {
                    default: Keep::default(),
                    rules: vec![(vec![Matcher::equal("region", "us")], keep)],
                    series: vec![Arc::new(SeriesRule {
                        blocks: Vec::new(),
                        series: vec![Matcher::equal("a", "b")],
                        text: "{a=\"b\"}".into(),
                        keep,
                    })],
                },
                ..bench.options()
            };
            let compactor = bench.compactor("a", options).await.unwrap();
            for _ in 0..2 {
                // What it cannot do, it says.
                let _ = compactor.iterate().await;
                compactor.tell(compactor.todo());
                bench.later(2 * HOUR);
            }
        });
    }
}
