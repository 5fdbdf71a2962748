//! A store at the other end of a connection.

use std::sync::Arc;
use std::time::Duration;

use model::scope::PartialResponse;
use model::source::Projection;
use model::{
    Answer, BoxFuture, Capabilities, Extent, Kind, LabelSelect, Labels, Matcher, Order, Rows,
    Scope, Select, Source, SourceError, Str, TimeRange, View,
};
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tracing::Instrument as _;
use wire::convert;
use wire::grpc::{Channel, Request, Status, TENANT, from_status};
use wire::proto::thanos as pb;
use wire::proto::thanos::info::info_client::InfoClient;
use wire::proto::thanos::info::{InfoRequest, InfoResponse};
use wire::proto::thanos::store_client::StoreClient;

use crate::arrange::{Change, arrange};
use crate::stream_of;

mod receive;

pub(crate) use receive::Collected;

/// How long an endpoint has for the answers that are small: labels and Info.
const UNARY: Duration = Duration::from_secs(120);

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// `sidecar`, `store`, `query`, `rule`, `receive`, ...
    pub component: String,
    /// Label sets of all its series.
    pub label_sets: Vec<Labels>,
    /// What can be in it; none if it has no StoreAPI.
    pub store: Option<Arc<Extent>>,
    /// Oldest and newest sample, as it says.
    pub range: TimeRange,
    /// Which other services it has.
    pub rules: bool,
    /// Metric metadata.
    pub metadata: bool,
    /// Targets.
    pub targets: bool,
    /// Exemplars.
    pub exemplars: bool,
    /// Query API.
    pub query: bool,
    /// Cardinality.
    pub status: bool,
}

impl From<InfoResponse> for About {
    fn from(info: InfoResponse) -> Self {
        let label_sets: Vec<Labels> = info
            .label_sets
            .iter()
            .map(|s| convert::labels(&s.labels))
            .collect();
        let range = match &info.store {
            Some(store) => TimeRange::new(store.min_time, store.max_time),
            None => TimeRange::EMPTY,
        };
        let store = info.store.map(|store| {
            let mut parts: Vec<(Labels, TimeRange)> = store
                .tsdb_infos
                .iter()
                .map(|t| {
                    (
                        convert::label_set(&t.labels),
                        TimeRange::new(t.min_time, t.max_time),
                    )
                })
                .collect();
            if parts.is_empty() {
                parts = label_sets.iter().map(|l| (l.clone(), range)).collect();
            }
            if parts.is_empty() {
                parts.push((Labels::default(), range));
            }
            Arc::new(Extent {
                parts,
                capabilities: Capabilities {
                    sharding: store.supports_sharding,
                    without_labels: store.supports_without_replica_labels,
                    projection: false,
                },
            })
        });
        Self {
            component: info.component_type,
            label_sets,
            store,
            range,
            rules: info.rules.is_some(),
            metadata: info.metric_metadata.is_some(),
            targets: info.targets.is_some(),
            exemplars: info.exemplars.is_some(),
            query: info.query.is_some(),
            status: info.status.is_some(),
        }
    }
}

/// A source behind StoreAPI. Until it was asked who it is, it may hold anything.
pub struct Remote {
    channel: Channel,
    about: RwLock<Option<Arc<About>>>,
    /// How long the next message of an answer may take.
    response_timeout: Option<Duration>,
    runtime: Handle,
}

impl Remote {
    /// The store behind `channel`.
    pub fn new(channel: Channel, response_timeout: Option<Duration>, runtime: Handle) -> Self {
        Self {
            channel,
            about: RwLock::default(),
            response_timeout,
            runtime,
        }
    }

    /// Asks the endpoint who it is, and remembers it.
    pub async fn ask(&self, timeout: Duration) -> Result<Arc<About>, SourceError> {
        let mut client = InfoClient::new(self.channel.clone());
        let mut request = Request::new(InfoRequest {});
        request.set_timeout(timeout);
        let late = || {
            SourceError::new(
                Kind::Unavailable,
                format!("no answer to Info within {timeout:?}"),
            )
        };
        let answer = tokio::time::timeout(timeout, client.info(request)).await;
        let info = answer.map_err(|_| late())?.map_err(|e| from_status(&e))?;
        let about = Arc::new(About::from(info.into_inner()));
        *self.about.write() = Some(Arc::clone(&about));
        Ok(about)
    }

    /// What it said when it was asked last.
    pub fn about(&self) -> Option<Arc<About>> {
        self.about.read().clone()
    }

