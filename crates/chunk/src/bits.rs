//! Bits, most significant first, as Gorilla's streams have them.

#[cfg(test)]
mod tests;

/// Where a stream of bits ends inside a byte vector, which is longer than the stream: behind the
/// end there may be anything. So writing is one store and one new length.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct End {
    /// Bytes of the stream, the last one included if not all its bits are used.
    pub(crate) len: u32,
    /// Bits of the last byte that are used, if not all are.
    pub(crate) used: u8,
    /// The last byte, if not all its bits are used; the others are zero.
    pub(crate) last: u8,
}

impl End {
    /// The end of a stream of `bits` that begins `buf`, whose unused bits become zero.
    pub(crate) fn of(buf: &mut [u8], bits: usize) -> Self {
        let mut end = Self {
            len: bits.div_ceil(8) as u32,
            used: (bits % 8) as u8,
            last: 0,
        };
        if let Some(last) = buf.get_mut(bits / 8)
            && end.used != 0
        {
            *last &= !(0xff >> end.used);
            end.last = *last;
        }
        end
    }

    /// Goes on by zero bits if the last byte has room for them: there they stand already.
    #[inline]
    pub(crate) fn zeros(&mut self, bits: u8) -> bool {
        let fits = self.used != 0 && self.used + bits <= 8;
        if fits {
            self.used = (self.used + bits) & 7;
            if self.used == 0 {
                self.last = 0;
            }
        }
        fits
    }

    /// Bytes of the stream.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }
}

/// Makes room for another 16 bytes behind `at`. Open chunks are many and small: they grow by half,
/// not to the double.
#[cold]
fn grow(buf: &mut Vec<u8>, at: usize) {
    let room = at + 16 + (at / 2).max(32);
    buf.reserve_exact(room.saturating_sub(buf.len()));
    buf.resize(buf.capacity(), 0);
}

/// Appends whole bytes; the stream must end with a full byte.
pub(crate) fn write_bytes(buf: &mut Vec<u8>, end: &mut End, bytes: &[u8]) {
    let at = end.len();
    while at + bytes.len() + 16 > buf.len() {
        grow(buf, at + bytes.len());
    }
    buf[at..at + bytes.len()].copy_from_slice(bytes);
    end.len += bytes.len() as u32;
}

/// Appends the lower bits of `head`, then those of `tail`; above them both are zero. Together they
/// have 1 to 113 bits, `head` at most 63.
#[inline]
pub(crate) fn write(
    buf: &mut Vec<u8>,
    end: &mut End,
    (head, head_bits): (u64, u32),
    (tail, tail_bits): (u64, u32),
) {
    debug_assert!(head_bits < 64 && head >> head_bits == 0);
    debug_assert!(tail_bits == 64 || tail_bits < 64 && tail >> tail_bits == 0);
    let used = end.used as u32;
    let total = used + head_bits + tail_bits;
    debug_assert!((1..=120).contains(&total));
    // A byte that is not full is written again.
    let at = end.len() - (used != 0) as usize;
    let full = total / 8;
    let rest = total % 8;
    if buf.len() < at + 16 {
        grow(buf, at);
    }
    let Some(room) = buf.get_mut(at..).and_then(|b| b.first_chunk_mut::<16>()) else {
        // `grow` has just made it.
        return;
    };
    let [first, second] = if total <= 64 {
        let mut word = (end.last as u64) << 56 | tail << (64 - total);
        if head_bits != 0 {
            word |= head << (64 - used - head_bits);
        }
        [word, 0]
    } else {
        let word = (end.last as u128) << 120
            | (head as u128) << (128 - used - head_bits)
            | (tail as u128) << (128 - total);
        [(word >> 64) as u64, word as u64]
    };
    // Two stores of constant size, whatever the length.
    room[..8].copy_from_slice(&first.to_be_bytes());
    room[8..].copy_from_slice(&second.to_be_bytes());
    let word = if full < 8 { first } else { second };
    end.last = (word >> (56 - (full & 7) * 8)) as u8;
    end.used = rest as u8;
    end.len = at as u32 + full + (rest != 0) as u32;
}

