//! Reading the log of a database on while it grows, from a place that outlives this process.

use std::path::{Path, PathBuf};

use model::Millis;
use model::report::MetricType;
use tsdb::wal::record::{self, RecordKind};
use tsdb::wal::{ReadError, SegmentReader, checkpoint, segment_name, segments};

/// A place in the log: behind a whole record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// Takes what the log says.
pub(super) trait Reader {
    /// A series; `segment`: where it was said.
    fn series(&mut self, segment: u64, series: u64, labels: &[(&str, &str)]);
    /// Type, unit and help of a series.
    fn metadata(&mut self, series: u64, kind: MetricType, unit: &str, help: &str);
    /// A record of samples, histograms or exemplars, and where it begins. False: enough for now.
    fn record(&mut self, record: &[u8], start: Position) -> bool;
    /// Series of older segments that no checkpoint has are forgotten.
    fn forget_before(&mut self, segment: u64);
    /// A record was read, whatever is in it.
    fn seen(&mut self, _: RecordKind) {}
    /// A record cannot be read to its end.
    fn unreadable(&mut self) {}
}

/// Reads one log.
pub(super) struct Tail {
    dir: PathBuf,
    position: Position,
    /// The checkpoint whose series were read last.
    checkpoint: Option<u64>,
}

type Result<T> = std::result::Result<T, tsdb::Error>;

impl Tail {
    /// A tail that goes on behind `from`, or at the end of the log if there is no such place. Tells
    /// `reader` the series that were there before.
    pub(super) fn open(
        dir: &Path,
        from: Option<Position>,
        reader: &mut impl Reader,
    ) -> Result<Self> {
        let found = segments(dir)?;
        let last = found.last().map_or(0, |(n, _)| *n);
        let end = || -> Position {
            let path = dir.join(segment_name(last));
            Position {
                segment: last,
                offset: good_end(&path),
            }
        };
        let position = match from {
            // The log was made anew.
            Some(from) if from.segment > last => end(),
            Some(from) => match found.iter().find(|(n, _)| *n >= from.segment) {
                Some((n, _)) if *n > from.segment => {
                    tracing::warn!(
                        from = from.segment,
                        first = n,
                        "the log does not reach back to what was sent last: samples in between are lost"
                    );
                    Position {
                        segment: *n,
                        offset: 0,
                    }
                }
                _ => from,
            },
            None => end(),
        };
        let mut tail = Self {
            dir: dir.to_owned(),
            position,
            checkpoint: None,
        };
        tail.read_checkpoint(reader)?;
        for (n, path) in found.iter().filter(|(n, _)| *n <= position.segment) {
            let until = if *n == position.segment {
                position.offset
            } else {
                u64::MAX
            };
            read_series(path, *n, until, reader)?;
        }
        Ok(tail)
    }

    /// The series of the newest checkpoint, if it is new to us.
    fn read_checkpoint(&mut self, reader: &mut impl Reader) -> Result<()> {
        let Some((number, path)) = checkpoint::latest(&self.dir)? else {
            return Ok(());
        };
        if self.checkpoint == Some(number) {
            return Ok(());
        }
        for (_, path) in segments(&path)? {
            read_series(&path, number, u64::MAX, reader)?;
        }
        self.checkpoint = Some(number);
        reader.forget_before(number.min(self.position.segment));
        Ok(())
    }

