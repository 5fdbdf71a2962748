//! The exposition formats: Prometheus text 0.0.4 and 1.0.0, OpenMetrics 1.0, and protobuf.
//!
//! A [`Parser`] walks over a body and yields [`Event`]s that borrow from it; nothing is allocated
//! per sample. A series is known by the raw text of its name and labels ([`Series::text`]), which
//! is what a scraper keeps from one scrape to the next: [`Parser::next_expecting`] compares the
//! line with the text that stood there last time and then reads no label at all. Labels are built
//! only when asked for ([`Series::labels`]). Protobuf is no lines of text: [`proto::read`] shows what
//! stands in it.
//!
//! What is accepted is what Prometheus 3 accepts (`model/textparse/promlex.l`,
//! `openmetricslex.l`), which is laxer than the OpenMetrics specification: order and grouping of
//! families are not enforced.

mod block;
pub(crate) mod buckets;
pub(crate) mod collate;
mod created;
mod negotiate;
mod number;
mod openmetrics;
pub mod proto;
mod series;
mod text;

use model::Millis;
use model::report::MetricType;

pub use model::escaping::EscapingScheme;
pub use negotiate::{
    Negotiated, NegotiationError, ScrapeProtocol, Written, accept_header, negotiate,
};
pub use number::{NumberError, format_openmetrics_float, parse_float};
pub use series::{Exemplar, LabelOptions, Series, labels_of, unescape, unescape_help};

use created::Created;
pub(crate) use series::{Pair, pairs_of};

/// The names of the metrics that a series of this name may belong to, the likeliest first: its own, and
/// that of a histogram, summary, counter or info that it is a part of.
pub fn families(name: &str) -> impl Iterator<Item = &str> {
    const PARTS: [&str; 8] = [
        "_sum", "_count", "_bucket", "_total", "_info", "_gsum", "_gcount", "_created",
    ];
    let wholes = PARTS.into_iter().filter_map(|part| name.strip_suffix(part));
    std::iter::once(name).chain(wholes)
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text, 0.0.4 or 1.0.0.
    Text,
    /// OpenMetrics 1.0 (and 0.0.1).
    OpenMetrics,
}

