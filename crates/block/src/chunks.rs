//! `chunks/NNNNNN`: the segments that hold a block's chunks (`tsdb/chunks`).
//!
//! ```text
//! u32 0x85BD40DD | u8 version 1 | 3 zero bytes
//! chunks: uvarint len of data | u8 encoding | data | u32 CRC of encoding and data
//! ```
//!
//! A chunk is referred to by (place of its segment, from 0) << 32 | offset of its first byte.

mod reader;
mod writer;

pub(crate) use reader::read_up_to;
pub use reader::{Segments, parse};
pub use writer::Writer;

use model::Encoding;

/// The name of the directory in a block's directory.
pub const DIR: &str = "chunks";

/// A segment is not made longer than this, in bytes.
pub const MAX_SEGMENT: u64 = 512 << 20;

const MAGIC: u32 = 0x85BD_40DD;
const VERSION: u8 = 1;
const HEADER_LEN: u64 = 8;

/// Length (as uvarint), encoding and CRC of a chunk take so many bytes at most.
pub const MAX_FRAME: u64 = 5 + 1 + 4;

/// A chunk as it lies in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// How its data is encoded.
    pub encoding: Encoding,
    /// Where its data begins, counted from the first byte of the frame.
    pub start: usize,
    /// How long its data is.
    pub len: usize,
}

impl Frame {
    /// The byte after the frame, counted from its first.
    pub fn end(&self) -> usize {
        self.start + self.len + 4
    }
}

/// The segment (from 0) and offset of a reference.
pub fn split(reference: u64) -> (usize, u32) {
    ((reference >> 32) as usize, reference as u32)
}
