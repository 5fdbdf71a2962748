use std::path::Path;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};

use super::series::{self, ChunkMeta, Entry};
use super::table::put_entry;
use super::{HEADER_LEN, MAGIC, Toc};
use crate::BlockError;
use crate::disk::FileOut;
use crate::fs::{Fs, OsFs};
use crate::input::{crc, put_prefixed, put_uvarint};
use crate::read_at::{FileAt, ReadAt as _};

/// So many postings are sorted in memory at once; names with more than that get a pass over the
/// series of their own.
const MAX_SORTED: usize = 16 << 20;

/// The symbols of an index to be, ascending and unique, with their ordinals.
#[derive(Clone, Debug, Default)]
pub struct SymbolSet {
    /// All strings, one after the other.
    text: String,
    /// Where each ends.
    ends: Vec<usize>,
}

impl SymbolSet {
    /// From strings in any order, with repetitions.
    pub fn collect<'a>(strings: impl IntoIterator<Item = &'a str>) -> Self {
        let unique: HashSet<&str> = strings.into_iter().collect();
        let mut sorted: Vec<&str> = unique.into_iter().collect();
        sorted.sort_unstable();
        let mut set = Self::default();
        for s in sorted {
            set.add(s);
        }
        set
    }

    /// Adds a string that comes after all that are there.
    pub fn push(&mut self, s: &str) -> Result<(), BlockError> {
        if let Some(last) = self.len().checked_sub(1)
            && self.get(last) >= s
        {
            return Err(BlockError::Invalid(format!(
                "symbol {s:?} does not come after {:?}",
                self.get(last)
            )));
        }
        self.add(s);
        Ok(())
    }

    fn add(&mut self, s: &str) {
        self.text.push_str(s);
        self.ends.push(self.text.len());
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.ends.len() as u32
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string with this ordinal; the empty string if there is none.
    pub fn get(&self, ordinal: u32) -> &str {
        let i = ordinal as usize;
        let start = match i.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or(0),
            None => 0,
        };
        let end = self.ends.get(i).copied().unwrap_or(start);
        self.text.get(start..end).unwrap_or("")
    }

    /// The ordinal of a string.
    pub fn find(&self, s: &str) -> Option<u32> {
        let mut low = 0;
        let mut high = self.len();
        while low < high {
            let mid = low + (high - low) / 2;
            match self.get(mid).cmp(s) {
                std::cmp::Ordering::Equal => return Some(mid),
                std::cmp::Ordering::Less => low = mid + 1,
                std::cmp::Ordering::Greater => high = mid,
            }
        }
        None
    }

    /// The strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|i| self.get(i))
    }
}

/// Writes an index, series after series in the order of their labels.
///
/// Memory: the symbols, four bytes a series, and while postings are written as much as
/// [`MAX_SORTED`] postings (or those of one label name) take, at eight bytes each. The postings
/// are made of the series already written, read back once for as many names as fit.
pub struct Writer {
    out: FileOut,
    toc: Toc,
    symbols: SymbolSet,
    ids: Vec<u32>,
    /// How many series have each label name, by its ordinal.
    names: HashMap<u32, u64>,
    last: Vec<(u32, u32)>,
    body: Vec<u8>,
    longest: u64,
}

impl Writer {
    /// Begins an index at `path` with these symbols.
    pub fn create(path: &Path, symbols: SymbolSet) -> Result<Self, BlockError> {
        Self::create_on(&OsFs, path, symbols)
    }

    /// Like [`Writer::create`], on any files.
    pub fn create_on(fs: &dyn Fs, path: &Path, symbols: SymbolSet) -> Result<Self, BlockError> {
        let mut out = FileOut::create(fs, path.to_owned())?;
        out.write(&MAGIC.to_be_bytes())?;
        out.write(&[2])?;
        let mut toc = Toc {
            symbols: HEADER_LEN,
            ..Toc::default()
        };
        let mut content = symbols.len().to_be_bytes().to_vec();
        for s in symbols.iter() {
            put_prefixed(&mut content, s.as_bytes());
        }
        write_section(&mut out, &content)?;
        out.pad(16)?;
        toc.series = out.pos();
        Ok(Self {
            out,
            toc,
            symbols,
            ids: Vec::new(),
            names: HashMap::new(),
            last: Vec::new(),
            body: Vec::new(),
            longest: 0,
        })
    }

