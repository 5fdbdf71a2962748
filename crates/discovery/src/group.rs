//! Target groups, and reading them from documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Labels;
use serde_saphyr::Budget;

use crate::config::Static;

/// Targets that were found together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Who found them, and where: unique within one discoverer.
    pub source: String,
    /// The labels of each target, `__address__` among them.
    pub targets: Vec<Labels>,
    /// Labels that all of them have, unless they have their own.
    pub labels: Labels,
}

/// The groups of one job, in no particular order. The same list as before is the same pointer.
pub type Groups = Arc<Vec<Arc<Group>>>;

/// The groups of every job.
pub type Found = Arc<BTreeMap<Arc<str>, Groups>>;

impl Group {
    /// A group as it was written down, with labels that say where.
    pub fn new(source: String, written: Static, whence: &[(&str, &str)]) -> Self {
        let address = |target: String| Labels::from_pairs([("__address__", target)]);
        let whence = whence
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Self {
            source,
            targets: written.targets.into_iter().map(address).collect(),
            labels: written.labels.into_iter().chain(whence).collect(),
        }
    }
}

/// Reads a list of groups from JSON.
pub(crate) fn from_json(document: &[u8]) -> Result<Vec<Static>, String> {
    no_nulls(serde_json::from_slice(document).map_err(|e| e.to_string())?)
}

/// Reads a list of groups from YAML.
pub(crate) fn from_yaml(document: &str) -> Result<Vec<Static>, String> {
    // The reader's guard is for settings; lists of targets may be long. Every event takes a byte.
    let mut budget = Budget::default();
    budget.max_events = document.len().saturating_add(64);
    budget.max_nodes = budget.max_events;
    let options = serde_saphyr::options! { budget: Some(budget), emit_comments: false };
    let list: Option<Vec<Option<Static>>> =
        serde_saphyr::from_str_with_options(document, options).map_err(|e| e.to_string())?;
    no_nulls(list)
}

fn no_nulls(list: Option<Vec<Option<Static>>>) -> Result<Vec<Static>, String> {
    let list = list.unwrap_or_default().into_iter().enumerate();
    list.map(|(i, group)| group.ok_or_else(|| format!("nil target group item found (index {i})")))
        .collect()
}
