//! What the records say (`tsdb/record/record.go` of Prometheus). The first byte is the type.

mod histograms;
mod starts;

use model::Labels;
use model::report::MetricType;

pub use histograms::{HistogramsWriter, read_histograms};
use starts::{StartsReader, StartsWriter};

use crate::codec::{Malformed, Reader, put_str, put_uvarint, put_varint};

/// The type of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// Series: references and their labels.
    Series,
    /// Float samples.
    Samples,
    /// Float samples with start timestamps.
    SamplesV2,
    /// Deletions.
    Tombstones,
    /// Exemplars.
    Exemplars,
    /// Type, unit and help.
    Metadata,
    /// Native histograms of any sort.
    Histograms,
    /// Anything else.
    Unknown(u8),
}

/// The type of `record`.
pub fn kind(record: &[u8]) -> RecordKind {
    match record.first().copied().unwrap_or(0) {
        1 => RecordKind::Series,
        2 => RecordKind::Samples,
        3 => RecordKind::Tombstones,
        4 => RecordKind::Exemplars,
        6 => RecordKind::Metadata,
        7..=10 | 12 | 13 => RecordKind::Histograms,
        11 => RecordKind::SamplesV2,
        other => RecordKind::Unknown(other),
    }
}

/// Whether the rows of a record have start timestamps.
pub fn has_starts(record: &[u8]) -> bool {
    matches!(record.first(), Some(11..=13))
}

/// A record that cannot be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed record")]
pub struct BadRecord;

impl From<Malformed> for BadRecord {
    fn from(_: Malformed) -> Self {
        BadRecord
    }
}

fn body(record: &[u8]) -> Reader<'_> {
    Reader(record.get(1..).unwrap_or_default())
}

/// Starts a series record.
pub fn begin_series(out: &mut Vec<u8>) {
    out.push(1);
}

/// Adds one series to a record that [`begin_series`] started.
pub fn put_series<'a>(
    out: &mut Vec<u8>,
    series: u64,
    labels: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
) {
    out.extend_from_slice(&series.to_be_bytes());
    put_uvarint(out, labels.len() as u64);
    for (name, value) in labels {
        put_str(out, name);
        put_str(out, value);
    }
}

/// Reads a series record. The labels come as they are written: sorted by every known writer.
pub fn read_series(
    record: &[u8],
    mut each: impl FnMut(u64, &[(&str, &str)]),
) -> Result<(), BadRecord> {
    let mut r = body(record);
    let mut labels = Vec::new();
    while !r.is_empty() {
        let series = r.u64()?;
        read_labels(&mut r, &mut labels)?;
        each(series, &labels);
    }
    Ok(())
}

/// Reads a series record, each series' labels as a set.
///
/// As long as all is ASCII, and so no string is longer than 127 bytes, a record has labels byte for
/// byte as [`Labels`] has them.
pub fn read_label_sets(record: &[u8], mut each: impl FnMut(u64, Labels)) -> Result<(), BadRecord> {
    let mut r = body(record);
    let mut labels = Vec::new();
    while !r.is_empty() {
        let series = r.u64()?;
        let start = r;
        let n = r.uvarint()?;
        let encoded = r;
        for _ in 0..n.saturating_mul(2) {
            r.skip_str()?;
        }
        let encoded = encoded.0.get(..encoded.0.len() - r.0.len());
        let ascii = encoded.filter(|bytes| bytes.is_ascii());
        if let Some(set) = ascii.and_then(Labels::from_encoded) {
            each(series, set);
            continue;
        }
        r = start;
        read_labels(&mut r, &mut labels)?;
        let sorted = labels.is_sorted_by(|a, b| a.0 < b.0);
        let pairs = labels.iter().copied();
        each(
            series,
            match sorted && labels.iter().all(|l| !l.1.is_empty()) {
                true => Labels::from_sorted(pairs),
                false => Labels::from_pairs(pairs),
            },
        );
    }
    Ok(())
}

