use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Cursor, Scope, Select, TimeRange};

use crate::chunks::{self, Segments};
use crate::fs::{Fs, OsFs};
use crate::read_at::ReadAt;
use crate::source::BlockSource;
use crate::{BlockError, Meta, Tombstones, index};

/// An opened block. Its files stay readable when its directory is removed.
#[derive(Debug)]
pub struct Block {
    dir: PathBuf,
    meta: Meta,
    index: index::Reader,
    segments: Segments,
    tombstones: Tombstones,
}

impl Block {
    /// Opens the block in the directory `dir`: its meta, index and segment headers are checked.
    pub fn open(dir: &Path) -> Result<Self, BlockError> {
        Self::open_on(&OsFs, dir)
    }

    /// Like [`Block::open`], on any files.
    pub fn open_on(fs: &dyn Fs, dir: &Path) -> Result<Self, BlockError> {
        let meta = Meta::read_on(fs, dir)?;
        let path = dir.join(index::FILE);
        let index = fs
            .open_at(&path)
            .map_err(BlockError::io("opening", &path))?;
        let segments = Segments::open(fs, &dir.join(chunks::DIR))?;
        let tombstones = Tombstones::read(fs, dir)?;
        let mut block = Self::from_parts(meta, index, segments, tombstones)?;
        block.dir = dir.to_owned();
        Ok(block)
    }

    /// A block whose parts come from anywhere.
    pub fn from_parts(
        meta: Meta,
        index: Arc<dyn ReadAt>,
        segments: Segments,
        tombstones: Tombstones,
    ) -> Result<Self, BlockError> {
        Ok(Self {
            dir: PathBuf::new(),
            meta,
            index: index::Reader::open(index)?,
            segments,
            tombstones,
        })
    }

    /// Its directory; empty if it has none.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it is.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The timestamps that can be in it.
    pub fn range(&self) -> TimeRange {
        self.meta.range()
    }

    /// Its index.
    pub fn index(&self) -> &index::Reader {
        &self.index
    }

    /// Its chunk segments.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// What was deleted of it.
    pub fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// Bytes of index and chunks, which is nearly all that it takes on disk.
    pub fn size(&self) -> u64 {
        self.index.len() + self.segments.size()
    }

    /// Bytes of memory that it holds while it is open.
    pub fn memory(&self) -> usize {
        self.index.memory()
    }

    /// The series that match, in the order asked for.
    pub fn select(self: &Arc<Self>, select: Select, scope: &Arc<Scope>) -> Box<dyn Cursor> {
        BlockSource::new(vec![Arc::clone(self)]).cursor(select, scope)
    }
}
