//! Float chunks: Gorilla's XOR encoding as Prometheus writes it (`tsdb/chunkenc/xor.go`).
//!
//! ```text
//! u16 number of samples, big-endian
//! sample 0: varint t | 64 bits v                           (aligned to bytes up to here)
//! sample 1: uvarint (t1 - t0) | xor(v1)
//! sample n: dod | xor(vn)                                  dod = (tn - tn-1) - (tn-1 - tn-2)
//!
//! dod: 0            the same distance as before
//!      10   14 bits
//!      110  17 bits
//!      1110 20 bits      a field of k bits holds -(2^(k-1) - 1) ..= 2^(k-1)
//!      1111 64 bits
//! xor: 0            the same value
//!      10   the significant bits, in the window of before
//!      11   5 bits leading zeros (31 at most), 6 bits number of significant bits (0 is 64), these
//! ```

use model::{Encoding, Millis};

use crate::bits::{self, End, Reader, short};
use crate::{ChunkError, Columns};

mod extend;
#[cfg(test)]
mod tests;

pub use extend::Scratch;

/// No window yet: the first value that changes opens one.
const NO_WINDOW: u8 = 0xff;

/// How many bytes one sample takes at most (4 + 64 bits of time, 13 + 64 bits of value, and the
/// bits around them).
pub const MAX_SAMPLE_BYTES: usize = 19;

