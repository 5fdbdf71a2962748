//! Delimited protobuf: `io.prometheus.client.MetricFamily` messages, each behind its length.
//!
//! Messages are walked over where they lie. A series gets the text that it would have in the text
//! format, made in a buffer that is used again, so that caches and labels know no difference. Which
//! series a metric stands for is what Prometheus decides (`model/textparse/protobufparse.go`).

use model::histogram::{Buckets, CounterReset, FloatHistogram, Histogram, IntHistogram, Span};
use model::report::MetricType;
use model::{Labels, Millis};
use wire::fields::{BadMessage, Fields, unzigzag};

use super::buckets::{Classic, compacted};
use super::{ParseError, block, format_openmetrics_float};

/// Which series histograms become.
#[derive(Clone, Copy, Debug, Default)]
pub struct Histograms {
    /// Native histograms are taken; else they count as classic ones.
    pub native: bool,
    /// Classic series are taken beside native histograms.
    pub classic: bool,
    /// Classic histograms become native ones with custom bounds.
    pub convert: bool,
}

/// What is known of a metric family.
#[derive(Clone, Copy, Debug, Default)]
pub struct Family<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it means.
    pub help: &'a str,
    /// Its unit.
    pub unit: &'a str,
    /// Its kind.
    pub kind: MetricType,
}

/// One sample.
#[derive(Debug)]
pub struct Sample<'a> {
    /// Name and labels as the text format writes them.
    pub text: &'a [u8],
    /// Its kind.
    pub kind: MetricType,
    /// Its own timestamp, ms.
    pub timestamp: Option<Millis>,
    /// Since when it counts, ms.
    pub start: Option<Millis>,
    /// What it says.
    pub value: Shown,
    /// Its exemplars: those of a histogram ascend in time.
    pub exemplars: &'a [Exemplar<'a>],
}

/// The value of a [`Sample`].
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Histogram),
}

/// An exemplar.
#[derive(Clone, Copy, Debug)]
pub struct Exemplar<'a> {
    message: &'a [u8],
    /// Its value.
    pub value: f64,
    /// Its time, ms.
    pub timestamp: Option<Millis>,
}

