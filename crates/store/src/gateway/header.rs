//! Index-headers: the parts of a block's index that tell where everything else is.
//!
//! ```text
//! u32 0x45504948 "EPIH" | u8 version 1 | u8 version of the index | u16 0
//! u64 length of the index | 6 x u64 table of contents | u64 length of symbols | u32 CRC of all that
//! symbols                 as they lie in the index
//! postings offset table   likewise
//! ```
//! Numbers are big-endian. The file lies under the data folder as `<ulid>.header`; it is written by
//! this process, aside and renamed, and can be deleted at any time: it is made again.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use block::index::{HEADER_LEN, PostingsTable, SymbolTable, Toc, Version};
use block::{BlockError, disk, read_at};
use bucket::{Bucket, CatalogBlock};
use bytes::{BufMut as _, Bytes, BytesMut};
use model::{Kind, SourceError, Str};
use parking_lot::Mutex;
use ulid::Ulid;

use super::cache::File;
use super::unavailable;

const MAGIC: u32 = 0x4550_4948;
const VERSION: u8 = 1;
const HEAD: usize = 4 + 4 + 8 + 48 + 8 + 4;
/// The first read of an index takes so much of its end: often the whole postings offset table.
const TAIL: u64 = 64 << 10;
/// A block whose index is damaged is looked at again after so long: what came may have been what was damaged.
const ASIDE: Duration = Duration::from_secs(15 * 60);
/// An index-header larger than this is none, bytes.
const MAX: u64 = 8 << 30;

/// A block's index-header in memory.
#[derive(Debug)]
pub(super) struct Header {
    pub version: Version,
    pub toc: Toc,
    pub index_len: u64,
    pub symbols: SymbolTable,
    pub table: PostingsTable,
}

impl Header {
    fn size(&self) -> u64 {
        (self.symbols.size() + self.table.size()) as u64
    }

    /// Where the last series ends at the latest.
    pub(super) fn series_end(&self) -> u64 {
        let toc = &self.toc;
        [toc.label_indices, toc.postings, toc.postings_table]
            .into_iter()
            .filter(|&at| at > toc.series)
            .min()
            .unwrap_or(self.index_len)
    }

    /// Where the last postings list ends at the latest.
    fn postings_end(toc: &Toc) -> u64 {
        [toc.label_offset_table, toc.postings_table]
            .into_iter()
            .filter(|&at| at > toc.postings)
            .min()
            .unwrap_or(toc.postings_table)
    }
}

/// The bytes that a header is made of.
struct Parts {
    version: Version,
    toc: Toc,
    index_len: u64,
    symbols: Bytes,
    table: Bytes,
}

impl Parts {
    fn decode(self) -> Result<Header, BlockError> {
        Ok(Header {
            symbols: SymbolTable::decode(&self.symbols, self.version, self.toc.symbols)?,
            table: PostingsTable::decode(&self.table, Header::postings_end(&self.toc))?,
            version: self.version,
            toc: self.toc,
            index_len: self.index_len,
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
        head.put_u32(crc32c::crc32c(&head));
        head
    }

    /// Takes a file apart; none if it is not one of ours or torn.
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
        let symbols_len = usize::try_from(number(64)?).ok()?;
        let table_at = HEAD.checked_add(symbols_len)?;
        if table_at > file.len() {
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
            table: file.slice(table_at..),
        })
    }
}

/// All index-headers, loaded when they are asked for and kept by bytes.
pub(super) struct Headers {
    dir: Option<PathBuf>,
    limit: u64,
    slots: Mutex<HashMap<Ulid, Arc<Slot>>>,
    /// Blocks whose index is damaged: since when they are set aside, and why.
    aside: Mutex<HashMap<Ulid, (Instant, Str)>>,
    held: AtomicU64,
    clock: AtomicU64,
    since: Instant,
    pub(super) loads: AtomicU64,
    pub(super) builds: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) drops: AtomicU64,
}

#[derive(Default)]
struct Slot {
    /// One load at a time.
    turn: tokio::sync::Mutex<()>,
    header: Mutex<Option<Arc<Header>>>,
    used: AtomicU64,
    /// When it was used last, ms since `Headers::since`.
    used_at: AtomicU64,
}

