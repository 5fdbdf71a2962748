//! The room's tests: one binary.

mod otlp;
mod receive;
mod send;
