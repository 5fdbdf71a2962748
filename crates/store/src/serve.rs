//! StoreAPI over any source.

use std::sync::Arc;
use std::time::Instant;

use metrics::{Counter, Gauge, Histogram, Registry};
use model::report::Reports;
use model::scope::{Gather, PartialResponse};
use model::source::Aggregate;
use model::{
    Budget, Extent, Hints, Kind, LabelSelect, Labels, Matcher, Order, Rows, Scope, Select, Source,
    SourceError, Str, TimeRange, View,
};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tracing::Instrument as _;
use wire::convert;
use wire::grpc::{
    Code, MetadataMap, Request, Response, Routes, Status, tenant_of, timeout_of, to_status,
};
use wire::proto::thanos as pb;
use wire::proto::thanos::exemplars_server::ExemplarsServer;
use wire::proto::thanos::info::info_server::{Info, InfoServer};
use wire::proto::thanos::info::{self, InfoRequest, InfoResponse};
use wire::proto::thanos::metadata_server::MetadataServer;
use wire::proto::thanos::rules_server::RulesServer;
use wire::proto::thanos::status_server::StatusServer;
use wire::proto::thanos::store_server::{Store, StoreServer};
use wire::proto::thanos::targets_server::TargetsServer;
use wire::series::{Encoder, Frame, warning};

use crate::merge::Input as _;
use crate::proxy::RowsInput;
use crate::reports::Sister;

/// A chunk counts as so many samples, as in Thanos.
const CHUNK_SAMPLES: u64 = 120;

/// What a server of StoreAPI obeys.
#[derive(Clone)]
pub struct ServeOptions {
    /// `sidecar`, `store`, `query`, `rule` or `receive`.
    pub component: String,
    /// Most series of one request; 0: any number (`--store.limits.request-series`).
    pub series_limit: u64,
    /// Most samples of one request; 0: any number (`--store.limits.request-samples`).
    pub sample_limit: u64,
    /// How many `Series` requests run at once; others wait (`--store.grpc.series-max-concurrency`).
    pub concurrency: usize,
    /// The memory of all requests together.
    pub memory: Arc<Budget>,
    /// The memory of one, bytes.
    pub request_memory: u64,
    /// Whether the process can answer.
    pub ready: Arc<dyn Fn() -> bool + Send + Sync>,
    /// What the services beside it are served from: rules, targets, metadata, exemplars, status.
    pub reports: Option<Arc<dyn Reports>>,
    /// Whether StoreAPI itself is served; the other services are in any case.
    pub store: bool,
    /// Whether the Query service is served beside it.
    pub query: bool,
    /// The oldest time that it answers for, ms (`--min-time`).
    pub range: Arc<dyn Fn() -> TimeRange + Send + Sync>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            component: "store".to_owned(),
            series_limit: 0,
            sample_limit: 0,
            concurrency: 20,
            memory: Budget::unlimited(),
            request_memory: u64::MAX,
            ready: Arc::new(|| true),
            reports: None,
            store: true,
            query: false,
            range: Arc::new(|| TimeRange::ALL),
        }
    }
}

/// The services of a store: give them to [`wire::grpc::Server::serve`].
pub struct Serve {
    inner: Arc<Inner>,
}

struct Inner {
    source: Arc<dyn Source>,
    options: ServeOptions,
    gate: Arc<Semaphore>,
    runtime: Handle,
    meters: Meters,
}

struct Meters {
    series: Histogram,
    chunk_bytes: Histogram,
    /// Under the name of today and under the one that dashboards still read.
    gate: [Histogram; 2],
    running: Gauge,
    turns: Counter,
    pending: Gauge,
    requested: [Histogram; 2],
    limited: Counter,
}

