//! Traces: where the spans go that the rooms open.
//!
//! The rooms speak `tracing`; [`layer`] turns their spans into OpenTelemetry's while a collector is
//! [put](Change::put) in force, and costs nothing before. What is in force can be changed while the process
//! runs, as a reload of `prometheus.yml` does: the provider behind the layer stays, what it asks and feeds
//! is exchanged.

mod collector;
mod thanos;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Result;
use arc_swap::ArcSwapOption;
use opentelemetry::trace::{Link, SpanKind, TraceId, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, Sampler, SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample,
    Span, SpanData, SpanProcessor,
};
use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Filter;
use tracing_subscriber::registry::LookupSpan;

pub use collector::{Collector, Protocol};
pub use thanos::from_flags;

/// An attribute that has a span sent in any case, where whoever asks may say so.
const FORCE: &str = "thanos.force_tracing";

/// Which traces are sent, where, and as whose.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where they are sent.
    pub collector: Collector,
    /// Which of them.
    pub sampling: Sampling,
    /// What collectors know about the process: `service.name` first of all.
    pub resource: BTreeMap<String, String>,
}

/// Which traces are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// This share of those that begin here, 0 to 1.
    pub share: f64,
    /// A trace that began elsewhere is sent if it is sent there.
    pub by_parent: bool,
    /// A request with Thanos' header is sent in any case.
    pub forced: bool,
}

impl Sampling {
    fn sampler(&self) -> Sampler {
        let own = match self.share {
            share if share >= 1.0 => Sampler::AlwaysOn,
            share => Sampler::TraceIdRatioBased(share.max(0.0)),
        };
        match self.by_parent {
            true => Sampler::ParentBased(Box::new(own)),
            false => own,
        }
    }
}

/// What is in force in this process. There is one, as there is one subscriber.
static IN_FORCE: OnceLock<Arc<InForce>> = OnceLock::new();

#[derive(Debug, Default)]
struct InForce {
    /// Whether spans are made at all.
    on: AtomicBool,
    choice: ArcSwapOption<Choice>,
    sink: ArcSwapOption<BatchSpanProcessor>,
    settings: Mutex<Option<Settings>>,
}

#[derive(Debug)]
struct Choice {
    sampler: Sampler,
    forced: bool,
}

fn in_force() -> &'static Arc<InForce> {
    IN_FORCE.get_or_init(Arc::default)
}

/// The layer of the subscriber that makes traces of spans.
pub fn layer<S>() -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let in_force = in_force();
    let provider = SdkTracerProvider::builder()
        .with_sampler(Chosen(Arc::clone(in_force)))
        .with_span_processor(Passed(Arc::clone(in_force)))
        .build();
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("epimetheus"))
        // Names of files and threads tell operators nothing.
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(Wanted(Arc::clone(in_force)))
}

/// Another collector, or none, that is ready to be put in force.
pub struct Change(Option<(Settings, BatchSpanProcessor)>);

/// Makes ready what `settings` say, unless it is what is in force; nothing has changed when it fails.
/// Must be called within a runtime, on which traces will be sent.
pub fn prepare(settings: Option<Settings>) -> Result<Option<Change>> {
    let held = in_force().settings.lock();
    // Certificates may be others than when they were read.
    let may_differ = |s: &Settings| s.collector.tls.has_files() && !s.collector.insecure;
    if *held == settings && !settings.as_ref().is_some_and(may_differ) {
        return Ok(None);
    }
    let Some(settings) = settings else {
        return Ok(Some(Change(None)));
    };
    let mut sink = BatchSpanProcessor::builder(settings.collector.exporter()?).build();
    let resource = settings.resource.iter();
    let resource = resource.map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    sink.set_resource(&Resource::builder().with_attributes(resource).build());
    Ok(Some(Change(Some((settings, sink)))))
}

impl Change {
    /// Puts it in force; what was ended before is still sent to the collector of before.
    pub fn put(self) {
        let in_force = in_force();
        let (settings, sink) = match self.0 {
            Some((settings, sink)) => (Some(settings), Some(Arc::new(sink))),
            None => (None, None),
        };
        let choice = settings.as_ref().map(|settings| Choice {
            sampler: settings.sampling.sampler(),
            forced: settings.sampling.forced,
        });
        match &settings {
            Some(settings) => {
                tracing::info!(collector = %settings.collector.endpoint, "sending traces");
            }
            None => tracing::info!("sending no traces any more"),
        }
        in_force.on.store(settings.is_some(), Ordering::Relaxed);
        in_force.choice.store(choice.map(Arc::new));
        *in_force.settings.lock() = settings;
        let before = in_force.sink.swap(sink);
        tracing::callsite::rebuild_interest_cache();
        if let Some(before) = before {
            tokio::task::spawn_blocking(move || end(&before));
        }
    }
}

/// Sends what is left and ends.
pub async fn stop() {
    let in_force = in_force();
    in_force.on.store(false, Ordering::Relaxed);
    if let Some(last) = in_force.sink.swap(None) {
        // Nothing is left to do where it failed.
        let _ = tokio::task::spawn_blocking(move || end(&last)).await;
    }
}

fn end(sink: &BatchSpanProcessor) {
    if let Err(error) = sink.shutdown_with_timeout(Duration::from_secs(5)) {
        tracing::warn!(%error, "the last traces could not be sent");
    }
}

/// Which spans are made: those of our own rooms, and no events in them.
struct Wanted(Arc<InForce>);

impl Wanted {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span()
            && self.0.on.load(Ordering::Relaxed)
            && *metadata.level() <= tracing::Level::INFO
            && crate::logging::is_own(metadata.target())
    }
}

impl<S> Filter<S> for Wanted {
    fn enabled(
        &self,
        metadata: &Metadata<'_>,
        _: &tracing_subscriber::layer::Context<'_, S>,
    ) -> bool {
        self.wants(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.wants(metadata) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        match self.0.on.load(Ordering::Relaxed) {
            true => Some(LevelFilter::INFO),
            false => Some(LevelFilter::OFF),
        }
    }
}

/// The sampler that is in force.
#[derive(Clone, Debug)]
struct Chosen(Arc<InForce>);

impl ShouldSample for Chosen {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let choice = self.0.choice.load();
        let Some(choice) = choice.as_deref() else {
            return SamplingResult {
                decision: SamplingDecision::Drop,
                attributes: Vec::new(),
                trace_state: Default::default(),
            };
        };
        let mut result = choice
            .sampler
            .should_sample(parent, trace, name, kind, attributes, links);
        if choice.forced && attributes.iter().any(|a| a.key.as_str() == FORCE) {
            result.decision = SamplingDecision::RecordAndSample;
        }
        result
    }
}

/// The collector that is in force.
#[derive(Debug)]
struct Passed(Arc<InForce>);

impl SpanProcessor for Passed {
    fn on_start(&self, span: &mut Span, context: &Context) {
        if let Some(sink) = &*self.0.sink.load() {
            sink.on_start(span, context);
        }
    }

    fn on_end(&self, span: SpanData) {
        if let Some(sink) = &*self.0.sink.load() {
            sink.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        match &*self.0.sink.load() {
            Some(sink) => sink.force_flush(),
            None => Ok(()),
        }
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        match self.0.sink.swap(None) {
            Some(sink) => sink.shutdown_with_timeout(timeout),
            None => Ok(()),
        }
    }
}