/// Something that a body holds.
#[derive(Debug)]
pub enum Item<'a> {
    /// A family; what follows belongs to it.
    Family(Family<'a>),
    /// A sample.
    Sample(Sample<'a>),
}

/// Shows `visit` everything in `body`, in order.
pub fn read<E: From<ParseError>>(
    body: &[u8],
    histograms: Histograms,
    mut visit: impl FnMut(Item<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut rest = Fields::new(body);
    let mut reader = Reader {
        histograms,
        family: Family::default(),
        writer: Writer::default(),
        buckets: Vec::new(),
        exemplars: Vec::new(),
        classic: Classic::default(),
    };
    while !rest.rest().is_empty() {
        let message = rest.varint().and_then(|len| rest.take(len)).map_err(bad)?;
        reader.family(message, &mut visit)?;
    }
    Ok(())
}

fn bad(error: BadMessage) -> ParseError {
    invalid(format!("invalid protobuf: {error}"))
}

#[cold]
fn invalid(message: String) -> ParseError {
    ParseError { line: 0, message }
}

/// The label block and the series' texts.
#[derive(Default)]
struct Writer {
    /// `a="1",b="2"`.
    labels: String,
    text: String,
}

impl Writer {
    /// The text of the metric with a suffix and one more label.
    fn text(&mut self, name: &str, suffix: &str, more: Option<(&str, &str)>) -> &[u8] {
        let bytes = name.as_bytes();
        let bare = bytes.first().is_some_and(|b| block::is_name_start(*b))
            && block::name_end(bytes, 0) == bytes.len();
        let out = &mut self.text;
        out.clear();
        let mut open = false;
        if bare {
            out.push_str(name);
            out.push_str(suffix);
        } else {
            out.push_str("{\"");
            escape(out, name);
            out.push_str(suffix);
            out.push('"');
            open = true;
        }
        let mut put = |part: &str| {
            out.push(if std::mem::replace(&mut open, true) {
                ','
            } else {
                '{'
            });
            out.push_str(part);
        };
        if !self.labels.is_empty() {
            put(&self.labels);
        }
        if let Some((name, value)) = more {
            put(name);
            out.push_str("=\"");
            out.push_str(value);
            out.push('"');
        }
        if open {
            out.push('}');
        }
        out.as_bytes()
    }

    fn label(&mut self, name: &str, value: &str) {
        let out = &mut self.labels;
        if !out.is_empty() {
            out.push(',');
        }
        let bytes = name.as_bytes();
        let bare = bytes.first().is_some_and(|b| block::is_name_start(*b))
            && bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || *b == b'_');
        if bare {
            out.push_str(name);
        } else {
            out.push('"');
            escape(out, name);
            out.push('"');
        }
        out.push_str("=\"");
        escape(out, value);
        out.push('"');
    }
}

fn escape(out: &mut String, text: &str) {
    if !text.bytes().any(|b| matches!(b, b'\\' | b'"' | b'\n')) {
        out.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

/// A bucket of a classic histogram, or a quantile of a summary.
#[derive(Clone, Copy, Default)]
struct Point<'a> {
    bound: f64,
    value: f64,
    exemplar: Option<&'a [u8]>,
}

/// A histogram's or summary's own fields.
#[derive(Default)]
struct Observed {
    count: u64,
    count_float: f64,
    sum: f64,
    schema: i64,
    zero_threshold: f64,
    zero_count: u64,
    zero_count_float: f64,
    positive: Side,
    negative: Side,
    start: Option<Millis>,
    own_exemplars: bool,
}

#[derive(Default)]
struct Side {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl Observed {
    fn total(&self) -> f64 {
        if self.count_float == 0.0 {
            self.count as f64
        } else {
            self.count_float
        }
    }

    fn is_native(&self) -> bool {
        !self.positive.spans.is_empty()
            || !self.negative.spans.is_empty()
            || self.zero_threshold > 0.0
            || self.zero_count > 0
    }

    /// The native histogram, without empty buckets.
    fn native(self, name: &str, counter_reset: CounterReset) -> Result<Histogram, ParseError> {
        let schema = i32::try_from(self.schema)
            .map_err(|_| invalid(format!("histogram {name:?}: invalid schema")))?;
        let float = self.count_float > 0.0 || self.zero_count_float > 0.0;
        for (what, side) in [("positive", &self.positive), ("negative", &self.negative)] {
            let needed: u64 = side.spans.iter().map(|s| u64::from(s.length)).sum();
            let have = if float {
                side.counts.len()
            } else {
                side.deltas.len()
            };
            if needed != have as u64 {
                return Err(invalid(format!(
                    "histogram {name:?}: {what} side: spans require {needed} buckets, have {have}"
                )));
            }
        }
        if float {
            let buckets = |side: Side| {
                let all = Buckets {
                    spans: side.spans,
                    counts: side.counts,
                };
                Buckets::from_pairs(all.iter().filter(|(_, count)| *count != 0.0))
            };
            return Ok(Histogram::Float(FloatHistogram {
                counter_reset,
                schema,
                zero_threshold: self.zero_threshold,
                zero_count: self.zero_count_float,
                count: self.count_float,
                sum: self.sum,
                positive: buckets(self.positive),
                negative: buckets(self.negative),
                ..FloatHistogram::default()
            }));
        }
        let buckets = |side: Side| {
            let all = model::histogram::IntBuckets {
                spans: side.spans,
                deltas: side.deltas,
            };
            compacted(all.iter(), 0)
        };
        Ok(Histogram::Int(IntHistogram {
            counter_reset,
            schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            positive: buckets(self.positive),
            negative: buckets(self.negative),
            ..IntHistogram::default()
        }))
    }
}

struct Reader<'a> {
    histograms: Histograms,
    family: Family<'a>,
    writer: Writer,
    buckets: Vec<Point<'a>>,
    exemplars: Vec<Exemplar<'a>>,
    classic: Classic,
}

impl<'a> Reader<'a> {
    fn family<E: From<ParseError>>(
        &mut self,
        message: &'a [u8],
        visit: &mut impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut family = Family::default();
        let mut kind = 0;
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next_field().map_err(bad)? {
            let text = || value.text().map_err(bad);
            match number {
                1 => family.name = text()?,
                2 => family.help = text()?,
                3 => kind = value.number(),
                5 => family.unit = text()?,
                _ => {}
            }
        }
        family.kind = match kind {
            0 => MetricType::Counter,
            1 => MetricType::Gauge,
            2 => MetricType::Summary,
            3 => MetricType::Unknown,
            4 => MetricType::Histogram,
            5 => MetricType::GaugeHistogram,
            other => {
                let name = family.name;
                return Err(
                    invalid(format!("unknown metric type for metric {name:?}: {other}")).into(),
                );
            }
        };
        if family.name.is_empty() {
            return Err(invalid("invalid metric name: a family has none".to_owned()).into());
        }
        self.family = family;
        let mut fields = Fields::new(message);
        let mut shown = false;
        while let Some((number, value)) = fields.next_field().map_err(bad)? {
            if number == 4 {
                // Families without metrics are passed over.
                if !std::mem::replace(&mut shown, true) {
                    visit(Item::Family(family))?;
                }
                self.metric(value.bytes(), visit)?;
            }
        }
        Ok(())
    }

    fn metric<E: From<ParseError>>(
        &mut self,
        message: &'a [u8],
        visit: &mut impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.writer.labels.clear();
        let mut timestamp = None;
        // The part that fits the family's kind; absent is all zero.
        let part = match self.family.kind {
            MetricType::Gauge => 2,
            MetricType::Counter => 3,
            MetricType::Summary => 4,
            MetricType::Histogram | MetricType::GaugeHistogram => 7,
            _ => 5,
        };
        let mut body: &'a [u8] = &[];
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next_field().map_err(bad)? {
            match number {
                1 => {
                    let (name, text) = pair(value.bytes()).map_err(bad)?;
                    self.writer.label(name, text);
                }
                6 => timestamp = Some(value.signed()).filter(|ts| *ts != 0),
                n if n == part => body = value.bytes(),
                _ => {}
            }
        }
        let mut show = Show {
            kind: self.family.kind,
            timestamp,
            start: None,
            visit,
        };
        match self.family.kind {
            MetricType::Summary => self.summary(body, &mut show),
            MetricType::Histogram | MetricType::GaugeHistogram => self.histogram(body, &mut show),
            _ => self.simple(body, &mut show),
        }
    }

    fn simple<E: From<ParseError>>(
        &mut self,
        body: &'a [u8],
        show: &mut Show<'_, impl FnMut(Item<'_>) -> Result<(), E>>,
    ) -> Result<(), E> {
        self.exemplars.clear();
        let mut number = 0.0;
        let mut fields = Fields::new(body);
        while let Some((n, value)) = fields.next_field().map_err(bad)? {
            match n {
                1 => number = value.double(),
                2 if self.family.kind == MetricType::Counter => {
                    self.exemplars.push(exemplar(value.bytes()).map_err(bad)?);
                }
                3 => show.start = Some(time(value.bytes()).map_err(bad)?),
                _ => {}
            }
        }
        let text = self.writer.text(self.family.name, "", None);
        show.show(text, Shown::Float(number), &self.exemplars)
    }

    fn summary<E: From<ParseError>>(
        &mut self,
        body: &'a [u8],
        show: &mut Show<'_, impl FnMut(Item<'_>) -> Result<(), E>>,
    ) -> Result<(), E> {
        self.buckets.clear();
        let (mut count, mut sum) = (0, 0.0);
        let mut fields = Fields::new(body);
        while let Some((n, value)) = fields.next_field().map_err(bad)? {
            match n {
                1 => count = value.number(),
                2 => sum = value.double(),
                3 => {
                    let mut quantile = Point::default();
                    let mut fields = value.fields();
                    while let Some((n, value)) = fields.next_field().map_err(bad)? {
                        match n {
                            1 => quantile.bound = value.double(),
                            2 => quantile.value = value.double(),
                            _ => {}
                        }
                    }
                    self.buckets.push(quantile);
                }
                4 => show.start = Some(time(value.bytes()).map_err(bad)?),
                _ => {}
            }
        }
        let name = self.family.name;
        show.show(
            self.writer.text(name, "_count", None),
            Shown::Float(count as f64),
            &[],
        )?;
        show.show(self.writer.text(name, "_sum", None), Shown::Float(sum), &[])?;
        for quantile in &self.buckets {
            let which = format_openmetrics_float(quantile.bound);
            let text = self.writer.text(name, "", Some(("quantile", &which)));
            show.show(text, Shown::Float(quantile.value), &[])?;
        }
        Ok(())
    }

    fn histogram<E: From<ParseError>>(
        &mut self,
        body: &'a [u8],
        show: &mut Show<'_, impl FnMut(Item<'_>) -> Result<(), E>>,
    ) -> Result<(), E> {
        let observed = self.observed(body).map_err(bad)?;
        show.start = observed.start;
        let name = self.family.name;
        let counter_reset = match self.family.kind {
            MetricType::GaugeHistogram => CounterReset::Gauge,
            _ => CounterReset::Unknown,
        };
        let Histograms {
            native,
            classic,
            convert,
        } = self.histograms;
        let total = observed.total();
        let sum = observed.sum;
        if native && observed.is_native() {
            if !observed.own_exemplars {
                self.bucket_exemplars().map_err(bad)?;
            }
            // Without a time nobody could tell them apart.
            self.exemplars.retain(|e| e.timestamp.is_some());
            self.exemplars.sort_by_key(|e| e.timestamp);
            let value = observed.native(name, counter_reset)?;
            let text = self.writer.text(name, "", None);
            show.show(text, Shown::Histogram(value), &self.exemplars)?;
            if !classic || self.buckets.is_empty() {
                return Ok(());
            }
            return self.classic(total, sum, show);
        }
        if !convert || classic {
            self.classic(total, sum, show)?;
        }
        if convert {
            self.classic.clear();
            self.classic.set_count(total);
            self.classic.set_sum(sum);
            for bucket in &self.buckets {
                self.classic.set_bucket(bucket.bound, bucket.value);
            }
            let value = self.classic.convert(counter_reset).ok_or_else(|| {
                invalid(format!(
                    "histogram {name:?}: its buckets contradict each other"
                ))
            })?;
            self.bucket_exemplars().map_err(bad)?;
            self.exemplars.retain(|e| e.timestamp.is_some());
            self.exemplars.sort_by_key(|e| e.timestamp);
            let text = self.writer.text(name, "", None);
            show.show(text, Shown::Histogram(value), &self.exemplars)?;
        }
        Ok(())
    }

    /// The series of a classic histogram.
    fn classic<E: From<ParseError>>(
        &mut self,
        total: f64,
        sum: f64,
        show: &mut Show<'_, impl FnMut(Item<'_>) -> Result<(), E>>,
    ) -> Result<(), E> {
        let name = self.family.name;
        show.show(
            self.writer.text(name, "_count", None),
            Shown::Float(total),
            &[],
        )?;
        show.show(self.writer.text(name, "_sum", None), Shown::Float(sum), &[])?;
        let mut open = true;
        for bucket in &self.buckets {
            let le = format_openmetrics_float(bucket.bound);
            let exemplar = bucket.exemplar.map(exemplar).transpose().map_err(bad)?;
            let text = self.writer.text(name, "_bucket", Some(("le", &le)));
            show.show(text, Shown::Float(bucket.value), exemplar.as_slice())?;
            open = bucket.bound != f64::INFINITY;
            if !open {
                break;
            }
        }
        if open {
            let text = self.writer.text(name, "_bucket", Some(("le", "+Inf")));
            show.show(text, Shown::Float(total), &[])?;
        }
        Ok(())
    }

    fn bucket_exemplars(&mut self) -> Result<(), BadMessage> {
        self.exemplars.clear();
        for message in self.buckets.iter().filter_map(|b| b.exemplar) {
            self.exemplars.push(exemplar(message)?);
        }
        Ok(())
    }

    fn observed(&mut self, body: &'a [u8]) -> Result<Observed, BadMessage> {
        self.buckets.clear();
        self.exemplars.clear();
        let mut o = Observed::default();
        let mut fields = Fields::new(body);
        while let Some((n, value)) = fields.next_field()? {
            match n {
                1 => o.count = value.number(),
                2 => o.sum = value.double(),
                3 => self.buckets.push(bucket(value.bytes())?),
                4 => o.count_float = value.double(),
                5 => o.schema = value.zigzag(),
                6 => o.zero_threshold = value.double(),
                7 => o.zero_count = value.number(),
                8 => o.zero_count_float = value.double(),
                9 => o.negative.spans.push(span(value.bytes())?),
                10 => value.each_varint(|d| o.negative.deltas.push(unzigzag(d)))?,
                11 => value.each_double(|c| o.negative.counts.push(c))?,
                12 => o.positive.spans.push(span(value.bytes())?),
                13 => value.each_varint(|d| o.positive.deltas.push(unzigzag(d)))?,
                14 => value.each_double(|c| o.positive.counts.push(c))?,
                15 => o.start = Some(time(value.bytes())?),
                16 => {
                    o.own_exemplars = true;
                    self.exemplars.push(exemplar(value.bytes())?);
                }
                _ => {}
            }
        }
        Ok(o)
    }
}

