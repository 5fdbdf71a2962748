//! Records of native histograms: types 7 (integer counts) and 8 (float counts), 9 and 10 for those
//! with custom bounds, 12 and 13 for any of them with start timestamps.

use std::sync::Arc;

use model::histogram::{
    Buckets, CUSTOM_SCHEMA, CounterReset, FloatHistogram, Histogram, IntBuckets, IntHistogram, Span,
};

use super::starts::{StartsReader, StartsWriter};
use super::{BadRecord, body};
use crate::codec::{Malformed, Reader, put_uvarint, put_varint};

const INT: u8 = 7;
const FLOAT: u8 = 8;
const CUSTOM_INT: u8 = 9;
const CUSTOM_FLOAT: u8 = 10;
const INT_STARTS: u8 = 12;
const FLOAT_STARTS: u8 = 13;

/// Writes a record of histograms of one sort.
#[derive(Clone, Copy, Debug)]
pub struct HistogramsWriter {
    kind: u8,
    base: (u64, i64),
    starts: Option<StartsWriter>,
}

fn kind_of(h: &Histogram, with_starts: bool) -> u8 {
    match (h, with_starts) {
        (Histogram::Int(_), true) => INT_STARTS,
        (Histogram::Float(_), true) => FLOAT_STARTS,
        (Histogram::Int(h), false) if h.schema == CUSTOM_SCHEMA => CUSTOM_INT,
        (Histogram::Float(h), false) if h.schema == CUSTOM_SCHEMA => CUSTOM_FLOAT,
        (Histogram::Int(_), false) => INT,
        (Histogram::Float(_), false) => FLOAT,
    }
}

impl HistogramsWriter {
    /// Starts a record whose first histogram will be `(series, ts, value)`. With start timestamps
    /// it is of a type that Prometheus before 3.9 does not know.
    pub fn begin(
        out: &mut Vec<u8>,
        (series, ts): (u64, i64),
        value: &Histogram,
        with_starts: bool,
    ) -> Self {
        let kind = kind_of(value, with_starts);
        out.push(kind);
        if !with_starts {
            out.extend_from_slice(&series.to_be_bytes());
            out.extend_from_slice(&ts.to_be_bytes());
        }
        Self {
            kind,
            base: (series, ts),
            starts: with_starts.then(StartsWriter::default),
        }
    }

    /// Whether `value` can go into this record.
    pub fn takes(&self, value: &Histogram) -> bool {
        kind_of(value, self.starts.is_some()) == self.kind
    }

    /// Adds a histogram that this record [takes](Self::takes).
    pub fn push(
        &mut self,
        out: &mut Vec<u8>,
        (series, ts, start): (u64, i64, i64),
        value: &Histogram,
    ) {
        match &mut self.starts {
            Some(starts) => starts.put(out, series, ts, start),
            None => {
                put_varint(out, series.wrapping_sub(self.base.0) as i64);
                put_varint(out, ts.wrapping_sub(self.base.1));
            }
        }
        match value {
            Histogram::Int(h) => put_int(out, h),
            Histogram::Float(h) => put_float(out, h),
        }
    }
}

fn put_f64(out: &mut Vec<u8>, v: f64) {
    out.extend_from_slice(&v.to_bits().to_be_bytes());
}

fn hint(reset: CounterReset) -> u8 {
    match reset {
        CounterReset::Unknown => 0,
        CounterReset::Reset => 1,
        CounterReset::NotReset => 2,
        CounterReset::Gauge => 3,
    }
}

fn put_spans(out: &mut Vec<u8>, spans: &[Span]) {
    put_uvarint(out, spans.len() as u64);
    for span in spans {
        put_varint(out, span.offset.into());
        put_uvarint(out, span.length.into());
    }
}

fn put_bounds(out: &mut Vec<u8>, schema: i32, bounds: &[f64]) {
    if schema == CUSTOM_SCHEMA {
        put_uvarint(out, bounds.len() as u64);
        bounds.iter().for_each(|&b| put_f64(out, b));
    }
}

