//! Telling the sink what is known of series: type, unit and help.

use model::report::Metadata;
use model::sink::SeriesMetadata;

use super::Loop;
use crate::metadata::Table;
use crate::parse::{self, LabelOptions, families};
use crate::samples::Rows;

impl Loop {
    /// Adds to a batch, whose series are resolved, the metadata of new series; of all series, if
    /// the target's metadata has changed.
    pub(super) fn add_metadata(&mut self, rows: &mut Rows) {
        let Some(table) = self.state.lock().table.clone() else {
            return;
        };
        let told = &mut rows.batch.metadata;
        if std::mem::take(&mut self.memory.untold) {
            let all = self.memory.cache.seen();
            told.extend(all.filter_map(|(text, series)| {
                let metadata = metadata_of(&table, text)?.clone();
                Some(SeriesMetadata { series, metadata })
            }));
            return;
        }
        for fresh in &rows.fresh {
            if let Some((text, series)) = self.memory.cache.at(fresh.place)
                && let Some(metadata) = metadata_of(&table, text)
            {
                let metadata = metadata.clone();
                told.push(SeriesMetadata { series, metadata });
            }
        }
    }
}

/// What is known of the metric of a series' text.
pub(super) fn metadata_of<'a>(table: &'a Table, text: &[u8]) -> Option<&'a Metadata> {
    let pairs = parse::pairs_of(text, Default::default(), LabelOptions::default()).ok()?;
    let (_, name) = pairs.iter().find(|(name, _)| name == model::METRIC_NAME)?;
    let (_, metadata) = families(name).find_map(|family| table.get(family))?;
    Some(metadata)
}
