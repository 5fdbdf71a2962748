//! Rules that raise alerts.

use std::collections::{BTreeMap, HashSet};

use model::report::{AlertState, AlertStatus, RuleKind};
use model::scope::PartialResponse;
use model::{Labels, METRIC_NAME, Millis};
use promql::value::QueryOptions;

use crate::file::{RuleDef, RuleGroup};
use crate::manager::History;
use crate::rule::{Made, Shared, Turn, ask, labels_of};
use crate::template::{Env, Root, Sample, Template};

/// The series that says which alerts there are.
pub(crate) const ALERTS: &str = "ALERTS";
/// The series that says since when.
pub(crate) const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";
pub(crate) const ALERT_NAME: &str = "alertname";
/// How long a resolved alert is told again, so that nobody misses that it is over.
const RESOLVED_RETENTION: Millis = 15 * 60 * 1000;

/// An alert as Alertmanager is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Who it is.
    pub labels: Labels,
    /// What people read.
    pub annotations: Labels,
    /// Since when it fires, ms.
    pub starts_at: Millis,
    /// When it was resolved, or until when it holds if it is not told again, ms.
    pub ends_at: Millis,
    /// A link to its expression.
    pub generator_url: String,
}

/// An alert that is pending, fires, or was resolved lately.
#[derive(Clone, Debug)]
struct Active {
    annotations: Labels,
    value: f64,
    state: State,
    active_at: Millis,
    fired_at: Millis,
    /// Since when it fired before a restart, if it is about to do so again.
    fired_before: Option<Millis>,
    resolved_at: Option<Millis>,
    last_sent_at: Option<Millis>,
    valid_until: Millis,
    keep_firing_since: Option<Millis>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Resolved,
    Pending,
    Firing,
}

pub(crate) struct AlertingRule {
    pub(crate) name: String,
    pub(crate) query: String,
    pub(crate) labels: Labels,
    annotations: Labels,
    hold: Millis,
    keep_firing_for: Millis,
    label_templates: Vec<(String, Result<Template, String>)>,
    annotation_templates: Vec<(String, Result<Template, String>)>,
    active: BTreeMap<Labels, Active>,
    /// Whether what was known before a restart is known again: only then its state is recorded.
    pub(crate) restored: bool,
}

impl AlertingRule {
    pub(crate) fn new(group: &RuleGroup, def: &RuleDef) -> Self {
        let mut labels = group.labels.clone();
        labels.extend(def.labels.clone());
        let templates = |texts: &BTreeMap<String, String>| {
            texts
                .iter()
                .map(|(name, text)| (name.clone(), Template::parse(&def.alert, text)))
                .collect()
        };
        Self {
            name: def.alert.clone(),
            query: crate::pretty(&def.expr),
            label_templates: templates(&labels),
            annotation_templates: templates(&def.annotations),
            labels: labels_of(group, def),
            annotations: def
                .annotations
                .iter()
                .map(|(n, v)| (n.clone(), v.clone()))
                .collect(),
            hold: def.hold.0,
            keep_firing_for: def.keep_firing_for.0,
            active: BTreeMap::new(),
            restored: false,
        }
    }

    /// Takes over the alerts of the same rule before a reload.
    pub(crate) fn inherit(&mut self, old: &AlertingRule) {
        self.active = old.active.clone();
        self.restored = old.restored;
    }

    /// Evaluates it, and gives the samples to record.
    pub(crate) async fn evaluate(
        &mut self,
        shared: &Shared,
        turn: &Turn,
    ) -> Result<Vec<Made>, String> {
        let (ts, limit) = (turn.ts, turn.limit);
        let at = ts - turn.offset;
        let samples = ask(&*shared.evaluator, &self.query, at, turn.options()).await?;
        let mut seen = HashSet::with_capacity(samples.len());
        let mut now = Vec::with_capacity(samples.len());
        for sample in samples {
            let (labels, annotations) = self.describe(shared, &sample, turn).await;
            if !seen.insert(labels.clone()) {
                return Err(
                    "vector contains metrics with the same labelset after applying alert labels"
                        .to_owned(),
                );
            }
            now.push((labels, annotations, sample.value));
        }
        for (labels, annotations, value) in now {
            match self.active.get_mut(&labels) {
                Some(known) if known.state != State::Resolved => {
                    known.value = value;
                    known.annotations = annotations;
                }
                _ => {
                    let fresh = Active {
                        annotations,
                        value,
                        state: State::Pending,
                        active_at: ts,
                        fired_at: 0,
                        fired_before: None,
                        resolved_at: None,
                        last_sent_at: None,
                        valid_until: 0,
                        keep_firing_since: None,
                    };
                    self.active.insert(labels, fresh);
                }
            }
        }
        let active = self.advance(ts, &seen);
        if limit > 0 && active > limit {
            self.active.clear();
            return Err(format!("exceeded limit of {limit} with {active} alerts"));
        }
        Ok(if self.restored {
            self.samples()
        } else {
            Vec::new()
        })
    }

