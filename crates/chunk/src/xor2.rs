//! Float chunks of encoding 4: XOR with one prefix for time and value, cheap stale markers, and start
//! timestamps (`tsdb/chunkenc/xor2.go`, `st.go`). Prometheus writes them only if it is told to.
//!
//! ```text
//! u16 number of samples, big-endian | u8 start timestamps
//! sample 0: varint t | 64 bits v
//! sample 1: uvarint (t1 - t0) | value
//! sample n: 0                 the same distance and value as before
//!           10                the same distance, another value: 0 window of before, 1 new window
//!           110    13 bits    another distance, then: value
//!           1110   20 bits    so many bits of two's complement hold the difference of differences
//!           11110  64 bits
//!           11111             the same distance, a stale marker
//! value:    0 the same  10 window of before  110 new window  111 a stale marker
//! window:   5 bits leading zeros (31 at most), 6 bits number of significant bits (0 is 64)
//! after each sample: its start timestamp, if it must be told
//! ```
//!
//! What a value is told by is the last one that is no stale marker (0 at first).

use model::{Encoding, Millis, STALE_NAN, is_stale};

use crate::bits::{self, Reader, Writer};
use crate::starts::Starts;
use crate::{ChunkError, Columns};

#[cfg(test)]
mod tests;

/// No window yet: the first value that changes opens one.
const NO_WINDOW: u8 = 0xff;
/// Number of samples, and the byte about start timestamps.
const HEADER: usize = 3;

/// A chunk that takes samples.
#[derive(Clone, Debug)]
pub struct Encoder {
    w: Writer,
    state: State,
    count: u16,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An empty chunk.
    pub fn new() -> Self {
        Self {
            w: Writer::resume(vec![0; HEADER], HEADER * 8),
            state: State::default(),
            count: 0,
        }
    }

    /// Goes on with a chunk as if its samples had just been appended.
    pub fn resume(chunk: &[u8]) -> Result<Self, ChunkError> {
        let (state, pos) = decode_state(chunk, &mut Columns::default())?;
        let count = crate::sample_count(Encoding::XOR2, chunk)?;
        state.starts.resume(count)?;
        Ok(match count {
            0 => Self::new(),
            _ => Self {
                w: Writer::resume(chunk.to_vec(), pos),
                state,
                count: count as u16,
            },
        })
    }

    /// How many samples there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no sample.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether no sample can be added any more: the header counts to 65535.
    pub fn is_full(&self) -> bool {
        self.count == u16::MAX
    }

