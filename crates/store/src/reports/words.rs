//! Reports as messages, and back.

use model::report::{
    ActiveTarget, AlertState, AlertStatus, DroppedTarget, HeadStatistics, Health, Metadata,
    MetricType, RuleGroupStatus, RuleHealth, RuleKind, RuleStatus, TargetsReport,
};
use model::scope::PartialResponse;
use model::sink::Exemplar;
use model::text::{format_e, parse_float};
use model::{Labels, Millis, SeriesRef, Str, TimeRange};
use wire::convert::{label_set, timestamp, to_label_set, to_timestamp};
use wire::proto::Timestamp;
use wire::proto::thanos as pb;

/// A time that may not have come yet.
fn moment(ms: Millis) -> Option<Timestamp> {
    // Go's zero time, which is what a peer writes for "never".
    let never = Timestamp {
        seconds: -62_135_596_800,
        nanos: 0,
    };
    Some(if ms == 0 { never } else { to_timestamp(ms) })
}

fn ms(at: &Option<Timestamp>) -> Millis {
    // Before the epoch nothing was ever evaluated.
    timestamp(at).max(0)
}

fn strategy(partial: PartialResponse) -> i32 {
    match partial {
        PartialResponse::Warn => pb::PartialResponseStrategy::Warn as i32,
        PartialResponse::Abort => pb::PartialResponseStrategy::Abort as i32,
    }
}

/// The answer to missing parts that a message asks for.
pub(super) fn partial(strategy: i32) -> PartialResponse {
    if strategy == pb::PartialResponseStrategy::Abort as i32 {
        PartialResponse::Abort
    } else {
        PartialResponse::Warn
    }
}

fn state(state: AlertState) -> i32 {
    (match state {
        AlertState::Inactive => pb::AlertState::Inactive,
        AlertState::Pending => pb::AlertState::Pending,
        AlertState::Firing => pb::AlertState::Firing,
    }) as i32
}

fn alert_state(state: i32) -> AlertState {
    match pb::AlertState::try_from(state) {
        Ok(pb::AlertState::Pending) => AlertState::Pending,
        Ok(pb::AlertState::Firing) => AlertState::Firing,
        _ => AlertState::Inactive,
    }
}

pub(super) fn rule_health(text: &str) -> RuleHealth {
    match text {
        "ok" => RuleHealth::Good,
        "err" => RuleHealth::Bad,
        _ => RuleHealth::Unknown,
    }
}

fn seconds(ms: Millis) -> f64 {
    ms as f64 / 1000.0
}

/// Seconds as ms; what no duration can be is none.
pub(super) fn millis(seconds: f64) -> Millis {
    // Saturates, and NaN is 0.
    (seconds * 1000.0).round() as Millis
}

/// A group as a message.
pub(super) fn to_group(group: &RuleGroupStatus) -> pb::RuleGroup {
    pb::RuleGroup {
        name: group.name.to_string(),
        file: group.file.to_string(),
        rules: group
            .rules
            .iter()
            .map(|r| to_rule(r, group.partial_response))
            .collect(),
        interval: seconds(group.interval),
        evaluation_duration_seconds: group.evaluation_time,
        last_evaluation: moment(group.last_evaluation),
        partial_response_strategy: strategy(group.partial_response),
        limit: i64::try_from(group.limit).unwrap_or(i64::MAX),
    }
}

fn to_rule(rule: &RuleStatus, partial: PartialResponse) -> pb::Rule {
    let result = match &rule.kind {
        RuleKind::Recording => pb::rule::Result::Recording(pb::RecordingRule {
            name: rule.name.to_string(),
            query: rule.query.clone(),
            labels: Some(to_label_set(&rule.labels)),
            health: rule.health.as_str().to_owned(),
            last_error: rule.last_error.clone(),
            evaluation_duration_seconds: rule.evaluation_time,
            last_evaluation: moment(rule.last_evaluation),
        }),
        RuleKind::Alerting {
            state: now,
            hold,
            keep_firing_for,
            annotations,
            alerts,
        } => pb::rule::Result::Alert(pb::Alert {
            state: state(*now),
            name: rule.name.to_string(),
            query: rule.query.clone(),
            duration_seconds: seconds(*hold),
            labels: Some(to_label_set(&rule.labels)),
            annotations: Some(to_label_set(annotations)),
            alerts: alerts
                .iter()
                .map(|alert| pb::AlertInstance {
                    labels: Some(to_label_set(&alert.labels)),
                    annotations: Some(to_label_set(&alert.annotations)),
                    state: state(alert.state),
                    active_at: moment(alert.active_at),
                    value: format_e(alert.value, None),
                    partial_response_strategy: strategy(partial),
                })
                .collect(),
            health: rule.health.as_str().to_owned(),
            last_error: rule.last_error.clone(),
            evaluation_duration_seconds: rule.evaluation_time,
            last_evaluation: moment(rule.last_evaluation),
            keep_firing_for_seconds: seconds(*keep_firing_for),
        }),
    };
    pb::Rule {
        result: Some(result),
    }
}

