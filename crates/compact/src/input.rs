//! Blocks of the bucket, opened where they lie: nothing is downloaded but what is being read.

use std::io;
use std::sync::Arc;

use block::chunks::Segments;
use block::read_at::ReadAt;
use block::{Block, BlockError, Meta, Tombstones};
use bucket::Bucket;
use bucket::marks::{self, DeletionMark, Mark as _};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use ulid::Ulid;

use crate::Error;

/// Reading ahead, all inputs of a job together may hold so many bytes.
const AHEAD: u64 = 128 << 20;
/// A window is at least and at most so long.
const WINDOW: (u64, u64) = (256 << 10, 8 << 20);
/// A read that follows no other fetches so many bytes at least.
const LONE: u64 = 64 << 10;

/// How long the windows of each of `inputs` blocks may be: of chunks there is one and one ahead, of
/// the index a whole small one, or two of a quarter.
pub fn window(inputs: usize) -> u64 {
    (AHEAD / (inputs.max(1) as u64 * 3)).clamp(WINDOW.0, WINDOW.1)
}

/// How an object is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// With one request for all of it.
    Whole,
    /// By windows of so many bytes, the next fetched while one is used.
    Windows(u64),
}

/// An object that is read mostly from its beginning to its end, but for single reads elsewhere. Must
/// not be read on a thread of the async runtime.
pub struct Remote {
    bucket: Arc<Bucket>,
    runtime: Handle,
    key: String,
    len: u64,
    manner: Manner,
    /// Nothing is kept once the last byte was read.
    once: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where the reading from beginning to end has come to.
    run: Piece,
    ahead: Option<Ahead>,
    /// What was read elsewhere.
    lone: Piece,
    ended: bool,
}

#[derive(Default)]
struct Piece {
    start: u64,
    bytes: Bytes,
}

struct Ahead {
    start: u64,
    end: u64,
    fetch: JoinHandle<Result<Bytes, bucket::Error>>,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// What is there of the bytes from `offset` on, `len` at most.
    fn have(&self, offset: u64, len: u64) -> Bytes {
        if offset < self.start || offset >= self.end() {
            return Bytes::new();
        }
        let from = (offset - self.start) as usize;
        let to = from + (len.min(self.end() - offset)) as usize;
        self.bytes.slice(from..to)
    }

    /// Becomes what it has from `offset` on, and after it `more`.
    fn advance(&mut self, offset: u64, more: Bytes) {
        let have = self.have(offset, u64::MAX);
        self.bytes = match have.is_empty() {
            true => more,
            false => {
                let mut joined = BytesMut::with_capacity(have.len() + more.len());
                joined.extend_from_slice(&have);
                joined.extend_from_slice(&more);
                joined.freeze()
            }
        };
        self.start = offset;
    }
}

impl Remote {
    /// An object of `len` bytes; one that is read `once` is let go of at its end.
    pub fn new(
        bucket: Arc<Bucket>,
        runtime: Handle,
        key: String,
        len: u64,
        manner: Manner,
        once: bool,
    ) -> Self {
        Self {
            bucket,
            runtime,
            key,
            len,
            manner,
            once,
            state: Mutex::default(),
        }
    }

    fn fetch(&self, from: u64, to: u64) -> io::Result<Bytes> {
        let got = self.bucket.get_range(&self.key, from..to);
        self.whole(self.runtime.block_on(got), from, to)
    }

    /// An answer must be all that was asked for.
    fn whole(&self, got: Result<Bytes, bucket::Error>, from: u64, to: u64) -> io::Result<Bytes> {
        let got = got.map_err(io::Error::other)?;
        match got.len() as u64 == to - from {
            true => Ok(got),
            false => Err(io::Error::other(format!(
                "{}: {} bytes came of the {} at {from}",
                self.key,
                got.len(),
                to - from
            ))),
        }
    }

