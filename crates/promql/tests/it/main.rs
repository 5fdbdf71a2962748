//! Tests of the whole room: Prometheus' conformance corpora and properties.

mod asked;
mod cancelled;
mod conformance;
mod corpus;
mod dealt;
mod determinism;
mod engine;
mod held;
mod large;
mod memory;
mod oracle;
mod oracle_data;
mod parser;
mod peers;
mod roundtrip;
mod scripts;
