//! Ranges of files that were fetched lately, in memory.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use bytes::Bytes;
use parking_lot::Mutex;
use ulid::Ulid;

/// What an entry costs besides its bytes.
const OVERHEAD: u64 = 200;

/// A file of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum File {
    Index(Ulid),
    /// A segment, from 0.
    Chunks(Ulid, u32),
}

impl File {
    /// Its key in the bucket.
    pub(super) fn key(self) -> String {
        match self {
            File::Index(ulid) => bucket::marks::key(ulid, block::index::FILE),
            File::Chunks(ulid, n) => format!("{ulid}/{}/{:06}", block::chunks::DIR, n + 1),
        }
    }

    /// Whether it is a segment of chunks.
    fn is_chunks(self) -> bool {
        matches!(self, File::Chunks(..))
    }
}

/// The most bytes that one entry of a cache of `limit` bytes has.
pub(super) fn largest(limit: u64) -> u64 {
    limit / 4
}

/// What a cache holds and has held of indexes, or of chunks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub items: u64,
    pub bytes: u64,
    pub added: u64,
    pub evicted: u64,
    pub overflowed: u64,
}

/// Fetched ranges, by bytes; the one that was not used for the longest time goes first. Blocks
/// never change, so nothing here is ever wrong.
pub(super) struct Cache {
    limit: u64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    files: HashMap<File, BTreeMap<u64, Span>>,
    by_age: BTreeMap<u64, (File, u64)>,
    clock: u64,
    bytes: u64,
    /// Of indexes, and of chunks.
    counts: [Counts; 2],
}

struct Span {
    bytes: Bytes,
    age: u64,
}

impl Inner {
    fn counts(&mut self, file: File) -> &mut Counts {
        let [index, chunks] = &mut self.counts;
        if file.is_chunks() { chunks } else { index }
    }

    /// A span of so many bytes has gone.
    fn gone(&mut self, file: File, bytes: usize) {
        self.bytes -= bytes as u64 + OVERHEAD;
        let counts = self.counts(file);
        counts.items -= 1;
        counts.bytes -= bytes as u64;
    }
}

impl Cache {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            inner: Mutex::default(),
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        self.inner.lock().bytes
    }

    /// What it holds and has held of indexes, and of chunks.
    pub(super) fn counts(&self) -> [Counts; 2] {
        self.inner.lock().counts
    }

    /// The bytes of `range`, if they are here.
    pub(super) fn get(&self, file: File, range: &Range<u64>) -> Option<Bytes> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let spans = inner.files.get_mut(&file)?;
        let (&start, span) = spans.range_mut(..=range.start).next_back()?;
        let from = (range.start - start) as usize;
        let to = usize::try_from(range.end - start).ok()?;
        if to > span.bytes.len() {
            return None;
        }
        inner.clock += 1;
        inner.by_age.remove(&span.age);
        span.age = inner.clock;
        inner.by_age.insert(span.age, (file, start));
        Some(span.bytes.slice(from..to))
    }

    /// Keeps the bytes that begin at `start` of a file.
    pub(super) fn put(&self, file: File, start: u64, bytes: Bytes) {
        let size = bytes.len() as u64;
        if bytes.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if size + OVERHEAD > largest(self.limit) {
            inner.counts(file).overflowed += 1;
            return;
        }
        let spans = inner.files.entry(file).or_default();
        // What it covers is of no use any more.
        let mut covered: Vec<u64> = spans
            .range(start..start + size)
            .filter(|(at, span)| **at + span.bytes.len() as u64 <= start + size)
            .map(|(at, _)| *at)
            .collect();
        if spans.contains_key(&start) && !covered.contains(&start) {
            covered.push(start);
        }
        let covered: Vec<Span> = covered.iter().filter_map(|at| spans.remove(at)).collect();
        inner.clock += 1;
        let age = inner.clock;
        spans.insert(start, Span { bytes, age });
        for old in covered {
            inner.by_age.remove(&old.age);
            inner.gone(file, old.bytes.len());
        }
        inner.by_age.insert(age, (file, start));
        inner.bytes += size + OVERHEAD;
        let counts = inner.counts(file);
        counts.added += 1;
        counts.items += 1;
        counts.bytes += size;
        while inner.bytes > self.limit
            && let Some((_, (file, start))) = inner.by_age.pop_first()
        {
            let Some(spans) = inner.files.get_mut(&file) else {
                continue;
            };
            let old = spans.remove(&start);
            if spans.is_empty() {
                inner.files.remove(&file);
            }
            if let Some(old) = old {
                inner.gone(file, old.bytes.len());
                inner.counts(file).evicted += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_inside_others_and_leave_by_age() {
        let cache = Cache::new(10_000);
        let (a, b) = (File::Index(Ulid::nil()), File::Chunks(Ulid::nil(), 3));
        cache.put(a, 100, Bytes::from(vec![1; 1000]));
        cache.put(b, 100, Bytes::from(vec![2; 1000]));
        assert_eq!(cache.get(a, &(150..160)).unwrap(), [1u8; 10][..]);
        assert!(cache.get(a, &(1090..1101)).is_none());
        assert!(cache.get(a, &(99..110)).is_none());
        cache.put(a, 50, Bytes::from(vec![3; 2000]));
        assert_eq!(
            cache.bytes(),
            3000 + 2 * OVERHEAD,
            "the covered one is gone"
        );
        for i in 0..20 {
            cache.put(a, 10_000 + i * 2000, Bytes::from(vec![4; 1000]));
            assert!(cache.get(a, &(50..60)).is_some(), "what is used stays");
        }
        assert!(cache.get(b, &(100..101)).is_none());
        assert!(cache.bytes() <= 10_000);
        cache.put(b, 0, Bytes::from(vec![0; 9000]));
        assert!(
            cache.get(b, &(0..1)).is_none(),
            "what would push everything out is not kept"
        );
        let [index, chunks] = cache.counts();
        assert_eq!(
            (
                chunks.items,
                chunks.added,
                chunks.evicted,
                chunks.overflowed
            ),
            (0, 1, 1, 1)
        );
        assert_eq!(index.items * OVERHEAD + index.bytes, cache.bytes());
        assert_eq!(
            index.added,
            index.evicted + index.items + 1,
            "one was covered"
        );
        assert_eq!(b.key(), "00000000000000000000000000/chunks/000004");
    }
}
