//! Bits, most significant first, as Gorilla's streams have them.

/// Appends bits to a byte vector. The bits of the last byte that are not used yet are zero.
///
/// Separate from the vector, so that an open chunk keeps no more than the bytes and one count.
#[inline]
pub(crate) fn write(buf: &mut Vec<u8>, free: &mut u8, value: u128, bits: u32) {
    debug_assert!(bits <= 120 && *free < 8);
    debug_assert!(bits == 0 || value >> bits == 0);
    if bits == 0 {
        return;
    }
    // The last byte, if it has room, and the new bits side by side at the top of one word.
    let used = (8 - *free as u32) & 7;
    let mut word = value << (128 - bits - used);
    if used != 0 {
        // `free` is not zero only after a byte was written.
        let last = buf.pop().unwrap_or(0);
        word |= (last as u128) << 120;
    }
    let total = used + bits;
    let bytes = total.div_ceil(8) as usize;
    *free = (bytes as u32 * 8 - total) as u8;
    let len = buf.len();
    if buf.capacity() - len < 16 {
        grow(buf);
    }
    // A copy of constant size is one store; what is too much is cut off again.
    buf.extend_from_slice(&word.to_be_bytes());
    buf.truncate(len + bytes);
}

/// Open chunks are many and small: they grow by half, not to the double.
#[cold]
fn grow(buf: &mut Vec<u8>) {
    buf.reserve_exact((buf.len() / 2).max(48));
}

/// A position in a bit stream.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Reader<'a> {
    /// A reader at bit `pos`. Reading past the end gives zeros; see [`Reader::pos`].
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], pos: usize) -> Self {
        Self { bytes, pos }
    }

    /// The position in bits. Whoever reads asks at the end whether it lies past the bytes.
    #[inline]
    pub(crate) fn pos(&self) -> usize {
        self.pos
    }

    /// The next bits at the top of a word; at least 57 of them are valid.
    #[inline]
    pub(crate) fn peek(&self) -> u64 {
        let at = self.pos >> 3;
        let word = match self.bytes.get(at..).and_then(|b| b.first_chunk::<8>()) {
            Some(b) => u64::from_be_bytes(*b),
            None => self.peek_tail(at),
        };
        word << (self.pos & 7)
    }

    #[cold]
    fn peek_tail(&self, at: usize) -> u64 {
        let mut word = [0; 8];
        for (to, from) in word
            .iter_mut()
            .zip(self.bytes.get(at..).unwrap_or_default())
        {
            *to = *from;
        }
        u64::from_be_bytes(word)
    }

    /// Skips `bits`.
    #[inline]
    pub(crate) fn skip(&mut self, bits: u32) {
        self.pos += bits as usize;
    }

    /// Reads 1 to 64 bits.
    #[inline]
    pub(crate) fn read(&mut self, bits: u32) -> u64 {
        debug_assert!((1..=64).contains(&bits));
        if bits <= 57 {
            let v = self.peek() >> (64 - bits);
            self.skip(bits);
            v
        } else {
            let high = self.peek() >> 32;
            self.skip(32);
            let low = self.peek() >> (96 - bits);
            self.skip(bits - 32);
            (high << (bits - 32)) | low
        }
    }
}

/// LEB128, at most ten bytes. Gives the value and the rest.
pub(crate) fn uvarint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, &b) in bytes.iter().take(10).enumerate() {
        if i == 9 && b > 1 {
            return None;
        }
        value |= ((b & 0x7f) as u64) << (7 * i);
        if b < 0x80 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

/// Zig-zag LEB128.
pub(crate) fn varint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (u, rest) = uvarint(bytes)?;
    Some(((u >> 1) as i64 ^ -((u & 1) as i64), rest))
}

pub(crate) fn put_uvarint(buf: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buf.push(value as u8 | 0x80);
        value >>= 7;
    }
    buf.push(value as u8);
}

pub(crate) fn put_varint(buf: &mut Vec<u8>, value: i64) {
    put_uvarint(buf, ((value << 1) ^ (value >> 63)) as u64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(parts in prop::collection::vec((any::<u64>(), 1u32..=64), 0..60)) {
            let (mut buf, mut free) = (Vec::new(), 0);
            for &(v, n) in &parts {
                write(&mut buf, &mut free, (v >> (64 - n)) as u128, n);
            }
            let total: usize = parts.iter().map(|p| p.1 as usize).sum();
            prop_assert_eq!(buf.len(), total.div_ceil(8));
            let mut r = Reader::new(&buf, 0);
            for &(v, n) in &parts {
                prop_assert_eq!(r.read(n), v >> (64 - n));
            }
            prop_assert_eq!(r.pos(), total);
        }

        #[test]
        fn varints_both_ways(u in any::<u64>(), i in any::<i64>()) {
            let mut b = Vec::new();
            put_uvarint(&mut b, u);
            put_varint(&mut b, i);
            let (u2, rest) = uvarint(&b).unwrap();
            let (i2, rest) = varint(rest).unwrap();
            prop_assert_eq!((u2, i2, rest.len()), (u, i, 0));
        }
    }

    #[test]
    fn an_endless_varint_is_refused() {
        assert_eq!(uvarint(&[0xff; 20]), None);
        assert_eq!(uvarint(&[0x80]), None);
        let mut too_big = [0xff; 10];
        too_big[9] = 2;
        assert_eq!(uvarint(&too_big), None);
    }
}