/// A group of a message; rules of a kind that we do not know are left out.
pub(super) fn group(group: pb::RuleGroup) -> RuleGroupStatus {
    RuleGroupStatus {
        name: group.name.as_str().into(),
        file: group.file.as_str().into(),
        interval: millis(group.interval),
        limit: usize::try_from(group.limit).unwrap_or(0),
        rules: group.rules.into_iter().filter_map(rule).collect(),
        evaluation_time: group.evaluation_duration_seconds,
        last_evaluation: ms(&group.last_evaluation),
        partial_response: partial(group.partial_response_strategy),
    }
}

fn rule(rule: pb::Rule) -> Option<RuleStatus> {
    Some(match rule.result? {
        pb::rule::Result::Recording(r) => RuleStatus {
            name: r.name.as_str().into(),
            labels: label_set(&r.labels),
            query: r.query,
            health: rule_health(&r.health),
            last_error: r.last_error,
            evaluation_time: r.evaluation_duration_seconds,
            last_evaluation: ms(&r.last_evaluation),
            kind: RuleKind::Recording,
        },
        pb::rule::Result::Alert(a) => RuleStatus {
            name: a.name.as_str().into(),
            labels: label_set(&a.labels),
            query: a.query,
            health: rule_health(&a.health),
            last_error: a.last_error,
            evaluation_time: a.evaluation_duration_seconds,
            last_evaluation: ms(&a.last_evaluation),
            kind: RuleKind::Alerting {
                state: alert_state(a.state),
                hold: millis(a.duration_seconds),
                keep_firing_for: millis(a.keep_firing_for_seconds),
                annotations: label_set(&a.annotations),
                alerts: a
                    .alerts
                    .iter()
                    .map(|alert| AlertStatus {
                        labels: label_set(&alert.labels),
                        annotations: label_set(&alert.annotations),
                        state: alert_state(alert.state),
                        active_at: ms(&alert.active_at),
                        keep_firing_since: None,
                        value: parse_float(&alert.value).unwrap_or(f64::NAN),
                    })
                    .collect(),
            },
        },
    })
}

/// Targets as a message.
pub(super) fn to_targets(report: &TargetsReport) -> pb::TargetDiscovery {
    use pb::TargetHealth as To;
    pb::TargetDiscovery {
        active_targets: report
            .active
            .iter()
            .map(|t| pb::ActiveTarget {
                discovered_labels: Some(to_label_set(&t.discovered_labels)),
                labels: Some(to_label_set(&t.labels)),
                scrape_pool: t.scrape_pool.to_string(),
                scrape_url: t.scrape_url.clone(),
                global_url: t.global_url.clone(),
                last_error: t.last_error.clone(),
                last_scrape: moment(t.last_scrape),
                last_scrape_duration: t.last_duration,
                health: (match t.health {
                    Health::Unknown => To::TargetUnknown,
                    Health::Up => To::Up,
                    Health::Down => To::Down,
                }) as i32,
            })
            .collect(),
        dropped_targets: report
            .dropped
            .iter()
            .map(|t| pb::DroppedTarget {
                discovered_labels: Some(to_label_set(&t.discovered_labels)),
            })
            .collect(),
    }
}

/// Targets of a message. Intervals do not travel.
pub(super) fn targets(found: pb::TargetDiscovery) -> TargetsReport {
    use pb::TargetHealth as From;
    TargetsReport {
        active: found
            .active_targets
            .into_iter()
            .map(|t| ActiveTarget {
                discovered_labels: label_set(&t.discovered_labels),
                labels: label_set(&t.labels),
                scrape_pool: t.scrape_pool.as_str().into(),
                scrape_url: t.scrape_url,
                global_url: t.global_url,
                last_error: t.last_error,
                last_scrape: ms(&t.last_scrape),
                last_duration: t.last_scrape_duration,
                health: match From::try_from(t.health) {
                    Ok(From::Up) => Health::Up,
                    Ok(From::Down) => Health::Down,
                    _ => Health::Unknown,
                },
                interval: 0,
                timeout: 0,
            })
            .collect(),
        dropped: found
            .dropped_targets
            .into_iter()
            .map(|t| {
                let discovered_labels = label_set(&t.discovered_labels);
                DroppedTarget {
                    scrape_pool: discovered_labels.get("job").unwrap_or_default().into(),
                    discovered_labels,
                }
            })
            .collect(),
        dropped_counts: Vec::new(),
    }
}

/// Metadata as a message.
pub(super) fn to_metadata(known: &[(Str, Vec<Metadata>)]) -> pb::MetricMetadata {
    let entry = |all: &Vec<Metadata>| pb::MetricMetadataEntry {
        metas: all
            .iter()
            .map(|m| pb::Meta {
                r#type: m.kind.as_str().to_owned(),
                help: m.help.to_string(),
                unit: m.unit.to_string(),
            })
            .collect(),
    };
    pb::MetricMetadata {
        metadata: known
            .iter()
            .map(|(name, all)| (name.to_string(), entry(all)))
            .collect(),
    }
}