fn read_labels<'a>(
    r: &mut Reader<'a>,
    labels: &mut Vec<(&'a str, &'a str)>,
) -> Result<(), BadRecord> {
    labels.clear();
    for _ in 0..r.uvarint()? {
        labels.push((r.str()?, r.str()?));
    }
    Ok(())
}

/// Writes a samples record: the first sample's reference and time in full, all as differences to
/// it.
#[derive(Clone, Copy, Debug)]
pub struct SamplesWriter {
    base: (u64, i64),
}

impl SamplesWriter {
    /// Starts a record whose first sample will be `(series, ts)`.
    pub fn begin(out: &mut Vec<u8>, series: u64, ts: i64) -> Self {
        out.push(2);
        out.extend_from_slice(&series.to_be_bytes());
        out.extend_from_slice(&ts.to_be_bytes());
        Self { base: (series, ts) }
    }

    /// Adds a sample.
    #[inline]
    pub fn push(&self, out: &mut Vec<u8>, series: u64, ts: i64, value: f64) {
        put_varint(out, series.wrapping_sub(self.base.0) as i64);
        put_varint(out, ts.wrapping_sub(self.base.1));
        out.extend_from_slice(&value.to_bits().to_be_bytes());
    }
}

/// Writes a record of samples with start timestamps, which Prometheus before 3.9 does not know.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartedSamplesWriter(StartsWriter);

impl StartedSamplesWriter {
    /// Starts a record.
    pub fn begin(out: &mut Vec<u8>) -> Self {
        out.push(11);
        Self::default()
    }

    /// Adds a sample; `start` is 0 if it is not known.
    #[inline]
    pub fn push(&mut self, out: &mut Vec<u8>, (series, ts, start): (u64, i64, i64), value: f64) {
        self.0.put(out, series, ts, start);
        out.extend_from_slice(&value.to_bits().to_be_bytes());
    }
}

/// Reads a record of float samples, with or without start timestamps, which are left out.
pub fn read_samples(record: &[u8], mut each: impl FnMut(u64, i64, f64)) -> Result<(), BadRecord> {
    if kind(record) == RecordKind::SamplesV2 {
        return read_started_samples(record, |s, t, _, v| each(s, t, v));
    }
    let mut r = body(record);
    if r.is_empty() {
        return Ok(());
    }
    let (series, ts) = (r.u64()?, r.i64()?);
    while !r.is_empty() {
        let s = series.wrapping_add(r.varint()? as u64);
        let t = ts.wrapping_add(r.varint()?);
        each(s, t, r.f64()?);
    }
    Ok(())
}

/// Reads a record of float samples with start timestamps: series, time, start (0: unknown), value.
pub fn read_started_samples(
    record: &[u8],
    mut each: impl FnMut(u64, i64, i64, f64),
) -> Result<(), BadRecord> {
    let mut r = body(record);
    let mut rows = StartsReader::default();
    while !r.is_empty() {
        let (series, ts, start) = rows.read(&mut r)?;
        each(series, ts, start, r.f64()?);
    }
    Ok(())
}

/// Appends a tombstones record: `(series, first ms, last ms)` each.
pub fn put_tombstones(out: &mut Vec<u8>, stones: &[(u64, i64, i64)]) {
    out.push(3);
    for &(series, min, max) in stones {
        out.extend_from_slice(&series.to_be_bytes());
        put_varint(out, min);
        put_varint(out, max);
    }
}

/// Reads a tombstones record.
pub fn read_tombstones(
    record: &[u8],
    mut each: impl FnMut(u64, i64, i64),
) -> Result<(), BadRecord> {
    let mut r = body(record);
    while !r.is_empty() {
        each(r.u64()?, r.varint()?, r.varint()?);
    }
    Ok(())
}

/// Starts an exemplars record, at the first exemplar's series and time.
pub fn begin_exemplars(out: &mut Vec<u8>, series: u64, ts: i64) {
    out.push(4);
    out.extend_from_slice(&series.to_be_bytes());
    out.extend_from_slice(&ts.to_be_bytes());
}