impl Serve {
    /// StoreAPI over `source`.
    pub fn new(
        source: Arc<dyn Source>,
        options: ServeOptions,
        runtime: Handle,
        registry: &Registry,
    ) -> Result<Self, metrics::Error> {
        let gate = |name: &str| {
            registry.histogram(
                name,
                "How many seconds it took for queries to wait at the gate.",
                &[0.01, 0.05, 0.1, 0.25, 0.6, 1.0, 2.0, 3.5, 5.0, 10.0],
            )
        };
        let meters = Meters {
            series: registry.histogram(
                "thanos_bucket_store_series_result_series",
                "Number of series observed in the final result of a query.",
                &metrics::exponential_buckets(1.0, 3.0, 15),
            )?,
            chunk_bytes: registry.histogram(
                "thanos_bucket_store_sent_chunk_size_bytes",
                "Size in bytes of the chunks for the single series, which is adequate to the gRPC message size sent to querier.",
                &[32.0, 256.0, 512.0, 1024.0, 32_768.0, 262_144.0, 524_288.0, 1_048_576.0, 33_554_432.0, 268_435_456.0, 536_870_912.0],
            )?,
            gate: [
                gate("thanos_bucket_store_series_gate_queries_duration_seconds")?,
                gate("thanos_bucket_store_series_gate_duration_seconds")?,
            ],
            running: registry.gauge(
                "thanos_bucket_store_series_gate_queries_in_flight",
                "Number of queries that are currently in flight.",
            )?,
            turns: registry.counter(
                "thanos_bucket_store_series_gate_queries_total",
                "Total number of queries.",
            )?,
            pending: registry.gauge(
                "thanos_store_server_pending_series_requests",
                "Number of pending series requests",
            )?,
            requested: [
                registry.histogram(
                    "thanos_store_server_series_requested",
                    "Number of requested series for Series calls",
                    &metrics::exponential_buckets(1.0, 10.0, 7),
                )?,
                registry.histogram(
                    "thanos_store_server_chunks_requested",
                    "Number of requested chunks for Series calls",
                    &[1.0, 100.0, 1e3, 1e4, 1e5, 1e7, 1e8, 1e9],
                )?,
            ],
            limited: registry.counter(
                "thanos_bucket_store_queries_dropped_total",
                "Number of queries that were dropped due to the limit.",
            )?,
        };
        let most = registry.gauge(
            "thanos_bucket_store_series_gate_queries_max",
            "Maximum number of concurrent queries.",
        )?;
        most.set(i64::try_from(options.concurrency).unwrap_or(i64::MAX));
        Ok(Self {
            inner: Arc::new(Inner {
                gate: Arc::new(Semaphore::new(
                    options.concurrency.clamp(1, Semaphore::MAX_PERMITS),
                )),
                source,
                options,
                runtime,
                meters,
            }),
        })
    }

    /// The Store service.
    pub fn store(&self) -> StoreServer<impl Store> {
        StoreServer::new(Server(Arc::clone(&self.inner)))
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(wire::grpc::MAX_MESSAGE)
    }

    /// Store, Info, and the services of the reports.
    pub fn routes(&self) -> Routes {
        let mut routes = Routes::new(self.info());
        let options = &self.inner.options;
        if options.store {
            routes = routes.add_service(self.store());
        }
        let Some(reports) = &options.reports else {
            return routes;
        };
        let sister = Sister {
            reports: Arc::clone(reports),
            memory: Arc::clone(&options.memory),
        };
        let most = wire::grpc::MAX_MESSAGE;
        let served = reports.served();
        if served.rules {
            let rules = RulesServer::new(sister.clone()).max_encoding_message_size(most);
            routes = routes.add_service(rules);
        }
        if served.targets {
            let targets = TargetsServer::new(sister.clone()).max_encoding_message_size(most);
            routes = routes.add_service(targets);
        }
        if served.metadata {
            let metadata = MetadataServer::new(sister.clone()).max_encoding_message_size(most);
            routes = routes.add_service(metadata);
        }
        if served.exemplars {
            let exemplars = ExemplarsServer::new(sister.clone()).max_encoding_message_size(most);
            routes = routes.add_service(exemplars);
        }
        if served.statistics {
            let status = StatusServer::new(sister).max_encoding_message_size(most);
            routes = routes.add_service(status);
        }
        routes
    }

    /// The Info service.
    pub fn info(&self) -> InfoServer<impl Info> {
        InfoServer::new(Server(Arc::clone(&self.inner)))
    }
}

