//! What a query took: for the API's `stats` and `analyze`.

use std::time::Duration;

use crate::exec::operator::Description;
pub use crate::exec::tally::StepSamples;

/// How much is to be measured while a query runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profiling {
    /// Only what the limits need.
    #[default]
    Off,
    /// Times of the phases, samples per step.
    Statistics,
    /// What each part of the plan yields and takes, too.
    Analyze,
}

/// What a query took.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Where its time went.
    pub timings: Timings,
    /// Samples looked at, per step.
    pub samples: StepSamples,
    /// The most samples an evaluation step by step holds at once; what `query.max-samples` limits.
    pub peak_samples: u64,
    /// The plan as it was run, with what each part has done if that was asked for.
    pub plan: Description,
}

/// Where a query's time went. `total` includes `queue` and `eval`; `eval` includes the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Waiting for its turn.
    pub queue: Duration,
    /// Planning and opening the source.
    pub prepare: Duration,
    /// Running the plan.
    pub inner: Duration,
    /// Putting the result in order.
    pub sort: Duration,
    /// All but waiting.
    pub eval: Duration,
    /// All of it.
    pub total: Duration,
}