/// A chunk that takes samples. Small: a head keeps one for every series.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// The chunk as far as it goes, ready to be read at any time, and room behind it.
    buf: Vec<u8>,
    ts: Millis,
    delta: u64,
    value: u64,
    // The parts of an `End`, side by side with the window so that nothing is padded.
    len: u32,
    used: u8,
    last: u8,
    leading: u8,
    trailing: u8,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An empty chunk.
    pub fn new() -> Self {
        Self::with_capacity(64)
    }

    /// An empty chunk with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self::reuse(Vec::with_capacity(bytes.max(2)))
    }

    /// An empty chunk in the memory of `buf`, whose content is dropped.
    pub fn reuse(mut buf: Vec<u8>) -> Self {
        buf.clear();
        buf.extend_from_slice(&[0, 0]);
        let End { len, used, last } = End::of(&mut buf, 16);
        Self {
            len,
            used,
            last,
            buf,
            ts: 0,
            delta: 0,
            value: 0,
            leading: NO_WINDOW,
            trailing: 0,
        }
    }

    /// Goes on with a chunk as if its samples had just been appended.
    pub fn resume(chunk: &[u8]) -> Result<Self, ChunkError> {
        let mut columns = Columns::default();
        let end = decode_state(chunk, &mut columns)?;
        let mut buf = chunk.to_vec();
        buf.truncate(end.pos.div_ceil(8));
        let End { len, used, last } = End::of(&mut buf, end.pos);
        Ok(Self {
            len,
            used,
            last,
            buf,
            ts: end.ts,
            delta: end.delta,
            value: end.value,
            leading: if end.windowed {
                end.leading as u8
            } else {
                NO_WINDOW
            },
            trailing: end.trailing as u8,
        })
    }

    /// How many samples there are.
    #[inline]
    pub fn len(&self) -> usize {
        let header = self.buf.first_chunk::<2>();
        header.map_or(0, |h| u16::from_be_bytes(*h) as usize)
    }

    /// Whether there is no sample. Asked for every sample that a head judges: it looks at no byte
    /// of the chunk, which is rarely in the cache then.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.buf.len() <= 2
    }

    /// Whether no sample can be added any more: the header counts to 65535.
    pub fn is_full(&self) -> bool {
        self.len() == u16::MAX as usize
    }

    /// The chunk as far as it goes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buf[..self.len as usize]
    }

    /// The chunk.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.buf.truncate(self.len as usize);
        self.buf
    }

    /// Bytes of memory that the chunk holds, this struct not included.
    pub fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// The last sample's timestamp; none if there is no sample.
    #[inline]
    pub fn last_ts(&self) -> Option<Millis> {
        (!self.is_empty()).then_some(self.ts)
    }

    /// The timestamp of the sample before the last; none if there are less than two samples.
    pub fn previous_ts(&self) -> Option<Millis> {
        (self.len() > 1).then(|| self.ts.wrapping_sub(self.delta as i64))
    }

    /// The last sample's value; none if there is no sample.
    #[inline]
    pub fn last_value(&self) -> Option<f64> {
        (!self.is_empty()).then_some(f64::from_bits(self.value))
    }

    /// Reads what an append will change: its first bytes and its last. What is read means nothing; it
    /// is in the cache then.
    #[inline]
    pub fn touch(&self) -> u8 {
        let byte = |at: usize| self.buf.get(at).copied().unwrap_or(0);
        byte(0) ^ byte(self.len as usize)
    }

    /// Appends a sample. Cut the chunk before it [`is_full`](Self::is_full): a sample beyond that
    /// is dropped.
    #[inline]
    pub fn append(&mut self, ts: Millis, value: f64) {
        let count = self.len();
        if count < 2 || count == 0xffff {
            return self.append_first(count, ts, value.to_bits());
        }
        let delta = ts.wrapping_sub(self.ts) as u64;
        let dod = delta.wrapping_sub(self.delta) as i64;
        self.ts = ts;
        self.delta = delta;
        if dod == 0 && value.to_bits() == self.value {
            let mut end = self.end();
            if end.zeros(2) {
                (self.used, self.last) = (end.used, end.last);
                return self.set_len(count + 1);
            }
        }
        let time = time(dod).unwrap_or_else(|| {
            self.put(LONG, (dod as u64, 64));
            (0, 0)
        });
        let (head, tail) = self.xor(value.to_bits());
        self.put(joined(time, head), tail);
        self.set_len(count + 1);
    }

    #[inline]
    fn end(&self) -> End {
        End {
            len: self.len,
            used: self.used,
            last: self.last,
        }
    }

    #[inline]
    fn put(&mut self, head: (u64, u32), tail: (u64, u32)) {
        let mut end = self.end();
        bits::write(&mut self.buf, &mut end, head, tail);
        (self.len, self.used, self.last) = (end.len, end.used, end.last);
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        let mut end = self.end();
        bits::write_bytes(&mut self.buf, &mut end, bytes);
        self.len = end.len;
    }

    #[inline]
    fn set_len(&mut self, count: usize) {
        if let Some(header) = self.buf.first_chunk_mut::<2>() {
            *header = (count as u16).to_be_bytes();
        }
    }

    /// The first two samples, and those that have no room.
    #[cold]
    fn append_first(&mut self, count: usize, ts: Millis, value: u64) {
        match count {
            0 => {
                let (bytes, len) = bits::varint_bytes(ts);
                self.put_bytes(&bytes[..len]);
                self.put_bytes(&value.to_be_bytes());
                self.value = value;
            }
            1 => {
                self.delta = ts.wrapping_sub(self.ts) as u64;
                let (bytes, len) = bits::uvarint_bytes(self.delta);
                self.put_bytes(&bytes[..len]);
                let (head, tail) = self.xor(value);
                self.put(head, tail);
            }
            _ => return,
        }
        self.ts = ts;
        self.set_len(count + 1);
    }

    /// The bits of a value after the one before: what tells their number, and themselves.
    #[inline]
    fn xor(&mut self, value: u64) -> ((u64, u32), (u64, u32)) {
        let xor = value ^ self.value;
        self.value = value;
        changed(xor, &mut self.leading, &mut self.trailing)
    }
}

/// What stands before a distance of 64 bits.
const LONG: (u64, u32) = (0b1111, 4);

/// The bits of a change of distance; none if it is one of those that take 64, behind [`LONG`].
#[inline]
fn time(dod: i64) -> Option<(u64, u32)> {
    Some(match dod {
        0 => (0, 1),
        -8191..=8192 => (0b10 << 14 | (dod as u64 & 0x3fff), 16),
        -65535..=65536 => (0b110 << 17 | (dod as u64 & 0x1_ffff), 20),
        -524_287..=524_288 => (0b1110 << 20 | (dod as u64 & 0xf_ffff), 24),
        _ => return None,
    })
}

