//! Classic histograms out of lines of text: the series of one are put together again.

use model::Millis;
use model::histogram::{CounterReset, Histogram};
use model::report::MetricType;

use super::block::{self, Dialect, Part};
use super::buckets::Classic;
use super::{Series, parse_float};

/// Puts the series of a classic histogram together, as they follow each other in a body.
#[derive(Debug, Default)]
pub(crate) struct Collator {
    /// The metric of the last `# TYPE`, if it is a histogram, as it is written.
    family: Vec<u8>,
    is_histogram: bool,
    running: bool,
    /// The text of the histogram's own series: without suffix and `le`.
    text: Vec<u8>,
    scratch: Vec<u8>,
    classic: Classic,
    timestamp: Option<Millis>,
    start: Option<Millis>,
}

/// What a collated histogram is.
pub(crate) struct Collated<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) timestamp: Option<Millis>,
    pub(crate) start: Option<Millis>,
    pub(crate) value: Histogram,
}

/// What became of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Belongs {
    /// It is no part of a classic histogram.
    No,
    /// It is a part of the running one, or began a new one.
    Taken,
    /// It is a part of another one: take the running one out ([`Collator::finish`]), and show the
    /// series again.
    Next,
}

enum Part3 {
    Bucket(f64),
    Count,
    Sum,
}

impl Collator {
    /// A `# TYPE` line.
    pub(crate) fn family(&mut self, metric: &str, kind: MetricType) {
        self.family.clear();
        self.family.extend_from_slice(metric.as_bytes());
        self.is_histogram = kind == MetricType::Histogram;
    }

    /// Whether a histogram is on its way.
    pub(crate) fn running(&self) -> bool {
        self.running
    }

    /// Shows the next series.
    pub(crate) fn show(&mut self, series: &Series<'_>) -> Belongs {
        let part = (self.is_histogram && series.kind == MetricType::Histogram)
            .then(|| self.split(series.text))
            .flatten();
        let Some(part) = part else {
            return if self.running {
                Belongs::Next
            } else {
                Belongs::No
            };
        };
        if self.running && self.text != self.scratch {
            return Belongs::Next;
        }
        if !self.running {
            self.running = true;
            std::mem::swap(&mut self.text, &mut self.scratch);
            self.classic.clear();
            self.timestamp = series.timestamp;
            self.start = series.start;
        }
        match part {
            Part3::Bucket(bound) => self.classic.set_bucket(bound, series.value),
            Part3::Count => self.classic.set_count(series.value),
            Part3::Sum => self.classic.set_sum(series.value),
        }
        Belongs::Taken
    }

    /// Takes the running histogram out; none if its series contradict each other.
    pub(crate) fn finish(&mut self) -> Option<Collated<'_>> {
        if !std::mem::take(&mut self.running) {
            return None;
        }
        let value = self.classic.convert(CounterReset::Unknown)?;
        Some(Collated {
            text: &self.text,
            timestamp: self.timestamp,
            start: self.start,
            value,
        })
    }

    /// Which part of the family's histogram a series is; writes the histogram's text into the
    /// scratch.
    fn split(&mut self, text: &[u8]) -> Option<Part3> {
        let Self {
            scratch, family, ..
        } = self;
        scratch.clear();
        let quoted = text.first() == Some(&b'{');
        let mut at = 0;
        let mut name = 0..0;
        if !quoted {
            at = block::name_end(text, 0);
            name = 0..at;
            while let Some(b' ' | b'\t') = text.get(at) {
                at += 1;
            }
        }
        let mut bound = None;
        let mut open = false;
        if !quoted {
            scratch.extend_from_slice(family);
        }
        if text.get(at) == Some(&b'{') {
            // It was parsed before.
            let _ = block::scan(text, at + 1, Dialect::Text, !quoted, |part| {
                let label = match part {
                    Part::Name(found) => {
                        name = found;
                        return;
                    }
                    Part::Label(label, value) => {
                        let value = text.get(value).unwrap_or_default();
                        let label = text.get(label).unwrap_or_default();
                        if label == b"le" {
                            bound = parse_float(value).ok().filter(|b| !b.is_nan());
                            return;
                        }
                        (label, value)
                    }
                };
                if !std::mem::replace(&mut open, true) {
                    scratch.push(b'{');
                    if quoted {
                        put(scratch, family);
                        scratch.push(b',');
                    }
                } else {
                    scratch.push(b',');
                }
                put(scratch, label.0);
                scratch.push(b'=');
                put(scratch, label.1);
            });
        }
        if open {
            scratch.push(b'}');
        } else if quoted {
            scratch.push(b'{');
            put(scratch, family);
            scratch.push(b'}');
        }
        let suffix = text.get(name)?.strip_prefix(family.as_slice())?;
        match suffix {
            b"_bucket" => bound.map(Part3::Bucket),
            b"_count" => Some(Part3::Count),
            b"_sum" => Some(Part3::Sum),
            _ => None,
        }
    }
}

fn put(out: &mut Vec<u8>, quoted: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(quoted);
    out.push(b'"');
}
