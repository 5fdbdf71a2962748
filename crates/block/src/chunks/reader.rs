use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use model::Encoding;

use super::{Frame, HEADER_LEN, MAGIC, MAX_FRAME, VERSION, split};
use crate::BlockError;
use crate::fs::Fs;
use crate::input::{Input, crc};
use crate::read_at::ReadAt;

/// A chunk whose length is not known is read with so many bytes at first.
const GUESS: u64 = 2048;

/// Finds the chunk that begins with the first of `bytes`. `Ok(Err(n))`: so many bytes are needed.
pub fn parse(bytes: &[u8]) -> Result<Result<Frame, usize>, BlockError> {
    let mut input = Input(bytes);
    let Some(len) = input.uvarint() else {
        return match bytes.len() {
            0..=9 => Ok(Err(10)),
            _ => Err(BlockError::corrupt("chunks: a chunk of impossible length")),
        };
    };
    if len > u32::MAX as u64 {
        return Err(BlockError::corrupt("chunks: a chunk of impossible length"));
    }
    let len = len as usize;
    let start = bytes.len() - input.len() + 1;
    let need = start + len + 4;
    let (Some(framed), Some(sum)) = (input.take(1 + len), input.u32()) else {
        return Ok(Err(need));
    };
    if crc(framed) != sum {
        return Err(BlockError::corrupt("chunks: wrong checksum"));
    }
    Ok(Ok(Frame {
        encoding: Encoding(framed[0]),
        start,
        len,
    }))
}

/// The segments of a block.
#[derive(Clone)]
pub struct Segments(Vec<Arc<dyn ReadAt>>);

impl std::fmt::Debug for Segments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Segments({}, {} bytes)", self.0.len(), self.size())
    }
}

impl Segments {
    /// Opens the files in `dir` whose names are numbers, in the order of these numbers.
    pub fn open(fs: &dyn Fs, dir: &Path) -> Result<Self, BlockError> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(BlockError::io("listing", dir))? {
            let entry = entry.map_err(BlockError::io("listing", dir))?;
            let name = entry.file_name();
            if let Some(number) = name.to_str().and_then(|n| n.parse::<u64>().ok()) {
                files.push((number, entry.path()));
            }
        }
        files.sort();
        let mut segments: Vec<Arc<dyn ReadAt>> = Vec::with_capacity(files.len());
        for (_, path) in files {
            let segment = fs.open_at(&path);
            segments.push(segment.map_err(BlockError::io("opening", &path))?);
        }
        Self::new(segments)
    }

    /// Checks the headers of some segments, given in order.
    pub fn new(segments: Vec<Arc<dyn ReadAt>>) -> Result<Self, BlockError> {
        for segment in &segments {
            if segment.len() < HEADER_LEN {
                return Err(BlockError::corrupt("chunks: a segment without header"));
            }
            let header = segment
                .read_at(0, HEADER_LEN as usize)
                .map_err(BlockError::reading("chunk segment"))?;
            let mut input = Input(&header);
            if input.u32() != Some(MAGIC) {
                return Err(BlockError::corrupt("chunks: wrong magic number"));
            }
            let version = input.u8().unwrap_or(0);
            if version != VERSION {
                return Err(BlockError::Version {
                    what: "chunk segment",
                    version: version as u64,
                });
            }
        }
        Ok(Self(segments))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all of them.
    pub fn size(&self) -> u64 {
        self.0.iter().map(|s| s.len()).sum()
    }

    /// One of them.
    pub fn get(&self, segment: usize) -> Result<&Arc<dyn ReadAt>, BlockError> {
        self.0.get(segment).ok_or_else(|| {
            BlockError::corrupt(format!("chunks: there is no segment {}", segment + 1))
        })
    }

    /// Reads one chunk: its encoding and its data, checksum verified.
    pub fn chunk(&self, reference: u64) -> Result<(Encoding, Bytes), BlockError> {
        let (number, offset) = split(reference);
        let segment = self.get(number)?;
        let mut len = GUESS;
        loop {
            let bytes = read_up_to(segment, offset as u64, len)?;
            match parse(&bytes)? {
                Ok(frame) => {
                    let data = bytes.slice(frame.start..frame.start + frame.len);
                    return Ok((frame.encoding, data));
                }
                Err(need) if (bytes.len() as u64) < len || need as u64 <= len => {
                    return Err(BlockError::corrupt("chunks: a chunk is truncated"));
                }
                Err(need) => len = need as u64,
            }
        }
    }
}

/// What can be read of `len` bytes at `offset`: the segment may end before.
pub(crate) fn read_up_to(
    segment: &Arc<dyn ReadAt>,
    offset: u64,
    len: u64,
) -> Result<Bytes, BlockError> {
    if offset < HEADER_LEN || offset + MAX_FRAME > segment.len() + MAX_FRAME - 6 {
        return Err(BlockError::corrupt(
            "chunks: a reference points outside its segment",
        ));
    }
    let len = len.min(segment.len() - offset);
    segment
        .read_at(offset, usize::try_from(len).unwrap_or(usize::MAX))
        .map_err(BlockError::reading("chunk segment"))
}