/// One field behind the other: 24 bits of time and 13 at most, so that they and the 64 of a value are one
/// write.
#[inline]
fn joined((time, time_bits): (u64, u32), (head, head_bits): (u64, u32)) -> (u64, u32) {
    (time << head_bits | head, time_bits + head_bits)
}

/// The bits of a value that differs so from the one before: what tells their number, and themselves.
#[inline]
fn changed(xor: u64, leading: &mut u8, trailing: &mut u8) -> ((u64, u32), (u64, u32)) {
    if xor == 0 {
        return ((0, 1), (0, 0));
    }
    let zeros = (
        (xor.leading_zeros() as u8).min(31),
        xor.trailing_zeros() as u8,
    );
    if *leading != NO_WINDOW && zeros.0 >= *leading && zeros.1 >= *trailing {
        let significant = 64 - *leading as u32 - *trailing as u32;
        return ((0b10, 2), (xor >> *trailing, significant));
    }
    (*leading, *trailing) = zeros;
    let significant = 64 - zeros.0 as u32 - zeros.1 as u32;
    let head = 0b11 << 11 | (zeros.0 as u64) << 6 | (significant as u64 & 0x3f);
    ((head, 13), (xor >> zeros.1, significant))
}

/// Decodes a chunk and adds its samples to `out`. After an error `out` is as it was before.
///
/// Memory is only taken for as many samples as the bytes can hold.
pub fn decode(chunk: &[u8], out: &mut Columns) -> Result<(), ChunkError> {
    decode_state(chunk, out).map(drop)
}

/// Where a decoder stands: what the next sample is told by.
struct State {
    pos: usize,
    ts: i64,
    delta: u64,
    value: u64,
    leading: u32,
    trailing: u32,
    windowed: bool,
}

fn decode_state(chunk: &[u8], out: &mut Columns) -> Result<State, ChunkError> {
    let count = crate::sample_count(Encoding::XOR, chunk)?;
    let mut state = State {
        pos: 16,
        ts: 0,
        delta: 0,
        value: 0,
        leading: 0,
        trailing: 0,
        windowed: false,
    };
    if count == 0 {
        return Ok(state);
    }
    let (ts, rest) = bits::varint(&chunk[2..]).ok_or(ChunkError::Truncated)?;
    let (value, rest) = rest.split_first_chunk::<8>().ok_or(ChunkError::Truncated)?;
    state.ts = ts;
    state.value = u64::from_be_bytes(*value);
    state.pos = (chunk.len() - rest.len()) * 8;
    let before = out.len();
    if count == 1 {
        out.push(ts, f64::from_bits(state.value));
        return Ok(state);
    }
    let (delta, rest) = bits::uvarint(rest).ok_or(ChunkError::Truncated)?;
    state.delta = delta;
    state.pos = (chunk.len() - rest.len()) * 8;
    // Sample 1 takes a bit at least, the others two.
    if count - 2 > rest.len() * 4 {
        return Err(ChunkError::Truncated);
    }
    out.push(ts, f64::from_bits(state.value));
    out.ts.resize(before + count, 0);
    out.values.resize(before + count, 0.0);
    if !out.starts.is_empty() {
        out.starts.resize(before + count, 0);
    }
    let run = state.samples(
        chunk,
        &mut out.ts[before + 1..],
        &mut out.values[before + 1..],
    );
    if let Err(e) = run {
        out.truncate(before);
        return Err(e);
    }
    Ok(state)
}

