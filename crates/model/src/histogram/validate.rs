//! Which histograms can be stored, and which are the same (`Validate` and `Equals` of
//! `model/histogram` of Prometheus, with its words).

use std::fmt;

use super::{CUSTOM_SCHEMA, FloatHistogram, Histogram, IntHistogram, Span};
use crate::text::format_g;

/// A float in an error: compared and hashed by its bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Value(u64);

impl From<f64> for Value {
    fn from(v: f64) -> Self {
        Self(v.to_bits())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = f64::from_bits(self.0);
        match f.precision() {
            Some(digits) if value.is_finite() => write!(f, "{value:.digits$}"),
            _ => f.write_str(&format_g(value)),
        }
    }
}

/// Where in a histogram something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Buckets of positive observations.
    Positive,
    /// Buckets of negative observations.
    Negative,
    /// Buckets with listed bounds.
    Custom,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Positive => "positive side",
            Side::Negative => "negative side",
            Side::Custom => "custom buckets",
        })
    }
}

/// Why a histogram cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum InvalidHistogram {
    #[error(
        "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema {0}"
    )]
    Schema(i32),
    #[error(
        "{side}: span number {number} with offset {offset}: histogram has a span whose offset is negative"
    )]
    SpanOffset {
        side: Side,
        number: usize,
        offset: i32,
    },
    #[error(
        "{side}: spans need {spans} buckets, have {buckets} buckets: histogram spans specify different number of buckets than provided"
    )]
    SpansMismatch {
        side: Side,
        spans: u64,
        buckets: usize,
    },
    #[error(
        "{side}: bucket number {number} has observation count of {count}: histogram has a bucket whose observation count is negative"
    )]
    NegativeBucket {
        side: Side,
        number: usize,
        count: Value,
    },
    #[error(
        "zero bucket has observation count of {0}: histogram has a bucket whose observation count is negative"
    )]
    NegativeZeroBucket(Value),
    #[error("observation count is  {0}: histogram's observation count is negative")]
    NegativeCount(Value),
    #[error(
        "{buckets} observations found in buckets, but the Count field is {count}: histogram's observation count should be at least the number of observations found in the buckets"
    )]
    CountTooSmall { buckets: u64, count: u64 },
    #[error(
        "{buckets} observations found in buckets, but the Count field is {count}: histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)"
    )]
    CountMismatch { buckets: u64, count: u64 },
    #[error("histogram with exponential schema must not have custom bounds")]
    UnexpectedBounds,
    #[error("custom buckets: histogram custom bounds must not be NaN")]
    NanBound,
    #[error(
        "custom buckets: previous bound is {0:.6} and current is {1:.6}: histogram custom bounds must be in strictly increasing order"
    )]
    UnorderedBounds(Value, Value),
    #[error(
        "custom buckets: last +Inf bound must not be explicitly defined: histogram custom bounds must be finite"
    )]
    InfiniteBound,
    #[error(
        "custom buckets: only {bounds} custom bounds defined which is insufficient to cover total span length of {spans}: histogram custom bounds are too few"
    )]
    TooFewBounds { bounds: usize, spans: i64 },
    #[error("custom buckets: must have zero count of 0")]
    CustomZeroCount,
    #[error("custom buckets: must have zero threshold of 0")]
    CustomZeroThreshold,
    #[error("custom buckets: must not have negative spans")]
    CustomNegativeSpans,
    #[error("custom buckets: must not have negative buckets")]
    CustomNegativeBuckets,
}

use InvalidHistogram as E;

fn check_spans(side: Side, spans: &[Span], buckets: usize) -> Result<(), E> {
    for (n, span) in spans.iter().enumerate() {
        if span.offset < 0 && (n > 0 || side == Side::Custom) {
            return Err(E::SpanOffset {
                side,
                number: n + 1,
                offset: span.offset,
            });
        }
    }
    let needed = spans.iter().map(|s| u64::from(s.length)).sum::<u64>();
    if needed != buckets as u64 {
        return Err(E::SpansMismatch {
            side,
            spans: needed,
            buckets,
        });
    }
    Ok(())
}

