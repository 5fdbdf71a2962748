//! A sample as it stands in the body, and the labels that its text spells.

use std::borrow::Cow;

use model::report::MetricType;
use model::{Labels, METRIC_NAME, Millis};

use super::block::{self, Dialect, Part};
use super::{ParseError, format_openmetrics_float};

/// One sample of a body.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// Name and labels as they are written: the key of this series from scrape to scrape.
    pub text: &'a [u8],
    /// Whether the text is the one that was expected.
    pub expected: bool,
    /// The value; any NaN is [`model::sample::NORMAL_NAN`].
    pub value: f64,
    /// Its own timestamp, ms.
    pub timestamp: Option<Millis>,
    /// Since when it counts, ms, from a `_created` line.
    pub start: Option<Millis>,
    /// Its exemplar.
    pub exemplar: Option<Exemplar<'a>>,
    /// The kind that the last `# TYPE` line gave.
    pub kind: MetricType,
    /// The unit that the last `# UNIT` line gave.
    pub unit: &'a str,
}

impl Series<'_> {
    /// The labels, `le` and `quantile` normalised.
    pub fn labels(&self) -> Result<Labels, ParseError> {
        labels_of(self.text, self.kind, LabelOptions::default())
    }

    /// The labels with `__type__` and `__unit__` added where they are known.
    pub fn labels_with_type_and_unit(&self) -> Result<Labels, ParseError> {
        labels_of(
            self.text,
            self.kind,
            LabelOptions {
                type_and_unit: Some(self.unit),
            },
        )
    }
}

/// An exemplar as it stands in the body.
#[derive(Clone, Copy, Debug)]
pub struct Exemplar<'a> {
    /// Its label block, braces included.
    pub text: &'a [u8],
    /// Its value.
    pub value: f64,
    /// Its timestamp, ms.
    pub timestamp: Option<Millis>,
}

impl Exemplar<'_> {
    /// Its labels.
    pub fn labels(&self) -> Result<Labels, ParseError> {
        let mut pairs = Vec::with_capacity(4);
        collect(self.text, 1, Dialect::Exemplar, &mut pairs)?;
        sort(&mut pairs)?;
        Ok(to_labels(&pairs))
    }
}

/// What [`labels_of`] shall add.
#[derive(Clone, Copy, Debug, Default)]
pub struct LabelOptions<'a> {
    /// Add `__type__` and `__unit__`, the latter with this unit.
    pub type_and_unit: Option<&'a str>,
}

/// Name and value of a label.
pub(crate) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The labels that a series' text spells: unescaped, sorted, without empty values; `le` of
/// histograms and `quantile` of summaries written as OpenMetrics writes floats. A name that
/// occurs twice is an error.
pub fn labels_of(
    text: &[u8],
    kind: MetricType,
    options: LabelOptions<'_>,
) -> Result<Labels, ParseError> {
    pairs_of(text, kind, options).map(|pairs| to_labels(&pairs))
}

/// The same as pairs, sorted by name and unique; empty values are still there.
pub(crate) fn pairs_of<'a>(
    text: &'a [u8],
    kind: MetricType,
    options: LabelOptions<'a>,
) -> Result<Vec<Pair<'a>>, ParseError> {
    let mut pairs: Vec<Pair<'_>> = Vec::with_capacity(16);
    let named = text.first() != Some(&b'{');
    let mut at = 0;
    if named {
        at = block::name_end(text, 0);
        pairs.push((
            METRIC_NAME.into(),
            utf8(text.get(..at).unwrap_or_default())?,
        ));
        while let Some(b' ' | b'\t') = text.get(at) {
            at += 1;
        }
    }
    if text.get(at) == Some(&b'{') {
        // Whatever parsed as OpenMetrics parses as text too, and to the same.
        collect(text, at + 1, Dialect::Text, &mut pairs)?;
    }
    let normalised = match kind {
        MetricType::Histogram => "le",
        MetricType::Summary => "quantile",
        _ => "",
    };
    if let Some((_, value)) = pairs
        .iter_mut()
        .find(|(n, _)| !normalised.is_empty() && n == normalised)
        && let Ok(float) = super::parse_float(value.as_bytes())
    {
        *value = format_openmetrics_float(float).into();
    }
    if let Some(unit) = options.type_and_unit {
        for (name, value) in [
            (
                "__type__",
                if kind == MetricType::Unknown {
                    ""
                } else {
                    kind.as_str()
                },
            ),
            ("__unit__", unit),
        ] {
            if !value.is_empty() {
                pairs.retain(|(n, _)| n != name);
                pairs.push((name.into(), value.into()));
            }
        }
    }
    sort(&mut pairs)?;
    Ok(pairs)
}

fn collect<'a>(
    text: &'a [u8],
    at: usize,
    dialect: Dialect,
    pairs: &mut Vec<Pair<'a>>,
) -> Result<(), ParseError> {
    let mut bad = None;
    let mut push = |name: Option<std::ops::Range<usize>>, value: std::ops::Range<usize>| {
        let read = |range| utf8(text.get(range).unwrap_or_default()).map(unescape_cow);
        match (name.map_or(Ok(METRIC_NAME.into()), read), read(value)) {
            (Ok(name), Ok(value)) => pairs.push((name, value)),
            (Err(e), _) | (_, Err(e)) => bad = Some(e),
        }
    };
    block::scan(text, at, dialect, false, |part| match part {
        Part::Name(name) => push(None, name),
        Part::Label(name, value) => push(Some(name), value),
    })
    .map_err(|fault| invalid(fault.what.to_owned()))?;
    bad.map_or(Ok(()), Err)
}

fn sort(pairs: &mut [Pair<'_>]) -> Result<(), ParseError> {
    pairs.sort_unstable();
    for pair in pairs.windows(2) {
        if let [(a, _), (b, _)] = pair
            && a == b
        {
            return Err(invalid(format!(
                "label name {a:?} is not unique: invalid sample"
            )));
        }
    }
    Ok(())
}

fn to_labels(pairs: &[Pair<'_>]) -> Labels {
    Labels::from_sorted(
        pairs
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.as_ref(), value.as_ref())),
    )
}

fn utf8(bytes: &[u8]) -> Result<Cow<'_, str>, ParseError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) => Err(invalid(format!(
            "invalid UTF-8 in {:?}",
            String::from_utf8_lossy(bytes)
        ))),
    }
}

/// The error of a text that stands outside any body; whoever knows the line puts it in.
#[cold]
fn invalid(message: String) -> ParseError {
    ParseError { line: 0, message }
}

fn unescape_cow(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => unescape(text),
        owned => owned,
    }
}

/// Resolves `\"`, `\\` and `\n`; any other backslash stands for itself.
pub fn unescape(text: &str) -> Cow<'_, str> {
    replace(text, true)
}

/// Resolves `\\` and `\n`, as the Prometheus text format escapes help texts (OpenMetrics escapes
/// them as label values: [`unescape`]).
pub fn unescape_help(text: &str) -> Cow<'_, str> {
    replace(text, false)
}

fn replace(text: &str, quotes: bool) -> Cow<'_, str> {
    if memchr::memchr(b'\\', text.as_bytes()).is_none() {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let escaped = match (c, chars.peek()) {
            ('\\', Some('\\')) => '\\',
            ('\\', Some('n')) => '\n',
            ('\\', Some('"')) if quotes => '"',
            _ => {
                out.push(c);
                continue;
            }
        };
        out.push(escaped);
        chars.next();
    }
    out.into()
}
