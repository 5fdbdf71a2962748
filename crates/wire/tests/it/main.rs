//! What crosses the network, tested from outside.

#![allow(clippy::unwrap_used)]

mod generated;
mod grpc;
mod keepalive;
