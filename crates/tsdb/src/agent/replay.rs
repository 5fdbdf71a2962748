//! Reading an agent's log: which series there are, and when each had its newest sample.

use std::path::Path;
use std::time::Instant;

use hashbrown::HashMap;
use model::{Labels, Millis};

use super::AgentOptions;
use super::series::{Table, reference};
use crate::wal::record::{self, RecordKind};
use crate::wal::{self, Ahead, checkpoint};
use crate::{Error, Progress, Replayed};

pub(super) fn replay(
    dir: &Path,
    table: &mut Table,
    options: &AgentOptions,
) -> Result<Replayed, Error> {
    let started = Instant::now();
    let fs = &*options.fs;
    checkpoint::remove_temporary(fs, dir)?;
    let mut inputs = Vec::new();
    let mut first = 0;
    if let Some((number, path)) = checkpoint::latest(dir)? {
        inputs.extend(wal::segments(&path)?.into_iter().map(|s| (number, s.1)));
        first = number + 1;
    }
    let segments = match dir.is_dir() {
        true => wal::segments(dir)?,
        false => Vec::new(),
    };
    let last = segments.last().map(|s| s.1.clone());
    inputs.extend(segments.into_iter().filter(|s| s.0 >= first));
    let mut reading = Reading {
        table,
        now: options.clock.now(),
        renamed: HashMap::new(),
        replayed: Replayed::default(),
    };
    let total = inputs.len() as u64;
    for (done, (number, path)) in inputs.iter().enumerate() {
        if let Some(progress) = &options.progress {
            progress(Progress {
                done: done as u64,
                total,
            });
        }
        let mut reader = Ahead::open(fs, path)?;
        loop {
            match reader.read() {
                Ok(Some(bytes)) => {
                    if reading.take(*number, bytes).is_err() {
                        // Its checksum is right, so its neighbours can be trusted.
                        let what = format!("{}: a malformed record was left out", path.display());
                        tracing::warn!("{what}");
                        reading.replayed.damaged.push(what);
                    }
                }
                Ok(None) => break,
                Err(e) => {
                    let good = reader.good_offset();
                    let is_last = last.as_ref() == Some(path);
                    let damaged = &mut reading.replayed.damaged;
                    wal::give_up(fs, path, good, e, is_last, damaged)?;
                    break;
                }
            }
        }
    }
    let mut replayed = reading.replayed;
    replayed.series = table.len() as u64;
    replayed.took = started.elapsed();
    let stats = &options.stats;
    stats.corruptions.add(replayed.damaged.len() as u64);
    stats.replay_seconds.set(replayed.took.as_secs_f64());
    Ok(replayed)
}

struct Reading<'a> {
    table: &'a mut Table,
    now: Millis,
    /// Numbers of series that stand in the log under two of them.
    renamed: HashMap<u64, u64>,
    replayed: Replayed,
}

impl Reading<'_> {
    fn take(&mut self, segment: u64, bytes: &[u8]) -> Result<(), record::BadRecord> {
        match record::kind(bytes) {
            RecordKind::Series => record::read_series(bytes, |id, labels| {
                let labels = Labels::from_pairs(labels.iter().copied());
                self.table.skip(id);
                match self.table.find(&labels) {
                    Some(first) if first != id => {
                        self.renamed.insert(id, first);
                        self.table.deleted.insert(id, segment);
                    }
                    None if !self.table.has(id) => self.table.put(id, labels, self.now),
                    _ => {}
                }
            }),
            RecordKind::Samples => {
                record::read_samples(bytes, |id, ts, _| self.sample(segment, id, ts))
            }
            RecordKind::SamplesV2 => {
                record::read_started_samples(bytes, |id, ts, _, _| self.sample(segment, id, ts))
            }
            RecordKind::Histograms => record::read_histograms(bytes, |id, ts, _, _| {
                self.replayed.histograms += 1;
                self.sample(segment, id, ts);
            }),
            RecordKind::Metadata => record::read_metadata(bytes, |id, kind, unit, help| {
                if let Some(series) = self.table.get(reference(id)) {
                    series.metadata = Some(
                        model::report::Metadata {
                            kind,
                            unit: unit.into(),
                            help: help.into(),
                        }
                        .into(),
                    );
                }
            }),
            RecordKind::Exemplars | RecordKind::Tombstones | RecordKind::Unknown(_) => Ok(()),
        }
    }

    fn sample(&mut self, segment: u64, id: u64, ts: Millis) {
        self.replayed.samples += 1;
        self.table.skip(id);
        let own = match self.renamed.get(&id) {
            None => id,
            Some(&first) => {
                self.table.deleted.insert(id, segment);
                first
            }
        };
        match self.table.get(reference(own)) {
            Some(series) => series.newest = series.newest.max(Some(ts)),
            None => self.replayed.unknown += 1,
        }
    }
}
