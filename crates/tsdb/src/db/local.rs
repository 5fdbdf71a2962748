//! A block in the data folder, opened for reading.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use block::chunks;
use block::index::{self, ChunkMeta};
use block::postings::{self, Until};
use block::read_at::{Span, coalesce};
use block::tombstones::{Touch, touch};
use block::{Block, BlockError, Meta};
use bytes::Bytes;
use hashbrown::HashSet;
use model::{ChunkRef, Encoding, Matcher, Scope, SeriesBatch, SourceError, TimeRange};
use ulid::Ulid;

use crate::Error;
use crate::fs::Fs;
use crate::rewrite::without;

/// Chunks this close together are read together,
const GAP: u64 = 16 << 10;
/// so many bytes at once,
const WINDOW: u64 = 1 << 20;
/// and so many when it is not known where a chunk ends.
const GUESS: u64 = 1 << 10;

pub(crate) struct LocalBlock {
    pub(crate) block: Arc<Block>,
    /// Bytes of its files.
    pub(crate) bytes: u64,
    /// Merging it has failed.
    failed: AtomicBool,
}

/// A chunk that a batch wants of a block, and where it is to be told.
pub(crate) struct Wanted {
    pub(crate) reference: u64,
    /// Place in the batch's chunks.
    pub(crate) chunk: u32,
    /// The series' number if some of it may be deleted.
    pub(crate) stoned: Option<u32>,
}

/// Chunks that come behind the one at a place of the batch.
pub(crate) type More = Vec<(u32, ChunkRef)>;

/// Puts chunks where they belong.
pub(crate) fn insert(mut more: More, batch: &mut SeriesBatch) {
    if more.is_empty() {
        return;
    }
    more.sort_by_key(|m| m.0);
    let old = std::mem::take(&mut batch.chunks);
    batch.chunks.reserve(old.len() + more.len());
    let mut more = more.into_iter().peekable();
    let mut series = batch.series.iter_mut().peekable();
    for (place, chunk) in (0u32..).zip(old) {
        batch.chunks.push(chunk);
        while let Some((_, chunk)) = more.next_if(|m| m.0 == place) {
            batch.chunks.push(chunk);
        }
        while let Some(one) = series.next_if(|s| s.chunks_end <= place + 1) {
            one.chunks_end = batch.chunks.len() as u32;
        }
    }
}

impl LocalBlock {
    pub(crate) fn open(fs: &dyn Fs, dir: &Path) -> Result<Self, Error> {
        let block = Block::open_on(fs, dir).map_err(|e| Error::block(dir, e))?;
        Ok(Self {
            bytes: size(dir)?,
            failed: AtomicBool::new(block.meta().compaction.failed),
            block: Arc::new(block),
        })
    }

    /// Whether merging it has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Merging it has failed.
    pub(crate) fn set_failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn dir(&self) -> &Path {
        self.block.dir()
    }

    pub(crate) fn meta(&self) -> &Meta {
        self.block.meta()
    }

    pub(crate) fn ulid(&self) -> Ulid {
        self.meta().ulid
    }

    pub(crate) fn index(&self) -> &index::Reader {
        self.block.index()
    }

    /// The series that satisfy the matchers, in the order of their labels.
    pub(crate) fn matching(&self, matchers: &[Matcher]) -> Result<Vec<u32>, BlockError> {
        postings::resolve(self.index(), matchers)
    }

    /// The same for a query, as long as it goes on.
    pub(crate) fn matching_for(
        &self,
        scope: &Scope,
        matchers: &[Matcher],
    ) -> Result<Vec<u32>, SourceError> {
        let index = self.index();
        let ids = postings::resolve(&Until { index, scope }, matchers)?;
        scope.check()?;
        Ok(ids)
    }

    /// The same if it takes little: few values are tried, and the lists are short.
    pub(crate) fn matching_at_once(&self, matchers: &[Matcher]) -> Option<Vec<u32>> {
        /// Values of a label to try with a pattern, and bytes of lists: some 50 microseconds.
        const VALUES: usize = 512;
        const LISTS: u64 = 128 << 10;
        let index = self.index();
        let tried = |m: &Matcher| match m.regex() {
            None => 1,
            Some(regex) => match regex.literals() {
                Some(literals) => literals.len(),
                None => index.table().value_count(&m.name),
            },
        };
        if matchers.iter().map(tried).sum::<usize>() > VALUES {
            return None;
        }
        let plan = postings::Plan::new(index, matchers).ok()?;
        // Where a list ends is not always known.
        let lists: u64 = plan
            .keys()
            .map(|k| k.end.max(k.offset + 1024) - k.offset)
            .sum();
        if plan.needs_all() || lists > LISTS {
            return None;
        }
        plan.run(index).ok()
    }

