//! The room as its neighbours see it.
#![expect(clippy::unwrap_used, reason = "helpers of tests may end the test")]

mod client;
mod config;
mod kit;