fn check_bounds(bounds: &[f64], spans: &[Span], buckets: usize) -> Result<(), E> {
    if bounds.iter().any(|b| b.is_nan()) {
        return Err(E::NanBound);
    }
    if let Some(&[a, b]) = bounds
        .windows(2)
        .filter_map(|w| w.first_chunk::<2>())
        .find(|[a, b]| b <= a)
    {
        return Err(E::UnorderedBounds(a.into(), b.into()));
    }
    if bounds.last() == Some(&f64::INFINITY) {
        return Err(E::InfiniteBound);
    }
    check_spans(Side::Custom, spans, buckets)?;
    let covered = spans
        .iter()
        .map(|s| i64::from(s.length) + i64::from(s.offset))
        .sum::<i64>();
    if (bounds.len() as i64) < covered - 1 {
        return Err(E::TooFewBounds {
            bounds: bounds.len(),
            spans: covered,
        });
    }
    Ok(())
}

/// What both kinds are checked for but their counts.
struct Shape<'a> {
    schema: i32,
    bounds: &'a [f64],
    zero: (bool, f64),
    positive: (&'a [Span], usize),
    negative: (&'a [Span], usize),
}

impl Shape<'_> {
    fn check(&self) -> Result<(), E> {
        let (positive, negative) = (self.positive, self.negative);
        match self.schema {
            CUSTOM_SCHEMA => {
                check_bounds(self.bounds, positive.0, positive.1)?;
                if self.zero.0 {
                    return Err(E::CustomZeroCount);
                }
                if self.zero.1 != 0.0 {
                    return Err(E::CustomZeroThreshold);
                }
                if !negative.0.is_empty() {
                    return Err(E::CustomNegativeSpans);
                }
                if negative.1 > 0 {
                    return Err(E::CustomNegativeBuckets);
                }
                Ok(())
            }
            -4..=8 => {
                check_spans(Side::Positive, positive.0, positive.1)?;
                check_spans(Side::Negative, negative.0, negative.1)
            }
            other => Err(E::Schema(other)),
        }
    }
}

impl IntHistogram {
    /// Whether it can be stored.
    pub fn validate(&self) -> Result<(), InvalidHistogram> {
        let sides = [
            (Side::Negative, &self.negative),
            (Side::Positive, &self.positive),
        ];
        Shape {
            schema: self.schema,
            bounds: &self.custom_values,
            zero: (self.zero_count != 0, self.zero_threshold),
            positive: (&self.positive.spans, self.positive.deltas.len()),
            negative: (&self.negative.spans, self.negative.deltas.len()),
        }
        .check()?;
        let mut sum = self.zero_count;
        for (side, buckets) in sides {
            if side == Side::Positive
                && self.schema != CUSTOM_SCHEMA
                && !self.custom_values.is_empty()
            {
                return Err(E::UnexpectedBounds);
            }
            for (i, count) in buckets.counts().enumerate() {
                if count < 0 {
                    return Err(E::NegativeBucket {
                        side,
                        number: i + 1,
                        count: (count as f64).into(),
                    });
                }
                sum = sum.wrapping_add(count as u64);
            }
        }
        let (buckets, count) = (sum, self.count);
        match self.sum.is_nan() {
            true if buckets > count => Err(E::CountTooSmall { buckets, count }),
            false if buckets != count => Err(E::CountMismatch { buckets, count }),
            _ => Ok(()),
        }
    }
}