fn put_int(out: &mut Vec<u8>, h: &IntHistogram) {
    out.push(hint(h.counter_reset));
    put_varint(out, h.schema.into());
    put_f64(out, h.zero_threshold);
    put_uvarint(out, h.zero_count);
    put_uvarint(out, h.count);
    put_f64(out, h.sum);
    put_spans(out, &h.positive.spans);
    put_spans(out, &h.negative.spans);
    for buckets in [&h.positive, &h.negative] {
        put_uvarint(out, buckets.deltas.len() as u64);
        buckets.deltas.iter().for_each(|&d| put_varint(out, d));
    }
    put_bounds(out, h.schema, &h.custom_values);
}

fn put_float(out: &mut Vec<u8>, h: &FloatHistogram) {
    out.push(hint(h.counter_reset));
    put_varint(out, h.schema.into());
    for v in [h.zero_threshold, h.zero_count, h.count, h.sum] {
        put_f64(out, v);
    }
    put_spans(out, &h.positive.spans);
    put_spans(out, &h.negative.spans);
    for buckets in [&h.positive, &h.negative] {
        put_uvarint(out, buckets.counts.len() as u64);
        buckets.counts.iter().for_each(|&c| put_f64(out, c));
    }
    put_bounds(out, h.schema, &h.custom_values);
}

/// Reads a record of histograms: series, time, start timestamp (0: unknown) and value of each.
/// Those of a schema that nobody knows are passed over; resolutions that are too fine for chunks
/// (schemas 9 to 52 of a newer Prometheus) are lowered.
pub fn read_histograms(
    record: &[u8],
    mut each: impl FnMut(u64, i64, i64, Histogram),
) -> Result<(), BadRecord> {
    let kind = record.first().copied().unwrap_or(0);
    let mut r = body(record);
    if r.is_empty() {
        return Ok(());
    }
    let float = matches!(kind, FLOAT | CUSTOM_FLOAT | FLOAT_STARTS);
    let mut rows = match kind {
        INT_STARTS | FLOAT_STARTS => Rows::Starts(StartsReader::default()),
        INT | FLOAT | CUSTOM_INT | CUSTOM_FLOAT => Rows::Plain(r.u64()?, r.i64()?),
        _ => return Err(BadRecord),
    };
    while !r.is_empty() {
        let (series, ts, start) = match &mut rows {
            Rows::Starts(starts) => starts.read(&mut r)?,
            Rows::Plain(series, ts) => (
                series.wrapping_add(r.varint()? as u64),
                ts.wrapping_add(r.varint()?),
                0,
            ),
        };
        let value = match float {
            false => Histogram::Int(read_int(&mut r)?),
            true => Histogram::Float(read_float(&mut r)?),
        };
        if let Some(value) = known(value) {
            each(series, ts, start, value);
        }
    }
    Ok(())
}

enum Rows {
    Plain(u64, i64),
    Starts(StartsReader),
}

/// The histogram at a resolution that chunks can hold; none if its schema means nothing.
fn known(value: Histogram) -> Option<Histogram> {
    const FINEST: i32 = 8;
    let schema = match &value {
        Histogram::Int(h) => h.schema,
        Histogram::Float(h) => h.schema,
    };
    match schema {
        CUSTOM_SCHEMA | -4..=FINEST => Some(value),
        9..=52 => Some(match value {
            Histogram::Float(mut h) => {
                h.reduce_to(FINEST);
                Histogram::Float(h)
            }
            Histogram::Int(h) => {
                let mut reduced = h.to_float();
                reduced.reduce_to(FINEST);
                let buckets = |b: Buckets| {
                    let mut last = 0;
                    let deltas = b.counts.iter().map(|&c| {
                        let (count, before) = (c as i64, last);
                        last = count;
                        count.wrapping_sub(before)
                    });
                    IntBuckets {
                        deltas: deltas.collect(),
                        spans: b.spans,
                    }
                };
                Histogram::Int(IntHistogram {
                    schema: FINEST,
                    positive: buckets(reduced.positive),
                    negative: buckets(reduced.negative),
                    ..h
                })
            }
        }),
        _ => None,
    }
}