    /// The symbols it was created with.
    pub fn symbols(&self) -> &SymbolSet {
        &self.symbols
    }

    /// Adds a series: its labels as ordinals, ascending by name; after the labels of the series
    /// before. Its chunks ascend by (min, max).
    pub fn add(&mut self, labels: &[(u32, u32)], chunks: &[ChunkMeta]) -> Result<(), BlockError> {
        let count = self.symbols.len();
        if labels.iter().any(|l| l.0 >= count || l.1 >= count) {
            return Err(BlockError::Invalid("a series has an unknown symbol".into()));
        }
        // Ordinals ascend as the strings do.
        if !labels.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(BlockError::Invalid(format!(
                "labels of {} are not in order",
                self.text(labels)
            )));
        }
        if !self.ids.is_empty() && labels <= self.last.as_slice() {
            return Err(BlockError::Invalid(format!(
                "series {} does not come after {}",
                self.text(labels),
                self.text(&self.last)
            )));
        }
        self.out.pad(16)?;
        let id = u32::try_from(self.out.pos() / 16)
            .map_err(|_| BlockError::Invalid("an index cannot be longer than 64 GiB".into()))?;
        self.body.clear();
        series::encode(labels, chunks, &mut self.body);
        let mut head = Vec::with_capacity(10);
        put_uvarint(&mut head, self.body.len() as u64);
        self.out.write(&head)?;
        self.out.write(&self.body)?;
        self.out.write(&crc(&self.body).to_be_bytes())?;
        self.longest = self.longest.max((head.len() + self.body.len() + 4) as u64);
        self.ids.push(id);
        for (name, _) in labels {
            *self.names.entry(*name).or_default() += 1;
        }
        self.last.clear();
        self.last.extend_from_slice(labels);
        Ok(())
    }

    fn text(&self, labels: &[(u32, u32)]) -> String {
        let pairs: Vec<String> = labels
            .iter()
            .map(|(n, v)| format!("{}={:?}", self.symbols.get(*n), self.symbols.get(*v)))
            .collect();
        format!("{{{}}}", pairs.join(", "))
    }

    /// How many series were added.
    pub fn series(&self) -> u64 {
        self.ids.len() as u64
    }

    /// Bytes of the longest series entry so far.
    pub fn longest_series(&self) -> u64 {
        self.longest
    }

    /// Writes postings, their table and the table of contents; syncs. Gives the file's length.
    pub fn finish(mut self) -> Result<u64, BlockError> {
        let series_end = self.out.pos();
        // Nobody writes label indices any more: their places just point on.
        self.toc.label_indices = series_end;
        self.out.pad(4)?;
        self.toc.postings = self.out.pos();
        let mut table = Vec::new();
        let mut entries = 1u32;
        let ids = std::mem::take(&mut self.ids);
        put_entry(&mut table, "", "", self.out.pos());
        self.postings(&ids)?;

        let mut names: Vec<(u32, u64)> = self.names.iter().map(|(n, c)| (*n, *c)).collect();
        names.sort_unstable();
        let mut rest = names.as_slice();
        while !rest.is_empty() {
            let mut total = 0;
            let fits = rest
                .iter()
                .take_while(|(_, count)| {
                    total += *count as usize;
                    total <= MAX_SORTED
                })
                .count()
                .max(1);
            let (now, later) = rest.split_at(fits);
            rest = later;
            let mut lists = self.collect(&ids, series_end, now)?;
            for (name, list) in &mut lists {
                list.sort_unstable();
                for of_value in list.chunk_by(|a, b| a >> 32 == b >> 32) {
                    let Some(first) = of_value.first() else {
                        continue;
                    };
                    self.out.pad(4)?;
                    let value = self.symbols.get((first >> 32) as u32);
                    put_entry(&mut table, self.symbols.get(*name), value, self.out.pos());
                    entries = entries.checked_add(1).ok_or_else(too_many)?;
                    let ids: Vec<u32> = of_value.iter().map(|p| *p as u32).collect();
                    self.postings(&ids)?;
                }
            }
        }
        self.out.pad(4)?;
        self.toc.label_offset_table = self.out.pos();
        self.toc.postings_table = self.out.pos();
        let mut content = entries.to_be_bytes().to_vec();
        content.append(&mut table);
        write_section(&mut self.out, &content)?;
        let toc = self.toc.encode();
        self.out.write(&toc)?;
        self.out.finish()
    }

    fn postings(&mut self, ids: &[u32]) -> Result<(), BlockError> {
        let mut content = Vec::with_capacity(4 + ids.len() * 4);
        content.extend_from_slice(&(ids.len() as u32).to_be_bytes());
        for id in ids {
            content.extend_from_slice(&id.to_be_bytes());
        }
        write_section(&mut self.out, &content)
    }

    /// Reads the series back and collects (value, id) for each of the names.
    fn collect(
        &mut self,
        ids: &[u32],
        series_end: u64,
        names: &[(u32, u64)],
    ) -> Result<Vec<(u32, Vec<u64>)>, BlockError> {
        self.out.flush()?;
        let mut lists: Vec<(u32, Vec<u64>)> = names
            .iter()
            .map(|(name, count)| (*name, Vec::with_capacity(*count as usize)))
            .collect();
        // The names of one pass are neighbours in the order of all names, but not their ordinals.
        let (Some(first), Some(last)) = (names.first(), names.last()) else {
            return Ok(lists);
        };
        let path = self.out.path();
        let mut back = ReadBack {
            file: FileAt::open(path).map_err(BlockError::io("reading back", path))?,
            path,
            end: series_end,
            start: 0,
            window: Bytes::new(),
        };
        let mut labels = Vec::new();
        for &id in ids {
            labels.clear();
            let body = back.body(id as u64 * 16)?;
            series::decode_only_labels(body, &mut labels)?;
            for &(name, value) in &labels {
                if !(first.0..=last.0).contains(&name) {
                    continue;
                }
                if let Ok(at) = lists.binary_search_by_key(&name, |l| l.0) {
                    lists[at].1.push((value as u64) << 32 | id as u64);
                }
            }
        }
        Ok(lists)
    }
}

