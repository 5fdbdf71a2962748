//! What a target answered last time: the raw text of each series, in the order of the body, and
//! the reference its samples go to.
//!
//! A body that lists the same series in the same order, as nearly all do, is matched by comparing
//! bytes from front to back; nothing is hashed. An index by text is made when a body deviates for
//! the first time, and thrown away with the next change of the series.

use hashbrown::HashTable;
use model::SeriesRef;
use model::report::MetricType;
use xxhash_rust::xxh3::xxh3_64;

/// 24 bytes a series, and its text.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: u64,
    generation: u32,
    start: u32,
    len: u32,
    /// The scrape that saw it last.
    seen: u16,
    flags: u8,
    kind: MetricType,
}

/// Whether its end is to be marked, in scrapes of even and of odd number.
const TRACKED: [u8; 2] = [1, 2];
/// Relabelling drops it.
const DROPPED: u8 = 4;

/// The place of a series in a [`Cache`].
pub(crate) type Place = usize;

/// The series of one target.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    text: Vec<u8>,
    entries: Vec<Entry>,
    index: Option<HashTable<u32>>,
    /// Number of the running scrape; starts over long before it could meet itself.
    scrape: u16,
    /// How many series are tracked since the last scrape.
    tracked: usize,
    /// Series that an earlier cache of the target tracked; their ends are still to be marked.
    inherited: Vec<SeriesRef>,
    run: Run,
}

/// The state of one scrape.
#[derive(Debug, Default)]
struct Run {
    /// Where the next series is expected.
    cursor: usize,
    /// Entries before this scrape.
    before: usize,
    text_before: usize,
    /// How many entries were seen, and how many of those tracked before are tracked still.
    seen: usize,
    still: usize,
    tracked: usize,
    /// The places seen, in order, once that differs from the order of the entries.
    order: Option<Vec<u32>>,
}

/// What is known of a series that a body shows.
pub(crate) enum Known {
    /// Its samples go here.
    Series(Place, SeriesRef),
    /// Relabelling drops it.
    Dropped,
    /// This scrape showed it already.
    Again(Place, SeriesRef),
    /// Never seen.
    New,
}

impl Cache {
    /// A cache for a target whose series so far were `inherited`.
    pub(crate) fn inheriting(inherited: Vec<SeriesRef>) -> Self {
        Self {
            inherited,
            ..Self::default()
        }
    }

    /// Begins a scrape.
    pub(crate) fn begin(&mut self) {
        if self.scrape >= u16::MAX - 1 {
            // The parity must go on as it was.
            for entry in &mut self.entries {
                entry.seen = 0;
            }
            self.scrape = self.scrape % 2 + 2;
        }
        self.scrape += 1;
        self.run = Run {
            before: self.entries.len(),
            text_before: self.text.len(),
            ..Run::default()
        };
    }

    /// The text that will probably come next.
    #[inline]
    pub(crate) fn expected(&self) -> &[u8] {
        self.entries
            .get(self.run.cursor)
            .map_or(&[], |entry| text_of(&self.text, entry))
    }

    /// Looks up a series; `expected` if its text is the expected one. `tracked`: whether its end
    /// shall be marked.
    #[inline]
    pub(crate) fn look_up(&mut self, text: &[u8], expected: bool, tracked: bool) -> Known {
        let place = if expected {
            self.run.cursor
        } else {
            match self.find(text) {
                Some(place) => place,
                None => return Known::New,
            }
        };
        self.run.cursor = place + 1;
        let scrape = self.scrape;
        let Some(entry) = self.entries.get_mut(place) else {
            return Known::New;
        };
        let series = SeriesRef {
            id: entry.id,
            generation: entry.generation,
        };
        if entry.seen == scrape {
            return match entry.flags & DROPPED {
                0 => Known::Again(place, series),
                _ => Known::Dropped,
            };
        }
        entry.seen = scrape;
        if self.run.seen != place && self.run.order.is_none() {
            self.run.order = Some((0..self.run.seen as u32).collect());
        }
        if let Some(order) = &mut self.run.order {
            order.push(place as u32);
        }
        self.run.seen += 1;
        if entry.flags & DROPPED != 0 {
            return Known::Dropped;
        }
        track(entry, scrape, tracked, &mut self.run);
        Known::Series(place, series)
    }

