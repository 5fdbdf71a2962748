//! `epimetheus query`: PromQL over many stores, with Thanos' flags.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use api::ready::State;
use model::scope::PartialResponse;
use model::{Millis, Source};
use promql::EngineOptions;
use promql::features::Features;
use store::{DedupOptions, Deduplicated, Endpoints, EndpointsOptions, Serve, ServeOptions};
use tokio::runtime::Handle;
use wire::grpc::Routes;

use model::time::span;

use crate::kingpin::{Flag, Typed};
use crate::outpost::{Outpost, Settings, listed};
use crate::{flags::thanos, limits, logging};

mod endpoints;

/// The flags of this role.
pub const FLAGS: &[&[Flag]] = &[
    thanos::QUERY,
    thanos::ENDPOINTS,
    thanos::COMMON,
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
    auto_downsampling: bool,
    instant_resolution: Millis,
    tenant_header: String,
    default_tenant: String,
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
    let subquery_step = typed.duration("query.default-evaluation-interval")?;
    let query = Query {
        sources: endpoints::Sources::from_flags(typed)?,
        endpoints: EndpointsOptions {
            info_timeout: span(typed.duration("endpoint.info-timeout")?),
            unhealthy_timeout: span(typed.duration("store.unhealthy-timeout")?),
            dns_interval: span(typed.duration("store.sd-dns-interval")?),
            response_timeout: typed.optional_duration("store.response-timeout")?.map(span),
            ..EndpointsOptions::default()
        },
        dedup: DedupOptions {
            replica_labels: listed(typed, "query.replica-label")
                .into_iter()
                .map(Into::into)
                .collect(),
            chain,
            tenant_label: match typed.switch("query.enforce-tenancy") {
                true => Some(typed.required("query.tenant-label-name")?.into()),
                false => None,
            },
        },
        engine: EngineOptions {
            lookback: typed.duration("query.lookback-delta")?,
            timeout: span(typed.duration("query.timeout")?),
            max_samples: typed.number("query.max-samples")?,
            max_concurrency: typed.number("query.max-concurrent")?,
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
        partial_response: match typed.switch("query.partial-response") {
            true => PartialResponse::Warn,
            false => PartialResponse::Abort,
        },
        auto_downsampling: typed.switch("query.auto-downsampling"),
        instant_resolution: typed.duration("query.instant.default.max_source_resolution")?,
        tenant_header: typed.required("query.tenant-header")?.to_ascii_lowercase(),
        default_tenant: typed.required("query.default-tenant-id")?.to_owned(),
    };
    super::warn_without_effect(typed);
    crate::runtime::run(live(settings, query))
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
    let engine = promql::Engine::new(Arc::clone(&source), query.engine, Arc::new(pool));
    let serve = ServeOptions {
        ready: Arc::new(move || ready.get() == State::Ready),
        ..query.serve
    };
    let serve = Serve::new(Arc::clone(&source), serve, runtime, &registry)?;
    let routes = Routes::new(serve.store()).add_service(serve.info());
    let mut options = outpost.options();
    options.evaluator = Some(Arc::new(engine));
    options.source = Some(source);
    options.timeout = timeout;
    options.features = features;
    options.gathering = Some(api::Gathering {
        partial_response: query.partial_response,
        auto_downsampling: query.auto_downsampling,
        instant_resolution: query.instant_resolution,
        default_step: 1000,
        tenant_header: query.tenant_header,
        default_tenant: query.default_tenant,
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
