//! The series of an agent.

use std::sync::Arc;

use hashbrown::HashMap;
use model::report::Metadata;
use model::sink::Exemplar;
use model::{Labels, Millis, SeriesRef};

/// What is known of a series.
pub(super) struct Series {
    pub(super) labels: Labels,
    /// Time of its newest sample.
    pub(super) newest: Option<Millis>,
    /// When it was made, for as long as it has no sample.
    pub(super) made: Millis,
    /// Its newest exemplar: the next scrape shows it again.
    pub(super) exemplar: Option<Box<Exemplar>>,
    pub(super) metadata: Option<Arc<Metadata>>,
}

/// All series.
#[derive(Default)]
pub(super) struct Table {
    by_labels: HashMap<Labels, u64>,
    series: HashMap<u64, Series>,
    /// Numbers begin at 1 and are never used twice.
    highest: u64,
    /// Series that are forgotten, and the last segment that may have samples of them.
    pub(super) deleted: HashMap<u64, u64>,
}

/// A number is never used twice while its series may stand in the log, so one generation is enough.
const GENERATION: u32 = 1;

pub(super) fn reference(id: u64) -> SeriesRef {
    SeriesRef {
        id,
        generation: GENERATION,
    }
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    pub(super) fn find(&self, labels: &Labels) -> Option<u64> {
        self.by_labels.get(labels).copied()
    }

    pub(super) fn get(&mut self, series: SeriesRef) -> Option<&mut Series> {
        match series.generation == GENERATION {
            true => self.series.get_mut(&series.id),
            false => None,
        }
    }

    pub(super) fn has(&self, id: u64) -> bool {
        self.series.contains_key(&id)
    }

    pub(super) fn next(&self) -> u64 {
        self.highest + 1
    }

    /// Puts a series in; no series has its number or labels.
    pub(super) fn put(&mut self, id: u64, labels: Labels, now: Millis) {
        self.skip(id);
        self.by_labels.insert(labels.clone(), id);
        let series = Series {
            labels,
            newest: None,
            made: now,
            exemplar: None,
            metadata: None,
        };
        self.series.insert(id, series);
    }

    /// No number up to this one is given to a new series.
    pub(super) fn skip(&mut self, id: u64) {
        self.highest = self.highest.max(id);
    }

    /// Forgets series without a sample since `min`; samples of them may be in segments up to `segment`.
    pub(super) fn forget(&mut self, min: Millis, segment: u64) {
        let Self {
            by_labels,
            series,
            deleted,
            ..
        } = self;
        series.retain(|&id, series| {
            let keep = series.newest.unwrap_or(series.made) >= min;
            if !keep {
                by_labels.remove(&series.labels);
                deleted.insert(id, segment);
            }
            keep
        });
    }
}
