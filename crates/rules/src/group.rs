//! A group: its rules, in their order or side by side, at its own ticks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use model::histogram::{FloatHistogram, Histogram};
use model::report::{RuleGroupStatus, RuleHealth};
use model::scope::PartialResponse;
use model::sink::{Column, HistogramSample};
use model::time::Clock;
use model::{Appended, Batch, Labels, Millis, Reject, STALE_NAN, SeriesRows, Sink, SinkError, Str};
use promql::value::Origin;
use tokio::sync::Semaphore;
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::file::RuleGroup;
use crate::manager::{History, Notify};
use crate::metrics::GroupMetrics;
use crate::order;
use crate::rule::{Kind, Made, Rule, Shared, Turn};

/// What a group is evaluated with.
pub(crate) struct Means<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) sink: &'a dyn Sink,
    pub(crate) notify: &'a dyn Notify,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) resend_delay: Millis,
    pub(crate) metrics: &'a GroupMetrics,
    /// Evaluations that may run beside those of the groups; none: rules follow each other.
    pub(crate) beside: Option<&'a Semaphore>,
}

pub(crate) struct Group {
    pub(crate) name: Str,
    pub(crate) file: Str,
    pub(crate) interval: Millis,
    pub(crate) offset: Millis,
    limit: usize,
    pub(crate) partial_response: PartialResponse,
    pub(crate) rules: Vec<Rule>,
    /// Which rules may be evaluated side by side; empty: none.
    batches: Vec<Vec<usize>>,
    /// Series of rules that are gone: they get their stale marker with the next evaluation.
    orphans: Vec<Labels>,
    took: f64,
    /// The last tick, ms; 0 before the first.
    pub(crate) last: Millis,
    /// When its evaluation began, ms.
    began: Millis,
}

impl Group {
    pub(crate) fn new(file: Str, def: &RuleGroup, interval: Millis, offset: Millis) -> Self {
        let rules: Vec<Rule> = def.rules.iter().map(|rule| Rule::new(def, rule)).collect();
        Self {
            name: def.name.as_str().into(),
            file,
            interval: def.interval_or(interval).max(1),
            offset: def.query_offset.map_or(offset, |d| d.0),
            limit: usize::try_from(def.limit).unwrap_or(0),
            partial_response: def
                .partial_response_strategy
                .map_or(PartialResponse::Abort, |s| s.0),
            batches: order::batches(&rules),
            rules,
            orphans: Vec::new(),
            took: 0.0,
            last: 0,
            began: 0,
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
        self.began = old.began;
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

    fn turn(&self, ts: Millis) -> Turn {
        Turn {
            ts,
            interval: self.interval,
            offset: self.offset,
            limit: self.limit,
            partial_response: self.partial_response,
            origin: Origin::RuleGroup {
                file: Arc::clone(&self.file),
                name: Arc::clone(&self.name),
            },
        }
    }

    /// Restores alerts from what was recorded before a restart.
    pub(crate) async fn restore(&mut self, shared: &Shared, history: &History, ts: Millis) {
        let turn = self.turn(ts);
        for rule in &mut self.rules {
            if let Kind::Alerting(rule) = &mut rule.kind
                && let Err(error) = rule.restore(shared, history, &turn).await
            {
                tracing::error!(
                    file = %self.file, group = %self.name, alert = %rule.name, %error,
                    "Failed to restore 'for' state"
                );
            }
        }
    }

    /// Evaluates the rules at the tick `ts`.
    pub(crate) async fn evaluate(&mut self, means: &Means<'_>, ts: Millis) {
        let started = Instant::now();
        self.began = means.clock.now();
        let visit = Visit {
            means,
            file: &self.file,
            group: &self.name,
            turn: self.turn(ts),
        };
        let mut samples = 0;
        match means.beside {
            Some(beside) if !self.batches.is_empty() => {
                let mut rules: Vec<Option<&mut Rule>> = self.rules.iter_mut().map(Some).collect();
                for batch in &self.batches {
                    let rules = batch
                        .iter()
                        .filter_map(|&i| Some((i, rules.get_mut(i)?.take()?)));
                    samples += visit.side_by_side(rules, beside).await;
                }
            }
            _ => {
                for (i, rule) in self.rules.iter_mut().enumerate() {
                    samples += visit.evaluate(i, rule).await;
                }
            }
        }
        self.bury(means, ts).await;
        self.last = ts;
        self.took = started.elapsed().as_secs_f64();
        let sum = self.rules.iter().map(|rule| rule.took).sum();
        means.metrics.evaluated(samples, self.took, sum, self.began);
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
            last_evaluation: self.began,
            partial_response: self.partial_response,
        }
    }
}

/// One evaluation of a group, as its rules see it.
struct Visit<'a> {
    means: &'a Means<'a>,
    file: &'a str,
    group: &'a str,
    turn: Turn,
}

