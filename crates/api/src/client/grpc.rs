//! Asking queriers over Thanos' Query service. It counts times in seconds: an expression is
//! evaluated at the last full second, and whatever comes has the time that was asked for. Native
//! histograms come whole.

use std::collections::BTreeMap;

use model::scope::PartialResponse;
use model::{BoxFuture, Millis};
use parking_lot::Mutex;
use promql::value::QueryOptions;
use promql::{Evaluator, InstantQuery, QueryError, QueryResult, RangeQuery, Value};
use wire::grpc::{
    Channel, ChannelSettings, Code, MAX_MESSAGE, Request, Response, Status, Streaming, TENANT,
};
use wire::proto::prometheus::TimeSeries;
use wire::proto::thanos as pb;
use wire::proto::thanos::query_client::QueryClient;

use super::Addresses;
use crate::grpc::series::{to_instant, to_range};
use crate::grpc::{Answered, Message};

/// Series in a message.
const BATCH: i64 = 64;

/// An answer may have this many series.
const MOST_SERIES: usize = 5_000_000;

/// Queriers that are asked over gRPC, at `host:port`.
pub struct GrpcQueriers {
    addresses: Addresses,
    settings: ChannelSettings,
    channels: Mutex<BTreeMap<String, Channel>>,
}

impl GrpcQueriers {
    /// Those at `addresses`, as they are known at each question.
    pub fn new(addresses: Addresses, settings: ChannelSettings) -> Self {
        Self {
            addresses,
            settings,
            channels: Mutex::default(),
        }
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        (self.addresses)()
    }

    /// The connection to an address; those to addresses that are gone are given up.
    fn channel(&self, address: &str) -> Result<Channel, QueryError> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let known = self.addresses();
        channels.retain(|address, _| known.contains(address));
        let channel = Channel::new(address, &self.settings).map_err(|e| away(&e))?;
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// The querier at an address.
    pub(super) fn querier(&self, address: &str) -> Result<GrpcQuerier, QueryError> {
        self.channel(address).map(GrpcQuerier)
    }
}

/// The querier at the other end of a connection.
#[derive(Clone)]
pub struct GrpcQuerier(pub Channel);

impl Evaluator for GrpcQuerier {
    fn instant(&self, query: InstantQuery) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        let querier = self.clone();
        Box::pin(async move { querier.ask_instant(&query).await })
    }

    fn range(&self, query: RangeQuery) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        let querier = self.clone();
        Box::pin(async move { querier.ask_range(&query).await })
    }
}

