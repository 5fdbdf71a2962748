//! Reading the numbers and strings of the formats out of bytes. Nothing here can go past the end.

/// What is left of some bytes.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (&b, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(b)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (b, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*b))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let (b, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*b))
    }

    #[inline]
    pub(crate) fn uvarint(&mut self) -> Option<u64> {
        // Most are a single byte.
        let (&first, rest) = self.0.split_first()?;
        if first < 0x80 {
            self.0 = rest;
            return Some(first as u64);
        }
        self.uvarint_long()
    }

    #[inline]
    fn uvarint_long(&mut self) -> Option<u64> {
        // References and times take three to six bytes, in no order that a processor could guess: without a branch for each byte
        // (the groups of seven bits are moved together in pairs).
        if let Some(word) = self.0.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) {
            let ends = !word & 0x8080_8080_8080_8080;
            if ends != 0 {
                let bits = ends.trailing_zeros() + 1;
                let groups = word & (u64::MAX >> (64 - bits)) & 0x7f7f_7f7f_7f7f_7f7f;
                let pairs =
                    (groups & 0x007f_007f_007f_007f) | (groups & 0x7f00_7f00_7f00_7f00) >> 1;
                let fours = (pairs & 0x0000_3fff_0000_3fff) | (pairs & 0x3fff_0000_3fff_0000) >> 2;
                self.0 = &self.0[bits as usize / 8..];
                return Some((fours & 0x0fff_ffff) | (fours & 0x0fff_ffff_0000_0000) >> 4);
            }
        }
        self.uvarint_slow()
    }

    /// Near the end of the input, and for more than eight bytes.
    #[cold]
    fn uvarint_slow(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (i, &b) in self.0.iter().take(10).enumerate() {
            if i == 9 && b > 1 {
                return None;
            }
            value |= ((b & 0x7f) as u64) << (7 * i);
            if b < 0x80 {
                self.0 = &self.0[i + 1..];
                return Some(value);
            }
        }
        None
    }

    #[inline]
    pub(crate) fn uvarint32(&mut self) -> Option<u32> {
        u32::try_from(self.uvarint()?).ok()
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Option<i64> {
        let u = self.uvarint()?;
        Some((u >> 1) as i64 ^ -((u & 1) as i64))
    }

    /// Bytes with their length as uvarint before them.
    #[inline]
    pub(crate) fn prefixed(&mut self) -> Option<&'a [u8]> {
        let len = self.uvarint()?;
        self.take(usize::try_from(len).ok()?)
    }

    pub(crate) fn str(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.prefixed()?).ok()
    }
}

pub(crate) fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, ((value << 1) ^ (value >> 63)) as u64);
}

pub(crate) fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uvarint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// CRC-32 with Castagnoli's polynomial, as every file here has it.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_lengths_read_back() {
        for bits in 0..64 {
            for value in [
                1u64 << bits,
                (1 << bits) - 1,
                u64::MAX >> bits,
                0xa5a5_a5a5_a5a5_a5a5 >> bits,
            ] {
                let mut bytes = Vec::new();
                put_uvarint(&mut bytes, value);
                let length = bytes.len();
                for behind in 0..9 {
                    bytes.truncate(length);
                    bytes.resize(length + behind, 0xff);
                    let mut input = Input(&bytes);
                    assert_eq!(input.uvarint(), Some(value));
                    assert_eq!(input.0.len(), behind, "{value:x}");
                }
                for cut in 0..length {
                    assert_eq!(Input(&bytes[..cut]).uvarint(), None);
                }
            }
        }
        assert_eq!(Input(&[0xff; 20]).uvarint(), None);
        let mut over = [0xff; 10];
        over[9] = 2;
        assert_eq!(Input(&over).uvarint(), None);
    }
}
