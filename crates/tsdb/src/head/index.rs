//! Who is there: label pairs with the series that carry them, and series by the hash of their
//! labels.
//!
//! A *pair* is one (name, value) with its postings list. A series' labels are its pairs' numbers,
//! four bytes a label, so interning, postings and label storage are one table. A pair that no
//! series carries any more is freed, strings and all; its number is used again.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use model::Labels;

/// The number of a label pair.
pub(crate) type PairId = u32;

/// Ascending series numbers. Most pairs of a large head have very few.
#[derive(Debug)]
pub(crate) enum List {
    None,
    One(u32),
    Many(Vec<u32>),
}

impl List {
    pub(crate) fn as_slice(&self) -> &[u32] {
        match self {
            List::None => &[],
            List::One(id) => std::slice::from_ref(id),
            List::Many(ids) => ids,
        }
    }

    fn order(&mut self) {
        if let List::Many(ids) = self {
            order(ids);
        }
    }

    fn push(&mut self, id: u32) {
        match self {
            List::None => *self = List::One(id),
            List::One(there) if *there == id => {}
            List::One(there) => {
                let mut ids = Vec::with_capacity(3);
                ids.extend([id.min(*there), id.max(*there)]);
                *self = List::Many(ids);
            }
            List::Many(ids) => push(ids, id),
        }
    }

    fn remove_all(&mut self, gone: &[u32]) {
        match self {
            List::None => {}
            List::One(id) => {
                if gone.binary_search(id).is_ok() {
                    *self = List::None;
                }
            }
            List::Many(ids) => {
                remove_all(ids, gone);
                match ids.as_slice() {
                    [] => *self = List::None,
                    [id] => *self = List::One(*id),
                    _ => {}
                }
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            List::Many(ids) => ids.capacity() * 4,
            _ => 0,
        }
    }
}

fn order(ids: &mut [u32]) {
    if !ids.is_sorted() {
        ids.sort_unstable();
    }
}

fn push(ids: &mut Vec<u32>, id: u32) {
    if ids.len() == ids.capacity() {
        // A quarter more, not double: the lists are a good part of a series' bytes.
        ids.reserve_exact((ids.len() / 4).max(4));
    }
    ids.push(id);
}

/// Removes those of `gone` (ascending) from `ids` (ascending).
fn remove_all(ids: &mut Vec<u32>, gone: &[u32]) {
    let mut rest = gone;
    ids.retain(|id| {
        while rest.first().is_some_and(|g| g < id) {
            rest = &rest[1..];
        }
        rest.first() != Some(id)
    });
    if ids.capacity() > 2 * ids.len() {
        ids.shrink_to_fit();
    }
}

#[derive(Debug)]
pub(crate) struct Pair {
    name: u32,
    value: Box<str>,
    pub(crate) list: List,
}

#[derive(Debug)]
struct Name {
    text: Box<str>,
    /// Its pairs, in no order.
    pairs: Vec<PairId>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    id: u32,
}

/// Hash tables spread by the top bits of 64: give it all of our 32.
pub(crate) fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A label set's hash, as [`Index`] wants it.
pub(crate) fn hash(labels: &Labels) -> u32 {
    let hash = labels.hash64();
    (hash ^ (hash >> 32)) as u32
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    names: Vec<Name>,
    by_name: HashTable<u32>,
    pairs: Vec<Pair>,
    free: Vec<PairId>,
    by_pair: HashTable<PairId>,
    by_labels: HashTable<Entry>,
    all: Vec<u32>,
    hasher: DefaultHashBuilder,
    removals: u64,
    /// Bytes of the pairs' values and lists.
    held: usize,
    /// Some list does not ascend: see [`Index::order`].
    unordered: bool,
    /// The last series that was inserted, and its pairs: the next one has most of them.
    last: (Labels, Vec<PairId>),
}

impl Index {
    /// All series, ascending.
    pub(crate) fn all(&self) -> &[u32] {
        &self.all
    }

    /// Name and value of a pair that some series carries.
    #[inline]
    pub(crate) fn pair(&self, id: PairId) -> (&str, &str) {
        let pair = &self.pairs[id as usize];
        (&self.names[pair.name as usize].text, &pair.value)
    }

    fn name(&self, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        self.by_name
            .find(hash, |&n| *self.names[n as usize].text == *name)
            .copied()
    }

    /// The number of a pair that some series carries.
    pub(crate) fn find_pair(&self, name: &str, value: &str) -> Option<PairId> {
        let hash = self.hasher.hash_one((name, value));
        self.by_pair
            .find(hash, |&p| self.pair(p) == (name, value))
            .copied()
    }

    /// The series that carry a pair, ascending.
    pub(crate) fn list(&self, pair: PairId) -> &[u32] {
        self.pairs[pair as usize].list.as_slice()
    }

    /// The series that carry `name="value"`, ascending.
    #[cfg(test)]
    pub(crate) fn postings(&self, name: &str, value: &str) -> &[u32] {
        self.find_pair(name, value).map_or(&[], |p| self.list(p))
    }