impl Headers {
    /// Headers are kept as files in `dir`, and in memory up to `limit` bytes.
    pub(super) fn new(dir: Option<PathBuf>, limit: u64) -> Self {
        Self {
            dir,
            limit,
            slots: Mutex::default(),
            aside: Mutex::default(),
            held: AtomicU64::new(0),
            clock: AtomicU64::new(0),
            since: Instant::now(),
            loads: AtomicU64::new(0),
            builds: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            drops: AtomicU64::new(0),
        }
    }

    /// Bytes in memory (those mapped from files included), and how many headers these are.
    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) async fn get(
        &self,
        bucket: &Bucket,
        block: &CatalogBlock,
    ) -> Result<Arc<Header>, SourceError> {
        let slot = Arc::clone(self.slots.lock().entry(block.ulid()).or_default());
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        slot.used.store(now, Ordering::Relaxed);
        slot.used_at.store(self.elapsed(), Ordering::Relaxed);
        if let Some(header) = slot.header.lock().clone() {
            return Ok(header);
        }
        let _turn = slot.turn.lock().await;
        if let Some(header) = slot.header.lock().clone() {
            return Ok(header);
        }
        let loaded = self.load(bucket, block).await;
        if let Err(e) = &loaded {
            self.failures.fetch_add(1, Ordering::Relaxed);
            if e.kind == Kind::Corrupt {
                self.set_aside(block.ulid(), e);
            }
        }
        let header = Arc::new(loaded?);
        self.loads.fetch_add(1, Ordering::Relaxed);
        *slot.header.lock() = Some(Arc::clone(&header));
        self.held.fetch_add(header.size(), Ordering::Relaxed);
        self.shrink(block.ulid());
        Ok(header)
    }

    /// A block without a sound index has no answers: it is logged once, and not asked again for a while.
    fn set_aside(&self, block: Ulid, why: &SourceError) {
        tracing::warn!(
            %block, reason = %why,
            "the index is damaged: the block is set aside; \"tools bucket verify\" tells more"
        );
        let why = format!("set aside: {why}");
        let entry = (Instant::now(), why.into());
        self.aside.lock().insert(block, entry);
    }

    /// Why a block is set aside, if it is: every answer that misses it says so.
    pub(super) fn aside_because(&self, block: Ulid) -> Option<Str> {
        let mut aside = self.aside.lock();
        let (since, why) = aside.get(&block)?;
        if since.elapsed() < ASIDE {
            return Some(Arc::clone(why));
        }
        aside.remove(&block);
        None
    }

    /// How many blocks are set aside.
    pub(super) fn aside(&self) -> usize {
        self.aside.lock().len()
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Lets go of headers that were not used for so long.
    pub(super) fn let_go_idle(&self, idle: Duration) {
        let idle = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        let now = self.elapsed();
        for slot in self.slots.lock().values() {
            if now.saturating_sub(slot.used_at.load(Ordering::Relaxed)) >= idle {
                self.release(slot);
            }
        }
    }

    /// Lets go of headers that were not used for the longest time, until the rest fits.
    fn shrink(&self, but: Ulid) {
        if self.held() <= self.limit {
            return;
        }
        let slots = self.slots.lock();
        let mut by_age: Vec<(u64, &Arc<Slot>)> = slots
            .iter()
            .filter(|(ulid, slot)| **ulid != but && slot.header.lock().is_some())
            .map(|(_, slot)| (slot.used.load(Ordering::Relaxed), slot))
            .collect();
        by_age.sort_unstable_by_key(|(used, _)| *used);
        for (_, slot) in by_age {
            if self.held() <= self.limit {
                return;
            }
            self.release(slot);
        }
    }

    fn release(&self, slot: &Slot) {
        if let Some(header) = slot.header.lock().take() {
            self.held.fetch_sub(header.size(), Ordering::Relaxed);
            self.drops.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets blocks that are not among `there`, their files too.
    pub(super) fn retain(&self, there: &HashSet<Ulid>) {
        self.aside.lock().retain(|ulid, _| there.contains(ulid));
        let mut slots = self.slots.lock();
        slots.retain(|ulid, slot| {
            let stays = there.contains(ulid);
            if !stays {
                self.release(slot);
            }
            stays
        });
        drop(slots);
        let Some(entries) = self
            .dir
            .as_ref()
            .and_then(|dir| std::fs::read_dir(dir).ok())
        else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let ulid = name
                .to_str()
                .and_then(|n| n.strip_suffix(".header"))
                .and_then(|n| Ulid::from_string(n).ok());
            if ulid.is_some_and(|u| !there.contains(&u)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    async fn load(&self, bucket: &Bucket, block: &CatalogBlock) -> Result<Header, SourceError> {
        let file = |dir: &PathBuf| dir.join(format!("{}.header", block.ulid()));
        let path = self.dir.as_ref().map(file);
        if let Some(path) = path.clone() {
            let expected = block.file_size(block::index::FILE);
            let read = move || from_disk(&path, expected);
            if let Ok(Some(header)) = wire::aside(read).await {
                return Ok(header);
            }
        }
        let parts = fetch(bucket, block).await?;
        self.builds.fetch_add(1, Ordering::Relaxed);
        let decode = move || {
            if let Some(path) = path {
                match to_disk(&path, &parts) {
                    Ok(Some(header)) => return Ok(header),
                    Ok(None) => {}
                    Err(e) => tracing::warn!("index-header is kept in memory only: {e}"),
                }
            }
            parts.decode()
        };
        match wire::aside(decode).await {
            Ok(header) => Ok(header?),
            Err(e) => Err(SourceError::new(Kind::Internal, e.to_string())),
        }
    }
}

fn from_disk(path: &Path, index_len: Option<u64>) -> Option<Header> {
    // We wrote it and nobody else has business there; see the module's head.
    let file = read_at::map_file(path).ok()?;
    let parts = Parts::parse(&file)?;
    if index_len.is_some_and(|len| len != parts.index_len) {
        return None;
    }
    parts.decode().ok()
}

/// Writes the file and opens it, so that its pages can be let go of when memory is short.
fn to_disk(path: &Path, parts: &Parts) -> Result<Option<Header>, BlockError> {
    let mut bytes = parts.head();
    bytes.extend_from_slice(&parts.symbols);
    bytes.extend_from_slice(&parts.table);
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
/// missing of the postings offset table.
async fn fetch(bucket: &Bucket, block: &CatalogBlock) -> Result<Parts, SourceError> {
    let key = File::Index(block.ulid()).key();
    let corrupt = |what: &str| SourceError::new(Kind::Corrupt, format!("{key}: {what}"));
    let (tail, index_len) = bucket.get_suffix(&key, TAIL).await.map_err(unavailable)?;
    let toc_at = tail.len().checked_sub(Toc::LEN as usize);
    let toc_at = toc_at.ok_or_else(|| corrupt("too short for an index"))?;
    let toc = Toc::decode(&tail[toc_at..], index_len)?;
    let table_end = index_len - Toc::LEN;
    if toc.series < toc.symbols || toc.series > MAX || table_end - toc.postings_table > MAX {
        return Err(corrupt("sections of impossible size"));
    }
    let tail_at = index_len - tail.len() as u64;
    let read = |range: std::ops::Range<u64>| async {
        let len = range.end - range.start;
        let bytes = bucket.get_range(&key, range).await.map_err(unavailable)?;
        match bytes.len() as u64 == len {
            true => Ok(bytes),
            false => Err(corrupt("it is shorter than it was")),
        }
    };
    let table = async {
        match toc.postings_table.checked_sub(tail_at) {
            Some(at) => Ok(tail.slice(at as usize..toc_at)),
            None => read(toc.postings_table..table_end).await,
        }
    };
    // The first section is the symbols; both writers put nothing between it and the series.
    let (start, table) = tokio::try_join!(read(0..toc.series), table)?;
    let version = Version::decode(start.get(..HEADER_LEN as usize).unwrap_or_default())?;
    Ok(Parts {
        version,
        symbols: start.slice(toc.symbols as usize..),
        toc,
        index_len,
        table,
    })
}
