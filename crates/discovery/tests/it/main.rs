//! What the discovery sections of configuration files mean, and what comes out of running them.

#![allow(clippy::unwrap_used)]

mod config;
mod consul;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod running;