/// Metadata of a message, in no order.
pub(super) fn metadata(found: pb::MetricMetadata) -> Vec<(Str, Vec<Metadata>)> {
    let of = |m: pb::Meta| Metadata {
        kind: MetricType::named(&m.r#type),
        help: m.help.into(),
        unit: m.unit.into(),
    };
    let entries = found.metadata.into_iter();
    entries
        .map(|(name, entry)| (name.into(), entry.metas.into_iter().map(of).collect()))
        .collect()
}

/// Exemplars of a series as a message.
pub(super) fn to_exemplars(series: &Labels, all: &[Exemplar]) -> pb::ExemplarData {
    pb::ExemplarData {
        series_labels: Some(to_label_set(series)),
        exemplars: all
            .iter()
            .map(|e| pb::Exemplar {
                labels: Some(to_label_set(&e.labels)),
                value: e.value,
                ts: e.ts,
            })
            .collect(),
    }
}

/// An exemplar that came from elsewhere.
pub(super) fn exemplar(labels: Labels, value: f64, ts: Millis) -> Exemplar {
    Exemplar {
        // Of no sink: it is only shown.
        series: SeriesRef {
            id: 0,
            generation: 0,
        },
        labels,
        value,
        ts,
        timed: true,
    }
}

/// Exemplars of a message.
pub(super) fn exemplars(data: &pb::ExemplarData) -> (Labels, Vec<Exemplar>) {
    let all = data.exemplars.iter();
    let all = all.map(|e| exemplar(label_set(&e.labels), e.value, e.ts));
    (label_set(&data.series_labels), all.collect())
}

fn to_stats(all: &[(Str, u64)]) -> Vec<pb::Statistic> {
    all.iter()
        .map(|(name, value)| pb::Statistic {
            name: name.to_string(),
            value: *value,
        })
        .collect()
}

/// Cardinality as a message.
pub(super) fn to_statistics(head: &HeadStatistics) -> pb::TsdbStatisticsEntry {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    pb::TsdbStatisticsEntry {
        head_statistics: Some(pb::HeadStatistics {
            num_series: head.series,
            num_label_pairs: count(head.label_pairs),
            chunk_count: count(head.chunks),
            min_time: head.range.map_or(Millis::MAX, |r| r.min),
            max_time: head.range.map_or(Millis::MIN, |r| r.max),
        }),
        series_count_by_metric_name: to_stats(&head.series_by_metric),
        label_value_count_by_label_name: to_stats(&head.values_by_label),
        memory_in_bytes_by_label_name: to_stats(&head.bytes_by_label),
        series_count_by_label_value_pair: to_stats(&head.series_by_pair),
    }
}

fn stats(all: Vec<pb::Statistic>) -> Vec<(Str, u64)> {
    all.into_iter().map(|s| (s.name.into(), s.value)).collect()
}

/// Cardinality of a message.
pub(super) fn statistics(entry: pb::TsdbStatisticsEntry) -> HeadStatistics {
    let head = entry.head_statistics.unwrap_or_default();
    let range = TimeRange::new(head.min_time, head.max_time);
    HeadStatistics {
        series: head.num_series,
        label_pairs: u64::try_from(head.num_label_pairs).unwrap_or(0),
        chunks: u64::try_from(head.chunk_count).unwrap_or(0),
        range: (!range.is_empty()).then_some(range),
        series_by_metric: stats(entry.series_count_by_metric_name),
        values_by_label: stats(entry.label_value_count_by_label_name),
        bytes_by_label: stats(entry.memory_in_bytes_by_label_name),
        series_by_pair: stats(entry.series_count_by_label_value_pair),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_survive_the_way() {
        let labels = Labels::from_pairs([("severity", "page")]);
        let alert = AlertStatus {
            labels: labels.clone(),
            annotations: Labels::default(),
            state: AlertState::Firing,
            active_at: 1_700_000_000_123,
            keep_firing_since: None,
            value: 0.25,
        };
        let rule = |kind| RuleStatus {
            name: "r".into(),
            query: "up == 0".into(),
            labels: labels.clone(),
            health: RuleHealth::Bad,
            last_error: "no".into(),
            evaluation_time: 0.5,
            last_evaluation: 1_700_000_000_000,
            kind,
        };
        let group = RuleGroupStatus {
            name: "g".into(),
            file: "f".into(),
            interval: 1500,
            limit: 3,
            rules: vec![
                rule(RuleKind::Recording),
                rule(RuleKind::Alerting {
                    state: AlertState::Firing,
                    hold: 60_000,
                    keep_firing_for: 30_000,
                    annotations: Labels::from_pairs([("summary", "{{ $value }}")]),
                    alerts: vec![alert],
                }),
            ],
            evaluation_time: 0.75,
            last_evaluation: 0,
            partial_response: PartialResponse::Abort,
        };
        let back = super::group(to_group(&group));
        assert_eq!(format!("{back:?}"), format!("{group:?}"));
    }

    #[test]
    fn what_no_head_has_is_none() {
        let head = HeadStatistics::default();
        let back = statistics(to_statistics(&head));
        assert!(back.range.is_none());
    }
}
