//! What an index-header is made of, where it is fetched from, and the file that it is kept in.
//!
//! ```text
//! u32 0x45504948 "EPIH" | u8 version 2 | u8 version of the index | u16 0
//! u64 length of the index | 6 x u64 table of contents | u64 length of symbols | u64 length of the table
//! u64 where in the index what is kept begins | u32 CRC of what is kept | u32 CRC of all that
//! symbols                 as they lie in the index
//! postings offset table   likewise
//! what is kept            likewise, to the end of the file
//! ```
//! Numbers are big-endian. The file lies under the data folder as `<ulid>.header`; it is written by
//! this process, aside and renamed, and can be deleted at any time: it is made again.

use std::ops::Range;
use std::path::Path;

use block::index::{HEADER_LEN, PostingsTable, SymbolTable, Toc, Version};
use block::{BlockError, disk, read_at};
use bucket::{Bucket, CatalogBlock};
use bytes::{BufMut as _, Bytes, BytesMut};
use model::{Kind, SourceError};

use super::super::cache::File;
use super::super::unavailable;
use super::Header;

const MAGIC: u32 = 0x4550_4948;
const VERSION: u8 = 2;
const HEAD: usize = 4 + 4 + 8 + 48 + 8 + 8 + 8 + 4 + 4;
/// The first read of an index takes so much of its end: often the whole postings offset table.
const TAIL: u64 = 64 << 10;
/// An index-header larger than this is none, bytes.
const MAX: u64 = 8 << 30;

/// A stretch of an index file.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Kept {
    start: u64,
    pub bytes: Bytes,
}

impl Kept {
    /// Where in its bytes a range of the file begins, if it has all of it.
    pub(in super::super) fn place(&self, range: &Range<u64>) -> Option<usize> {
        let at = range.start.checked_sub(self.start)?;
        let end = range.end.checked_sub(self.start)?;
        (end <= self.bytes.len() as u64).then_some(at as usize)
    }
}

/// Where the last postings list ends at the latest.
fn postings_end(toc: &Toc) -> u64 {
    [toc.label_offset_table, toc.postings_table]
        .into_iter()
        .filter(|&at| at > toc.postings)
        .min()
        .unwrap_or(toc.postings_table)
}

/// What is kept of an index: series and postings, the postings alone, or nothing, for it is at most `most` bytes.
fn to_keep(toc: &Toc, most: u64) -> Range<u64> {
    let end = postings_end(toc);
    [toc.series, toc.postings]
        .into_iter()
        .find(|&from| from < end && end <= toc.postings_table && end - from <= most)
        .map_or(0..0, |from| from..end)
}

/// The bytes that a header is made of.
pub(super) struct Parts {
    version: Version,
    toc: Toc,
    index_len: u64,
    symbols: Bytes,
    table: Bytes,
    kept: Kept,
}

impl Parts {
    pub(super) fn decode(self) -> Result<Header, BlockError> {
        Ok(Header {
            symbols: SymbolTable::decode(&self.symbols, self.version, self.toc.symbols)?,
            table: PostingsTable::decode(&self.table, postings_end(&self.toc))?,
            version: self.version,
            toc: self.toc,
            index_len: self.index_len,
            kept: self.kept,
        })
    }

    fn head(&self) -> BytesMut {
        let mut head = BytesMut::with_capacity(HEAD);
        head.put_u32(MAGIC);
        head.put_u8(VERSION);
        head.put_u8(match self.version {
            Version::V1 => 1,
            Version::V2 => 2,
        });
        head.put_u16(0);
        head.put_u64(self.index_len);
        let toc = self.toc.encode();
        head.put_slice(&toc[..48]);
        head.put_u64(self.symbols.len() as u64);
        head.put_u64(self.table.len() as u64);
        head.put_u64(self.kept.start);
        head.put_u32(crc32c::crc32c(&self.kept.bytes));
        head.put_u32(crc32c::crc32c(&head));
        head
    }

    /// Takes a file apart; none if it is not one of ours, torn, or damaged where nobody else would see it.
    fn parse(file: &Bytes) -> Option<Self> {
        let head = file.get(..HEAD)?;
        let (covered, sum) = head.split_last_chunk::<4>()?;
        if crc32c::crc32c(covered) != u32::from_be_bytes(*sum) {
            return None;
        }
        let number = |at: usize| {
            let bytes = covered.get(at..at + 8)?;
            Some(u64::from_be_bytes(bytes.try_into().ok()?))
        };
        if covered.get(..5)? != [&MAGIC.to_be_bytes()[..], &[VERSION]].concat() {
            return None;
        }
        let version = match covered.get(5)? {
            1 => Version::V1,
            2 => Version::V2,
            _ => return None,
        };
        let table_at = HEAD.checked_add(usize::try_from(number(64)?).ok()?)?;
        let kept_at = table_at.checked_add(usize::try_from(number(72)?).ok()?)?;
        if kept_at > file.len() {
            return None;
        }
        let kept = file.slice(kept_at..);
        if crc32c::crc32c(&kept).to_be_bytes() != *covered.last_chunk::<4>()? {
            return None;
        }
        Some(Self {
            version,
            toc: Toc {
                symbols: number(16)?,
                series: number(24)?,
                label_indices: number(32)?,
                label_offset_table: number(40)?,
                postings: number(48)?,
                postings_table: number(56)?,
            },
            index_len: number(8)?,
            symbols: file.slice(HEAD..table_at),
            table: file.slice(table_at..kept_at),
            kept: Kept {
                start: number(80)?,
                bytes: kept,
            },
        })
    }
}