    fn find(&mut self, text: &[u8]) -> Option<Place> {
        // Series that have gone leave the rest in order.
        const AHEAD: usize = 4;
        let cursor = self.run.cursor;
        for place in cursor + 1..cursor + 1 + AHEAD {
            match self.entries.get(place) {
                Some(entry) if text_of(&self.text, entry) == text => return Some(place),
                Some(_) => {}
                None => break,
            }
        }
        self.indexed(text)
    }

    fn indexed(&mut self, text: &[u8]) -> Option<Place> {
        let (all, entries) = (&self.text, &self.entries);
        let index = self.index.get_or_insert_with(|| {
            let mut index = HashTable::with_capacity(entries.len());
            for (place, entry) in entries.iter().enumerate() {
                let hash = xxh3_64(text_of(all, entry));
                index.insert_unique(hash, place as u32, |p| hash_at(all, entries, *p));
            }
            index
        });
        index
            .find(xxh3_64(text), |p| {
                entries
                    .get(*p as usize)
                    .is_some_and(|e| text_of(all, e) == text)
            })
            .map(|p| *p as usize)
    }

    /// Adds a series that is [`Known::New`]. None if the texts outgrow 4 GiB.
    pub(crate) fn add(
        &mut self,
        text: &[u8],
        kind: MetricType,
        dropped: bool,
        tracked: bool,
    ) -> Option<Place> {
        let start = u32::try_from(self.text.len()).ok()?;
        let len = u32::try_from(text.len()).ok()?;
        start.checked_add(len)?;
        let place = self.entries.len();
        self.text.extend_from_slice(text);
        let mut entry = Entry {
            id: crate::samples::UNRESOLVED.id,
            generation: crate::samples::UNRESOLVED.generation,
            start,
            len,
            seen: self.scrape,
            flags: if dropped { DROPPED } else { 0 },
            kind,
        };
        if !dropped {
            track(&mut entry, self.scrape, tracked, &mut self.run);
        }
        self.entries.push(entry);
        let (all, entries) = (&self.text, &self.entries);
        if let Some(index) = &mut self.index {
            index.insert_unique(xxh3_64(text), place as u32, |p| hash_at(all, entries, *p));
        }
        if self.run.seen != place && self.run.order.is_none() {
            self.run.order = Some((0..self.run.seen as u32).collect());
        }
        if let Some(order) = &mut self.run.order {
            order.push(place as u32);
        }
        self.run.seen += 1;
        Some(place)
    }

    /// Sets where the samples of a series go.
    pub(crate) fn set_ref(&mut self, place: Place, series: SeriesRef) {
        if let Some(entry) = self.entries.get_mut(place) {
            entry.id = series.id;
            entry.generation = series.generation;
        }
    }

    /// The series that were tracked and are not in this scrape any more.
    pub(crate) fn vanished(&self) -> Vec<SeriesRef> {
        if self.run.still == self.tracked && self.inherited.is_empty() {
            return Vec::new();
        }
        let before = TRACKED[usize::from(self.scrape.wrapping_sub(1) % 2)];
        let now = TRACKED[usize::from(self.scrape % 2)];
        let mut gone: hashbrown::HashSet<SeriesRef> = self.inherited.iter().copied().collect();
        let old = self.entries.get(..self.run.before).unwrap_or_default();
        gone.extend(
            old.iter()
                .filter(|e| e.flags & before != 0 && (e.seen != self.scrape || e.flags & now == 0))
                .map(reference),
        );
        // Another text may stand for the same series.
        for entry in &self.entries {
            if entry.seen == self.scrape && entry.flags & now != 0 {
                gone.remove(&reference(entry));
            }
        }
        let mut gone: Vec<SeriesRef> = gone.into_iter().collect();
        gone.sort_unstable();
        gone
    }

