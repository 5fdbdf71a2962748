//! What the servers are asked about: two blocks of two hours, written with our own writer and
//! opened by everyone.
//!
//! Counters with resets, gauges with everything a float can be, classic histograms (a broken one
//! too), info metrics whose labels change; series born late, ended early, with gaps and stale
//! markers. Times are a multiple of 15 s plus up to half a second, so that a query at 0.777 s is
//! never on the sample grid.

use std::collections::BTreeMap;
use std::path::Path;

use block::{Chunk, Meta, Writer, index::SymbolSet};
use model::{Encoding, Labels, Millis, STALE_NAN, Sample, TimeRange};

use crate::random::Random;

/// The first sample's time at the earliest, ms.
pub const START: Millis = 1_699_999_200_000;
const BLOCK: Millis = 7_200_000;
/// The end of the last block, ms.
pub const END: Millis = START + 2 * BLOCK;
const INTERVAL: Millis = 15_000;

type Series = BTreeMap<Labels, Vec<Sample>>;

/// Writes the blocks into `dir`.
pub fn write(dir: &Path, seed: u64) {
    let all = series(seed);
    for (i, start) in [START, START + BLOCK].into_iter().enumerate() {
        let range = TimeRange::new(start, start + BLOCK - 1);
        let ulid = ulid::Ulid::from_parts(start as u64, u128::from(seed) << 8 | i as u128);
        let symbols = SymbolSet::collect(
            all.keys()
                .flat_map(|l| l.iter().flat_map(|(n, v)| [n, v]).collect::<Vec<_>>()),
        );
        let mut meta = Meta::new(ulid, range);
        meta.compaction.level = 2;
        let mut writer = Writer::create(dir, meta, symbols).unwrap();
        for (labels, samples) in &all {
            let inside: Vec<_> = samples.iter().filter(|s| range.contains(s.ts)).collect();
            let chunks: Vec<_> = inside
                .chunks(120)
                .map(|samples| {
                    let mut encoder = chunk::xor::Encoder::new();
                    samples.iter().for_each(|s| encoder.append(s.ts, s.value));
                    let ts = (samples[0].ts, samples[samples.len() - 1].ts);
                    (ts, encoder.bytes().to_vec())
                })
                .collect();
            let chunks: Vec<_> = chunks
                .iter()
                .map(|((min, max), data)| Chunk {
                    min: *min,
                    max: *max,
                    encoding: Encoding::XOR,
                    data,
                })
                .collect();
            writer.add_labels(labels, &chunks).unwrap();
        }
        writer.finish().unwrap();
    }
}

