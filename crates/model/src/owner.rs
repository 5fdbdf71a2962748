//! Who owns what: asked at every scrape tick, rule tick, block load and compaction job.

use xxhash_rust::xxh64::xxh64;

use crate::Millis;

/// Decides whether this process owns a key at a time.
///
/// The arithmetic is pure, so that anyone can recompute it; `fleet` feeds the members.
pub trait Owner: Send + Sync {
    /// Whether this process owns `key` at `at_ms` (ms since the Unix epoch).
    fn owns(&self, key: u64, at_ms: Millis) -> bool;

    /// A number that changes whenever the answer of [`Owner::owns`] may have changed.
    fn generation(&self) -> u64;
}

/// The default: one process that owns everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Everything;

impl Owner for Everything {
    fn owns(&self, _key: u64, _at_ms: Millis) -> bool {
        true
    }

    fn generation(&self) -> u64 {
        0
    }
}

/// The member among `members` that rendezvous hashing gives `key` to: the one with the highest
/// `xxh64(member, seed = key)`. None if there are no members.
pub fn rendezvous<'a>(key: u64, members: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    members
        .into_iter()
        .max_by_key(|m| (xxh64(m.as_bytes(), key), *m))
}

/// The key of a string, for [`Owner::owns`].
pub fn key(s: &str) -> u64 {
    xxh64(s.as_bytes(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaving_member_moves_only_its_own_keys() {
        let all = ["a", "b", "c"];
        for k in 0..500 {
            let before = rendezvous(k, all).unwrap();
            let after = rendezvous(k, ["a", "c"]).unwrap();
            assert!(before == "b" || before == after);
        }
        assert_eq!(rendezvous(1, []), None);
    }
}
