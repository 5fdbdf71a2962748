//! Series descriptions of tests: `metric{label="value"} 1 2+3x4 _ stale {{schema:0 buckets:[1 2]}}`.

use std::sync::Arc;

use model::Labels;
use model::histogram::{Buckets, CounterReset, FloatHistogram};
use model::sample::STALE_NAN;

use super::ParseErrors;
use super::parser::{Abort, Parsed, Parser, span};
use super::token::{HistogramKey, ResetHint, Tok};
use crate::ast::BinaryOp;
use crate::features::Features;
use crate::histogram::combined;

/// The most values that one description may stand for.
pub const MAX_VALUES: usize = 1_000_000;

/// A series and its values, one for each step.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesDescription {
    /// Its labels.
    pub labels: Labels,
    /// Its values, at 0, 1, 2, ... steps.
    pub values: Vec<SequenceValue>,
}

/// The value of a series at a step.
#[derive(Clone, Debug, PartialEq)]
pub enum SequenceValue {
    /// Nothing there.
    Omitted,
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram {
        /// The histogram.
        histogram: Arc<FloatHistogram>,
        /// Whether a counter-reset hint was written, so that an expectation means it.
        hint_set: bool,
    },
}

/// Reads a series description.
pub fn parse_series(text: &str) -> Result<SeriesDescription, ParseErrors> {
    let mut parser = Parser::new(text, &Features::ALL, true)?;
    match parser.whole(Parser::series_description) {
        Some(series) => parser.finish(series),
        None => Err(parser.into_errors()),
    }
}

/// A histogram literal, and whether it had a counter-reset hint.
type Literal = (FloatHistogram, bool);

