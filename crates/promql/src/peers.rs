//! Other evaluators, each with a part of the data for itself.

use std::sync::Arc;

use model::{Labels, Str};

use crate::value::{Evaluator, QueryOptions};

/// An evaluator that has a part of the data for itself.
#[derive(Clone)]
pub struct Peer {
    /// What it is called in warnings.
    pub name: Str,
    /// Evaluates expressions over that part.
    pub evaluator: Arc<dyn Evaluator>,
    /// External labels: each of its series has all labels of one of these sets. Labels that tell replicas
    /// apart are not among them.
    pub labels: Vec<Labels>,
}

/// Who has what.
#[derive(Clone, Default)]
pub struct Parties {
    /// Those that can evaluate expressions.
    pub peers: Vec<Peer>,
    /// External labels of the series that only [`model::Source`]s have.
    pub others: Vec<Labels>,
    /// Names of the external labels by which the data of peers differ; none: any may be one.
    pub partition: Vec<Str>,
}

/// Knows the peers of an engine. What they can do for a query alone is left to them; the engine's own
/// source has to answer from the same data.
pub trait Peers: Send + Sync {
    /// Who has what, for a query with these options; none if all of it has to be evaluated here.
    fn parties(&self, options: &QueryOptions) -> Option<Parties>;
}
