//! Thanos' Query service: finished results of expressions, for queriers over queriers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use model::scope::{CancelOnDrop, Gather, PartialResponse};
use model::{BoxStream, Cancel, Millis, Str};
use promql::profile::{Profile, Profiling};
use promql::value::QueryOptions;
use promql::{Evaluator, InstantQuery, QueryError, QueryResult, RangeQuery};
use wire::convert;
use wire::grpc::{
    Code, MAX_MESSAGE, MetadataMap, Request, Response, Status, tenant_of, timeout_of,
};
use wire::proto::prometheus::TimeSeries;
use wire::proto::thanos as pb;
use wire::proto::thanos::query_server::{Query, QueryServer};

pub(crate) mod series;

/// What the Query service obeys.
#[derive(Clone)]
pub struct QueryApi {
    /// Answers expressions.
    pub evaluator: Arc<dyn Evaluator>,
    /// The resolution of calls that name none, ms.
    pub max_resolution: Millis,
    /// The lookback, ms, if it is wider over coarse samples.
    pub dynamic_lookback: Option<Millis>,
    /// The tenant of calls that name none.
    pub default_tenant: String,
}

impl QueryApi {
    /// The service.
    pub fn service(self) -> QueryServer<impl Query> {
        QueryServer::new(self)
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    fn options(&self, asked: Asked<'_>, metadata: &MetadataMap) -> Result<QueryOptions, Status> {
        if asked.query.is_empty() {
            let why = "no query was given; a plan without the text of its query is not read";
            return Err(Status::new(Code::InvalidArgument, why));
        }
        let invalid = |e: convert::ConvertError| Status::new(Code::InvalidArgument, e.to_string());
        let stores = asked
            .stores
            .iter()
            .map(|list| convert::matchers(&list.label_matchers))
            .collect::<Result<Vec<_>, _>>()
            .map_err(invalid)?;
        let named = convert::strs(asked.replica_labels);
        let replica_labels = match (asked.dedup, named.is_empty()) {
            (false, _) => Some(Arc::from([])),
            (true, true) => None,
            (true, false) => Some(Arc::from(named)),
        };
        let seconds = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
        let timeout = [
            seconds(asked.timeout).map(Duration::from_secs),
            timeout_of(metadata),
        ];
        let max_resolution = match asked.max_resolution {
            0 => self.max_resolution,
            seconds => ms(seconds).unwrap_or(0).max(0),
        };
        let lookback = ms(asked.lookback).filter(|ms| *ms > 0);
        let wider = || crate::v1::lookback_at(self.dynamic_lookback, max_resolution);
        let tenant = tenant_of(metadata).unwrap_or(&self.default_tenant);
        Ok(QueryOptions {
            lookback: lookback.or_else(wider),
            timeout: timeout.into_iter().flatten().min(),
            profiling: Profiling::Statistics,
            tenant: Some(Str::from(tenant)),
            partial_response: match asked.partial {
                true => PartialResponse::Warn,
                false => PartialResponse::Abort,
            },
            gather: Gather {
                replica_labels,
                stores,
                max_resolution,
                shard: convert::shard(asked.shard),
            },
            ..QueryOptions::default()
        })
    }
}

/// What both calls have in common.
struct Asked<'a> {
    query: &'a str,
    timeout: i64,
    max_resolution: i64,
    lookback: i64,
    replica_labels: &'a [String],
    stores: &'a [pb::StoreMatchers],
    dedup: bool,
    partial: bool,
    shard: &'a Option<pb::ShardInfo>,
}

/// What comes back of either call, for whoever asks.
pub(crate) trait Answered {
    /// What it says; none if it is of a form that is not known.
    fn message(self) -> Option<Message>;
}

/// Both calls have the same fields, and their answers the same forms.
macro_rules! twins {
    ($($request:ident, $response:ident, $forms:ident;)*) => {$(
        impl<'a> From<&'a pb::$request> for Asked<'a> {
            fn from(asked: &'a pb::$request) -> Self {
                Self {
                    query: &asked.query,
                    timeout: asked.timeout_seconds,
                    max_resolution: asked.max_resolution_seconds,
                    lookback: asked.lookback_delta_seconds,
                    replica_labels: &asked.replica_labels,
                    stores: &asked.store_matchers,
                    dedup: asked.enable_dedup,
                    partial: asked.enable_partial_response,
                    shard: &asked.shard_info,
                }
            }
        }

        impl From<Message> for pb::$response {
            fn from(message: Message) -> Self {
                use pb::$forms::Result as To;
                let result = Some(match message {
                    Message::Warning(text) => To::Warnings(text),
                    Message::One(series) => To::Timeseries(series),
                    Message::Batch(series) => To::TimeseriesBatch(pb::TimeSeriesBatch { series }),
                    Message::Statistics(stats) => To::Stats(stats),
                });
                Self { result }
            }
        }

        impl Answered for pb::$response {
            fn message(self) -> Option<Message> {
                use pb::$forms::Result as To;
                Some(match self.result? {
                    To::Warnings(text) => Message::Warning(text),
                    To::Timeseries(series) => Message::One(series),
                    To::TimeseriesBatch(batch) => Message::Batch(batch.series),
                    To::Stats(stats) => Message::Statistics(stats),
                })
            }
        }
    )*};
}

