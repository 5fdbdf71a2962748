//! How requests are counted: under Prometheus' names, or under Thanos'.

use std::borrow::Cow;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use http::{Method, StatusCode};
use metrics::{Counter, Family, Gauge, Histogram, InFlight, Registry};

use super::Names;

/// The instruments of all requests.
#[derive(Clone)]
pub(super) enum Requests {
    Prometheus(Prometheus),
    Thanos(Thanos),
}

#[derive(Clone)]
pub(super) struct Prometheus {
    requests: Family<Counter, 2>,
    seconds: Family<Histogram, 1>,
    bytes: Family<Histogram, 1>,
}

#[derive(Clone)]
pub(super) struct Thanos {
    requests: Family<Counter, 3>,
    seconds: Family<Histogram, 3>,
    received: Family<Histogram, 3>,
    sent: Family<Histogram, 3>,
    running: Family<Gauge, 2>,
    proxy: Option<&'static str>,
}

impl Requests {
    pub(super) fn new(names: Names, registry: &Registry) -> Result<Self, metrics::Error> {
        Ok(match names {
            Names::Prometheus => Self::Prometheus(Prometheus {
                requests: registry.counters(
                    "prometheus_http_requests_total",
                    "Counter of HTTP requests.",
                    ["handler", "code"],
                )?,
                seconds: registry.histograms(
                    "prometheus_http_request_duration_seconds",
                    "Histogram of latencies for HTTP requests.",
                    ["handler"],
                    &[0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0],
                )?,
                bytes: registry.histograms(
                    "prometheus_http_response_size_bytes",
                    "Histogram of response size for HTTP requests.",
                    ["handler"],
                    &metrics::exponential_buckets(100.0, 10.0, 8),
                )?,
            }),
            Names::Thanos { proxy } => {
                let labels = ["code", "handler", "method"];
                let bytes = metrics::exponential_buckets(64.0, 2.0, 10);
                Self::Thanos(Thanos {
                    requests: registry.counters(
                        "http_requests_total",
                        "Tracks the number of HTTP requests.",
                        labels,
                    )?,
                    seconds: registry.histograms(
                        "http_request_duration_seconds",
                        "Tracks the latencies for HTTP requests.",
                        labels,
                        &[
                            0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0,
                            120.0, 240.0, 360.0, 720.0,
                        ],
                    )?,
                    received: registry.histograms(
                        "http_request_size_bytes",
                        "Tracks the size of HTTP requests.",
                        labels,
                        &bytes,
                    )?,
                    sent: registry.histograms(
                        "http_response_size_bytes",
                        "Tracks the size of HTTP responses.",
                        labels,
                        &bytes,
                    )?,
                    running: registry.gauges(
                        "http_inflight_requests",
                        "Current number of HTTP requests the handler is responding to.",
                        ["handler", "method"],
                    )?,
                    proxy,
                })
            }
        })
    }

    /// What the handler of a request is called.
    pub(super) fn handler(&self, request: &Request) -> String {
        let route = request.extensions().get::<MatchedPath>();
        let route = route.map(MatchedPath::as_str);
        let path = request.uri().path();
        let is_own = path.starts_with("/-/") || path == "/metrics";
        let name = match (self, route) {
            (Self::Thanos(Thanos { proxy: Some(p), .. }), _) if !is_own => Cow::Borrowed(*p),
            (_, None) => Cow::Borrowed("unmatched"),
            (Self::Prometheus(_), Some(route)) => handler_name(route),
            (Self::Thanos(_), Some(route)) => thanos_name(route),
        };
        name.into_owned()
    }

    /// What the span of a request is called: as Prometheus does, or Thanos.
    pub(super) fn span_name(&self, request: &Request) -> String {
        match self {
            Self::Prometheus(_) => format!("{} {}", request.method(), request.uri().path()),
            Self::Thanos(_) => {
                let handler = self.handler(request);
                format!("/{} HTTP[server]", handler.trim_start_matches('/'))
            }
        }
    }

    /// Whether whoever asks is told the id of the trace.
    pub(super) fn tells_trace(&self) -> bool {
        matches!(self, Self::Thanos(_))
    }

    /// A request has come.
    pub(super) fn begin(&self, request: &Request) -> Begun {
        let (start, handler) = (Instant::now(), self.handler(request));
        match self {
            Self::Prometheus(meters) => Begun {
                start,
                handler,
                kind: Kind::Prometheus(meters.clone()),
            },
            Self::Thanos(meters) => {
                let method = method_name(request.method());
                let running = meters.running.with(&[&handler, method]).in_flight();
                let headers = request.headers();
                let head = headers.iter().map(|(n, v)| n.as_str().len() + v.len());
                let body = headers.get(http::header::CONTENT_LENGTH);
                let body = body.and_then(|v| v.to_str().ok()?.parse::<f64>().ok());
                Begun {
                    start,
                    handler,
                    kind: Kind::Thanos {
                        meters: meters.clone(),
                        method,
                        received: head.sum::<usize>() as f64 + body.unwrap_or(0.0),
                        running,
                    },
                }
            }
        }
    }
}

