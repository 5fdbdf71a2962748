//! The room as its neighbours see it.
#![expect(clippy::unwrap_used, reason = "helpers of tests may end the test")]

mod compacting;
mod downsampling;
mod kills;
mod kit;
mod listings;
mod outdating;
mod requests;
mod sharing;
mod wild;
