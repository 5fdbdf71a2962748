//! The reports of all endpoints that have them.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use model::report::{
    DEFAULT_TENANT, ExemplarsBySeries, HeadStatistics, MetadataByName, Reported, Reports,
    RuleGroupStatus, Served, TargetsReport,
};
use model::sink::Exemplar;
use model::source::Answer;
use model::{Kind, Labels, Matcher, Scope, SourceError, Str, TimeRange};
use tokio::runtime::Handle;
use tracing::Instrument as _;
use wire::convert;
use wire::grpc::{Channel, MAX_MESSAGE, Response, Status, Streaming};
use wire::proto::thanos as pb;
use wire::proto::thanos::exemplars_client::ExemplarsClient;
use wire::proto::thanos::metadata_client::MetadataClient;
use wire::proto::thanos::rules_client::RulesClient;
use wire::proto::thanos::status_client::StatusClient;
use wire::proto::thanos::targets_client::TargetsClient;

use super::{dedup, words};
use crate::endpoints::{Endpoints, Known};
use crate::failure;
use crate::remote::{About, with_scope, within};

/// How reports of many endpoints are united.
#[derive(Clone, Debug, Default)]
pub struct FanOutOptions {
    /// Labels that tell replicas apart, unless a question names its own.
    pub replica_labels: Vec<Str>,
    /// Only what carries the asking tenant in this label is shown (`--query.enforce-tenancy`).
    pub tenant_label: Option<Str>,
}

/// Reports that are asked of all endpoints that serve them.
pub struct FanOut {
    endpoints: Arc<Endpoints>,
    options: Arc<FanOutOptions>,
    runtime: Handle,
}

/// No endpoint may report more items than so many, so that none can fill our memory.
const MOST: usize = 5_000_000;

/// What one endpoint answered: its parts, and what it had to say.
type Parts<T> = Result<(Vec<T>, Vec<Str>), Status>;

/// A message that is a part or a warning.
enum Part<T> {
    One(T),
    Warning(String),
    Nothing,
}

/// A message of an answer, in whichever service.
trait Told {
    /// What a part of the report is.
    type Part;

    fn part(self) -> Part<Self::Part>;
}

macro_rules! told {
    ($($message:ident, $forms:ident, $one:ident: $part:ty = $read:expr;)*) => {$(
        impl Told for pb::$message {
            type Part = $part;

            fn part(self) -> Part<$part> {
                use pb::$forms::Result as From;
                match self.result {
                    Some(From::$one(one)) => Part::One($read(one)),
                    Some(From::Warning(text)) => Part::Warning(text),
                    None => Part::Nothing,
                }
            }
        }
    )*};
}

told! {
    RulesResponse, rules_response, Group: RuleGroupStatus = words::group;
    TargetsResponse, targets_response, Targets: TargetsReport = words::targets;
    MetricMetadataResponse, metric_metadata_response, Metadata: MetadataByName = words::metadata;
    ExemplarsResponse, exemplars_response, Data: (Labels, Vec<Exemplar>) = |d| words::exemplars(&d);
    TsdbStatisticsResponse, tsdb_statistics_response, Statistics: pb::TsdbStatistics = |s| s;
}

/// Takes in a whole answer.
async fn drain<M: Told>(answer: Response<Streaming<M>>) -> Parts<M::Part> {
    let mut stream = answer.into_inner();
    let (mut parts, mut warnings) = (Vec::new(), Vec::new());
    while let Some(message) = stream.message().await? {
        match message.part() {
            Part::One(one) if parts.len() < MOST => parts.push(one),
            Part::One(_) => {
                let text = format!("more than {MOST} messages came; the rest is left out");
                warnings.push(text.into());
                break;
            }
            Part::Warning(text) => warnings.push(text.into()),
            Part::Nothing => {}
        }
    }
    Ok((parts, warnings))
}