    /// The chunk as far as it goes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.w.bytes()
    }

    /// The chunk.
    pub fn into_bytes(self) -> Vec<u8> {
        self.w.into_bytes()
    }

    /// Bytes of memory that the chunk holds, this struct not included.
    pub fn capacity(&self) -> usize {
        self.w.capacity()
    }

    /// The last sample's timestamp; none if there is no sample.
    pub fn last_ts(&self) -> Option<Millis> {
        (self.count > 0).then_some(self.state.ts)
    }

    /// The timestamp of the sample before the last; none if there are less than two samples.
    pub fn previous_ts(&self) -> Option<Millis> {
        (self.count > 1).then(|| self.state.ts.wrapping_sub(self.state.delta as i64))
    }

    /// The last sample's value; none if there is no sample.
    pub fn last_value(&self) -> Option<f64> {
        (self.count > 0).then_some(self.state.last())
    }

    /// Appends a sample with its start timestamp (0: unknown). Cut the chunk before it
    /// [`is_full`](Self::is_full): a sample beyond that is dropped.
    #[inline]
    pub fn append(&mut self, ts: Millis, start: Millis, value: f64) {
        if self.is_full() {
            return;
        }
        let n = self.len();
        let before = self.state.ts;
        match n {
            0 | 1 => self.first(n, ts, value),
            _ => self.another(ts, value),
        }
        let state = &mut self.state;
        state.ts = ts;
        state.stale = is_stale(value);
        if !state.stale {
            state.value = value.to_bits();
        }
        let told = state.starts.write(&mut self.w, n, ts, before, start);
        self.count += 1;
        if let Some([a, b, starts]) = self.w.bytes_mut().first_chunk_mut::<HEADER>() {
            [*a, *b] = self.count.to_be_bytes();
            if told {
                *starts = state.starts.header();
            }
        }
    }

    #[cold]
    fn first(&mut self, n: usize, ts: Millis, value: f64) {
        let (bytes, len) = if n == 0 {
            bits::varint_bytes(ts)
        } else {
            self.state.delta = ts.wrapping_sub(self.state.ts) as u64;
            bits::uvarint_bytes(self.state.delta)
        };
        bytes[..len].iter().for_each(|b| self.w.bits(*b as u64, 8));
        match n {
            0 => self.w.bits(value.to_bits(), 64),
            _ => self.value((0, 0), value),
        }
    }

    #[inline]
    fn another(&mut self, ts: Millis, value: f64) {
        let state = &mut self.state;
        let delta = ts.wrapping_sub(state.ts) as u64;
        let dod = delta.wrapping_sub(state.delta) as i64;
        state.delta = delta;
        if dod == 0 {
            let xor = value.to_bits() ^ state.value;
            if xor == 0 {
                return self.w.zero();
            }
            if is_stale(value) {
                return self.w.bits(0b11111, 5);
            }
            return self.changed((0b10, 2), 0, xor);
        }
        let head = match dod {
            -0x1000..=0xfff => (0b110 << 13 | dod as u64 & 0x1fff, 16),
            -0x8_0000..=0x7_ffff => (0b1110 << 20 | dod as u64 & 0xf_ffff, 24),
            _ => {
                self.w.pair((0b11110, 5), (dod as u64, 64));
                (0, 0)
            }
        };
        self.value(head, value);
    }

    /// Writes bits and a value behind them.
    fn value(&mut self, (head, bits): (u64, u32), value: f64) {
        let xor = value.to_bits() ^ self.state.value;
        if is_stale(value) {
            self.w.bits(head << 3 | 0b111, bits + 3);
        } else if xor == 0 {
            self.w.bits(head << 1, bits + 1);
        } else {
            self.changed((head << 1 | 1, bits + 1), 1, xor);
        }
    }

    /// Writes bits, then a zero bit and a value in the window of before, or a one bit, `gap` zero
    /// bits and a value in a new window.
    #[inline]
    fn changed(&mut self, (head, bits): (u64, u32), gap: u32, xor: u64) {
        let state = &mut self.state;
        let leading = (xor.leading_zeros() as u8).min(31);
        let trailing = xor.trailing_zeros() as u8;
        if state.leading != NO_WINDOW && leading >= state.leading && trailing >= state.trailing {
            let significant = 64 - state.leading as u32 - state.trailing as u32;
            let value = xor >> state.trailing;
            return self.w.pair((head << 1, bits + 1), (value, significant));
        }
        (state.leading, state.trailing) = (leading, trailing);
        let significant = 64 - leading as u32 - trailing as u32;
        let window = (leading as u64) << 6 | significant as u64 & 0x3f;
        let head = ((head << 1 | 1) << gap) << 11 | window;
        self.w
            .pair((head, bits + 1 + gap + 11), (xor >> trailing, significant));
    }
}

/// Decodes a chunk and adds its samples to `out`, with their start timestamps if it has any. After an
/// error `out` is as it was before.
///
/// Memory is only taken for as many samples as the bytes can hold.
pub fn decode(chunk: &[u8], out: &mut Columns) -> Result<(), ChunkError> {
    decode_state(chunk, out).map(drop)
}

/// What the next sample is told by.
#[derive(Clone, Copy, Debug)]
struct State {
    ts: Millis,
    delta: u64,
    /// The last value that was no stale marker.
    value: u64,
    /// Whether the last sample was one.
    stale: bool,
    leading: u8,
    trailing: u8,
    starts: Starts,
}

impl Default for State {
    fn default() -> Self {
        Self {
            ts: 0,
            delta: 0,
            value: 0,
            stale: false,
            leading: NO_WINDOW,
            trailing: 0,
            starts: Starts::default(),
        }
    }
}

fn decode_state(chunk: &[u8], out: &mut Columns) -> Result<(State, usize), ChunkError> {
    let count = crate::sample_count(Encoding::XOR2, chunk)?;
    let mut state = State::default();
    let mut r = Reader::new(chunk, HEADER * 8);
    let Some(&byte) = chunk.get(HEADER - 1) else {
        return Err(ChunkError::Truncated);
    };
    // Ten bytes for the first two samples, and a bit at least for each of the others.
    if count.saturating_sub(2) > (chunk.len() - HEADER) * 8 {
        return Err(ChunkError::Truncated);
    }
    state.starts = Starts::of_header(byte);
    let before = out.len();
    let result = match byte {
        0 => state.samples::<false>(count, &mut r, out),
        _ => state.samples::<true>(count, &mut r, out),
    };
    let result = match result {
        Ok(()) if r.pos() > chunk.len() * 8 => Err(ChunkError::Truncated),
        result => result,
    };
    if let Err(e) = result {
        out.truncate(before);
        return Err(e);
    }
    Ok((state, r.pos()))
}

impl State {
    fn last(&self) -> f64 {
        match self.stale {
            true => STALE_NAN,
            false => f64::from_bits(self.value),
        }
    }