    /// Where reading goes on.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Reads what has come since. True if the reader had enough before the end.
    pub(super) fn read(&mut self, reader: &mut impl Reader) -> Result<bool> {
        loop {
            let path = self.dir.join(segment_name(self.position.segment));
            let newer = newer_than(&self.dir, self.position.segment)?;
            let len = std::fs::metadata(&path).map(|m| m.len());
            match len {
                Ok(len) if len > self.position.offset => {
                    if self.read_segment(&path, reader)? {
                        return Ok(true);
                    }
                }
                Ok(_) => {}
                // Truncated away; then there are newer ones.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => {
                    return Err(tsdb::Error::Io {
                        what: "reading",
                        path,
                        source: e,
                    });
                }
            }
            // A segment is finished only if a newer one was there before it was read to its end.
            let Some(next) = newer else {
                return Ok(false);
            };
            self.position = Position {
                segment: next,
                offset: 0,
            };
            self.read_checkpoint(reader)?;
        }
    }

    fn read_segment(&mut self, path: &Path, reader: &mut impl Reader) -> Result<bool> {
        let mut records = SegmentReader::open_at(path, self.position.offset)?;
        loop {
            match records.read() {
                Ok(Some(record)) => {
                    let kind = record::kind(record);
                    reader.seen(kind);
                    let known = tell(record, kind, self.position.segment, reader);
                    // The record is borrowed from the reader that knows where it ends.
                    let more = match kind {
                        _ if known => true,
                        RecordKind::Unknown(_) | RecordKind::Tombstones => true,
                        _ => reader.record(record, self.position),
                    };
                    self.position.offset = records.good_offset();
                    if !more {
                        return Ok(true);
                    }
                }
                Ok(None) => return Ok(false),
                Err(ReadError::Corrupt { torn: true, .. }) => return Ok(false),
                Err(e @ ReadError::Corrupt { .. }) => {
                    if newer_than(&self.dir, self.position.segment)?.is_some() {
                        let error = e.at(path, self.position.offset);
                        tracing::error!(%error, "the rest of a segment is not sent");
                    }
                    return Ok(false);
                }
                Err(e) => return Err(e.at(path, self.position.offset)),
            }
        }
    }
}

/// The segment after this one.
fn newer_than(dir: &Path, segment: u64) -> Result<Option<u64>> {
    Ok(segments(dir)?
        .into_iter()
        .map(|(n, _)| n)
        .find(|n| *n > segment))
}

/// Where the last whole record of a segment ends.
fn good_end(path: &Path) -> u64 {
    let Ok(mut reader) = SegmentReader::open(path) else {
        return 0;
    };
    while let Ok(Some(_)) = reader.read() {}
    reader.good_offset()
}

fn read_series(path: &Path, segment: u64, until: u64, reader: &mut impl Reader) -> Result<()> {
    let mut records = match SegmentReader::open(path) {
        Ok(records) => records,
        // Truncated away in the meantime; a checkpoint has its series.
        Err(_) if !path.exists() => return Ok(()),
        Err(e) => return Err(e),
    };
    while records.good_offset() < until {
        match records.read() {
            Ok(Some(record)) => {
                tell(record, record::kind(record), segment, reader);
            }
            Ok(None) | Err(ReadError::Corrupt { .. }) => break,
            Err(e) => return Err(e.at(path, records.good_offset())),
        }
    }
    Ok(())
}

/// Tells series and metadata; whether it was a record of these.
fn tell(record: &[u8], kind: RecordKind, segment: u64, reader: &mut impl Reader) -> bool {
    let read = match kind {
        RecordKind::Series => record::read_series(record, |series, labels| {
            reader.series(segment, series, labels);
        }),
        RecordKind::Metadata => record::read_metadata(record, |series, kind, unit, help| {
            reader.metadata(series, kind, unit, help);
        }),
        _ => return false,
    };
    if let Err(error) = read {
        tracing::error!(segment, %error, "a record of the log cannot be read");
        reader.unreadable();
    }
    true
}

/// A sample of a record.
pub(super) enum Said {
    Float(f64),
    Histogram(Box<model::histogram::Histogram>),
    Exemplar(model::Labels, f64),
}

/// Shows the samples of a record: series, time, start, value. Whether it can be read to its end.
pub(super) fn samples(record: &[u8], mut each: impl FnMut(u64, Millis, Millis, Said)) -> bool {
    let read = match record::kind(record) {
        RecordKind::Samples => {
            record::read_samples(record, |s, ts, v| each(s, ts, 0, Said::Float(v)))
        }
        RecordKind::SamplesV2 => record::read_started_samples(record, |s, ts, start, v| {
            each(s, ts, start, Said::Float(v));
        }),
        RecordKind::Histograms => record::read_histograms(record, |s, ts, start, h| {
            each(s, ts, start, Said::Histogram(Box::new(h)));
        }),
        RecordKind::Exemplars => record::read_exemplars(record, |s, ts, v, labels| {
            let labels = model::Labels::from_pairs(labels.iter().copied());
            each(s, ts, 0, Said::Exemplar(labels, v));
        }),
        _ => Ok(()),
    };
    if let Err(error) = &read {
        tracing::error!(%error, "a record of the log cannot be read");
    }
    read.is_ok()
}
