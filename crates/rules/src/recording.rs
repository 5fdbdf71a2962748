//! Rules that record the value of an expression.

use model::Labels;

use crate::file::{RuleDef, RuleGroup};
use crate::rule::{Made, Shared, Turn, ask, has_twins, labels_of};

pub(crate) struct RecordingRule {
    pub(crate) name: String,
    pub(crate) query: String,
    pub(crate) labels: Labels,
    /// Labels to set; an empty value removes the label.
    set: Vec<(String, String)>,
}

impl RecordingRule {
    pub(crate) fn new(group: &RuleGroup, def: &RuleDef) -> Self {
        let mut set = group.labels.clone();
        set.extend(def.labels.clone());
        Self {
            name: def.record.clone(),
            query: crate::pretty(&def.expr),
            labels: labels_of(group, def),
            set: set.into_iter().collect(),
        }
    }

    /// The samples that it records.
    pub(crate) async fn evaluate(&self, shared: &Shared, turn: &Turn) -> Result<Vec<Made>, String> {
        let limit = turn.limit;
        let at = turn.ts - turn.offset;
        let mut made = ask(&*shared.evaluator, &self.query, at, turn.options()).await?;
        for sample in &mut made {
            let mut builder = sample.labels.builder();
            builder.set(model::METRIC_NAME, &self.name);
            for (name, value) in &self.set {
                builder.set(name, value);
            }
            sample.labels = builder.build();
        }
        if has_twins(&made) {
            return Err(
                "vector contains metrics with the same labelset after applying rule labels"
                    .to_owned(),
            );
        }
        if limit > 0 && made.len() > limit {
            let count = made.len();
            return Err(format!("exceeded limit of {limit} with {count} series"));
        }
        Ok(made)
    }
}