/// What all samples of a metric have in common, and who sees them.
struct Show<'v, V> {
    kind: MetricType,
    timestamp: Option<Millis>,
    start: Option<Millis>,
    visit: &'v mut V,
}

impl<V> Show<'_, V> {
    fn show<E>(&mut self, text: &[u8], value: Shown, exemplars: &[Exemplar<'_>]) -> Result<(), E>
    where
        V: FnMut(Item<'_>) -> Result<(), E>,
    {
        (self.visit)(Item::Sample(Sample {
            text,
            kind: self.kind,
            timestamp: self.timestamp,
            start: self.start,
            value,
            exemplars,
        }))
    }
}

impl Exemplar<'_> {
    /// Its labels.
    pub fn labels(&self) -> Result<Labels, ParseError> {
        let mut pairs = Vec::with_capacity(4);
        let mut fields = Fields::new(self.message);
        while let Some((number, value)) = fields.next_field().map_err(bad)? {
            if number == 1 {
                pairs.push(pair(value.bytes()).map_err(bad)?);
            }
        }
        Ok(Labels::from_pairs(pairs))
    }
}

fn pair(message: &[u8]) -> Result<(&str, &str), BadMessage> {
    let (mut name, mut text) = ("", "");
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => name = value.text()?,
            2 => text = value.text()?,
            _ => {}
        }
    }
    Ok((name, text))
}

