//! The immutable block, byte for byte: read, write, merge.
//!
//! A block is a directory named by a ULID: `meta.json` ([`Meta`]), `index` ([`index`]), `chunks/`
//! ([`chunks`]) and `tombstones` ([`Tombstones`]), as Prometheus' TSDB lays them out.
//!
//! Useful for: everything about finished blocks. Not useful for: samples that still come in
//! (`tsdb`), or blocks in a bucket (`bucket`, `store`), though these read them with the decoders
//! that stand here.

pub mod chunks;
pub mod disk;
mod error;
pub mod index;
mod input;
pub mod meta;
pub mod postings;
pub mod read_at;
pub mod tombstones;

pub use error::BlockError;
pub use meta::Meta;
pub use tombstones::Tombstones;
