//! What can go wrong when a target is scraped, or a job set up.

use wire::client::ClientError;

use crate::parse::{NegotiationError, ParseError};

/// Why a scrape failed, or a job cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// The target did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It answered with something else than 200.
    #[error("server returned HTTP status {0}")]
    Status(String),
    /// Its answer broke off, or is no gzip.
    #[error("reading the response: {0}")]
    Body(String),
    /// Its answer is too big.
    #[error("body size limit exceeded")]
    BodySizeLimit,
    /// It is not said how the answer is written.
    #[error(transparent)]
    Format(#[from] NegotiationError),
    /// The answer is not written so.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A sample without a name.
    #[error("missing metric name (__name__ label)")]
    NoName,
    /// Names that the job does not allow.
    #[error("invalid metric name or label names: {0}")]
    InvalidNames(String),
    /// More samples than the job allows.
    #[error("sample limit exceeded")]
    SampleLimit,
    /// A native histogram that cannot be one.
    #[error("invalid native histogram: {0}")]
    Histogram(String),
    /// A native histogram with more buckets than the job allows, however coarse it is made.
    #[error("histogram bucket limit exceeded")]
    BucketLimit,
    /// Labels beyond the job's limits.
    #[error("{0}")]
    LabelLimit(String),
    /// More targets than the job allows.
    #[error("target_limit exceeded (number of targets: {targets}, limit: {limit})")]
    TargetLimit {
        /// How many there are.
        targets: usize,
        /// How many there may be.
        limit: u64,
    },
    /// The samples could not be stored.
    #[error("storing the samples: {0}")]
    Sink(String),
    /// A job that cannot be set up.
    #[error("job {job:?}: {message}")]
    Job {
        /// Which job.
        job: String,
        /// Why.
        message: String,
    },
    /// The metrics of this room could not be registered.
    #[error(transparent)]
    Metrics(#[from] metrics::Error),
}
