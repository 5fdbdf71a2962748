//! `epimetheus sidecar`: StoreAPI and shipping beside a real Prometheus, with Thanos' flags.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use api::ready::State;
use bucket::{Shipper, ShipperOptions};
use model::time::span;
use model::{Cancel, Millis, TimeRange};
use store::{Labelled, Prometheus, PrometheusSource, Serve, ServeOptions};
use tokio::runtime::Handle;
use wire::client::{ClientOptions, HttpClient, HttpSettings};

use crate::kingpin::{Flag, Typed};
use crate::outpost::{Outpost, Settings, content, moment};
use crate::{flags::thanos, limits, logging};

mod reloader;

/// The flags of this role.
pub const FLAGS: &[&[Flag]] = &[
    thanos::SIDECAR,
    thanos::HTTP,
    thanos::GRPC,
    thanos::REQUESTS,
    thanos::GLOBAL,
    thanos::LIMITS,
    thanos::OBJSTORE,
    thanos::SHIPPER,
    limits::FLAGS,
    logging::FLAGS,
];

struct Sidecar {
    url: String,
    http: HttpSettings,
    ready_timeout: Duration,
    config_interval: Duration,
    config_timeout: Duration,
    tsdb: PathBuf,
    bucket: Option<bucket::Config>,
    upload_compacted: bool,
    ignore_unequal: bool,
    state_file: String,
    ship_every: Duration,
    min_time: Millis,
    serve: ServeOptions,
    reloader: reloader::Reloader,
}

/// Runs the role.
pub fn run(typed: &Typed<'_>) -> Result<ExitCode> {
    logging::init(typed)?;
    let settings = Settings::from_flags(typed, "sidecar")?;
    let http = match content(typed, "prometheus.http-client")? {
        None => HttpSettings::default(),
        Some(text) => wire::yaml(&text).map_err(|e| typed.error("prometheus.http-client", e))?,
    };
    let bucket = match content(typed, "objstore.config")? {
        None => None,
        Some(text) => {
            Some(bucket::Config::parse(&text).map_err(|e| typed.error("objstore.config", e))?)
        }
    };
    let url = typed
        .required("prometheus.url")?
        .trim_end_matches('/')
        .to_owned();
    let sidecar = Sidecar {
        http,
        ready_timeout: span(typed.duration("prometheus.ready_timeout")?),
        config_interval: span(typed.duration("prometheus.get_config_interval")?),
        config_timeout: span(typed.duration("prometheus.get_config_timeout")?),
        tsdb: PathBuf::from(typed.required("tsdb.path")?),
        bucket,
        upload_compacted: typed.switch("shipper.upload-compacted"),
        ignore_unequal: typed.switch("shipper.ignore-unequal-block-size"),
        state_file: typed.required("shipper.meta-file-name")?.to_owned(),
        ship_every: span(typed.duration("shipper.sync-interval")?),
        min_time: match moment(typed, "min-time")? {
            bucket::catalog::Bound::At(at) => at,
            bucket::catalog::Bound::Ago(ms) => {
                use model::time::Clock as _;
                model::time::WallClock.now().saturating_sub(ms)
            }
        },
        serve: ServeOptions {
            component: "sidecar".to_owned(),
            series_limit: typed.number("store.limits.request-series")?,
            sample_limit: typed.number("store.limits.request-samples")?,
            ..ServeOptions::default()
        },
        reloader: reloader::Reloader::from_flags(typed, &url)?,
        url,
    };
    super::warn_without_effect(typed);
    crate::runtime::run(live(settings, sidecar))
}

