//! The reports of several processes made one: what replicas report alike is shown once.
//! Orders and choices are Thanos' (`pkg/{rules,targets,exemplars,metadata,status}`).

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use model::report::{
    ActiveTarget, ExemplarsBySeries, MetadataByName, RuleGroupStatus, RuleKind, RuleStatus,
    TargetsReport,
};
use model::sink::Exemplar;
use model::{Labels, Str};

/// A label set without replica labels.
fn strip(labels: &mut Labels, replicas: &[Str]) {
    if replicas.iter().any(|name| labels.get(name).is_some()) {
        let kept = labels
            .iter()
            .filter(|(name, _)| replicas.iter().all(|r| **r != **name));
        *labels = Labels::from_pairs(kept);
    }
}

fn is_recording(rule: &RuleStatus) -> bool {
    matches!(rule.kind, RuleKind::Recording)
}

/// Which rules are the same: alerting ones come first.
fn same_rule(a: &RuleStatus, b: &RuleStatus) -> Ordering {
    let hold = |rule: &RuleStatus| match &rule.kind {
        RuleKind::Alerting { hold, .. } => *hold,
        RuleKind::Recording => 0,
    };
    is_recording(a)
        .cmp(&is_recording(b))
        .then_with(|| a.name.cmp(&b.name))
        .then_with(|| a.labels.cmp(&b.labels))
        .then_with(|| a.query.cmp(&b.query))
        .then_with(|| hold(a).cmp(&hold(b)))
}

/// Of the same rule the more urgent one is shown, of equally urgent ones the younger.
fn better_rule(a: &RuleStatus, b: &RuleStatus) -> Ordering {
    let state = |rule: &RuleStatus| match &rule.kind {
        RuleKind::Alerting { state, .. } => Some(*state),
        RuleKind::Recording => None,
    };
    let rank = |rule: &RuleStatus| Reverse((state(rule), rule.last_evaluation));
    rank(a).cmp(&rank(b))
}

/// Groups of the same file and name are one; a rule that only differs in replica labels is, too.
pub(super) fn rules(mut groups: Vec<RuleGroupStatus>, replicas: &[Str]) -> Vec<RuleGroupStatus> {
    let key = |g: &RuleGroupStatus| format!("{};{}", g.file, g.name);
    groups.sort_by_cached_key(key);
    let mut all: Vec<RuleGroupStatus> = Vec::new();
    for group in groups {
        match all.last_mut() {
            Some(last) if (&last.file, &last.name) == (&group.file, &group.name) => {
                last.rules.extend(group.rules);
            }
            _ => all.push(group),
        }
    }
    for group in &mut all {
        for rule in &mut group.rules {
            strip(&mut rule.labels, replicas);
        }
        group
            .rules
            .sort_by(|a, b| same_rule(a, b).then_with(|| better_rule(a, b)));
        group.rules.dedup_by(|b, a| same_rule(a, b).is_eq());
    }
    all
}

fn same_target(a: &ActiveTarget, b: &ActiveTarget) -> Ordering {
    let key = |t: &ActiveTarget| {
        (
            t.scrape_url.clone(),
            t.scrape_pool.clone(),
            t.discovered_labels.clone(),
            t.labels.clone(),
        )
    };
    key(a).cmp(&key(b))
}

/// Targets that only differ in replica labels are one: one that is down is shown before one that is
/// up, else the one that was scraped last.
pub(super) fn targets(mut report: TargetsReport, replicas: &[Str]) -> TargetsReport {
    use model::report::Health;
    for target in &mut report.active {
        strip(&mut target.labels, replicas);
        strip(&mut target.discovered_labels, replicas);
    }
    let worse = |t: &ActiveTarget| {
        let health = match t.health {
            Health::Down => 0,
            Health::Up => 1,
            Health::Unknown => 2,
        };
        (health, Reverse(t.last_scrape))
    };
    report
        .active
        .sort_by(|a, b| same_target(a, b).then_with(|| worse(a).cmp(&worse(b))));
    report.active.dedup_by(|b, a| same_target(a, b).is_eq());
    for target in &mut report.dropped {
        strip(&mut target.discovered_labels, replicas);
    }
    report
        .dropped
        .sort_by(|a, b| a.discovered_labels.cmp(&b.discovered_labels));
    report
        .dropped
        .dedup_by(|b, a| a.discovered_labels == b.discovered_labels);
    report
}