    /// About how many bytes of index and chunks are read for one series.
    pub(crate) fn bytes_of_series(&self, range: TimeRange) -> usize {
        // An entry of the index, and some of a chunk.
        const LEAST: usize = 384;
        let all = self.meta().range();
        let wanted = all.intersect(range);
        let share = (wanted.max - wanted.min) as f64 / ((all.max - all.min) as f64).max(1.0);
        let series = self.meta().stats.num_series.max(1) as f64;
        (self.bytes as f64 / series * share.clamp(0.0, 1.0)) as usize + LEAST
    }

    /// Calls `each` with the number, the labels (ordinals of symbols) and the chunks in `range` of
    /// those of `ids` that have any that is not deleted.
    pub(crate) fn entries(
        &self,
        ids: &[u32],
        range: TimeRange,
        mut each: impl FnMut(u32, &[(u32, u32)], &[ChunkMeta]) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let stones = self.block.tombstones();
        let mut series = self.index().series();
        let (mut labels, mut chunks) = (Vec::new(), Vec::new());
        for (i, &id) in ids.iter().enumerate() {
            labels.clear();
            chunks.clear();
            series.decode(id, &ids[i + 1..], range, &mut labels, &mut chunks)?;
            if !stones.is_empty() {
                let deleted = stones.of(id.into());
                chunks.retain(|c| touch(deleted, c.range()) != Touch::All);
            }
            if !chunks.is_empty() {
                each(id, &labels, &chunks)?;
            }
        }
        Ok(())
    }

    /// Whether some of a chunk may be deleted.
    pub(crate) fn is_stoned(&self, id: u32, range: TimeRange) -> bool {
        let stones = self.block.tombstones();
        !stones.is_empty() && touch(stones.of(id.into()), range) != Touch::Nothing
    }

    /// Reads chunks and tells the batch where they are; `more` gets those that one became. Gives how
    /// many bytes were read.
    pub(crate) fn read(
        &self,
        wanted: &mut [Wanted],
        batch: &mut SeriesBatch,
        more: &mut More,
    ) -> Result<u64, BlockError> {
        wanted.sort_unstable_by_key(|w| w.reference);
        let mut bytes_read = 0;
        for of_segment in wanted.chunk_by(|a, b| a.reference >> 32 == b.reference >> 32) {
            let Some(first) = of_segment.first() else {
                continue;
            };
            let segment = self
                .block
                .segments()
                .get(chunks::split(first.reference).0)?;
            let offset = |w: &Wanted| u64::from(chunks::split(w.reference).1);
            let spans = of_segment.iter().enumerate().map(|(i, w)| {
                let at = offset(w);
                let next = of_segment.get(i + 1).map_or(u64::MAX, offset);
                // Chunks that a query wants mostly lie side by side.
                let len = match next.saturating_sub(at) {
                    0 => GUESS,
                    gap if gap <= 4 * GUESS => gap,
                    _ => GUESS,
                };
                Span {
                    offset: at,
                    len: len.min(segment.len().saturating_sub(at)),
                }
            });
            let mut next = 0;
            coalesce(spans, GAP, WINDOW, |span, count| {
                let len = usize::try_from(span.len).unwrap_or(usize::MAX);
                let read = segment
                    .read_at(span.offset, len)
                    .map_err(|source| BlockError::Io {
                        what: format!("reading chunks of {}", self.dir().display()),
                        source,
                    })?;
                bytes_read += read.len() as u64;
                let buffer = batch.buffers.len() as u32;
                batch.buffers.push(read.clone());
                for w in &of_segment[next..next + count] {
                    let at = (offset(w) - span.offset) as usize;
                    match chunks::parse(read.get(at..).unwrap_or_default())? {
                        Ok(frame) => self.place(
                            batch,
                            w,
                            (buffer, at + frame.start, frame.len),
                            frame.encoding,
                            more,
                        )?,
                        Err(_) => {
                            // Longer than was guessed.
                            let (encoding, data) = self.block.segments().chunk(w.reference)?;
                            bytes_read += data.len() as u64;
                            let place = (batch.buffers.len() as u32, 0, data.len());
                            batch.buffers.push(data);
                            self.place(batch, w, place, encoding, more)?;
                        }
                    }
                }
                next += count;
                Ok::<(), BlockError>(())
            })?;
        }
        Ok(bytes_read)
    }

