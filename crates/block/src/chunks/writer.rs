use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Encoding;

use super::{HEADER_LEN, MAGIC, MAX_FRAME, MAX_SEGMENT, VERSION};
use crate::BlockError;
use crate::disk::FileOut;
use crate::fs::{self, Fs, FsExt as _};
use crate::input::put_uvarint;

/// Writes chunks into segments, one after the other.
pub struct Writer {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    max_segment: u64,
    open: Option<FileOut>,
    /// Segments begun so far.
    segments: u64,
    frame: Vec<u8>,
    longest: u64,
}

impl Writer {
    /// Begins in the directory `dir`, which is created. Segments are at most `max_segment` bytes
    /// long (see [`MAX_SEGMENT`], which is the most); a single chunk longer than that makes one by
    /// itself.
    pub fn create(dir: &Path, max_segment: u64) -> Result<Self, BlockError> {
        Self::create_on(fs::os(), dir, max_segment)
    }

    /// Like [`Writer::create`], on any files.
    pub fn create_on(fs: Arc<dyn Fs>, dir: &Path, max_segment: u64) -> Result<Self, BlockError> {
        fs.create_dir_all(dir)
            .map_err(BlockError::io("creating", dir))?;
        Ok(Self {
            fs,
            dir: dir.to_owned(),
            max_segment: max_segment.min(MAX_SEGMENT),
            open: None,
            segments: 0,
            frame: Vec::new(),
            longest: 0,
        })
    }

    /// Writes a chunk; gives its reference.
    pub fn add(&mut self, encoding: Encoding, data: &[u8]) -> Result<u64, BlockError> {
        if data.len() as u64 > u32::MAX as u64 {
            return Err(BlockError::Invalid("a chunk of more than 4 GiB".into()));
        }
        let need = data.len() as u64 + MAX_FRAME;
        let full = |out: &FileOut| out.pos() > HEADER_LEN && out.pos() + need > self.max_segment;
        if self.open.as_ref().is_none_or(full) {
            self.cut()?;
        }
        let Some(out) = &mut self.open else {
            return Err(BlockError::Invalid("no segment is open".into()));
        };
        let reference = (self.segments - 1) << 32 | out.pos();
        self.frame.clear();
        put_uvarint(&mut self.frame, data.len() as u64);
        self.frame.push(encoding.0);
        out.write(&self.frame)?;
        out.write(data)?;
        let sum = crc32c::crc32c_append(crc32c::crc32c(&[encoding.0]), data);
        out.write(&sum.to_be_bytes())?;
        self.longest = self.longest.max((self.frame.len() + data.len() + 4) as u64);
        Ok(reference)
    }

    /// Bytes of the longest chunk so far, frame included.
    pub fn longest_chunk(&self) -> u64 {
        self.longest
    }

    fn cut(&mut self) -> Result<(), BlockError> {
        if let Some(done) = self.open.take() {
            done.finish()?;
        }
        self.segments += 1;
        let mut out = FileOut::create(&*self.fs, self.dir.join(format!("{:06}", self.segments)))?;
        out.write(&MAGIC.to_be_bytes())?;
        out.write(&[VERSION, 0, 0, 0])?;
        self.open = Some(out);
        Ok(())
    }

    /// Syncs everything.
    pub fn finish(mut self) -> Result<(), BlockError> {
        if let Some(done) = self.open.take() {
            done.finish()?;
        }
        self.fs
            .sync_dir(&self.dir)
            .map_err(BlockError::io("syncing", &self.dir))
    }
}