/// Each different metadata of a metric once; at most `limit` metrics.
pub(super) fn metadata(all: MetadataByName, limit: usize) -> MetadataByName {
    let mut by_name: BTreeMap<Str, Vec<_>> = BTreeMap::new();
    for (name, more) in all {
        let known = by_name.entry(name).or_default();
        for one in more {
            if !known.contains(&one) {
                known.push(one);
            }
        }
    }
    by_name.into_iter().take(limit).collect()
}

fn exemplar_order(a: &Exemplar, b: &Exemplar) -> Ordering {
    a.ts.cmp(&b.ts)
        .then_with(|| a.labels.cmp(&b.labels))
        .then_with(|| a.value.total_cmp(&b.value))
}

/// Exemplars of series that only differ in replica labels are those of one series, each once.
pub(super) fn exemplars(all: ExemplarsBySeries, replicas: &[Str]) -> ExemplarsBySeries {
    let mut by_series: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
    for (mut series, more) in all {
        strip(&mut series, replicas);
        if !more.is_empty() {
            by_series.entry(series).or_default().extend(more);
        }
    }
    for list in by_series.values_mut() {
        list.sort_by(exemplar_order);
        list.dedup_by(|b, a| exemplar_order(a, b).is_eq());
    }
    by_series.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use model::report::{AlertState, Health, RuleHealth};
    use model::scope::PartialResponse;

    use super::*;
    use crate::reports::words::exemplar;

    fn alert(replica: &str, state: AlertState, at: i64) -> RuleStatus {
        RuleStatus {
            name: "Down".into(),
            query: "up == 0".into(),
            labels: Labels::from_pairs([("replica", replica), ("severity", "page")]),
            health: RuleHealth::Good,
            last_error: String::new(),
            evaluation_time: 0.0,
            last_evaluation: at,
            kind: RuleKind::Alerting {
                state,
                hold: 0,
                keep_firing_for: 0,
                annotations: Labels::default(),
                alerts: Vec::new(),
            },
        }
    }

    fn group(rules: Vec<RuleStatus>) -> RuleGroupStatus {
        RuleGroupStatus {
            name: "g".into(),
            file: "f".into(),
            interval: 1000,
            limit: 0,
            rules,
            evaluation_time: 0.0,
            last_evaluation: 0,
            partial_response: PartialResponse::Abort,
        }
    }

    #[test]
    fn of_replicas_the_rule_that_fires_is_shown_then_the_younger() {
        let replicas = [Str::from("replica")];
        let groups = vec![
            group(vec![alert("a", AlertState::Pending, 9)]),
            group(vec![alert("b", AlertState::Firing, 5)]),
            group(vec![alert("c", AlertState::Firing, 7)]),
        ];
        let shown = rules(groups.clone(), &replicas);
        assert_eq!((shown.len(), shown[0].rules.len()), (1, 1));
        assert_eq!(shown[0].rules[0].last_evaluation, 7);
        assert_eq!(shown[0].rules[0].labels.get("replica"), None);
        let apart = rules(groups, &[]);
        assert_eq!(apart[0].rules.len(), 3, "other labels, other rules");
    }

    #[test]
    fn a_target_that_is_down_is_shown_before_one_that_is_up() {
        let target = |replica: &str, health, last_scrape| ActiveTarget {
            discovered_labels: Labels::from_pairs([("replica", replica)]),
            labels: Labels::from_pairs([("job", "x"), ("replica", replica)]),
            scrape_pool: "x".into(),
            scrape_url: "http://x/metrics".into(),
            global_url: String::new(),
            last_error: String::new(),
            last_scrape,
            last_duration: 0.0,
            health,
            interval: 0,
            timeout: 0,
        };
        let report = TargetsReport {
            active: vec![
                target("a", Health::Up, 9),
                target("b", Health::Down, 1),
                target("c", Health::Down, 3),
            ],
            ..TargetsReport::default()
        };
        let shown = targets(report, &["replica".into()]);
        assert_eq!(shown.active.len(), 1);
        assert_eq!(shown.active[0].last_scrape, 3);
    }

    #[test]
    fn exemplars_of_replicas_are_united() {
        let of = |replica: &str, values: &[f64]| {
            (
                Labels::from_pairs([("job", "x"), ("replica", replica)]),
                values
                    .iter()
                    .map(|v| exemplar(Labels::default(), *v, *v as i64))
                    .collect(),
            )
        };
        let all = vec![of("a", &[3.0, 1.0]), of("b", &[1.0, 2.0])];
        let shown = exemplars(all, &["replica".into()]);
        assert_eq!(shown.len(), 1);
        let values: Vec<f64> = shown[0].1.iter().map(|e| e.value).collect();
        assert_eq!(values, [1.0, 2.0, 3.0]);
    }
}