fn read_hint(r: &mut Reader<'_>) -> Result<CounterReset, Malformed> {
    Ok(match r.u8()? {
        1 => CounterReset::Reset,
        2 => CounterReset::NotReset,
        3 => CounterReset::Gauge,
        _ => CounterReset::Unknown,
    })
}

fn read_schema(r: &mut Reader<'_>) -> Result<i32, Malformed> {
    i32::try_from(r.varint()?).map_err(|_| Malformed)
}

/// A number of things that take at least `size` bytes each: no more than there are bytes for.
fn read_len(r: &mut Reader<'_>, size: usize) -> Result<usize, Malformed> {
    let n = usize::try_from(r.uvarint()?).map_err(|_| Malformed)?;
    match n <= r.0.len() / size {
        true => Ok(n),
        false => Err(Malformed),
    }
}

fn read_spans(r: &mut Reader<'_>) -> Result<Vec<Span>, Malformed> {
    (0..read_len(r, 2)?)
        .map(|_| {
            Ok(Span {
                offset: i32::try_from(r.varint()?).map_err(|_| Malformed)?,
                length: u32::try_from(r.uvarint()?).map_err(|_| Malformed)?,
            })
        })
        .collect()
}

fn read_floats(r: &mut Reader<'_>) -> Result<Vec<f64>, Malformed> {
    (0..read_len(r, 8)?).map(|_| r.f64()).collect()
}

fn read_deltas(r: &mut Reader<'_>) -> Result<Vec<i64>, Malformed> {
    (0..read_len(r, 1)?).map(|_| r.varint()).collect()
}

fn read_bounds(r: &mut Reader<'_>, schema: i32) -> Result<Arc<[f64]>, Malformed> {
    match schema {
        CUSTOM_SCHEMA => Ok(read_floats(r)?.into()),
        _ => Ok(Arc::default()),
    }
}

fn read_int(r: &mut Reader<'_>) -> Result<IntHistogram, Malformed> {
    let mut h = IntHistogram {
        counter_reset: read_hint(r)?,
        schema: read_schema(r)?,
        zero_threshold: r.f64()?,
        zero_count: r.uvarint()?,
        count: r.uvarint()?,
        sum: r.f64()?,
        ..IntHistogram::default()
    };
    h.positive.spans = read_spans(r)?;
    h.negative.spans = read_spans(r)?;
    h.positive.deltas = read_deltas(r)?;
    h.negative.deltas = read_deltas(r)?;
    h.custom_values = read_bounds(r, h.schema)?;
    Ok(h)
}

