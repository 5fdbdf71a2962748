//! The services beside StoreAPI, over any reports.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use model::report::Reports;
use model::scope::Gather;
use model::source::Answer;
use model::{BoxStream, Budget, Kind, Scope, SourceError, Str, TimeRange};
use wire::convert;
use wire::grpc::{Code, Request, Response, Status, tenant_of, timeout_of, to_status};
use wire::proto::thanos as pb;
use wire::proto::thanos::exemplars_server::Exemplars;
use wire::proto::thanos::metadata_server::Metadata;
use wire::proto::thanos::rules_server::Rules;
use wire::proto::thanos::status_server::Status as StatusService;
use wire::proto::thanos::targets_server::Targets;

use super::words;

/// A call that names no deadline is given this one.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Serves the reports of a process.
#[derive(Clone)]
pub(crate) struct Sister {
    pub(crate) reports: Arc<dyn Reports>,
    pub(crate) memory: Arc<Budget>,
}

type Stream<T> = BoxStream<'static, Result<T, Status>>;

fn failed(e: &SourceError) -> Status {
    match e.kind {
        Kind::NotFound => Status::new(Code::Unimplemented, e.message.clone()),
        Kind::Unavailable | Kind::Corrupt | Kind::Internal => {
            Status::new(Code::Aborted, e.message.clone())
        }
        _ => to_status(e),
    }
}

/// Messages, and the warnings behind them.
fn streamed<T: Send + 'static>(
    messages: Vec<T>,
    warnings: &[Str],
    warning: impl Fn(String) -> T,
) -> Response<Stream<T>> {
    let warnings: Vec<T> = warnings.iter().map(|w| warning(w.to_string())).collect();
    let all = messages.into_iter().chain(warnings).map(Ok);
    Response::new(Box::pin(stream::iter(all.collect::<Vec<_>>())))
}

impl Sister {
    /// What a call brings along. Replicas are for whoever asked to unite.
    fn scope<T>(&self, request: &Request<T>, range: TimeRange, strategy: i32) -> Arc<Scope> {
        let timeout = timeout_of(request.metadata()).unwrap_or(TIMEOUT);
        let mut scope = Scope::new(range, Arc::clone(&self.memory)).with_timeout(timeout);
        scope.tenant = tenant_of(request.metadata()).map(Str::from);
        scope.partial_response = words::partial(strategy);
        scope.gather = Gather {
            replica_labels: Some(Arc::from([])),
            ..Gather::default()
        };
        Arc::new(scope)
    }
}

#[wire::grpc::async_trait]
impl Rules for Sister {
    type RulesStream = Stream<pb::RulesResponse>;

    async fn rules(
        &self,
        request: Request<pb::RulesRequest>,
    ) -> Result<Response<Self::RulesStream>, Status> {
        use pb::rules_response::Result as To;
        let asked = request.get_ref();
        let kind = asked.r#type;
        let scope = self.scope(&request, TimeRange::ALL, asked.partial_response_strategy);
        let Answer { value, warnings } = self.reports.rules(scope).await.map_err(|e| failed(&e))?;
        let picked =
            |list: &[String], name: &str| list.is_empty() || list.iter().any(|l| l == name);
        let of_kind = |rule: &model::report::RuleStatus| {
            let recording = matches!(rule.kind, model::report::RuleKind::Recording);
            match pb::rules_request::Type::try_from(kind) {
                Ok(pb::rules_request::Type::Alert) => !recording,
                Ok(pb::rules_request::Type::Record) => recording,
                _ => true,
            }
        };
        let narrowed = kind != 0 || !asked.rule_name.is_empty();
        let mut messages = Vec::new();
        for mut group in value {
            if !picked(&asked.rule_group, &group.name) || !picked(&asked.file, &group.file) {
                continue;
            }
            group
                .rules
                .retain(|rule| of_kind(rule) && picked(&asked.rule_name, &rule.name));
            if narrowed && group.rules.is_empty() {
                continue;
            }
            messages.push(pb::RulesResponse {
                result: Some(To::Group(words::to_group(&group))),
            });
        }
        Ok(streamed(messages, &warnings, |text| pb::RulesResponse {
            result: Some(To::Warning(text)),
        }))
    }
}

#[wire::grpc::async_trait]
impl Targets for Sister {
    type TargetsStream = Stream<pb::TargetsResponse>;

