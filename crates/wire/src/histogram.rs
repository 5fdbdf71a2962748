//! Native histograms as remote write (1.x and 2.0) and remote read carry them: both messages number
//! their fields alike (`prompb/types.proto`, `io/prometheus/write/v2/types.proto`).

use model::Millis;
use model::histogram::{
    Buckets, CounterReset, FloatHistogram, Histogram, IntBuckets, IntHistogram, Span,
};

use crate::fields::{BadMessage, Fields, Value, unzigzag};
use crate::put;

/// A histogram, its timestamp and its start timestamp, ms.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When.
    pub ts: Millis,
    /// Since when it counts; 0: unknown.
    pub start: Millis,
    /// What. It may contradict itself: see [`Histogram::validate`].
    pub value: Histogram,
}

#[derive(Default)]
struct Side {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl Side {
    fn int(self) -> IntBuckets {
        IntBuckets {
            spans: self.spans,
            deltas: self.deltas,
        }
    }

    fn float(self) -> Buckets {
        Buckets {
            spans: self.spans,
            counts: self.counts,
        }
    }
}

/// Reads a `Histogram` message.
pub fn read(message: &[u8]) -> Result<Sample, BadMessage> {
    let (mut count, mut count_float) = (0, None);
    let (mut zero, mut zero_float) = (0, 0.0);
    let (mut sum, mut schema, mut zero_threshold) = (0.0, 0, 0.0);
    let (mut positive, mut negative) = (Side::default(), Side::default());
    let mut custom = Vec::new();
    let (mut hint, mut ts, mut start) = (0, 0, 0);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => count = value.number(),
            2 => count_float = Some(value.double()),
            3 => sum = value.double(),
            4 => schema = i32::try_from(value.zigzag()).unwrap_or(i32::MAX),
            5 => zero_threshold = value.double(),
            6 => zero = value.number(),
            7 => zero_float = value.double(),
            8 => negative.spans.push(span(value)?),
            9 => value.each_varint(|d| negative.deltas.push(unzigzag(d)))?,
            10 => value.each_double(|c| negative.counts.push(c))?,
            11 => positive.spans.push(span(value)?),
            12 => value.each_varint(|d| positive.deltas.push(unzigzag(d)))?,
            13 => value.each_double(|c| positive.counts.push(c))?,
            14 => hint = value.number(),
            15 => ts = value.signed(),
            16 => value.each_double(|b| custom.push(b))?,
            17 => start = value.signed(),
            _ => {}
        }
    }
    let counter_reset = match hint {
        1 => CounterReset::Reset,
        2 => CounterReset::NotReset,
        3 => CounterReset::Gauge,
        _ => CounterReset::Unknown,
    };
    let custom_values = custom.into();
    let value = match count_float {
        Some(count) => Histogram::Float(FloatHistogram {
            counter_reset,
            schema,
            zero_threshold,
            zero_count: zero_float,
            count,
            sum,
            positive: positive.float(),
            negative: negative.float(),
            custom_values,
        }),
        None => Histogram::Int(IntHistogram {
            counter_reset,
            schema,
            zero_threshold,
            zero_count: zero,
            count,
            sum,
            positive: positive.int(),
            negative: negative.int(),
            custom_values,
        }),
    };
    Ok(Sample { ts, start, value })
}

fn span(value: Value<'_>) -> Result<Span, BadMessage> {
    let mut span = Span::default();
    let mut fields = value.fields();
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => span.offset = value.zigzag() as i32,
            2 => span.length = value.number() as u32,
            _ => {}
        }
    }
    Ok(span)
}