impl Parser<'_> {
    fn series_description(&mut self) -> Parsed<SeriesDescription> {
        let labels = self.metric()?;
        let mut values = Vec::new();
        let result = self.series_values(&mut values);
        self.catch(result, "series values", "")?;
        Ok(SeriesDescription { labels, values })
    }

    fn series_values(&mut self, values: &mut Vec<SequenceValue>) -> Parsed<()> {
        loop {
            match self.peek().tok {
                Tok::Eof => return Ok(()),
                Tok::Space => {
                    self.take();
                }
                _ => return Err(Abort::Fresh),
            }
            match self.peek().tok {
                Tok::Eof | Tok::Space => {}
                _ => self.series_item(values)?,
            }
        }
    }

    fn series_item(&mut self, values: &mut Vec<SequenceValue>) -> Parsed<()> {
        match self.peek().tok {
            Tok::Blank => {
                self.take();
                let times = self.repetitions()?.unwrap_or(1);
                self.extend(values, times, std::iter::repeat(SequenceValue::Omitted))
            }
            Tok::OpenHistogram => self.histogram_item(values),
            _ => {
                let first = self.series_value()?;
                let step = match self.peek().tok {
                    Tok::Op(BinaryOp::Add | BinaryOp::Sub) => Some(self.real(true)?),
                    _ => None,
                };
                let times = self.repetitions()?;
                if step.is_some() && times.is_none() {
                    return Err(Abort::Fresh);
                }
                let numbers = std::iter::successors(Some(first), |last| {
                    Some(step.map_or(*last, |step| *last + step))
                });
                let times = times.map_or(1, |times| times.saturating_add(1));
                self.extend(values, times, numbers.map(SequenceValue::Float))
            }
        }
    }

    fn extend(
        &mut self,
        values: &mut Vec<SequenceValue>,
        times: u64,
        more: impl Iterator<Item = SequenceValue>,
    ) -> Parsed<()> {
        self.room(values, times)?;
        values.extend(more.take(times as usize));
        Ok(())
    }

    /// Refuses `times` more values if they would be too many.
    fn room(&mut self, values: &[SequenceValue], times: u64) -> Parsed<()> {
        if times > (MAX_VALUES - values.len().min(MAX_VALUES)) as u64 {
            let at = span(&self.last);
            self.report(at, format!("more than {MAX_VALUES} values in a series"));
            return Err(Abort::Reported);
        }
        Ok(())
    }

    /// `xN`, if it is there.
    fn repetitions(&mut self) -> Parsed<Option<u64>> {
        if !self.take_if(Tok::Times) {
            return Ok(None);
        }
        self.unsigned().map(Some)
    }

    fn unsigned(&mut self) -> Parsed<u64> {
        let item = self.expect(Tok::Number)?;
        Ok(match item.text.parse() {
            Ok(n) => n,
            Err(_) => {
                let text = model::text::quote(item.text);
                self.report(
                    span(&item),
                    format!(
                        "invalid repetition in series values: strconv.ParseUint: parsing {text}: \
                         invalid syntax"
                    ),
                );
                0
            }
        })
    }

    fn integer(&mut self) -> Parsed<i64> {
        let minus = self.take_if(Tok::Op(BinaryOp::Sub));
        let magnitude = i64::try_from(self.unsigned()?).unwrap_or(i64::MAX);
        Ok(if minus { -magnitude } else { magnitude })
    }

    /// A number, with or without a sign, or with one.
    fn real(&mut self, sign_needed: bool) -> Parsed<f64> {
        let item = self.peek();
        let minus = item.tok == Tok::Op(BinaryOp::Sub);
        if minus || item.tok == Tok::Op(BinaryOp::Add) {
            self.take();
        } else if sign_needed {
            return Err(Abort::Fresh);
        }
        let item = self.expect(Tok::Number)?;
        let value = self.literal(item).value;
        Ok(if minus { -value } else { value })
    }

    fn series_value(&mut self) -> Parsed<f64> {
        let item = self.peek();
        if item.tok != Tok::Identifier {
            return self.real(false);
        }
        self.take();
        if item.text != "stale" {
            self.unexpected("series values", "number or \"stale\"");
        }
        Ok(STALE_NAN)
    }

    fn histogram_item(&mut self, values: &mut Vec<SequenceValue>) -> Parsed<()> {
        let (first, mut hint_set) = self.histogram()?;
        let op = self.peek().tok;
        let increment = match op {
            Tok::Op(BinaryOp::Add | BinaryOp::Sub) => {
                self.take();
                // The second literal's hint counts for the whole sequence.
                let (increment, set) = self.histogram()?;
                hint_set = set;
                Some(increment)
            }
            _ => None,
        };
        let times = self.repetitions()?;
        if increment.is_some() && times.is_none() {
            return Err(Abort::Fresh);
        }
        let times = times.map_or(1, |times| times.saturating_add(1));
        let value = |histogram: &Arc<FloatHistogram>| SequenceValue::Histogram {
            histogram: Arc::clone(histogram),
            hint_set,
        };
        let mut present = Arc::new(first);
        let Some(increment) = increment else {
            return self.extend(values, times, std::iter::repeat(value(&present)));
        };
        self.room(values, times)?;
        values.push(value(&present));
        for _ in 1..times {
            let result = if present.schema > increment.schema {
                Err(format!(
                    "error combining histograms: cannot merge from schema {} to {}",
                    increment.schema, present.schema
                ))
            } else {
                let sign = if op == Tok::Op(BinaryOp::Add) {
                    1.0
                } else {
                    -1.0
                };
                combined(&present, &increment, sign).map_err(|e| e.to_string())
            };
            let next = match result {
                Ok(next) => next,
                Err(message) => {
                    let at = span(&self.last);
                    self.report(at, message);
                    return Err(Abort::Reported);
                }
            };
            present = Arc::new(next);
            values.push(value(&present));
        }
        Ok(())
    }

    /// `{{key:value ...}}`
    fn histogram(&mut self) -> Parsed<Literal> {
        self.expect(Tok::OpenHistogram)?;
        let mut out = FloatHistogram::default();
        let mut seen = Vec::new();
        let (mut offset, mut negative_offset) = (0, 0);
        let (mut positive, mut negative) = (Vec::new(), Vec::new());
        loop {
            self.take_if(Tok::Space);
            if self.take_if(Tok::CloseHistogram) {
                break;
            }
            let item = self.peek();
            let Tok::HistogramKey(key) = item.tok else {
                if seen.is_empty() {
                    return Err(Abort::Fresh);
                }
                return Err(self.unexpected(
                    "histogram description",
                    "histogram description key, e.g. buckets:[5 10 7]",
                ));
            };
            self.take();
            self.expect(Tok::Colon)?;
            if seen.contains(&key) {
                self.report(
                    Default::default(),
                    format!("duplicate key \"{}\" in histogram", item.text),
                );
            }
            seen.push(key);
            match key {
                HistogramKey::Schema => out.schema = self.integer()? as i32,
                HistogramKey::Sum => out.sum = self.real(false)?,
                HistogramKey::Count => out.count = self.real(false)?,
                HistogramKey::ZeroBucket => out.zero_count = self.real(false)?,
                HistogramKey::ZeroBucketWidth => {
                    let item = self.expect(Tok::Number)?;
                    out.zero_threshold = self.literal(item).value;
                }
                HistogramKey::CustomValues => out.custom_values = self.bucket_set()?.into(),
                HistogramKey::Offset => offset = self.integer()? as i32,
                HistogramKey::NegativeOffset => negative_offset = self.integer()? as i32,
                HistogramKey::Buckets => positive = self.bucket_set()?,
                HistogramKey::NegativeBuckets => negative = self.bucket_set()?,
                HistogramKey::CounterResetHint => {
                    let Tok::ResetHint(hint) = self.peek().tok else {
                        return Err(Abort::Fresh);
                    };
                    self.take();
                    out.counter_reset = match hint {
                        ResetHint::Unknown => CounterReset::Unknown,
                        ResetHint::Reset => CounterReset::Reset,
                        ResetHint::NotReset => CounterReset::NotReset,
                        ResetHint::Gauge => CounterReset::Gauge,
                    };
                }
            }
        }
        out.positive = Buckets::from_pairs((offset..i32::MAX).zip(positive));
        out.negative = Buckets::from_pairs((negative_offset..i32::MAX).zip(negative));
        Ok((out, seen.contains(&HistogramKey::CounterResetHint)))
    }

    /// `[1 2 3]`
    fn bucket_set(&mut self) -> Parsed<Vec<f64>> {
        self.expect(Tok::LeftBracket)?;
        let mut counts = vec![self.real(false)?];
        loop {
            let space = self.take_if(Tok::Space);
            if self.take_if(Tok::RightBracket) {
                return Ok(counts);
            }
            if !space {
                return Err(Abort::Fresh);
            }
            counts.push(self.real(false)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(text: &str) -> Vec<f64> {
        let series = parse_series(&format!("m {text}")).unwrap_or_else(|e| panic!("{text}: {e}"));
        let value = |v| match v {
            SequenceValue::Omitted => -1e9,
            SequenceValue::Float(v) => v,
            SequenceValue::Histogram { histogram, .. } => histogram.count,
        };
        series.values.into_iter().map(value).collect()
    }

    #[test]
    fn items_stand_for_positions() {
        const NONE: f64 = -1e9;
        for (text, values) in [
            ("1 2", &[1.0, 2.0][..]),
            ("_ _x2 5", &[NONE, NONE, NONE, 5.0]),
            ("1x2", &[1.0, 1.0, 1.0]),
            ("1+2x2", &[1.0, 3.0, 5.0]),
            ("-1-2x1", &[-1.0, -3.0]),
            ("0x2", &[0.0, 0.0, 0.0]),
            (
                "1.5e3  +Inf -inf",
                &[1500.0, f64::INFINITY, f64::NEG_INFINITY],
            ),
            ("{{count:3}}x1", &[3.0, 3.0]),
            ("{{count:3}}+{{count:2}}x2", &[3.0, 5.0, 7.0]),
            ("", &[]),
        ] {
            assert_eq!(floats(text), values, "{text}");
        }
        assert!(model::is_stale(floats("stale")[0]));
    }

    #[test]
    fn histogram_literals() {
        let text = "m {{schema:1 sum:-0.3 count:3.1 z_bucket:7.1 z_bucket_w:0.05 \
                    buckets:[5.1 10 7] offset:-3 n_buckets:[4.1 5] n_offset:-5 \
                    counter_reset_hint:gauge}}";
        let series = parse_series(text).unwrap();
        let SequenceValue::Histogram {
            histogram,
            hint_set,
        } = &series.values[0]
        else {
            panic!()
        };
        assert!(hint_set);
        assert_eq!(histogram.schema, 1);
        assert_eq!((histogram.sum, histogram.count), (-0.3, 3.1));
        assert_eq!(histogram.counter_reset, CounterReset::Gauge);
        let positive: Vec<_> = histogram.positive.iter().collect();
        assert_eq!(positive, [(-3, 5.1), (-2, 10.0), (-1, 7.0)]);
        let negative: Vec<_> = histogram.negative.iter().collect();
        assert_eq!(negative, [(-5, 4.1), (-4, 5.0)]);
        assert!(parse_series("{} {{schema:-53 custom_values:[5 10] buckets:[1 4]}}").is_ok());
    }

    #[test]
    fn errors_are_prometheus() {
        for (text, error) in [
            (
                "m 1 foo",
                "1:5: parse error: unexpected identifier \"foo\" in series values, expected number or \"stale\"",
            ),
            (
                "m 1 {{sum:1 sum:2}}",
                "1:1: parse error: duplicate key \"sum\" in histogram",
            ),
            (
                "m {{foo:1}}",
                "1:5: parse error: bad histogram descriptor found: \"foo\"",
            ),
            (
                "m {{schema:1}}+{{schema:0}}x1",
                "1:29: parse error: error combining histograms: cannot merge from schema 0 to 1",
            ),
            (
                "m{a=\"b\" c=\"d\"} 1",
                "1:9: parse error: unexpected identifier \"c\" in label set, expected \",\" or \"}\"",
            ),
        ] {
            assert_eq!(parse_series(text).unwrap_err().to_string(), error, "{text}");
        }
        assert!(parse_series("m 1x99999999999").is_err());
        assert!(parse_series("m {{count:1}}+{{count:2}}x99999999999").is_err());
    }
}
