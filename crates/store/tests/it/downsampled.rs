//! Downsampled blocks: which are chosen, and what comes of their columns.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use block::Meta;
use block::index::SymbolSet;
use block::meta::{Downsample, Thanos};
use chunk::xor::Encoder;
use chunk::{Columns, SeriesDecoder, Want, aggregate};
use model::source::Aggregate;
use model::{Encoding, Labels, Matcher, Millis, Rows, Sample, Scope, Select, Source, TimeRange};
use store::{GatewayOptions, ServeOptions};
use ulid::Ulid;

use crate::kit::{Place, Series, labels};
use crate::remote::wired;

const M5: Millis = 300_000;

/// The five columns of samples at `resolution`, as Thanos makes them.
fn columns(samples: &[Sample], resolution: Millis) -> [Vec<(Millis, f64)>; 5] {
    let mut windows: BTreeMap<Millis, Vec<&Sample>> = BTreeMap::new();
    for s in samples {
        let end = s.ts - s.ts.rem_euclid(resolution) + resolution - 1;
        windows.entry(end).or_default().push(s);
    }
    let last = samples.last().unwrap();
    let mut columns: [Vec<(Millis, f64)>; 5] = Default::default();
    let first = samples.first().unwrap();
    columns[4].push((first.ts, first.value));
    let (mut total, mut before) = (first.value, first.value);
    for (end, window) in windows {
        let ts = end.min(last.ts);
        let values = window.iter().map(|s| s.value);
        columns[0].push((ts, window.len() as f64));
        columns[1].push((ts, values.clone().sum()));
        columns[2].push((ts, values.clone().fold(f64::MAX, f64::min)));
        columns[3].push((ts, values.clone().fold(f64::MIN, f64::max)));
        for value in values {
            total += if value >= before {
                value - before
            } else {
                value
            };
            before = value;
        }
        if ts > first.ts {
            columns[4].push((ts, total));
        }
    }
    columns[4].push((last.ts, last.value));
    columns
}

/// Puts a block of downsampled series into a bucket.
fn add(
    place: &Place,
    n: u64,
    range: TimeRange,
    resolution: Millis,
    external: &Labels,
    all: &Series,
) {
    let dir = tempfile::tempdir().unwrap();
    let ulid = Ulid::from_parts(1_700_000_000_000 + n, 9);
    write(dir.path(), ulid, range, resolution, external, all);
    place.copy(&dir.path().join(ulid.to_string()), ulid);
}

fn write(
    parent: &Path,
    ulid: Ulid,
    range: TimeRange,
    resolution: Millis,
    external: &Labels,
    all: &Series,
) {
    let strings: BTreeSet<&str> = all
        .iter()
        .flat_map(|(l, _)| l.iter().flat_map(|(n, v)| [n, v]))
        .collect();
    let mut meta = Meta::new(ulid, range);
    meta.thanos = Some(Thanos {
        version: 1,
        labels: external
            .iter()
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect(),
        downsample: Downsample { resolution },
        source: "compactor".into(),
        ..Thanos::default()
    });
    let mut writer = block::Writer::create(parent, meta, SymbolSet::collect(strings)).unwrap();
    for (labels, samples) in all {
        let inside: Vec<Sample> = samples
            .iter()
            .filter(|s| range.contains(s.ts))
            .copied()
            .collect();
        let encoded = columns(&inside, resolution).map(|column| {
            let mut encoder = Encoder::new();
            column.iter().for_each(|(ts, v)| encoder.append(*ts, *v));
            encoder.bytes().to_vec()
        });
        let parts = encoded
            .each_ref()
            .map(|c| Some((Encoding::XOR, c.as_slice())));
        let data = aggregate::encode(parts);
        let chunk = block::Chunk {
            min: inside[0].ts,
            max: inside[inside.len() - 1].ts,
            encoding: Encoding::AGGREGATE,
            data: &data,
        };
        writer.add_labels(labels, &[chunk]).unwrap();
    }
    writer.finish().unwrap();
}

fn read(source: &dyn Source, select: Select, aggregate: Aggregate) -> Vec<(Labels, Columns)> {
    use futures::StreamExt as _;
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = source.open(Arc::clone(&scope)).unwrap();
    let range = select.range;
    let Rows::Stream(stream) = view.select(select) else {
        return Vec::new();
    };
    let batches: Vec<_> = crate::kit::RUNTIME.block_on(stream.collect());
    let mut found = Vec::new();
    let mut decoder = SeriesDecoder::new();
    for batch in batches {
        let batch = batch.unwrap();
        for i in 0..batch.len() {
            let mut out = Columns::default();
            let want = Want {
                aggregate,
                ..Want::raw(range)
            };
            decoder.decode(&batch, i, &want, &mut out).unwrap();
            found.push((batch.label_set(i, &scope.symbols), out));
        }
    }
    found
}

/// Six hours of a counter that starts over now and then, a sample every 30 s.
fn counter() -> Series {
    let samples = (0..720).map(|k| Sample {
        ts: k * 30_000,
        value: (k % 250) as f64 * 2.0,
    });
    vec![(
        labels(&[("__name__", "requests_total"), ("job", "a")]),
        samples.collect(),
    )]
}