/// Adds an exemplar to a record that began at `base`.
pub fn put_exemplar<'a>(
    out: &mut Vec<u8>,
    base: (u64, i64),
    series: u64,
    ts: i64,
    value: f64,
    labels: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
) {
    put_varint(out, series.wrapping_sub(base.0) as i64);
    put_varint(out, ts.wrapping_sub(base.1));
    out.extend_from_slice(&value.to_bits().to_be_bytes());
    put_uvarint(out, labels.len() as u64);
    for (name, value) in labels {
        put_str(out, name);
        put_str(out, value);
    }
}

/// Reads an exemplars record.
pub fn read_exemplars(
    record: &[u8],
    mut each: impl FnMut(u64, i64, f64, &[(&str, &str)]),
) -> Result<(), BadRecord> {
    let mut r = body(record);
    if r.is_empty() {
        return Ok(());
    }
    let (series, ts) = (r.u64()?, r.i64()?);
    let mut labels = Vec::new();
    while !r.is_empty() {
        let s = series.wrapping_add(r.varint()? as u64);
        let t = ts.wrapping_add(r.varint()?);
        let value = r.f64()?;
        read_labels(&mut r, &mut labels)?;
        each(s, t, value, &labels);
    }
    Ok(())
}

/// Starts a metadata record.
pub fn begin_metadata(out: &mut Vec<u8>) {
    out.push(6);
}

/// Adds a series' metadata.
pub fn put_metadata(out: &mut Vec<u8>, series: u64, metric: MetricType, unit: &str, help: &str) {
    put_uvarint(out, series);
    out.push(match metric {
        MetricType::Unknown => 0,
        MetricType::Counter => 1,
        MetricType::Gauge => 2,
        MetricType::Histogram => 3,
        MetricType::GaugeHistogram => 4,
        MetricType::Summary => 5,
        MetricType::Info => 6,
        MetricType::StateSet => 7,
    });
    put_uvarint(out, 2);
    for s in ["UNIT", unit, "HELP", help] {
        put_str(out, s);
    }
}