impl GrpcQuerier {
    fn client(&self) -> QueryClient<Channel> {
        QueryClient::new(self.0.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) async fn ask_instant(
        &self,
        query: &InstantQuery,
    ) -> Result<QueryResult, QueryError> {
        let options = &query.options;
        let request = with_timeout(
            options,
            pb::QueryRequest {
                query: query.expr.to_string(),
                time_seconds: query.ts.div_euclid(1000),
                timeout_seconds: timeout(options),
                enable_dedup: is_deduplicated(options),
                replica_labels: replica_labels(options),
                max_resolution_seconds: options.gather.max_resolution.div_euclid(1000),
                enable_partial_response: is_partial(options),
                lookback_delta_seconds: options.lookback.map_or(0, up),
                response_batch_size: BATCH,
                ..Default::default()
            },
        );
        let mut client = self.client();
        let (series, warnings) = drain(client.query(request).await).await?;
        let mut samples = Vec::with_capacity(series.len());
        for series in series {
            samples.extend(to_instant(series, query.ts).map_err(wrong)?);
        }
        Ok(result(Value::Vector(samples), warnings))
    }

    pub(super) async fn ask_range(&self, query: &RangeQuery) -> Result<QueryResult, QueryError> {
        let options = &query.options;
        let request = with_timeout(
            options,
            pb::QueryRangeRequest {
                query: query.expr.to_string(),
                start_time_seconds: query.start.div_euclid(1000),
                end_time_seconds: query.end.div_euclid(1000),
                interval_seconds: up(query.step),
                timeout_seconds: timeout(options),
                enable_dedup: is_deduplicated(options),
                replica_labels: replica_labels(options),
                max_resolution_seconds: options.gather.max_resolution.div_euclid(1000),
                enable_partial_response: is_partial(options),
                lookback_delta_seconds: options.lookback.map_or(0, up),
                response_batch_size: BATCH,
                ..Default::default()
            },
        );
        let mut client = self.client();
        let (series, warnings) = drain(client.query_range(request).await).await?;
        let matrix = series.into_iter().map(to_range);
        let matrix = matrix.collect::<Result<_, _>>().map_err(wrong)?;
        Ok(result(Value::Matrix(matrix), warnings))
    }
}

fn result(value: Value, warnings: Vec<String>) -> QueryResult {
    QueryResult {
        value,
        warnings: warnings.into_iter().map(Into::into).collect(),
        infos: Vec::new(),
        scope: None,
        profile: None,
    }
}

/// Takes in a whole answer.
async fn drain<M: Answered>(
    answer: Result<Response<Streaming<M>>, Status>,
) -> Result<(Vec<TimeSeries>, Vec<String>), QueryError> {
    let mut stream = answer.map_err(|e| failed(&e))?.into_inner();
    let (mut all, mut warnings) = (Vec::new(), Vec::new());
    while let Some(message) = stream.message().await.map_err(|e| failed(&e))? {
        match message.message() {
            Some(Message::One(series)) => all.push(series),
            Some(Message::Batch(series)) => all.extend(series),
            Some(Message::Warning(text)) => warnings.push(text),
            Some(Message::Statistics(_)) | None => {}
        }
        if all.len() > MOST_SERIES {
            let text = format!("a querier answered more than {MOST_SERIES} series");
            return Err(QueryError::Execution(text));
        }
    }
    Ok((all, warnings))
}

/// An empty list of labels means that replicas stay apart; over there it would be their own list.
fn is_deduplicated(options: &QueryOptions) -> bool {
    let labels = options.gather.replica_labels.as_deref();
    labels.is_none_or(|labels| !labels.is_empty())
}

fn replica_labels(options: &QueryOptions) -> Vec<String> {
    let labels = options.gather.replica_labels.as_deref();
    labels
        .unwrap_or_default()
        .iter()
        .map(|l| l.to_string())
        .collect()
}

fn is_partial(options: &QueryOptions) -> bool {
    options.partial_response == PartialResponse::Warn
}

/// Milliseconds in seconds, not less.
fn up(ms: Millis) -> i64 {
    ms.div_euclid(1000) + i64::from(ms.rem_euclid(1000) > 0)
}

fn timeout(options: &QueryOptions) -> i64 {
    let seconds = options.timeout.map_or(0, |t| t.as_secs().max(1));
    i64::try_from(seconds).unwrap_or(0)
}

fn with_timeout<T>(options: &QueryOptions, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(tenant) = &options.tenant
        && let Ok(tenant) = tenant.parse()
    {
        request.metadata_mut().insert(TENANT, tenant);
    }
    if let Some(timeout) = options.timeout {
        request.set_timeout(timeout);
    }
    request
}

fn away(e: &dyn std::fmt::Display) -> QueryError {
    QueryError::Unavailable(format!("no query API server reachable: {e}"))
}

fn wrong(e: String) -> QueryError {
    QueryError::Internal(format!("a querier answered a histogram that is none: {e}"))
}

fn failed(status: &Status) -> QueryError {
    let text = status.message().to_owned();
    match status.code() {
        Code::InvalidArgument => QueryError::BadData(text),
        Code::DeadlineExceeded => QueryError::Timeout("query over gRPC"),
        Code::Cancelled => QueryError::Canceled("query over gRPC"),
        Code::Aborted | Code::ResourceExhausted => QueryError::Execution(text),
        _ => away(&text),
    }
}