    /// The connection, for its other services.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

impl Source for Remote {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        scope.check()?;
        Ok(Box::new(RemoteView {
            client: StoreClient::new(self.channel.clone())
                .max_decoding_message_size(wire::grpc::MAX_MESSAGE)
                .max_encoding_message_size(wire::grpc::MAX_MESSAGE),
            capabilities: self.extent().capabilities,
            response_timeout: self.response_timeout,
            scope,
            runtime: self.runtime.clone(),
        }))
    }

    fn extent(&self) -> Arc<Extent> {
        let about = self.about.read();
        about
            .as_ref()
            .and_then(|a| a.store.clone())
            .unwrap_or_default()
    }
}

struct RemoteView {
    client: StoreClient<Channel>,
    capabilities: Capabilities,
    response_timeout: Option<Duration>,
    scope: Arc<Scope>,
    runtime: Handle,
}

pub(crate) fn strategy(scope: &Scope) -> (bool, i32) {
    match scope.partial_response {
        PartialResponse::Warn => (false, pb::PartialResponseStrategy::Warn as i32),
        PartialResponse::Abort => (true, pb::PartialResponseStrategy::Abort as i32),
    }
}

/// A request with what belongs to the query: its tenant, and the time that is left.
pub(crate) fn with_scope<T>(scope: &Scope, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(left) = scope.remaining() {
        request.set_timeout(left);
    }
    if let Some(tenant) = &scope.tenant
        && let Ok(value) = tenant.parse()
    {
        request.metadata_mut().insert(TENANT, value);
    }
    request
}

/// Waits for something that is no call, but not longer than the query may take.
pub(crate) async fn until<T>(
    scope: &Scope,
    answer: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    let never = Duration::from_secs(86_400 * 365);
    let left = scope.remaining().unwrap_or(never).min(never);
    tokio::select! {
        () = scope.cancel.cancelled() => Err(model::Stopped::Cancelled.into()),
        answer = tokio::time::timeout(left, answer) => {
            answer.unwrap_or_else(|_| Err(model::Stopped::Deadline.into()))
        }
    }
}

