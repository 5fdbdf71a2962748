//! What a scrape sees: plain values, detached from the instruments.

use std::sync::Arc;

use crate::Desc;

/// One family at the time of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricFamily {
    /// What it is.
    pub desc: Desc,
    /// Its members, ordered by label values where it is a [`Family`](crate::Family).
    pub metrics: Vec<Metric>,
}

/// One member of a family.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Values for the family's label names, in their order.
    pub labels: Vec<Arc<str>>,
    /// Its value.
    pub value: Value,
}

/// A value at the time of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a counter, a gauge or something unknown.
    Number(f64),
    /// Of a histogram.
    Histogram {
        /// Upper bounds ascending, the last one `+Inf`, with cumulated counts.
        buckets: Vec<(f64, u64)>,
        /// Sum of the observations.
        sum: f64,
        /// Number of observations.
        count: u64,
    },
    /// Of a summary.
    Summary {
        /// Quantiles with their values; NaN where nothing was observed lately.
        quantiles: Vec<(f64, f64)>,
        /// Sum of the observations.
        sum: f64,
        /// Number of observations.
        count: u64,
    },
}
