//! The one door through which a data directory is written: log segments, checkpoints, blocks, marks,
//! renames, removals and the fsyncs between them.
//!
//! [`Fs`] is the operating system unless an implementation says otherwise, one call being one step
//! that a crash can come before, in or after. Whoever writes takes an `Arc<dyn Fs>`, so that tests can
//! let a disk fill up, fail, or forget what was never synced (`fs::sim`, feature `sim`). [`FsExt`]
//! has what is made of several steps.
//!
//! ```
//! use block::fs::{self, FsExt as _};
//!
//! let dir = tempfile::tempdir()?;
//! let file = dir.path().join("state.json");
//! fs::os().replace(&file, b"{}")?;
//! assert_eq!(std::fs::read(&file)?, b"{}");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Useful for: everything that must survive a crash, and reading it back. Not useful for: caches that
//! can be had again.

#[cfg(any(test, feature = "sim"))]
pub mod sim;

use std::any::Any;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use crate::read_at::{FileAt, ReadAt, map_file};

/// What is done to files and folders. The default of each is the operating system's.
pub trait Fs: Send + Sync {
    /// Creates the file `path`, which must not exist.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let options = File::options().append(true).create_new(true).open(path)?;
        Ok(Arc::new(options))
    }

    /// Opens the file `path`, which must exist, to write behind its end or to cut it.
    fn open_end(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::new(File::options().append(true).open(path)?))
    }

    /// Opens the file `path` to read it from its beginning.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(path)?))
    }

    /// Opens the file `path` to read it at any place.
    fn open_at(&self, path: &Path) -> io::Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(FileAt::open(path)?))
    }

    /// Creates a folder in one that exists.
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    /// Gives a file or folder another name; a file that has it is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Gives a file one more name.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    /// Removes a file's name.
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    /// Makes a folder's entries (names that were created, renamed or removed) power-safe.
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    /// Whether what is written here has to survive a power failure.
    fn lasts(&self) -> bool {
        true
    }

    /// Creates the file `path` if need be and locks it (`flock`) until the answer is dropped;
    /// `WouldBlock` if somebody else has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

/// A file that only grows, but for [`LogFile::truncate`].
pub trait LogFile: Send + Sync {
    /// Writes all of `bytes` at the end. After an error an unknown part of them may be there.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file back to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Waits until everything is on the disk.
    fn sync(&self) -> io::Result<()>;
}

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFs;

impl Fs for OsFs {}

/// The operating system's files, read by mapping them into memory: only for what this process wrote,
/// because a disk that fails under it, or somebody who cuts it, ends the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct MapFs;

impl Fs for MapFs {
    fn open_at(&self, path: &Path) -> io::Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(map_file(path)?))
    }
}

/// The operating system's files, for whoever takes any.
pub fn os() -> Arc<dyn Fs> {
    Arc::new(OsFs)
}

impl LogFile for File {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self).write_all(bytes)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// What is made of several steps.
pub trait FsExt: Fs {
    /// Like [`Fs::create`], in the place of a file that is there.
    fn create_anew(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        match self.create(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.remove_file(path)?;
                self.create(path)
            }
            created => created,
        }
    }

    /// All bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Makes a file power-safe that an earlier process may have left without an fsync. Where that
    /// fails, its bytes are written anew in its place ([`FsExt::replace`]), because the next fsync
    /// might pass without them.
    fn secure(&self, path: &Path) -> io::Result<()> {
        if !self.lasts() || self.open_end(path)?.sync().is_ok() {
            return Ok(());
        }
        self.replace(path, &self.read(path)?)
    }

    /// Creates a folder and those above it that are missing, and makes their names power-safe.
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = parent(path);
        self.create_dir_all(parent)?;
        match self.create_dir(path) {
            // Somebody else may have come first.
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => Err(e),
            _ => self.sync_dir(parent),
        }
    }

    /// Removes a folder and everything in it; it is no error if it is not there.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        let mut entries = match fs::read_dir(path) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            // Links are not followed.
            match entry.file_type()?.is_dir() {
                true => self.remove_dir_all(&entry.path())?,
                false => gone(self.remove_file(&entry.path()))?,
            }
        }
        gone(self.remove_dir(path))
    }

    /// Writes a file as `<name>.tmp`, syncs it, renames it into place and syncs the folder: after a
    /// crash there is the old file or the new one, never a part.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".tmp");
        let tmp = path.with_file_name(name);
        let write = || {
            let file = self.create_anew(&tmp)?;
            file.append(bytes)?;
            file.sync()?;
            self.rename(&tmp, path)
        };
        if let Err(e) = write() {
            // The error that matters is the first one.
            let _ = self.remove_file(&tmp);
            return Err(e);
        }
        self.sync_dir(parent(path))
    }
}

impl<T: Fs + ?Sized> FsExt for T {}

/// The folder that a name stands in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_and_go_whole() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        OsFs.create_dir_all(&deep).unwrap();
        OsFs.create_dir_all(&deep).unwrap();
        OsFs.replace(&deep.join("f"), b"1").unwrap();
        OsFs.replace(&deep.join("f"), b"2").unwrap();
        assert_eq!(fs::read(deep.join("f")).unwrap(), b"2");
        std::os::unix::fs::symlink(dir.path(), deep.join("up")).unwrap();
        OsFs.remove_dir_all(&dir.path().join("a")).unwrap();
        OsFs.remove_dir_all(&dir.path().join("a")).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_lock_is_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = OsFs.lock(&path).unwrap();
        let e = OsFs.lock(&path).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        OsFs.lock(&path).unwrap();
    }
}