async fn live(settings: Settings, sidecar: Sidecar) -> Result<ExitCode> {
    let outpost = Outpost::open(settings).await?;
    let (registry, ready) = (outpost.registry.clone(), outpost.life.ready.clone());
    let runtime = Handle::current();
    let client = HttpClient::new(
        &sidecar.http,
        ClientOptions {
            gzip: false,
            ..ClientOptions::default()
        },
    )?;
    let prometheus = Prometheus::new(
        client.clone(),
        &sidecar.url,
        sidecar.min_time,
        runtime.clone(),
    );
    let prometheus = Arc::new(prometheus);
    let labels: Arc<dyn Fn() -> model::Labels + Send + Sync> = Arc::new({
        let prometheus = Arc::clone(&prometheus);
        move || prometheus.labels()
    });
    let reports = Arc::new(PrometheusSource(Arc::clone(&prometheus)));
    let source = PrometheusSource(Arc::clone(&prometheus));
    let source = Labelled::new(Arc::new(source), Arc::clone(&labels), runtime.clone());
    let min_time = sidecar.min_time;
    let serve = ServeOptions {
        memory: Arc::clone(&outpost.memory().queries),
        request_memory: outpost.memory().per_query,
        ready: Arc::new(move || ready.get() == State::Ready),
        range: Arc::new(move || TimeRange::new(min_time, Millis::MAX)),
        reports: Some(reports),
        ..sidecar.serve
    };
    let serve = Serve::new(Arc::new(source), serve, runtime, &registry)?;
    let routes = serve.routes();
    let up = registry.gauge(
        "thanos_sidecar_prometheus_up",
        "Boolean indicator whether the sidecar can reach its Prometheus peer.",
    )?;
    let shipper = match &sidecar.bucket {
        None => {
            tracing::info!("no bucket is configured; blocks are not shipped");
            None
        }
        Some(config) => {
            let options = ShipperOptions {
                labels,
                upload_compacted: sidecar.upload_compacted,
                state_file: sidecar.state_file.clone(),
                interval: sidecar.ship_every,
                ..ShipperOptions::new(&sidecar.tsdb, model::Labels::default())
            };
            Some(Arc::new(Shipper::new(
                bucket::open(config, &registry)?,
                options,
                &registry,
            )?))
        }
    };
    let options = outpost.options();
    let stop = outpost.stop.clone();
    let ships = shipper.is_some();
    let opened = async move {
        let meters = reloader::Meters::new(&registry)?;
        tokio::spawn(sidecar.reloader.run(client, meters, stop.clone()));
        wait(&prometheus, sidecar.ready_timeout).await?;
        up.set(1);
        if ships {
            check(
                &prometheus,
                sidecar.ignore_unequal,
                sidecar.upload_compacted,
            )
            .await?;
            if prometheus.labels().is_empty() {
                bail!(
                    "no external labels configured on Prometheus server, uniquely identifying external labels must be configured; see https://thanos.io/tip/thanos/storage.md#external-labels for details."
                );
            }
        }
        let look = (sidecar.config_interval, sidecar.config_timeout);
        tokio::spawn(follow(Arc::clone(&prometheus), look, up, stop.clone()));
        if let Some(shipper) = shipper {
            tokio::spawn(async move { shipper.run(stop).await });
        }
        Ok(())
    };
    outpost.serve(options, routes, opened).await
}

/// Waits for Prometheus to be ready and reads its labels.
async fn wait(prometheus: &Prometheus, timeout: Duration) -> Result<()> {
    let ready = async {
        loop {
            let looked = match prometheus.is_ready().await {
                Ok(()) => prometheus.read_labels().await.map(|_| ()),
                Err(e) => Err(e),
            };
            match looked {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "waiting for Prometheus"),
            }
            tokio::time::sleep(store::RETRY).await;
        }
    };
    tokio::time::timeout(timeout, ready).await.with_context(|| {
        format!("Prometheus was not ready within {timeout:?}; see --prometheus.ready_timeout")
    })
}

/// Shipping needs blocks that Prometheus does not merge.
async fn check(prometheus: &Prometheus, ignore: bool, compacted: bool) -> Result<()> {
    let flags = match prometheus.flags().await {
        Ok(flags) => flags,
        Err(error) => {
            tracing::warn!(%error, "Prometheus does not tell its flags; they are not checked");
            return Ok(());
        }
    };
    if flags.min_block != flags.max_block && !compacted {
        if !ignore {
            bail!(
                "found that TSDB Max time is {} and Min time is {}. Compaction needs to be disabled (storage.tsdb.min-block-duration = storage.tsdb.max-block-duration)",
                flags.max_block,
                flags.min_block
            );
        }
        tracing::warn!(
            "flag to ignore Prometheus min/max block duration flags differing is being used. If the upload of a 2h block fails and a Prometheus compaction happens that block may be missing from your Thanos bucket storage."
        );
    }
    Ok(())
}

/// Reads the labels again and again.
async fn follow(
    prometheus: Arc<Prometheus>,
    (interval, timeout): (Duration, Duration),
    up: metrics::Gauge,
    stop: Cancel,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        let before = prometheus.labels();
        match tokio::time::timeout(timeout, prometheus.read_labels()).await {
            Ok(Ok(labels)) => {
                up.set(1);
                if labels != before {
                    tracing::info!(%labels, "external labels have changed");
                }
            }
            Ok(Err(error)) => {
                up.set(0);
                tracing::warn!(%error, "Prometheus' configuration cannot be read; its labels stay");
            }
            Err(_) => {
                up.set(0);
                tracing::warn!("Prometheus' configuration cannot be read in time; its labels stay");
            }
        }
    }
}
