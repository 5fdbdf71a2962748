//! Rules, targets, metadata, exemplars and cardinality over gRPC: served, asked of many endpoints,
//! and made one.

mod dedup;
mod fan_out;
mod prometheus;
mod serve;
mod words;

pub use fan_out::{FanOut, FanOutOptions};
pub(crate) use serve::Sister;
