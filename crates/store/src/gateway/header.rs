//! Index-headers: the parts of a block's index that tell where everything else is, and of a small index
//! what they tell of, too.

mod parts;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use block::index::{PostingsTable, SymbolTable, Toc, Version};
use bucket::{Bucket, CatalogBlock};
use model::{Kind, SourceError, Str};
use parking_lot::Mutex;
use ulid::Ulid;

pub(super) use parts::Kept;

/// A block whose index is damaged is looked at again after so long: what came may have been what was damaged.
const ASIDE: Duration = Duration::from_secs(15 * 60);

/// A block's index-header in memory.
#[derive(Debug)]
pub(super) struct Header {
    pub version: Version,
    pub toc: Toc,
    pub index_len: u64,
    pub symbols: SymbolTable,
    pub table: PostingsTable,
    /// Of a small index what the header tells of: queries need not ask for it.
    pub kept: Kept,
}

impl Header {
    fn size(&self) -> u64 {
        (self.symbols.size() + self.table.size() + self.kept.bytes.len()) as u64
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
}

/// All index-headers, loaded when they are asked for and kept by bytes.
pub(super) struct Headers {
    dir: Option<PathBuf>,
    limit: u64,
    keep: u64,
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
    /// Headers are kept as files in `dir`, and in memory up to `limit` bytes; with them what they tell of
    /// where that is at most `keep` bytes.
    pub(super) fn new(dir: Option<PathBuf>, limit: u64, keep: u64) -> Self {
        Self {
            // What is kept is kept in files: it is not worth memory.
            keep: if dir.is_some() { keep } else { 0 },
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
            let read = move || parts::from_disk(&path, expected);
            if let Ok(Some(header)) = wire::aside(read).await {
                return Ok(header);
            }
        }
        let parts = parts::fetch(bucket, block, self.keep).await?;
        self.builds.fetch_add(1, Ordering::Relaxed);
        let decode = move || {
            if let Some(path) = path {
                match parts::to_disk(&path, &parts) {
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
