//! Finished chunks on the disk, in Prometheus' head chunk files (`tsdb/chunks/head_chunks.go`):
//!
//! ```text
//! chunks_head/NNNNNN, at most 128 MiB
//! u32 0x0130bc91 | u8 1 | 3 zero bytes
//! per chunk: u64 series | i64 first time | i64 last time | u8 encoding (bit 7: out of order)
//!            uvarint length | the chunk | u32 CRC-32C of all that
//! zeros to the end of the file, if Prometheus was killed
//! ```
//!
//! They hold nothing that the log does not hold: they take chunks out of memory, and replay passes
//! over the samples that are in them. So a damaged one is set aside, and the last one needs no
//! fsync before another follows. Files that this process wrote are mapped; those it found are read with `pread`, so that a failing disk
//! is an error.

mod load;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use block::fs::{Fs, FsExt, LogFile};
use bytes::Bytes;
use model::{Encoding, Millis};
use parking_lot::{Mutex, RwLock};

use load::entries_of;
pub(super) use load::{Found, Loaded};

use crate::Error;
use crate::codec::put_uvarint;
use crate::stats::ChunkFileStats;

const MAGIC: u32 = 0x0130_bc91;
const VERSION: u8 = 1;
/// Bytes before the first chunk.
const HEADER: usize = 8;
/// Bytes that a chunk takes beside its own, at most.
const AROUND: usize = 8 + 8 + 8 + 1 + 5 + 4;
const CRC: usize = 4;
/// In the encoding: the chunk holds samples that came out of order.
const OUT_OF_ORDER: u8 = 0x80;
/// The encoding under which a chunk of samples that came out of order stands in a file.
pub(super) fn out_of_order(encoding: Encoding) -> Encoding {
    Encoding(encoding.0 | OUT_OF_ORDER)
}

/// A file has no more bytes than this.
const MAX_FILE: u64 = 128 << 20;
/// Files there can be at a time: what [`Place`] can tell apart.
const MAX_FILES: usize = 1 << 14;

/// Where a chunk lies: which file (a number that is used again when the file is gone), and where
/// in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) file: u16,
    pub(super) offset: u32,
}

/// A chunk to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unsaved<'a> {
    pub(super) series: u64,
    pub(super) min: Millis,
    pub(super) max: Millis,
    pub(super) encoding: Encoding,
    pub(super) bytes: &'a [u8],
}

/// One file.
pub(crate) struct ChunkFile {
    path: PathBuf,
    number: u64,
    /// Bytes that are written; a mapping reaches further.
    len: AtomicU64,
    /// Newest sample of any chunk.
    max: AtomicI64,
    file: File,
    map: Option<Bytes>,
}

impl ChunkFile {
    /// What is written so far, if it can be had without reading.
    pub(super) fn shared(&self) -> Option<Bytes> {
        let len = self.len.load(Ordering::Acquire) as usize;
        let map = self.map.as_ref()?;
        (len <= map.len()).then(|| map.slice(..len))
    }

    /// Reads exactly as many bytes as there is room for.
    pub(super) fn read(&self, offset: u32, out: &mut [u8]) -> io::Result<()> {
        let end = offset as usize + out.len();
        match self
            .map
            .as_ref()
            .and_then(|map| map.get(offset as usize..end))
        {
            Some(bytes) if end as u64 <= self.len.load(Ordering::Acquire) => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            _ => self.file.read_exact_at(out, offset.into()),
        }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of a chunk.
    pub(super) fn chunk(&self, offset: u32, len: u32) -> io::Result<Bytes> {
        let end = offset as usize + len as usize;
        if let Some(all) = self.shared().filter(|all| end <= all.len()) {
            return Ok(all.slice(offset as usize..end));
        }
        // No longer than a file: the length was taken from one that was checked.
        let mut bytes = vec![0; len as usize];
        self.read(offset, &mut bytes)?;
        Ok(bytes.into())
    }
}

struct Active {
    out: Arc<dyn LogFile>,
    place: u16,
    /// An fsync failed on it, or it ends in a part of a chunk that could not be cut off: nothing is
    /// written behind that any more.
    doubtful: bool,
}

/// The folder of head chunk files.
pub(crate) struct ChunkFiles {
    dir: PathBuf,
    fs: Arc<dyn Fs>,
    /// By the number in a [`Place`].
    files: RwLock<Vec<Option<Arc<ChunkFile>>>>,
    active: Mutex<Option<Active>>,
    /// The number of the next file.
    next: AtomicU64,
    stats: Arc<ChunkFileStats>,
}

/// The files of the folder by number. What was half written in the place of one goes.
fn numbers(fs: &dyn Fs, dir: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(name) = name.to_str()
            && name.bytes().all(|b| b.is_ascii_digit())
            && let Ok(number) = name.parse()
        {
            found.insert(number, entry.path());
        } else if entry.path().extension().is_some_and(|e| e == "tmp") {
            fs.remove_file(&entry.path())?;
        }
    }
    Ok(found)
}

