//! A group: its rules, one after the other, at its own ticks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use model::histogram::{FloatHistogram, Histogram};
use model::report::{RuleGroupStatus, RuleHealth};
use model::scope::PartialResponse;
use model::sink::{Column, HistogramSample};
use model::{Appended, Batch, Labels, Millis, Reject, STALE_NAN, SeriesRows, Sink, SinkError, Str};
use promql::value::QueryOptions;

use crate::alerting::Alert;
use crate::file::RuleGroup;
use crate::metrics::GroupMetrics;
use crate::rule::{Kind, Made, Rule, Shared};

/// What a group is evaluated with.
pub(crate) struct Means<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) sink: &'a dyn Sink,
    pub(crate) resend_delay: Millis,
    pub(crate) metrics: &'a GroupMetrics,
}

pub(crate) struct Group {
    pub(crate) name: Str,
    pub(crate) file: Str,
    pub(crate) interval: Millis,
    pub(crate) offset: Millis,
    limit: usize,
    partial_response: PartialResponse,
    pub(crate) rules: Vec<Rule>,
    /// Series of rules that are gone: they get their stale marker with the next evaluation.
    orphans: Vec<Labels>,
    took: f64,
    pub(crate) last: Millis,
}

impl Group {
    pub(crate) fn new(file: Str, def: &RuleGroup, interval: Millis, offset: Millis) -> Self {
        Self {
            name: def.name.as_str().into(),
            file,
            interval: def.interval_or(interval).max(1),
            offset: def.query_offset.map_or(offset, |d| d.0),
            limit: usize::try_from(def.limit).unwrap_or(0),
            partial_response: def
                .partial_response_strategy
                .map_or(PartialResponse::Abort, |s| s.0),
            rules: def.rules.iter().map(|rule| Rule::new(def, rule)).collect(),
            orphans: Vec::new(),
            took: 0.0,
            last: 0,
        }
    }

    /// A number of its own, which spreads the groups over their intervals.
    pub(crate) fn hash(file: &str, name: &str) -> u64 {
        Labels::from_pairs([("name", name), ("file", file)]).hash64()
    }

    /// The newest tick at or before `now`.
    pub(crate) fn tick_before(&self, now: Millis) -> Millis {
        let phase = (Self::hash(&self.file, &self.name) % (self.interval as u64)) as Millis;
        (now - phase).div_euclid(self.interval) * self.interval + phase
    }

    /// Takes over what the group before a reload knew.
    pub(crate) fn inherit(&mut self, old: &mut Group) {
        self.took = old.took;
        self.last = old.last;
        self.orphans.append(&mut old.orphans);
        let mut known: HashMap<_, Vec<Rule>> = HashMap::new();
        for rule in old.rules.drain(..).rev() {
            known.entry(rule.identity()).or_default().push(rule);
        }
        for rule in &mut self.rules {
            let Some(old) = known.get_mut(&rule.identity()).and_then(Vec::pop) else {
                continue;
            };
            rule.made = old.made;
            if let (Kind::Alerting(rule), Kind::Alerting(old)) = (&mut rule.kind, &old.kind) {
                rule.inherit(old);
            }
        }
        let gone = known.into_values().flatten();
        self.orphans.extend(gone.flat_map(|rule| rule.made));
    }

    /// Says that there is nothing to restore.
    pub(crate) fn skip_restore(&mut self) {
        for rule in &mut self.rules {
            if let Kind::Alerting(rule) = &mut rule.kind {
                rule.restored = true;
            }
        }
    }

    /// Restores alerts from what was recorded before a restart.
    pub(crate) async fn restore(
        &mut self,
        shared: &Shared,
        ts: Millis,
        tolerance: Millis,
        grace: Millis,
    ) {
        for rule in &mut self.rules {
            if let Kind::Alerting(rule) = &mut rule.kind
                && let Err(error) = rule.restore(shared, ts, tolerance, grace).await
            {
                tracing::error!(
                    file = %self.file, group = %self.name, alert = %rule.name, %error,
                    "Failed to restore 'for' state"
                );
            }
        }
    }

    /// Evaluates the rules at the tick `ts` and gives the alerts to be told.
    pub(crate) async fn evaluate(&mut self, means: &Means<'_>, ts: Millis) -> Vec<Alert> {
        let started = Instant::now();
        let mut alerts = Vec::new();
        let mut samples = 0;
        for i in 0..self.rules.len() {
            let begun = Instant::now();
            means.metrics.evaluations.inc();
            let (made, told) = self.evaluate_rule(i, means, ts).await;
            alerts.extend(told);
            samples += made;
            let rule = &mut self.rules[i];
            rule.last = ts;
            rule.took = begun.elapsed().as_secs_f64();
            means.metrics.rule_duration.observe(rule.took);
            if rule.health == RuleHealth::Bad {
                means.metrics.failures.inc();
            }
        }
        self.bury(means, ts).await;
        self.last = ts;
        self.took = started.elapsed().as_secs_f64();
        means.metrics.evaluated(samples, self.took, ts);
        alerts
    }

