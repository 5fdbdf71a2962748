use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Cursor, Scope, Select, TimeRange};

use crate::chunks::{self, Segments};
use crate::read_at::{FileAt, ReadAt, map_file};
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

/// How a block's files are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// With `pread`: an I/O error is an error.
    #[default]
    Read,
    /// Mapped into memory: only for blocks that this process wrote.
    Map,
}

impl Block {
    /// Opens the block in the directory `dir`: its meta, index and segment headers are checked.
    pub fn open(dir: &Path) -> Result<Self, BlockError> {
        Self::open_with(dir, Access::Read)
    }

    /// Opens the block in the directory `dir`.
    pub fn open_with(dir: &Path, access: Access) -> Result<Self, BlockError> {
        let meta = Meta::read(dir)?;
        let path = dir.join(index::FILE);
        let io = BlockError::io("opening", &path);
        let index: Arc<dyn ReadAt> = match access {
            Access::Read => Arc::new(FileAt::open(&path).map_err(io)?),
            Access::Map => Arc::new(map_file(&path).map_err(io)?),
        };
        let segments = Segments::open(&dir.join(chunks::DIR), access == Access::Map)?;
        let tombstones = Tombstones::read(dir)?;
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