    fn begin(&self, from: u64, window: u64) -> Option<Ahead> {
        let end = self.len.min(from + window);
        if from >= end {
            return None;
        }
        let (bucket, key) = (Arc::clone(&self.bucket), self.key.clone());
        Some(Ahead {
            start: from,
            end,
            fetch: self
                .runtime
                .spawn(async move { bucket.get_range(&key, from..end).await }),
        })
    }

    /// Goes on with the reading from beginning to end.
    fn go_on(&self, state: &mut State, offset: u64, len: u64, window: u64) -> io::Result<Bytes> {
        let next = offset + state.run.have(offset, len).len() as u64;
        if let Some(ahead) = state.ahead.take() {
            if (ahead.start..ahead.end).contains(&next) {
                let got = self.runtime.block_on(ahead.fetch);
                let got = got.map_err(io::Error::other)?;
                let got = self.whole(got, ahead.start, ahead.end)?;
                match next == ahead.start {
                    true => state.run.advance(offset, got),
                    false => {
                        state.run = Piece {
                            start: ahead.start,
                            bytes: got,
                        }
                    }
                }
            } else {
                ahead.fetch.abort();
            }
        }
        let have = state.run.have(offset, len).len() as u64;
        if have < len {
            let from = offset + have;
            let got = self.fetch(from, self.len.min(from + window.max(len - have)))?;
            state.run.advance(offset, got);
        }
        state.ahead = self.begin(state.run.end(), window);
        Ok(state.run.have(offset, len))
    }

    /// Reads elsewhere. What lies before the end comes with the end.
    fn apart(&self, piece: &mut Piece, offset: u64, len: u64, window: u64) -> io::Result<Bytes> {
        let have = piece.have(offset, len).len() as u64;
        let least = LONE.min(window);
        if have > 0 {
            let got = self.fetch(offset + have, offset + len)?;
            piece.advance(offset, got);
        } else {
            let start = offset.min(self.len.saturating_sub(least));
            let end = self.len.min(offset + len.max(least));
            let bytes = self.fetch(start, end)?;
            *piece = Piece { start, bytes };
        }
        Ok(piece.have(offset, len))
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let Some(ahead) = self.state.get_mut().ahead.take() {
            ahead.fetch.abort();
        }
    }
}

impl ReadAt for Remote {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let len = len as u64;
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut state = self.state.lock();
        let mut have = state.run.have(offset, len);
        if (have.len() as u64) < len {
            have = state.lone.have(offset, len);
        }
        if (have.len() as u64) < len {
            let window = match self.manner {
                Manner::Whole if !state.ended => self.len,
                Manner::Whole => LONE,
                Manner::Windows(window) => window,
            };
            let begun = !state.run.bytes.is_empty();
            let follows =
                |piece: &Piece| begun && (piece.start..=piece.end() + window).contains(&offset);
            have = if window == self.len {
                state.run = Piece {
                    start: 0,
                    bytes: self.fetch(0, self.len)?,
                };
                state.run.have(offset, len)
            } else if follows(&state.run) {
                self.go_on(&mut state, offset, len, window)?
            } else if !begun {
                self.apart(&mut state.run, offset, len, window)?
            } else if offset > state.lone.start && follows(&state.lone) {
                // What began elsewhere goes on: it is read from there now.
                state.run = std::mem::take(&mut state.lone);
                self.go_on(&mut state, offset, len, window)?
            } else {
                self.apart(&mut state.lone, offset, len, window)?
            };
        }
        if self.once && offset + len == self.len {
            // Nothing comes after the end; a block has hundreds of segments.
            *state = State {
                ended: true,
                ..State::default()
            };
        }
        Ok(have)
    }
}

/// The files of a block in the bucket.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Bytes of the index; none if there is no index.
    pub index: Option<u64>,
    /// Names and sizes of the chunk segments, in their order.
    pub segments: Vec<(String, u64)>,
    /// Whether there are tombstones.
    pub tombstones: bool,
    /// Whether there is a `meta.json`: if not, it is no block.
    pub meta: bool,
    /// Whether it is marked for deletion.
    pub deletion_mark: bool,
}

