//! Strings by number: an append-only table with lock-free reads.

use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::RwLock;

use crate::{Labels, Str};

/// The number of a string in one [`Symbols`] table. Number 0 is always the empty string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Symbol(pub u32);

impl Symbol {
    /// The empty string.
    pub const EMPTY: Symbol = Symbol(0);
}

const FIRST: u32 = 6; // segment n holds 2^(FIRST+n) strings
const SEGMENTS: usize = (32 - FIRST) as usize;

type Segment = Box<[OnceLock<Str>]>;

/// An append-only string table, shared by everything one query touches.
///
/// Reading by number takes no lock; numbers never change and nothing is ever removed, so a table
/// lives exactly as long as the query (or the head) that owns it.
pub struct Symbols {
    segments: [OnceLock<Segment>; SEGMENTS],
    len: AtomicU32,
    bytes: AtomicUsize,
    index: RwLock<HashTable<Symbol>>,
    hasher: DefaultHashBuilder,
}

impl Default for Symbols {
    fn default() -> Self {
        let table = Self {
            segments: [const { OnceLock::new() }; SEGMENTS],
            len: AtomicU32::new(0),
            bytes: AtomicUsize::new(0),
            index: RwLock::new(HashTable::new()),
            hasher: DefaultHashBuilder::default(),
        };
        table.intern("");
        table
    }
}

impl std::fmt::Debug for Symbols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Symbols({})", self.len())
    }
}

/// Segment and offset of a number: segment n starts at 2^FIRST * (2^n - 1).
fn place(symbol: Symbol) -> (usize, usize) {
    let shifted = symbol.0 as u64 + (1 << FIRST);
    let segment = 63 - shifted.leading_zeros() - FIRST;
    (
        segment as usize,
        (shifted - (1u64 << (segment + FIRST))) as usize,
    )
}

impl Symbols {
    /// The string of `symbol`; the empty string for a number this table never gave out.
    pub fn get(&self, symbol: Symbol) -> &str {
        self.slot(symbol).map_or("", |s| s)
    }

    /// The string of `symbol`, shared.
    pub fn get_shared(&self, symbol: Symbol) -> Str {
        self.slot(symbol).cloned().unwrap_or_default()
    }

    fn slot(&self, symbol: Symbol) -> Option<&Str> {
        let (segment, offset) = place(symbol);
        self.segments.get(segment)?.get()?.get(offset)?.get()
    }

    /// The number of `s`, if it was interned.
    pub fn find(&self, s: &str) -> Option<Symbol> {
        let hash = self.hasher.hash_one(s);
        self.index
            .read()
            .find(hash, |&sym| self.get(sym) == s)
            .copied()
    }

    /// The number of `s`, interning it if it is new. At most 2^32 - 64 strings.
    pub fn intern(&self, s: &str) -> Symbol {
        let hash = self.hasher.hash_one(s);
        if let Some(&symbol) = self.index.read().find(hash, |&sym| self.get(sym) == s) {
            return symbol;
        }
        let mut index = self.index.write();
        if let Some(&symbol) = index.find(hash, |&sym| self.get(sym) == s) {
            return symbol;
        }
        let symbol = Symbol(self.len.load(Ordering::Relaxed));
        let (segment, offset) = place(symbol);
        // The text with two counts, and its place in the index.
        const BESIDE: usize = 16 + 2 * (size_of::<Symbol>() + 1);
        let mut bytes = s.len() + BESIDE;
        let slots = self.segments[segment].get_or_init(|| {
            bytes += (1 << (segment + FIRST as usize)) * size_of::<OnceLock<Str>>();
            (0..1u64 << (segment as u32 + FIRST))
                .map(|_| OnceLock::new())
                .collect()
        });
        // Only the holder of the write lock fills slots, each once.
        let _ = slots[offset].set(s.into());
        self.len.store(symbol.0 + 1, Ordering::Release);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        index.insert_unique(hash, symbol, |&sym| self.hasher.hash_one(self.get(sym)));
        symbol
    }

    /// How many strings there are (the empty one included).
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire) as usize
    }

    /// Bytes of the strings and of the lists they stand in.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Never true: the empty string is always there.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The label set that `pairs` (sorted by name *string*) stand for.
    pub fn labels(&self, pairs: &[(Symbol, Symbol)]) -> Labels {
        Labels::from_sorted(
            pairs
                .iter()
                .map(|&(n, v)| (self.get(n), self.get(v)))
                .filter(|(_, v)| !v.is_empty()),
        )
    }

    /// The pairs of `labels`, interned, in the same order.
    pub fn intern_labels(&self, labels: &Labels, out: &mut Vec<(Symbol, Symbol)>) {
        out.extend(labels.iter().map(|(n, v)| (self.intern(n), self.intern(v))));
    }

    /// Orders two label lists as [`Labels`] orders sets.
    pub fn compare(&self, a: &[(Symbol, Symbol)], b: &[(Symbol, Symbol)]) -> std::cmp::Ordering {
        use std::cmp::Ordering::Equal;
        for (x, y) in a.iter().zip(b) {
            for (x, y) in [(x.0, y.0), (x.1, y.1)] {
                if x != y {
                    let order = self.get(x).cmp(self.get(y));
                    if order != Equal {
                        return order;
                    }
                }
            }
        }
        a.len().cmp(&b.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stable_across_segments() {
        let t = Symbols::default();
        assert_eq!(t.get(Symbol::EMPTY), "");
        let all: Vec<Symbol> = (0..5000).map(|i| t.intern(&format!("s{i}"))).collect();
        for (i, s) in all.iter().enumerate() {
            assert_eq!(t.get(*s), format!("s{i}"));
            assert_eq!(t.intern(&format!("s{i}")), *s);
            assert_eq!(t.find(&format!("s{i}")), Some(*s));
        }
        assert_eq!(t.len(), 5001);
        assert_eq!(t.find("absent"), None);
        assert_eq!(t.get(Symbol(u32::MAX)), "");
    }

    #[test]
    fn threads_agree() {
        let t = Symbols::default();
        let lists: Vec<Vec<Symbol>> = std::thread::scope(|s| {
            let t = &t;
            let threads: Vec<_> = (0..4)
                .map(|_| s.spawn(move || (0..3000).map(|i| t.intern(&i.to_string())).collect()))
                .collect();
            threads.into_iter().map(|h| h.join().unwrap()).collect()
        });
        assert!(lists.windows(2).all(|w| w[0] == w[1]));
    }
}
