//! One rule: what it is, and how its last evaluation went.

use std::sync::Arc;

use model::histogram::FloatHistogram;
use model::report::{RuleHealth, RuleStatus};
use model::scope::PartialResponse;
use model::{Labels, Millis};
use promql::value::{Origin, QueryOptions};
use promql::{Evaluator, InstantQuery, Value};

use crate::alerting::AlertingRule;
use crate::file::{RuleDef, RuleGroup};
use crate::link::Link;
use crate::metrics::Expansions;
use crate::recording::RecordingRule;
use crate::template::Number;

/// What all rules of a process share.
#[derive(Clone)]
pub struct Shared {
    /// Answers the expressions.
    pub evaluator: Arc<dyn Evaluator>,
    /// The process' labels, for templates.
    pub external_labels: Labels,
    /// The URL under which the process is reached.
    pub external_url: String,
    /// Where below it an expression is looked at.
    pub link: Link,
    /// Counts what templates come to.
    pub expansions: Expansions,
}

/// One evaluation: when, and how.
pub(crate) struct Turn {
    /// The tick, ms.
    pub(crate) ts: Millis,
    /// Distance of ticks, ms.
    pub(crate) interval: Millis,
    /// How far back the rules look, ms.
    pub(crate) offset: Millis,
    /// Most series of a rule; 0: any number.
    pub(crate) limit: usize,
    pub(crate) partial_response: PartialResponse,
    /// The group, as the log of queries names it.
    pub(crate) origin: Origin,
}

impl Turn {
    /// When an alert began to fire before a restart: `recorded` is a sample that its group wrote
    /// then, `active_at` since when the alert was active, in whole seconds. The group that wrote
    /// may have had other ticks than this one.
    pub(crate) fn fired_at(&self, recorded: Millis, active_at: Millis, hold: Millis) -> Millis {
        let (tick, interval) = (recorded + self.offset, self.interval.max(1));
        let first_from = |at: Millis| tick - (tick - at).div_euclid(interval) * interval;
        // Of several ticks in that second the last: who was told an earlier start keeps it.
        let last = first_from(active_at + 1000) - interval;
        let active = if last < active_at {
            first_from(active_at)
        } else {
            last
        };
        first_from(active + hold)
    }

    pub(crate) fn options(&self) -> QueryOptions {
        QueryOptions {
            partial_response: self.partial_response,
            origin: self.origin.clone(),
            ..QueryOptions::default()
        }
    }
}

/// A sample that a rule made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Made {
    pub(crate) labels: Labels,
    pub(crate) value: f64,
    /// Its native histogram, if it is one.
    pub(crate) histogram: Option<Arc<FloatHistogram>>,
}

impl Made {
    pub(crate) fn float(labels: Labels, value: f64) -> Self {
        Self {
            labels,
            value,
            histogram: None,
        }
    }

    /// As templates see it.
    pub(crate) fn number(&self) -> Number {
        match &self.histogram {
            Some(h) => Number::Histogram(promql::value::histogram_text(h).into()),
            None => Number::Float(self.value),
        }
    }
}

pub(crate) enum Kind {
    Recording(RecordingRule),
    Alerting(AlertingRule),
}

pub(crate) struct Rule {
    pub(crate) kind: Kind,
    pub(crate) health: RuleHealth,
    pub(crate) last_error: String,
    /// Seconds that the last evaluation took.
    pub(crate) took: f64,
    /// When it was, ms; 0 before the first.
    pub(crate) last: Millis,
    /// Labels of the series that it made the last time.
    pub(crate) made: Vec<Labels>,
}

impl Rule {
    pub(crate) fn new(group: &RuleGroup, def: &RuleDef) -> Self {
        let kind = if def.alert.is_empty() {
            Kind::Recording(RecordingRule::new(group, def))
        } else {
            Kind::Alerting(AlertingRule::new(group, def))
        };
        Self {
            kind,
            health: RuleHealth::Unknown,
            last_error: String::new(),
            took: 0.0,
            last: 0,
            made: Vec::new(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        match &self.kind {
            Kind::Recording(rule) => &rule.name,
            Kind::Alerting(rule) => &rule.name,
        }
    }

    pub(crate) fn query(&self) -> &str {
        match &self.kind {
            Kind::Recording(rule) => &rule.query,
            Kind::Alerting(rule) => &rule.query,
        }
    }

    pub(crate) fn labels(&self) -> &Labels {
        match &self.kind {
            Kind::Recording(rule) => &rule.labels,
            Kind::Alerting(rule) => &rule.labels,
        }
    }

    /// What makes it the same rule after a reload.
    pub(crate) fn identity(&self) -> (String, Labels) {
        (self.name().to_owned(), self.labels().clone())
    }

    pub(crate) fn status(&self) -> RuleStatus {
        let kind = match &self.kind {
            Kind::Recording(_) => model::report::RuleKind::Recording,
            Kind::Alerting(rule) => rule.status(),
        };
        RuleStatus {
            name: self.name().into(),
            query: self.query().to_owned(),
            labels: self.labels().clone(),
            health: self.health,
            last_error: self.last_error.clone(),
            evaluation_time: self.took,
            last_evaluation: self.last,
            kind,
        }
    }
}

/// The samples of an expression at a time. The query ends when nobody waits for it any more.
pub(crate) async fn ask(
    evaluator: &dyn Evaluator,
    expr: &str,
    ts: Millis,
    options: QueryOptions,
) -> Result<Vec<Made>, String> {
    let _gone = options.cancel.on_drop();
    let query = InstantQuery {
        expr: expr.into(),
        ts,
        options,
    };
    let result = evaluator.instant(query).await.map_err(|e| e.to_string())?;
    match result.value {
        Value::Vector(samples) => Ok(samples
            .into_iter()
            .map(|s| Made {
                labels: s.labels,
                value: s.value,
                histogram: s.histogram,
            })
            .collect()),
        Value::Scalar(_, value) => Ok(vec![Made::float(Labels::default(), value)]),
        _ => Err("rule result is not a vector or scalar".to_owned()),
    }
}

/// Whether two samples have equal labels.
pub(crate) fn has_twins(made: &[Made]) -> bool {
    let mut seen = std::collections::HashSet::with_capacity(made.len());
    !made.iter().all(|m| seen.insert(&m.labels))
}

/// The labels of a rule: its own over those of its group.
pub(crate) fn labels_of(group: &RuleGroup, def: &RuleDef) -> Labels {
    let mut builder = Labels::default().builder();
    for (name, value) in group.labels.iter().chain(&def.labels) {
        builder.set(name, value);
    }
    builder.build()
}
