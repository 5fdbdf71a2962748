//! Type, unit and help of series. Few differ, so a series has the number of its metadata in a table.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use model::report::Metadata;
use model::sink::SeriesMetadata;
use model::{METRIC_NAME, Str};
use parking_lot::RwLock;

use super::{Head, place};

/// The metadata of a series: one more than its place in the table, 0 for none.
pub(super) type Number = u32;

#[derive(Debug, Default)]
struct Table {
    entries: Vec<(Metadata, u32)>,
    by_value: HashMap<Metadata, Number>,
    free: Vec<Number>,
}

/// Every different metadata of a head, with how many series have it.
#[derive(Debug, Default)]
pub(super) struct MetadataTable(RwLock<Table>);

impl MetadataTable {
    fn get(&self, number: Number) -> Option<Metadata> {
        let table = self.0.read();
        let entry = table.entries.get(number.checked_sub(1)? as usize)?;
        Some(entry.0.clone())
    }

    fn is(&self, number: Number, metadata: &Metadata) -> bool {
        let table = self.0.read();
        number
            .checked_sub(1)
            .and_then(|n| table.entries.get(n as usize))
            .is_some_and(|e| e.0 == *metadata)
    }

    /// One more series has it.
    fn take(&self, metadata: &Metadata) -> Number {
        let table = &mut *self.0.write();
        if let Some(&number) = table.by_value.get(metadata) {
            if let Some(entry) = table.entries.get_mut(number as usize - 1) {
                entry.1 += 1;
            }
            return number;
        }
        let entry = (metadata.clone(), 1);
        let number = match table.free.pop() {
            Some(number) => {
                if let Some(slot) = table.entries.get_mut(number as usize - 1) {
                    *slot = entry;
                }
                number
            }
            None => {
                table.entries.push(entry);
                table.entries.len() as Number
            }
        };
        table.by_value.insert(metadata.clone(), number);
        number
    }

    /// One series less has it.
    pub(super) fn release(&self, number: Number) {
        let Some(at) = number.checked_sub(1) else {
            return;
        };
        let table = &mut *self.0.write();
        if let Some(entry) = table.entries.get_mut(at as usize) {
            entry.1 = entry.1.saturating_sub(1);
            if entry.1 == 0 {
                let gone = std::mem::take(&mut entry.0);
                table.by_value.remove(&gone);
                table.free.push(number);
            }
        }
    }
}

impl Head {
    /// Whether a series is there and has other metadata than this, or none.
    pub(super) fn has_other_metadata(&self, row: &SeriesMetadata) -> bool {
        let Some(id) = self.own(&row.series) else {
            return false;
        };
        let (number, slot) = place(id);
        self.page(number)
            .and_then(|p| p.0.lock().get(slot).map(|s| s.metadata))
            .is_some_and(|known| !self.metadata.is(known, &row.metadata))
    }

    /// Changes the metadata of a series; false if there is no such series.
    pub(crate) fn set_metadata(&self, id: u32, metadata: &Metadata) -> bool {
        let (number, slot) = place(id);
        let Some(page) = self.page(number) else {
            return false;
        };
        let mut page = page.0.lock();
        let Some(Some(series)) = page.series.get_mut(slot) else {
            return false;
        };
        let new = self.metadata.take(metadata);
        let old = std::mem::replace(&mut series.metadata, new);
        self.metadata.release(old);
        true
    }

    /// Metadata by metric name, ascending; each different metadata once.
    pub(crate) fn metadata_by_metric(&self, metric: Option<&str>) -> Vec<(Str, Vec<Metadata>)> {
        let mut found: BTreeMap<Str, Vec<Number>> = BTreeMap::new();
        for (_, page) in self.walk() {
            // In the order in which locks are taken; never for long.
            let index = self.index.read();
            let page = page.0.lock();
            for series in page.series.iter().flatten().filter(|s| s.metadata != 0) {
                let mut pairs = page.labels(series).iter().map(|&p| index.pair(p));
                let Some((_, name)) = pairs.find(|(n, _)| *n == METRIC_NAME) else {
                    continue;
                };
                if metric.is_some_and(|m| m != name) {
                    continue;
                }
                match found.get_mut(name) {
                    Some(all) if all.contains(&series.metadata) => {}
                    Some(all) => all.push(series.metadata),
                    None => {
                        found.insert(name.into(), vec![series.metadata]);
                    }
                }
            }
        }
        let of = |all: Vec<Number>| {
            all.into_iter()
                .filter_map(|n| self.metadata.get(n))
                .collect()
        };
        found
            .into_iter()
            .map(|(name, all)| (name, of(all)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::report::MetricType;

    #[test]
    fn equal_metadata_are_kept_once_and_freed_with_their_last_series() {
        let table = MetadataTable::default();
        let of = |help: &str| Metadata {
            kind: MetricType::Counter,
            help: help.into(),
            unit: "".into(),
        };
        let a = table.take(&of("a"));
        assert_eq!(table.take(&of("a")), a);
        let b = table.take(&of("b"));
        assert!(a != b && a != 0 && b != 0);
        assert!(table.is(b, &of("b")) && !table.is(a, &of("b")) && !table.is(0, &of("b")));
        table.release(a);
        assert_eq!(table.get(a), Some(of("a")));
        table.release(a);
        assert_eq!(table.take(&of("c")), a);
        assert_ne!(table.take(&of("a")), a);
        table.release(0);
    }
}
