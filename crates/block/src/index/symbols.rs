use bytes::Bytes;

use super::Version;
use crate::BlockError;
use crate::input::Input;

/// Every so many symbols their place is kept.
const EVERY: usize = 16;

/// All strings of an index, by ordinal. In memory it is the section's bytes and a quarter of a byte
/// a symbol.
#[derive(Clone, Debug, Default)]
pub struct SymbolTable {
    /// The entries, one after the other.
    entries: Bytes,
    count: u32,
    /// Where in `entries` each 16th symbol begins.
    places: Vec<u32>,
    /// Version 1 refers to symbols by their offset in the index: that of each.
    offsets: Option<Vec<u64>>,
}

impl SymbolTable {
    /// Reads the section `u32 len | ... | u32 CRC`, which lies at `offset` of the index; more bytes
    /// may follow. The strings must be UTF-8.
    pub fn decode(bytes: &Bytes, version: Version, offset: u64) -> Result<Self, BlockError> {
        let corrupt = |what: &str| BlockError::corrupt(format!("index: symbols {what}"));
        let content = super::section(bytes, "symbols")?;
        let mut input = Input(content);
        let count = input.u32().ok_or_else(|| corrupt("are truncated"))?;
        if count as usize > input.len() {
            return Err(corrupt("are fewer than they say"));
        }
        let entries = bytes.slice_ref(input.0);
        let mut places = Vec::with_capacity(count as usize / EVERY + 1);
        let mut offsets = (version == Version::V1).then(Vec::new);
        let total = input.len();
        for i in 0..count as usize {
            let at = total - input.len();
            if i.is_multiple_of(EVERY) {
                // A section is shorter than 2^32.
                places.push(at as u32);
            }
            if let Some(offsets) = &mut offsets {
                offsets.push(offset + 8 + at as u64);
            }
            input
                .str()
                .ok_or_else(|| corrupt("are truncated or no UTF-8"))?;
        }
        Ok(Self {
            entries,
            count,
            places,
            offsets,
        })
    }

    /// How many symbols there are.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of memory it holds.
    pub fn size(&self) -> usize {
        self.entries.len()
            + self.places.capacity() * 4
            + self.offsets.as_ref().map_or(0, |o| o.capacity() * 8)
    }

    /// The symbol with this ordinal.
    pub fn get(&self, ordinal: u32) -> Option<&str> {
        if ordinal >= self.count {
            return None;
        }
        let at = *self.places.get(ordinal as usize / EVERY)?;
        let mut input = Input(self.entries.get(at as usize..)?);
        for _ in 0..ordinal as usize % EVERY {
            input.prefixed()?;
        }
        input.str()
    }

    /// The ordinal of a reference as series entries have it.
    #[inline]
    pub fn ordinal(&self, reference: u32) -> Option<u32> {
        match &self.offsets {
            None => (reference < self.count).then_some(reference),
            Some(offsets) => offsets
                .binary_search(&(reference as u64))
                .ok()
                .map(|i| i as u32),
        }
    }

    /// The ordinal of a string.
    pub fn find(&self, s: &str) -> Option<u32> {
        let first_of = |i: usize| self.get((i * EVERY) as u32).unwrap_or("");
        let mut low = 0;
        let mut high = self.places.len();
        while low < high {
            let mid = (low + high) / 2;
            if first_of(mid) <= s {
                low = mid + 1;
            } else {
                high = mid;
            }
        }
        let group = low.checked_sub(1)?;
        let start = (group * EVERY) as u32;
        self.iter_from(start)
            .take(EVERY)
            .position(|t| t == s)
            .map(|i| start + i as u32)
    }

    /// All symbols in order of their ordinals.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.iter_from(0)
    }

    fn iter_from(&self, ordinal: u32) -> impl Iterator<Item = &str> {
        let at = self
            .places
            .get(ordinal as usize / EVERY)
            .map_or(self.entries.len(), |p| *p as usize);
        let mut input = Input(self.entries.get(at..).unwrap_or_default());
        for _ in 0..ordinal as usize % EVERY {
            input.prefixed();
        }
        (ordinal..self.count).map_while(move |_| input.str())
    }
}