/// A request that is not answered yet.
pub(super) struct Begun {
    start: Instant,
    handler: String,
    kind: Kind,
}

enum Kind {
    Prometheus(Prometheus),
    Thanos {
        meters: Thanos,
        method: &'static str,
        received: f64,
        running: InFlight,
    },
}

impl Begun {
    /// It is answered; the answer is not sent yet.
    pub(super) fn answered(self, code: StatusCode) -> Finish {
        let handler = self.handler.as_str();
        let (seconds, bytes, running) = match self.kind {
            Kind::Prometheus(meters) => {
                meters.requests.with(&[handler, code.as_str()]).inc();
                let (seconds, bytes) = (meters.seconds.with(&[handler]), meters.bytes);
                (seconds, bytes.with(&[handler]), None)
            }
            Kind::Thanos {
                meters,
                method,
                received,
                running,
            } => {
                let by = [code.as_str(), handler, method];
                meters.requests.with(&by).inc();
                meters.received.with(&by).observe(received);
                (
                    meters.seconds.with(&by),
                    meters.sent.with(&by),
                    Some(running),
                )
            }
        };
        Finish {
            start: self.start,
            sent: 0,
            seconds,
            bytes,
            _running: running,
        }
    }
}

/// Observes duration and size when the response has been sent or given up.
pub(super) struct Finish {
    start: Instant,
    sent: u64,
    seconds: Histogram,
    bytes: Histogram,
    _running: Option<InFlight>,
}

impl Finish {
    pub(super) fn sends(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.seconds.observe_duration(self.start.elapsed());
        self.bytes.observe(self.sent as f64);
    }
}

/// A route as Prometheus writes it: `:name` and `*path` where axum has braces.
fn handler_name(path: &str) -> Cow<'_, str> {
    if !path.contains('{') {
        return Cow::Borrowed(path);
    }
    Cow::Owned(path.replace("{*", "*").replace('{', ":").replace('}', ""))
}

/// What Thanos calls the handler of a route: dashboards ask for `query` and `query_range`.
fn thanos_name(path: &str) -> Cow<'_, str> {
    let Some((_, call)) = path.split_once("/api/v1/") else {
        return handler_name(path);
    };
    Cow::Borrowed(match call {
        "query_explain" | "query_range_explain" => "query",
        "labels" => "label_names",
        "query_exemplars" => "exemplars",
        "status/tsdb" => "status_tsdb",
        "status/flags" => "status_flags",
        "status/runtimeinfo" => "status_runtime",
        "status/buildinfo" => "status_build",
        call if call.starts_with("label/") => "label_values",
        call => return handler_name(call),
    })
}

/// A stranger must not fill the registry.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::POST => "post",
        Method::PUT => "put",
        Method::DELETE => "delete",
        Method::HEAD => "head",
        Method::OPTIONS => "options",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_read_as_in_prometheus() {
        assert_eq!(handler_name("/metrics"), "/metrics");
        assert_eq!(
            handler_name("/api/v1/label/{name}/values"),
            "/api/v1/label/:name/values"
        );
        assert_eq!(handler_name("/assets/{*path}"), "/assets/*path");
    }

    #[test]
    fn handlers_are_called_as_in_thanos() {
        for (route, name) in [
            ("/api/v1/query", "query"),
            ("/thanos/api/v1/query_range", "query_range"),
            ("/api/v1/label/{name}/values", "label_values"),
            ("/api/v1/labels", "label_names"),
            ("/api/v1/status/tsdb", "status_tsdb"),
            ("/api/v1/stores", "stores"),
            ("/metrics", "/metrics"),
        ] {
            assert_eq!(thanos_name(route), name);
        }
    }

    #[test]
    fn requests_are_counted_under_either_name() {
        let registry = Registry::new();
        for names in [
            Names::Prometheus,
            Names::Thanos {
                proxy: Some("query-frontend"),
            },
        ] {
            let requests = Requests::new(names, &registry).unwrap();
            for path in ["/api/v1/query", "/metrics"] {
                let request = http::Request::post(path).body(axum::body::Body::empty());
                let begun = requests.begin(&request.unwrap());
                drop(begun.answered(StatusCode::NOT_FOUND));
            }
            // Nobody waits for this one any more.
            let request = http::Request::get("/x").body(axum::body::Body::empty());
            drop(requests.begin(&request.unwrap()));
        }
        let mut out = Vec::new();
        metrics::encode(&registry.gather(), metrics::Format::Text, &mut out);
        let text = String::from_utf8(out).unwrap();
        for line in [
            "prometheus_http_requests_total{handler=\"unmatched\",code=\"404\"} 2",
            "http_requests_total{code=\"404\",handler=\"query-frontend\",method=\"post\"} 1",
            "http_requests_total{code=\"404\",handler=\"unmatched\",method=\"post\"} 1",
            "http_inflight_requests{handler=\"query-frontend\",method=\"post\"} 0",
            "http_inflight_requests{handler=\"query-frontend\",method=\"get\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