fn exemplar(message: &[u8]) -> Result<Exemplar<'_>, BadMessage> {
    let mut exemplar = Exemplar {
        message,
        value: 0.0,
        timestamp: None,
    };
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            2 => exemplar.value = value.double(),
            3 => exemplar.timestamp = Some(time(value.bytes())?),
            _ => {}
        }
    }
    Ok(exemplar)
}

fn bucket(message: &[u8]) -> Result<Point<'_>, BadMessage> {
    let mut point = Point::default();
    let (mut count, mut count_float) = (0, 0.0);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => count = value.number(),
            2 => point.bound = value.double(),
            3 => point.exemplar = Some(value.bytes()),
            4 => count_float = value.double(),
            _ => {}
        }
    }
    point.value = if count_float == 0.0 {
        count as f64
    } else {
        count_float
    };
    Ok(point)
}

fn span(message: &[u8]) -> Result<Span, BadMessage> {
    let mut span = Span::default();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => span.offset = value.zigzag() as i32,
            2 => span.length = value.number() as u32,
            _ => {}
        }
    }
    Ok(span)
}

/// A `google.protobuf.Timestamp` in ms.
fn time(message: &[u8]) -> Result<Millis, BadMessage> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => seconds = value.signed(),
            2 => nanos = value.signed(),
            _ => {}
        }
    }
    Ok(seconds
        .saturating_mul(1000)
        .saturating_add(nanos / 1_000_000))
}

#[cfg(test)]
mod tests;