impl FanOut {
    /// The reports of `endpoints`.
    pub fn new(endpoints: Arc<Endpoints>, options: FanOutOptions, runtime: Handle) -> Self {
        Self {
            endpoints,
            options: Arc::new(options),
            runtime,
        }
    }

    /// Asks the endpoints that `serve` and that `concern` the question, all at once. `call` gives
    /// none where an endpoint need not be asked.
    fn ask<T, F>(
        &self,
        scope: &Arc<Scope>,
        serves: fn(&About) -> bool,
        call: impl Fn(&About, Channel) -> Option<F>,
    ) -> Reported<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = Parts<T>> + Send + 'static,
    {
        let mut asked = Vec::new();
        let mut silent = Vec::new();
        for Known {
            name,
            about,
            channel,
            error,
        } in self.endpoints.known(Some(scope))
        {
            let Some(about) = about.filter(|a| serves(a)) else {
                continue;
            };
            match error {
                Some(error) => silent.push((name, error)),
                None => {
                    if let Some(call) = call(&about, channel) {
                        asked.push((name, call));
                    }
                }
            }
        }
        let (scope, runtime) = (Arc::clone(scope), self.runtime.clone());
        let work = async move {
            let calls = asked.into_iter().map(|(name, call)| {
                let scope = &scope;
                async move { (name, within(scope, None, call).await) }
            });
            let silent = silent.into_iter().map(|(name, error)| {
                let e = SourceError::new(Kind::Unavailable, error);
                (name, Err(e))
            });
            let mut answer = Answer {
                value: Vec::new(),
                warnings: Vec::new(),
            };
            for (name, parts) in join_all(calls).await.into_iter().chain(silent) {
                match parts {
                    Ok((parts, warnings)) => {
                        answer.value.extend(parts);
                        answer.warnings.extend(warnings);
                    }
                    // Late for the question is late for this endpoint only: the others have answered.
                    Err(e) if e.kind == Kind::Timeout => {
                        let e = SourceError::new(Kind::Unavailable, e.message);
                        answer.warnings.push(failure::tolerate(&scope, &name, e)?);
                    }
                    Err(e) => answer.warnings.push(failure::tolerate(&scope, &name, e)?),
                }
            }
            Ok(answer)
        };
        Box::pin(async move {
            let task = runtime.spawn(work.in_current_span());
            let _ends = crate::Guard(task.abort_handle());
            task.await
                .map_err(|e| SourceError::new(Kind::Internal, e.to_string()))?
        })
    }

    /// The replica labels of a question; none if replicas are to stay apart.
    fn replicas(&self, scope: &Scope) -> Option<Vec<Str>> {
        match &scope.gather.replica_labels {
            None => Some(self.options.replica_labels.clone()),
            Some(named) if named.is_empty() => None,
            Some(named) => Some(named.to_vec()),
        }
    }

    /// The matcher that tenancy adds.
    fn tenant(&self, scope: &Scope) -> Result<Option<Matcher>, SourceError> {
        let Some(label) = &self.options.tenant_label else {
            return Ok(None);
        };
        match &scope.tenant {
            Some(tenant) => Ok(Some(Matcher::equal(Arc::clone(label), Arc::clone(tenant)))),
            None => Err(SourceError::new(
                Kind::Invalid,
                "no tenant was given, and tenancy is enforced",
            )),
        }
    }
}

fn refused<T: Send + 'static>(e: SourceError) -> Reported<T> {
    Box::pin(std::future::ready(Err(e)))
}

/// Whether labels satisfy the tenant's matcher.
fn of_tenant(tenant: &Option<Matcher>, labels: &Labels) -> bool {
    tenant
        .as_ref()
        .is_none_or(|m| m.matches(labels.get(&m.name).unwrap_or("")))
}

/// Whether an endpoint's label sets leave room for the matchers.
fn fits(about: &About, matchers: &[Matcher]) -> bool {
    let set_fits = |set: &Labels| {
        let fits = |m: &Matcher| set.get(&m.name).is_none_or(|value| m.matches(value));
        matchers.iter().all(fits)
    };
    about.label_sets.is_empty() || about.label_sets.iter().any(set_fits)
}