impl FloatHistogram {
    /// Whether it can be stored.
    pub fn validate(&self) -> Result<(), InvalidHistogram> {
        Shape {
            schema: self.schema,
            bounds: &self.custom_values,
            zero: (self.zero_count != 0.0, self.zero_threshold),
            positive: (&self.positive.spans, self.positive.counts.len()),
            negative: (&self.negative.spans, self.negative.counts.len()),
        }
        .check()?;
        let fall = |side, counts: &[f64]| {
            let below = counts.iter().position(|c| *c < 0.0);
            below.map_or(Ok(()), |i| {
                Err(E::NegativeBucket {
                    side,
                    number: i + 1,
                    count: counts.get(i).copied().unwrap_or(0.0).into(),
                })
            })
        };
        fall(Side::Negative, &self.negative.counts)?;
        if self.zero_count < 0.0 {
            return Err(E::NegativeZeroBucket(self.zero_count.into()));
        }
        if self.schema != CUSTOM_SCHEMA && !self.custom_values.is_empty() {
            return Err(E::UnexpectedBounds);
        }
        if self.count < 0.0 {
            return Err(E::NegativeCount(self.count.into()));
        }
        fall(Side::Positive, &self.positive.counts)
    }
}

/// The indexes that spans stand for, in runs: however they are cut up.
fn runs(spans: &[Span]) -> impl Iterator<Item = (i64, i64)> {
    let mut next = 0i64;
    let mut spans = spans.iter().peekable();
    std::iter::from_fn(move || {
        let mut run: Option<(i64, i64)> = None;
        while let Some(span) = spans.peek() {
            let start = next + i64::from(span.offset);
            match &mut run {
                Some(run) if span.length > 0 && start != run.1 => break,
                Some(run) => run.1 += i64::from(span.length),
                None if span.length > 0 => run = Some((start, start + i64::from(span.length))),
                None => {}
            }
            next = start + i64::from(span.length);
            spans.next();
        }
        run
    })
}

