//! The API as a client sees it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod admin;
mod answers;
mod explained;
mod fakes;
mod page;
mod prometheus;
mod remote;
mod served;
mod state;
