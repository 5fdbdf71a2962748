//! From a body to a batch of samples: the hot path of scraping.

use model::histogram::{CUSTOM_SCHEMA, Histogram};
use model::report::MetricType;
use model::sink::{Exemplar, HistogramSample};
use model::{Batch, Labels, Millis, SeriesRef};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::cache::{Cache, Known, Place};
use crate::error::ScrapeError;
use crate::mutate::Mutator;
use crate::parse::collate::{Belongs, Collator};
use crate::parse::proto::{self, Histograms, Item, Shown};
use crate::parse::{self, Event, Format, LabelOptions, Parser, Series, Written};

/// Samples further ahead of now than this are dropped, ms.
const FUTURE: Millis = 10 * 60 * 1000;

/// Stands in a batch until a new series has its reference.
pub(crate) const UNRESOLVED: SeriesRef = SeriesRef {
    id: 0,
    generation: u32::MAX,
};

/// How to read bodies of one target.
pub(crate) struct Reader<'a> {
    pub(crate) mutator: Mutator<'a>,
    pub(crate) honor_timestamps: bool,
    pub(crate) track_timestamps: bool,
    /// 0 for none.
    pub(crate) sample_limit: u64,
    pub(crate) exemplars: bool,
    /// Whether start timestamps are taken.
    pub(crate) starts: bool,
    /// Whether series have type and unit among their labels.
    pub(crate) type_and_unit: bool,
    pub(crate) histograms: Histograms,
    /// Most buckets of a native histogram; 0 for no limit.
    pub(crate) bucket_limit: u64,
    /// The finest resolution that native histograms may have.
    pub(crate) max_schema: i32,
}

/// A series that the sink does not know yet.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) place: Place,
    pub(crate) labels: Labels,
}

/// A row of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    Float(usize),
    Histogram(usize),
}

/// What a body held.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Samples.
    pub(crate) total: usize,
    /// Those that relabelling kept.
    pub(crate) added: usize,
    /// Series that the last scrape did not have.
    pub(crate) series_added: usize,
    pub(crate) duplicates: usize,
    pub(crate) out_of_bounds: usize,
    /// A fingerprint of all metadata lines.
    pub(crate) metadata: u64,
}

/// What is to be appended.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) batch: Batch,
    pub(crate) fresh: Vec<Fresh>,
    /// Rows of new series, and their places in `fresh`.
    pub(crate) pending: Vec<(Row, usize)>,
    /// The row of each exemplar's series.
    pub(crate) exemplar_rows: Vec<Row>,
}

impl Rows {
    /// The series of a row.
    pub(crate) fn series(&self, row: Row) -> Option<SeriesRef> {
        match row {
            Row::Float(i) => self.batch.refs.get(i).copied(),
            Row::Histogram(i) => self.batch.histograms.get(i).map(|h| h.series),
        }
    }

    /// Sets the series of a row.
    pub(crate) fn set_series(&mut self, row: Row, series: SeriesRef) {
        match row {
            Row::Float(i) => {
                if let Some(slot) = self.batch.refs.get_mut(i) {
                    *slot = series;
                }
            }
            Row::Histogram(i) => {
                if let Some(h) = self.batch.histograms.get_mut(i) {
                    h.series = series;
                }
            }
        }
    }
}

/// A sample as it is shown.
struct Sample<'a> {
    text: &'a [u8],
    expected: bool,
    kind: MetricType,
    unit: &'a str,
    timestamp: Option<Millis>,
    start: Option<Millis>,
}

impl<'a> Sample<'a> {
    fn of(series: &Series<'a>) -> Self {
        Self {
            text: series.text,
            expected: series.expected,
            kind: series.kind,
            unit: series.unit,
            timestamp: series.timestamp,
            start: series.start,
        }
    }
}

/// One body on its way into rows.
struct Run<'r, 'a> {
    reader: &'r Reader<'a>,
    cache: &'r mut Cache,
    rows: &'r mut Rows,
    counts: &'r mut Counts,
    ts: Millis,
    limit: usize,
    /// Samples that count against the limit.
    limited: usize,
}