    /// Moves every alert on: to firing, to resolved, to forgotten. How many are active.
    fn advance(&mut self, ts: Millis, seen: &HashSet<Labels>) -> usize {
        let (hold, keep_firing_for) = (self.hold, self.keep_firing_for);
        let mut active = 0;
        self.active.retain(|labels, alert| {
            if seen.contains(labels) {
                alert.keep_firing_since = None;
            } else {
                let mut keeps = false;
                if alert.state == State::Firing && keep_firing_for > 0 {
                    let since = *alert.keep_firing_since.get_or_insert(ts);
                    keeps = ts - since < keep_firing_for;
                }
                let over = alert
                    .resolved_at
                    .is_some_and(|at| ts - at > RESOLVED_RETENTION);
                if alert.state == State::Pending || over {
                    return false;
                }
                if alert.state != State::Resolved && !keeps {
                    alert.state = State::Resolved;
                    alert.resolved_at = Some(ts);
                }
                if !keeps {
                    return true;
                }
            }
            active += 1;
            if alert.state == State::Pending && ts - alert.active_at >= hold {
                alert.state = State::Firing;
                // Whoever was told of it before a restart shall not take it for another.
                alert.fired_at = alert.fired_before.take().unwrap_or(ts);
            }
            true
        });
        active
    }

    fn samples(&self) -> Vec<Made> {
        let mut made = Vec::new();
        for (labels, alert) in &self.active {
            let state = match alert.state {
                State::Resolved => continue,
                State::Pending => "pending",
                State::Firing => "firing",
            };
            let mut builder = labels.builder();
            builder.set(METRIC_NAME, ALERTS_FOR_STATE);
            let active_at = alert.active_at.div_euclid(1000) as f64;
            let since = Made::float(builder.build(), active_at);
            builder.set(METRIC_NAME, ALERTS);
            builder.set("alertstate", state);
            made.push(Made::float(builder.build(), 1.0));
            made.push(since);
        }
        made
    }

    /// The alert's labels and annotations for a sample of the expression.
    async fn describe(&self, shared: &Shared, sample: &Made, turn: &Turn) -> (Labels, Labels) {
        let root = Root {
            labels: sample.labels.clone(),
            external_labels: shared.external_labels.clone(),
            external_url: shared.external_url.clone(),
            value: sample.number(),
        };
        let mut labels = sample.labels.builder();
        labels.remove(METRIC_NAME);
        for (name, template) in &self.label_templates {
            labels.set(name, self.expand(shared, template, &root, turn).await);
        }
        labels.set(ALERT_NAME, &self.name);
        let mut annotations = Labels::default().builder();
        for (name, template) in &self.annotation_templates {
            annotations.set(name, self.expand(shared, template, &root, turn).await);
        }
        (labels.build(), annotations.build())
    }

    /// A template's text; a failure stands in its place, for an alert without a description is
    /// better than none.
    async fn expand(
        &self,
        shared: &Shared,
        template: &Result<Template, String>,
        root: &Root,
        turn: &Turn,
    ) -> String {
        let ts = turn.ts;
        let expanded = match template {
            Err(e) => Err(e.clone()),
            Ok(template) if template.asks() => {
                let (template, root, shared) = (template.clone(), root.clone(), shared.clone());
                let handle = tokio::runtime::Handle::current();
                let options = turn.options();
                let task = tokio::task::spawn_blocking(move || {
                    let query = |expr: &str| {
                        // One that has ended must not end the next.
                        let options = QueryOptions {
                            cancel: model::Cancel::default(),
                            ..options.clone()
                        };
                        let found = handle.block_on(ask(&*shared.evaluator, expr, ts, options))?;
                        let sample = |m: Made| Sample {
                            value: m.number(),
                            labels: m.labels,
                        };
                        Ok(found.into_iter().map(sample).collect())
                    };
                    let env = Env {
                        query: &query,
                        now: ts,
                        external_url: &shared.external_url,
                    };
                    template.expand(root, &env)
                });
                task.await.unwrap_or_else(|e| Err(e.to_string()))
            }
            Ok(template) => {
                let env = Env {
                    now: ts,
                    external_url: &shared.external_url,
                    ..Env::default()
                };
                template.expand(root.clone(), &env)
            }
        };
        shared.expansions.all.inc();
        expanded.unwrap_or_else(|error| {
            shared.expansions.failed.inc();
            tracing::warn!(alert = %self.name, %error, "Expanding alert template failed");
            format!("<error expanding template: {error}>")
        })
    }

