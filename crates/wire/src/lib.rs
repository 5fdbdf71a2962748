//! crossing the network: generated protobuf, conversions, gRPC, HTTP client and server shells, TLS

pub mod server;

pub mod client;
