//! The immutable block, byte for byte: read, write, merge.
//!
//! A block is a directory named by a ULID: `meta.json` ([`Meta`]), `index` ([`index`]), `chunks/`
//! ([`chunks`]) and `tombstones` ([`Tombstones`]), as Prometheus' TSDB lays them out.
//!
//! ```
//! use block::{Block, Chunk, Meta, Writer, index::SymbolSet};
//! use model::{Encoding, Labels, TimeRange};
//!
//! let dir = tempfile::tempdir()?;
//! let up = Labels::from_pairs([("__name__", "up"), ("job", "node")]);
//! let mut encoder = chunk::xor::Encoder::new();
//! encoder.append(1_000, 1.0);
//!
//! let meta = Meta::new(ulid::Ulid::generate(), TimeRange::new(0, 7_199_999));
//! let symbols = SymbolSet::collect(up.iter().flat_map(|(name, value)| [name, value]));
//! let mut writer = Writer::create(dir.path(), meta, symbols)?;
//! let chunk = Chunk { min: 1_000, max: 1_000, encoding: Encoding::XOR, data: encoder.bytes() };
//! writer.add_labels(&up, &[chunk])?;
//! let meta = writer.finish()?.expect("one series was added");
//!
//! let block = Block::open(&dir.path().join(meta.ulid.to_string()))?;
//! assert_eq!(block.meta().stats.num_samples, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Useful for: everything about finished blocks. Not useful for: samples that still come in
//! (`tsdb`), or blocks in a bucket (`bucket`, `store`), though these read them with the decoders
//! that stand here.

mod block;
pub mod chunks;
pub mod disk;
mod error;
pub mod fs;
pub mod index;
mod input;
pub mod merge;
pub mod meta;
pub mod postings;
pub mod read_at;
pub mod source;
#[cfg(feature = "suite")]
pub mod suite;
pub mod tombstones;
mod writer;

pub use block::Block;
pub use error::BlockError;
pub use meta::Meta;
pub use source::BlockSource;
pub use tombstones::Tombstones;
pub use writer::{Chunk, TMP_FOR_CREATION, Writer};
