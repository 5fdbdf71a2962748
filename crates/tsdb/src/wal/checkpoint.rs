//! Checkpoints: `checkpoint.NNNNNNNN` replaces the segments up to that number with what of them is
//! still needed (`tsdb/wlog/checkpoint.go` of Prometheus).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Millis;
use model::report::MetricType;

use super::record::{self, RecordKind};
use super::{ReadError, Records, SegmentReader, SyncMode, Wal, WalOptions, segments};
use crate::Error;
use crate::fs::{Fs, FsExt as _};

const PREFIX: &str = "checkpoint.";
const TEMPORARY: &str = ".tmp";
/// Records are flushed to the new segment once this many bytes are gathered.
const FLUSH: usize = 1 << 20;
/// A record is closed once it has this many bytes.
const RECORD: usize = 128 << 10;

/// The newest checkpoint of a folder, and the last segment it replaces.
pub fn latest(dir: &Path) -> Result<Option<(u64, PathBuf)>, Error> {
    Ok(all(dir)?.pop())
}

fn all(dir: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(Error::io("listing", dir)(e)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::io("listing", dir))?;
        if let Some(name) = entry.file_name().to_str()
            && let Some(digits) = name.strip_prefix(PREFIX)
            && let Ok(number) = digits.parse()
            && entry.path().is_dir()
        {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Removes what an interrupted checkpoint left behind.
pub fn remove_temporary(fs: &dyn Fs, dir: &Path) -> Result<(), Error> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if let Some(name) = entry.file_name().to_str()
            && name.starts_with(PREFIX)
            && name.ends_with(TEMPORARY)
        {
            let path = entry.path();
            fs.remove_dir_all(&path)
                .map_err(Error::io("removing", &path))?;
        }
    }
    Ok(())
}

/// What a checkpoint kept and left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Series records kept.
    pub series: u64,
    /// Samples kept.
    pub samples: u64,
    /// Series left out.
    pub dropped_series: u64,
    /// Samples left out.
    pub dropped_samples: u64,
}

/// Writes the checkpoint that replaces all segments up to `last` and the previous checkpoint:
/// the series for which `keep` holds, samples and exemplars of at least `min`, tombstones that
/// reach it, the newest metadata. Nothing that it replaces is deleted.
pub(crate) fn write(
    dir: &Path,
    last: u64,
    min: Millis,
    keep: &dyn Fn(u64) -> bool,
    options: &WalOptions,
    fs: &Arc<dyn Fs>,
) -> Result<Kept, Error> {
    let mut inputs = Vec::new();
    let mut from = 0;
    if let Some((n, path)) = latest(dir)? {
        if n >= last {
            return Ok(Kept::default());
        }
        inputs.extend(segments(&path)?);
        from = n + 1;
    }
    inputs.extend(
        segments(dir)?
            .into_iter()
            .filter(|(n, _)| (from..=last).contains(n)),
    );

    let done = dir.join(format!("{PREFIX}{last:08}"));
    let temporary = dir.join(format!("{PREFIX}{last:08}{TEMPORARY}"));
    fs.remove_dir_all(&temporary)
        .map_err(Error::io("removing", &temporary))?;
    let out = Wal::open(
        &temporary,
        WalOptions {
            sync: SyncMode::Interval(std::time::Duration::MAX),
            ..options.clone()
        },
        Arc::clone(fs),
        Arc::default(),
    )?;
    let mut filter = Filter {
        min,
        keep,
        records: Records::new(options.compression),
        metadata: HashMap::new(),
        kept: Kept::default(),
    };
    for (_, path) in &inputs {
        let mut reader = SegmentReader::open_on(&**fs, path)?;
        loop {
            match reader.read() {
                Ok(Some(record)) => {
                    if filter.take(record).is_err() {
                        tracing::warn!(segment = %path.display(), "malformed record left out of the checkpoint");
                    }
                }
                Ok(None) => break,
                Err(e @ ReadError::Io(_)) => return Err(e.at(path, reader.good_offset())),
                // Replay has set damage aside; what appears later must not stop truncation for
                // ever, and the samples that are still needed are in memory and newer segments.
                Err(e @ ReadError::Corrupt { .. }) => {
                    tracing::error!(error = %e.at(path, reader.good_offset()), "rest of a segment left out of the checkpoint");
                    break;
                }
            }
            if filter.records.out().len() > FLUSH {
                let _ = out.append(&mut filter.records)?;
                filter.records.clear();
            }
        }
    }
    filter.put_metadata();
    let _ = out.append(&mut filter.records)?;
    out.sync()?;
    fs.sync_dir(&temporary)
        .map_err(Error::io("syncing", &temporary))?;
    fs.rename(&temporary, &done)
        .map_err(Error::io("renaming", &temporary))?;
    fs.sync_dir(dir).map_err(Error::io("syncing", dir))?;
    Ok(filter.kept)
}