impl ChunkFiles {
    /// Opens the folder, creating it if need be, and reads what chunks it holds. Those that end
    /// before `min` are passed over. Damage is told in `damaged`; what comes behind it is not used.
    pub(crate) fn open(
        dir: &Path,
        fs: Arc<dyn Fs>,
        min: Millis,
        stats: Arc<ChunkFileStats>,
        damaged: &mut Vec<String>,
    ) -> Result<(Self, Loaded), Error> {
        fs.create_dir_all(dir).map_err(Error::io("creating", dir))?;
        let found = numbers(&*fs, dir).map_err(Error::io("listing", dir))?;
        let mut files = Self {
            dir: dir.to_owned(),
            fs,
            files: RwLock::default(),
            active: Mutex::default(),
            next: AtomicU64::new(found.keys().next_back().map_or(1, |n| n + 1)),
            stats,
        };
        let loaded = files.load(found, min, damaged)?;
        files.tell();
        Ok((files, loaded))
    }

    /// The file of a [`Place`].
    pub(super) fn file(&self, number: u16) -> Option<Arc<ChunkFile>> {
        self.files.read().get(usize::from(number))?.clone()
    }

    fn tell(&self) {
        let files = self.files.read();
        let bytes = files
            .iter()
            .flatten()
            .map(|f| f.len.load(Ordering::Relaxed));
        self.stats.bytes.set(bytes.sum::<u64>() as i64);
    }

