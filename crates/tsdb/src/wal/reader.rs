//! Reads the records of one segment.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::page::{FIRST, FULL, HEADER, LAST, MIDDLE, PAGE, SNAPPY, TYPE_MASK, ZSTD};
use crate::Error;
use crate::fs::Fs;

/// The largest record that is believed, in bytes after decompression.
const MAX_RECORD: usize = 256 << 20;
/// Pages read at once.
const READ_PAGES: usize = 32;

/// Why a segment cannot be read on.
#[derive(Debug)]
pub enum ReadError {
    /// The operating system refused.
    Io(io::Error),
    /// The bytes are wrong.
    Corrupt {
        /// What is wrong.
        reason: &'static str,
        /// The segment simply ends inside a record, as the last one does after a crash.
        torn: bool,
    },
}

impl ReadError {
    /// The room's error, with the file's name and the place of the last good record's end.
    pub fn at(self, path: &Path, offset: u64) -> Error {
        match self {
            ReadError::Io(e) => Error::io("reading", path)(e),
            ReadError::Corrupt { reason, .. } => Error::Corrupt {
                path: path.to_owned(),
                offset,
                reason,
            },
        }
    }
}

fn corrupt(reason: &'static str) -> ReadError {
    ReadError::Corrupt {
        reason,
        torn: false,
    }
}

fn torn() -> ReadError {
    ReadError::Corrupt {
        reason: "the segment ends inside a record",
        torn: true,
    }
}

/// Yields the records of a segment, decompressed, with every checksum verified. Memory is bounded
/// by a MiB and the largest record.
pub struct SegmentReader<R> {
    input: R,
    buffer: Vec<u8>,
    /// Next byte in `buffer`.
    at: usize,
    /// File offset of `buffer[0]`, a multiple of the page size.
    base: u64,
    ended: bool,
    /// End of the last whole record.
    good: u64,
    raw: Vec<u8>,
    plain: Vec<u8>,
    /// The record is in `plain`, not in `raw`.
    unpacked: bool,
    /// The fragment read last, in `buffer`.
    fragment: std::ops::Range<usize>,
    snappy: snap::raw::Decoder,
}

impl SegmentReader<File> {
    /// Opens a segment.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self::new(
            File::open(path).map_err(Error::io("opening", path))?,
        ))
    }
}

impl SegmentReader<File> {
    /// Opens a segment at a place where a record ended ([`SegmentReader::good_offset`]), to read on
    /// in a log that grows.
    pub fn open_at(path: &Path, offset: u64) -> Result<Self, Error> {
        use std::io::{Seek as _, SeekFrom};
        let mut file = File::open(path).map_err(Error::io("opening", path))?;
        let within = offset % PAGE as u64;
        file.seek(SeekFrom::Start(offset - within))
            .map_err(Error::io("reading", path))?;
        let mut reader = Self::new(file);
        reader.base = offset - within;
        reader.good = offset;
        match reader.fill() {
            // Less than a page: it fits into a usize.
            Ok(_) => reader.at = (within as usize).min(reader.buffer.len()),
            Err(e) => return Err(e.at(path, offset)),
        }
        Ok(reader)
    }
}

impl SegmentReader<Box<dyn Read + Send>> {
    /// Opens a segment of any files.
    pub fn open_on(fs: &dyn Fs, path: &Path) -> Result<Self, Error> {
        Ok(Self::new(
            fs.open(path).map_err(Error::io("opening", path))?,
        ))
    }
}