impl State {
    /// Sample 1 and all others.
    fn samples(
        &mut self,
        chunk: &[u8],
        ts: &mut [i64],
        values: &mut [f64],
    ) -> Result<(), ChunkError> {
        // Sample 1 has no bits for its time: the same as a distance that stays.
        let mut reader = Reader::new(chunk, self.pos);
        self.ts = self.ts.wrapping_add(self.delta as i64);
        let word = reader.peek();
        self.value(&mut reader, word, 0)?;
        self.pos = reader.pos();
        ts[0] = self.ts;
        values[0] = f64::from_bits(self.value);
        // Far from the end no word that is read reaches beyond the chunk.
        let safe = chunk.len().saturating_sub(MAX_SAMPLE_BYTES + 8) * 8;
        let done = 1 + self.run(chunk, safe, &mut ts[1..], &mut values[1..])?;
        if done < ts.len() {
            // The last bytes are read from a copy with zeros behind it.
            const TAIL: usize = MAX_SAMPLE_BYTES + 8 + 1;
            let start = (self.pos / 8).min(chunk.len());
            let tail = &chunk[start..];
            let mut padded = [0u8; 2 * TAIL + 8];
            let len = tail.len().min(TAIL);
            padded[..len].copy_from_slice(&tail[..len]);
            self.pos -= start * 8;
            let done_now = self.run(&padded, len * 8, &mut ts[done..], &mut values[done..])?;
            self.pos += start * 8;
            if done + done_now < ts.len() {
                return Err(ChunkError::Truncated);
            }
        }
        if self.pos > chunk.len() * 8 {
            return Err(ChunkError::Truncated);
        }
        Ok(())
    }

    /// Decodes samples that start before bit `end`; gives how many.
    #[inline]
    fn run(
        &mut self,
        bytes: &[u8],
        end: usize,
        ts: &mut [i64],
        values: &mut [f64],
    ) -> Result<usize, ChunkError> {
        let mut reader = Reader::new(bytes, self.pos);
        let mut done = 0;
        for (t, v) in ts.iter_mut().zip(values) {
            if reader.pos() >= end {
                break;
            }
            let mut word = reader.peek();
            let mut used = 1;
            if word >> 63 != 0 {
                let dod: i64 = match (!word).leading_zeros() {
                    1 => {
                        used = 16;
                        short(word << 2 >> 50, 14)
                    }
                    2 => {
                        used = 20;
                        short(word << 3 >> 47, 17)
                    }
                    3 => {
                        used = 24;
                        short(word << 4 >> 44, 20)
                    }
                    _ => {
                        reader.skip(4);
                        let dod = reader.read(64) as i64;
                        word = reader.peek();
                        used = 0;
                        dod
                    }
                };
                self.delta = self.delta.wrapping_add(dod as u64);
            }
            self.ts = self.ts.wrapping_add(self.delta as i64);
            self.value(&mut reader, word, used)?;
            *t = self.ts;
            *v = f64::from_bits(self.value);
            done += 1;
        }
        self.pos = reader.pos();
        Ok(done)
    }

    /// The value whose bits start `used` (at most 24) bits into `word`.
    #[inline(always)]
    fn value(&mut self, reader: &mut Reader<'_>, word: u64, used: u32) -> Result<(), ChunkError> {
        let mut word = word << used;
        if word >> 63 == 0 {
            reader.skip(used + 1);
            return Ok(());
        }
        let mut head = 2;
        if word >> 62 == 0b11 {
            let leading = (word >> 57) as u32 & 0x1f;
            let significant = match (word >> 51) as u32 & 0x3f {
                0 => 64,
                n => n,
            };
            if leading + significant > 64 {
                return Err(ChunkError::Corrupt("more than 64 bits in a value"));
            }
            self.leading = leading;
            self.trailing = 64 - leading - significant;
            self.windowed = true;
            head = 13;
        }
        let significant = 64 - self.leading - self.trailing;
        let bits = if used + head + significant <= 57 {
            // All in the word that is here.
            word <<= head;
            reader.skip(used + head + significant);
            word >> (64 - significant)
        } else {
            reader.skip(used + head);
            reader.read(significant)
        };
        self.value ^= bits << self.trailing;
        Ok(())
    }
}
