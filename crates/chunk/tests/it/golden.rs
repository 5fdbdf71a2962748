//! Chunks whose bytes stay. Every one of them is what Prometheus 3.14 writes for the same samples.

use std::sync::Arc;

use chunk::histogram::{self, Encoder, Outcome};
use chunk::{Columns, HistogramRow, xor, xor2};
use model::histogram::{
    CUSTOM_SCHEMA, CounterReset, FloatHistogram, Histogram, IntBuckets, IntHistogram,
};
use model::{Encoding, STALE_NAN};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
    (0..hex.len()).step_by(2).map(digits).collect()
}

const FLOATS: [(i64, i64, f64); 9] = [
    (1_700_000_000_000, 1_699_999_000_000, 1.0),
    (1_700_000_015_000, 1_699_999_000_000, 1.0),
    (1_700_000_030_000, 1_699_999_000_000, 2.5),
    (1_700_000_045_003, 1_699_999_000_000, 2.5),
    (1_700_000_060_000, 1_700_000_050_000, 100.0),
    (1_700_000_075_000, 1_700_000_050_000, -0.1),
    (1_700_000_090_000, 1_700_000_050_000, STALE_NAN),
    (1_700_000_205_000, 0, 7.0),
    (1_800_000_000_000, 0, f64::INFINITY),
];

#[test]
fn floats() {
    let mut plain = xor::Encoder::new();
    let mut started = xor2::Encoder::new();
    for (ts, start, value) in FLOATS {
        plain.append(ts, value);
        started.append(ts, start, value);
    }
    for (encoding, chunk, want) in [
        (Encoding::XOR, plain.bytes(), XOR),
        (Encoding::XOR2, started.bytes(), XOR2),
    ] {
        assert_eq!(hex(chunk), want);
        let mut columns = Columns::default();
        chunk::decode(encoding, &bytes(want), &mut columns).unwrap();
        for (i, (ts, start, value)) in FLOATS.into_iter().enumerate() {
            assert_eq!(
                (columns.ts[i], columns.values[i].to_bits()),
                (ts, value.to_bits())
            );
            assert_eq!(
                columns.start(i),
                if encoding == Encoding::XOR2 { start } else { 0 }
            );
        }
    }
}

/// A counter that gets new buckets, is restarted, and ends.
fn counter() -> Vec<HistogramRow> {
    let at = |i: i64, start: i64, buckets: &[(i32, i64)], sum: f64| {
        let positive = IntBuckets::from_pairs(buckets.iter().copied().filter(|b| b.0 > 0));
        let negative = IntBuckets::from_pairs(buckets.iter().copied().filter(|b| b.0 <= 0));
        let count = positive.counts().sum::<i64>() + negative.counts().sum::<i64>() + i / 2;
        HistogramRow {
            ts: 1_700_000_000_000 + i * 15_000,
            start,
            value: Histogram::Int(IntHistogram {
                schema: 3,
                zero_threshold: 2.938_735_877_055_719e-39,
                zero_count: (i / 2) as u64,
                count: count as u64,
                sum,
                positive,
                negative,
                ..IntHistogram::default()
            }),
        }
    };
    let started = 1_699_999_000_000;
    let restarted = 1_700_000_050_000;
    vec![
        at(0, started, &[(1, 5), (2, 1)], 6.5),
        at(1, started, &[(1, 6), (2, 1)], 7.5),
        at(2, started, &[(-4, 1), (1, 6), (2, 1), (7, 300)], 700.25),
        at(
            3,
            started,
            &[(-4, 1), (1, 9), (2, 100_000), (7, 301)],
            9000.0,
        ),
        at(4, restarted, &[(1, 2)], 2.5),
        at(5, restarted, &[(1, 2), (2, 0)], f64::NAN),
        at(6, restarted, &[], STALE_NAN),
    ]
}

fn floats_of(rows: Vec<HistogramRow>) -> Vec<HistogramRow> {
    let float = |row: HistogramRow| HistogramRow {
        value: Histogram::Float(match row.value.sum().to_bits() == STALE_NAN.to_bits() {
            true => FloatHistogram {
                sum: STALE_NAN,
                ..FloatHistogram::default()
            },
            false => row.value.to_float(),
        }),
        ..row
    };
    rows.into_iter().map(float).collect()
}

/// A gauge with custom buckets.
fn custom_gauge() -> Vec<HistogramRow> {
    let bounds: Arc<[f64]> = [-1.0, 0.005, 0.1, 2.5, 33_554.43, 33_554.431, 1e100].into();
    let at = |i: i64, buckets: &[(i32, i64)]| {
        let positive = IntBuckets::from_pairs(buckets.iter().copied());
        HistogramRow {
            ts: 1_700_000_000_000 + i * 15_000,
            start: 0,
            value: Histogram::Int(IntHistogram {
                counter_reset: CounterReset::Gauge,
                schema: CUSTOM_SCHEMA,
                count: positive.counts().sum::<i64>() as u64,
                sum: 0.25,
                positive,
                custom_values: Arc::clone(&bounds),
                ..IntHistogram::default()
            }),
        }
    };
    vec![
        at(0, &[(0, 5), (3, 1)]),
        at(1, &[(3, 7), (4, 2)]),
        at(2, &[(7, 1)]),
        at(3, &[(0, 1 << 40)]),
    ]
}

