//! Samples on their way into the log: as few records as there are sorts.

use model::histogram::Histogram;
use model::sink::Exemplar;

use super::{Records, record};

/// A samples record is closed once it has this many bytes. A record is the unit that a crash leaves
/// whole or not at all: the floats of any scrape should fit into one. Whoever reads the log holds a few
/// records in memory.
const SAMPLES_RECORD: usize = 1 << 20;

/// The record that rows are added to.
enum Writer {
    None,
    Floats(record::SamplesWriter),
    Started(record::StartedSamplesWriter),
    Histograms(record::HistogramsWriter),
    /// With the series and the time of the first one.
    Exemplars((u64, i64)),
}

/// Writes rows, so that rows of one sort that follow each other share a record.
pub(crate) struct Rows<'a> {
    records: &'a mut Records,
    writer: Writer,
    /// Start timestamps are written too.
    starts: bool,
}

impl<'a> Rows<'a> {
    /// Rows behind what `records` holds; `starts`: start timestamps are written, too.
    pub(crate) fn new(records: &'a mut Records, starts: bool) -> Self {
        Self {
            records,
            writer: Writer::None,
            starts,
        }
    }

    fn end_if_full(&mut self) {
        if self.records.open_len() > SAMPLES_RECORD {
            self.end();
        }
    }

    /// The last row has been written.
    pub(crate) fn end(&mut self) {
        self.records.end();
        self.writer = Writer::None;
    }

    /// A float: series, time, start timestamp.
    #[inline]
    pub(crate) fn sample(&mut self, row: (u64, i64, i64), value: f64) {
        match self.starts {
            true => self.started(row, value),
            false => self.float(row.0, row.1, value),
        }
    }

    #[inline]
    fn float(&mut self, series: u64, ts: i64, value: f64) {
        self.end_if_full();
        let writer = match self.writer {
            Writer::Floats(writer) => writer,
            _ => {
                self.end();
                let writer = record::SamplesWriter::begin(self.records.out(), series, ts);
                self.writer = Writer::Floats(writer);
                writer
            }
        };
        writer.push(self.records.out(), series, ts, value);
    }

    fn started(&mut self, row: (u64, i64, i64), value: f64) {
        self.end_if_full();
        if !matches!(self.writer, Writer::Started(_)) {
            self.end();
            let begun = record::StartedSamplesWriter::begin(self.records.out());
            self.writer = Writer::Started(begun);
        }
        if let Writer::Started(writer) = &mut self.writer {
            writer.push(self.records.out(), row, value);
        }
    }

    /// A histogram: series, time, start timestamp.
    pub(crate) fn histogram(&mut self, row: (u64, i64, i64), value: &Histogram) {
        let (series, ts, _) = row;
        self.end_if_full();
        if !matches!(&self.writer, Writer::Histograms(w) if w.takes(value)) {
            self.end();
            let out = self.records.out();
            let begun = record::HistogramsWriter::begin(out, (series, ts), value, self.starts);
            self.writer = Writer::Histograms(begun);
        }
        if let Writer::Histograms(writer) = &mut self.writer {
            writer.push(self.records.out(), row, value);
        }
    }

    /// An exemplar; all that follow each other share a record.
    pub(crate) fn exemplar(&mut self, e: &Exemplar) {
        let (series, ts) = (e.series.id, e.ts);
        let base = match self.writer {
            Writer::Exemplars(base) => base,
            _ => {
                self.end();
                record::begin_exemplars(self.records.out(), series, ts);
                self.writer = Writer::Exemplars((series, ts));
                (series, ts)
            }
        };
        let labels: Vec<_> = e.labels.iter().collect();
        let labels = labels.into_iter();
        record::put_exemplar(self.records.out(), base, series, ts, e.value, labels);
    }
}
