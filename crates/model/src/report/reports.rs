//! Reports that have to be asked for over the network, or that are asked for over it.

use std::sync::Arc;

use super::{
    ExemplarReport, HeadReport, HeadStatistics, Metadata, MetadataReport, RuleGroupStatus,
    RulesReport, Targets, TargetsReport,
};
use crate::scope::Scope;
use crate::sink::Exemplar;
use crate::source::{Answer, Kind, SourceError};
use crate::{BoxFuture, Labels, Matcher, Str, TimeRange};

/// What a report answers, with what has to be said about it.
pub type Reported<T> = BoxFuture<'static, Result<Answer<T>, SourceError>>;

/// Metadata by metric name, ascending.
pub type MetadataByName = Vec<(Str, Vec<Metadata>)>;

/// Exemplars by series, ascending by labels.
pub type ExemplarsBySeries = Vec<(Labels, Vec<Exemplar>)>;

/// Everything a process may report of itself or of others. What it does not serve it refuses with
/// [`Kind::NotFound`]; [`Reports::served`] says so beforehand. The scope carries deadline, tenant,
/// the answer to missing parts, and which replica labels do not count.
pub trait Reports: Send + Sync {
    /// Which of them are served.
    fn served(&self) -> Served;

    /// Rule groups.
    fn rules(&self, scope: Arc<Scope>) -> Reported<Vec<RuleGroupStatus>> {
        let _ = scope;
        absent("rules")
    }

    /// Scrape targets.
    fn targets(&self, scope: Arc<Scope>) -> Reported<TargetsReport> {
        let _ = scope;
        absent("targets")
    }

    /// Metadata of one metric or of all, at most `limit` names.
    fn metadata(
        &self,
        metric: Option<Str>,
        limit: usize,
        scope: Arc<Scope>,
    ) -> Reported<MetadataByName> {
        let _ = (metric, limit, scope);
        absent("metadata")
    }

    /// Exemplars of the series that any of the matcher lists selects, in the scope's range.
    fn exemplars(
        &self,
        matchers: Vec<Vec<Matcher>>,
        range: TimeRange,
        scope: Arc<Scope>,
    ) -> Reported<ExemplarsBySeries> {
        let _ = (matchers, range, scope);
        absent("exemplars")
    }

    /// Cardinality by tenant, the `limit` biggest of each; of databases whose external labels match.
    fn statistics(
        &self,
        limit: usize,
        matchers: Vec<Matcher>,
        scope: Arc<Scope>,
    ) -> Reported<Vec<(Str, HeadStatistics)>> {
        let _ = (limit, matchers, scope);
        absent("statistics of a database")
    }
}

fn absent<T: Send + 'static>(what: &str) -> Reported<T> {
    let e = SourceError::new(
        Kind::NotFound,
        format!("{what} are not served by this process"),
    );
    Box::pin(std::future::ready(Err(e)))
}

/// Which reports are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the reports' own names")]
pub struct Served {
    pub rules: bool,
    pub targets: bool,
    pub metadata: bool,
    pub exemplars: bool,
    pub statistics: bool,
}

/// The tenant of a database that knows none, as Thanos calls it.
pub const DEFAULT_TENANT: &str = "default-tenant";

/// The reports of this process, under its external labels as they are seen from outside.
#[derive(Clone)]
pub struct Own {
    /// Knows the rules.
    pub rules: Option<Arc<dyn RulesReport>>,
    /// Knows the scrape targets.
    pub targets: Option<Arc<dyn Targets>>,
    /// Knows types and help texts.
    pub metadata: Option<Arc<dyn MetadataReport>>,
    /// Knows exemplars.
    pub exemplars: Option<Arc<dyn ExemplarReport>>,
    /// Knows the local database.
    pub head: Option<Arc<dyn HeadReport>>,
    /// The external labels now.
    pub labels: Arc<dyn Fn() -> Labels + Send + Sync>,
}

fn ready<T: Send + 'static>(value: T) -> Reported<T> {
    Box::pin(std::future::ready(Ok(value.into())))
}

impl Reports for Own {
    fn served(&self) -> Served {
        Served {
            rules: self.rules.is_some(),
            targets: self.targets.is_some(),
            metadata: self.metadata.is_some(),
            exemplars: self.exemplars.is_some(),
            statistics: self.head.is_some(),
        }
    }