fn strategy(scope: &Scope) -> i32 {
    crate::remote::strategy(scope).1
}

/// Selectors as one expression, which is all that a Prometheus needs for exemplars.
fn expression(sets: &[Vec<Matcher>]) -> String {
    let sets = sets.iter().map(|set| {
        let list: Vec<String> = set.iter().map(|m| m.to_string()).collect();
        format!("{{{}}}", list.join(","))
    });
    sets.collect::<Vec<_>>().join(" + ")
}

impl Reports for FanOut {
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
        let tenant = match self.tenant(&scope) {
            Ok(tenant) => tenant,
            Err(e) => return refused(e),
        };
        let replicas = self.replicas(&scope);
        let found = self.ask(
            &scope,
            |a| a.rules,
            |_, channel| {
                let message = pb::RulesRequest {
                    partial_response_strategy: strategy(&scope),
                    ..Default::default()
                };
                let mut client = RulesClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
                let request = with_scope(&scope, message);
                Some(async move { drain(client.rules(request).await?).await })
            },
        );
        Box::pin(async move {
            let mut answer = found.await?;
            if tenant.is_some() {
                for group in &mut answer.value {
                    group.rules.retain(|r| of_tenant(&tenant, &r.labels));
                }
                answer.value.retain(|g| !g.rules.is_empty());
            }
            if let Some(replicas) = replicas {
                answer.value = dedup::rules(answer.value, &replicas);
            }
            Ok(answer)
        })
    }

    fn targets(&self, scope: Arc<Scope>) -> Reported<TargetsReport> {
        let tenant = match self.tenant(&scope) {
            Ok(tenant) => tenant,
            Err(e) => return refused(e),
        };
        let replicas = self.replicas(&scope);
        let found = self.ask(
            &scope,
            |a| a.targets,
            |_, channel| {
                let message = pb::TargetsRequest {
                    partial_response_strategy: strategy(&scope),
                    ..Default::default()
                };
                let mut client = TargetsClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
                let request = with_scope(&scope, message);
                Some(async move { drain(client.targets(request).await?).await })
            },
        );
        Box::pin(async move {
            let answer = found.await?;
            let mut all = TargetsReport::default();
            for part in answer.value {
                all.active.extend(part.active);
                all.dropped.extend(part.dropped);
            }
            all.active.retain(|t| of_tenant(&tenant, &t.labels));
            all.dropped
                .retain(|t| of_tenant(&tenant, &t.discovered_labels));
            Ok(Answer {
                value: match replicas {
                    Some(replicas) => dedup::targets(all, &replicas),
                    None => all,
                },
                warnings: answer.warnings,
            })
        })
    }

    fn metadata(
        &self,
        metric: Option<Str>,
        limit: usize,
        scope: Arc<Scope>,
    ) -> Reported<MetadataByName> {
        let tenant = match self.tenant(&scope) {
            Ok(tenant) => tenant,
            Err(e) => return refused(e),
        };
        let found = self.ask(
            &scope,
            |a| a.metadata,
            |about, channel| {
                // Metadata carries no labels: only processes of the tenant alone are asked.
                let theirs = about.label_sets.iter().all(|set| of_tenant(&tenant, set));
                if tenant.is_some() && (about.label_sets.is_empty() || !theirs) {
                    return None;
                }
                let message = pb::MetricMetadataRequest {
                    metric: metric.as_deref().unwrap_or_default().to_owned(),
                    limit: i32::try_from(limit).unwrap_or(-1),
                    partial_response_strategy: strategy(&scope),
                };
                let mut client =
                    MetadataClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
                let request = with_scope(&scope, message);
                Some(async move { drain(client.metric_metadata(request).await?).await })
            },
        );
        Box::pin(async move {
            let answer = found.await?;
            let all = answer.value.into_iter().flatten().collect();
            Ok(Answer {
                value: dedup::metadata(all, limit),
                warnings: answer.warnings,
            })
        })
    }

    fn exemplars(
        &self,
        mut matchers: Vec<Vec<Matcher>>,
        range: TimeRange,
        scope: Arc<Scope>,
    ) -> Reported<ExemplarsBySeries> {
        let tenant = match self.tenant(&scope) {
            Ok(tenant) => tenant,
            Err(e) => return refused(e),
        };
        if let Some(tenant) = &tenant {
            matchers.iter_mut().for_each(|set| set.push(tenant.clone()));
        }
        let replicas = self.replicas(&scope);
        let found = self.ask(
            &scope,
            |a| a.exemplars,
            |about, channel| {
                // A Prometheus does not know its external labels; a querier does.
                let knows = about.query || about.component == "query";
                let external = |m: &Matcher| {
                    let sets = &about.label_sets;
                    !knows && sets.iter().any(|set| set.get(&m.name).is_some())
                };
                let sets: Vec<Vec<Matcher>> = matchers
                    .iter()
                    .filter(|set| fits(about, set))
                    .map(|set| set.iter().filter(|m| !external(m)).cloned().collect())
                    .filter(|set: &Vec<Matcher>| !set.is_empty())
                    .collect();
                if sets.is_empty() {
                    return None;
                }
                let message = pb::ExemplarsRequest {
                    query: expression(&sets),
                    start: range.min,
                    end: range.max,
                    partial_response_strategy: strategy(&scope),
                };
                let mut client =
                    ExemplarsClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
                let request = with_scope(&scope, message);
                Some(async move { drain(client.exemplars(request).await?).await })
            },
        );
        Box::pin(async move {
            let mut answer = found.await?;
            answer
                .value
                .retain(|(series, _)| of_tenant(&tenant, series));
            if let Some(replicas) = replicas {
                answer.value = dedup::exemplars(answer.value, &replicas);
            }
            Ok(answer)
        })
    }

    fn statistics(
        &self,
        limit: usize,
        mut matchers: Vec<Matcher>,
        scope: Arc<Scope>,
    ) -> Reported<Vec<(Str, HeadStatistics)>> {
        let tenant = match self.tenant(&scope) {
            Ok(tenant) => tenant,
            Err(e) => return refused(e),
        };
        matchers.extend(tenant.clone());
        let found = self.ask(
            &scope,
            |a| a.status,
            |about, channel| {
                let theirs = about.label_sets.iter().all(|set| of_tenant(&tenant, set));
                if !fits(about, &matchers)
                    || (tenant.is_some() && (about.label_sets.is_empty() || !theirs))
                {
                    return None;
                }
                let message = pb::TsdbStatisticsRequest {
                    limit: i32::try_from(limit).unwrap_or(0),
                    partial_response_strategy: strategy(&scope),
                    matchers: convert::to_matchers(&matchers),
                    ..Default::default()
                };
                let mut client = StatusClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
                let request = with_scope(&scope, message);
                Some(async move { drain(client.tsdb_statistics(request).await?).await })
            },
        );
        Box::pin(async move {
            let answer = found.await?;
            let mut by_tenant: BTreeMap<Str, Vec<HeadStatistics>> = BTreeMap::new();
            for (name, entry) in answer.value.into_iter().flat_map(|s| s.statistics) {
                let name = match name.as_str() {
                    "" => DEFAULT_TENANT,
                    name => name,
                };
                let heads = by_tenant.entry(name.into()).or_default();
                heads.push(words::statistics(entry));
            }
            let united = by_tenant.into_iter();
            Ok(Answer {
                value: united
                    .map(|(name, heads)| (name, HeadStatistics::united(heads, limit)))
                    .collect(),
                warnings: answer.warnings,
            })
        })
    }
}
