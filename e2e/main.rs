//! End to end: real processes over loopback, free ports, temporary folders, nothing left running.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agent;
mod alerts;
mod beside;
mod bucket;
mod clusters;
mod compact;
mod compare;
mod continuity;
mod crash;
mod differential;
mod distributed;
mod downsampled;
mod evaluated;
mod exporter;
mod fleet;
mod frontend;
mod fuzz;
mod gateway;
mod grafana;
mod kubernetes;
mod limits;
mod metrics;
mod moving;
mod outage;
mod outside;
mod peers;
mod process;
mod programs;
mod promtool;
mod random;
mod remote;
mod reports;
mod request_log;
mod rule;
mod searched;
mod secured;
mod soak;
mod stateless;
mod tenants;
mod traced;
mod upgrade;
mod verify;
