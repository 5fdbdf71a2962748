use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Encoding, Labels, Millis};

use crate::fs::{self, Fs, FsExt as _};
use crate::index::{ChunkMeta, SymbolSet};
use crate::meta::{IndexStats, Stats};
use crate::{BlockError, Meta, Tombstones, chunks, index};

/// What the name of a directory ends with while a block is written into it.
pub const TMP_FOR_CREATION: &str = ".tmp-for-creation";

/// A chunk to write.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// First timestamp, ms.
    pub min: Millis,
    /// Last timestamp, ms.
    pub max: Millis,
    /// How the data is encoded.
    pub encoding: Encoding,
    /// The encoded samples.
    pub data: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// A chunk of floats in Prometheus' XOR encoding, from `min` to `max` ms.
    pub fn xor(min: Millis, max: Millis, data: &'a [u8]) -> Self {
        Self {
            min,
            max,
            encoding: Encoding::XOR,
            data,
        }
    }
}

impl<'a> From<&'a chunk::EncodedChunk> for Chunk<'a> {
    fn from(chunk: &'a chunk::EncodedChunk) -> Self {
        Self {
            min: chunk.range.min,
            max: chunk.range.max,
            encoding: chunk.encoding,
            data: &chunk.data,
        }
    }
}

/// Writes a block: series by series in the order of their labels, into `<ulid>.tmp-for-creation`,
/// which becomes `<ulid>` once everything is on disk. Dropped before that, it leaves nothing.
pub struct Writer {
    fs: Arc<dyn Fs>,
    parent: PathBuf,
    tmp: PathBuf,
    meta: Meta,
    stats: Stats,
    /// Taken when finishing.
    files: Option<Files>,
    placed: Vec<ChunkMeta>,
    ordinals: Vec<(u32, u32)>,
    done: bool,
}

struct Files {
    chunks: chunks::Writer,
    index: index::Writer,
}

impl Writer {
    /// Begins a block in the directory `parent`. `meta` says its name, time and origin; its
    /// statistics are counted here. `symbols` are all label names and values that will come (and
    /// may be more).
    pub fn create(parent: &Path, meta: Meta, symbols: SymbolSet) -> Result<Self, BlockError> {
        Self::create_on(fs::os(), parent, meta, symbols)
    }

    /// Like [`Writer::create`], on any files.
    pub fn create_on(
        fs: Arc<dyn Fs>,
        parent: &Path,
        meta: Meta,
        symbols: SymbolSet,
    ) -> Result<Self, BlockError> {
        Self::begin(fs, parent, meta, symbols, chunks::MAX_SEGMENT)
    }

    /// Like [`Writer::create`], with chunk segments of at most `max_segment` bytes.
    pub fn with_segments(
        parent: &Path,
        meta: Meta,
        symbols: SymbolSet,
        max_segment: u64,
    ) -> Result<Self, BlockError> {
        Self::begin(fs::os(), parent, meta, symbols, max_segment)
    }

    fn begin(
        fs: Arc<dyn Fs>,
        parent: &Path,
        meta: Meta,
        symbols: SymbolSet,
        max_segment: u64,
    ) -> Result<Self, BlockError> {
        let tmp = parent.join(format!("{}{TMP_FOR_CREATION}", meta.ulid));
        fs.remove_dir_all(&tmp)
            .map_err(BlockError::io("removing", &tmp))?;
        fs.create_dir_all(parent)
            .and_then(|()| fs.create_dir(&tmp))
            .map_err(BlockError::io("creating", &tmp))?;
        let mut writer = Self {
            fs,
            parent: parent.to_owned(),
            tmp,
            meta,
            stats: Stats::default(),
            files: None,
            placed: Vec::new(),
            ordinals: Vec::new(),
            done: false,
        };
        // From here on dropping it cleans up.
        writer.files = Some(Files {
            chunks: chunks::Writer::create_on(
                Arc::clone(&writer.fs),
                &writer.tmp.join(chunks::DIR),
                max_segment,
            )?,
            index: index::Writer::create_on(&*writer.fs, &writer.tmp.join(index::FILE), symbols)?,
        });
        Ok(writer)
    }

