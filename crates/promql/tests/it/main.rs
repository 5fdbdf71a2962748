//! Tests of the whole room: Prometheus' conformance corpora and properties.

mod asked;
mod conformance;
mod corpus;
mod dealt;
mod determinism;
mod engine;
mod oracle;
mod oracle_data;
mod parser;
mod peers;
mod roundtrip;
mod scripts;
