//! The block against real Prometheus: blocks that it wrote are read sample for sample, blocks that
//! we write are accepted and read by `promtool`.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod promtool;
mod real_blocks;
mod support;
