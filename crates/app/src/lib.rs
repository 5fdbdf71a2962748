//! flags, roles, wiring, lifecycle

pub mod config;