impl Reader<'_> {
    /// Reads `body`, scraped at `ts`, into `rows`. The caller has begun a scrape of the cache, and
    /// ends it by committing it or letting it vanish.
    pub(crate) fn read(
        &self,
        body: &[u8],
        written: Written,
        ts: Millis,
        cache: &mut Cache,
        rows: &mut Rows,
    ) -> (Counts, Result<(), ScrapeError>) {
        let mut counts = Counts::default();
        let known = cache.len() + 32;
        rows.batch.refs.reserve(known);
        rows.batch.ts.reserve(known);
        rows.batch.values.reserve(known);
        let mut run = Run {
            reader: self,
            cache,
            rows,
            counts: &mut counts,
            ts,
            limit: match self.sample_limit {
                0 => usize::MAX,
                limit => usize::try_from(limit).unwrap_or(usize::MAX),
            },
            limited: 0,
        };
        let result = match written {
            Written::Lines(format) if self.histograms.convert => run.collated(body, format),
            Written::Lines(format) => run.lines(body, format),
            Written::Protobuf => run.messages(body),
        };
        let result = match result {
            Ok(()) if run.limited > run.limit => Err(ScrapeError::SampleLimit),
            result => result,
        };
        (counts, result)
    }

    fn parser<'b>(&self, body: &'b [u8], format: Format) -> Parser<'b> {
        let parser = Parser::new(body, format);
        if self.starts {
            parser.with_created_as_start()
        } else {
            parser
        }
    }
}

impl Run<'_, '_> {
    /// Reads lines of text.
    fn lines(&mut self, body: &[u8], format: Format) -> Result<(), ScrapeError> {
        let mut parser = self.reader.parser(body, format);
        loop {
            match parser.next_expecting(self.cache.expected())? {
                Some(Event::Series(series)) => self.line(&series)?,
                Some(event) => self.metadata(&event),
                None => return Ok(()),
            }
        }
    }

    #[inline]
    fn line(&mut self, series: &Series<'_>) -> Result<(), ScrapeError> {
        let row = self.sample(&Sample::of(series), Shown::Float(series.value))?;
        if let Some(exemplar) = series.exemplar
            && self.reader.exemplars
            && let Some((row, at)) = row
        {
            let labels = exemplar.labels()?;
            self.exemplar(row, at, labels, exemplar.value, exemplar.timestamp);
        }
        Ok(())
    }

    fn metadata(&mut self, event: &Event<'_>) {
        let counts = &mut *self.counts;
        match event {
            Event::Help(metric, text) | Event::Unit(metric, text) => {
                counts.metadata = fingerprint(counts.metadata, metric, text);
            }
            Event::Type(metric, kind) => {
                counts.metadata = fingerprint(counts.metadata, metric, kind.as_str());
            }
            Event::Comment(_) | Event::Series(_) => {}
        }
    }

    /// Reads lines of text, and puts classic histograms together.
    fn collated(&mut self, body: &[u8], format: Format) -> Result<(), ScrapeError> {
        let mut collator = Collator::default();
        // Those of the running histogram that have a time.
        let mut exemplars: Vec<parse::Exemplar<'_>> = Vec::new();
        let mut unit = "";
        let mut parser = self.reader.parser(body, format);
        loop {
            let event = parser.next_expecting(self.cache.expected())?;
            let Some(Event::Series(series)) = event else {
                self.finish(&mut collator, unit, &mut exemplars)?;
                match event {
                    None => return Ok(()),
                    Some(event) => {
                        self.metadata(&event);
                        if let Event::Type(metric, kind) = event {
                            collator.family(metric, kind);
                        }
                    }
                }
                continue;
            };
            let mut belongs = collator.show(&series);
            if belongs == Belongs::Next {
                self.finish(&mut collator, unit, &mut exemplars)?;
                belongs = collator.show(&series);
            }
            if belongs == Belongs::Taken {
                unit = series.unit;
                exemplars.extend(series.exemplar.filter(|e| e.timestamp.is_some()));
                if !self.reader.histograms.classic {
                    continue;
                }
            }
            // What was emitted meanwhile has moved the cache on.
            let expected = self.cache.expected() == series.text;
            self.line(&Series { expected, ..series })?;
        }
    }