#[derive(Clone)]
struct Server(Arc<Inner>);

impl Inner {
    fn view(&self, scope: &Arc<Scope>) -> Result<Box<dyn View>, Status> {
        let view = self.source.open(Arc::clone(scope));
        view.map_err(|e| failed(scope, &e))
    }

    fn scope(
        &self,
        metadata: &MetadataMap,
        range: TimeRange,
        disabled: bool,
        strategy: i32,
    ) -> Arc<Scope> {
        let memory = self
            .options
            .memory
            .child("one request", self.options.request_memory);
        let mut scope = Scope::new(range, memory);
        scope.tenant = tenant_of(metadata).map(Str::from);
        scope.deadline = timeout_of(metadata).and_then(|t| Instant::now().checked_add(t));
        let abort = disabled || strategy == pb::PartialResponseStrategy::Abort as i32;
        if abort {
            scope.partial_response = PartialResponse::Abort;
        }
        // Replicas are for whoever asked to unite.
        scope.gather = Gather {
            replica_labels: Some(Arc::from([])),
            ..Gather::default()
        };
        Arc::new(scope)
    }

    fn extent(&self) -> Arc<Extent> {
        self.source.extent()
    }
}

fn failed(scope: &Scope, e: &SourceError) -> Status {
    let partial = matches!(
        e.kind,
        Kind::NotFound | Kind::Unavailable | Kind::Corrupt | Kind::Internal
    );
    match scope.partial_response {
        PartialResponse::Abort if partial => Status::new(Code::Aborted, e.message.clone()),
        _ => to_status(e),
    }
}

fn invalid(e: impl std::fmt::Display) -> Status {
    Status::new(Code::InvalidArgument, e.to_string())
}

/// Hints of another kind than that of the request are a mistake.
fn check_hints(hints: &Option<wire::proto::Any>, kind: &str) -> Result<(), Status> {
    match hints {
        Some(any) if !any.type_url.is_empty() && any.type_url.rsplit('/').next() != Some(kind) => {
            Err(invalid(format!(
                "unmarshal hints: mismatched message type: got {:?} want {kind:?}",
                any.type_url
            )))
        }
        _ => Ok(()),
    }
}

type Frames = ReceiverStream<Result<Frame, Status>>;

#[wire::grpc::async_trait]
impl Store for Server {
    type SeriesStream = Frames;

    async fn series(
        &self,
        request: Request<pb::SeriesRequest>,
    ) -> Result<Response<Frames>, Status> {
        let inner = Arc::clone(&self.0);
        let asked = request.get_ref();
        check_hints(&asked.hints, "hintspb.SeriesRequestHints")?;
        let select = select_of(asked)?;
        let per_frame = usize::try_from(asked.response_batch_size).unwrap_or(0);
        let scope = inner.scope(
            request.metadata(),
            select.range,
            asked.partial_response_disabled,
            asked.partial_response_strategy,
        );
        let view = inner.view(&scope)?;
        let (send, receive) = mpsc::channel(4);
        let guard = scope.cancel.on_drop();
        let runtime = inner.runtime.clone();
        let task = async move {
            let _guard = guard;
            let _pending = inner.meters.pending.in_flight();
            let started = Instant::now();
            let ended = tokio::select! {
                () = send.closed() => return,
                ended = run(&inner, view, select, &scope, per_frame, &send, started) => ended,
            };
            if let Err(e) = ended {
                if e.kind == Kind::Limit {
                    inner.meters.limited.inc();
                }
                let _ = send.send(Err(failed(&scope, &e))).await;
            }
        };
        runtime.spawn(task.in_current_span());
        Ok(Response::new(ReceiverStream::new(receive)))
    }