impl<R: Read> SegmentReader<R> {
    /// Reads from anything.
    pub fn new(input: R) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            at: 0,
            base: 0,
            ended: false,
            good: 0,
            raw: Vec::new(),
            plain: Vec::new(),
            unpacked: false,
            fragment: 0..0,
            snappy: snap::raw::Decoder::new(),
        }
    }

    /// Where the last whole record ends: everything before is good.
    pub fn good_offset(&self) -> u64 {
        self.good
    }

    /// Loads the next pages once the present ones are used up. False at the end.
    fn fill(&mut self) -> Result<bool, ReadError> {
        if self.at < self.buffer.len() {
            return Ok(true);
        }
        if self.ended {
            return Ok(false);
        }
        self.base += self.buffer.len() as u64;
        self.at = 0;
        self.buffer.clear();
        let want = READ_PAGES * PAGE;
        let got = (&mut self.input)
            .take(want as u64)
            .read_to_end(&mut self.buffer)
            .map_err(ReadError::Io)?;
        self.ended = got < want;
        Ok(got > 0)
    }

    /// The next record; none at the end of the segment.
    pub fn read(&mut self) -> Result<Option<&[u8]>, ReadError> {
        match self.next() {
            Ok(false) => Ok(None),
            Ok(true) if self.unpacked => Ok(Some(&self.plain)),
            Ok(true) => Ok(Some(&self.raw)),
            Err(ReadError::Corrupt { torn: false, .. }) if self.ends_in_zeros()? => Err(torn()),
            Err(e) => Err(e),
        }
    }

    /// Whether nothing but zeros follows from within the last fragment on: a power failure can keep a
    /// file's length and lose its last bytes.
    fn ends_in_zeros(&mut self) -> Result<bool, ReadError> {
        let last = self.fragment.end.saturating_sub(1).max(self.fragment.start);
        let zero = |bytes: &[u8]| bytes.iter().all(|&b| b == 0);
        if !self.buffer.get(last..).is_none_or(zero) {
            return Ok(false);
        }
        loop {
            self.at = self.buffer.len();
            if !self.fill()? {
                return Ok(true);
            }
            if !zero(&self.buffer) {
                return Ok(false);
            }
        }
    }

    fn next(&mut self) -> Result<bool, ReadError> {
        self.raw.clear();
        let mut flag = 0;
        let mut inside = false;
        loop {
            if !self.fill()? {
                return if inside { Err(torn()) } else { Ok(false) };
            }
            // `buffer` starts at a page border.
            let page_left = PAGE - self.at % PAGE;
            let page_end = (self.at + page_left).min(self.buffer.len());
            let page = &self.buffer[self.at..page_end];
            self.fragment = self.at..self.at + 1;
            let short = page.len() < page_left;
            let kind = page[0];
            if kind & TYPE_MASK == 0 || page_left < HEADER {
                // A crash can leave zeros after a torn record: judged by whether anything follows.
                if page.iter().any(|&b| b != 0) {
                    return Err(corrupt("padding is not zero"));
                }
                if inside && page_left >= HEADER {
                    let last = self.ended && page_end == self.buffer.len();
                    return Err(if last {
                        torn()
                    } else {
                        corrupt("a record breaks off")
                    });
                }
                self.at = page_end;
                continue;
            }
            let Some((head, rest)) = page.split_first_chunk::<HEADER>() else {
                return Err(torn());
            };
            let len = usize::from(u16::from_be_bytes([head[1], head[2]]));
            if len > page_left - HEADER {
                return Err(corrupt("a fragment is longer than its page"));
            }
            self.fragment.end = self.at + HEADER + len;
            let Some(data) = rest.get(..len) else {
                return Err(if short {
                    torn()
                } else {
                    corrupt("short fragment")
                });
            };
            let crc = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
            if crc32c::crc32c(data) != crc {
                return Err(corrupt("checksum mismatch"));
            }
            if kind & !(TYPE_MASK | SNAPPY | ZSTD) != 0 {
                return Err(corrupt("unknown flags"));
            }
            let end = match (kind & TYPE_MASK, inside) {
                (FULL, false) | (LAST, true) => true,
                (FIRST, false) | (MIDDLE, true) => false,
                _ => return Err(corrupt("fragments out of order")),
            };
            if !inside {
                flag = kind & (SNAPPY | ZSTD);
            }
            inside = true;
            if self.raw.len() + len > MAX_RECORD {
                return Err(corrupt("the record is too long"));
            }
            self.raw.extend_from_slice(data);
            self.at += HEADER + len;
            if end {
                break;
            }
        }
        let end = self.base + self.at as u64;
        self.unpacked = flag != 0;
        match flag {
            0 => {}
            SNAPPY => {
                let len = snap::raw::decompress_len(&self.raw)
                    .ok()
                    // The densest snappy code gives 64 bytes for 3.
                    .filter(|&n| n <= MAX_RECORD && n / 32 <= self.raw.len())
                    .ok_or(corrupt("bad snappy length"))?;
                self.plain.resize(len, 0);
                let n = self
                    .snappy
                    .decompress(&self.raw, &mut self.plain)
                    .map_err(|_| corrupt("bad snappy block"))?;
                self.plain.truncate(n);
            }
            ZSTD => {
                self.plain.clear();
                zstd::stream::read::Decoder::new(self.raw.as_slice())
                    .and_then(|d| d.take(MAX_RECORD as u64 + 1).read_to_end(&mut self.plain))
                    .map_err(|_| corrupt("bad zstd frame"))?;
                if self.plain.len() > MAX_RECORD {
                    return Err(corrupt("the record is too long"));
                }
            }
            _ => return Err(corrupt("two compressions at once")),
        }
        self.good = end;
        Ok(true)
    }
}