#[test]
fn histograms() {
    for (rows, starts, want) in [
        (counter(), false, COUNTER),
        (counter(), true, COUNTER_ST),
        (floats_of(counter()), false, FLOAT_COUNTER),
        (floats_of(counter()), true, FLOAT_COUNTER_ST),
        (custom_gauge(), false, CUSTOM_GAUGE),
        (floats_of(custom_gauge()), false, FLOAT_CUSTOM_GAUGE),
    ] {
        let mut e = Encoder::new(&rows[0].value, starts);
        let mut chunks = Vec::new();
        for row in &rows {
            if let Outcome::Cut(chunk) = e.append(row.ts, row.start, &row.value).unwrap() {
                chunks.push(hex(&chunk));
            }
        }
        let encoding = e.encoding();
        chunks.push(hex(e.bytes()));
        assert_eq!(chunks, want, "{encoding:?}");

        let read = want
            .iter()
            .flat_map(|c| histogram::rows(encoding, &bytes(c)).unwrap());
        for (row, read) in rows.iter().zip(read) {
            assert_eq!(row.ts, read.ts);
            assert_eq!(read.start, if starts { row.start } else { 0 });
            let (mut row, mut read) = (row.value.to_float(), read.value.to_float());
            assert_eq!(row.sum.to_bits(), read.sum.to_bits());
            if row.sum.to_bits() != STALE_NAN.to_bits() {
                (row.counter_reset, row.sum) = (read.counter_reset, 0.0);
                read.sum = 0.0;
                row.compact();
                read.compact();
                assert_eq!(row, read);
            }
        }
    }
}

const XOR: &str = "000980a0abfef9623ff00000000000009875309bffd80035ffd691eec001e0ffff8266666666666a\
    c049999999999999c30d411ff6000000000001f00000017487206008ffb0000000000000";
const XOR2: &str = "00098480a0abfef9623ff000000000000080897a9875509bffdc0036ffd648f77efb1ef000f03fff\
    e099999999999bf0752bff83a98e186a0bfe9666666666666ff0000c5e7f332f4780000005d21c81\
    8023fec000000000001f382700";
const COUNTER: &[&str] = &[
    "000400749ca518d231de7f0000c5e7f2b40058803400000000000185de5df0753116d071b8f096c7\
     41f37c6f1f09645f30aeb7911dcfe61a73e9e0dae0",
    "000380749c6517f0000c5e7f3293052480080000000000012b7c1d4c188cfff06cce000000000000\
     80",
];
const COUNTER_ST: &[&str] = &[
    "000480749ca518d231de7f0000c5e7f2b40058803400000000000185de5d0112f5f0753116d071b8\
     f096c741f37c6f1f09645f30aeb7911dcfe61a73e9e0dae0",
    "800380749c6517f0000c5e7f3293052480080000000000012b504e00fc1d4c188cfff06cce000000\
     00000080",
];
const FLOAT_COUNTER: &[&str] = &[
    "000400749ca518d231de7f0000c5e7f2b400200c0000000000000000000000000000200d00000000\
     0000200a0000000000001ff8000000000000000000000000000000000000000000007c1d4c6d06da\
     0f6058692f7ae22bffd07cdf130a301cbc457fed08c596d223bd42f70adfc21af306",
    "000380749c6517f0000c5e7f32930200800000000000020000000000000002002000000000000200\
     000000000000000000000000000007c1d4c188cfff184b803841ecce00000000000080",
];
const FLOAT_COUNTER_ST: &[&str] = &[
    "000480749ca518d231de7f0000c5e7f2b400200c0000000000000000000000000000200d00000000\
     0000200a0000000000001ff8000000000000000000000000000000000000000000004044bd7c1d4c\
     6d06da0f6058692f7ae22bffd07cdf130a301cbc457fed08c596d223bd42f70adfc21af306",
    "800380749c6517f0000c5e7f32930200800000000000020000000000000002002000000000000200\
     00000000000000000000000000000504e00fc1d4c188cfff184b803841ecce00000000000080",
];
const CUSTOM_GAUGE: &[&str] = &[
    "0004c000ee5ce294a325d7fe00000000000016e32fa717f7fffffc81c0c49b9581062454b249ad25\
     94c37dfe00018bcfe56800b0ff400000000000030bbcbbe0ea6266ef17bcb36a6175d89c2bf80004\
     000000001cfe00010000000000feffff0000000007ddef00",
];
const FLOAT_CUSTOM_GAUGE: &[&str] = &[
    "0004c000ee5ce294a325d7fe00000000000016e32fa717f7fffffc81c0c49b9581062454b249ad25\
     94c37dfe00018bcfe56800401800000000000000000000000000003fd00000000000004014000000\
     0000003ff000000000000000000000000000000000000000000000f83a98d42f4c26c01709bffbc2\
     0cc277fd22803dc457febec0284e17fe",
];
