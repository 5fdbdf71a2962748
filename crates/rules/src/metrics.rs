//! What the room says about itself, under Prometheus' names.

use metrics::{Counter, Error, Family, FloatGauge, Gauge, Registry, Summary};
use model::Millis;

/// Metrics of all groups.
pub(crate) struct Metrics {
    evaluations: Family<Counter, 1>,
    failures: Family<Counter, 1>,
    pub(crate) rule_duration: Summary,
    pub(crate) group_duration: Summary,
    iterations: Family<Counter, 1>,
    missed: Family<Counter, 1>,
    interval: Family<FloatGauge, 1>,
    last_duration: Family<FloatGauge, 1>,
    last_samples: Family<Gauge, 1>,
    last_time: Family<FloatGauge, 1>,
    rules: Family<Gauge, 1>,
    pub(crate) loads_failed: Counter,
}

/// Metrics of one group.
pub(crate) struct GroupMetrics {
    pub(crate) evaluations: Counter,
    pub(crate) failures: Counter,
    pub(crate) rule_duration: Summary,
    pub(crate) group_duration: Summary,
    pub(crate) iterations: Counter,
    pub(crate) missed: Counter,
    pub(crate) interval: FloatGauge,
    last_duration: FloatGauge,
    last_samples: Gauge,
    last_time: FloatGauge,
    pub(crate) rules: Gauge,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, Error> {
        let quantiles = [0.5, 0.9, 0.99];
        let by = ["rule_group"];
        Ok(Self {
            evaluations: registry.counters(
                "prometheus_rule_evaluations_total",
                "The total number of rule evaluations.",
                by,
            )?,
            failures: registry.counters(
                "prometheus_rule_evaluation_failures_total",
                "The total number of rule evaluation failures.",
                by,
            )?,
            rule_duration: registry.summary(
                "prometheus_rule_evaluation_duration_seconds",
                "The duration for a rule to execute.",
                &quantiles,
            )?,
            group_duration: registry.summary(
                "prometheus_rule_group_duration_seconds",
                "The duration of rule group evaluations.",
                &[0.01, 0.05, 0.5, 0.9, 0.99],
            )?,
            iterations: registry.counters(
                "prometheus_rule_group_iterations_total",
                "The total number of scheduled rule group evaluations, whether executed or missed.",
                by,
            )?,
            missed: registry.counters(
                "prometheus_rule_group_iterations_missed_total",
                "The total number of rule group evaluations missed due to slow rule group evaluation.",
                by,
            )?,
            interval: registry.float_gauges(
                "prometheus_rule_group_interval_seconds",
                "The interval of a rule group.",
                by,
            )?,
            last_duration: registry.float_gauges(
                "prometheus_rule_group_last_duration_seconds",
                "The duration of the last rule group evaluation.",
                by,
            )?,
            last_samples: registry.gauges(
                "prometheus_rule_group_last_evaluation_samples",
                "The number of samples returned during the last rule group evaluation.",
                by,
            )?,
            last_time: registry.float_gauges(
                "prometheus_rule_group_last_evaluation_timestamp_seconds",
                "The timestamp of the last rule group evaluation in seconds.",
                by,
            )?,
            rules: registry.gauges(
                "prometheus_rule_group_rules",
                "The number of rules.",
                by,
            )?,
            loads_failed: registry.counter(
                "prometheus_rule_load_failures_total",
                "How many times rule files could not be loaded.",
            )?,
        })
    }

    pub(crate) fn of(&self, group: &str) -> GroupMetrics {
        let by = &[group];
        GroupMetrics {
            evaluations: self.evaluations.with(by),
            failures: self.failures.with(by),
            rule_duration: self.rule_duration.clone(),
            group_duration: self.group_duration.clone(),
            iterations: self.iterations.with(by),
            missed: self.missed.with(by),
            interval: self.interval.with(by),
            last_duration: self.last_duration.with(by),
            last_samples: self.last_samples.with(by),
            last_time: self.last_time.with(by),
            rules: self.rules.with(by),
        }
    }

    pub(crate) fn forget(&self, group: &str) {
        let by = &[group];
        self.evaluations.remove(by);
        self.failures.remove(by);
        self.iterations.remove(by);
        self.missed.remove(by);
        self.interval.remove(by);
        self.last_duration.remove(by);
        self.last_samples.remove(by);
        self.last_time.remove(by);
        self.rules.remove(by);
    }
}

impl GroupMetrics {
    pub(crate) fn evaluated(&self, samples: usize, took: f64, ts: Millis) {
        self.last_samples.set(samples as i64);
        self.last_duration.set(took);
        self.last_time.set(ts as f64 / 1000.0);
        self.group_duration.observe(took);
    }
}