    async fn label_names(
        &self,
        request: Request<pb::LabelNamesRequest>,
    ) -> Result<Response<pb::LabelNamesResponse>, Status> {
        let asked = request.get_ref();
        check_hints(&asked.hints, "hintspb.LabelNamesRequestHints")?;
        let without = &asked.without_replica_labels;
        let limit = usize::try_from(asked.limit).unwrap_or(0);
        let select = LabelSelect {
            matchers: convert::matchers(&asked.matchers).map_err(invalid)?,
            range: TimeRange::new(asked.start, asked.end),
            limit: if without.is_empty() { limit } else { 0 },
        };
        let scope = self.0.scope(
            request.metadata(),
            select.range,
            asked.partial_response_disabled,
            asked.partial_response_strategy,
        );
        let _guard = scope.cancel.on_drop();
        let view = self.0.view(&scope)?;
        let answer = view
            .label_names(select)
            .await
            .map_err(|e| failed(&scope, &e))?;
        let mut names: Vec<String> = answer.value.iter().map(|n| n.to_string()).collect();
        names.retain(|n| !without.contains(n));
        if limit > 0 {
            names.truncate(limit);
        }
        Ok(Response::new(pb::LabelNamesResponse {
            names,
            warnings: answer.warnings.iter().map(|w| w.to_string()).collect(),
            hints: None,
        }))
    }

    async fn label_values(
        &self,
        request: Request<pb::LabelValuesRequest>,
    ) -> Result<Response<pb::LabelValuesResponse>, Status> {
        let asked = request.get_ref();
        check_hints(&asked.hints, "hintspb.LabelValuesRequestHints")?;
        if asked.label.is_empty() {
            return Err(invalid("label name parameter cannot be empty"));
        }
        if asked.without_replica_labels.contains(&asked.label) {
            return Ok(Response::new(pb::LabelValuesResponse::default()));
        }
        let select = LabelSelect {
            matchers: convert::matchers(&asked.matchers).map_err(invalid)?,
            range: TimeRange::new(asked.start, asked.end),
            limit: usize::try_from(asked.limit).unwrap_or(0),
        };
        let scope = self.0.scope(
            request.metadata(),
            select.range,
            asked.partial_response_disabled,
            asked.partial_response_strategy,
        );
        let _guard = scope.cancel.on_drop();
        let view = self.0.view(&scope)?;
        let name = asked.label.as_str().into();
        let answer = view
            .label_values(name, select)
            .await
            .map_err(|e| failed(&scope, &e))?;
        Ok(Response::new(pb::LabelValuesResponse {
            values: answer.value.iter().map(|v| v.to_string()).collect(),
            warnings: answer.warnings.iter().map(|w| w.to_string()).collect(),
            hints: None,
        }))
    }
}

fn select_of(asked: &pb::SeriesRequest) -> Result<Select, Status> {
    let matchers: Vec<Matcher> = convert::matchers(&asked.matchers).map_err(invalid)?;
    let hints = asked.query_hints.as_ref();
    let aggregates = convert::aggregates(&asked.aggregates);
    Ok(Select {
        range: TimeRange::new(asked.min_time, asked.max_time),
        order: Order::ByLabels {
            without: convert::strs(&asked.without_replica_labels),
        },
        hints: Hints {
            func: hints
                .and_then(|h| h.func.as_ref())
                .map(|f| f.name.as_str().into()),
            range: hints.and_then(|h| h.range.as_ref()).map_or(0, |r| r.millis),
            step: hints.map_or(0, |h| h.step_millis),
            grouping: hints
                .and_then(|h| h.grouping.as_ref())
                .map(|g| (g.by, convert::strs(&g.labels))),
            shard: convert::shard(&asked.shard_info),
            limit: usize::try_from(asked.limit).unwrap_or(0),
            ..Hints::default()
        },
        max_resolution: asked.max_resolution_window.max(0),
        aggregates: if aggregates == 0 {
            Aggregate::Raw as u8
        } else {
            aggregates
        },
        skip_chunks: asked.skip_chunks,
        ..Select::new(matchers, TimeRange::ALL)
    })
}