    async fn targets(
        &self,
        request: Request<pb::TargetsRequest>,
    ) -> Result<Response<Self::TargetsStream>, Status> {
        use pb::targets_request::State;
        use pb::targets_response::Result as To;
        let asked = request.get_ref();
        let state = State::try_from(asked.state).unwrap_or(State::Any);
        let scope = self.scope(&request, TimeRange::ALL, asked.partial_response_strategy);
        let mut answer = self.reports.targets(scope).await.map_err(|e| failed(&e))?;
        if state == State::Dropped {
            answer.value.active.clear();
        }
        if state == State::Active {
            answer.value.dropped.clear();
        }
        let message = pb::TargetsResponse {
            result: Some(To::Targets(words::to_targets(&answer.value))),
        };
        let warning = |text| pb::TargetsResponse {
            result: Some(To::Warning(text)),
        };
        Ok(streamed(vec![message], &answer.warnings, warning))
    }
}

#[wire::grpc::async_trait]
impl Metadata for Sister {
    type MetricMetadataStream = Stream<pb::MetricMetadataResponse>;

    async fn metric_metadata(
        &self,
        request: Request<pb::MetricMetadataRequest>,
    ) -> Result<Response<Self::MetricMetadataStream>, Status> {
        use pb::metric_metadata_response::Result as To;
        let asked = request.get_ref();
        let metric = Some(asked.metric.as_str()).filter(|m| !m.is_empty());
        // Negative: all.
        let limit = usize::try_from(asked.limit).unwrap_or(usize::MAX);
        let scope = self.scope(&request, TimeRange::ALL, asked.partial_response_strategy);
        let answer = self.reports.metadata(metric.map(Str::from), limit, scope);
        let answer = answer.await.map_err(|e| failed(&e))?;
        let message = pb::MetricMetadataResponse {
            result: Some(To::Metadata(words::to_metadata(&answer.value))),
        };
        let warning = |text| pb::MetricMetadataResponse {
            result: Some(To::Warning(text)),
        };
        Ok(streamed(vec![message], &answer.warnings, warning))
    }
}

#[wire::grpc::async_trait]
impl Exemplars for Sister {
    type ExemplarsStream = Stream<pb::ExemplarsResponse>;

    async fn exemplars(
        &self,
        request: Request<pb::ExemplarsRequest>,
    ) -> Result<Response<Self::ExemplarsStream>, Status> {
        use pb::exemplars_response::Result as To;
        let asked = request.get_ref();
        let matchers = api::selectors(asked.query.clone())
            .await
            .map_err(|e| Status::new(Code::InvalidArgument, e.message))?;
        let range = TimeRange::new(asked.start, asked.end);
        let scope = self.scope(&request, range, asked.partial_response_strategy);
        let answer = self.reports.exemplars(matchers, range, scope);
        let answer = answer.await.map_err(|e| failed(&e))?;
        let messages = answer
            .value
            .iter()
            .map(|(series, all)| pb::ExemplarsResponse {
                result: Some(To::Data(words::to_exemplars(series, all))),
            });
        let warning = |text| pb::ExemplarsResponse {
            result: Some(To::Warning(text)),
        };
        Ok(streamed(messages.collect(), &answer.warnings, warning))
    }
}

#[wire::grpc::async_trait]
impl StatusService for Sister {
    type TSDBStatisticsStream = Stream<pb::TsdbStatisticsResponse>;

    async fn tsdb_statistics(
        &self,
        request: Request<pb::TsdbStatisticsRequest>,
    ) -> Result<Response<Self::TSDBStatisticsStream>, Status> {
        use pb::tsdb_statistics_response::Result as To;
        let asked = request.get_ref();
        let matchers = convert::matchers(&asked.matchers)
            .map_err(|e| Status::new(Code::InvalidArgument, e.to_string()))?;
        let limit = usize::try_from(asked.limit).ok().filter(|n| *n > 0);
        let tenant = asked.tenant.clone();
        let scope = self.scope(&request, TimeRange::ALL, asked.partial_response_strategy);
        let answer = self
            .reports
            .statistics(limit.unwrap_or(usize::MAX), matchers, scope);
        let answer = answer.await.map_err(|e| failed(&e))?;
        let statistics = answer
            .value
            .iter()
            .filter(|(name, _)| tenant.is_empty() || **name == *tenant)
            .map(|(name, head)| (name.to_string(), words::to_statistics(head)))
            .collect();
        let message = pb::TsdbStatisticsResponse {
            result: Some(To::Statistics(pb::TsdbStatistics { statistics })),
        };
        let warning = |text| pb::TsdbStatisticsResponse {
            result: Some(To::Warning(text)),
        };
        Ok(streamed(vec![message], &answer.warnings, warning))
    }
}
