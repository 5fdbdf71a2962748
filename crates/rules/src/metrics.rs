//! What the room says about itself, under Prometheus' names.
//!
//! Where groups are evaluated by Thanos' strategies (the `rule` role), every family has a label for
//! the strategy, as there.

use metrics::{
    Counter, Error, Family, FloatGauge, Gauge, Histogram, Instrument, Registry, Summary,
};
use model::scope::PartialResponse;

const GROUP: &str = "rule_group";
const STRATEGY: &str = "strategy";
const BUCKETS: &[f64] = &[0.01, 0.1, 1.0, 10.0];

/// A family with a member for each group.
enum PerGroup<M: Instrument> {
    Plain(Family<M, 1>),
    ByStrategy(Family<M, 2>),
}

/// One instrument for all groups.
enum Common<M: Instrument> {
    Plain(M),
    ByStrategy(Family<M, 1>),
}

/// Metrics of all groups.
pub(crate) struct Metrics {
    evaluations: PerGroup<Counter>,
    failures: PerGroup<Counter>,
    rule_duration: Common<Summary>,
    rule_histogram: Common<Histogram>,
    group_duration: Common<Summary>,
    group_histogram: Common<Histogram>,
    iterations: PerGroup<Counter>,
    missed: PerGroup<Counter>,
    interval: PerGroup<FloatGauge>,
    last_duration: PerGroup<FloatGauge>,
    last_rule_sum: PerGroup<FloatGauge>,
    last_restore: PerGroup<FloatGauge>,
    last_samples: PerGroup<Gauge>,
    last_time: PerGroup<FloatGauge>,
    rules: PerGroup<Gauge>,
    pub(crate) loads_failed: Counter,
    pub(crate) expansions: Expansions,
}

/// Counts the templates that are expanded, and those that cannot be.
#[derive(Clone, Debug, Default)]
pub struct Expansions {
    pub(crate) all: Counter,
    pub(crate) failed: Counter,
}

/// Metrics of one group.
pub(crate) struct GroupMetrics {
    pub(crate) evaluations: Counter,
    pub(crate) failures: Counter,
    rule_duration: (Summary, Histogram),
    group_duration: (Summary, Histogram),
    pub(crate) iterations: Counter,
    pub(crate) missed: Counter,
    pub(crate) interval: FloatGauge,
    last_duration: FloatGauge,
    last_rule_sum: FloatGauge,
    pub(crate) last_restore: FloatGauge,
    last_samples: Gauge,
    last_time: FloatGauge,
    pub(crate) rules: Gauge,
}

/// The strategy as Thanos' metrics name it.
fn word(strategy: PartialResponse) -> &'static str {
    match strategy {
        PartialResponse::Abort => "abort",
        PartialResponse::Warn => "warn",
    }
}

impl<M: Instrument> PerGroup<M> {
    fn with(&self, strategy: &str, group: &str) -> M {
        match self {
            Self::Plain(family) => family.with(&[group]),
            Self::ByStrategy(family) => family.with(&[strategy, group]),
        }
    }

    fn forget(&self, group: &str) {
        match self {
            Self::Plain(family) => family.remove(&[group]),
            Self::ByStrategy(family) => family.retain(|[_, of]| **of != *group),
        }
    }
}

impl<M: Instrument> Common<M> {
    fn with(&self, strategy: &str) -> M {
        match self {
            Self::Plain(one) => one.clone(),
            Self::ByStrategy(family) => family.with(&[strategy]),
        }
    }
}

/// Registers families, with or without the label for the strategy.
struct Made<'a> {
    registry: &'a Registry,
    by_strategy: bool,
}

impl Made<'_> {
    fn counters(&self, name: &str, help: &str) -> Result<PerGroup<Counter>, Error> {
        Ok(match self.by_strategy {
            false => PerGroup::Plain(self.registry.counters(name, help, [GROUP])?),
            true => PerGroup::ByStrategy(self.registry.counters(name, help, [STRATEGY, GROUP])?),
        })
    }

    fn gauges(&self, name: &str, help: &str) -> Result<PerGroup<Gauge>, Error> {
        Ok(match self.by_strategy {
            false => PerGroup::Plain(self.registry.gauges(name, help, [GROUP])?),
            true => PerGroup::ByStrategy(self.registry.gauges(name, help, [STRATEGY, GROUP])?),
        })
    }

    fn float_gauges(&self, name: &str, help: &str) -> Result<PerGroup<FloatGauge>, Error> {
        Ok(match self.by_strategy {
            false => PerGroup::Plain(self.registry.float_gauges(name, help, [GROUP])?),
            true => {
                PerGroup::ByStrategy(self.registry.float_gauges(name, help, [STRATEGY, GROUP])?)
            }
        })
    }

    fn summary(&self, name: &str, help: &str, of: &[f64]) -> Result<Common<Summary>, Error> {
        Ok(match self.by_strategy {
            false => Common::Plain(self.registry.summary(name, help, of)?),
            true => Common::ByStrategy(self.registry.summaries(name, help, [STRATEGY], of)?),
        })
    }

    fn histogram(&self, name: &str, help: &str) -> Result<Common<Histogram>, Error> {
        Ok(match self.by_strategy {
            false => Common::Plain(self.registry.histogram(name, help, BUCKETS)?),
            true => {
                Common::ByStrategy(self.registry.histograms(name, help, [STRATEGY], BUCKETS)?)
            }
        })
    }
}