    fn rules(&self, _: Arc<Scope>) -> Reported<Vec<RuleGroupStatus>> {
        let Some(rules) = &self.rules else {
            return absent("rules");
        };
        let mut groups = rules.rule_groups();
        label_rules(&mut groups, &(self.labels)());
        ready(groups)
    }

    fn targets(&self, _: Arc<Scope>) -> Reported<TargetsReport> {
        let Some(targets) = &self.targets else {
            return absent("targets");
        };
        let mut report = targets.targets();
        label_targets(&mut report, &(self.labels)());
        ready(report)
    }

    fn metadata(
        &self,
        metric: Option<Str>,
        limit: usize,
        _: Arc<Scope>,
    ) -> Reported<MetadataByName> {
        let Some(metadata) = &self.metadata else {
            return absent("metadata");
        };
        let mut known = metadata.metadata(metric.as_deref());
        known.truncate(limit);
        ready(known)
    }

    fn exemplars(
        &self,
        matchers: Vec<Vec<Matcher>>,
        range: TimeRange,
        _: Arc<Scope>,
    ) -> Reported<ExemplarsBySeries> {
        let Some(exemplars) = &self.exemplars else {
            return absent("exemplars");
        };
        let labels = (self.labels)();
        let matchers = without_external(matchers, &labels);
        if matchers.is_empty() {
            return ready(Vec::new());
        }
        let found = exemplars.exemplars(matchers, range);
        Box::pin(async move {
            let mut found = found.await;
            label_exemplars(&mut found, &labels);
            Ok(found.into())
        })
    }

    fn statistics(
        &self,
        limit: usize,
        matchers: Vec<Matcher>,
        _: Arc<Scope>,
    ) -> Reported<Vec<(Str, HeadStatistics)>> {
        let Some(head) = &self.head else {
            return absent("statistics of a database");
        };
        let labels = (self.labels)();
        let ours = matchers
            .iter()
            .all(|m| m.matches(labels.get(&m.name).unwrap_or("")));
        ready(match ours {
            true => vec![(DEFAULT_TENANT.into(), head.head(limit))],
            false => Vec::new(),
        })
    }
}

/// The matchers that are left for series' own labels: lists that external labels rule out are gone,
/// matchers that they satisfy, too.
pub fn without_external(matchers: Vec<Vec<Matcher>>, labels: &Labels) -> Vec<Vec<Matcher>> {
    matchers
        .into_iter()
        .filter_map(|mut list| {
            let fits = |m: &Matcher| labels.get(&m.name).is_none_or(|value| m.matches(value));
            if !list.iter().all(fits) {
                return None;
            }
            list.retain(|m| labels.get(&m.name).is_none());
            Some(list)
        })
        .collect()
}

/// Lays external labels over rules, as a peer sees them.
pub fn label_rules(groups: &mut [RuleGroupStatus], labels: &Labels) {
    if labels.is_empty() {
        return;
    }
    for rule in groups.iter_mut().flat_map(|g| &mut g.rules) {
        rule.labels = rule.labels.overlay(labels);
    }
}

/// Lays external labels over targets, as a peer sees them.
pub fn label_targets(report: &mut TargetsReport, labels: &Labels) {
    if labels.is_empty() {
        return;
    }
    for target in &mut report.active {
        target.labels = target.labels.overlay(labels);
        target.discovered_labels = target.discovered_labels.overlay(labels);
    }
    for target in &mut report.dropped {
        target.discovered_labels = target.discovered_labels.overlay(labels);
    }
}

/// Lays external labels over the series of exemplars.
pub fn label_exemplars(found: &mut ExemplarsBySeries, labels: &Labels) {
    if labels.is_empty() {
        return;
    }
    for (series, _) in found.iter_mut() {
        *series = series.overlay(labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_labels_answer_their_matchers() {
        let labels = Labels::from_pairs([("cluster", "a")]);
        let list = |cluster: &str| {
            vec![
                Matcher::equal("cluster", cluster),
                Matcher::equal("job", "x"),
            ]
        };
        let left = without_external(vec![list("a"), list("b")], &labels);
        assert_eq!(left, [vec![Matcher::equal("job", "x")]]);
    }
}
