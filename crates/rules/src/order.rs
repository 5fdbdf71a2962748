//! Which rules of a group may be evaluated side by side.

use model::{MatchOp, Matcher};
use promql::ast::{ExprKind, VectorSelector};
use promql::features::Features;

use crate::alerting::{ALERT_NAME, ALERTS, ALERTS_FOR_STATE};
use crate::rule::{Kind, Rule};

/// Rules, by their place in the group, in batches: those of a batch need nothing of each other, and
/// nothing of a later one. Empty where that cannot be told, and for a rule alone.
///
/// As in Prometheus: first all rules that read no other rule's series, then one by one those that
/// read some and are read, then all that are not read. A selector without a metric name may read
/// anything, so a group with one is evaluated in its own order.
pub(crate) fn batches(rules: &[Rule]) -> Vec<Vec<usize>> {
    if rules.len() < 2 {
        return Vec::new();
    }
    let Some(reads) = dependencies(rules) else {
        return Vec::new();
    };
    let mut is_read = vec![false; rules.len()];
    for &other in reads.iter().flatten() {
        is_read[other] = true;
    }
    let all = || 0..rules.len();
    let first: Vec<usize> = all().filter(|&i| reads[i].is_empty()).collect();
    let between = all().filter(|&i| !reads[i].is_empty() && is_read[i]);
    let last: Vec<usize> = all()
        .filter(|&i| !reads[i].is_empty() && !is_read[i])
        .collect();
    let mut batches = vec![first];
    batches.extend(between.map(|i| vec![i]));
    batches.push(last);
    batches.retain(|batch| !batch.is_empty());
    batches
}

/// For each rule the earlier rules whose series it reads; none if that cannot be told.
fn dependencies(rules: &[Rule]) -> Option<Vec<Vec<usize>>> {
    let mut all = Vec::with_capacity(rules.len());
    for (i, rule) in rules.iter().enumerate() {
        let expr = promql::parse::parse(rule.query(), &Features::ALL).ok()?;
        let (mut reads, mut known) = (Vec::new(), true);
        expr.for_each(|expr| {
            let selector = match &expr.kind {
                ExprKind::Vector(selector) => selector,
                ExprKind::Matrix(matrix) => &matrix.selector,
                _ => return,
            };
            match name_of(selector) {
                Some(name) => reads.extend((0..i).filter(|&j| is_read(&rules[j], &name, selector))),
                None => known = false,
            }
        });
        if !known {
            return None;
        }
        reads.sort_unstable();
        reads.dedup();
        all.push(reads);
    }
    Some(all)
}

fn name_of(selector: &VectorSelector) -> Option<Matcher> {
    match &selector.name {
        Some(name) => Matcher::new(MatchOp::Equal, model::METRIC_NAME, &**name).ok(),
        None => {
            let mut matchers = selector.matchers.iter();
            matchers.find(|m| *m.name == *model::METRIC_NAME).cloned()
        }
    }
}

/// Whether a selector whose metrics are called `name` reads what `rule` writes.
fn is_read(rule: &Rule, name: &Matcher, selector: &VectorSelector) -> bool {
    if name.matches(rule.name()) {
        return true;
    }
    if !matches!(rule.kind, Kind::Alerting(_)) {
        return false;
    }
    let mut matchers = selector.matchers.iter();
    let of_alert = matchers.find(|m| *m.name == *ALERT_NAME);
    (name.matches(ALERTS) || name.matches(ALERTS_FOR_STATE))
        && of_alert.is_none_or(|m| m.matches(rule.name()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::file::{ReadOptions, parse};

    fn of(rules: &str) -> Vec<Vec<usize>> {
        let text = format!("groups: [{{name: g, rules: [{rules}]}}]");
        let read = parse(Path::new("r.yml"), &text, ReadOptions::default()).unwrap();
        let group = &read.file.groups[0];
        let rules: Vec<Rule> = group.rules.iter().map(|r| Rule::new(group, r)).collect();
        batches(&rules)
    }

    #[test]
    fn what_reads_others_comes_later() {
        assert_eq!(of("{record: a, expr: x}"), Vec::<Vec<usize>>::new());
        assert_eq!(
            of("{record: a, expr: x}, {record: b, expr: y}"),
            [vec![0, 1]]
        );
        assert_eq!(
            of(
                "{record: a, expr: x}, {record: b, expr: 'rate(a[5m])'}, {record: c, expr: b + y}, \
                {record: d, expr: a}, {record: e, expr: z}"
            ),
            [vec![0, 4], vec![1], vec![2, 3]]
        );
        // A later rule is no dependency: its series are those of the tick before.
        assert_eq!(
            of("{record: a, expr: b}, {record: b, expr: x}"),
            [vec![0, 1]]
        );
        assert_eq!(
            of("{record: a, expr: x}, {record: b, expr: '{__name__=~\"a|c\"}'}"),
            [vec![0], vec![1]]
        );
    }

    #[test]
    fn alerts_are_read_through_their_series() {
        let rules = |selector: &str| {
            format!(
                "{{alert: A, expr: x}}, {{alert: B, expr: y}}, {{record: c, expr: '{selector}'}}"
            )
        };
        assert_eq!(of(&rules("ALERTS")), [vec![0, 1], vec![2]]);
        assert_eq!(
            of(&rules("ALERTS_FOR_STATE{alertname=\"B\"}")),
            [vec![0, 1], vec![2]]
        );
        assert_eq!(of(&rules("ALERTS{alertname=\"D\"}")), [vec![0, 1, 2]]);
    }

    #[test]
    fn a_selector_of_anything_keeps_the_order() {
        assert!(of("{record: a, expr: x}, {record: b, expr: '{job=\"c\"}'}").is_empty());
    }
}