    /// Writes chunks, and says where each of them lies. After an error none of them counts.
    pub(super) fn write(&self, chunks: &[Unsaved<'_>]) -> Result<Vec<Place>, Error> {
        let active = &mut *self.active.lock();
        let mut places = Vec::with_capacity(chunks.len());
        let mut rest = chunks;
        let mut out = Vec::new();
        while !rest.is_empty() {
            let now = match active.take() {
                Some(now) => now,
                None => self.create()?,
            };
            let Some(file) = self.file(now.place) else {
                continue;
            };
            if now.doubtful {
                self.end(now, &file, active)?;
                continue;
            }
            let start = file.len.load(Ordering::Acquire);
            out.clear();
            let mut max = Millis::MIN;
            let mut done = 0;
            for chunk in rest {
                if start + (out.len() + chunk.bytes.len() + AROUND) as u64 > MAX_FILE {
                    break;
                }
                let offset = put(&mut out, chunk);
                places.push(Place {
                    file: now.place,
                    // Below 128 MiB.
                    offset: start as u32 + offset as u32,
                });
                max = max.max(chunk.max);
                done += 1;
            }
            if done == 0 && start == HEADER as u64 {
                return Err(Error::Limit(format!(
                    "a chunk of {} bytes does not fit into a file",
                    rest.first().map_or(0, |c| c.bytes.len())
                )));
            }
            rest = rest.get(done..).unwrap_or_default();
            if done == 0 {
                // It is full; the next one is begun.
                self.end(now, &file, active)?;
                continue;
            }
            if let Err(e) = now.out.append(&out).and_then(|()| grown(&file, out.len())) {
                // What was written of it must not stand in the way of what comes.
                let doubtful = now.out.truncate(start).is_err();
                *active = Some(Active { doubtful, ..now });
                return Err(Error::io("writing", &file.path)(e));
            }
            file.len.fetch_add(out.len() as u64, Ordering::AcqRel);
            file.max.fetch_max(max, Ordering::AcqRel);
            *active = Some(now);
        }
        self.stats.written.add(chunks.len() as u64);
        self.tell();
        Ok(places)
    }

    /// Ends a file. After a power failure only the last one may lack something: chunks in a later one
    /// would hide what the log has from before them. So when the disk does not keep it, it is written
    /// anew in its own place; until that is done it stays the last, in `slot`.
    fn end(
        &self,
        active: Active,
        file: &ChunkFile,
        slot: &mut Option<Active>,
    ) -> Result<(), Error> {
        if !active.doubtful && active.out.sync().is_ok() {
            return Ok(());
        }
        let len = file.len.load(Ordering::Acquire);
        let anew = file
            // Below 128 MiB.
            .chunk(0, len as u32)
            .and_then(|bytes| match entries_of(&bytes, |_| ()) {
                Ok(()) => self.fs.replace(&file.path, &bytes),
                Err(_) => Err(io::Error::other("what was written cannot be read back")),
            });
        anew.map_err(|e| {
            let doubtful = true;
            *slot = Some(Active { doubtful, ..active });
            Error::io("writing what may not be on the disk anew,", &file.path)(e)
        })
    }

    fn create(&self) -> Result<Active, Error> {
        // Numbers have no gaps, or Prometheus would refuse the folder.
        let number = self.next.load(Ordering::Relaxed);
        let path = self.dir.join(format!("{number:06}"));
        let failed = |e| Error::io("creating", &path)(e);
        let out = self.fs.create(&path).map_err(failed)?;
        let mut header = MAGIC.to_be_bytes().to_vec();
        header.extend_from_slice(&[VERSION, 0, 0, 0]);
        let made = out
            .append(&header)
            // A file without its header could not be told from a foreign one.
            .and_then(|()| out.sync())
            .and_then(|()| self.fs.sync_dir(&self.dir))
            .and_then(|()| File::open(&path))
            .and_then(|file| Ok((map(&file)?, file)));
        let (map, file) = match made {
            Ok(made) => made,
            Err(e) => {
                // A file without its header would be taken for a damaged one.
                let _ = self.fs.remove_file(&path);
                return Err(failed(e));
            }
        };
        self.next.store(number + 1, Ordering::Relaxed);
        let place = self.add(ChunkFile {
            path,
            number,
            len: AtomicU64::new(HEADER as u64),
            max: AtomicI64::new(Millis::MIN),
            file,
            map: Some(map),
        })?;
        Ok(Active {
            out,
            place,
            doubtful: false,
        })
    }

    fn add(&self, file: ChunkFile) -> Result<u16, Error> {
        let mut files = self.files.write();
        let free = files.iter().position(Option::is_none);
        let place = free.unwrap_or(files.len());
        if place >= MAX_FILES {
            return Err(Error::Limit(format!(
                "{} holds {MAX_FILES} files",
                self.dir.display()
            )));
        }
        if free.is_none() {
            files.push(None);
        }
        if let Some(slot) = files.get_mut(place) {
            *slot = Some(Arc::new(file));
        }
        Ok(place as u16)
    }

    /// Removes the oldest files, as long as nothing in them is as new as `before`. Whoever still
    /// reads them has them open.
    pub(super) fn truncate(&self, before: Millis) -> Result<(), Error> {
        // So that what is written now can go as a whole one day.
        let mut active = self.active.lock();
        if let Some(now) = active.take()
            && let Some(file) = self.file(now.place)
        {
            match file.len.load(Ordering::Acquire) == HEADER as u64 {
                true => *active = Some(now),
                false => self.end(now, &file, &mut active)?,
            }
        }
        drop(active);
        let mut all: Vec<(u64, u16)> = {
            let files = self.files.read();
            let numbered = files.iter().zip(0u16..);
            numbered
                .filter_map(|(f, place)| Some((f.as_ref()?.number, place)))
                .collect()
        };
        all.sort_unstable();
        let mut removed = false;
        for (_, place) in all {
            let Some(file) = self.file(place) else {
                continue;
            };
            let open = self
                .active
                .lock()
                .as_ref()
                .is_some_and(|a| a.place == place);
            if open || file.max.load(Ordering::Acquire) >= before {
                break;
            }
            let failed = Error::io("removing", &file.path);
            self.fs.remove_file(&file.path).map_err(failed)?;
            removed = true;
            if let Some(slot) = self.files.write().get_mut(usize::from(place)) {
                *slot = None;
            }
        }
        if removed {
            let failed = Error::io("syncing", &self.dir);
            self.fs.sync_dir(&self.dir).map_err(failed)?;
        }
        self.tell();
        Ok(())
    }
}

/// Adds a chunk to a file's bytes; where its own bytes begin.
fn put(out: &mut Vec<u8>, chunk: &Unsaved<'_>) -> usize {
    let start = out.len();
    out.extend_from_slice(&chunk.series.to_be_bytes());
    out.extend_from_slice(&chunk.min.to_be_bytes());
    out.extend_from_slice(&chunk.max.to_be_bytes());
    out.push(chunk.encoding.0);
    put_uvarint(out, chunk.bytes.len() as u64);
    let offset = out.len();
    out.extend_from_slice(chunk.bytes);
    let crc = crc32c::crc32c(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&crc.to_be_bytes());
    offset
}

/// Whether the file has grown by what was written: a mapping must not reach what is not there.
fn grown(file: &ChunkFile, by: usize) -> io::Result<()> {
    let there = file.file.metadata()?.len();
    match there >= file.len.load(Ordering::Acquire) + by as u64 {
        true => Ok(()),
        false => Err(io::Error::other(
            "the file is shorter than what was written",
        )),
    }
}

/// Maps a file that will grow, as far as it may grow.
fn map(file: &File) -> io::Result<Bytes> {
    #[expect(
        unsafe_code,
        reason = "this process wrote the file and alone writes it, it is never cut below a length \
                  that was published, and nobody is given a part behind that length"
    )]
    let map = unsafe {
        memmap2::MmapOptions::new()
            .len(MAX_FILE as usize)
            .map(file)?
    };
    Ok(Bytes::from_owner(map))
}

#[cfg(test)]
mod tests;
