//! Writing so that it is still there after the power has failed.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::BlockError;

/// Makes what happened to the names in a directory last.
pub fn sync_dir(dir: &Path) -> Result<(), BlockError> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(BlockError::io("syncing", dir))
}

/// Writes a file as `<name>.tmp`, syncs it, renames it into place and syncs the directory: it is
/// either the old file or the new one, never a part.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), BlockError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let tmp = path.with_file_name(name);
    let write = || -> io::Result<()> {
        let mut file = File::create(&tmp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&tmp, path)
    };
    if let Err(e) = write() {
        // The error that matters is the first one.
        let _ = fs::remove_file(&tmp);
        return Err(BlockError::io("writing", path)(e));
    }
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => sync_dir(dir),
        _ => sync_dir(Path::new(".")),
    }
}

/// A file that grows at its end, with its position known and its last bytes buffered.
#[derive(Debug)]
pub(crate) struct FileOut {
    path: PathBuf,
    file: File,
    buf: Vec<u8>,
    pos: u64,
}

const BUFFER: usize = 1 << 18;

impl FileOut {
    pub(crate) fn create(path: PathBuf) -> Result<Self, BlockError> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
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
                    .write_all(bytes)
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
        self.file
            .write_all(&self.buf)
            .map_err(BlockError::io("writing", &self.path))?;
        self.buf.clear();
        Ok(())
    }

    /// The file, to read back what was flushed.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Flushes and syncs.
    pub(crate) fn finish(mut self) -> Result<u64, BlockError> {
        self.flush()?;
        self.file
            .sync_all()
            .map_err(BlockError::io("syncing", &self.path))?;
        Ok(self.pos)
    }
}
