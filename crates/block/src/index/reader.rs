use std::sync::Arc;

use bytes::Bytes;
use model::TimeRange;

use super::series::{self, ChunkMeta, Entry};
use super::{PostingsAt, PostingsTable, SymbolTable, Toc, Version};
use crate::BlockError;
use crate::postings::Index;
use crate::read_at::{ReadAt, Span, coalesce};

/// An opened index: symbols and the postings offset table in memory, everything else read where it
/// lies.
pub struct Reader {
    file: Arc<dyn ReadAt>,
    whole: Option<Bytes>,
    version: Version,
    toc: Toc,
    symbols: SymbolTable,
    table: PostingsTable,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("len", &self.file.len())
            .field("version", &self.version)
            .field("toc", &self.toc)
            .finish_non_exhaustive()
    }
}

/// Series entries are read in pieces of so many bytes at most,
const WINDOW: u64 = 256 << 10;
/// over holes of so many bytes at most,
const GAP: u64 = 8 << 10;
/// with so many bytes for an entry whose length is not known.
const GUESS: u64 = 512;

impl Reader {
    /// Reads and checks table of contents, symbols and postings offset table.
    pub fn open(file: Arc<dyn ReadAt>) -> Result<Self, BlockError> {
        let len = file.len();
        if len < super::HEADER_LEN + Toc::LEN {
            return Err(BlockError::corrupt(format!("index of {len} bytes")));
        }
        let read = |offset: u64, len: u64| {
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            file.read_at(offset, len)
                .map_err(BlockError::reading("index"))
        };
        let version = Version::decode(&read(0, super::HEADER_LEN)?)?;
        let toc_at = len - Toc::LEN;
        let toc = Toc::decode(&read(toc_at, Toc::LEN)?, len)?;
        let section = |offset: u64| -> Result<Bytes, BlockError> {
            // The length comes first; nothing is taken for one that the file cannot hold.
            let head = read(offset, 4)?;
            let len = head
                .first_chunk::<4>()
                .map_or(0, |b| u32::from_be_bytes(*b));
            read(offset, len as u64 + 8)
        };
        let symbols = SymbolTable::decode(&section(toc.symbols)?, version, toc.symbols)?;
        let table = PostingsTable::decode(&section(toc.postings_table)?, toc.postings_table)?;
        Ok(Self {
            whole: file.whole(),
            file,
            version,
            toc,
            symbols,
            table,
        })
    }

    /// Its format version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where its sections are.
    pub fn toc(&self) -> &Toc {
        &self.toc
    }

    /// Its symbols.
    pub fn symbols(&self) -> &SymbolTable {
        &self.symbols
    }

    /// Its label names and values.
    pub fn table(&self) -> &PostingsTable {
        &self.table
    }

    /// How many bytes it has.
    pub fn len(&self) -> u64 {
        self.file.len()
    }

    /// Never true: an index has a header.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory it holds.
    pub fn memory(&self) -> usize {
        self.symbols.size() + self.table.size()
    }

    /// The ids of all series, ascending: the order of their labels.
    pub fn all_series(&self) -> Result<Vec<u32>, BlockError> {
        let mut ids = Vec::new();
        if let Some(at) = self.table.all() {
            self.postings(&[at], &mut |list| ids.extend_from_slice(list))?;
        }
        Ok(ids)
    }

    /// Reads series entries one after the other.
    pub fn series(&self) -> SeriesReader<'_> {
        SeriesReader {
            reader: self,
            start: 0,
            window: Bytes::new(),
        }
    }

    fn read(&self, span: Span) -> Result<Bytes, BlockError> {
        let len = usize::try_from(span.len).unwrap_or(usize::MAX);
        self.file
            .read_at(span.offset, len)
            .map_err(BlockError::reading("index"))
    }

    /// What can be read of `len` bytes at `offset`: the file may end before.
    fn read_up_to(&self, offset: u64, len: u64) -> Result<Bytes, BlockError> {
        let len = len.min(self.file.len().saturating_sub(offset));
        self.read(Span { offset, len })
    }
}

/// Reads series entries; best in ascending order of their ids.
pub struct SeriesReader<'a> {
    reader: &'a Reader,
    start: u64,
    window: Bytes,
}

