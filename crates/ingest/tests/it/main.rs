//! The room's tests: one binary.

mod receive;
mod send;