/// A bit stream that is being written, at the end of some bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer {
    buf: Vec<u8>,
    end: End,
}

impl Writer {
    /// Goes on behind the first `bits` bits of `buf`.
    pub(crate) fn resume(mut buf: Vec<u8>, bits: usize) -> Self {
        buf.truncate(bits.div_ceil(8));
        let end = End::of(&mut buf, bits);
        Self { buf, end }
    }

    /// What is written so far.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buf[..self.end.len()]
    }

    /// What is written so far, to be changed in places that are whole bytes.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buf[..self.end.len()]
    }

    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.buf.truncate(self.end.len());
        self.buf
    }

    pub(crate) fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// The lower 1 to 64 bits of `value`; those above are zero.
    #[inline]
    pub(crate) fn bits(&mut self, value: u64, bits: u32) {
        write(&mut self.buf, &mut self.end, (0, 0), (value, bits));
    }

    /// A zero bit.
    #[inline]
    pub(crate) fn zero(&mut self) {
        if !self.end.zeros(1) {
            self.bits(0, 1);
        }
    }

    /// The lower bits of two numbers, as [`write`] has it.
    #[inline]
    pub(crate) fn pair(&mut self, head: (u64, u32), tail: (u64, u32)) {
        write(&mut self.buf, &mut self.end, head, tail);
    }

    /// A signed number in one of nine classes of length.
    #[inline]
    pub(crate) fn varbit(&mut self, value: i64) {
        // A field of n bits holds -(2^(n-1) - 1) ..= 2^(n-1).
        let beyond = if value > 0 {
            value as u64 - 1
        } else {
            value.unsigned_abs()
        };
        let class = match value {
            0 => 0,
            _ => VARBIT_CLASS[(65 - beyond.leading_zeros()) as usize],
        };
        self.varbit_field(class, value as u64);
    }

    /// An unsigned number in one of nine classes of length.
    #[inline]
    pub(crate) fn uvarbit(&mut self, value: u64) {
        let class = match value {
            0 => 0,
            _ => VARBIT_CLASS[(64 - value.leading_zeros()) as usize],
        };
        self.varbit_field(class, value);
    }

    #[inline]
    fn varbit_field(&mut self, class: u8, value: u64) {
        match class {
            0 => self.zero(),
            8 => self.pair((0xff, 8), (value, 64)),
            class => {
                let bits = VARBIT_BITS[class as usize];
                let prefix = ((1u64 << class) - 1) << 1;
                let field = value & ((1 << bits) - 1);
                self.pair((prefix, class as u32 + 1), (field, bits));
            }
        }
    }
}

/// How many bits the classes of a varbit number have behind their prefix, which is as many ones as
/// the class says and then a zero (none behind eight ones). See `tsdb/chunkenc/varbit.go`.
const VARBIT_BITS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

/// The smallest class for so many bits.
const VARBIT_CLASS: [u8; 66] = {
    let mut classes = [0; 66];
    let (mut bits, mut class) = (0, 1);
    while bits < classes.len() {
        if class < 8 && bits > VARBIT_BITS[class] as usize {
            class += 1;
        }
        classes[bits] = class as u8;
        bits += 1;
    }
    classes
};

/// A signed number in a field of `bits` bits: the upper half is negative, but for its first number.
#[inline(always)]
pub(crate) fn short(field: u64, bits: u32) -> i64 {
    let field = field as i64;
    if field > 1 << (bits - 1) {
        field - (1 << bits)
    } else {
        field
    }
}