    /// Label names that some series carries, in no order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names
            .iter()
            .filter(|n| !n.pairs.is_empty())
            .map(|n| &*n.text)
    }

    /// The values of a name with their pairs and series, in no order.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = (&str, PairId, &[u32])> {
        let pairs: &[PairId] = self
            .name(name)
            .map_or(&[], |n| &self.names[n as usize].pairs);
        pairs.iter().map(|&p| {
            let pair = &self.pairs[p as usize];
            (&*pair.value, p, pair.list.as_slice())
        })
    }

    /// The numbers of the pairs in use, ascending.
    pub(crate) fn pair_ids(&self) -> Vec<PairId> {
        let mut ids: Vec<PairId> = self.by_pair.iter().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Label pairs in use.
    pub(crate) fn pairs(&self) -> usize {
        self.pairs.len() - self.free.len()
    }

    /// The series of exactly the labels with this [`hash`]; `same` says whether a series' pairs are
    /// they.
    pub(crate) fn find(&self, hash: u32, mut same: impl FnMut(u32) -> bool) -> Option<u32> {
        self.by_labels
            .find(spread(hash), |e| e.hash == hash && same(e.id))
            .map(|e| e.id)
    }

    /// Whether `pairs` are these labels.
    pub(crate) fn is(&self, pairs: &[PairId], labels: &Labels) -> bool {
        let mut rest = pairs.iter();
        labels
            .iter()
            .all(|l| rest.next().is_some_and(|&p| self.pair(p) == l))
            && rest.next().is_none()
    }

    /// Says whether series were made or forgotten: then it changes.
    pub(crate) fn version(&self) -> (usize, u64) {
        (self.all.len(), self.removals)
    }

    /// Interns the labels of a new series, whose [`hash`] is known, and puts it into the lists. The
    /// pairs go to `out`. Numbers ascend, or [`Index::order`] is called before anybody asks.
    pub(crate) fn insert(
        &mut self,
        (labels, hash): (&Labels, u32),
        id: u32,
        out: &mut Vec<PairId>,
    ) {
        let mut last = std::mem::take(&mut self.last);
        let mut before = last.0.encoded_pairs().zip(&last.1);
        for pair in labels.encoded_pairs() {
            let pair = match before.next() {
                Some((same, &number)) if same == pair => number,
                _ => {
                    let (name, value) = pair.read();
                    self.intern(name, value)
                }
            };
            let list = &mut self.pairs[pair as usize].list;
            let before = list.bytes();
            list.push(id);
            self.held += list.bytes() - before;
            out.push(pair);
        }
        drop(before);
        last.0 = labels.clone();
        last.1.clear();
        last.1.extend_from_slice(out);
        self.last = last;
        self.unordered |= self.all.last().is_some_and(|&last| last > id);
        if self.all.len() == self.all.capacity() {
            self.all.reserve_exact((self.all.len() / 8).max(64));
        }
        push(&mut self.all, id);
        self.by_labels
            .insert_unique(spread(hash), Entry { hash, id }, |e| spread(e.hash));
    }

    /// Brings all lists into order: only a log may have given numbers that do not ascend.
    pub(crate) fn order(&mut self) {
        if std::mem::take(&mut self.unordered) {
            order(&mut self.all);
            for pair in &mut self.pairs {
                pair.list.order();
            }
        }
    }

    fn intern(&mut self, name: &str, value: &str) -> PairId {
        let hash = self.hasher.hash_one((name, value));
        if let Some(&p) = self.by_pair.find(hash, |&p| self.pair(p) == (name, value)) {
            return p;
        }
        let name_id = match self.name(name) {
            Some(n) => n,
            None => {
                let n = self.names.len() as u32;
                self.names.push(Name {
                    text: name.into(),
                    pairs: Vec::new(),
                });
                let Self {
                    names,
                    by_name,
                    hasher,
                    ..
                } = self;
                by_name.insert_unique(hasher.hash_one(name), n, |&n| {
                    hasher.hash_one(&*names[n as usize].text)
                });
                n
            }
        };
        let pair = Pair {
            name: name_id,
            value: value.into(),
            list: List::None,
        };
        self.held += value.len();
        let id = match self.free.pop() {
            Some(id) => {
                self.pairs[id as usize] = pair;
                id
            }
            None => {
                self.pairs.push(pair);
                (self.pairs.len() - 1) as PairId
            }
        };
        self.names[name_id as usize].pairs.push(id);
        let Self {
            names,
            pairs,
            by_pair,
            hasher,
            ..
        } = self;
        by_pair.insert_unique(hash, id, |&p| {
            let pair = &pairs[p as usize];
            hasher.hash_one((&*names[pair.name as usize].text, &*pair.value))
        });
        id
    }

    /// Changes whenever a pair's number may have come to mean another pair.
    pub(crate) fn removals(&self) -> u64 {
        self.removals
    }

    /// Forgets series: their numbers ascending, and the pairs that they carried.
    pub(crate) fn remove(&mut self, gone: &[(u32, u32)], mut touched: Vec<PairId>) {
        self.removals += 1;
        self.last = Default::default();
        let ids: Vec<u32> = gone.iter().map(|g| g.0).collect();
        for &(id, hash) in gone {
            if let Ok(found) = self.by_labels.find_entry(spread(hash), |e| e.id == id) {
                found.remove();
            }
        }
        remove_all(&mut self.all, &ids);
        touched.sort_unstable();
        touched.dedup();
        let mut emptied = Vec::new();
        for pair in touched {
            let slot = &mut self.pairs[pair as usize];
            let before = slot.list.bytes();
            slot.list.remove_all(&ids);
            self.held = self.held - before + slot.list.bytes();
            if matches!(slot.list, List::None) {
                emptied.push(pair);
            }
        }
        let mut names: Vec<u32> = Vec::new();
        for &pair in &emptied {
            let hash = self.hasher.hash_one(self.pair(pair));
            if let Ok(found) = self.by_pair.find_entry(hash, |&p| p == pair) {
                found.remove();
            }
            names.push(self.pairs[pair as usize].name);
        }
        names.sort_unstable();
        names.dedup();
        for name in names {
            let pairs = &self.pairs;
            let list = &mut self.names[name as usize].pairs;
            list.retain(|&p| !matches!(pairs[p as usize].list, List::None));
            list.shrink_to_fit();
        }
        for pair in emptied {
            let value = std::mem::take(&mut self.pairs[pair as usize].value);
            self.held -= value.len();
            self.free.push(pair);
        }
    }

    /// The folded hash of a series' labels, as [`Index::remove`] wants it.
    pub(crate) fn hash_of(&self, pairs: &[PairId]) -> u32 {
        hash(&self.labels(pairs))
    }

    /// The label set that pairs stand for.
    pub(crate) fn labels(&self, pairs: &[PairId]) -> Labels {
        Labels::from_sorted(pairs.iter().map(|&p| self.pair(p)))
    }

    /// Bytes of the label names and values.
    pub(crate) fn symbol_bytes(&self) -> usize {
        let names: usize = self.names.iter().map(|n| n.text.len()).sum();
        names + self.pairs.iter().map(|p| p.value.len()).sum::<usize>()
    }

    /// Bytes of memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let pairs = self.pairs.len() * size_of::<Pair>() + self.held;
        let names: usize = self
            .names
            .iter()
            .map(|n| size_of::<Name>() + n.text.len() + n.pairs.capacity() * 4)
            .sum();
        pairs
            + names
            + self.all.capacity() * 4
            + self.by_labels.allocation_size()
            + self.by_pair.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_freed_and_used_again() {
        let mut index = Index::default();
        let set = |i: u32| Labels::from_pairs([("a", i.to_string()), ("job", "x".to_owned())]);
        let mut pairs = Vec::new();
        for i in 0..10 {
            let mut p = Vec::new();
            index.insert((&set(i), hash(&set(i))), i, &mut p);
            assert!(index.is(&p, &set(i)) && !index.is(&p[..1], &set(i)));
            pairs.push(p);
        }
        assert_eq!(index.postings("job", "x").len(), 10);
        assert_eq!(
            index.find(hash(&set(3)), |id| index.is(&pairs[id as usize], &set(3))),
            Some(3)
        );
        let gone: Vec<_> = (2..8u32)
            .map(|i| (i, index.hash_of(&pairs[i as usize])))
            .collect();
        let touched = pairs[2..8].concat();
        index.remove(&gone, touched);
        assert_eq!(index.all(), [0, 1, 8, 9]);
        assert_eq!(index.postings("job", "x"), [0, 1, 8, 9]);
        assert!(index.postings("a", "3").is_empty());
        assert_eq!(index.find(hash(&set(3)), |_| true), None);
        assert_eq!(index.pairs(), 5);
        assert_eq!(index.values("a").count(), 4);
        let mut p = Vec::new();
        index.insert((&set(77), hash(&set(77))), 77, &mut p);
        assert!(p[0] < 11, "a freed number is used again");
        assert_eq!(index.names().count(), 2);
        let held = index.pairs.iter().map(|p| p.value.len() + p.list.bytes());
        assert_eq!(index.held, held.sum::<usize>());
    }

    #[test]
    fn lists_are_ordered_when_a_log_gave_numbers_in_any_order() {
        let mut list = List::None;
        for id in [5, 9, 7, 1, 100] {
            list.push(id);
        }
        list.order();
        assert_eq!(list.as_slice(), [1, 5, 7, 9, 100]);
        list.remove_all(&[0, 5, 6, 100]);
        assert_eq!(list.as_slice(), [1, 7, 9]);
        list.remove_all(&[1, 9]);
        assert!(matches!(list, List::One(7)));
        list.remove_all(&[7]);
        assert!(list.as_slice().is_empty());
    }
}