impl Visit<'_> {
    /// Evaluates rules that need nothing of each other: one in the group's own right, others as far
    /// as `beside` lets them. How many samples they made.
    async fn side_by_side(
        &self,
        rules: impl Iterator<Item = (usize, &mut Rule)>,
        beside: &Semaphore,
    ) -> usize {
        let own = Semaphore::new(1);
        let own = &own;
        let mut running: FuturesUnordered<_> = rules
            .map(|(i, rule)| async move {
                let _turn = tokio::select! {
                    biased;
                    turn = own.acquire() => turn,
                    turn = beside.acquire() => turn,
                };
                self.evaluate(i, rule).await
            })
            .collect();
        let mut samples = 0;
        while let Some(made) = running.next().await {
            samples += made;
        }
        samples
    }

    /// Evaluates rule `i`: how many samples it made.
    async fn evaluate(&self, i: usize, rule: &mut Rule) -> usize {
        let begun = Instant::now();
        self.means.metrics.evaluations.inc();
        rule.last = self.means.clock.now();
        let span = tracing::info_span!("rule", name = rule.name(), otel.status_code = Empty);
        let made = self.evaluate_rule(i, rule).instrument(span.clone()).await;
        rule.took = begun.elapsed().as_secs_f64();
        self.means.metrics.rule_took(rule.took);
        if rule.health == RuleHealth::Bad {
            span.record("otel.status_code", "ERROR");
            self.means.metrics.failures.inc();
        }
        made
    }

    async fn evaluate_rule(&self, i: usize, rule: &mut Rule) -> usize {
        let Self {
            means, file, group, ..
        } = *self;
        let made = match &mut rule.kind {
            Kind::Recording(kind) => kind.evaluate(means.shared, &self.turn).await,
            Kind::Alerting(kind) => kind.evaluate(means.shared, &self.turn).await,
        };
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                tracing::warn!(
                    file, group, name = rule.name(), index = i, %error,
                    "Evaluating rule failed"
                );
                rule.health = RuleHealth::Bad;
                rule.last_error = error;
                return 0;
            }
        };
        rule.health = RuleHealth::Good;
        rule.last_error.clear();
        if let Kind::Alerting(kind) = &mut rule.kind {
            let due = kind.take_due(means.shared, &self.turn, means.resend_delay);
            if !due.is_empty() {
                means.notify.notify(due);
            }
        }
        let count = made.len();
        let now: Vec<Labels> = made.iter().map(|m| m.labels.clone()).collect();
        let known: HashSet<&Labels> = now.iter().collect();
        let gone: Vec<Labels> = rule
            .made
            .iter()
            .filter(|labels| !known.contains(labels))
            .cloned()
            .collect();
        match write(means.sink, made, gone, self.turn.ts - self.turn.offset).await {
            Ok(appended) => {
                rule.made = now;
                complain(file, group, rule.name(), &appended, count);
            }
            Err(error) => {
                tracing::warn!(
                    file, group, name = rule.name(), index = i, %error,
                    "Rule sample appending failed"
                );
                rule.health = RuleHealth::Bad;
                rule.last_error = error.to_string();
            }
        }
        count
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