/// Writes the fields of a `Histogram` message.
pub fn write(out: &mut Vec<u8>, ts: Millis, start: Millis, value: &Histogram) {
    let hint = |reset| match reset {
        CounterReset::Unknown => 0,
        CounterReset::Reset => 1,
        CounterReset::NotReset => 2,
        CounterReset::Gauge => 3,
    };
    let deltas = |out: &mut Vec<u8>, field, deltas: &[i64]| {
        put::packed(out, field, deltas.iter().map(|d| put::zigzag(*d)));
    };
    // A count is one of two: it says which kind this is, even if it is 0.
    match value {
        Histogram::Int(h) => {
            put::key(out, 1, 0);
            put::varint(out, h.count);
            put::double(out, 3, h.sum);
            put::number(out, 4, put::zigzag(i64::from(h.schema)));
            put::double(out, 5, h.zero_threshold);
            put::key(out, 6, 0);
            put::varint(out, h.zero_count);
            spans(out, 8, &h.negative.spans);
            deltas(out, 9, &h.negative.deltas);
            spans(out, 11, &h.positive.spans);
            deltas(out, 12, &h.positive.deltas);
            put::number(out, 14, hint(h.counter_reset));
            put::number(out, 15, ts as u64);
            put::packed_doubles(out, 16, &h.custom_values);
        }
        Histogram::Float(h) => {
            put::key(out, 2, 1);
            out.extend_from_slice(&h.count.to_le_bytes());
            put::double(out, 3, h.sum);
            put::number(out, 4, put::zigzag(i64::from(h.schema)));
            put::double(out, 5, h.zero_threshold);
            put::key(out, 7, 1);
            out.extend_from_slice(&h.zero_count.to_le_bytes());
            spans(out, 8, &h.negative.spans);
            put::packed_doubles(out, 10, &h.negative.counts);
            spans(out, 11, &h.positive.spans);
            put::packed_doubles(out, 13, &h.positive.counts);
            put::number(out, 14, hint(h.counter_reset));
            put::number(out, 15, ts as u64);
            put::packed_doubles(out, 16, &h.custom_values);
        }
    }
    put::number(out, 17, start as u64);
}

fn spans(out: &mut Vec<u8>, field: u32, spans: &[Span]) {
    for span in spans {
        put::nested(out, field, |out| {
            put::number(out, 1, put::zigzag(i64::from(span.offset)));
            put::number(out, 2, u64::from(span.length));
        });
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::io::prometheus::write::v2;
    use crate::proto::prometheus as v1;

    fn samples() -> [Sample; 3] {
        let spans = vec![
            Span {
                offset: -3,
                length: 2,
            },
            Span {
                offset: 1,
                length: 1,
            },
        ];
        let int = IntHistogram {
            counter_reset: CounterReset::Gauge,
            schema: -4,
            zero_threshold: 0.5,
            zero_count: 1,
            count: 10,
            sum: -2.5,
            positive: IntBuckets {
                spans: spans.clone(),
                deltas: vec![5, -3, 0],
            },
            negative: IntBuckets::default(),
            custom_values: [].into(),
        };
        let float = FloatHistogram {
            schema: -53,
            count: 0.0,
            positive: Buckets {
                spans,
                counts: vec![0.5, 1.0, f64::NAN],
            },
            custom_values: [1.0, 2.0].into(),
            ..FloatHistogram::default()
        };
        [
            Sample {
                ts: -5,
                start: 0,
                value: Histogram::Int(int),
            },
            Sample {
                ts: 7,
                start: 3,
                value: Histogram::Float(float),
            },
            Sample {
                ts: 0,
                start: 0,
                value: Histogram::Int(IntHistogram::default()),
            },
        ]
    }

    #[test]
    fn histograms_survive_the_way_through_both_libraries_messages() {
        for sample in samples() {
            let mut bytes = Vec::new();
            write(&mut bytes, sample.ts, sample.start, &sample.value);
            let own = read(&bytes).unwrap();
            assert!(own.value.same(&sample.value), "{own:?}");
            assert_eq!((own.ts, own.start), (sample.ts, sample.start));
            let two = v2::Histogram::decode(bytes.as_slice()).unwrap();
            let again = read(&two.encode_to_vec()).unwrap();
            assert!(again.value.same(&sample.value), "{again:?}");
            assert_eq!((again.ts, again.start), (sample.ts, sample.start));
            let one = v1::Histogram::decode(bytes.as_slice()).unwrap();
            let again = read(&one.encode_to_vec()).unwrap();
            assert!(again.value.same(&sample.value), "{again:?}");
            for end in 0..bytes.len() {
                let _ = read(&bytes[..end]);
            }
        }
    }

    /// Both libraries take it for a field that is not there.
    #[test]
    fn the_sign_of_a_zero_survives() {
        let value = Histogram::Int(IntHistogram {
            sum: -0.0,
            ..IntHistogram::default()
        });
        let mut bytes = Vec::new();
        write(&mut bytes, 0, 0, &value);
        assert!(read(&bytes).unwrap().value.same(&value));
    }
}
