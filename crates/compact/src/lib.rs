//! Plan, merge, downsample, retain and clean what lies in the bucket.

pub mod downsample;
mod error;
pub mod garbage;
pub mod group;
pub mod input;
pub mod job;
pub mod output;
pub mod plan;
pub mod retention;

use model::Millis;

pub use error::Error;

/// The finer of the two downsampled resolutions, ms.
pub const FIVE_MINUTES: Millis = 300_000;

/// The coarser one, ms.
pub const HOUR: Millis = 3_600_000;
