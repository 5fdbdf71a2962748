//! Lines of OpenMetrics 1.0.

use model::report::MetricType;

use super::block::{self, Dialect, Part};
use super::number::quick_float;
use super::{Event, Exemplar, ParseError, Parser, Series};

const NO_EOF: &str = "data does not end with # EOF";

impl<'a> Parser<'a> {
    #[inline]
    pub(super) fn next_openmetrics(
        &mut self,
        expected: &[u8],
    ) -> Result<Option<Event<'a>>, ParseError> {
        let start = self.pos;
        if self.meets(expected) {
            return self
                .openmetrics_sample(start, start + expected.len(), true)
                .map(Some);
        }
        match self.at(start) {
            None => Err(self.error(NO_EOF.to_owned(), start)),
            Some(b'#') => self.openmetrics_comment(start),
            Some(b'{') => {
                let mut named = false;
                let end = self.openmetrics_block(start, start + 1, false, &mut named)?;
                if !named {
                    return Err(self.fault("metric name not set", start, end - 1));
                }
                self.openmetrics_sample(start, end, false).map(Some)
            }
            Some(b) if block::is_name_start(b) => {
                let mut end = block::name_end(self.body, start);
                if self.at(end) == Some(b'{') {
                    end = self.openmetrics_block(start, end + 1, true, &mut false)?;
                }
                self.openmetrics_sample(start, end, false).map(Some)
            }
            _ => Err(self.fault("expected a valid start token", start, start)),
        }
    }

    #[inline(always)]
    fn openmetrics_block(
        &self,
        start: usize,
        at: usize,
        named: bool,
        found: &mut bool,
    ) -> Result<usize, ParseError> {
        self.checked_block(start, at, Dialect::OpenMetrics, named, found)
    }

    #[inline(always)]
    fn checked_block(
        &self,
        start: usize,
        at: usize,
        dialect: Dialect,
        named: bool,
        found: &mut bool,
    ) -> Result<usize, ParseError> {
        let mut bad = None;
        let end = block::scan(self.body, at, dialect, named, |part| match part {
            Part::Name(_) => *found = true,
            Part::Label(_, value) => {
                if !self.is_utf8(value.clone()) {
                    bad.get_or_insert(value.start);
                }
            }
        })
        .map_err(|f| self.fault(f.what, start, f.at))?;
        match bad {
            None => Ok(end),
            Some(at) => Err(self.fault("invalid UTF-8 label value", start, at)),
        }
    }

    /// A blank and a number at `at`: the number, and where it ends.
    #[inline(always)]
    fn spaced_float(
        &self,
        what: &str,
        start: usize,
        at: usize,
    ) -> Result<(f64, usize), ParseError> {
        if self.at(at) == Some(b' ') {
            match quick_float(self.body, at + 1) {
                // A tab ends a number in the text format only.
                Some((value, end)) if self.at(end) != Some(b'\t') => return Ok((value, end)),
                _ => {}
            }
        }
        let (token, end) = self
            .token(at)
            .ok_or_else(|| self.fault(format!("expected value after {what}"), start, at))?;
        Ok((self.float(token, start)?, end))
    }

    /// The token behind the one blank at `at`, and where it ends.
    fn token(&self, at: usize) -> Option<(&'a [u8], usize)> {
        let rest = self.body.get(at..)?.strip_prefix(b" ")?;
        let len = rest
            .iter()
            .position(|b| matches!(b, b' ' | b'\n'))
            .unwrap_or(rest.len());
        (len > 0).then(|| (rest.get(..len).unwrap_or_default(), at + 1 + len))
    }

    #[inline(always)]
    fn openmetrics_sample(
        &mut self,
        start: usize,
        end: usize,
        expected: bool,
    ) -> Result<Event<'a>, ParseError> {
        let (value, mut at) = self.spaced_float("metric", start, end)?;
        let (mut timestamp, mut exemplar) = (None, None);
        if self.at(at) != Some(b'\n') {
            if !self.begins_exemplar(at)
                && let Some((token, after)) = self.token(at)
            {
                timestamp = Some(self.milliseconds(token, "timestamp", start)?);
                at = after;
            }
            if self.begins_exemplar(at) {
                (exemplar, at) = self.exemplar(start, at + 3)?;
            }
            match self.at(at) {
                Some(b'\n') => {}
                None => return Err(self.error(NO_EOF.to_owned(), start)),
                Some(_) => {
                    let what = match (timestamp, exemplar) {
                        (_, Some(_)) => "expected next entry after exemplar timestamp",
                        (Some(_), None) => "expected next entry after timestamp",
                        (None, None) => "expected timestamp or new record",
                    };
                    return Err(self.fault(what, start, at));
                }
            }
        }
        self.pos = at + 1;
        Ok(Event::Series(Series {
            text: self.body.get(start..end).unwrap_or_default(),
            expected,
            value,
            timestamp,
            start: None,
            exemplar,
            kind: self.kind,
            unit: self.unit,
        }))
    }

    fn begins_exemplar(&self, at: usize) -> bool {
        self.body.get(at..at + 4) == Some(b" # {")
    }

    /// The exemplar whose `{` stands at `at`, and where it ends.
    fn exemplar(
        &self,
        start: usize,
        at: usize,
    ) -> Result<(Option<Exemplar<'a>>, usize), ParseError> {
        let end = self.checked_block(start, at + 1, Dialect::Exemplar, true, &mut false)?;
        let (value, mut after) = self.spaced_float("exemplar labels", start, end)?;
        let mut timestamp = None;
        if let Some((token, next)) = self.token(after) {
            timestamp = Some(self.milliseconds(token, "exemplar timestamp", start)?);
            after = next;
        }
        let text = self.body.get(at..end).unwrap_or_default();
        Ok((
            Some(Exemplar {
                text,
                value,
                timestamp,
            }),
            after,
        ))
    }

    fn openmetrics_comment(&mut self, start: usize) -> Result<Option<Event<'a>>, ParseError> {
        let rest = self.body.get(start..).unwrap_or_default();
        if let Some(after) = rest.strip_prefix(b"# EOF") {
            if !matches!(after, b"" | b"\n") {
                return Err(self.error("unexpected data after # EOF".to_owned(), start));
            }
            // Stay in front of it: the end is the end, however often it is asked for.
            return Ok(None);
        }
        let meta = match rest.get(..7) {
            Some(b"# HELP ") => "HELP",
            Some(b"# TYPE ") => "TYPE",
            Some(b"# UNIT ") => "UNIT",
            _ => return Err(self.fault("expected a valid start token", start, start + 1)),
        };
        let (metric, at) = self.metadata_name(meta, start, start + 7)?;
        let rest = self.body.get(at..).unwrap_or_default();
        let text = match (memchr::memchr(b'\n', rest), rest.first()) {
            (Some(end), Some(b' ')) => rest.get(1..end).unwrap_or_default(),
            _ => return Err(self.fault(format!("expected text in {meta}"), start, at)),
        };
        let text = self.metadata_text("metadata", start, text)?;
        self.family_len = metric.len();
        self.pos = at + 1 + text.len() + 1;
        Ok(Some(match meta {
            "HELP" => Event::Help(metric, text),
            "TYPE" => {
                self.kind = match text {
                    "counter" => MetricType::Counter,
                    "gauge" => MetricType::Gauge,
                    "histogram" => MetricType::Histogram,
                    "gaugehistogram" => MetricType::GaugeHistogram,
                    "summary" => MetricType::Summary,
                    "info" => MetricType::Info,
                    "stateset" => MetricType::StateSet,
                    "unknown" => MetricType::Unknown,
                    other => {
                        return Err(self.error(format!("invalid metric type {other:?}"), start));
                    }
                };
                Event::Type(metric, self.kind)
            }
            _ => {
                let suffixed = metric
                    .strip_suffix(text)
                    .is_some_and(|before| before.ends_with('_'));
                if !text.is_empty() && !suffixed {
                    let message = format!("unit {text:?} not a suffix of metric {metric:?}");
                    return Err(self.error(message, start));
                }
                self.unit = text;
                Event::Unit(metric, text)
            }
        }))
    }
}