    /// Ends a scrape that was taken in: what it did not show is forgotten.
    pub(crate) fn commit(&mut self) {
        self.inherited = Vec::new();
        self.tracked = self.run.tracked;
        let changed = self.run.seen != self.entries.len() || self.entries.len() != self.run.before;
        if changed && let Some(order) = self.run.order.take() {
            let mut text = Vec::with_capacity(self.text.len());
            let mut entries = Vec::with_capacity(order.len());
            for place in order {
                let Some(entry) = self.entries.get(place as usize) else {
                    continue;
                };
                let mut moved = *entry;
                moved.start = text.len() as u32;
                text.extend_from_slice(text_of(&self.text, entry));
                entries.push(moved);
            }
            self.text = text;
            self.entries = entries;
            self.index = None;
        } else if self.run.seen < self.entries.len() {
            // Only the tail has gone.
            self.entries.truncate(self.run.seen);
            let end = self
                .entries
                .last()
                .map_or(0, |e| (e.start + e.len) as usize);
            self.text.truncate(end);
            self.index = None;
        }
        if self.run.before == 0 {
            self.text.shrink_to_fit();
            self.entries.shrink_to_fit();
            self.index = None;
        }
        self.run = Run::default();
    }

    /// Ends a scrape that failed: what it added is forgotten, and nothing is tracked any more (the
    /// ends of all series that were are those that [`Cache::vanish`] gave).
    pub(crate) fn vanish(&mut self) -> Vec<SeriesRef> {
        self.entries.truncate(self.run.before);
        self.text.truncate(self.run.text_before);
        self.index = None;
        let before = TRACKED[usize::from(self.scrape.wrapping_sub(1) % 2)];
        let mut gone: Vec<SeriesRef> = self
            .entries
            .iter()
            .filter(|e| e.flags & before != 0)
            .map(reference)
            .chain(std::mem::take(&mut self.inherited))
            .collect();
        for entry in &mut self.entries {
            entry.flags &= DROPPED;
        }
        self.tracked = 0;
        self.run = Run::default();
        gone.sort_unstable();
        gone.dedup();
        gone
    }

    /// The series whose ends are to be marked, for another cache to inherit.
    pub(crate) fn tracked(&self) -> Vec<SeriesRef> {
        let now = TRACKED[usize::from(self.scrape % 2)];
        let own = self
            .entries
            .iter()
            .filter(|e| e.flags & now != 0)
            .map(reference);
        own.chain(self.inherited.iter().copied()).collect()
    }

    /// Text, kind and place of every series with one of these references.
    pub(crate) fn with_refs(
        &self,
        wanted: &hashbrown::HashSet<SeriesRef>,
    ) -> Vec<(Place, &[u8], MetricType, SeriesRef)> {
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, e)| e.flags & DROPPED == 0 && wanted.contains(&reference(e)))
            .map(|(place, e)| (place, text_of(&self.text, e), e.kind, reference(e)))
            .collect()
    }

    /// Text and reference of every series that this scrape has shown and that is kept.
    pub(crate) fn seen(&self) -> impl Iterator<Item = (&[u8], SeriesRef)> {
        let seen = self.entries.iter();
        let seen = seen.filter(|e| e.seen == self.scrape && e.flags & DROPPED == 0);
        seen.map(|e| (text_of(&self.text, e), reference(e)))
    }

    /// Text and reference of the series at a place.
    pub(crate) fn at(&self, place: Place) -> Option<(&[u8], SeriesRef)> {
        let entry = self.entries.get(place)?;
        Some((text_of(&self.text, entry), reference(entry)))
    }

    /// How many series are known.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

fn reference(entry: &Entry) -> SeriesRef {
    SeriesRef {
        id: entry.id,
        generation: entry.generation,
    }
}

#[inline(always)]
fn text_of<'a>(text: &'a [u8], entry: &Entry) -> &'a [u8] {
    let start = entry.start as usize;
    text.get(start..start + entry.len as usize)
        .unwrap_or_default()
}

fn hash_at(text: &[u8], entries: &[Entry], place: u32) -> u64 {
    entries
        .get(place as usize)
        .map_or(0, |e| xxh3_64(text_of(text, e)))
}

#[inline(always)]
fn track(entry: &mut Entry, scrape: u16, tracked: bool, run: &mut Run) {
    let now = TRACKED[usize::from(scrape % 2)];
    let before = TRACKED[usize::from(scrape.wrapping_sub(1) % 2)];
    if tracked {
        run.still += usize::from(entry.flags & before != 0);
        run.tracked += 1;
        entry.flags |= now;
    } else {
        entry.flags &= !now;
    }
}

#[cfg(test)]
mod tests;