    /// All samples, with or without start timestamps. Behind the end of the chunk there are zeros to be
    /// read: whoever asks looks how far it went.
    fn samples<const STARTS: bool>(
        &mut self,
        count: usize,
        r: &mut Reader<'_>,
        out: &mut Columns,
    ) -> Result<(), ChunkError> {
        let from = out.len();
        let all = from + count;
        out.ts.resize(all, 0);
        out.values.resize(all, 0.0);
        if STARTS || !out.starts.is_empty() {
            out.starts.resize(all, 0);
        }
        let mut starts = out.starts.get_mut(from..).unwrap_or_default().iter_mut();
        let mut places = out.ts[from..]
            .iter_mut()
            .zip(&mut out.values[from..])
            .enumerate();
        for (n, (ts, value)) in places.by_ref().take(2) {
            let before = self.ts;
            *value = self.first(n, r)?;
            *ts = self.ts;
            if STARTS {
                self.starts.read(r, n, self.ts, before)?;
                starts
                    .next()
                    .into_iter()
                    .for_each(|s| *s = self.starts.start());
            }
        }
        // On copies, which the loop keeps at hand.
        let (mut state, mut reader) = (*self, *r);
        for (n, (ts, value)) in places {
            let before = state.ts;
            *value = state.another(&mut reader)?;
            *ts = state.ts;
            if STARTS {
                state.starts.read(&mut reader, n, state.ts, before)?;
                starts
                    .next()
                    .into_iter()
                    .for_each(|s| *s = state.starts.start());
            }
        }
        (*self, *r) = (state, reader);
        Ok(())
    }

    #[cold]
    fn first(&mut self, n: usize, r: &mut Reader<'_>) -> Result<f64, ChunkError> {
        if n == 0 {
            self.ts = r.varint().ok_or(ChunkError::Truncated)?;
            let value = f64::from_bits(r.read(64));
            self.stale = is_stale(value);
            if !self.stale {
                self.value = value.to_bits();
            }
            return Ok(value);
        }
        self.delta = r.uvarint().ok_or(ChunkError::Truncated)?;
        self.ts = self.ts.wrapping_add(self.delta as i64);
        self.value(r)
    }

    #[inline(always)]
    fn another(&mut self, r: &mut Reader<'_>) -> Result<f64, ChunkError> {
        let word = r.peek();
        let class = (!word).leading_zeros();
        self.stale = false;
        match class {
            0 => {
                r.skip(1);
                self.ts = self.ts.wrapping_add(self.delta as i64);
                return Ok(f64::from_bits(self.value));
            }
            1 => {
                r.skip(3);
                self.ts = self.ts.wrapping_add(self.delta as i64);
                return self.changed(r, word << 2 >> 63 != 0);
            }
            2 => {
                r.skip(16);
                self.turn(signed(word << 3, 13));
            }
            3 => {
                r.skip(24);
                self.turn(signed(word << 4, 20));
            }
            4 => {
                r.skip(5);
                self.turn(r.read(64) as i64);
            }
            _ => {
                r.skip(5);
                self.ts = self.ts.wrapping_add(self.delta as i64);
                self.stale = true;
                return Ok(STALE_NAN);
            }
        }
        self.value(r)
    }

    #[inline]
    fn turn(&mut self, dod: i64) {
        self.delta = self.delta.wrapping_add(dod as u64);
        self.ts = self.ts.wrapping_add(self.delta as i64);
    }

    #[inline]
    fn value(&mut self, r: &mut Reader<'_>) -> Result<f64, ChunkError> {
        self.stale = false;
        let (bits, new) = match r.peek() >> 61 {
            0..=3 => {
                r.skip(1);
                return Ok(f64::from_bits(self.value));
            }
            4 | 5 => (2, false),
            6 => (3, true),
            _ => {
                r.skip(3);
                self.stale = true;
                return Ok(STALE_NAN);
            }
        };
        r.skip(bits);
        self.changed(r, new)
    }

    #[inline(always)]
    fn changed(&mut self, r: &mut Reader<'_>, new: bool) -> Result<f64, ChunkError> {
        if new {
            let window = r.read(11);
            let leading = (window >> 6) as u8;
            let significant = match window as u8 & 0x3f {
                0 => 64,
                n => n,
            };
            if leading + significant > 64 {
                return Err(ChunkError::Corrupt("more than 64 bits in a value"));
            }
            self.leading = leading;
            self.trailing = 64 - leading - significant;
        } else if self.leading == NO_WINDOW {
            self.leading = 0;
        }
        let significant = 64 - self.leading as u32 - self.trailing as u32;
        self.value ^= r.read(significant) << self.trailing;
        Ok(f64::from_bits(self.value))
    }
}

/// The upper `bits` bits of a word as two's complement.
#[inline]
fn signed(word: u64, bits: u32) -> i64 {
    word as i64 >> (64 - bits)
}
