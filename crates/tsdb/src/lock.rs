//! The `lock` file: one process a data folder. Prometheus takes the same lock (`flock`) on the same
//! file, so neither can open what the other has open.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::Error;

/// Holds the lock until it is dropped; the file goes with it.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
    /// Whether a file was left behind by a process that did not stop cleanly.
    pub(crate) replaced: bool,
}

impl Lock {
    pub(crate) fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("lock");
        let replaced = path.exists();
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io("opening", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self {
                path,
                _file: file,
                replaced,
            }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked(dir.to_owned())),
            Err(TryLockError::Error(e)) => Err(Error::io("locking", &path)(e)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is still held, as Prometheus does.
        let _ = std::fs::remove_file(&self.path);
    }
}
