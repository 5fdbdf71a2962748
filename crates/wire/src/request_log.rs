//! What is logged of requests, as Thanos' `--request.logging-config` says it: for HTTP and for gRPC whether
//! their start and their end are logged, and of which paths or methods.
//!
//! A request that went well is logged at level debug, one that failed at level error. Over HTTP the level of
//! the configuration is the least that is logged; over gRPC it changes nothing, as in Thanos.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use serde::Deserialize;

/// What is logged of requests; by default nothing.
#[derive(Clone, Debug, Default)]
pub struct RequestLog {
    /// Over HTTP.
    pub http: Option<Http>,
    /// Over gRPC.
    pub grpc: Option<Grpc>,
}

/// What is logged of requests over HTTP.
#[derive(Clone, Debug)]
pub struct Http {
    starts: bool,
    /// Requests that went well are logged, too.
    well: bool,
    /// Paths with ports; empty: all.
    only: Arc<[(String, u64)]>,
}

/// What is logged of calls over gRPC.
#[derive(Clone, Debug)]
pub struct Grpc {
    starts: bool,
    /// `/service/method`; empty: all.
    only: Arc<[String]>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    http: Protocol<HttpOnly>,
    grpc: Protocol<GrpcOnly>,
    options: Options,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Protocol<T> {
    options: Options,
    config: Vec<T>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    level: String,
    decision: Decision,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Decision {
    log_start: bool,
    log_end: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpOnly {
    path: String,
    port: u64,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GrpcOnly {
    service: String,
    method: String,
}

impl Options {
    fn is_empty(&self) -> Result<bool, String> {
        let decides = self.decision.log_start || self.decision.log_end;
        match (self.level.as_str(), decides) {
            ("", true) => Err("level field is empty".to_owned()),
            (level, decides) => Ok(level.is_empty() && !decides),
        }
    }

    /// The options of a protocol, which go before those of all; with their level.
    fn of<'a>(&'a self, protocol: &'a Self) -> Result<&'a Self, String> {
        let (all, own) = (self.is_empty()?, protocol.is_empty()?);
        let chosen = if own && !all { self } else { protocol };
        match chosen.level.as_str() {
            "INFO" | "DEBUG" | "ERROR" | "WARNING" => {}
            "" if own && all => {}
            other => {
                return Err(format!(
                    "the format of level is invalid. Expected INFO/DEBUG/ERROR/WARNING, got this {other}"
                ));
            }
        }
        if chosen.decision.log_start && !chosen.decision.log_end {
            return Err("log start call is not supported without log_end".to_owned());
        }
        Ok(chosen)
    }
}

impl RequestLog {
    /// Reads Thanos' YAML.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Config = crate::yaml(text)?;
        let options = config.options.of(&config.http.options)?;
        let http = options.decision.log_end.then(|| Http {
            starts: options.decision.log_start,
            well: options.level == "DEBUG",
            only: config
                .http
                .config
                .into_iter()
                .map(|o| (o.path, o.port))
                .collect(),
        });
        let options = config.options.of(&config.grpc.options)?;
        let only = config.grpc.config.into_iter();
        let grpc = options.decision.log_end.then(|| Grpc {
            starts: options.decision.log_start,
            only: only
                .map(|o| format!("/{}/{}", o.service, o.method))
                .collect(),
        });
        Ok(Self { http, grpc })
    }
}

impl Http {
    fn wants(&self, request: &Request) -> bool {
        let host = request.headers().get(http::header::HOST);
        let host = host.and_then(|h| h.to_str().ok());
        let authority = host.or_else(|| request.uri().authority().map(|a| a.as_str()));
        let port = authority.and_then(|a| a.rsplit_once(':')?.1.parse::<u64>().ok());
        let named = |(path, at): &(String, u64)| path == request.uri().path() && Some(*at) == port;
        self.only.is_empty() || self.only.iter().any(named)
    }

    /// Logs a request whose handler has this name, as it is answered.
    pub(crate) async fn around(self, handler: String, request: Request, next: Next) -> Response {
        if !self.wants(&request) {
            return next.run(request).await;
        }
        let text = |headers: &HeaderMap, name: &str| {
            let value = headers.get(name).and_then(|v| v.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let method = format!("{} {}", request.method(), request.uri());
        let id = text(request.headers(), "x-request-id");
        let agent = text(request.headers(), "user-agent");
        let mut remote = text(request.headers(), "x-forwarded-for");
        let peer = request
            .extensions()
            .get::<ConnectInfo<std::net::SocketAddr>>();
        if let (true, Some(ConnectInfo(peer))) = (remote.is_empty(), peer) {
            remote = peer.to_string();
        }
        if self.starts && self.well {
            tracing::debug!(
                protocol = "http", http.component = "server", http.start_time = %now(),
                http.method = method, http.request_id = id, http.user_agent = agent,
                thanos.method_name = handler, "started call"
            );
        }
        let start = Instant::now();
        let response = next.run(request).await;
        let (status, ms) = (response.status().as_u16(), millis(start.elapsed()));
        macro_rules! finished {
            ($level:ident) => {
                tracing::$level!(
                    protocol = "http",
                    http.component = "server",
                    http.method = method,
                    http.request_id = id,
                    http.user_agent = agent,
                    http.status_code = status,
                    http.time_ms = ms,
                    http.remote_addr = remote,
                    thanos.method_name = handler,
                    "finished call"
                )
            };
        }
        match (200..500).contains(&status) {
            true if self.well => finished!(debug),
            true => {}
            false => finished!(error),
        }
        response
    }
}

/// A call over gRPC that is being logged.
pub(crate) struct Call {
    service: String,
    method: String,
    kind: &'static str,
    peer: String,
    start: Instant,
    began: String,
}

impl Grpc {
    /// A call to `/service/method` of this kind begins; none if it is not logged.
    pub(crate) fn begins(&self, path: &str, kind: &'static str, peer: String) -> Option<Call> {
        if !self.only.is_empty() && !self.only.iter().any(|only| only == path) {
            return None;
        }
        let (service, method) = path.trim_start_matches('/').split_once('/')?;
        let call = Call {
            service: service.to_owned(),
            method: method.to_owned(),
            kind,
            peer,
            start: Instant::now(),
            began: now(),
        };
        if self.starts {
            tracing::debug!(
                protocol = "grpc",
                grpc.component = "server",
                grpc.service = call.service,
                grpc.method = call.method,
                grpc.method_type = kind,
                peer.address = call.peer,
                grpc.start_time = call.began,
                "started call"
            );
        }
        Some(call)
    }
}

impl Call {
    /// It has ended.
    pub(crate) fn ends(self, code: &str) {
        let ms = millis(self.start.elapsed());
        macro_rules! finished {
            ($level:ident) => {
                tracing::$level!(
                    protocol = "grpc",
                    grpc.component = "server",
                    grpc.service = self.service,
                    grpc.method = self.method,
                    grpc.method_type = self.kind,
                    peer.address = self.peer,
                    grpc.start_time = self.began,
                    grpc.code = code,
                    grpc.time_ms = ms,
                    "finished call"
                )
            };
        }
        match code {
            "Unknown" | "Unimplemented" | "Internal" | "DataLoss" => finished!(error),
            _ => finished!(debug),
        }
    }
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_thanos_reads() {
        let none = RequestLog::parse("").unwrap();
        assert!(none.http.is_none() && none.grpc.is_none());
        let text = "http:\n  config:\n  - path: /api/v1/query\n    port: 10904\n  options:\n    level: DEBUG\n    decision:\n      log_start: true\n      log_end: true\ngrpc:\n  config:\n  - service: thanos.Store\n    method: Info\noptions:\n  level: ERROR\n  decision:\n    log_end: true\n";
        let log = RequestLog::parse(text).unwrap();
        let http = log.http.unwrap();
        assert!(http.starts && http.well);
        assert_eq!(*http.only, [("/api/v1/query".to_owned(), 10904)]);
        let grpc = log.grpc.unwrap();
        assert!(!grpc.starts);
        assert_eq!(*grpc.only, ["/thanos.Store/Info"]);
        assert!(
            grpc.begins("/thanos.Store/Series", "server_stream", String::new())
                .is_none()
        );
        assert!(
            grpc.begins("/thanos.Store/Info", "unary", String::new())
                .is_some()
        );
        let off = RequestLog::parse("options: {level: INFO}").unwrap();
        assert!(off.http.is_none() && off.grpc.is_none());
    }

    #[test]
    fn what_thanos_refuses() {
        for (text, why) in [
            (
                "options: {decision: {log_end: true}}",
                "level field is empty",
            ),
            (
                "options: {level: loud, decision: {log_end: true}}",
                "got this loud",
            ),
            (
                "options: {level: INFO, decision: {log_start: true}}",
                "log start call",
            ),
            (
                "http: {options: {decision: {log_end: true}}}",
                "level field is empty",
            ),
            ("grpc: {paths: []}", "paths"),
        ] {
            let e = RequestLog::parse(text).unwrap_err();
            assert!(e.contains(why), "{text}: {e}");
        }
    }
}
