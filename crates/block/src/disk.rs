//! Writing files of a block.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::BlockError;
use crate::fs::{Fs, FsExt as _, LogFile, OsFs};

/// Writes a file of the operating system: it is either the old one or the new one, never a part
/// ([`FsExt::replace`](crate::fs::FsExt::replace)).
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), BlockError> {
    OsFs.replace(path, bytes)
        .map_err(BlockError::io("writing", path))
}

/// A file that grows at its end, with its position known and its last bytes buffered.
pub(crate) struct FileOut {
    path: PathBuf,
    file: Arc<dyn LogFile>,
    buf: Vec<u8>,
    pos: u64,
}

const BUFFER: usize = 1 << 18;

impl FileOut {
    pub(crate) fn create(fs: &dyn Fs, path: PathBuf) -> Result<Self, BlockError> {
        let file = fs
            .create_anew(&path)
            .map_err(BlockError::io("creating", &path))?;
        Ok(Self {
            path,
            file,
            buf: Vec::with_capacity(BUFFER),
            pos: 0,
        })
    }

    /// How many bytes were written.
    pub(crate) fn pos(&self) -> u64 {
        self.pos
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), BlockError> {
        self.pos += bytes.len() as u64;
        if self.buf.len() + bytes.len() > BUFFER {
            self.flush()?;
            if bytes.len() >= BUFFER {
                return self
                    .file
                    .append(bytes)
                    .map_err(BlockError::io("writing", &self.path));
            }
        }
        self.buf.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes zeros up to the next multiple of `align`.
    pub(crate) fn pad(&mut self, align: u64) -> Result<(), BlockError> {
        let zeros = (self.pos.next_multiple_of(align) - self.pos) as usize;
        self.write(&[0; 16][..zeros.min(16)])
    }

    pub(crate) fn flush(&mut self) -> Result<(), BlockError> {
        if self.buf.is_empty() {
            return Ok(());
        }
        self.file
            .append(&self.buf)
            .map_err(BlockError::io("writing", &self.path))?;
        self.buf.clear();
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Flushes and syncs.
    pub(crate) fn finish(mut self) -> Result<u64, BlockError> {
        self.flush()?;
        self.file
            .sync()
            .map_err(BlockError::io("syncing", &self.path))?;
        Ok(self.pos)
    }
}
