//! Pulls samples from targets into a [`model::Sink`].
//!
//! - [`parse`] reads the exposition formats without copying a byte.
//! - [`config`] holds the settings: `global` and `scrape_configs` of `prometheus.yml`.
//! - [`Manager`] takes completed jobs ([`Manager::apply`]) and the targets that discovery found
//!   for them ([`Manager::sync`]), and runs one loop a target.
//!
//! A scrape is one batch: samples, the ends of series that have gone, and the report series (`up`
//! and its kin). It is matched against the scrape before, series by series in order, so that a
//! known series costs a comparison of bytes and no hash.
//!
//! ```
//! use scrape::parse::{Event, Format, Parser};
//!
//! let mut parser = Parser::new(b"http_requests_total{code=\"200\"} 17\n", Format::Text);
//! while let Some(event) = parser.next_event()? {
//!     if let Event::Series(series) = event {
//!         assert_eq!(series.text, b"http_requests_total{code=\"200\"}");
//!         assert_eq!(series.value, 17.0);
//!         assert_eq!(series.labels()?.get("code"), Some("200"));
//!     }
//! }
//! # Ok::<(), scrape::parse::ParseError>(())
//! ```
//!
//! Useful for: anything that asks targets for metrics. Not useful for: samples that others push
//! (`ingest`), or deciding who is there to be asked (`discovery`).

mod cache;
pub mod config;
mod counters;
mod error;
mod failures;
mod fetch;
mod looping;
mod manager;
mod metadata;
mod mutate;
mod pace;
pub mod parse;
mod pool;
mod samples;
mod target;

pub use discovery::Group;
pub use error::ScrapeError;
pub use manager::{Manager, Options, seed};
pub use target::explain;
