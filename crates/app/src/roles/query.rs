//! `epimetheus query`: PromQL over many stores, with Thanos' flags.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use api::ready::State;
use model::report::Reports;
use model::scope::PartialResponse;
use model::{Millis, Source, Str};
use promql::EngineOptions;
use promql::features::Features;
use store::{
    DedupOptions, Deduplicated, Endpoints, EndpointsOptions, FanOut, FanOutOptions, Serve,
    ServeOptions,
};
use tokio::runtime::Handle;

use model::time::span;
use wire::server::SubjectField;

use crate::house::meters;
use crate::kingpin::{Flag, FlagError, Typed};
use crate::outpost::{Outpost, Settings, content, listed};
use crate::{flags::thanos, limits, logging};

mod endpoints;
mod peers;

/// The flags of this role.
pub const FLAGS: &[&[Flag]] = &[
    thanos::QUERY,
    thanos::ENDPOINTS,
    thanos::HTTP,
    thanos::GRPC,
    thanos::REQUESTS,
    thanos::GLOBAL,
    thanos::LIMITS,
    thanos::WEB,
    limits::FLAGS,
    logging::FLAGS,
];

struct Query {
    sources: endpoints::Sources,
    endpoints: EndpointsOptions,
    dedup: DedupOptions,
    engine: EngineOptions,
    serve: ServeOptions,
    partial_response: PartialResponse,
    partial_reports: api::PartialReports,
    replica_labels: Vec<Str>,
    tenant_label: Option<Str>,
    auto_downsampling: bool,
    instant_resolution: Millis,
    dynamic_lookback: Option<Millis>,
    default_step: Millis,
    label_range: Millis,
    tenant_header: String,
    tenant_field: Option<SubjectField>,
    default_tenant: String,
    /// In distributed mode, how leaf queriers are told apart.
    distributed: Option<peers::Options>,
}

/// Runs the role.
pub fn run(typed: &Typed<'_>) -> Result<ExitCode> {
    logging::init(typed)?;
    let settings = Settings::from_flags(typed, "query")?;
    let chain = match typed.required("deduplication.func")? {
        "penalty" | "" => false,
        "chain" => true,
        other => {
            let message = format!("{other:?} is no function; use penalty or chain");
            return Err(typed.error("deduplication.func", message).into());
        }
    };
    let mut features = Features {
        x_functions: typed.switch("query.enable-x-functions"),
        ..Features::default()
    };
    for name in listed(typed, "enable-feature") {
        if !features.enable(&name) {
            tracing::warn!(feature = %name, "Unknown option for --enable-feature");
        }
    }
    let replica_labels: Vec<Str> = listed(typed, "query.replica-label")
        .into_iter()
        .map(Into::into)
        .collect();
    let tenant_label: Option<Str> = match typed.switch("query.enforce-tenancy") {
        true => Some(typed.required("query.tenant-label-name")?.into()),
        false => None,
    };
    let distributed = match typed.required("query.mode")? {
        "local" => None,
        "distributed" => Some(peers::Options::from_flags(typed, &replica_labels)?),
        other => {
            let message = format!("{other:?} is no mode; use local or distributed");
            return Err(typed.error("query.mode", message).into());
        }
    };
    let subquery_step = typed.duration("query.default-evaluation-interval")?;
    let query = Query {
        sources: endpoints::Sources::from_flags(typed)?,
        endpoints: EndpointsOptions {
            info_timeout: span(typed.duration("endpoint.info-timeout")?),
            unhealthy_timeout: span(typed.duration("store.unhealthy-timeout")?),
            dns_interval: span(typed.duration("store.sd-dns-interval")?),
            response_timeout: typed.optional_duration("store.response-timeout")?.map(span),
            selector: selector(typed)?,
            ..EndpointsOptions::default()
        },
        dedup: DedupOptions {
            replica_labels: replica_labels.clone(),
            chain,
            tenant_label: tenant_label.clone(),
        },
        replica_labels,
        tenant_label,
        partial_reports: api::PartialReports {
            rules: partial(typed, "rule.partial-response"),
            targets: partial(typed, "target.partial-response"),
            metadata: partial(typed, "metric-metadata.partial-response"),
            exemplars: partial(typed, "exemplar.partial-response"),
            statistics: partial(typed, "status.partial-response"),
        },
        engine: EngineOptions {
            lookback: typed.duration("query.lookback-delta")?,
            timeout: span(typed.duration("query.timeout")?),
            max_samples: typed.number("query.max-samples")?,
            max_concurrency: typed.number("query.max-concurrent")?,
            max_selects: typed.number("query.max-concurrent-select")?,
            subquery_step: Arc::new(move |_| subquery_step),
            features,
            memory: Arc::clone(&settings.memory.queries),
            query_memory: settings.memory.per_query,
            ..EngineOptions::default()
        },
        serve: ServeOptions {
            component: "query".to_owned(),
            series_limit: typed.number("store.limits.request-series")?,
            sample_limit: typed.number("store.limits.request-samples")?,
            concurrency: typed.number("query.max-concurrent")?,
            memory: Arc::clone(&settings.memory.queries),
            request_memory: settings.memory.per_query,
            ..ServeOptions::default()
        },
        partial_response: partial(typed, "query.partial-response"),
        auto_downsampling: typed.switch("query.auto-downsampling"),
        dynamic_lookback: match typed.switch("query.dynamic-lookback-delta") {
            true => Some(typed.duration("query.lookback-delta")?),
            false => None,
        },
        default_step: typed.duration("query.default-step")?,
        label_range: typed.duration("query.metadata.default-time-range")?,
        instant_resolution: typed.duration("query.instant.default.max_source_resolution")?,
        tenant_field: match typed.required("query.tenant-certificate-field")? {
            "" => None,
            "organization" => Some(SubjectField::Organization),
            "organizationalUnit" => Some(SubjectField::OrganizationalUnit),
            "commonName" => Some(SubjectField::CommonName),
            other => {
                let message = format!(
                    "{other:?} is no field; use organization, organizationalUnit or commonName"
                );
                return Err(typed
                    .error("query.tenant-certificate-field", message)
                    .into());
            }
        },
        tenant_header: typed.required("query.tenant-header")?.to_ascii_lowercase(),
        default_tenant: typed.required("query.default-tenant-id")?.to_owned(),
        distributed,
    };
    super::warn_without_effect(typed);
    crate::runtime::run(live(settings, query))
}