/// Waits for an answer, but not longer than the query may take.
pub(crate) async fn within<T>(
    scope: &Scope,
    most: Option<Duration>,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, SourceError> {
    // Where a part may be missing, a store is left behind a little before the query's end, so that the
    // answer of the others is still one in time.
    let left = scope.remaining().map(|left| match scope.partial_response {
        PartialResponse::Warn => left - (left / 10).min(Duration::from_secs(1)),
        PartialResponse::Abort => left,
    });
    let limit = [left, most]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(Duration::MAX);
    // Far enough away to be never.
    let limit = limit.min(Duration::from_secs(86_400 * 365));
    tokio::select! {
        () = scope.cancel.cancelled() => Err(model::Stopped::Cancelled.into()),
        answer = tokio::time::timeout(limit, answer) => match answer {
            Ok(answer) => answer.map_err(|e| {
                // Our own deadline travelled with the request, so that both end at once.
                match scope.check() {
                    Err(stopped) => stopped.into(),
                    Ok(()) => from_status(&e),
                }
            }),
            Err(_) if left == Some(limit) => Err(match scope.partial_response {
                PartialResponse::Abort => model::Stopped::Deadline.into(),
                PartialResponse::Warn => {
                    let message = "failed to receive any data before the query's time was nearly over";
                    SourceError::new(Kind::Unavailable, message)
                }
            }),
            Err(_) => {
                let message = format!("failed to receive any data in {limit:?}; see --store.response-timeout");
                Err(SourceError::new(Kind::Unavailable, message))
            }
        },
    }
}

fn request(scope: &Scope, select: &Select) -> pb::SeriesRequest {
    let (disabled, strategy) = strategy(scope);
    let hints = &select.hints;
    let without = match &select.order {
        Order::Any => &[][..],
        Order::ByLabels { without } => without,
    };
    pb::SeriesRequest {
        min_time: select.range.min,
        max_time: select.range.max,
        matchers: convert::to_matchers(&select.matchers),
        max_resolution_window: select.max_resolution,
        aggregates: convert::to_aggregates(select.aggregates),
        partial_response_disabled: disabled,
        partial_response_strategy: strategy,
        skip_chunks: select.skip_chunks,
        hints: None,
        step: hints.step,
        range: hints.range,
        query_hints: Some(pb::QueryHints {
            step_millis: hints.step,
            func: hints.func.as_ref().map(|name| pb::Func {
                name: name.to_string(),
            }),
            grouping: hints.grouping.as_ref().map(|(by, labels)| pb::Grouping {
                by: *by,
                labels: labels.iter().map(|l| l.to_string()).collect(),
            }),
            range: (hints.range > 0).then_some(pb::Range {
                millis: hints.range,
            }),
            ..Default::default()
        }),
        shard_info: hints.shard.as_ref().map(convert::to_shard),
        without_replica_labels: without.iter().map(|l| l.to_string()).collect(),
        limit: i64::try_from(hints.limit).unwrap_or(0),
        response_batch_size: 64,
    }
}

impl RemoteView {
    /// What the store obeys, it is asked for.
    fn series(&self, select: Select) -> Rows {
        let without = matches!(&select.order, Order::ByLabels { without } if !without.is_empty());
        let message = request(&self.scope, &select);
        let mut client = self.client.clone();
        let (scope, most) = (Arc::clone(&self.scope), self.response_timeout);
        stream_of(&self.runtime, move |send| async move {
            let call = client.series(with_scope(&scope, message));
            let answer = within(&scope, most, call).await?;
            receive::run(answer.into_inner(), &scope, most, without, &send).await
        })
    }

    fn ask<T, F>(&self, limit: usize, call: F) -> Names
    where
        T: Into<(Vec<String>, Vec<String>)> + Send + 'static,
        F: Future<Output = Result<T, Status>> + Send + 'static,
    {
        let (scope, runtime) = (Arc::clone(&self.scope), self.runtime.clone());
        Box::pin(async move {
            let task = async move { within(&scope, Some(UNARY), call).await };
            let task = runtime.spawn(task.in_current_span());
            let _ends = crate::Guard(task.abort_handle());
            let answer = task
                .await
                .map_err(|e| SourceError::new(Kind::Internal, e.to_string()))?;
            let (mut names, warnings) = answer?.into();
            if !names.is_sorted_by(|a, b| a < b) {
                names.sort_unstable();
                names.dedup();
            }
            if limit > 0 {
                names.truncate(limit);
            }
            Ok(Answer {
                value: convert::strs(&names),
                warnings: convert::strs(&warnings),
            })
        })
    }
}

type Names = BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>>;

/// Names or values, and warnings.
struct Listed(Vec<String>, Vec<String>);

impl From<Listed> for (Vec<String>, Vec<String>) {
    fn from(l: Listed) -> Self {
        (l.0, l.1)
    }
}

impl View for RemoteView {
    fn select(&self, mut select: Select) -> Rows {
        // Answers always come with all labels and in their order.
        select.hints.projection = Projection::All;
        if select.order == Order::Any {
            select.order = Order::ByLabels {
                without: Vec::new(),
            };
        }
        let removes = matches!(&select.order, Order::ByLabels { without } if !without.is_empty());
        let cannot = (removes && !self.capabilities.without_labels)
            || (select.hints.shard.is_some() && !self.capabilities.sharding);
        if !cannot {
            return self.series(select);
        }
        let (mut asked, change) = Change::split(select, Labels::default());
        asked.order = Order::ByLabels {
            without: Vec::new(),
        };
        arrange(self.series(asked), change, &self.scope, &self.runtime)
    }

    fn label_names(&self, select: LabelSelect) -> Names {
        let (disabled, strategy) = strategy(&self.scope);
        let message = pb::LabelNamesRequest {
            partial_response_disabled: disabled,
            partial_response_strategy: strategy,
            start: select.range.min,
            end: select.range.max,
            matchers: matchers(&select.matchers),
            limit: i64::try_from(select.limit).unwrap_or(0),
            ..Default::default()
        };
        let request = with_scope(&self.scope, message);
        let mut client = self.client.clone();
        self.ask(select.limit, async move {
            let answer = client.label_names(request).await?.into_inner();
            Ok(Listed(answer.names, answer.warnings))
        })
    }

    fn label_values(&self, name: Str, select: LabelSelect) -> Names {
        let (disabled, strategy) = strategy(&self.scope);
        let message = pb::LabelValuesRequest {
            label: name.to_string(),
            partial_response_disabled: disabled,
            partial_response_strategy: strategy,
            start: select.range.min,
            end: select.range.max,
            matchers: matchers(&select.matchers),
            limit: i64::try_from(select.limit).unwrap_or(0),
            ..Default::default()
        };
        let request = with_scope(&self.scope, message);
        let mut client = self.client.clone();
        self.ask(select.limit, async move {
            let answer = client.label_values(request).await?.into_inner();
            Ok(Listed(answer.values, answer.warnings))
        })
    }
}

fn matchers(list: &[Matcher]) -> Vec<pb::LabelMatcher> {
    convert::to_matchers(list)
}