fn read_float(r: &mut Reader<'_>) -> Result<FloatHistogram, Malformed> {
    let mut h = FloatHistogram {
        counter_reset: read_hint(r)?,
        schema: read_schema(r)?,
        zero_threshold: r.f64()?,
        zero_count: r.f64()?,
        count: r.f64()?,
        sum: r.f64()?,
        ..FloatHistogram::default()
    };
    h.positive.spans = read_spans(r)?;
    h.negative.spans = read_spans(r)?;
    h.positive.counts = read_floats(r)?;
    h.negative.counts = read_floats(r)?;
    h.custom_values = read_bounds(r, h.schema)?;
    Ok(h)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spans() -> impl Strategy<Value = Vec<Span>> {
        let span =
            (any::<i32>(), any::<u32>()).prop_map(|(offset, length)| Span { offset, length });
        prop::collection::vec(span, 0..4)
    }

    fn histogram() -> impl Strategy<Value = Histogram> {
        let common = (
            prop_oneof![Just(CUSTOM_SCHEMA), -4..9i32],
            prop::sample::select(vec![
                CounterReset::Unknown,
                CounterReset::Reset,
                CounterReset::NotReset,
                CounterReset::Gauge,
            ]),
            spans(),
            spans(),
            prop::collection::vec(-1e9..1e9, 0..4),
            any::<(bool, u64, u64)>(),
            prop::collection::vec(any::<i64>(), 0..6),
        );
        common.prop_map(
            |(schema, counter_reset, positive, negative, floats, (int, a, b), deltas)| {
                let custom_values: Arc<[f64]> = match schema {
                    CUSTOM_SCHEMA => floats.clone().into(),
                    _ => Arc::default(),
                };
                match int {
                    true => Histogram::Int(IntHistogram {
                        counter_reset,
                        schema,
                        zero_threshold: 0.25,
                        zero_count: a,
                        count: b,
                        sum: a as f64,
                        positive: IntBuckets {
                            spans: positive,
                            deltas: deltas.clone(),
                        },
                        negative: IntBuckets {
                            spans: negative,
                            deltas,
                        },
                        custom_values,
                    }),
                    false => Histogram::Float(FloatHistogram {
                        counter_reset,
                        schema,
                        zero_threshold: 0.25,
                        zero_count: a as f64,
                        count: b as f64,
                        sum: -0.0,
                        positive: Buckets {
                            spans: positive,
                            counts: floats,
                        },
                        negative: Buckets {
                            spans: negative,
                            counts: Vec::new(),
                        },
                        custom_values,
                    }),
                }
            },
        )
    }

    type Row = (u64, i64, i64, Histogram);

    /// Writes rows as records, a new one wherever the sort changes, and reads them back.
    fn round(rows: &[Row], with_starts: bool) -> Vec<Row> {
        let mut records: Vec<Vec<u8>> = Vec::new();
        let mut writer: Option<HistogramsWriter> = None;
        for (series, ts, start, value) in rows {
            if writer.is_none_or(|w| !w.takes(value)) {
                records.push(Vec::new());
                writer = None;
            }
            let out = records.last_mut().unwrap();
            let w = writer.get_or_insert_with(|| {
                HistogramsWriter::begin(out, (*series, *ts), value, with_starts)
            });
            w.push(out, (*series, *ts, *start), value);
        }
        let mut back = Vec::new();
        for record in &records {
            assert_eq!(
                super::super::kind(record),
                super::super::RecordKind::Histograms
            );
            read_histograms(record, |s, t, st, h| back.push((s, t, st, h))).unwrap();
        }
        back
    }

    proptest! {
        #[test]
        fn histograms_return(rows in prop::collection::vec((any::<u64>(), any::<i64>(), any::<i64>(), histogram()), 1..12)) {
            prop_assert_eq!(&round(&rows, true), &rows);
            let plain: Vec<Row> = rows.into_iter().map(|(s, t, _, h)| (s, t, 0, h)).collect();
            prop_assert_eq!(&round(&plain, false), &plain);
        }

        #[test]
        fn rubbish_never_panics(kind in 6u8..15, mut b: Vec<u8>) {
            b.insert(0, kind);
            let _ = read_histograms(&b, |_, _, _, _| {});
        }
    }

    #[test]
    fn a_finer_resolution_is_lowered_and_an_unknown_schema_left_out() {
        let with = |schema| {
            Histogram::Int(IntHistogram {
                schema,
                count: 5,
                positive: IntBuckets {
                    spans: vec![Span {
                        offset: 1,
                        length: 3,
                    }],
                    deltas: vec![1, 1, -1],
                },
                ..IntHistogram::default()
            })
        };
        let back = round(
            &[
                (1, 10, 0, with(9)),
                (1, 20, 0, with(60)),
                (1, 30, 0, with(8)),
            ],
            false,
        );
        assert_eq!(back.len(), 2);
        let Histogram::Int(h) = &back[0].3 else {
            panic!("an integer histogram became another")
        };
        // Buckets 1 and 2 of schema 9 are bucket 1 of schema 8, bucket 3 is in bucket 2.
        assert_eq!((h.schema, h.positive.deltas.as_slice()), (8, &[3, -2][..]));
    }
}
