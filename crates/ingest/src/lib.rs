//! Samples that are pushed: remote write and OTLP in, remote write out.
//!
//! - [`Receiver`] takes remote write 1.x and 2.0 and OTLP metrics over HTTP into a [`model::Sink`].
//!   A request is one batch: labels that are new are resolved in one go, what was taken is in the
//!   log before the answer is sent.
//! - [`send`] sends on what the log of a [`tsdb::Db`] holds, as `remote_write` says.
//!
//! Useful for: samples that move between servers. Not useful for: asking targets (`scrape`), or
//! what is read back (`api`, `store`).

pub mod receive;
pub mod send;

pub use receive::Receiver;
pub use send::RemoteWrites;
