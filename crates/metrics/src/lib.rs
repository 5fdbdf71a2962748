//! Our own metrics: a registry that is passed in, instruments that are atomics, and encoders.
//!
//! A [`Registry`] hands out instruments ([`Counter`], [`Gauge`], [`Histogram`], [`Summary`] and
//! their float forms), alone or as a labelled [`Family`]. Handles are cheap to clone and to
//! update; a scrape [gathers](Registry::gather) plain [`MetricFamily`] values, and [`encode`]
//! writes those in the [`Format`] that the client [asked for](Format::negotiate).
//!
//! ```
//! use metrics::{Format, Registry};
//!
//! let registry = Registry::new();
//! let requests = registry.counters("http_requests_total", "Requests answered.", ["code"])?;
//! let ok = requests.with(&["200"]); // keep the handle; looking it up costs a lock
//! ok.inc();
//!
//! let mut body = Vec::new();
//! metrics::encode(&registry.gather(), Format::Text, &mut body);
//! let text = String::from_utf8(body).unwrap();
//! assert!(text.contains("http_requests_total{code=\"200\"} 1\n"));
//! # Ok::<(), metrics::Error>(())
//! ```
//!
//! Useful for: what the process says about itself. Not useful for: samples that are data
//! (`model`, `tsdb`), or reading somebody else's exposition (`scrape`).

mod desc;
mod encode;
mod family;
mod histogram;
mod negotiate;
mod number;
mod process;
mod registry;
mod snapshot;
mod summary;
mod value;

pub use desc::{Desc, Error, Kind};
pub use encode::encode;
pub use family::{Family, Instrument};
pub use histogram::{DEFAULT_BUCKETS, Histogram, Timer, exponential_buckets, linear_buckets};
pub use negotiate::Format;
pub use process::{build_info, process};
pub use registry::{Collector, Registry, Samples};
pub use snapshot::{Metric, MetricFamily, Value};
pub use summary::Summary;
pub use value::{Counter, FloatCounter, FloatGauge, Gauge, InFlight};
