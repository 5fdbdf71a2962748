//! The `lock` file: one process a data folder. Prometheus takes the same lock (`flock`) on the same
//! file, so neither can open what the other has open.

use std::any::Any;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Error;
use crate::fs::Fs;

/// Holds the lock until it is dropped; the file goes with it.
pub(crate) struct Lock {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    _held: Box<dyn Any + Send + Sync>,
    /// Whether a file was left behind by a process that did not stop cleanly.
    pub(crate) replaced: bool,
}

impl Lock {
    pub(crate) fn take(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Self, Error> {
        let path = dir.join("lock");
        let replaced = path.exists();
        match fs.lock(&path) {
            Ok(held) => Ok(Self {
                fs: Arc::clone(fs),
                path,
                _held: held,
                replaced,
            }),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Err(Error::Locked(dir.to_owned())),
            Err(e) => Err(Error::io("locking", &path)(e)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is still held, as Prometheus does.
        let _ = self.fs.remove_file(&self.path);
    }
}