fn too_many() -> BlockError {
    BlockError::Invalid("an index cannot have more than 2^32 label pairs".into())
}

/// `u32 len | content | u32 CRC`
fn write_section(out: &mut FileOut, content: &[u8]) -> Result<(), BlockError> {
    let len = u32::try_from(content.len()).map_err(|_| {
        BlockError::Invalid("a section of an index cannot be longer than 4 GiB".into())
    })?;
    out.write(&len.to_be_bytes())?;
    out.write(content)?;
    out.write(&crc(content).to_be_bytes())
}

/// Reads what was written, in ascending order.
struct ReadBack<'a> {
    file: FileAt,
    path: &'a Path,
    end: u64,
    start: u64,
    window: Bytes,
}

impl ReadBack<'_> {
    fn body(&mut self, at: u64) -> Result<&[u8], BlockError> {
        let mut size = 1 << 20;
        loop {
            let skip = at.wrapping_sub(self.start) as usize;
            let complete = match self.window.get(skip..) {
                Some(bytes) if !bytes.is_empty() => {
                    matches!(series::entry(bytes)?, Entry::Complete(..))
                }
                _ => false,
            };
            if complete {
                break;
            }
            if self.start == at && self.window.len() as u64 >= self.end - at {
                return Err(BlockError::corrupt(
                    "index: the series written are not there",
                ));
            }
            let len = size.min((self.end - at) as usize);
            size *= 4;
            self.window = self
                .file
                .read_at(at, len)
                .map_err(BlockError::io("reading back", self.path))?;
            self.start = at;
        }
        match series::entry(&self.window[(at - self.start) as usize..])? {
            Entry::Complete(body, _) => Ok(body),
            Entry::Needs(_) => Err(BlockError::corrupt(
                "index: the series written are not there",
            )),
        }
    }
}