/// One thing that a body says.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// `# HELP`: metric and text, both still escaped (see [`unescape`], [`unescape_help`]).
    Help(&'a str, &'a str),
    /// `# TYPE`: metric (still escaped) and kind.
    Type(&'a str, MetricType),
    /// `# UNIT`: metric (still escaped) and unit.
    Unit(&'a str, &'a str),
    /// Any other comment, `#` included.
    Comment(&'a [u8]),
    /// A sample.
    Series(Series<'a>),
}

/// A body that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if *.line > 0 { format!("line {line}: ") } else { String::new() })]
pub struct ParseError {
    /// Line of the body, from 1; 0 if the text stands outside any body.
    pub line: usize,
    /// What is wrong there, and the text read so far.
    pub message: String,
}

/// Reads one body. See the [module](self) for what it yields.
#[derive(Clone, Debug)]
pub struct Parser<'a> {
    body: &'a [u8],
    pos: usize,
    format: Format,
    /// Kind and unit that the last metadata lines gave; they hold until the next ones, whatever
    /// the metric's name.
    kind: MetricType,
    unit: &'a str,
    /// Length of the metric name in the last metadata line (as `_created` lines are matched).
    family_len: usize,
    created: Option<Created>,
}

impl<'a> Parser<'a> {
    /// A parser at the beginning of `body`.
    pub fn new(body: &'a [u8], format: Format) -> Self {
        Self {
            body,
            pos: 0,
            format,
            kind: MetricType::Unknown,
            unit: "",
            family_len: 0,
            created: None,
        }
    }

    /// Takes OpenMetrics' `_created` lines as start timestamps of the family's series instead of
    /// series of their own.
    pub fn with_created_as_start(mut self) -> Self {
        self.created = (self.format == Format::OpenMetrics).then(Created::default);
        self
    }

    /// The next event; none at the end.
    pub fn next_event(&mut self) -> Result<Option<Event<'a>>, ParseError> {
        self.next_expecting(&[])
    }

    /// The next event, given the series text (see [`Series::text`]) that will probably come next.
    /// If it does, [`Series::expected`] is set and its labels were not looked at again.
    #[inline]
    pub fn next_expecting(&mut self, expected: &[u8]) -> Result<Option<Event<'a>>, ParseError> {
        match self.format {
            Format::Text => self.next_text(expected),
            Format::OpenMetrics if self.created.is_some() => self.next_with_created(expected),
            Format::OpenMetrics => self.next_openmetrics(expected),
        }
    }

    #[inline(always)]
    fn at(&self, pos: usize) -> Option<u8> {
        self.body.get(pos).copied()
    }

    /// Whether a line that begins at the parser's place begins with `expected`, as a whole series.
    #[inline(always)]
    fn meets(&self, expected: &[u8]) -> bool {
        match expected.last() {
            None => false,
            Some(&last) => {
                self.body
                    .get(self.pos..)
                    .is_some_and(|rest| rest.starts_with(expected))
                    // After a bare name, `{` or more of the name might follow.
                    && (last == b'}'
                        || matches!(self.at(self.pos + expected.len()), Some(b' ' | b'\t')))
            }
        }
    }

    /// An error about what stands at `at`, in the line or text that began at `start`.
    #[cold]
    fn fault(&self, what: impl std::fmt::Display, start: usize, at: usize) -> ParseError {
        const SHOWN: usize = 200;
        let end = (at + 1).min(self.body.len());
        let got = self.body.get(at..end).unwrap_or_default();
        let got = match got {
            [] => "end of input".to_owned(),
            got => format!("{:?}", String::from_utf8_lossy(got)),
        };
        let from = start.max(end.saturating_sub(SHOWN)).min(end);
        let read = String::from_utf8_lossy(self.body.get(from..end).unwrap_or_default());
        self.error(format!("{what}, got {got} while parsing: {read:?}"), start)
    }

    /// An error about the line that begins at `start`.
    #[cold]
    fn error(&self, message: String, start: usize) -> ParseError {
        let before = self.body.get(..start).unwrap_or_default();
        ParseError {
            line: 1 + memchr::memchr_iter(b'\n', before).count(),
            message,
        }
    }

    /// `metric` of a metadata line at `at`: bare or quoted. The name, and where it ends.
    fn metadata_name(
        &self,
        what: &str,
        start: usize,
        at: usize,
    ) -> Result<(&'a str, usize), ParseError> {
        let missing = || self.fault(format!("expected metric name after {what}"), start, at);
        let (name, end) = match self.at(at) {
            Some(b'"') => {
                let close = block::closing_quote::<false>(self.body, at + 1).ok_or_else(missing)?;
                (self.body.get(at + 1..close), close + 1)
            }
            Some(b) if block::is_name_start(b) => {
                let end = block::name_end(self.body, at);
                (self.body.get(at..end), end)
            }
            _ => return Err(missing()),
        };
        let name = std::str::from_utf8(name.unwrap_or_default())
            .map_err(|_| self.fault("invalid UTF-8 in metric name", start, at))?;
        Ok((name, end))
    }

    fn metadata_text(
        &self,
        what: &str,
        start: usize,
        text: &'a [u8],
    ) -> Result<&'a str, ParseError> {
        std::str::from_utf8(text).map_err(|_| {
            let text = String::from_utf8_lossy(text);
            self.error(
                format!("{what} text {text:?} is not a valid utf8 string"),
                start,
            )
        })
    }

    fn milliseconds(&self, token: &[u8], what: &str, start: usize) -> Result<Millis, ParseError> {
        let seconds = self.float(token, start)?;
        if !seconds.is_finite() {
            return Err(self.error(format!("invalid {what} {seconds}"), start));
        }
        Ok((seconds * 1000.0) as Millis)
    }

    fn float(&self, token: &[u8], start: usize) -> Result<f64, ParseError> {
        parse_float(token).map_err(|e| {
            let token = String::from_utf8_lossy(token);
            self.error(format!("{e} while parsing value {token:?}"), start)
        })
    }
}
