//! Making series: numbers are given, the log has the labels, then the index.

use hashbrown::HashTable;
use model::{Labels, SeriesRef};

use super::index::{self, Index};
use super::pages::Pages;
use super::{Head, place};
use crate::Error;
use crate::wal::{Wal, record};

/// A series record is closed once it has this many bytes.
const SERIES_RECORD: usize = 64 << 10;
/// So many series are made under one hold of the index.
const MADE_AT_ONCE: usize = 512;

/// A series that is being made: the row that asks for it, its hash and its number.
struct New {
    row: usize,
    hash: u32,
    id: u32,
}

impl Head {
    /// The references of these series. New ones are made, and their labels logged first.
    pub(crate) fn resolve(
        &self,
        labels: &[Labels],
        wal: Option<&Wal>,
    ) -> Result<Vec<SeriesRef>, Error> {
        let mut refs = Vec::with_capacity(labels.len());
        let mut missing = Vec::new();
        let version = {
            let index = self.index.read();
            let pages = self.pages.read();
            for (row, l) in labels.iter().enumerate() {
                let hash = index::hash(l);
                let found = self.find(&index, &pages, (l, hash));
                if found.is_none() {
                    missing.push((row, hash));
                }
                refs.push(self.reference(found.unwrap_or(0)));
            }
            index.version()
        };
        if !missing.is_empty() {
            self.make(labels, &missing, version, wal, &mut refs)?;
        }
        Ok(refs)
    }

    /// Makes the series of the rows that were `missing` (with their hashes) when the index had this
    /// version.
    fn make(
        &self,
        labels: &[Labels],
        missing: &[(usize, u32)],
        version: (usize, u64),
        wal: Option<&Wal>,
        refs: &mut [SeriesRef],
    ) -> Result<(), Error> {
        let making = &mut *self.making.lock();
        // A row may come twice,
        let mut new: Vec<New> = Vec::with_capacity(missing.len());
        let mut twice: HashTable<usize> = HashTable::with_capacity(missing.len());
        {
            let index = self.index.read();
            let pages = self.pages.read();
            // and somebody else may have made them meanwhile.
            let changed = index.version() != version;
            let mut next = making.next;
            for &(row, hash) in missing {
                let l = &labels[row];
                let same = |n: &usize| new[*n].hash == hash && labels[new[*n].row] == *l;
                let known = match twice.find(index::spread(hash), same) {
                    Some(&n) => Some(new[n].id),
                    None if changed => self.find(&index, &pages, (l, hash)),
                    None => None,
                };
                let id = match known {
                    Some(id) => id,
                    None => {
                        self.check_limit(new.len())?;
                        let id = u32::try_from(next).map_err(|_| {
                            Error::Limit(
                                "4294967295 series were made: restart to count anew".into(),
                            )
                        })?;
                        next += 1;
                        let of = |n: &usize| index::spread(new[*n].hash);
                        twice.insert_unique(index::spread(hash), new.len(), of);
                        new.push(New { row, hash, id });
                        id
                    }
                };
                refs[row] = self.reference(id);
            }
        }
        let mut ticket = None;
        if let Some(wal) = wal {
            let records = &mut making.records;
            records.clear();
            for &New { row, id, .. } in &new {
                if records.open_len() > SERIES_RECORD {
                    records.end();
                }
                if records.open_len() == 0 {
                    record::begin_series(records.out());
                }
                record::put_label_set(records.out(), id.into(), &labels[row]);
            }
            records.end();
            ticket = Some((wal, wal.append(records)?));
        }
        for part in new.chunks(MADE_AT_ONCE) {
            let index = &mut *self.index.write();
            let pages = &mut *self.pages.write();
            for &New { row, hash, id } in part {
                put(index, pages, (&labels[row], hash), id, &mut making.pairs);
            }
        }
        if let Some(last) = new.last() {
            making.next = u64::from(last.id) + 1;
        }
        self.stats.series.add(new.len() as i64);
        self.stats.series_created.add(new.len() as u64);
        match ticket {
            Some((wal, ticket)) => wal.settle(ticket),
            None => Ok(()),
        }
    }

    /// Whether `more` series and one can be made.
    fn check_limit(&self, more: usize) -> Result<(), Error> {
        let limit = self.options.max_series;
        if limit == 0 || self.series() + more < limit {
            return Ok(());
        }
        self.stats.head.series_limited.inc();
        Err(Error::Limit(format!(
            "the head has its limit of {limit} series: no new ones are made"
        )))
    }

    /// The number of a series that the log gives; the one that it has already if the labels are
    /// known. None if the log's number does not fit.
    pub(crate) fn make_as(&self, labels: &Labels, id: u64) -> Option<u32> {
        let making = &mut *self.making.lock();
        let mut index = self.index.write();
        let mut pages = self.pages.write();
        let labels = (labels, index::hash(labels));
        if let Some(found) = self.find(&index, &pages, labels) {
            return Some(found);
        }
        let taken = |id: u32| {
            let (page, slot) = place(id);
            let page = pages.get(page);
            page.is_some_and(|page| page.0.lock().get(slot).is_some())
        };
        // Another number if the log gives one number to two series, or one that is too large.
        let id = match u32::try_from(id) {
            Ok(id) if id != u32::MAX && !taken(id) => id,
            _ => u32::try_from(making.next).ok()?,
        };
        put(&mut index, &mut pages, labels, id, &mut making.pairs);
        making.next = making.next.max(u64::from(id) + 1);
        self.stats.series.inc();
        self.stats.series_created.inc();
        Some(id)
    }
}

fn put(
    index: &mut Index,
    pages: &mut Pages,
    labels: (&Labels, u32),
    id: u32,
    pairs: &mut Vec<u32>,
) {
    pairs.clear();
    let (page, slot) = place(id);
    index.insert(labels, id, pairs);
    pages.get_or_make(page).0.lock().insert(slot, pairs);
}