pub(super) fn from_disk(path: &Path, index_len: Option<u64>) -> Option<Header> {
    // We wrote it and nobody else has business there; see the module's head.
    let file = read_at::map_file(path).ok()?;
    let parts = Parts::parse(&file)?;
    if index_len.is_some_and(|len| len != parts.index_len) {
        return None;
    }
    parts.decode().ok()
}

/// Writes the file and opens it, so that its pages can be let go of when memory is short.
pub(super) fn to_disk(path: &Path, parts: &Parts) -> Result<Option<Header>, BlockError> {
    let mut bytes = parts.head();
    bytes.extend_from_slice(&parts.symbols);
    bytes.extend_from_slice(&parts.table);
    bytes.extend_from_slice(&parts.kept.bytes);
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|source| BlockError::Io {
            what: format!("creating {}", dir.display()),
            source,
        })?;
    }
    disk::write_file(path, &bytes)?;
    Ok(from_disk(path, Some(parts.index_len)))
}

/// Reads what a header is made of: the end of the index, then at once its beginning and what is
/// missing of the postings offset table, and of what is to be kept, which is at most `keep` bytes. An index of no
/// more is read at once.
pub(super) async fn fetch(
    bucket: &Bucket,
    block: &CatalogBlock,
    keep: u64,
) -> Result<Parts, SourceError> {
    let key = File::Index(block.ulid()).key();
    let corrupt = |what: &str| SourceError::new(Kind::Corrupt, format!("{key}: {what}"));
    let whole = block.file_size(block::index::FILE);
    let first = whole.filter(|&len| len <= keep).unwrap_or(0);
    let first = bucket.get_suffix(&key, first.max(TAIL)).await;
    let (tail, index_len) = first.map_err(unavailable)?;
    let toc_at = tail.len().checked_sub(Toc::LEN as usize);
    let toc_at = toc_at.ok_or_else(|| corrupt("too short for an index"))?;
    let toc = Toc::decode(&tail[toc_at..], index_len)?;
    let table_end = index_len - Toc::LEN;
    if toc.series < toc.symbols || toc.series > MAX || table_end - toc.postings_table > MAX {
        return Err(corrupt("sections of impossible size"));
    }
    let tail_at = index_len - tail.len() as u64;
    let read = |range: Range<u64>| {
        let (key, tail) = (&key, &tail);
        async move {
            // What lies in the end of the file is here already.
            let from = range.start.max(tail_at).min(range.end);
            let here = match range.end > tail_at {
                true => tail.slice((from - tail_at) as usize..(range.end - tail_at) as usize),
                false => Bytes::new(),
            };
            if from == range.start {
                return Ok(here);
            }
            let bytes = bucket.get_range(key, range.start..from).await;
            let bytes = bytes.map_err(unavailable)?;
            if bytes.len() as u64 != from - range.start {
                return Err(corrupt("it is shorter than it was"));
            }
            match here.is_empty() {
                true => Ok(bytes),
                false => Ok(Bytes::from([bytes, here].concat())),
            }
        }
    };
    let kept = to_keep(&toc, keep);
    // What is kept lies before the table. The first section is the symbols; both writers put nothing
    // between it and the series.
    let behind = match kept.is_empty() {
        true => toc.postings_table,
        false => kept.start,
    };
    let (start, behind) = match behind == toc.series {
        true => {
            let all = read(0..table_end).await?;
            let series = toc.series as usize;
            (all.slice(..series), all.slice(series..))
        }
        false => tokio::try_join!(read(0..toc.series), read(behind..table_end))?,
    };
    let version = Version::decode(start.get(..HEADER_LEN as usize).unwrap_or_default())?;
    let table_len = (table_end - toc.postings_table) as usize;
    Ok(Parts {
        version,
        symbols: start.slice(toc.symbols as usize..),
        toc,
        index_len,
        table: behind.slice(behind.len() - table_len..),
        kept: Kept {
            bytes: behind.slice(..(kept.end - kept.start) as usize),
            start: kept.start,
        },
    })
}
