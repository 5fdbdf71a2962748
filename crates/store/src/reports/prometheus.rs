//! The reports of a real Prometheus, asked over its HTTP API, under its external labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::report::{
    ActiveTarget, AlertState, AlertStatus, DEFAULT_TENANT, DroppedTarget, ExemplarsBySeries,
    HeadStatistics, Health, Metadata, MetadataByName, MetricType, Reported, Reports,
    RuleGroupStatus, RuleKind, RuleStatus, Served, TargetsReport, label_exemplars, label_rules,
    label_targets, without_external,
};
use model::scope::PartialResponse;
use model::source::Answer;
use model::text::parse_float;
use model::{Kind, Labels, Matcher, Millis, Scope, SourceError, Str, TimeRange};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracing::Instrument as _;

use super::words::{exemplar, millis, rule_health};
use crate::prometheus::{Prometheus, PrometheusSource, seconds, selector};

type Set = BTreeMap<String, String>;

#[derive(Deserialize)]
struct Rules {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    file: String,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    interval: f64,
    #[serde(default)]
    limit: usize,
    #[serde(default)]
    evaluation_time: f64,
    #[serde(default)]
    last_evaluation: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Rule {
    r#type: String,
    state: String,
    name: String,
    query: String,
    duration: f64,
    keep_firing_for: f64,
    labels: Set,
    annotations: Set,
    alerts: Option<Vec<Alert>>,
    health: String,
    last_error: String,
    evaluation_time: f64,
    last_evaluation: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Alert {
    labels: Set,
    annotations: Set,
    state: String,
    active_at: Option<String>,
    value: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Targets {
    active_targets: Vec<Target>,
    dropped_targets: Vec<Target>,
    dropped_target_counts: Option<BTreeMap<String, usize>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Target {
    discovered_labels: Set,
    labels: Set,
    scrape_pool: String,
    scrape_url: String,
    global_url: String,
    last_error: String,
    last_scrape: String,
    last_scrape_duration: f64,
    health: String,
    scrape_interval: String,
    scrape_timeout: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Meta {
    r#type: String,
    help: String,
    unit: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfSeries {
    series_labels: Set,
    #[serde(default)]
    exemplars: Vec<One>,
}

#[derive(Deserialize)]
struct One {
    #[serde(default)]
    labels: Set,
    value: String,
    timestamp: f64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Tsdb {
    head_stats: Head,
    series_count_by_metric_name: Vec<Stat>,
    label_value_count_by_label_name: Vec<Stat>,
    memory_in_bytes_by_label_name: Vec<Stat>,
    series_count_by_label_value_pair: Vec<Stat>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Head {
    num_series: u64,
    num_label_pairs: u64,
    chunk_count: i64,
    min_time: Millis,
    max_time: Millis,
}

#[derive(Deserialize)]
struct Stat {
    name: String,
    value: u64,
}

fn labels(set: Set) -> Labels {
    Labels::from_pairs(set)
}

/// A time of the API; 0 for none.
fn time(text: &str) -> Millis {
    let at = text.parse::<jiff::Timestamp>();
    at.map_or(0, |at| at.as_millisecond().max(0))
}

fn span(text: &str) -> Millis {
    model::time::parse_duration(text).unwrap_or(0)
}

fn alert_state(text: &str) -> AlertState {
    match text {
        "firing" => AlertState::Firing,
        "pending" => AlertState::Pending,
        _ => AlertState::Inactive,
    }
}

fn group(group: Group) -> RuleGroupStatus {
    RuleGroupStatus {
        name: group.name.into(),
        file: group.file.into(),
        interval: millis(group.interval),
        limit: group.limit,
        rules: group.rules.into_iter().map(rule).collect(),
        evaluation_time: group.evaluation_time,
        last_evaluation: time(&group.last_evaluation),
        // A Prometheus has all of its data or fails.
        partial_response: PartialResponse::Abort,
    }
}

fn rule(rule: Rule) -> RuleStatus {
    let alert = |alert: Alert| AlertStatus {
        labels: labels(alert.labels),
        annotations: labels(alert.annotations),
        state: alert_state(&alert.state),
        active_at: alert.active_at.as_deref().map_or(0, time),
        keep_firing_since: None,
        value: parse_float(&alert.value).unwrap_or(f64::NAN),
    };
    RuleStatus {
        name: rule.name.into(),
        query: rule.query,
        labels: labels(rule.labels),
        health: rule_health(&rule.health),
        last_error: rule.last_error,
        evaluation_time: rule.evaluation_time,
        last_evaluation: time(&rule.last_evaluation),
        kind: match rule.r#type.as_str() {
            "alerting" => RuleKind::Alerting {
                state: alert_state(&rule.state),
                hold: millis(rule.duration),
                keep_firing_for: millis(rule.keep_firing_for),
                annotations: labels(rule.annotations),
                alerts: rule
                    .alerts
                    .unwrap_or_default()
                    .into_iter()
                    .map(alert)
                    .collect(),
            },
            _ => RuleKind::Recording,
        },
    }
}

fn targets(found: Targets) -> TargetsReport {
    let health = |text: &str| match text {
        "up" => Health::Up,
        "down" => Health::Down,
        _ => Health::Unknown,
    };
    let active = found.active_targets.into_iter().map(|t| ActiveTarget {
        health: health(&t.health),
        last_scrape: time(&t.last_scrape),
        interval: span(&t.scrape_interval),
        timeout: span(&t.scrape_timeout),
        discovered_labels: labels(t.discovered_labels),
        labels: labels(t.labels),
        scrape_pool: t.scrape_pool.into(),
        scrape_url: t.scrape_url,
        global_url: t.global_url,
        last_error: t.last_error,
        last_duration: t.last_scrape_duration,
    });
    let dropped = found.dropped_targets.into_iter().map(|t| {
        let discovered_labels = labels(t.discovered_labels);
        let pool = match t.scrape_pool.as_str() {
            // Before 2.46 it is only known as a label.
            "" => discovered_labels.get("job").unwrap_or_default().into(),
            pool => pool.into(),
        };
        DroppedTarget {
            discovered_labels,
            scrape_pool: pool,
        }
    });
    let counts = found.dropped_target_counts.unwrap_or_default();
    TargetsReport {
        active: active.collect(),
        dropped: dropped.collect(),
        dropped_counts: counts.into_iter().map(|(p, n)| (p.into(), n)).collect(),
    }
}

fn statistics(found: Tsdb) -> HeadStatistics {
    let stats = |all: Vec<Stat>| all.into_iter().map(|s| (s.name.into(), s.value)).collect();
    let head = found.head_stats;
    let range = TimeRange::new(head.min_time, head.max_time);
    HeadStatistics {
        series: head.num_series,
        label_pairs: head.num_label_pairs,
        chunks: u64::try_from(head.chunk_count).unwrap_or(0),
        range: (!range.is_empty()).then_some(range),
        series_by_metric: stats(found.series_count_by_metric_name),
        values_by_label: stats(found.label_value_count_by_label_name),
        bytes_by_label: stats(found.memory_in_bytes_by_label_name),
        series_by_pair: stats(found.series_count_by_label_value_pair),
    }
}

impl PrometheusSource {
    /// Asks Prometheus, on the runtime whose connections it uses.
    fn report<T, U>(
        &self,
        path: &'static str,
        params: Vec<(&'static str, String)>,
        scope: Arc<Scope>,
        make: impl FnOnce(T, &Prometheus) -> U + Send + 'static,
    ) -> Reported<U>
    where
        T: DeserializeOwned + Send + 'static,
        U: Send + 'static,
    {
        let prometheus = Arc::clone(&self.0);
        let runtime = prometheus.runtime().clone();
        Box::pin(async move {
            let task = async move {
                let ask = prometheus.get::<T>(path, &params);
                let (found, warnings) = crate::remote::until(&scope, ask).await?;
                Ok(Answer {
                    value: make(found, &prometheus),
                    warnings: warnings.into_iter().map(Str::from).collect(),
                })
            };
            let task = runtime.spawn(task.in_current_span());
            let _ends = crate::Guard(task.abort_handle());
            task.await
                .map_err(|e| SourceError::new(Kind::Internal, e.to_string()))?
        })
    }
}

impl Reports for PrometheusSource {
    fn served(&self) -> Served {
        Served {
            rules: true,
            targets: true,
            metadata: true,
            exemplars: true,
            statistics: true,
        }
    }

    fn rules(&self, scope: Arc<Scope>) -> Reported<Vec<RuleGroupStatus>> {
        self.report("/api/v1/rules", Vec::new(), scope, |found: Rules, p| {
            let mut groups: Vec<_> = found.groups.into_iter().map(group).collect();
            label_rules(&mut groups, &p.labels());
            groups
        })
    }

    fn targets(&self, scope: Arc<Scope>) -> Reported<TargetsReport> {
        self.report("/api/v1/targets", Vec::new(), scope, |found: Targets, p| {
            let mut report = targets(found);
            label_targets(&mut report, &p.labels());
            report
        })
    }

    fn metadata(
        &self,
        metric: Option<Str>,
        limit: usize,
        scope: Arc<Scope>,
    ) -> Reported<MetadataByName> {
        let mut params = Vec::new();
        params.extend(metric.map(|m| ("metric", m.to_string())));
        if limit < usize::MAX {
            params.push(("limit", limit.to_string()));
        }
        type Found = BTreeMap<String, Vec<Meta>>;
        self.report("/api/v1/metadata", params, scope, |found: Found, _| {
            let of = |m: Meta| Metadata {
                kind: MetricType::named(&m.r#type),
                help: m.help.into(),
                unit: m.unit.into(),
            };
            let all = found.into_iter();
            all.map(|(name, all)| (name.into(), all.into_iter().map(of).collect()))
                .collect()
        })
    }

    fn exemplars(
        &self,
        matchers: Vec<Vec<Matcher>>,
        range: TimeRange,
        scope: Arc<Scope>,
    ) -> Reported<ExemplarsBySeries> {
        let sets = without_external(matchers, &self.0.labels());
        let texts: Vec<String> = sets.iter().map(|set| selector(set)).collect();
        if texts.is_empty() {
            return Box::pin(std::future::ready(Ok(Vec::new().into())));
        }
        let mut params = vec![("query", texts.join(" + "))];
        // Both have to be there.
        let far = |name, ms, otherwise: &str| {
            seconds(name, ms).unwrap_or_else(|| (name, otherwise.to_owned()))
        };
        params.push(far("start", range.min, "0"));
        params.push(far("end", range.max, "253402300798"));
        type Found = Option<Vec<OfSeries>>;
        self.report(
            "/api/v1/query_exemplars",
            params,
            scope,
            |found: Found, p| {
                let mut all: ExemplarsBySeries = found
                    .unwrap_or_default()
                    .into_iter()
                    .map(|series| {
                        let one = |e: One| {
                            let value = parse_float(&e.value).unwrap_or(f64::NAN);
                            exemplar(labels(e.labels), value, millis(e.timestamp))
                        };
                        let all = series.exemplars.into_iter().map(one).collect();
                        (labels(series.series_labels), all)
                    })
                    .collect();
                label_exemplars(&mut all, &p.labels());
                all
            },
        )
    }

    fn statistics(
        &self,
        limit: usize,
        matchers: Vec<Matcher>,
        scope: Arc<Scope>,
    ) -> Reported<Vec<(Str, HeadStatistics)>> {
        let external = self.0.labels();
        let ours = |m: &Matcher| m.matches(external.get(&m.name).unwrap_or(""));
        if !matchers.iter().all(ours) {
            return Box::pin(std::future::ready(Ok(Vec::new().into())));
        }
        // More than that no Prometheus gives.
        let params = vec![("limit", limit.clamp(1, 10_000).to_string())];
        self.report("/api/v1/status/tsdb", params, scope, |found: Tsdb, _| {
            vec![(DEFAULT_TENANT.into(), statistics(found))]
        })
    }
}
