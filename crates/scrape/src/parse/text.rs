//! Lines of the Prometheus text format.

use model::report::MetricType;

use super::block::{self, Dialect, Part};
use super::number::quick_float;
use super::{Event, ParseError, Parser, Series};

impl<'a> Parser<'a> {
    #[inline]
    pub(super) fn next_text(&mut self, expected: &[u8]) -> Result<Option<Event<'a>>, ParseError> {
        if self.meets(expected) {
            let (start, end) = (self.pos, self.pos + expected.len());
            let value = self.blanks(end);
            // `name {` is the same name with labels.
            if self.at(value) != Some(b'{') {
                return self.text_sample(start, end, value, true).map(Some);
            }
        }
        loop {
            let start = self.blanks(self.pos);
            let Some(first) = self.at(start) else {
                self.pos = start;
                return Ok(None);
            };
            match first {
                b'\n' => self.pos = start + 1,
                b'#' => return self.text_comment(start).map(Some),
                b'{' => {
                    let mut named = false;
                    let end = self.text_block(start, start + 1, false, &mut named)?;
                    if !named {
                        return Err(self.fault("metric name not set", start, end - 1));
                    }
                    return self
                        .text_sample(start, end, self.blanks(end), false)
                        .map(Some);
                }
                b if block::is_name_start(b) => {
                    let mut end = block::name_end(self.body, start);
                    let mut value = self.blanks(end);
                    if self.at(value) == Some(b'{') {
                        end = self.text_block(start, value + 1, true, &mut false)?;
                        value = self.blanks(end);
                    }
                    return self.text_sample(start, end, value, false).map(Some);
                }
                // A NUL at the start of a line ends the text.
                0 => {
                    self.pos = self.body.len();
                    return Ok(None);
                }
                _ => return Err(self.fault("expected a valid start token", start, start)),
            }
        }
    }

    #[inline(always)]
    fn blanks(&self, mut at: usize) -> usize {
        while let Some(b' ' | b'\t') = self.at(at) {
            at += 1;
        }
        at
    }

    /// Checks the block that begins at `at` and returns its end.
    #[inline(always)]
    fn text_block(
        &self,
        start: usize,
        at: usize,
        named: bool,
        found: &mut bool,
    ) -> Result<usize, ParseError> {
        let mut bad = None;
        let end = block::scan(self.body, at, Dialect::Text, named, |part| match part {
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

    #[inline(always)]
    pub(super) fn is_utf8(&self, range: std::ops::Range<usize>) -> bool {
        self.body
            .get(range)
            .is_some_and(|v| std::str::from_utf8(v).is_ok())
    }

    /// The rest of a sample's line: value at `at`, then perhaps a timestamp.
    #[inline(always)]
    fn text_sample(
        &mut self,
        start: usize,
        end: usize,
        at: usize,
        expected: bool,
    ) -> Result<Event<'a>, ParseError> {
        let (value, mut at) = match quick_float(self.body, at) {
            Some(quick) => quick,
            None => self.text_value(start, at)?,
        };
        let mut timestamp = None;
        if self.at(at) != Some(b'\n') {
            at = self.blanks(at);
            let digits = at;
            let mut ms: Option<i64> = Some(0);
            while let Some(d @ b'0'..=b'9') = self.at(at) {
                ms = ms.and_then(|ms| ms.checked_mul(10)?.checked_add(i64::from(d - b'0')));
                at += 1;
            }
            if at > digits {
                timestamp =
                    Some(ms.ok_or_else(|| {
                        self.fault("timestamp: value out of range", start, at - 1)
                    })?);
                at = self.blanks(at);
            }
            if !matches!(self.at(at), None | Some(b'\n')) {
                let what = match timestamp {
                    None => "expected timestamp or new record",
                    Some(_) => "expected next entry after timestamp",
                };
                return Err(self.fault(what, start, at));
            }
        }
        self.pos = at + 1;
        Ok(Event::Series(Series {
            text: self.body.get(start..end).unwrap_or_default(),
            expected,
            value,
            timestamp,
            start: None,
            exemplar: None,
            kind: self.kind,
            unit: "",
        }))
    }

    #[cold]
    fn text_value(&self, start: usize, at: usize) -> Result<(f64, usize), ParseError> {
        let rest = self.body.get(at..).unwrap_or_default();
        let len = rest
            .iter()
            .position(|b| matches!(b, b'{' | b' ' | b'\t' | b'\n'))
            .unwrap_or(rest.len());
        if len == 0 || rest.first() == Some(&0) {
            return Err(self.fault("expected value after metric", start, at));
        }
        let value = self.float(rest.get(..len).unwrap_or_default(), start)?;
        Ok((value, at + len))
    }

    /// A line that begins with `#` at `start`.
    fn text_comment(&mut self, start: usize) -> Result<Event<'a>, ParseError> {
        let rest = self.body.get(start..).unwrap_or_default();
        let end = start + memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let word = self.blanks(start + 1);
        let line = self.body.get(word..end).unwrap_or_default();
        let meta = match line.get(..5) {
            Some(b"HELP " | b"HELP\t") if word > start + 1 => "HELP",
            Some(b"TYPE " | b"TYPE\t") if word > start + 1 => "TYPE",
            _ => {
                self.pos = end + 1;
                return Ok(Event::Comment(
                    self.body.get(start..end).unwrap_or_default(),
                ));
            }
        };
        let (metric, at) = self.metadata_name(meta, start, self.blanks(word + 4))?;
        // A quoted name may hold line feeds: look for the end again.
        let rest = self.body.get(at..).unwrap_or_default();
        let end = at + memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        // One separating character, whichever it is.
        let text = self.body.get(at + 1..end).unwrap_or_default();
        let text = self.metadata_text("metadata", start, text)?;
        self.pos = end + 1;
        if meta == "HELP" {
            return Ok(Event::Help(metric, text));
        }
        self.kind = match text {
            "counter" => MetricType::Counter,
            "gauge" => MetricType::Gauge,
            "histogram" => MetricType::Histogram,
            "summary" => MetricType::Summary,
            "untyped" => MetricType::Unknown,
            other => return Err(self.error(format!("invalid metric type {other:?}"), start)),
        };
        Ok(Event::Type(metric, self.kind))
    }
}
