//! Which series a label set on the wire is: a hash of its bytes leads to the reference that the
//! sink gave for it, so that labels of a known series are neither copied nor looked at.
//!
//! The hash has 128 bits and a seed of the process; that two series of one server meet is out of
//! the question, and nobody outside knows how to make them. What was not seen for a while is
//! forgotten, in whole generations.

use std::hash::BuildHasher as _;

use hashbrown::HashMap;
use model::SeriesRef;
use parking_lot::RwLock;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// A label set's hash.
pub(crate) type Key = u128;

/// Hashes are spread already.
#[derive(Clone, Copy, Default)]
struct AsIs(u64);

impl std::hash::Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, _) = bytes.as_chunks::<8>();
        for word in words {
            self.0 ^= u64::from_le_bytes(*word);
        }
    }

    fn write_u128(&mut self, n: u128) {
        self.0 = n as u64;
    }
}

type Map = HashMap<Key, SeriesRef, std::hash::BuildHasherDefault<AsIs>>;

const SHARDS: usize = 16;
/// Most series of a generation and shard; two generations are kept.
const GENERATION: usize = 64 << 10;

#[derive(Default)]
struct Shard {
    young: Map,
    old: Map,
}

/// References by key.
pub(crate) struct Keys {
    seed: u64,
    shards: [RwLock<Shard>; SHARDS],
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            // The standard library's hashers are seeded at random.
            seed: std::hash::RandomState::new().hash_one(0),
            shards: Default::default(),
        }
    }
}

impl Keys {
    /// The key of bytes.
    #[inline]
    pub(crate) fn key(&self, bytes: &[u8]) -> Key {
        xxh3_128_with_seed(bytes, self.seed)
    }

    fn shard(&self, key: Key) -> &RwLock<Shard> {
        // The bits that the map does not begin with; below 16, as there are shards.
        &self.shards[(key >> 96) as usize % SHARDS]
    }

    /// The reference of a known series.
    #[inline]
    pub(crate) fn get(&self, key: Key) -> Option<SeriesRef> {
        let shard = self.shard(key);
        let found = {
            let shard = shard.read();
            if let Some(series) = shard.young.get(&key) {
                return Some(*series);
            }
            *shard.old.get(&key)?
        };
        self.put(key, found);
        Some(found)
    }

    /// Remembers a series.
    pub(crate) fn put(&self, key: Key, series: SeriesRef) {
        let mut shard = self.shard(key).write();
        if shard.young.len() >= GENERATION {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(key, series);
    }

    /// Forgets a series.
    pub(crate) fn forget(&self, key: Key) {
        let mut shard = self.shard(key).write();
        shard.young.remove(&key);
        shard.old.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_in_use_outlive_generations() {
        let keys = Keys::default();
        let series = |id| SeriesRef { id, generation: 0 };
        let used = keys.key(b"used");
        keys.put(used, series(7));
        for i in 0..(3 * SHARDS * GENERATION) as u64 {
            keys.put(keys.key(&i.to_le_bytes()), series(i));
            if i % 1000 == 0 {
                assert_eq!(keys.get(used), Some(series(7)));
            }
        }
        assert_eq!(keys.get(keys.key(&0u64.to_le_bytes())), None);
        keys.forget(used);
        assert_eq!(keys.get(used), None);
    }
}
