//! The write-ahead log, in Prometheus' format: `wal/NNNNNNNN` segments of framed [records](record)
//! and `wal/checkpoint.NNNNNNNN` folders that replace the segments up to that number.
//!
//! A batch becomes one `write(2)`: when [`Wal::append`] returns, the kernel has it, and it survives
//! the death of the process. The disk has it once [`Wal::sync`] ran, which a background thread
//! calls every second ([`SyncMode::Interval`]) or each append waits for ([`SyncMode::Always`]; one
//! fsync serves everybody who waits).

mod ahead;
pub mod checkpoint;
mod mend;
mod page;
mod reader;
pub mod record;
mod rows;

#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use mend::{Mend, Open};
pub use page::{Compression, PAGE};
pub use reader::{ReadError, SegmentReader};

pub(crate) use ahead::Ahead;
pub(crate) use page::Compressor;
pub(crate) use rows::Rows;

use crate::Error;
use crate::fs::{Fs, FsExt as _, LogFile};
use crate::stats::WalStats;

/// What is set aside is copied so many bytes at a time.
const COPIED: u64 = 1 << 20;

/// When the log is made power-safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// On a background thread, at most this long after a write.
    Interval(Duration),
    /// Before an append is acknowledged.
    Always,
}

/// How the log is written.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// How records are compressed.
    pub compression: Compression,
    /// Bytes after which a new segment begins.
    pub segment_size: u64,
    /// When it is made power-safe.
    pub sync: SyncMode,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            compression: Compression::default(),
            segment_size: 128 << 20,
            sync: SyncMode::Interval(Duration::from_secs(1)),
        }
    }
}

/// Records that are appended together; keeps its memory.
pub(crate) struct Records {
    raw: Vec<u8>,
    ends: Vec<usize>,
    packed: Vec<u8>,
    packed_ends: Vec<(usize, u8)>,
    compressor: Compressor,
}