/// Removes every checkpoint but the newest.
pub(crate) fn delete_older(fs: &dyn Fs, dir: &Path) -> Result<usize, Error> {
    let mut found = all(dir)?;
    found.pop();
    for (_, path) in &found {
        fs.remove_dir_all(path)
            .map_err(Error::io("removing", path))?;
    }
    Ok(found.len())
}

struct Filter<'a> {
    min: Millis,
    keep: &'a dyn Fn(u64) -> bool,
    records: Records,
    metadata: HashMap<u64, (MetricType, String, String)>,
    kept: Kept,
}

impl Filter<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), record::BadRecord> {
        let Filter {
            min,
            keep,
            records,
            metadata,
            kept,
        } = self;
        let min = *min;
        match record::kind(bytes) {
            RecordKind::Series => record::read_series(bytes, |series, labels| {
                if !keep(series) {
                    kept.dropped_series += 1;
                    return;
                }
                kept.series += 1;
                if records.open_len() > RECORD {
                    records.end();
                }
                if records.open_len() == 0 {
                    record::begin_series(records.out());
                }
                record::put_series(records.out(), series, labels.iter().copied());
            })?,
            RecordKind::SamplesV2 => {
                let mut writer = None;
                record::read_started_samples(bytes, |series, ts, start, value| {
                    if ts < min || !keep(series) {
                        kept.dropped_samples += 1;
                        return;
                    }
                    kept.samples += 1;
                    let out = records.out();
                    writer
                        .get_or_insert_with(|| record::StartedSamplesWriter::begin(out))
                        .push(records.out(), (series, ts, start), value);
                })?;
            }
            RecordKind::Samples => {
                let mut writer = None;
                record::read_samples(bytes, |series, ts, value| {
                    if ts < min || !keep(series) {
                        kept.dropped_samples += 1;
                        return;
                    }
                    kept.samples += 1;
                    let out = records.out();
                    writer
                        .get_or_insert_with(|| record::SamplesWriter::begin(out, series, ts))
                        .push(records.out(), series, ts, value);
                })?;
            }
            RecordKind::Tombstones => {
                let mut stones = Vec::new();
                record::read_tombstones(bytes, |series, from, to| {
                    if to >= min && keep(series) {
                        stones.push((series, from, to));
                    }
                })?;
                if !stones.is_empty() {
                    record::put_tombstones(records.out(), &stones);
                }
            }
            RecordKind::Exemplars => {
                let mut base = None;
                record::read_exemplars(bytes, |series, ts, value, labels| {
                    if ts < min || !keep(series) {
                        return;
                    }
                    let base = *base.get_or_insert_with(|| {
                        record::begin_exemplars(records.out(), series, ts);
                        (series, ts)
                    });
                    let labels = labels.iter().copied();
                    record::put_exemplar(records.out(), base, series, ts, value, labels);
                })?;
            }
            RecordKind::Metadata => record::read_metadata(bytes, |series, kind, unit, help| {
                if keep(series) {
                    metadata.insert(series, (kind, unit.to_owned(), help.to_owned()));
                }
            })?,
            RecordKind::Histograms => {
                let with_starts = record::has_starts(bytes);
                let mut writer: Option<record::HistogramsWriter> = None;
                record::read_histograms(bytes, |series, ts, start, value| {
                    if ts < min || !keep(series) {
                        kept.dropped_samples += 1;
                        return;
                    }
                    kept.samples += 1;
                    if writer.as_ref().is_some_and(|w| !w.takes(&value)) {
                        records.end();
                        writer = None;
                    }
                    let out = records.out();
                    let row = (series, ts, start);
                    writer
                        .get_or_insert_with(|| {
                            record::HistogramsWriter::begin(out, (series, ts), &value, with_starts)
                        })
                        .push(records.out(), row, &value);
                })?;
            }
            RecordKind::Unknown(_) => {}
        }
        records.end();
        Ok(())
    }

    fn put_metadata(&mut self) {
        if self.metadata.is_empty() {
            return;
        }
        record::begin_metadata(self.records.out());
        for (&series, (kind, unit, help)) in &self.metadata {
            record::put_metadata(self.records.out(), series, *kind, unit, help);
        }
        self.records.end();
    }
}