twins! {
    QueryRequest, QueryResponse, query_response;
    QueryRangeRequest, QueryRangeResponse, query_range_response;
}

fn ms(seconds: i64) -> Option<Millis> {
    seconds.checked_mul(1000)
}

fn failed(e: &QueryError) -> Status {
    let code = match e {
        QueryError::BadData(_) => Code::InvalidArgument,
        QueryError::Timeout(_) => Code::DeadlineExceeded,
        QueryError::Canceled(_) => Code::Cancelled,
        _ => Code::Aborted,
    };
    Status::new(code, e.to_string())
}

fn out_of_range(what: &str) -> Status {
    Status::new(Code::InvalidArgument, format!("{what} is out of range"))
}

/// The forms that a message of an answer takes.
pub(crate) enum Message {
    Warning(String),
    One(TimeSeries),
    Batch(Vec<TimeSeries>),
    Statistics(pb::QueryStats),
}

fn statistics(profile: &Option<Arc<Profile>>) -> pb::QueryStats {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let profile = profile.as_deref();
    pb::QueryStats {
        samples_total: profile.map_or(0, |p| count(p.samples.queryable.iter().sum())),
        peak_samples: profile.map_or(0, |p| count(p.peak_samples)),
    }
}

/// An answer message by message. Messages are made as they are sent; the query's memory is held
/// until the last one is.
fn messages(
    result: QueryResult,
    batch: i64,
    cancel: CancelOnDrop,
) -> impl Iterator<Item = Message> {
    let QueryResult {
        value,
        warnings,
        scope,
        profile,
        ..
    } = result;
    let mut all = series::series(value);
    let most = usize::try_from(batch).unwrap_or(1).min(10_000);
    let series = std::iter::from_fn(move || {
        // Held as long as there is something to send.
        let (_scope, _cancel) = (&scope, &cancel);
        if most <= 1 {
            return all.next().map(Message::One);
        }
        let some: Vec<TimeSeries> = all.by_ref().take(most).collect();
        (!some.is_empty()).then_some(Message::Batch(some))
    });
    let warnings: Vec<Message> = warnings
        .iter()
        .map(|w| Message::Warning(w.to_string()))
        .collect();
    let last = Message::Statistics(statistics(&profile));
    warnings.into_iter().chain(series).chain([last])
}

type Stream<T> = BoxStream<'static, Result<T, Status>>;

#[wire::grpc::async_trait]
impl Query for QueryApi {
    type QueryStream = Stream<pb::QueryResponse>;
    type QueryRangeStream = Stream<pb::QueryRangeResponse>;

    async fn query(
        &self,
        request: Request<pb::QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        let asked = request.get_ref();
        let mut options = self.options(asked.into(), request.metadata())?;
        let cancel = Cancel::default();
        let guard = cancel.on_drop();
        options.cancel = cancel;
        let query = InstantQuery {
            expr: asked.query.as_str().into(),
            ts: ms(asked.time_seconds).ok_or_else(|| out_of_range("time_seconds"))?,
            options,
        };
        let result = self.evaluator.instant(query).await;
        let result = result.map_err(|e| failed(&e))?;
        let all = messages(result, asked.response_batch_size, guard).map(|m| Ok(m.into()));
        Ok(Response::new(Box::pin(stream::iter(all))))
    }

    async fn query_range(
        &self,
        request: Request<pb::QueryRangeRequest>,
    ) -> Result<Response<Self::QueryRangeStream>, Status> {
        let asked = request.get_ref();
        let mut options = self.options(asked.into(), request.metadata())?;
        let cancel = Cancel::default();
        let guard = cancel.on_drop();
        options.cancel = cancel;
        let time = |seconds, what: &str| ms(seconds).ok_or_else(|| out_of_range(what));
        let (start, end) = (
            time(asked.start_time_seconds, "start_time_seconds")?,
            time(asked.end_time_seconds, "end_time_seconds")?,
        );
        // A query of one moment may come as a range without a step.
        let step = match time(asked.interval_seconds, "interval_seconds")? {
            0 if start == end => 1000,
            step => step,
        };
        let query = RangeQuery {
            expr: asked.query.as_str().into(),
            start,
            end,
            step,
            options,
        };
        let result = self.evaluator.range(query).await;
        let result = result.map_err(|e| failed(&e))?;
        let all = messages(result, asked.response_batch_size, guard).map(|m| Ok(m.into()));
        Ok(Response::new(Box::pin(stream::iter(all))))
    }
}