/// Which parts of stores are looked at.
fn selector(typed: &Typed<'_>) -> Result<Option<store::Selector>, FlagError> {
    const FLAG: &str = "selector.relabel-config";
    let Some(text) = content(typed, FLAG)? else {
        return Ok(None);
    };
    let wrong = |e: String| typed.error(FLAG, e);
    let list: Vec<model::relabel::Config> = wire::yaml(&text).map_err(wrong)?;
    let rules = model::relabel::compile(&list, model::relabel::NameScheme::Utf8);
    let rules = rules.map_err(|e| wrong(e.to_string()))?;
    Ok(Some(Arc::new(move |labels| {
        model::relabel::process(labels, &rules).is_some()
    })))
}

/// What a switch says about missing parts.
fn partial(typed: &Typed<'_>, switch: &str) -> PartialResponse {
    match typed.switch(switch) {
        true => PartialResponse::Warn,
        false => PartialResponse::Abort,
    }
}

async fn live(settings: Settings, query: Query) -> Result<ExitCode> {
    let outpost = Outpost::open(settings).await?;
    let (registry, ready) = (outpost.registry.clone(), outpost.life.ready.clone());
    let runtime = Handle::current();
    let endpoints = Endpoints::new(Vec::new(), query.endpoints, runtime.clone(), &registry)?;
    let endpoints = Arc::new(endpoints);
    let source: Arc<dyn Source> = Arc::new(Deduplicated::new(
        Arc::clone(&endpoints) as Arc<dyn Source>,
        query.dedup,
        runtime.clone(),
    ));
    let pool = rayon::ThreadPoolBuilder::new()
        .thread_name(|n| format!("query-{n}"))
        .build()
        .context("starting the query pool")?;
    let timeout = query.engine.timeout;
    let features = query.engine.features;
    let reports = FanOutOptions {
        replica_labels: query.replica_labels,
        tenant_label: query.tenant_label,
    };
    let reports: Arc<dyn Reports> = Arc::new(FanOut::new(
        Arc::clone(&endpoints),
        reports,
        runtime.clone(),
    ));
    let watch = meters::waiting(meters::durations(&registry)?, &registry)?;
    let peers = query.distributed.map(|options| {
        let peers = peers::Leaves::new(Arc::clone(&endpoints), options);
        Arc::new(peers) as Arc<dyn promql::peers::Peers>
    });
    let options = EngineOptions {
        watch: Some(watch),
        peers,
        ..query.engine
    };
    let engine = promql::Engine::new(Arc::clone(&source), options, Arc::new(pool));
    let engine = Arc::new(engine);
    meters::queries(&engine, &registry)?;
    meters::gate(&engine, &registry)?;
    let engine: Arc<dyn promql::Evaluator> = engine;
    let serve = ServeOptions {
        reports: Some(Arc::clone(&reports)),
        query: true,
        ready: Arc::new(move || ready.get() == State::Ready),
        ..query.serve
    };
    let serve = Serve::new(Arc::clone(&source), serve, runtime, &registry)?;
    let queries = api::QueryApi {
        evaluator: Arc::clone(&engine),
        max_resolution: query.instant_resolution,
        dynamic_lookback: query.dynamic_lookback,
        default_tenant: query.default_tenant.clone(),
    };
    let routes = serve.routes().add_service(queries.service());
    let mut options = outpost.options();
    options.evaluator = Some(engine);
    options.source = Some(source);
    options.timeout = timeout;
    options.features = features;
    options.gathering = Some(api::Gathering {
        partial_response: query.partial_response,
        auto_downsampling: query.auto_downsampling,
        instant_resolution: query.instant_resolution,
        default_step: query.default_step,
        label_range: query.label_range,
        dynamic_lookback: query.dynamic_lookback,
        tenant_header: query.tenant_header,
        tenant_field: query.tenant_field,
        default_tenant: query.default_tenant,
        reports,
        partial_reports: query.partial_reports,
        stores: Arc::new({
            let endpoints = Arc::clone(&endpoints);
            move || endpoints.status().into_iter().map(status).collect()
        }),
    });
    let stop = outpost.stop.clone();
    let sources = query.sources;
    let opened = async move {
        sources
            .follow(Arc::clone(&endpoints), &registry, stop.clone())
            .await?;
        // The first look decides who is there; one that hangs is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(10), endpoints.update()).await;
        tokio::spawn(async move { endpoints.run(stop).await });
        Ok(())
    };
    outpost.serve(options, routes, opened).await
}

fn status(endpoint: store::EndpointStatus) -> api::StoreStatus {
    let about = endpoint.about.as_deref();
    api::StoreStatus {
        component: about.map(|a| a.component.clone()).unwrap_or_default(),
        name: endpoint.name,
        last_check: endpoint.last_check,
        last_error: (!endpoint.last_error.is_empty()).then_some(endpoint.last_error),
        label_sets: about.map(|a| a.label_sets.clone()).unwrap_or_default(),
        min_time: about.map_or(Millis::MIN, |a| a.range.min),
        max_time: about.map_or(Millis::MAX, |a| a.range.max),
    }
}