impl Files {
    /// Lists them.
    pub async fn list(bucket: &Bucket, block: Ulid) -> Result<Self, bucket::Error> {
        let mut objects = Vec::new();
        let folder = block.to_string();
        bucket.list(&folder, |object| objects.push(object)).await?;
        Ok(Self::of(&objects))
    }

    /// Those among the objects of a block.
    pub fn of(objects: &[bucket::Object]) -> Self {
        let mut files = Self::default();
        let mut segments: Vec<(u64, String, u64)> = Vec::new();
        for object in objects {
            let Some((_, path)) = object.key.split_once('/') else {
                continue;
            };
            match path {
                block::index::FILE => files.index = Some(object.size),
                block::tombstones::FILE => files.tombstones = true,
                block::meta::FILE => files.meta = true,
                DeletionMark::FILE => files.deletion_mark = true,
                _ => {
                    if let Some(name) = path.strip_prefix("chunks/")
                        && let Ok(number) = name.parse()
                    {
                        segments.push((number, name.to_owned(), object.size));
                    }
                }
            }
        }
        segments.sort_unstable();
        // A listing may show things twice.
        segments.dedup_by_key(|s| s.0);
        files.segments = segments.into_iter().map(|(_, n, s)| (n, s)).collect();
        files
    }

    /// Bytes of index and chunks.
    pub fn bytes(&self) -> u64 {
        self.index.unwrap_or(0) + self.chunks()
    }

    fn chunks(&self) -> u64 {
        self.segments.iter().map(|s| s.1).sum()
    }
}

/// Opens a block in the bucket. Must not be called on a thread of the async runtime.
pub fn open(
    bucket: &Arc<Bucket>,
    runtime: &Handle,
    meta: &Meta,
    window: u64,
) -> Result<(Arc<Block>, Files), Error> {
    let files = runtime.block_on(Files::list(bucket, meta.ulid))?;
    let block = open_listed(bucket, runtime, meta, &files, window)?;
    Ok((block, files))
}

/// [`open`], where the files are known.
pub fn open_listed(
    bucket: &Arc<Bucket>,
    runtime: &Handle,
    meta: &Meta,
    files: &Files,
    window: u64,
) -> Result<Arc<Block>, Error> {
    let at = |path: &str, len, manner, once| -> Arc<dyn ReadAt> {
        let key = marks::key(meta.ulid, path);
        let (bucket, runtime) = (Arc::clone(bucket), runtime.clone());
        Arc::new(Remote::new(bucket, runtime, key, len, manner, once))
    };
    let missing = |what: &str| {
        let reason = format!("block {} has no {what}", meta.ulid);
        Error::Block(BlockError::Corrupt(reason))
    };
    let len = files.index.ok_or_else(|| missing("index"))?;
    let manner = match len <= window {
        true => Manner::Whole,
        false => Manner::Windows((window / 4).max(WINDOW.0)),
    };
    let index = at(block::index::FILE, len, manner, false);
    // The headers of all segments are read at first: what comes with them stays.
    let manner = match files.chunks() <= window {
        true => Manner::Whole,
        false => Manner::Windows(window),
    };
    // Chunks say by number where they lie: a listing that leaves a segment out must not make others take its place.
    for (n, (name, _)) in files.segments.iter().enumerate() {
        if name.parse() != Ok(n + 1) {
            return Err(missing(&format!("chunk segment {:06}", n + 1)));
        }
    }
    let segments = files.segments.iter();
    let segments = segments.map(|(name, len)| at(&format!("chunks/{name}"), *len, manner, true));
    let segments = Segments::new(segments.collect())?;
    let tombstones = match files.tombstones {
        false => Tombstones::new(),
        true => {
            let key = marks::key(meta.ulid, block::tombstones::FILE);
            Tombstones::decode(&runtime.block_on(bucket.get(&key))?)?
        }
    };
    let block = Block::from_parts(meta.clone(), index, segments, tombstones)?;
    Ok(Arc::new(block))
}
