//! Which trace a call belongs to: taken from who calls us, told to whom we call.
//!
//! Rooms open spans with `tracing`; where they are sent is decided at the top. A span that nobody records
//! is [`Span::none`], and then nothing here costs anything. The headers are those of the W3C's trace
//! context (<https://www.w3.org/TR/trace-context/>), read and written by the propagator that the process
//! has installed.

use http::header::{AsHeaderName, HeaderMap, HeaderName, HeaderValue};
use opentelemetry::global::get_text_map_propagator;
use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::TraceContextExt as _;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Whoever sends it wants the request traced, whatever the share is: Thanos' header.
pub const FORCE: &str = "x-thanos-force-tracing";

/// In it the trace's id is told to whoever asked: Thanos' header.
pub const TRACE_ID: &str = "x-thanos-trace-id";

/// Makes `span` a part of the trace that its caller's headers name, if they name one. To be called before
/// anything else is done with the span.
pub fn adopt(span: &Span, headers: &HeaderMap) {
    if span.is_disabled() || !named(headers, "traceparent") {
        return;
    }
    let parent = get_text_map_propagator(|p| p.extract(&From(headers)));
    // Fails only where the span is not recorded.
    let _ = span.set_parent(parent);
}

/// Writes into the headers of a call that it is a part of `span`.
pub fn tell(span: &Span, headers: &mut HeaderMap) {
    if !span.is_disabled() {
        let context = span.context();
        get_text_map_propagator(|p| p.inject_context(&context, &mut Into(headers)));
    }
}

/// The ids of a span, hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Of its trace.
    pub trace: String,
    /// Its own.
    pub span: String,
    /// Whether the trace is sent.
    pub sampled: bool,
}

/// The ids of `span`, if it is recorded.
pub fn ids(span: &Span) -> Option<Ids> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    context.is_valid().then(|| Ids {
        trace: context.trace_id().to_string(),
        span: context.span_id().to_string(),
        sampled: context.is_sampled(),
    })
}

/// Whether a request asks to be traced.
pub fn forced(headers: &HeaderMap) -> Option<&'static str> {
    named(headers, FORCE).then_some("true")
}

fn named(headers: &HeaderMap, name: impl AsHeaderName) -> bool {
    headers.get(name).is_some_and(|value| !value.is_empty())
}

struct From<'a>(&'a HeaderMap);

impl Extractor for From<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Into<'a>(&'a mut HeaderMap);

impl Injector for Into<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}