fn same_bits(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

impl Histogram {
    /// Whether it can be stored.
    pub fn validate(&self) -> Result<(), InvalidHistogram> {
        match self {
            Self::Int(h) => h.validate(),
            Self::Float(h) => h.validate(),
        }
    }

    /// Whether it is custom-bounded.
    pub fn is_custom(&self) -> bool {
        self.schema() == CUSTOM_SCHEMA
    }

    /// -4 to 8, or [`CUSTOM_SCHEMA`].
    pub fn schema(&self) -> i32 {
        match self {
            Self::Int(h) => h.schema,
            Self::Float(h) => h.schema,
        }
    }

    /// Whether both say the same of the same buckets, bit by bit and in the same kind of counts;
    /// what is known about resets does not matter.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => {
                a.schema == b.schema
                    && (a.count, a.zero_count) == (b.count, b.zero_count)
                    && a.sum.to_bits() == b.sum.to_bits()
                    && a.zero_threshold == b.zero_threshold
                    && (a.schema != CUSTOM_SCHEMA || a.custom_values == b.custom_values)
                    && a.positive.deltas == b.positive.deltas
                    && a.negative.deltas == b.negative.deltas
                    && runs(&a.positive.spans).eq(runs(&b.positive.spans))
                    && runs(&a.negative.spans).eq(runs(&b.negative.spans))
            }
            (Self::Float(a), Self::Float(b)) => {
                a.schema == b.schema
                    && a.count.to_bits() == b.count.to_bits()
                    && a.zero_count.to_bits() == b.zero_count.to_bits()
                    && a.sum.to_bits() == b.sum.to_bits()
                    && a.zero_threshold == b.zero_threshold
                    && (a.schema != CUSTOM_SCHEMA || a.custom_values == b.custom_values)
                    && same_bits(&a.positive.counts, &b.positive.counts)
                    && same_bits(&a.negative.counts, &b.negative.counts)
                    && runs(&a.positive.spans).eq(runs(&b.positive.spans))
                    && runs(&a.negative.spans).eq(runs(&b.negative.spans))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Buckets, IntBuckets};
    use super::*;

    fn span(offset: i32, length: u32) -> Span {
        Span { offset, length }
    }

    fn int(spans: &[Span], deltas: &[i64], count: u64) -> IntHistogram {
        IntHistogram {
            count,
            positive: IntBuckets {
                spans: spans.to_vec(),
                deltas: deltas.to_vec(),
            },
            ..IntHistogram::default()
        }
    }

    #[test]
    fn integer_histograms_are_judged_in_prometheus_words() {
        let why = |h: IntHistogram| h.validate().map_err(|e| e.to_string());
        assert_eq!(why(int(&[span(-3, 2), span(0, 1)], &[1, 1, -1], 4)), Ok(()));
        for (h, words) in [
            (
                int(&[span(0, 2), span(-1, 1)], &[1, 1, 1], 6),
                "positive side: span number 2 with offset -1: histogram has a span whose offset is negative",
            ),
            (
                int(&[span(0, 2)], &[1, 1, 1], 6),
                "positive side: spans need 2 buckets, have 3 buckets: histogram spans specify different number of buckets than provided",
            ),
            (
                int(&[span(0, 2)], &[1, -2], 0),
                "positive side: bucket number 2 has observation count of -1: histogram has a bucket whose observation count is negative",
            ),
            (
                int(&[span(0, 2)], &[1, 1], 4),
                "3 observations found in buckets, but the Count field is 4: histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)",
            ),
            (
                IntHistogram {
                    sum: f64::NAN,
                    ..int(&[span(0, 2)], &[1, 1], 2)
                },
                "3 observations found in buckets, but the Count field is 2: histogram's observation count should be at least the number of observations found in the buckets",
            ),
            (
                IntHistogram {
                    schema: 9,
                    ..IntHistogram::default()
                },
                "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema 9",
            ),
            (
                IntHistogram {
                    custom_values: [1.0].into(),
                    ..IntHistogram::default()
                },
                "histogram with exponential schema must not have custom bounds",
            ),
            (
                IntHistogram {
                    schema: CUSTOM_SCHEMA,
                    custom_values: [1.0, 1.0].into(),
                    ..IntHistogram::default()
                },
                "custom buckets: previous bound is 1.000000 and current is 1.000000: histogram custom bounds must be in strictly increasing order",
            ),
            (
                IntHistogram {
                    schema: CUSTOM_SCHEMA,
                    custom_values: [1.0].into(),
                    ..int(&[span(0, 3)], &[1, 0, 0], 3)
                },
                "custom buckets: only 1 custom bounds defined which is insufficient to cover total span length of 3: histogram custom bounds are too few",
            ),
        ] {
            assert_eq!(why(h), Err(words.to_owned()));
        }
    }

    #[test]
    fn float_histograms_are_judged_too() {
        let float = |counts: &[f64], count| FloatHistogram {
            count,
            positive: Buckets {
                spans: vec![span(0, counts.len() as u32)],
                counts: counts.to_vec(),
            },
            ..FloatHistogram::default()
        };
        assert_eq!(float(&[0.5, 1.0], 7.0).validate(), Ok(()));
        let why = |h: FloatHistogram| h.validate().unwrap_err().to_string();
        assert_eq!(
            why(float(&[0.5, -1.5], 7.0)),
            "positive side: bucket number 2 has observation count of -1.5: histogram has a bucket whose observation count is negative"
        );
        assert_eq!(
            why(float(&[], -1.0)),
            "observation count is  -1: histogram's observation count is negative"
        );
    }

    #[test]
    fn the_same_buckets_can_be_told_in_several_spans() {
        let a = Histogram::Int(int(&[span(1, 3)], &[1, 1, 1], 6));
        let b = Histogram::Int(int(&[span(1, 1), span(0, 0), span(0, 2)], &[1, 1, 1], 6));
        let c = Histogram::Int(int(&[span(1, 1), span(1, 2)], &[1, 1, 1], 6));
        assert!(a.same(&b) && b.same(&a) && !a.same(&c));
        assert!(!a.same(&Histogram::Float(FloatHistogram::default())));
        let empty = |spans: &[Span]| Histogram::Int(int(spans, &[], 0));
        assert!(empty(&[span(0, 0)]).same(&empty(&[])));
    }
}
