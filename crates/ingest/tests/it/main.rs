//! The room's tests: one binary.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod otlp;
mod receive;
mod send;