impl Metrics {
    pub(crate) fn new(registry: &Registry, by_strategy: bool) -> Result<Self, Error> {
        let made = Made {
            registry,
            by_strategy,
        };
        Ok(Self {
            evaluations: made.counters(
                "prometheus_rule_evaluations_total",
                "The total number of rule evaluations.",
            )?,
            failures: made.counters(
                "prometheus_rule_evaluation_failures_total",
                "The total number of rule evaluation failures.",
            )?,
            rule_duration: made.summary(
                "prometheus_rule_evaluation_duration_seconds",
                "The duration for a rule to execute.",
                &[0.5, 0.9, 0.99],
            )?,
            rule_histogram: made.histogram(
                "prometheus_rule_evaluation_duration_histogram_seconds",
                "The duration for a rule to execute.",
            )?,
            group_duration: made.summary(
                "prometheus_rule_group_duration_seconds",
                "The duration of rule group evaluations.",
                &[0.01, 0.05, 0.5, 0.9, 0.99],
            )?,
            group_histogram: made.histogram(
                "prometheus_rule_group_duration_histogram_seconds",
                "The duration of rule group evaluations.",
            )?,
            iterations: made.counters(
                "prometheus_rule_group_iterations_total",
                "The total number of scheduled rule group evaluations, whether executed or missed.",
            )?,
            missed: made.counters(
                "prometheus_rule_group_iterations_missed_total",
                "The total number of rule group evaluations missed due to slow rule group evaluation.",
            )?,
            interval: made.float_gauges(
                "prometheus_rule_group_interval_seconds",
                "The interval of a rule group.",
            )?,
            last_duration: made.float_gauges(
                "prometheus_rule_group_last_duration_seconds",
                "The duration of the last rule group evaluation.",
            )?,
            last_rule_sum: made.float_gauges(
                "prometheus_rule_group_last_rule_duration_sum_seconds",
                "The sum of time in seconds it took to evaluate each rule in the group regardless of concurrency. This should be higher than the group duration if rules are evaluated concurrently.",
            )?,
            last_restore: made.float_gauges(
                "prometheus_rule_group_last_restore_duration_seconds",
                "The duration of the last alert rules alerts restoration using the `ALERTS_FOR_STATE` series.",
            )?,
            last_samples: made.gauges(
                "prometheus_rule_group_last_evaluation_samples",
                "The number of samples returned during the last rule group evaluation.",
            )?,
            last_time: made.float_gauges(
                "prometheus_rule_group_last_evaluation_timestamp_seconds",
                "The timestamp of the last rule group evaluation in seconds.",
            )?,
            rules: made.gauges("prometheus_rule_group_rules", "The number of rules.")?,
            loads_failed: registry.counter(
                "prometheus_rule_load_failures_total",
                "How many times rule files could not be loaded.",
            )?,
            expansions: Expansions {
                all: registry.counter(
                    "prometheus_template_text_expansions_total",
                    "The total number of template text expansions.",
                )?,
                failed: registry.counter(
                    "prometheus_template_text_expansion_failures_total",
                    "The total number of template text expansion failures.",
                )?,
            },
        })
    }

    pub(crate) fn of(&self, group: &str, strategy: PartialResponse) -> GroupMetrics {
        let by = word(strategy);
        GroupMetrics {
            evaluations: self.evaluations.with(by, group),
            failures: self.failures.with(by, group),
            rule_duration: (self.rule_duration.with(by), self.rule_histogram.with(by)),
            group_duration: (self.group_duration.with(by), self.group_histogram.with(by)),
            iterations: self.iterations.with(by, group),
            missed: self.missed.with(by, group),
            interval: self.interval.with(by, group),
            last_duration: self.last_duration.with(by, group),
            last_rule_sum: self.last_rule_sum.with(by, group),
            last_restore: self.last_restore.with(by, group),
            last_samples: self.last_samples.with(by, group),
            last_time: self.last_time.with(by, group),
            rules: self.rules.with(by, group),
        }
    }

    pub(crate) fn forget(&self, group: &str) {
        self.evaluations.forget(group);
        self.failures.forget(group);
        self.iterations.forget(group);
        self.missed.forget(group);
        self.interval.forget(group);
        self.last_duration.forget(group);
        self.last_rule_sum.forget(group);
        self.last_restore.forget(group);
        self.last_samples.forget(group);
        self.last_time.forget(group);
        self.rules.forget(group);
    }
}

impl GroupMetrics {
    /// A rule took so many seconds.
    pub(crate) fn rule_took(&self, seconds: f64) {
        self.rule_duration.0.observe(seconds);
        self.rule_duration.1.observe(seconds);
    }

    /// The group that began at `began` (ms) took so many seconds, its rules together `sum`.
    pub(crate) fn evaluated(&self, samples: usize, took: f64, sum: f64, began: model::Millis) {
        self.last_samples.set(samples as i64);
        self.last_duration.set(took);
        self.last_rule_sum.set(sum);
        self.last_time.set(began as f64 / 1000.0);
        self.group_duration.0.observe(took);
        self.group_duration.1.observe(took);
    }
}