impl Records {
    pub(crate) fn new(compression: Compression) -> Self {
        Self {
            raw: Vec::new(),
            ends: Vec::new(),
            packed: Vec::new(),
            packed_ends: Vec::new(),
            compressor: Compressor::new(compression),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.raw.clear();
        self.ends.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of the record being written; call [`Records::end`] after it.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.raw
    }

    /// Bytes of the record that has not ended yet.
    pub(crate) fn open_len(&self) -> usize {
        self.raw.len() - self.ends.last().copied().unwrap_or(0)
    }

    pub(crate) fn end(&mut self) {
        if self.open_len() > 0 {
            self.ends.push(self.raw.len());
        }
    }

    fn pack(&mut self) {
        self.packed.clear();
        self.packed_ends.clear();
        let mut start = 0;
        for &end in &self.ends {
            let flag = self
                .compressor
                .compress(&self.raw[start..end], &mut self.packed);
            self.packed_ends.push((self.packed.len(), flag));
            start = end;
        }
    }
}

/// Says what [`Wal::settle`] is to wait for.
#[derive(Clone, Copy, Debug)]
#[must_use = "settle it once memory has what the log has"]
pub(crate) struct Ticket(u64);

/// The writing end of the log.
pub struct Wal {
    dir: PathBuf,
    fs: Arc<dyn Fs>,
    options: WalOptions,
    stats: Arc<WalStats>,
    active: Mutex<Active>,
    syncing: Mutex<()>,
    synced: AtomicU64,
    /// Segments of earlier processes, which may have died before their fsync; the first fsync here is
    /// theirs, too.
    found: Mutex<Vec<PathBuf>>,
    /// None of those is left.
    secured: AtomicBool,
}

struct Active {
    /// The segment that is written to.
    open: Open,
    len: u64,
    out: Vec<u8>,
    /// Finished segments that have not been synced.
    unsynced: Vec<Open>,
    /// What comes before anything is written.
    mend: Option<Mend>,
    /// An fsync has failed: what it was for is written again.
    doubtful: bool,
    /// Counts appends, for group commit.
    appends: u64,
}

impl Wal {
    /// Begins a new segment behind those that are there. Read those first.
    pub fn open(
        dir: &Path,
        options: WalOptions,
        fs: Arc<dyn Fs>,
        stats: Arc<WalStats>,
    ) -> Result<Self, Error> {
        fs.create_dir_all(dir).map_err(Error::io("creating", dir))?;
        let next = |n: Option<u64>| n.map_or(0, |n| n + 1);
        let found = segments(dir)?;
        for (_, path) in &found {
            // Left by an attempt to write it anew.
            let half = path.with_extension("tmp");
            if half.exists() {
                fs.remove_file(&half)
                    .map_err(Error::io("removing", &half))?;
            }
        }
        let number =
            next(found.last().map(|s| s.0)).max(next(checkpoint::latest(dir)?.map(|c| c.0)));
        let file = create(&*fs, dir, number)?;
        stats.segment.set(number as i64);
        Ok(Self {
            dir: dir.to_owned(),
            fs,
            options,
            stats,
            active: Mutex::new(Active {
                open: Open {
                    file,
                    number,
                    safe: 0,
                },
                len: 0,
                out: Vec::new(),
                unsynced: Vec::new(),
                mend: None,
                doubtful: false,
                appends: 0,
            }),
            syncing: Mutex::new(()),
            synced: AtomicU64::new(0),
            secured: AtomicBool::new(found.is_empty()),
            found: Mutex::new(found.into_iter().rev().map(|s| s.1).collect()),
        })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn options(&self) -> &WalOptions {
        &self.options
    }

    /// The segment that is written to.
    pub fn segment(&self) -> u64 {
        self.active.lock().open.number
    }

    /// Gives the records to the kernel in one write; all of them or none. What is in the log then
    /// belongs into memory, too, and only after that [`Wal::settle`] may fail.
    pub(crate) fn append(&self, records: &mut Records) -> Result<Ticket, Error> {
        if records.is_empty() {
            return Ok(Ticket(0));
        }
        records.pack();
        self.write(records).map(Ticket)
    }

    /// With [`SyncMode::Always`], waits until what was appended is on the disk.
    pub(crate) fn settle(&self, Ticket(ticket): Ticket) -> Result<(), Error> {
        match self.options.sync {
            SyncMode::Always => self.sync_up_to(ticket),
            SyncMode::Interval(_) => Ok(()),
        }
    }

    fn write(&self, records: &Records) -> Result<u64, Error> {
        let active = &mut *self.active.lock();
        active.mend(&*self.fs, &self.dir)?;
        let bound: usize =
            page::framed_bound(records.packed.len()) + records.packed_ends.len() * 2 * page::HEADER;
        if active.len > 0 && active.len + bound as u64 > self.options.segment_size {
            self.rotate_locked(active)?;
        }
        active.out.clear();
        let mut used = (active.len % PAGE as u64) as usize;
        let (mut start, mut parts) = (0, 0);
        for &(end, flag) in &records.packed_ends {
            parts += page::frame(
                &records.packed[start..end],
                flag,
                &mut used,
                &mut active.out,
            );
            start = end;
        }
        if let Err(e) = active.open.file.append(&active.out) {
            self.stats.writes_failed.inc();
            // Nothing of the batch may stay: neither on replay nor in the next record's way. What
            // cannot be done now is done before the next write.
            active.mend = Some(Mend::Cut);
            let _ = active.mend(&*self.fs, &self.dir);
            let path = self.dir.join(segment_name(active.open.number));
            return Err(Error::io("writing", &path)(e));
        }
        let before = active.len / PAGE as u64;
        active.len += active.out.len() as u64;
        self.stats.pages.add(active.len / PAGE as u64 - before);
        self.stats.flushes.inc();
        self.stats.parts.add(parts);
        self.stats.part_bytes.add(active.out.len() as u64);
        let saved = records.raw.len().saturating_sub(records.packed.len());
        self.stats.saved(self.options.compression, saved as u64);
        if active.out.capacity() > 4 << 20 {
            active.out = Vec::new();
        }
        active.appends += 1;
        Ok(active.appends)
    }

    fn rotate_locked(&self, active: &mut Active) -> Result<(), Error> {
        active.mend(&*self.fs, &self.dir)?;
        let number = active.open.number + 1;
        let file = create(&*self.fs, &self.dir, number)?;
        let next = Open {
            file,
            number,
            safe: 0,
        };
        let old = std::mem::replace(&mut active.open, next);
        if old.safe < active.len {
            active.unsynced.push(old);
        }
        active.len = 0;
        self.stats.segment.set(number as i64);
        Ok(())
    }

    /// Begins a new segment; the answer is the number of the one that ended.
    pub fn rotate(&self) -> Result<u64, Error> {
        let mut active = self.active.lock();
        self.rotate_locked(&mut active)?;
        Ok(active.open.number - 1)
    }

    /// Makes everything that was appended so far power-safe.
    pub fn sync(&self) -> Result<(), Error> {
        let ticket = self.active.lock().appends;
        self.sync_up_to(ticket)
    }

    fn sync_up_to(&self, ticket: u64) -> Result<(), Error> {
        if self.is_synced(ticket) {
            return Ok(());
        }
        // Whoever waits here is served by the fsync of the one before, if that began late enough.
        let _turn = self.syncing.lock();
        if self.is_synced(ticket) {
            return Ok(());
        }
        let started = std::time::Instant::now();
        self.secure_found()?;
        let upto = self.sync_files()?;
        self.stats.fsync.observe_duration(started.elapsed());
        self.synced.store(upto, Ordering::Release);
        Ok(())
    }

    fn is_synced(&self, ticket: u64) -> bool {
        self.secured.load(Ordering::Acquire) && self.synced.load(Ordering::Acquire) >= ticket
    }

    /// Syncs what earlier processes wrote, oldest first: what comes now builds on it.
    fn secure_found(&self) -> Result<(), Error> {
        let mut found = self.found.lock();
        while let Some(path) = found.last() {
            match self.fs.secure(path) {
                // A checkpoint has taken its place.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                done => done
                    .map_err(Error::io("syncing", path))
                    .inspect_err(|_| self.stats.writes_failed.inc())?,
            }
            found.pop();
        }
        self.secured.store(true, Ordering::Release);
        Ok(())
    }

    /// Syncs what is not known to be on the disk; how many appends are there then.
    fn sync_files(&self) -> Result<u64, Error> {
        let (files, len, upto) = {
            let active = &mut *self.active.lock();
            if active.doubtful {
                self.write_again(active)
                    .inspect_err(|_| self.stats.writes_failed.inc())?;
                return Ok(active.appends);
            }
            let mut files = active.unsynced.clone();
            files.push(active.open.clone());
            (files, active.len, active.appends)
        };
        for open in &files {
            if let Err(e) = open.file.sync() {
                self.stats.writes_failed.inc();
                self.active.lock().doubtful = true;
                let path = self.dir.join(segment_name(open.number));
                return Err(Error::io("syncing", &path)(e));
            }
        }
        let active = &mut *self.active.lock();
        let Some((last, finished)) = files.split_last() else {
            return Ok(upto);
        };
        active
            .unsynced
            .retain(|u| finished.iter().all(|f| f.number != u.number));
        // The one that was written to may have ended meanwhile.
        let synced = std::iter::once(&mut active.open).chain(&mut active.unsynced);
        for open in synced.filter(|o| o.number == last.number) {
            open.safe = open.safe.max(len);
        }
        Ok(upto)
    }

    /// Deletes the segments up to and including `last`, oldest first.
    pub(crate) fn delete_segments(&self, last: u64) -> Result<(), Error> {
        // What they hold is in a checkpoint: nobody needs it on the disk any more.
        self.active
            .lock()
            .unsynced
            .retain(|open| open.number > last);
        for (number, path) in segments(&self.dir)? {
            if number <= last {
                self.fs
                    .remove_file(&path)
                    .map_err(Error::io("removing", &path))?;
            }
        }
        self.fs
            .sync_dir(&self.dir)
            .map_err(Error::io("syncing", &self.dir))
    }
}

fn create(fs: &dyn Fs, dir: &Path, number: u64) -> Result<Arc<dyn LogFile>, Error> {
    let path = dir.join(segment_name(number));
    let file = match fs.create(&path) {
        // Left by an attempt that could not be undone: nothing was written to it.
        Err(e)
            if e.kind() == ErrorKind::AlreadyExists
                && path.metadata().is_ok_and(|m| m.len() == 0) =>
        {
            fs.create_anew(&path)
        }
        created => created,
    };
    let file = file.map_err(Error::io("creating", &path))?;
    if let Err(e) = fs.sync_dir(dir) {
        let _ = fs.remove_file(&path);
        return Err(Error::io("syncing", dir)(e));
    }
    Ok(file)
}

/// The file name of a segment.
pub fn segment_name(number: u64) -> String {
    format!("{number:08}")
}

/// The segments of a folder, ascending; other files are passed over.
pub fn segments(dir: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(Error::io("listing", dir)(e)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::io("listing", dir))?;
        let name = entry.file_name();
        if let Some(name) = name.to_str()
            && name.len() >= 8
            && name.bytes().all(|b| b.is_ascii_digit())
            && let Ok(number) = name.parse()
        {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What a replay does at the first error in a segment: an I/O error goes up; a record that the
/// segment's end cut in two is dropped if `torn_is_fine`; any other rest is set aside and named in
/// `damaged`.
pub(crate) fn give_up(
    fs: &dyn Fs,
    path: &Path,
    good: u64,
    error: ReadError,
    torn_is_fine: bool,
    damaged: &mut Vec<String>,
) -> Result<(), Error> {
    let torn = match &error {
        ReadError::Io(_) => return Err(error.at(path, good)),
        ReadError::Corrupt { torn, .. } => *torn && torn_is_fine,
    };
    let error = error.at(path, good);
    if torn {
        tracing::info!("{error}: cut there, as after any crash");
    } else {
        tracing::warn!("{error}: the rest of the segment is set aside as .bad");
        damaged.push(error.to_string());
    }
    set_aside(fs, path, good, !torn)
}

/// Sets what lies behind `good` bytes of a segment aside, as `NNNNNNNN.bad` (`.bad.1`, ...)
/// unless `keep` is false, and cuts the segment there.
pub fn set_aside(fs: &dyn Fs, path: &Path, good: u64, keep: bool) -> Result<(), Error> {
    let err = || Error::io("repairing", path);
    let dir = path.parent().unwrap_or(Path::new("."));
    if keep {
        let mut bad = path.with_extension("bad");
        let mut n = 0;
        while bad.exists() {
            n += 1;
            bad = path.with_extension(format!("bad.{n}"));
        }
        let mut rest = fs.open(path).map_err(err())?;
        io::copy(&mut (&mut rest).take(good), &mut io::sink()).map_err(err())?;
        let copy = fs.create(&bad).map_err(Error::io("creating", &bad))?;
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            let piece = (&mut rest).take(COPIED).read_to_end(&mut buffer);
            if piece.map_err(err())? == 0 {
                break;
            }
            copy.append(&buffer).map_err(Error::io("writing", &bad))?;
        }
        copy.sync().map_err(Error::io("syncing", &bad))?;
        fs.sync_dir(dir).map_err(Error::io("syncing", dir))?;
    }
    let file = fs.open_end(path).map_err(err())?;
    file.truncate(good)
        .and_then(|()| file.sync())
        .map_err(err())
}