/// Asks, encodes and sends.
async fn run(
    inner: &Inner,
    view: Box<dyn View>,
    select: Select,
    scope: &Arc<Scope>,
    per_frame: usize,
    send: &mpsc::Sender<Result<Frame, Status>>,
    started: Instant,
) -> Result<(), SourceError> {
    let _turn = match scope.remaining() {
        Some(left) => match tokio::time::timeout(left, inner.gate.acquire()).await {
            Ok(turn) => turn,
            Err(_) => return Err(model::Stopped::Deadline.into()),
        },
        None => inner.gate.acquire().await,
    };
    let _running = inner.meters.running.in_flight();
    inner.meters.turns.inc();
    let waited = started.elapsed();
    inner
        .meters
        .gate
        .iter()
        .for_each(|g| g.observe_duration(waited));
    let rows: Rows = view.select(select);
    let mut input = RowsInput::new("".into(), rows, inner.runtime.clone());
    let mut encoder = Encoder::new(per_frame);
    let (mut series, mut chunks) = (0u64, 0u64);
    while let Some(keyed) = input.next().await? {
        scope.check()?;
        let batch = &keyed.batch;
        series += batch.len() as u64;
        chunks += batch.chunks.len() as u64;
        within(series, inner.options.series_limit, "series")?;
        within(
            chunks * CHUNK_SAMPLES,
            inner.options.sample_limit,
            "samples",
        )?;
        for text in &batch.warnings {
            let _ = send.send(Ok(warning(text))).await;
        }
        for i in 0..batch.len() {
            let bytes: u64 = batch.chunks_of(i).iter().map(|c| u64::from(c.len)).sum();
            inner.meters.chunk_bytes.observe(bytes as f64);
            encoder.series(batch, i, &scope.symbols);
            for frame in encoder.ready() {
                if send.send(Ok(frame)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    encoder.flush();
    for frame in encoder.ready() {
        let _ = send.send(Ok(frame)).await;
    }
    inner.meters.series.observe(series as f64);
    let [of_series, of_chunks] = &inner.meters.requested;
    of_series.observe(series as f64);
    of_chunks.observe(chunks as f64);
    Ok(())
}

fn within(count: u64, limit: u64, what: &str) -> Result<(), SourceError> {
    if limit > 0 && count > limit {
        let message = format!(
            "exceeded {what} limit: limit {limit} violated (got {count}); see --store.limits.request-{what}"
        );
        return Err(SourceError::new(Kind::Limit, message));
    }
    Ok(())
}

#[wire::grpc::async_trait]
impl Info for Server {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let options = &self.0.options;
        if !(options.ready)() {
            return Err(Status::new(Code::Unavailable, "not ready yet"));
        }
        let extent = self.0.extent();
        let clip = (options.range)();
        let mut all = TimeRange::EMPTY;
        let mut parts: Vec<(Labels, TimeRange)> = Vec::new();
        for (labels, range) in &extent.parts {
            let range = range.intersect(clip);
            if range.is_empty() {
                continue;
            }
            all = all.union(range);
            parts.push((labels.clone(), range));
        }
        if extent.parts.is_empty() {
            all = clip;
        }
        let mut sets: Vec<&Labels> = parts
            .iter()
            .map(|p| &p.0)
            .filter(|l| !l.is_empty())
            .collect();
        sets.sort();
        sets.dedup();
        let served = options.reports.as_ref().map(|r| r.served());
        let served = served.unwrap_or_default();
        Ok(Response::new(InfoResponse {
            label_sets: sets.into_iter().map(convert::to_label_set).collect(),
            component_type: options.component.clone(),
            store: options.store.then(|| info::StoreInfo {
                min_time: all.min,
                max_time: all.max,
                supports_sharding: extent.capabilities.sharding,
                supports_without_replica_labels: extent.capabilities.without_labels,
                tsdb_infos: parts
                    .iter()
                    .map(|(labels, range)| info::TsdbInfo {
                        labels: Some(convert::to_label_set(labels)),
                        min_time: range.min,
                        max_time: range.max,
                    })
                    .collect(),
                supports_projections: false,
            }),
            rules: served.rules.then(info::RulesInfo::default),
            metric_metadata: served.metadata.then(info::MetricMetadataInfo::default),
            targets: served.targets.then(info::TargetsInfo::default),
            exemplars: served.exemplars.then_some(info::ExemplarsInfo {
                min_time: all.min,
                max_time: all.max,
            }),
            query: options.query.then(info::QueryApiInfo::default),
            status: served.statistics.then(info::StatusInfo::default),
        }))
    }
}
