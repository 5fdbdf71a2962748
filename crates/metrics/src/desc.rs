//! What a metric is called and what kind it is, checked when it is registered.

use std::fmt;
use std::sync::Arc;

/// What kind of value a metric has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only grows, until the process starts again.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations counted in buckets.
    Histogram,
    /// Observations with their sum, count and recent quantiles.
    Summary,
    /// Nothing is promised.
    Unknown,
}

/// Name, help, kind and label names of one metric family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desc {
    /// The family's name as the text format shows it (a counter's ends in `_total`).
    pub name: Arc<str>,
    /// One sentence for people.
    pub help: Arc<str>,
    /// The kind of its values.
    pub kind: Kind,
    /// Names of the labels that tell its members apart.
    pub labels: Arc<[Arc<str>]>,
}

/// Why a metric could not be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The name is not `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    InvalidName(String),
    /// A label name is not `[a-zA-Z_][a-zA-Z0-9_]*`, is reserved, or appears twice.
    InvalidLabel {
        /// The metric's name.
        metric: String,
        /// The label's name.
        label: String,
    },
    /// Bucket bounds do not ascend, or a quantile lies outside `[0, 1]`.
    InvalidOptions(String),
    /// The name is taken by a family of another kind, help, labels or options, or by a collector.
    Conflict(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::InvalidName(name) => write!(f, "{name:?} is not a valid metric name"),
            Error::InvalidLabel { metric, label } => {
                write!(f, "{label:?} is not a valid label name for metric {metric}")
            }
            Error::InvalidOptions(name) => {
                write!(f, "buckets or quantiles of metric {name} are not valid")
            }
            Error::Conflict(name) => {
                write!(
                    f,
                    "metric {name} is already registered with another meaning"
                )
            }
        }
    }
}

impl std::error::Error for Error {}

impl Desc {
    /// A description; its names are checked when it is registered.
    pub fn new(kind: Kind, name: &str, help: &str, labels: &[&str]) -> Self {
        Self {
            name: name.into(),
            help: help.into(),
            kind,
            labels: labels.iter().map(|&l| Arc::from(l)).collect(),
        }
    }

    /// Checks the names: ours are all of the scheme that every Prometheus can read.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !is_name(&self.name, true) {
            return Err(Error::InvalidName(self.name.to_string()));
        }
        let reserved = match self.kind {
            Kind::Histogram => "le",
            Kind::Summary => "quantile",
            _ => "",
        };
        for (i, label) in self.labels.iter().enumerate() {
            let twice = self.labels[..i].contains(label);
            if !is_name(label, false) || label.starts_with("__") || **label == *reserved || twice {
                return Err(Error::InvalidLabel {
                    metric: self.name.to_string(),
                    label: label.to_string(),
                });
            }
        }
        Ok(())
    }
}

fn is_name(name: &str, colon: bool) -> bool {
    !name.is_empty()
        && name.bytes().enumerate().all(|(i, b)| {
            b.is_ascii_alphabetic()
                || b == b'_'
                || (colon && b == b':')
                || (i > 0 && b.is_ascii_digit())
        })
}
