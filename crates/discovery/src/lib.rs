//! Who is there to talk to: target groups from static lists, files, HTTP, DNS, Kubernetes, Consul.
//!
//! A [`Manager`] runs the [`Discoverer`]s that jobs ask for and publishes their [`Group`]s.
//! [`config::Discovery`] is every discovery section that a scrape job (or an Alertmanager entry)
//! of `prometheus.yml` may have. A mechanism that we do not run is still read and judged, so that
//! a configuration can be checked; [`config::Discovery::unsupported`] names it.
//!
//! ```
//! use discovery::config::Discovery;
//!
//! let job: Discovery = serde_json::from_str(
//!     r#"{"static_configs": [{"targets": ["a:9100"], "labels": {"env": "prod"}}],
//!         "nomad_sd_configs": [{"server": "http://localhost:4646"}]}"#,
//! )?;
//! assert_eq!(job.static_configs[0].targets, ["a:9100"]);
//! assert_eq!(job.unsupported(), ["nomad_sd_configs"]);
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! Useful for: finding targets, endpoints and Alertmanagers. Not useful for: talking to them
//! (`scrape`, `rules`, `store`), or relabelling what was found (`model::relabel`).

pub mod config;
mod counters;
mod discoverer;
pub mod dns;
mod group;
mod manager;

#[cfg(feature = "kubernetes")]
pub use discoverer::ClusterError;
pub use discoverer::{Discoverer, read_file};
pub use group::{Found, Group, Groups};
pub use manager::{Manager, ManagerOptions, Updates};

/// Why discovery cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings of an HTTP client cannot be obeyed.
    #[error(transparent)]
    Client(#[from] wire::client::ClientError),
    /// A Kubernetes cluster cannot be reached.
    #[cfg(feature = "kubernetes")]
    #[error("cannot create service discovery for Kubernetes: {0}")]
    Cluster(#[from] ClusterError),
    /// Its metrics are taken.
    #[error(transparent)]
    Metrics(#[from] metrics::Error),
}