fn select(range: TimeRange, resolution: Millis, aggregates: u8) -> Select {
    Select {
        max_resolution: resolution,
        aggregates,
        ..Select::new(vec![Matcher::equal("job", "a")], range)
    }
}

const HOUR: Millis = 3_600_000;

/// The first four hours at 5 minutes and raw, the last two raw only.
fn place() -> Place {
    let place = Place::disk();
    let external = labels(&[("cluster", "x")]);
    let all = counter();
    place.add(1, TimeRange::new(0, 4 * HOUR - 1), &external, &all);
    place.add(2, TimeRange::new(4 * HOUR, 6 * HOUR - 1), &external, &all);
    add(
        &place,
        3,
        TimeRange::new(0, 4 * HOUR - 1),
        M5,
        &external,
        &all,
    );
    place
}

#[test]
fn columns_of_downsampled_blocks_stand_where_there_are_some_and_raw_samples_elsewhere() {
    let place = place();
    let gateway = Arc::new(place.gateway(GatewayOptions::default()));
    let over_the_wire = wired(Arc::clone(&gateway) as _, ServeOptions::default(), false);
    let whole = TimeRange::new(0, 6 * HOUR - 1);
    let raw = &counter()[0].1;
    let old: Vec<Sample> = raw.iter().filter(|s| s.ts < 4 * HOUR).copied().collect();
    let [count, sum, min, max, _] = columns(&old, M5);
    let new = raw.iter().filter(|s| s.ts >= 4 * HOUR);
    let new: Vec<(Millis, f64)> = new.map(|s| (s.ts, s.value)).collect();
    let sources: [&dyn Source; 2] = [&*gateway, &over_the_wire];
    for source in sources {
        let expect = |bits: u8, aggregate, old: &[(Millis, f64)], new: &[(Millis, f64)]| {
            let found = read(source, select(whole, M5, bits), aggregate);
            let want: Columns = old.iter().chain(new).copied().collect();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].0.get("cluster"), Some("x"));
            assert_eq!(found[0].1, want, "{aggregate:?}");
        };
        let (c, s) = (Aggregate::Count as u8, Aggregate::Sum as u8);
        let ones: Vec<_> = new.iter().map(|(ts, _)| (*ts, 1.0)).collect();
        expect(c, Aggregate::Count, &count, &ones);
        expect(s, Aggregate::Sum, &sum, &new);
        expect(Aggregate::Min as u8, Aggregate::Min, &min, &new);
        expect(Aggregate::Max as u8, Aggregate::Max, &max, &new);
        let pairs = sum.iter().zip(&count);
        let mean: Vec<_> = pairs.map(|((ts, s), (_, n))| (*ts, s / n)).collect();
        expect(c | s, Aggregate::Raw, &mean, &new);
        // All of them at once, as shared selectors ask for them.
        expect(63, Aggregate::Raw, &mean, &new);

        // Counters have no resets, neither inside nor where the resolutions meet.
        let bits = Aggregate::Counter as u8;
        let found = read(source, select(whole, M5, bits), Aggregate::Counter);
        let mut total = 0.0;
        let rises = raw.windows(2).map(|w| match w[1].value - w[0].value {
            rise if rise >= 0.0 => rise,
            _ => w[1].value,
        });
        let mut truth = BTreeMap::from([(raw[0].ts, raw[0].value)]);
        for (sample, rise) in raw[1..].iter().zip(rises) {
            total += rise;
            truth.insert(sample.ts, total);
        }
        assert!(found[0].1.len() > 250);
        for (ts, value) in found[0].1.iter() {
            let at = truth.range(..=ts).next_back().unwrap().1;
            assert_eq!(value, *at, "at {ts}");
        }
    }
}

#[test]
fn whoever_wants_raw_samples_gets_nothing_else() {
    let place = place();
    let gateway = place.gateway(GatewayOptions::default());
    let whole = TimeRange::new(0, 6 * HOUR - 1);
    for resolution in [0, M5 - 1] {
        let bits = Aggregate::Count as u8 | Aggregate::Sum as u8;
        let found = read(&gateway, select(whole, resolution, bits), Aggregate::Raw);
        assert_eq!(found[0].1.len(), 720);
    }
    // Where only downsampled data is left, names are found in it.
    let place = Place::disk();
    let range = TimeRange::new(0, 4 * HOUR - 1);
    add(&place, 3, range, M5, &Labels::default(), &counter());
    let gateway = place.gateway(GatewayOptions::default());
    let view = gateway.open(Scope::unbounded(TimeRange::ALL)).unwrap();
    let names = view.label_names(model::LabelSelect {
        matchers: vec![Matcher::equal("job", "a")],
        range: TimeRange::ALL,
        limit: 0,
    });
    let names = crate::kit::RUNTIME.block_on(names).unwrap();
    assert_eq!(names.value.len(), 2);
    assert!(read(&gateway, select(range, 0, 1), Aggregate::Raw).is_empty());
}