    fn place(
        &self,
        batch: &mut SeriesBatch,
        wanted: &Wanted,
        (buffer, offset, len): (u32, usize, usize),
        encoding: Encoding,
        more: &mut More,
    ) -> Result<(), BlockError> {
        let Some(chunk) = batch.chunks.get_mut(wanted.chunk as usize) else {
            return Ok(());
        };
        *chunk = ChunkRef {
            encoding,
            buffer,
            offset: offset as u32,
            len: len as u32,
            ..*chunk
        };
        let Some(id) = wanted.stoned else {
            return Ok(());
        };
        let chunk = *chunk;
        let deleted = self.block.tombstones().of(id.into());
        let stays = |ts| touch(deleted, TimeRange::new(ts, ts)) == Touch::Nothing;
        let left = without(encoding, batch.bytes_of(&chunk), stays)?;
        let mut refs = left.into_iter().map(|c| {
            let data: Bytes = c.data.into();
            let made = ChunkRef {
                min: c.range.min,
                max: c.range.max,
                encoding: c.encoding,
                buffer: batch.buffers.len() as u32,
                offset: 0,
                len: data.len() as u32,
                ..chunk
            };
            batch.buffers.push(data);
            made
        });
        let first = refs.next();
        more.extend(refs.map(|r| (wanted.chunk, r)));
        if let Some(place) = batch.chunks.get_mut(wanted.chunk as usize) {
            // Nothing is left: a chunk without samples.
            *place = first.unwrap_or(ChunkRef {
                encoding: Encoding::XOR,
                buffer: batch.buffers.len() as u32,
                offset: 0,
                len: 2,
                ..chunk
            });
        }
        if first.is_none() {
            batch.buffers.push(Bytes::from_static(&[0, 0]));
        }
        Ok(())
    }

    /// Adds the label names of the series that satisfy the matchers.
    pub(crate) fn names<'a>(
        &'a self,
        matchers: &[Matcher],
        scope: &Scope,
        found: &mut Vec<&'a str>,
    ) -> Result<(), SourceError> {
        if matchers.is_empty() {
            found.extend(self.index().table().names());
            return Ok(());
        }
        self.ordinals(matchers, scope, found, |pair| Some(pair.0))
    }

    /// Adds their values of label `name`.
    pub(crate) fn values<'a>(
        &'a self,
        name: &str,
        matchers: &[Matcher],
        scope: &Scope,
        found: &mut Vec<&'a str>,
    ) -> Result<(), SourceError> {
        if matchers.is_empty() {
            found.extend(
                self.index()
                    .table()
                    .values(name, "")
                    .map(|(value, _)| value),
            );
            return Ok(());
        }
        let Some(name) = self.index().symbols().find(name) else {
            return Ok(());
        };
        self.ordinals(matchers, scope, found, |pair| {
            (pair.0 == name).then_some(pair.1)
        })
    }

    fn ordinals<'a>(
        &'a self,
        matchers: &[Matcher],
        scope: &Scope,
        found: &mut Vec<&'a str>,
        pick: impl Fn((u32, u32)) -> Option<u32>,
    ) -> Result<(), SourceError> {
        /// Series between two looks at whether the query goes on.
        const PART: usize = 1024;
        let ids = self.matching_for(scope, matchers)?;
        let mut seen: HashSet<u32> = HashSet::new();
        let mut series = self.index().series();
        let mut labels = Vec::new();
        for (i, &id) in ids.iter().enumerate() {
            if i.is_multiple_of(PART) {
                scope.check()?;
            }
            labels.clear();
            series.labels(id, &ids[i + 1..], &mut labels)?;
            seen.extend(labels.iter().copied().filter_map(&pick));
        }
        let symbols = self.index().symbols();
        found.extend(seen.iter().filter_map(|&o| symbols.get(o)));
        Ok(())
    }
}

/// Bytes of all files in a folder.
pub(crate) fn size(dir: &Path) -> Result<u64, Error> {
    let mut sum = 0;
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(Error::io("listing", dir)(e)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::io("listing", dir))?;
        sum += match entry.metadata() {
            Ok(m) if m.is_dir() => size(&entry.path())?,
            Ok(m) => m.len(),
            // Gone meanwhile.
            Err(_) => 0,
        };
    }
    Ok(sum)
}
