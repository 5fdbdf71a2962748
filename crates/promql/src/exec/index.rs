//! Label lists by number: group keys, join signatures, result labels.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use model::{Symbol, Symbols};

use super::block::Pair;

/// Gives equal label lists equal numbers, counting from 0 in order of appearance.
#[derive(Default)]
pub(crate) struct LabelIndex {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    ends: Vec<u32>,
    pairs: Vec<Pair>,
}

impl LabelIndex {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The number of `key`, and whether it is new.
    pub(crate) fn intern(&mut self, key: &[Pair]) -> (usize, bool) {
        let hash = self.hasher.hash_one(key);
        let (ends, pairs) = (&self.ends, &self.pairs);
        if let Some(&i) = self
            .table
            .find(hash, |&i| slice(ends, pairs, i as usize) == key)
        {
            return (i as usize, false);
        }
        let number = self.ends.len();
        self.pairs.extend_from_slice(key);
        self.ends.push(self.pairs.len() as u32);
        let (ends, pairs, hasher) = (&self.ends, &self.pairs, &self.hasher);
        self.table.insert_unique(hash, number as u32, |&i| {
            hasher.hash_one(slice(ends, pairs, i as usize))
        });
        (number, true)
    }

    /// The number of `key`, if it has one.
    pub(crate) fn find(&self, key: &[Pair]) -> Option<usize> {
        let hash = self.hasher.hash_one(key);
        self.table
            .find(hash, |&i| slice(&self.ends, &self.pairs, i as usize) == key)
            .map(|&i| i as usize)
    }

    /// The labels of number `i`.
    pub(crate) fn labels(&self, i: usize) -> &[Pair] {
        slice(&self.ends, &self.pairs, i)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.table.capacity() * 5 + self.ends.capacity() * 4 + self.pairs.capacity() * 8
    }
}

fn slice<'a>(ends: &[u32], pairs: &'a [Pair], i: usize) -> &'a [Pair] {
    let start = if i == 0 { 0 } else { ends[i - 1] as usize };
    &pairs[start..ends[i] as usize]
}

/// Which labels of a series count: those of a grouping, or of a join's `on`/`ignoring`.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    /// Only these (`by`, `on`), ascending by name.
    Only(Vec<Symbol>),
    /// All but these (`without`, `ignoring`).
    AllBut(Vec<Symbol>),
}

impl Key {
    /// Only `names`.
    pub(crate) fn only<S: AsRef<str>>(names: &[S], symbols: &Symbols) -> Self {
        let mut names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        names.sort_unstable();
        names.dedup();
        Key::Only(names.iter().map(|n| symbols.intern(n)).collect())
    }

    /// All but `names` and `and`.
    pub(crate) fn all_but<S: AsRef<str>>(names: &[S], and: &str, symbols: &Symbols) -> Self {
        let mut out = vec![symbols.intern(and)];
        out.extend(names.iter().map(|n| symbols.intern(n.as_ref())));
        Key::AllBut(out)
    }

    /// Writes the labels that count.
    pub(crate) fn of(&self, labels: &[Pair], out: &mut Vec<Pair>) {
        out.clear();
        match self {
            Key::Only(names) => {
                for &name in names {
                    if let Some(pair) = labels.iter().find(|(n, _)| *n == name) {
                        out.push(*pair);
                    }
                }
            }
            Key::AllBut(names) => {
                out.extend(labels.iter().filter(|(n, _)| !names.contains(n)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_have_equal_numbers() {
        let symbols = Symbols::default();
        let labels: Vec<Pair> = [("a", "1"), ("b", "2"), ("c", "3")]
            .iter()
            .map(|(n, v)| (symbols.intern(n), symbols.intern(v)))
            .collect();
        let mut key = Vec::new();
        Key::only(&["c", "a", "x"], &symbols).of(&labels, &mut key);
        assert_eq!(key, [labels[0], labels[2]]);
        let mut index = LabelIndex::default();
        assert_eq!(index.intern(&key), (0, true));
        assert_eq!(index.intern(&[]), (1, true));
        assert_eq!(index.intern(&key), (0, false));
        assert_eq!(index.find(&[]), Some(1));
        assert_eq!(index.find(&labels), None);
        Key::all_but(&["c"], "b", &symbols).of(&labels, &mut key);
        assert_eq!(key, [labels[0]]);
        assert_eq!((index.labels(0).len(), index.labels(1).len()), (2, 0));
    }
}
