//! Plan, merge, downsample, retain and clean what lies in the bucket.
//!
//! [`Compactor`] does it all, again and again: it looks at the bucket through a `bucket::Catalog`, puts
//! blocks into groups ([`group`]), decides what to do ([`plan`], [`downsample::plan`], [`retention`],
//! [`garbage`]), claims it so that others leave it alone ([`claims`]), and makes new blocks of old ones
//! ([`job`]): read where they lie, written where they will lie. What it decides is pure arithmetic, and
//! what it makes are Thanos' blocks.
//!
//! ```
//! use compact::plan::{Apart, Planner, RANGES};
//! use block::Meta;
//! use model::TimeRange;
//!
//! let hours = |from: i64, to: i64| {
//!     Meta::new(ulid::Ulid::generate(), TimeRange::new(from * 3_600_000, to * 3_600_000 - 1))
//! };
//! let blocks = [hours(0, 2), hours(2, 4), hours(4, 6), hours(6, 8), hours(8, 10)];
//! let blocks: Vec<&Meta> = blocks.iter().collect();
//! let planner = Planner { ranges: RANGES.to_vec(), max_index_size: u64::MAX };
//! let decision = planner.decide(&blocks, &Apart::default(), |_| 0);
//! assert_eq!(decision.plan.len(), 4, "the first eight hours");
//! ```
//!
//! Useful for: everything that changes blocks in a bucket. Not useful for: uploading them the first time
//! (`bucket::Shipper`), answering from them (`store`).

pub mod claims;
pub mod compactor;
pub mod downsample;
mod error;
pub mod garbage;
pub mod group;
pub mod health;
pub mod input;
pub mod job;
mod meters;
pub mod output;
pub mod plan;
pub mod replicate;
pub mod retention;
pub mod rewrite;

use model::Millis;

pub use compactor::{Compactor, Options, catalog_options};
pub use error::Error;

/// The finer of the two downsampled resolutions, ms.
pub const FIVE_MINUTES: Millis = 300_000;

/// The coarser one, ms.
pub const HOUR: Millis = 3_600_000;