    fn files(&mut self) -> Result<&mut Files, BlockError> {
        self.files
            .as_mut()
            .ok_or_else(|| BlockError::Invalid("the block is finished".into()))
    }

    /// The symbols it was created with, to translate labels into ordinals.
    pub fn symbols(&self) -> Option<&SymbolSet> {
        self.files.as_ref().map(|f| f.index.symbols())
    }

    /// Adds a series: labels as ordinals of the symbols, ascending by name, and its chunks,
    /// ascending by time. Series ascend by labels. A series without chunks is left out.
    pub fn add(&mut self, labels: &[(u32, u32)], chunks: &[Chunk<'_>]) -> Result<(), BlockError> {
        if chunks.is_empty() {
            return Ok(());
        }
        let mut placed = std::mem::take(&mut self.placed);
        placed.clear();
        let mut stats = self.stats;
        let files = self.files()?;
        for chunk in chunks {
            let samples = chunk::sample_count(chunk.encoding, chunk.data)? as u64;
            stats.num_samples += samples;
            match chunk.encoding {
                Encoding::XOR | Encoding::XOR2 => stats.num_float_samples += samples,
                Encoding::AGGREGATE => {}
                _ => stats.num_histogram_samples += samples,
            }
            placed.push(ChunkMeta {
                min: chunk.min,
                max: chunk.max,
                reference: files.chunks.add(chunk.encoding, chunk.data)?,
            });
        }
        files.index.add(labels, &placed)?;
        stats.num_chunks += chunks.len() as u64;
        stats.num_series += 1;
        self.placed = placed;
        self.stats = stats;
        Ok(())
    }

    /// Like [`Writer::add`], with the labels as a set whose strings are among the symbols.
    pub fn add_labels(&mut self, labels: &Labels, chunks: &[Chunk<'_>]) -> Result<(), BlockError> {
        let mut ordinals = std::mem::take(&mut self.ordinals);
        ordinals.clear();
        let symbols = self.files()?.index.symbols();
        for (name, value) in labels {
            match (symbols.find(name), symbols.find(value)) {
                (Some(name), Some(value)) => ordinals.push((name, value)),
                _ => {
                    return Err(BlockError::Invalid(format!(
                        "series {labels} has a label that is not among the symbols"
                    )));
                }
            }
        }
        let added = self.add(&ordinals, chunks);
        self.ordinals = ordinals;
        added
    }

    /// How much was added so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Puts the block into place and gives its meta. Without a single series there is no block.
    pub fn finish(mut self) -> Result<Option<Meta>, BlockError> {
        let Some(files) = self.files.take() else {
            return Err(BlockError::Invalid("the block is finished".into()));
        };
        if self.stats.num_series == 0 {
            return Ok(None);
        }
        self.meta.stats = self.stats;
        if let Some(thanos) = &mut self.meta.thanos {
            thanos.index_stats = IndexStats {
                series_max_size: files.index.longest_series(),
                chunk_max_size: files.chunks.longest_chunk(),
            };
        }
        files.chunks.finish()?;
        files.index.finish()?;
        Tombstones::new().write_on(&*self.fs, &self.tmp)?;
        // Puts all names of the folder on the disk, too.
        self.meta.write_on(&*self.fs, &self.tmp)?;
        let dir = self.parent.join(self.meta.ulid.to_string());
        self.fs
            .rename(&self.tmp, &dir)
            .map_err(BlockError::io("renaming into place", &dir))?;
        if let Err(e) = self.fs.sync_dir(&self.parent) {
            // Whoever asked will write it again: this one must not be there as well.
            self.done = self.fs.rename(&dir, &self.tmp).is_err();
            return Err(BlockError::io("syncing", &self.parent)(e));
        }
        self.done = true;
        Ok(Some(self.meta.clone()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.done {
            // Close the files first. What cannot be removed is removed at the next start.
            self.files = None;
            let _ = self.fs.remove_dir_all(&self.tmp);
        }
    }
}