/// Reads a metadata record: `(series, type, unit, help)` each.
pub fn read_metadata(
    record: &[u8],
    mut each: impl FnMut(u64, MetricType, &str, &str),
) -> Result<(), BadRecord> {
    let mut r = body(record);
    let mut fields = Vec::new();
    while !r.is_empty() {
        let series = r.uvarint()?;
        let metric = match r.u8()? {
            1 => MetricType::Counter,
            2 => MetricType::Gauge,
            3 => MetricType::Histogram,
            4 => MetricType::GaugeHistogram,
            5 => MetricType::Summary,
            6 => MetricType::Info,
            7 => MetricType::StateSet,
            _ => MetricType::Unknown,
        };
        read_labels(&mut r, &mut fields)?;
        let field = |name| fields.iter().find(|f| f.0 == name).map_or("", |f| f.1);
        each(series, metric, field("UNIT"), field("HELP"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_returns() {
        let mut b = Vec::new();
        begin_series(&mut b);
        put_series(&mut b, 7, [("a", "1"), ("b", "é")].into_iter());
        put_series(&mut b, 9, std::iter::empty());
        let mut seen = Vec::new();
        read_series(&b, |s, l| seen.push((s, format!("{l:?}")))).unwrap();
        assert_eq!(seen[0], (7, r#"[("a", "1"), ("b", "é")]"#.into()));
        assert_eq!(seen[1], (9, "[]".into()));

        let mut b = Vec::new();
        put_tombstones(&mut b, &[(5, i64::MIN, i64::MAX), (6, 1, 2)]);
        let mut seen = Vec::new();
        read_tombstones(&b, |s, x, y| seen.push((s, x, y))).unwrap();
        assert_eq!(seen, [(5, i64::MIN, i64::MAX), (6, 1, 2)]);

        let mut b = Vec::new();
        begin_exemplars(&mut b, 5, 100);
        put_exemplar(
            &mut b,
            (5, 100),
            3,
            101,
            0.5,
            [("trace_id", "x")].into_iter(),
        );
        let mut seen = 0;
        read_exemplars(&b, |s, t, v, l| {
            assert_eq!((s, t, v, l), (3, 101, 0.5, &[("trace_id", "x")][..]));
            seen += 1;
        })
        .unwrap();
        assert_eq!(seen, 1);

        let mut b = Vec::new();
        begin_metadata(&mut b);
        put_metadata(&mut b, 300, MetricType::Summary, "seconds", "How long.");
        read_metadata(&b, |s, m, u, h| {
            assert_eq!(
                (s, m, u, h),
                (300, MetricType::Summary, "seconds", "How long.")
            );
        })
        .unwrap();
    }

    #[test]
    fn samples_with_start_timestamps_are_read() {
        let mut b = vec![11];
        for v in [5, 1000, 900] {
            put_varint(&mut b, v);
        }
        b.extend_from_slice(&1.5f64.to_be_bytes());
        for (dref, dt, mark) in [(1, 0, 0u8), (2, 15, 1), (-3, 30, 2)] {
            put_varint(&mut b, dref);
            put_varint(&mut b, dt);
            b.push(mark);
            if mark == 2 {
                put_varint(&mut b, 7);
            }
            b.extend_from_slice(&2.5f64.to_be_bytes());
        }
        let mut seen = Vec::new();
        read_samples(&b, |s, t, v| seen.push((s, t, v))).unwrap();
        assert_eq!(
            seen,
            [
                (5, 1000, 1.5),
                (6, 1000, 2.5),
                (8, 1015, 2.5),
                (5, 1030, 2.5)
            ]
        );
    }

    proptest! {
        #[test]
        fn samples_return(rows in prop::collection::vec((any::<u64>(), any::<i64>(), any::<u64>()), 1..50)) {
            let mut b = Vec::new();
            let w = SamplesWriter::begin(&mut b, rows[0].0, rows[0].1);
            for &(s, t, v) in &rows {
                w.push(&mut b, s, t, f64::from_bits(v));
            }
            let mut back = Vec::new();
            read_samples(&b, |s, t, v| back.push((s, t, v.to_bits()))).unwrap();
            prop_assert_eq!(back, rows);
        }

        #[test]
        fn started_samples_return(rows in prop::collection::vec((any::<u64>(), any::<i64>(), prop_oneof![Just(0), Just(5), any::<i64>()], any::<u64>()), 1..50)) {
            let mut b = Vec::new();
            let mut w = StartedSamplesWriter::begin(&mut b);
            for &(s, t, st, v) in &rows {
                w.push(&mut b, (s, t, st), f64::from_bits(v));
            }
            let mut back = Vec::new();
            read_started_samples(&b, |s, t, st, v| back.push((s, t, st, v.to_bits()))).unwrap();
            prop_assert_eq!(back, rows);
        }

        #[test]
        fn label_sets_return(sets in prop::collection::vec(prop::collection::vec(("[a-c]{0,2}|é|[a-z]{120,300}", "[x-z]{0,2}|ü|[a-z]{120,300}"), 0..6), 1..5)) {
            let mut b = Vec::new();
            begin_series(&mut b);
            for (i, set) in sets.iter().enumerate() {
                put_series(&mut b, i as u64, set.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            }
            let mut back = Vec::new();
            read_label_sets(&b, |series, set| back.push((series, set))).unwrap();
            let sets = sets.iter().map(|set| Labels::from_pairs(set.clone()));
            prop_assert_eq!(back, (0..).zip(sets).collect::<Vec<_>>());
        }

        #[test]
        fn rubbish_never_panics(b: Vec<u8>) {
            let _ = read_series(&b, |_, _| {});
            let _ = read_label_sets(&b, |_, _| {});
            let _ = read_samples(&b, |_, _, _| {});
            let _ = read_tombstones(&b, |_, _, _| {});
            let _ = read_exemplars(&b, |_, _, _, _| {});
            let _ = read_metadata(&b, |_, _, _, _| {});
        }
    }
}
