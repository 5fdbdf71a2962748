//! Crossing the network: protobuf, gRPC, HTTP client and server shells, TLS.
//!
//! - [`server`] puts an [`axum::Router`] on the network, [`client`] asks others over HTTP.
//! - [`grpc`] does both for gRPC: [`grpc::Server`] and [`grpc::Channel`].
//! - [`proto`] has the generated messages of Prometheus and Thanos, [`convert`] turns them into the
//!   words of `model` and back, and [`series`] does so for series without messages in between;
//!   [`fields`] walks over any message without one, [`put`] writes one.
//! - [`aside()`] is where whoever listens has work done that takes the processor.
//! - [`trace`] takes from callers which trace a call belongs to, and tells it to those we call.
//!
//! ```
//! use model::{Labels, SeriesBatch, Symbols};
//! use wire::series::{Decoder, Encoder};
//!
//! let symbols = Symbols::default();
//! let mut batch = SeriesBatch::default();
//! symbols.intern_labels(&Labels::from_pairs([("job", "node")]), &mut batch.labels);
//! batch.finish_series();
//!
//! let mut encoder = Encoder::new(64);
//! encoder.series(&batch, 0, &symbols);
//! encoder.flush();
//! let mut back = SeriesBatch::default();
//! for frame in encoder.ready() {
//!     Decoder::default().read(&frame, &symbols, &mut back)?;
//! }
//! assert_eq!(back.labels, batch.labels);
//! # Ok::<(), wire::series::FrameError>(())
//! ```
//!
//! Useful for: anything that listens or calls. Not useful for: deciding what to answer.

mod aside;
pub mod client;
pub mod convert;
pub mod fields;
pub mod grpc;
pub mod histogram;
pub mod proto;
pub mod put;
pub mod remote;
pub mod request_log;
pub mod series;
pub mod server;
pub mod trace;

pub use aside::{Turns, aside, aside_on};

/// Reads YAML of which only some keys are of interest.
pub fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    let options = serde_saphyr::options! { with_snippet: false, emit_comments: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| e.to_string())
}
