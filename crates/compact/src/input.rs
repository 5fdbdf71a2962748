//! Blocks of the bucket, opened where they lie: nothing is downloaded but what is being read.

use std::io;
use std::sync::Arc;

use block::chunks::Segments;
use block::read_at::ReadAt;
use block::{Block, BlockError, Meta, Tombstones};
use bucket::{Bucket, marks};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::Error;

/// Reading ahead, all inputs of a job together may hold so many bytes.
const AHEAD: u64 = 128 << 20;
/// A window is at least and at most so long.
const WINDOW: (u64, u64) = (256 << 10, 8 << 20);
/// A read that follows no other fetches so many bytes at least.
const LONE: u64 = 64 << 10;

/// How long the windows of each of `inputs` blocks may be: index and chunks have one each, and one
/// ahead.
pub fn window(inputs: usize) -> u64 {
    (AHEAD / (inputs.max(1) as u64 * 4)).clamp(WINDOW.0, WINDOW.1)
}

/// An object that is read mostly from its beginning to its end. While one window is used, the next is
/// fetched. Must not be read on a thread of the async runtime.
pub struct Remote {
    bucket: Arc<Bucket>,
    runtime: Handle,
    key: String,
    len: u64,
    window: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    start: u64,
    bytes: Bytes,
    ahead: Option<Ahead>,
}

struct Ahead {
    start: u64,
    end: u64,
    fetch: JoinHandle<Result<Bytes, bucket::Error>>,
}

impl State {
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
}

impl Remote {
    /// An object of `len` bytes.
    pub fn new(bucket: Arc<Bucket>, runtime: Handle, key: String, len: u64, window: u64) -> Self {
        Self {
            bucket,
            runtime,
            key,
            len,
            window,
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

    fn begin(&self, from: u64) -> Option<Ahead> {
        let end = self.len.min(from + self.window);
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
        let mut have = state.have(offset, len);
        if have.len() as u64 == len {
            return Ok(have);
        }
        let begun = !state.bytes.is_empty();
        let follows = begun && offset >= state.start && offset <= state.end() + self.window;
        // What was fetched ahead, if it is what comes next.
        let next = offset + have.len() as u64;
        if let Some(ahead) = state.ahead.take() {
            if (ahead.start..ahead.end).contains(&next) {
                let got = self.runtime.block_on(ahead.fetch);
                let got = got.map_err(io::Error::other)?;
                let got = self.whole(got, ahead.start, ahead.end)?;
                (state.start, state.bytes) = match have.is_empty() {
                    true => (ahead.start, got),
                    false => {
                        let mut joined = BytesMut::with_capacity(have.len() + got.len());
                        joined.extend_from_slice(&have);
                        joined.extend_from_slice(&got);
                        (offset, joined.freeze())
                    }
                };
                have = state.have(offset, len);
            } else {
                ahead.fetch.abort();
            }
        }
        if (have.len() as u64) < len {
            let least = if follows {
                self.window
            } else {
                LONE.min(self.window)
            };
            let end = self.len.min(offset + len.max(least));
            state.bytes = self.fetch(offset, end)?;
            state.start = offset;
            have = state.have(offset, len);
        }
        if follows {
            state.ahead = self.begin(state.end());
        }
        if offset + len == self.len {
            // Nothing comes after the end; a block has hundreds of segments.
            *state = State::default();
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
}

impl Files {
    /// Lists them.
    pub async fn list(bucket: &Bucket, meta: &Meta) -> Result<Self, bucket::Error> {
        let mut files = Self::default();
        let folder = meta.ulid.to_string();
        let mut segments: Vec<(u64, String, u64)> = Vec::new();
        let each = |object: bucket::Object| {
            let Some((_, path)) = object.key.split_once('/') else {
                return;
            };
            if path == block::index::FILE {
                files.index = Some(object.size);
            } else if path == block::tombstones::FILE {
                files.tombstones = true;
            } else if let Some(name) = path.strip_prefix("chunks/")
                && let Ok(number) = name.parse()
            {
                segments.push((number, name.to_owned(), object.size));
            }
        };
        bucket.list(&folder, each).await?;
        segments.sort_unstable();
        files.segments = segments.into_iter().map(|(_, n, s)| (n, s)).collect();
        Ok(files)
    }

    /// Bytes of index and chunks.
    pub fn bytes(&self) -> u64 {
        self.index.unwrap_or(0) + self.segments.iter().map(|s| s.1).sum::<u64>()
    }
}

/// Opens a block in the bucket. Must not be called on a thread of the async runtime.
pub fn open(
    bucket: &Arc<Bucket>,
    runtime: &Handle,
    meta: &Meta,
    window: u64,
) -> Result<(Arc<Block>, Files), Error> {
    let files = runtime.block_on(Files::list(bucket, meta))?;
    let at = |path: &str, len| -> Arc<dyn ReadAt> {
        let key = marks::key(meta.ulid, path);
        let (bucket, runtime) = (Arc::clone(bucket), runtime.clone());
        Arc::new(Remote::new(bucket, runtime, key, len, window))
    };
    let missing = |what: &str| {
        let reason = format!("block {} has no {what}", meta.ulid);
        Error::Block(BlockError::Corrupt(reason))
    };
    let index = at(
        block::index::FILE,
        files.index.ok_or_else(|| missing("index"))?,
    );
    let segments = files.segments.iter();
    let segments = segments.map(|(name, len)| at(&format!("chunks/{name}"), *len));
    let segments = Segments::new(segments.collect())?;
    let tombstones = match files.tombstones {
        false => Tombstones::new(),
        true => {
            let key = marks::key(meta.ulid, block::tombstones::FILE);
            Tombstones::decode(&runtime.block_on(bucket.get(&key))?)?
        }
    };
    let block = Block::from_parts(meta.clone(), index, segments, tombstones)?;
    Ok((Arc::new(block), files))
}