    /// The alerts that are to be told now; they count as told.
    pub(crate) fn take_due(
        &mut self,
        shared: &Shared,
        turn: &Turn,
        resend_delay: Millis,
    ) -> Vec<Alert> {
        let (ts, interval) = (turn.ts, turn.interval);
        let generator_url = format!("{}{}", shared.external_url, shared.link.of(&self.query));
        let mut alerts = Vec::new();
        for (labels, alert) in &mut self.active {
            let due = match (alert.state, alert.last_sent_at) {
                (State::Pending, _) => false,
                (_, None) => true,
                (_, Some(sent)) => {
                    alert.resolved_at.is_some_and(|at| at > sent) || sent + resend_delay < ts
                }
            };
            if !due {
                continue;
            }
            alert.last_sent_at = Some(ts);
            // Two evaluations or sends may fail before Alertmanager takes it for resolved.
            alert.valid_until = ts + 4 * resend_delay.max(interval);
            alerts.push(Alert {
                labels: labels.clone(),
                annotations: alert.annotations.clone(),
                starts_at: alert.fired_at,
                ends_at: alert.resolved_at.unwrap_or(alert.valid_until),
                generator_url: generator_url.clone(),
            });
        }
        alerts
    }

    /// Takes over since when alerts are active from what was recorded before a restart.
    pub(crate) async fn restore(
        &mut self,
        shared: &Shared,
        history: &History,
        turn: &Turn,
    ) -> Result<(), String> {
        let ts = turn.ts;
        self.restored = true;
        let (hold, grace) = (self.hold, history.grace_period);
        // A short `for` is soon over again.
        if hold < grace || self.active.is_empty() {
            return Ok(());
        }
        let options = || QueryOptions {
            lookback: Some(history.outage_tolerance),
            partial_response: PartialResponse::Warn,
            ..turn.options()
        };
        let name = model::text::quote(&self.name);
        let selector = format!("{ALERTS_FOR_STATE}{{{ALERT_NAME}={name}}}");
        let since = ask(&*history.evaluator, &selector, ts, options()).await?;
        let times = format!("timestamp({selector})");
        let times = ask(&*history.evaluator, &times, ts, options()).await?;
        let nameless = |labels: &Labels| {
            let mut builder = labels.builder();
            builder.remove(METRIC_NAME);
            for name in &history.ignored_labels {
                builder.remove(name);
            }
            builder.build()
        };
        let seen: BTreeMap<Labels, f64> = times
            .into_iter()
            .map(|m| (nameless(&m.labels), m.value))
            .collect();
        for recorded in since {
            let labels = nameless(&recorded.labels);
            let Some(seen) = seen.get(&labels) else {
                continue;
            };
            let Some(alert) = self.known_as(labels, &shared.external_labels) else {
                continue;
            };
            let down_at = (seen * 1000.0).round() as Millis;
            let active_at = (recorded.value * 1000.0) as Millis;
            let remaining = hold - (down_at - active_at);
            alert.active_at = if remaining <= 0 {
                // The next evaluation sees that.
                alert.fired_before = Some(turn.fired_at(down_at, active_at, hold));
                active_at
            } else if remaining < grace {
                ts + grace - hold
            } else {
                // While nobody looked, time did not count.
                active_at + (ts - down_at)
            };
        }
        Ok(())
    }

    /// The active alert that was recorded with these labels: as they are, or without the labels
    /// that everything gets that leaves the process.
    fn known_as(&mut self, labels: Labels, external: &Labels) -> Option<&mut Active> {
        let labels = if self.active.contains_key(&labels) {
            labels
        } else {
            let mut inner = labels.builder();
            for (name, value) in external.iter() {
                if labels.get(name) == Some(value) {
                    inner.remove(name);
                }
            }
            inner.build()
        };
        self.active.get_mut(&labels)
    }

    pub(crate) fn status(&self) -> RuleKind {
        let alerts: Vec<AlertStatus> = self
            .active
            .iter()
            .filter(|(_, a)| a.state != State::Resolved)
            .map(|(labels, a)| AlertStatus {
                labels: labels.clone(),
                annotations: a.annotations.clone(),
                state: match a.state {
                    State::Firing => AlertState::Firing,
                    _ => AlertState::Pending,
                },
                active_at: a.active_at,
                keep_firing_since: a.keep_firing_since,
                value: a.value,
            })
            .collect();
        let state = alerts.iter().map(|a| a.state).max();
        RuleKind::Alerting {
            state: state.unwrap_or(AlertState::Inactive),
            hold: self.hold,
            keep_firing_for: self.keep_firing_for,
            annotations: self.annotations.clone(),
            alerts,
        }
    }
}