    /// Evaluates rule `i`: how many samples it made, and the alerts to be told.
    async fn evaluate_rule(
        &mut self,
        i: usize,
        means: &Means<'_>,
        ts: Millis,
    ) -> (usize, Vec<Alert>) {
        let (limit, offset) = (self.limit, self.offset);
        let options = QueryOptions {
            partial_response: self.partial_response,
            ..QueryOptions::default()
        };
        let rule = &mut self.rules[i];
        let made = match &mut rule.kind {
            Kind::Recording(kind) => {
                kind.evaluate(means.shared, ts - offset, options, limit)
                    .await
            }
            Kind::Alerting(kind) => {
                kind.evaluate(means.shared, ts, offset, options, limit)
                    .await
            }
        };
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                tracing::warn!(
                    file = %self.file, group = %self.name, name = rule.name(), index = i, %error,
                    "Evaluating rule failed"
                );
                rule.health = RuleHealth::Bad;
                rule.last_error = error;
                return (0, Vec::new());
            }
        };
        rule.health = RuleHealth::Good;
        rule.last_error.clear();
        let alerts = match &mut rule.kind {
            Kind::Alerting(kind) => {
                kind.take_due(means.shared, ts, means.resend_delay, self.interval)
            }
            Kind::Recording(_) => Vec::new(),
        };
        let count = made.len();
        let now: Vec<Labels> = made.iter().map(|m| m.labels.clone()).collect();
        let known: HashSet<&Labels> = now.iter().collect();
        let gone: Vec<Labels> = rule
            .made
            .iter()
            .filter(|labels| !known.contains(labels))
            .cloned()
            .collect();
        match write(means.sink, made, gone, ts - offset).await {
            Ok(appended) => {
                rule.made = now;
                complain(&self.file, &self.name, rule.name(), &appended, count);
            }
            Err(error) => {
                tracing::warn!(
                    file = %self.file, group = %self.name, name = rule.name(), index = i, %error,
                    "Rule sample appending failed"
                );
                rule.health = RuleHealth::Bad;
                rule.last_error = error.to_string();
            }
        }
        (count, alerts)
    }

    /// Ends the series of rules that are gone.
    async fn bury(&mut self, means: &Means<'_>, ts: Millis) {
        if self.orphans.is_empty() {
            return;
        }
        let orphans = std::mem::take(&mut self.orphans);
        let count = orphans.len();
        if let Err(error) = write(means.sink, Vec::new(), orphans, ts - self.offset).await {
            tracing::warn!(
                file = %self.file, group = %self.name, %error, count,
                "Stale markers of vanished series could not be written"
            );
        }
    }

    /// Every series it made last, as the group is no more.
    pub(crate) fn all_series(&mut self) -> Vec<Labels> {
        let mut all = std::mem::take(&mut self.orphans);
        for rule in &mut self.rules {
            all.append(&mut rule.made);
        }
        all
    }

    pub(crate) fn status(&self) -> RuleGroupStatus {
        RuleGroupStatus {
            name: Arc::clone(&self.name),
            file: Arc::clone(&self.file),
            interval: self.interval,
            limit: self.limit,
            rules: self.rules.iter().map(Rule::status).collect(),
            evaluation_time: self.took,
            last_evaluation: self.last,
            partial_response: self.partial_response,
        }
    }
}

/// Writes samples, and stale markers for series that are gone, at `ts`.
pub(crate) async fn write(
    sink: &dyn Sink,
    made: Vec<Made>,
    gone: Vec<Labels>,
    ts: Millis,
) -> Result<Appended, SinkError> {
    let (mut labels, mut values) = (Vec::new(), Vec::new());
    let stale = gone
        .into_iter()
        .map(|labels| Made::float(labels, STALE_NAN));
    for sample in made.into_iter().chain(stale) {
        labels.push(sample.labels);
        values.push((sample.value, sample.histogram));
    }
    if labels.is_empty() {
        return Ok(Appended::default());
    }
    // A reference can expire between the two calls, hardly ever twice.
    let mut tries = 0;
    loop {
        let rows = SeriesRows {
            labels: labels.clone(),
        };
        let mut batch = Batch::default();
        for (series, (value, histogram)) in sink.resolve(rows).await?.into_iter().zip(&values) {
            match histogram {
                None => batch.push(series, ts, *value),
                Some(h) => batch.histograms.push(HistogramSample {
                    series,
                    ts,
                    start: 0,
                    value: Histogram::Float(FloatHistogram::clone(h)),
                }),
            }
        }
        tries += 1;
        match sink.append(batch).await {
            Err(SinkError::Stale(_)) if tries < 4 => {}
            done => return done,
        }
    }
}

/// Logs what was not taken; stale markers may be refused after a restart.
fn complain(file: &str, group: &str, rule: &str, appended: &Appended, samples: usize) {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for rejected in &appended.rejected {
        let is_sample = rejected.column == Column::Floats && rejected.row < samples;
        if is_sample && rejected.reason != Reject::OutOfOrder {
            *reasons.entry(rejected.reason.to_string()).or_default() += 1;
        }
    }
    for (reason, count) in reasons {
        tracing::warn!(
            file,
            group,
            rule,
            reason,
            count,
            "Rule evaluation result discarded"
        );
    }
}
