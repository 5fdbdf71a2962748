//! The room as its neighbours see it.
#![expect(clippy::unwrap_used, reason = "helpers of tests may end the test")]

mod acceptance;
mod downsampled;
mod endpoints;
mod gateway;
mod kit;
mod promtool;
mod proxy;
mod remote;
mod reports;
mod requests;
mod tiers;