    fn finish(
        &mut self,
        collator: &mut Collator,
        unit: &str,
        exemplars: &mut Vec<parse::Exemplar<'_>>,
    ) -> Result<(), ScrapeError> {
        if !collator.running() {
            return Ok(());
        }
        let Some(histogram) = collator.finish() else {
            exemplars.clear();
            return Ok(());
        };
        let sample = Sample {
            text: histogram.text,
            expected: self.cache.expected() == histogram.text,
            kind: MetricType::Histogram,
            unit,
            timestamp: histogram.timestamp,
            start: histogram.start,
        };
        let row = self.sample(&sample, Shown::Histogram(histogram.value))?;
        exemplars.sort_by_key(|e| e.timestamp);
        for exemplar in exemplars.drain(..) {
            if let Some((row, at)) = row
                && self.reader.exemplars
            {
                let labels = exemplar.labels()?;
                self.exemplar(row, at, labels, exemplar.value, exemplar.timestamp);
            }
        }
        Ok(())
    }

    /// Reads delimited protobuf.
    fn messages(&mut self, body: &[u8]) -> Result<(), ScrapeError> {
        let mut unit = String::new();
        proto::read(body, self.reader.histograms, |item| match item {
            Item::Family(family) => {
                unit.clear();
                unit.push_str(family.unit);
                let counts = &mut *self.counts;
                for text in [family.help, family.kind.as_str(), family.unit] {
                    counts.metadata = fingerprint(counts.metadata, family.name, text);
                }
                Ok(())
            }
            Item::Sample(shown) => {
                let sample = Sample {
                    text: shown.text,
                    expected: self.cache.expected() == shown.text,
                    kind: shown.kind,
                    unit: &unit,
                    timestamp: shown.timestamp,
                    start: shown.start,
                };
                let row = self.sample(&sample, shown.value)?;
                if let Some((row, at)) = row
                    && self.reader.exemplars
                {
                    for exemplar in shown.exemplars {
                        let labels = exemplar.labels()?;
                        self.exemplar(row, at, labels, exemplar.value, exemplar.timestamp);
                    }
                }
                Ok(())
            }
        })
    }