/// When a series has samples, and the markers where it ends.
fn times(random: &mut Random) -> Vec<(Millis, bool)> {
    let jitter = random.below(400) as Millis;
    let mut out = Vec::new();
    let mut at = START;
    if random.chance(25) {
        at += random.below(BLOCK as usize) as Millis / INTERVAL * INTERVAL;
    }
    let end = if random.chance(25) {
        END - random.below(BLOCK as usize) as Millis
    } else {
        END
    };
    let gaps = if random.chance(50) { 0 } else { 1 };
    while at < end {
        if gaps > 0 && random.chance(gaps) {
            let stale = random.chance(50);
            if stale {
                out.push((at + jitter, true));
            }
            at += INTERVAL * (2 + random.below(80) as Millis);
            continue;
        }
        let wobble = random.below(100) as Millis;
        out.push((at + jitter + wobble, false));
        at += INTERVAL;
    }
    if end < END && random.chance(70) {
        out.push((at + jitter, true));
    }
    out.retain(|(t, _)| *t < END);
    out
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn series(seed: u64) -> Series {
    let mut random = Random::new(seed);
    let mut all = Series::new();
    let mut add = |name: Labels, random: &mut Random, next: &mut dyn FnMut(&mut Random) -> f64| {
        let samples = times(random)
            .into_iter()
            .map(|(ts, stale)| Sample {
                ts,
                value: if stale { STALE_NAN } else { next(random) },
            })
            .collect();
        all.insert(name, samples);
    };
    let jobs = ["api", "db", "web"];
    for (j, job) in jobs.into_iter().enumerate() {
        for i in 0..4 {
            let instance = format!("{job}-{i}:9100");
            let who = [("job", job), ("instance", instance.as_str())];
            for (name, code) in [
                ("requests_total", "200"),
                ("requests_total", "500"),
                ("errors_total", "500"),
            ] {
                if name == "errors_total" && i == 3 {
                    continue;
                }
                let mut v = random.below(1000) as f64;
                let step = 1 + random.below(30);
                let whole = random.chance(50);
                let mut pairs = vec![("__name__", name), ("code", code)];
                pairs.extend(who);
                add(labels(&pairs), &mut random, &mut |r| {
                    if r.chance(1) {
                        v = r.below(3) as f64;
                    } else if !r.chance(20) {
                        v += r.below(step) as f64 + if whole { 0.0 } else { r.unit() };
                    }
                    v
                });
            }
            // A gauge: a walk, whole numbers (with ties), constants, or everything.
            let mut v = random.unit() * 100.0 - 30.0;
            let mut pairs = vec![("__name__", "temperature")];
            pairs.extend(who);
            add(labels(&pairs), &mut random, &mut |r| {
                v += r.unit() * 4.0 - 2.0;
                match (i, j) {
                    (1, _) => v.round(),
                    (2, 0) => 42.5,
                    (3, 2) if r.chance(10) => f64::NAN,
                    (3, 1) if r.chance(5) => f64::INFINITY,
                    (3, 1) if r.chance(5) => f64::NEG_INFINITY,
                    _ => v,
                }
            });
            if i != 2 {
                let mut pairs = vec![("__name__", "queue_length"), ("queue", "main")];
                pairs.extend(who);
                add(labels(&pairs), &mut random, &mut |r| r.below(6) as f64);
            }
            for version in ["1.2", "1.3"] {
                let mut pairs = vec![("__name__", "build_info"), ("version", version)];
                pairs.extend(who);
                if i % 2 == usize::from(version == "1.3") {
                    add(labels(&pairs), &mut random, &mut |_| 1.0);
                }
            }
            let mut pairs = vec![("__name__", "target_info"), ("env", ["a", "b"][i % 2])];
            pairs.extend(who);
            add(labels(&pairs), &mut random, &mut |_| 1.0);
        }
        let owner = ["ada", "bob", "eve"][j];
        let pairs = [("__name__", "job_info"), ("job", job), ("owner", owner)];
        add(labels(&pairs), &mut random, &mut |_| 1.0);
        // A classic histogram; of job `web` it is not monotonic, of job `db` it has no +Inf.
        let bounds = ["0.1", "0.5", "1", "2.5", "10", "+Inf"];
        let mut grown = random.clone();
        for (b, le) in bounds.into_iter().enumerate() {
            if job == "db" && le == "+Inf" {
                continue;
            }
            let pairs = [
                ("__name__", "latency_seconds_bucket"),
                ("job", job),
                ("le", le),
            ];
            let mut v = 0.0;
            // All buckets grow at the same times by comparable amounts.
            let mut random = Random::new(grown.next() | 1);
            add(labels(&pairs), &mut random, &mut |r| {
                v += (r.below(3) * (b + 1)) as f64;
                if job == "web" && r.chance(10) {
                    return v - 1.0;
                }
                v
            });
        }
        for part in ["latency_seconds_sum", "latency_seconds_count"] {
            let mut v = 0.0;
            let pairs = [("__name__", part), ("job", job)];
            add(labels(&pairs), &mut random, &mut |r| {
                v += r.below(9) as f64;
                v
            });
        }
    }
    for (i, name) in ["utf8.metric", "with space"].into_iter().enumerate() {
        let pairs = [("__name__", name), ("label.dotted", "é\n\"x\"")];
        add(labels(&pairs), &mut random, &mut |r| {
            (r.below(100) + i) as f64
        });
    }
    all.retain(|_, samples| !samples.is_empty());
    all
}
