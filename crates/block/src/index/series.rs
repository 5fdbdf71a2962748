//! One series entry: its labels as references to symbols, and where its chunks are.
//!
//! ```text
//! uvarint len | body | u32 CRC of the body
//! body: uvarint labels | labels x (uvarint name, uvarint value)
//!       uvarint chunks | varint min | uvarint max - min | uvarint ref
//!                      | then each: uvarint min - max before | uvarint max - min | varint ref - ref before
//! ```

use model::{Millis, TimeRange};

use crate::BlockError;
use crate::input::{Input, crc, put_uvarint, put_varint};

/// The longest head of an entry: its length as uvarint.
const MAX_LEN_BYTES: usize = 10;

/// Where a chunk is and which time it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkMeta {
    /// First timestamp, ms.
    pub min: Millis,
    /// Last timestamp, ms.
    pub max: Millis,
    /// Number of the segment (from 0) in the upper half, byte offset in it in the lower.
    pub reference: u64,
}

impl ChunkMeta {
    /// The time it covers.
    pub fn range(&self) -> TimeRange {
        TimeRange::new(self.min, self.max)
    }
}

/// An entry at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// All of it is there: its body, the CRC being right, and how many bytes it takes in all.
    Complete(&'a [u8], usize),
    /// So many bytes are needed to read it.
    Needs(usize),
}

/// Finds the entry that begins with the first of `bytes`.
pub fn entry(bytes: &[u8]) -> Result<Entry<'_>, BlockError> {
    let mut input = Input(bytes);
    let Some(len) = input.uvarint() else {
        if bytes.len() < MAX_LEN_BYTES {
            return Ok(Entry::Needs(MAX_LEN_BYTES));
        }
        return Err(BlockError::corrupt("index: a series without end"));
    };
    let head = bytes.len() - input.len();
    let total = (len as usize)
        .checked_add(head + 4)
        .filter(|t| *t <= u32::MAX as usize)
        .ok_or_else(|| BlockError::corrupt("index: a series of impossible length"))?;
    if len == 0 {
        return Err(BlockError::corrupt("index: an empty series"));
    }
    let (Some(body), Some(sum)) = (input.take(len as usize), input.u32()) else {
        return Ok(Entry::Needs(total));
    };
    if crc(body) != sum {
        return Err(BlockError::corrupt("index: wrong checksum of a series"));
    }
    Ok(Entry::Complete(body, total))
}

/// Reads the labels of a body into `labels` and those chunks that overlap `range` into `chunks`;
/// both are added to. The labels are references as the index' version has them.
pub fn decode(
    body: &[u8],
    range: TimeRange,
    labels: &mut Vec<(u32, u32)>,
    chunks: &mut Vec<ChunkMeta>,
) -> Result<(), BlockError> {
    let mut input = Input(body);
    let mut all = || {
        decode_labels(&mut input, labels)?;
        decode_chunks(&mut input, range, chunks)
    };
    all().ok_or_else(|| BlockError::corrupt("index: a series is truncated"))
}

/// Reads only the labels.
pub fn decode_only_labels(body: &[u8], labels: &mut Vec<(u32, u32)>) -> Result<(), BlockError> {
    decode_labels(&mut Input(body), labels)
        .ok_or_else(|| BlockError::corrupt("index: a series is truncated"))
}

#[inline]
fn decode_labels(input: &mut Input<'_>, labels: &mut Vec<(u32, u32)>) -> Option<()> {
    let count = input.uvarint()?;
    if count > input.len() as u64 / 2 {
        return None;
    }
    labels.reserve(count as usize);
    for _ in 0..count {
        labels.push((input.uvarint32()?, input.uvarint32()?));
    }
    Some(())
}

#[inline]
fn decode_chunks(
    input: &mut Input<'_>,
    range: TimeRange,
    chunks: &mut Vec<ChunkMeta>,
) -> Option<()> {
    let count = input.uvarint()?;
    if count > input.len() as u64 / 3 {
        return None;
    }
    let mut max = 0i64;
    let mut reference = 0u64;
    for i in 0..count {
        let min = match i {
            0 => input.varint()?,
            // Differences wrap, as the writer's do.
            _ => max.wrapping_add(input.uvarint()? as i64),
        };
        max = min.wrapping_add(input.uvarint()? as i64);
        reference = if i == 0 {
            input.uvarint()?
        } else {
            reference.wrapping_add(input.varint()? as u64)
        };
        if min <= range.max && max >= range.min {
            chunks.push(ChunkMeta {
                min,
                max,
                reference,
            });
        }
    }
    Some(())
}

/// Writes the body of an entry.
pub fn encode(labels: &[(u32, u32)], chunks: &[ChunkMeta], out: &mut Vec<u8>) {
    put_uvarint(out, labels.len() as u64);
    for &(name, value) in labels {
        put_uvarint(out, name as u64);
        put_uvarint(out, value as u64);
    }
    put_uvarint(out, chunks.len() as u64);
    let mut before: Option<&ChunkMeta> = None;
    for c in chunks {
        match before {
            None => put_varint(out, c.min),
            Some(b) => put_uvarint(out, c.min.wrapping_sub(b.max) as u64),
        }
        put_uvarint(out, c.max.wrapping_sub(c.min) as u64);
        match before {
            None => put_uvarint(out, c.reference),
            Some(b) => put_varint(out, c.reference.wrapping_sub(b.reference) as i64),
        }
        before = Some(c);
    }
}