/// A position in a bit stream.
#[derive(Clone, Copy, Debug)]
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

    /// Reads a signed number that [`Writer::varbit`] wrote.
    #[inline]
    pub(crate) fn varbit(&mut self) -> i64 {
        let word = self.peek();
        let class = (!word).leading_zeros();
        match class {
            0 => {
                self.skip(1);
                0
            }
            1..=6 => {
                let bits = VARBIT_BITS[class as usize];
                self.skip(class + 1 + bits);
                short(word << (class + 1) >> (64 - bits), bits)
            }
            7 => {
                self.skip(8);
                short(self.read(56), 56)
            }
            _ => {
                self.skip(8);
                self.read(64) as i64
            }
        }
    }

    /// Reads as many numbers as there are places, each as [`Reader::varbit`] does, and gives them in order.
    #[inline]
    pub(crate) fn varbits<T>(&mut self, places: &mut [T], mut each: impl FnMut(&mut T, i64)) {
        let mut places = places.iter_mut();
        let mut left = places.len() as u32;
        while left > 0 {
            let mut word = self.peek();
            let mut valid = 57u32;
            // Numbers are mostly short, and what class they have is not foreseen: so all short classes
            // take one way, and several numbers come out of one word. A word of 57 bits holds one of
            // 32 at least.
            loop {
                let zeros = word.leading_zeros();
                if zeros >= 8 {
                    let run = zeros.min(valid).min(left);
                    places
                        .by_ref()
                        .take(run as usize)
                        .for_each(|place| each(place, 0));
                    left -= run;
                    // Fewer than 64.
                    word <<= run;
                    valid -= run;
                } else {
                    let class = (!word).leading_zeros();
                    if class > 6 {
                        break;
                    }
                    let bits = VARBIT_BITS[class as usize];
                    let field = ((word << (class + 1)) >> 1) >> (63 - bits);
                    let above = (field > (1 << bits) >> 1) as u64;
                    let number = field.wrapping_sub(above << bits) as i64;
                    if let Some(place) = places.next() {
                        each(place, number);
                    }
                    left -= 1;
                    word <<= class + 1 + bits;
                    valid -= class + 1 + bits;
                }
                if valid < 32 || left == 0 {
                    break;
                }
            }
            self.skip(57 - valid);
            if left > 0 && (!self.peek()).leading_zeros() > 6 {
                let number = self.varbit();
                if let Some(place) = places.next() {
                    each(place, number);
                }
                left -= 1;
            }
        }
    }

    /// Reads an unsigned number that [`Writer::uvarbit`] wrote.
    #[inline]
    pub(crate) fn uvarbit(&mut self) -> u64 {
        let word = self.peek();
        let class = (!word).leading_zeros();
        match class {
            0 => {
                self.skip(1);
                0
            }
            1..=6 => {
                let bits = VARBIT_BITS[class as usize];
                self.skip(class + 1 + bits);
                word << (class + 1) >> (64 - bits)
            }
            7 => {
                self.skip(8);
                self.read(56)
            }
            _ => {
                self.skip(8);
                self.read(64)
            }
        }
    }

    /// Reads a LEB128 number, wherever in a byte it starts. None if it has no end.
    pub(crate) fn uvarint(&mut self) -> Option<u64> {
        let mut bytes = [0; 10];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = self.read(8) as u8;
            if *byte < 0x80 {
                return uvarint(bytes.get(..=i)?).map(|(value, _)| value);
            }
        }
        None
    }

    /// Reads a zig-zag LEB128 number, wherever in a byte it starts. None if it has no end.
    pub(crate) fn varint(&mut self) -> Option<i64> {
        self.uvarint().map(unzigzag)
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
    uvarint(bytes).map(|(u, rest)| (unzigzag(u), rest))
}

fn unzigzag(u: u64) -> i64 {
    (u >> 1) as i64 ^ -((u & 1) as i64)
}

/// A varint: its bytes, and how many those are.
pub(crate) fn uvarint_bytes(mut value: u64) -> ([u8; 10], usize) {
    let mut bytes = [0; 10];
    let mut len = 0;
    for byte in &mut bytes {
        len += 1;
        if value < 0x80 {
            *byte = value as u8;
            break;
        }
        *byte = value as u8 | 0x80;
        value >>= 7;
    }
    (bytes, len)
}

pub(crate) fn varint_bytes(value: i64) -> ([u8; 10], usize) {
    uvarint_bytes(((value << 1) ^ (value >> 63)) as u64)
}

pub(crate) fn put_uvarint(buf: &mut Vec<u8>, value: u64) {
    let (bytes, len) = uvarint_bytes(value);
    buf.extend_from_slice(&bytes[..len]);
}

pub(crate) fn put_varint(buf: &mut Vec<u8>, value: i64) {
    let (bytes, len) = varint_bytes(value);
    buf.extend_from_slice(&bytes[..len]);
}
