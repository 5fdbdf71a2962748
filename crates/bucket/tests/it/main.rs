//! The room as its neighbours see it.
#![expect(clippy::unwrap_used, reason = "helpers of tests may end the test")]

mod catalog;
mod causes;
mod client;
mod config;
mod kit;
mod shipper;