    /// Takes a sample. The row that it became and its time, if it became one.
    #[inline(always)]
    fn sample(
        &mut self,
        sample: &Sample<'_>,
        value: Shown,
    ) -> Result<Option<(Row, Millis)>, ScrapeError> {
        let latest = self.ts.saturating_add(FUTURE);
        self.counts.total += 1;
        let timestamp = sample.timestamp.filter(|_| self.reader.honor_timestamps);
        let tracked = timestamp.is_none() || self.reader.track_timestamps;
        let at = timestamp.unwrap_or(self.ts);
        let known = self.cache.look_up(sample.text, sample.expected, tracked);
        let (place, reference) = match known {
            Known::Series(place, reference) => (place, reference),
            Known::Dropped => return Ok(None),
            Known::Again(..) if timestamp.is_none() => {
                self.counts.added += 1;
                self.counts.duplicates += 1;
                return Ok(None);
            }
            Known::Again(place, reference) => (place, reference),
            Known::New => {
                let options = LabelOptions {
                    type_and_unit: self.reader.type_and_unit.then_some(sample.unit),
                };
                let pairs = parse::pairs_of(sample.text, sample.kind, options)?;
                let Some(labels) = self.reader.mutator.labels(&pairs)? else {
                    self.cache
                        .add(sample.text, sample.kind, true, false)
                        .ok_or(ScrapeError::BodySizeLimit)?;
                    return Ok(None);
                };
                if self.limited < self.limit && at <= latest {
                    let place = self
                        .cache
                        .add(sample.text, sample.kind, false, tracked)
                        .ok_or(ScrapeError::BodySizeLimit)?;
                    self.rows.fresh.push(Fresh { place, labels });
                    self.counts.series_added += 1;
                    (place, UNRESOLVED)
                } else {
                    (usize::MAX, UNRESOLVED)
                }
            }
        };
        self.counts.added += 1;
        self.limited += 1;
        if self.limited > self.limit {
            return Ok(None);
        }
        if at > latest {
            self.counts.out_of_bounds += 1;
            return Ok(None);
        }
        let start = sample.start.unwrap_or(0);
        let batch = &mut self.rows.batch;
        let row = match value {
            Shown::Float(value) => {
                batch.push(reference, at, value);
                if self.reader.starts {
                    batch.starts.push(start);
                }
                Row::Float(batch.len() - 1)
            }
            Shown::Histogram(value) => {
                let value = self.reader.limited(value)?;
                batch.histograms.push(HistogramSample {
                    series: reference,
                    ts: at,
                    start: if self.reader.starts { start } else { 0 },
                    value,
                });
                Row::Histogram(batch.histograms.len() - 1)
            }
        };
        if reference == UNRESOLVED
            // Places of new series ascend.
            && let Ok(i) = self.rows.fresh.binary_search_by_key(&place, |f| f.place)
        {
            self.rows.pending.push((row, i));
        }
        Ok(Some((row, at)))
    }

    fn exemplar(
        &mut self,
        row: Row,
        at: Millis,
        labels: Labels,
        value: f64,
        timestamp: Option<Millis>,
    ) {
        let Some(series) = self.rows.series(row) else {
            return;
        };
        self.rows.exemplar_rows.push(row);
        self.rows.batch.exemplars.push(Exemplar {
            series,
            labels,
            value,
            ts: timestamp.unwrap_or(at),
            timed: timestamp.is_some(),
        });
    }
}

impl Reader<'_> {
    /// A native histogram within the limits, its resolution lowered if need be.
    fn limited(&self, mut value: Histogram) -> Result<Histogram, ScrapeError> {
        const COARSEST: i32 = -4;
        /// What is finer than this is kept no finer.
        const FINEST: i32 = 8;
        let reduce = |value: &mut Histogram, schema| match value {
            Histogram::Int(h) => h.reduce_to(schema),
            Histogram::Float(h) => h.reduce_to(schema),
        };
        let max = self.max_schema.min(FINEST);
        if value.schema() != CUSTOM_SCHEMA && (max + 1..=52).contains(&value.schema()) {
            reduce(&mut value, max);
        }
        value
            .validate()
            .map_err(|e| ScrapeError::Histogram(e.to_string()))?;
        if self.bucket_limit > 0 {
            while buckets(&value) as u64 > self.bucket_limit {
                let schema = value.schema();
                if schema == CUSTOM_SCHEMA || schema <= COARSEST {
                    return Err(ScrapeError::BucketLimit);
                }
                reduce(&mut value, schema - 1);
            }
        }
        Ok(value)
    }
}

fn buckets(value: &Histogram) -> usize {
    match value {
        Histogram::Int(h) => h.positive.deltas.len() + h.negative.deltas.len(),
        Histogram::Float(h) => h.positive.counts.len() + h.negative.counts.len(),
    }
}

/// The finest schema whose buckets grow at least by `factor`; 0 for any.
pub(crate) fn finest_schema(factor: f64) -> i32 {
    if factor <= 1.0 {
        return 8;
    }
    let floor = (-(factor.log2().log2())).floor();
    (floor as i32).clamp(-4, 8)
}

/// A fingerprint of a metadata line and all before it.
pub(crate) fn fingerprint(before: u64, metric: &str, text: &str) -> u64 {
    let metric = xxh3_64_with_seed(metric.as_bytes(), before);
    xxh3_64_with_seed(text.as_bytes(), metric)
}
