//! Chunks: a few minutes of one series, encoded; and their samples as columns.
//!
//! - [`xor`] holds the codec of float chunks: [`xor::Encoder`] and [`xor::decode`]; [`xor2`] that of
//!   floats with start timestamps; [`histogram`] that of native histograms; [`aggregate`] takes chunks
//!   of downsampled blocks apart.
//! - [`decode`] opens a chunk of any encoding into [`Columns`].
//! - [`series::SeriesDecoder`] opens all chunks of one series of a `model::SeriesBatch`: it
//!   unites chunks that overlap, deduplicates replicas and clips to a range.
//!
//! With the feature `memory` there are also a source and a sink in [`memory`], and with `suite` in [`suite`]
//! the behaviour that every `model::Source` and `model::Sink` must show.
//!
//! ```
//! use chunk::{Columns, xor};
//!
//! let mut encoder = xor::Encoder::new();
//! encoder.append(15_000, 1.0);
//! encoder.append(30_000, 2.5);
//!
//! let mut columns = Columns::default();
//! xor::decode(encoder.bytes(), &mut columns)?;
//! assert_eq!(columns.ts, [15_000, 30_000]);
//! assert_eq!(columns.values, [1.0, 2.5]);
//! # Ok::<(), chunk::ChunkError>(())
//! ```
//!
//! Useful for: turning bytes into samples and back, as fast as the bits allow. Not useful for:
//! where chunks lie (`block`, `tsdb`), or what samples mean (`promql`).

pub mod aggregate;
mod bits;
pub mod chunker;
pub mod columns;
pub mod dedup;
pub mod histogram;
pub mod histograms;
#[cfg(feature = "memory")]
pub mod memory;
pub mod samples;
pub mod series;
mod starts;
#[cfg(feature = "suite")]
pub mod suite;
pub mod xor;
pub mod xor2;

pub use chunker::{Chunker, EncodedChunk};
pub use columns::Columns;
pub use histogram::HistogramRow;
pub use histograms::{HistogramRef, Histograms};
pub use series::{Dedup, SeriesDecoder, Want};

use model::{Encoding, Kind, SourceError};

/// Why a chunk could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The bytes end before the last sample that the header promises.
    #[error("chunk is truncated")]
    Truncated,
    /// The bytes cannot come from an encoder.
    #[error("chunk is corrupt: {0}")]
    Corrupt(&'static str),
    /// The encoding exists, but this version cannot read it.
    #[error("not implemented: reading {0}")]
    NotImplemented(&'static str),
    /// No known encoding has this number.
    #[error("unknown chunk encoding {0}")]
    UnknownEncoding(u8),
}

impl From<ChunkError> for SourceError {
    fn from(e: ChunkError) -> Self {
        SourceError::new(Kind::Corrupt, e.to_string())
    }
}

/// Decodes a chunk and adds its samples to `out`. After an error `out` is as it was before.
pub fn decode(encoding: Encoding, bytes: &[u8], out: &mut Columns) -> Result<(), ChunkError> {
    match encoding {
        Encoding::XOR => xor::decode(bytes, out),
        Encoding::XOR2 => xor2::decode(bytes, out),
        Encoding::HISTOGRAM
        | Encoding::HISTOGRAM_ST
        | Encoding::FLOAT_HISTOGRAM
        | Encoding::FLOAT_HISTOGRAM_ST => histogram::decode(encoding, bytes, out),
        Encoding::AGGREGATE => Err(ChunkError::NotImplemented("whole aggregate chunks")),
        Encoding(other) => Err(ChunkError::UnknownEncoding(other)),
    }
}

/// How many samples a chunk says it holds: the first two bytes of every sample encoding. An aggregate
/// chunk holds as many as its first column.
pub fn sample_count(encoding: Encoding, bytes: &[u8]) -> Result<usize, ChunkError> {
    let mask = match encoding {
        Encoding::AGGREGATE => {
            return match aggregate::parts(bytes).next().transpose()? {
                Some(part) if part.encoding != Encoding::AGGREGATE => {
                    sample_count(part.encoding, bytes.get(part.range).unwrap_or_default())
                }
                _ => Ok(0),
            };
        }
        Encoding::HISTOGRAM_ST | Encoding::FLOAT_HISTOGRAM_ST => 0x3fff,
        _ => u16::MAX,
    };
    match bytes {
        [a, b, ..] => Ok((u16::from_be_bytes([*a, *b]) & mask) as usize),
        _ => Err(ChunkError::Truncated),
    }
}
