//! Bytes at a place: files, memory, and for tests a file that fails.
//!
//! Files are read with `pread`, so that a failing disk is an error and never a signal. A mapped
//! file is for files that this process wrote and that nobody truncates.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::buffer::spare_capacity;

/// Something that can be read at any place.
pub trait ReadAt: Send + Sync {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Whether there is no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Exactly `len` bytes from `offset` on. Past the end it fails with `UnexpectedEof`, before
    /// any memory is taken.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes>;

    /// Everything, if it is in memory anyway: then parts of it cost nothing.
    fn whole(&self) -> Option<Bytes> {
        None
    }
}

fn check(offset: u64, len: usize, size: u64) -> io::Result<()> {
    match offset.checked_add(len as u64) {
        Some(end) if end <= size => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("{len} bytes at {offset} of a file of {size}"),
        )),
    }
}

/// A file, read with `pread`.
#[derive(Debug)]
pub struct FileAt {
    file: File,
    len: u64,
}

impl FileAt {
    /// Opens the file at `path` for reading. Its length is taken now.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { file, len })
    }
}

impl ReadAt for FileAt {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        check(offset, len, self.len)?;
        let mut buf: Vec<u8> = Vec::with_capacity(len);
        while buf.len() < len {
            let at = offset + buf.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut buf), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        buf.truncate(len);
        Ok(buf.into())
    }
}

/// Bytes in memory.
impl ReadAt for Bytes {
    fn len(&self) -> u64 {
        Bytes::len(self) as u64
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        check(offset, len, Bytes::len(self) as u64)?;
        Ok(self.slice(offset as usize..offset as usize + len))
    }

    fn whole(&self) -> Option<Bytes> {
        Some(self.clone())
    }
}

/// Maps a file into memory. Only for files that this process wrote and holds: whoever truncates a
/// mapped file, and a disk that fails under it, ends the process with a signal.
pub fn map_file(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    #[expect(
        unsafe_code,
        reason = "blocks are immutable once renamed into place; whoever calls owns the file"
    )]
    let map = unsafe { memmap2::Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}

/// Reads through to another source and fails: for tests.
pub struct FaultyAt {
    inner: Arc<dyn ReadAt>,
    reads: AtomicU64,
    fail_from: u64,
    /// Where the random numbers begin, and one of how many reads fails by them; 0: none.
    random: (u64, u64),
}

impl FaultyAt {
    /// Reads number `fail_from` (from 0) and all after it fail.
    pub fn new(inner: Arc<dyn ReadAt>, fail_from: u64) -> Self {
        Self {
            inner,
            reads: 0.into(),
            fail_from,
            random: (0, 0),
        }
    }

    /// About one of `one_in` reads fails, which ones and how `seed` says: with an error, with fewer
    /// bytes than were asked for, or with a bit that has turned round and no error.
    pub fn seeded(inner: Arc<dyn ReadAt>, seed: u64, one_in: u64) -> Self {
        Self {
            random: (seed, one_in),
            ..Self::new(inner, u64::MAX)
        }
    }

    /// How many reads there were.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

impl ReadAt for FaultyAt {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let n = self.reads.fetch_add(1, Ordering::Relaxed);
        let failed = || io::Error::other("the disk has failed");
        if n >= self.fail_from {
            return Err(failed());
        }
        let read = self.inner.read_at(offset, len)?;
        let (seed, one_in) = self.random;
        let random = scrambled(seed.wrapping_add(n));
        if one_in == 0 || !random.is_multiple_of(one_in) || read.is_empty() {
            return Ok(read);
        }
        let random = scrambled(random);
        let at = (random >> 16) as usize % read.len();
        match random % 3 {
            0 => Err(failed()),
            1 => Ok(read.slice(..at)),
            _ => {
                let mut turned = read.to_vec();
                turned[at] ^= 1 << (random >> 8 & 7);
                Ok(turned.into())
            }
        }
    }
}

/// SplitMix64: any number to one that looks random.
fn scrambled(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

/// A range that is wanted, or one that is read for several of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub offset: u64,
    /// How many.
    pub len: u64,
}

impl Span {
    /// The byte after the last.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// Joins wanted ranges that overlap or lie at most `max_gap` bytes apart, as long as the result is
/// not longer than `max_len` (one that is longer by itself stays whole). `wanted` must ascend by
/// offset; calls `read` with each range to read and how many of the wanted ones it covers.
pub fn coalesce<E>(
    wanted: impl IntoIterator<Item = Span>,
    max_gap: u64,
    max_len: u64,
    mut read: impl FnMut(Span, usize) -> Result<(), E>,
) -> Result<(), E> {
    let mut current: Option<(Span, usize)> = None;
    for span in wanted {
        if let Some((sum, count)) = &mut current {
            let end = sum.end().max(span.end());
            if span.offset >= sum.offset
                && span.offset <= sum.end().saturating_add(max_gap)
                && end - sum.offset <= max_len.max(sum.len)
            {
                sum.len = end - sum.offset;
                *count += 1;
                continue;
            }
            read(*sum, *count)?;
        }
        current = Some((span, 1));
    }
    match current {
        Some((sum, count)) => read(sum, count),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_read_together() {
        let spans = |list: &[(u64, u64)]| -> Vec<Span> {
            list.iter()
                .map(|&(offset, len)| Span { offset, len })
                .collect()
        };
        let run = |list: &[(u64, u64)], gap, max| {
            let mut out = Vec::new();
            coalesce(spans(list), gap, max, |s, n| {
                out.push((s.offset, s.len, n));
                Ok::<(), ()>(())
            })
            .unwrap();
            out
        };
        assert_eq!(run(&[], 10, 100), []);
        assert_eq!(
            run(&[(0, 10), (12, 5), (40, 5)], 5, 100),
            [(0, 17, 2), (40, 5, 1)]
        );
        assert_eq!(
            run(&[(0, 10), (5, 20), (30, 30)], 10, 30),
            [(0, 25, 2), (30, 30, 1)]
        );
        assert_eq!(run(&[(0, 500), (10, 20)], 0, 100), [(0, 500, 2)]);
        assert_eq!(
            run(&[(50, 10), (10, 10)], 100, 100),
            [(50, 10, 1), (10, 10, 1)]
        );
        assert_eq!(run(&[(u64::MAX - 1, 10), (u64::MAX, 1)], 10, 100).len(), 1);
    }

    #[test]
    fn a_file_is_read_exactly_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"0123456789").unwrap();
        let file = FileAt::open(&path).unwrap();
        for at in [&file as &dyn ReadAt, &map_file(&path).unwrap()] {
            assert_eq!(at.len(), 10);
            assert_eq!(&at.read_at(2, 3).unwrap()[..], b"234");
            assert_eq!(&at.read_at(10, 0).unwrap()[..], b"");
            assert!(at.read_at(8, 3).is_err());
            assert!(at.read_at(u64::MAX, usize::MAX).is_err());
        }
        let faulty = FaultyAt::new(Arc::new(file), 1);
        assert!(faulty.read_at(0, 1).is_ok());
        assert!(faulty.read_at(0, 1).is_err());
    }
}
