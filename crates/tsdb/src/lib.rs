//! The local database: the mutable head, its write-ahead log, and the blocks that are cut from it.
//!
//! [`Db`] opens a data folder of Prometheus' layout, both ways: what Prometheus left is read here,
//! what is left here Prometheus reads. It is a [`model::Sink`] (a batch goes to the log first, then
//! to memory) and a [`model::Source`] (head and local blocks as one, equal series united). It has
//! threads of its own and needs no async runtime: its futures are ready when they are made.
//!
//! ```
//! use model::Labels;
//! use tsdb::{Db, Options};
//!
//! let dir = tempfile::tempdir()?;
//! let db = Db::open(dir.path(), Options::quiet())?;
//! let up = Labels::from_pairs([("__name__", "up"), ("job", "node")]);
//! db.append_samples(&[(up, 1_000, 1.0)])?;
//! drop(db);
//!
//! let db = Db::open(dir.path(), Options::quiet())?;
//! assert_eq!(db.replayed().samples, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Agent`] is the log alone: a sink for samples that are only sent on.
//!
//! Useful for: taking samples of now and answering for the last weeks. Not useful for: blocks in a
//! bucket (`bucket`, `store`), or reading finished blocks alone (`block`).

mod agent;
mod codec;
mod db;
mod error;
mod head;
mod keeper;
mod lock;
mod options;
mod replay;
mod rewrite;
mod stats;
pub mod wal;

pub use agent::{Agent, AgentOptions};
/// The files that it writes: [`Options::fs`].
pub use block::fs;
pub use db::{Db, ReadOnly, Retention, Round, Space};
pub use error::Error;
pub use head::Starts;
pub use options::{Disk, Hold, OnProgress, Options, Readers};
pub use replay::{Progress, Replayed};
pub use stats::{AgentStats, Stats, WalStats};