impl SeriesReader<'_> {
    /// The body of series `id`. `upcoming` are the ids that will be asked for next, ascending, so
    /// that they are read together.
    pub fn body(&mut self, id: u32, upcoming: &[u32]) -> Result<&[u8], BlockError> {
        let at = self.reader.version.series_offset(id);
        if at < super::HEADER_LEN || at >= self.reader.file.len() {
            return Err(BlockError::corrupt(format!(
                "index: series {id} lies outside the index"
            )));
        }
        if let Some(whole) = &self.reader.whole {
            let bytes = whole.get(at as usize..).unwrap_or_default();
            return match series::entry(bytes)? {
                Entry::Complete(body, _) => Ok(body),
                Entry::Needs(_) => Err(BlockError::corrupt("index: a series is truncated")),
            };
        }
        let mut need = match self.inside(at)? {
            Entry::Complete(..) => 0,
            Entry::Needs(n) => n as u64,
        };
        if need > 0 {
            self.load(at, upcoming)?;
            // At most twice: once to learn the length, once to have all of it.
            while let Entry::Needs(n) = self.inside(at)? {
                if n as u64 <= need && self.window.len() as u64 >= need {
                    return Err(BlockError::corrupt("index: a series is truncated"));
                }
                need = n as u64;
                self.start = at;
                self.window = self.reader.read_up_to(at, need)?;
                if (self.window.len() as u64) < need && self.window.len() < 16 {
                    return Err(BlockError::corrupt("index: a series is truncated"));
                }
                if (self.window.len() as u64) < need {
                    return match self.inside(at)? {
                        Entry::Complete(..) => self.done(at),
                        Entry::Needs(_) => Err(BlockError::corrupt("index: a series is truncated")),
                    };
                }
            }
        }
        self.done(at)
    }

    fn done(&self, at: u64) -> Result<&[u8], BlockError> {
        match self.inside(at)? {
            Entry::Complete(body, _) => Ok(body),
            Entry::Needs(_) => Err(BlockError::corrupt("index: a series is truncated")),
        }
    }

    /// The entry at `at`, as far as the window holds it.
    fn inside(&self, at: u64) -> Result<Entry<'_>, BlockError> {
        let bytes = at
            .checked_sub(self.start)
            .and_then(|skip| self.window.get(usize::try_from(skip).ok()?..));
        match bytes {
            Some(bytes) if !bytes.is_empty() => series::entry(bytes),
            _ => Ok(Entry::Needs(1)),
        }
    }

    /// Reads a window that begins at `at` and holds as many of the upcoming entries as lie close.
    fn load(&mut self, at: u64, upcoming: &[u32]) -> Result<(), BlockError> {
        let mut end = at + GUESS;
        for &id in upcoming {
            let next = self.reader.version.series_offset(id);
            if next < at || next > end + GAP || next + GUESS > at + WINDOW {
                break;
            }
            end = next + GUESS;
        }
        self.start = at;
        self.window = self.reader.read_up_to(at, end - at)?;
        Ok(())
    }

    /// Reads the labels of series `id` into `labels` and its chunks in `range` into `chunks`; both
    /// are added to. Labels are ordinals of symbols.
    pub fn decode(
        &mut self,
        id: u32,
        upcoming: &[u32],
        range: TimeRange,
        labels: &mut Vec<(u32, u32)>,
        chunks: &mut Vec<ChunkMeta>,
    ) -> Result<(), BlockError> {
        let start = labels.len();
        let body = self.body(id, upcoming)?;
        series::decode(body, range, labels, chunks)?;
        self.ordinals(&mut labels[start..])
    }

    /// Reads only the labels of series `id`, as ordinals of symbols, into `labels`.
    pub fn labels(
        &mut self,
        id: u32,
        upcoming: &[u32],
        labels: &mut Vec<(u32, u32)>,
    ) -> Result<(), BlockError> {
        let start = labels.len();
        let body = self.body(id, upcoming)?;
        series::decode_only_labels(body, labels)?;
        self.ordinals(&mut labels[start..])
    }

    fn ordinals(&self, labels: &mut [(u32, u32)]) -> Result<(), BlockError> {
        let symbols = &self.reader.symbols;
        let mut all = true;
        for pair in labels {
            match (symbols.ordinal(pair.0), symbols.ordinal(pair.1)) {
                (Some(name), Some(value)) => *pair = (name, value),
                _ => all = false,
            }
        }
        if !all {
            return Err(BlockError::corrupt("index: a series has an unknown symbol"));
        }
        Ok(())
    }
}

impl Index for Reader {
    type Key = PostingsAt;
    type Error = BlockError;

    fn all(&self) -> Result<Vec<u32>, BlockError> {
        self.all_series()
    }

    fn find(&self, name: &str, value: &str) -> Result<Option<PostingsAt>, BlockError> {
        Ok(self.table.find(name, value))
    }

    fn values(
        &self,
        name: &str,
        prefix: &str,
        each: &mut dyn FnMut(&str, PostingsAt),
    ) -> Result<(), BlockError> {
        for (value, at) in self.table.values(name, prefix) {
            each(value, at);
        }
        Ok(())
    }

    fn postings(
        &self,
        keys: &[PostingsAt],
        each: &mut dyn FnMut(&[u32]),
    ) -> Result<(), BlockError> {
        let mut ids = Vec::new();
        let mut decode = |bytes: &[u8]| -> Result<(), BlockError> {
            ids.clear();
            super::decode_postings(bytes, &mut ids)?;
            each(&ids);
            Ok(())
        };
        if let Some(whole) = &self.whole {
            for at in keys {
                let offset = usize::try_from(at.offset).unwrap_or(usize::MAX);
                decode(whole.get(offset..).unwrap_or_default())?;
            }
            return Ok(());
        }
        let guess = |at: &PostingsAt| Span {
            offset: at.offset,
            len: match at.end.checked_sub(at.offset) {
                Some(len) if at.end <= self.file.len() => len,
                _ => GUESS,
            },
        };
        let mut next = 0;
        coalesce(keys.iter().map(guess), GAP, WINDOW, |span, count| {
            let read = self.read_up_to(span.offset, span.len)?;
            for at in &keys[next..next + count] {
                let bytes = read
                    .get((at.offset - span.offset) as usize..)
                    .unwrap_or_default();
                let need = match bytes.first_chunk::<4>() {
                    Some(len) => u32::from_be_bytes(*len) as u64 + 8,
                    None => 8,
                };
                if bytes.len() as u64 >= need {
                    decode(bytes)?;
                } else {
                    // The table did not know its length.
                    let len = need.max(8);
                    decode(&self.read(Span {
                        offset: at.offset,
                        len,
                    })?)?;
                }
            }
            next += count;
            Ok(())
        })
    }
}
