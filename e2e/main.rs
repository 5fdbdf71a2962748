//! End to end: real processes over loopback, free ports, temporary folders, nothing left running.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod alerts;
mod bucket;
mod compare;
mod continuity;
mod crash;
mod differential;
mod evaluated;
mod exporter;
mod fleet;
mod frontend;
mod fuzz;
mod limits;
mod process;
mod random;
mod rule;
