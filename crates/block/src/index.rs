//! `index`: which series a block has and where their chunks are (`tsdb/index`).
//!
//! ```text
//! u32 0xBAAAD700 | u8 version
//! symbols                u32 len | u32 count | count x (uvarint len, bytes) ascending | u32 CRC
//! series                 each at a multiple of 16: uvarint len | body | u32 CRC of the body
//! postings               each at a multiple of 4:  u32 len | u32 n | n x u32 id ascending | u32 CRC
//! postings offset table  u32 len | u32 count | count x (u8 2, name, value, uvarint offset) | u32 CRC
//! TOC, last 52 bytes     6 x u64 (symbols, series, label indices, label offset table, postings,
//!                        postings offset table) | u32 CRC
//! ```
//!
//! The id of a series is its offset divided by 16 (in version 1: the offset). All CRCs are over what
//! lies between the length and the CRC. Version 2 is written; 1 and 2 are read.
//!
//! The decoders of the parts are functions over bytes: [`Toc::decode`], [`SymbolTable::decode`],
//! [`PostingsTable::decode`], [`decode_postings`], [`series`]. [`Reader`] puts them together over a
//! [`ReadAt`](crate::read_at::ReadAt); whoever has fetched ranges of an index from elsewhere uses
//! them directly.

mod reader;
pub mod series;
mod symbols;
mod table;
#[cfg(test)]
mod tests;
mod toc;
mod writer;

pub use reader::{Reader, SeriesReader};
pub use series::ChunkMeta;
pub use symbols::SymbolTable;
pub use table::{PostingsAt, PostingsTable};
pub use toc::Toc;
pub use writer::{SymbolSet, Writer};

use crate::BlockError;
use crate::input::{Input, crc};

/// The name of the file in a block's directory.
pub const FILE: &str = "index";

/// The first four bytes.
pub const MAGIC: u32 = 0xBAAA_D700;

/// Bytes before the first section: magic number and version.
pub const HEADER_LEN: u64 = 5;

/// Which layout the ids and symbol references have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Byte offsets.
    V1,
    /// Ordinals of symbols, and ids in units of 16 bytes.
    V2,
}

impl Version {
    /// Reads magic number and version from the first [`HEADER_LEN`] bytes.
    pub fn decode(header: &[u8]) -> Result<Self, BlockError> {
        let mut input = Input(header);
        if input.u32() != Some(MAGIC) {
            return Err(BlockError::corrupt("index: wrong magic number"));
        }
        match input.u8() {
            Some(1) => Ok(Version::V1),
            Some(2) => Ok(Version::V2),
            other => Err(BlockError::Version {
                what: FILE,
                version: other.unwrap_or(0) as u64,
            }),
        }
    }

    /// Where in the index the series `id` lies.
    pub fn series_offset(self, id: u32) -> u64 {
        match self {
            Version::V1 => id as u64,
            Version::V2 => id as u64 * 16,
        }
    }
}

/// Takes `u32 len | content | u32 CRC` apart; gives the content. More bytes may follow.
pub fn section<'a>(bytes: &'a [u8], what: &str) -> Result<&'a [u8], BlockError> {
    let mut input = Input(bytes);
    let mut parts = || {
        let len = input.u32()?;
        Some((input.take(len as usize)?, input.u32()?))
    };
    let (content, sum) =
        parts().ok_or_else(|| BlockError::corrupt(format!("index: {what} is truncated")))?;
    if crc(content) != sum {
        return Err(BlockError::corrupt(format!(
            "index: wrong checksum of {what}"
        )));
    }
    Ok(content)
}

/// Decodes a postings list (`u32 len | u32 n | n x u32 | u32 CRC`, more bytes may follow) and adds
/// its ids to `out`. Fails if they do not ascend.
pub fn decode_postings(bytes: &[u8], out: &mut Vec<u32>) -> Result<(), BlockError> {
    let content = section(bytes, "postings")?;
    let Some((n, ids)) = content.split_first_chunk::<4>() else {
        return Err(BlockError::corrupt("index: postings are truncated"));
    };
    let n = u32::from_be_bytes(*n) as usize;
    if ids.len() / 4 != n || ids.len() % 4 != 0 {
        return Err(BlockError::corrupt(
            "index: postings of another length than they say",
        ));
    }
    let start = out.len();
    let (ids, _) = ids.as_chunks::<4>();
    out.extend(ids.iter().map(|id| u32::from_be_bytes(*id)));
    let ascends = out[start..]
        .windows(2)
        .fold(true, |all, w| all & (w[0] < w[1]));
    if !ascends {
        out.truncate(start);
        return Err(BlockError::corrupt("index: postings do not ascend"));
    }
    Ok(())
}
