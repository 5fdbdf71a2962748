//! Targets from an HTTP server.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use wire::client::{ClientOptions, HttpClient};

use super::Discoverer;
use crate::config;
use crate::counters::Counters;
use crate::{Error, Group, Updates, group};

/// No answer may be larger, bytes.
const MAX_SIZE: usize = 256 << 20;

pub(super) struct Server {
    client: HttpClient,
    url: String,
    /// The URL without a password.
    shown: String,
    interval: Duration,
    counters: Counters,
    /// How many groups the last answer had.
    groups: usize,
}

impl Server {
    pub(super) fn new(config: &config::Http, counters: Counters) -> Result<Self, Error> {
        // An interval of nothing would be an attack on the server.
        let interval = config
            .refresh_interval
            .as_std()
            .max(Duration::from_millis(50));
        let options = ClientOptions {
            timeout: Some(interval),
            ..ClientOptions::default()
        };
        Ok(Self {
            client: HttpClient::new(&config.http, options)?,
            url: config.url.as_str().to_owned(),
            shown: config.url.redacted(),
            interval,
            counters,
            groups: 0,
        })
    }

    async fn refresh(&mut self) -> Result<Vec<Group>, String> {
        let mut request = self.client.get(&self.url).map_err(|e| e.to_string())?;
        let seconds = self.interval.as_secs_f64();
        for (name, value) in [
            ("accept", "application/json".to_owned()),
            ("x-prometheus-refresh-interval-seconds", seconds.to_string()),
        ] {
            if let Ok(value) = value.parse() {
                request.headers_mut().insert(name, value);
            }
        }
        let mut answer = self.client.send(request).await.map_err(|e| e.to_string())?;
        if answer.status().as_u16() != 200 {
            return Err(format!("server returned HTTP status {}", answer.status()));
        }
        let kind = answer
            .headers()
            .get("content-type")
            .and_then(|v| v.to_str().ok())
            .unwrap_or("");
        if !is_json(kind) {
            return Err(format!("unsupported content type {kind:?}"));
        }
        let mut body = Vec::new();
        while let Some(part) = answer
            .chunk()
            .await
            .map_err(|e| e.without_url().to_string())?
        {
            if body.len() + part.len() > MAX_SIZE {
                return Err(format!("the answer is larger than {MAX_SIZE} bytes"));
            }
            body.extend_from_slice(&part);
        }
        let written = tokio::task::spawn_blocking(move || group::from_json(&body));
        let written = written.await.map_err(|e| e.to_string())??;

        let count = written.len();
        let whence = [("__meta_url", self.shown.as_str())];
        let source = |i: usize| format!("{}:{i}", self.shown);
        let groups = written.into_iter().enumerate();
        let groups = groups.map(|(i, written)| Group::new(source(i), written, &whence));
        let emptied = (count..self.groups).map(|i| Group {
            source: source(i),
            ..Group::default()
        });
        let groups = groups.chain(emptied).collect();
        self.groups = count;
        Ok(groups)
    }
}

impl Discoverer for Server {
    fn run(
        mut self: Box<Self>,
        updates: Updates,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let mut pause = tokio::time::interval(self.interval);
            pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = pause.tick() => {}
                }
                let began = Instant::now();
                let refreshed = tokio::select! {
                    () = stop.cancelled() => return,
                    refreshed = self.refresh() => refreshed,
                };
                self.counters.refreshed("http", began.elapsed());
                match refreshed {
                    Ok(groups) => updates.send(groups),
                    Err(error) => {
                        tracing::error!(
                            error,
                            url = self.shown,
                            "cannot refresh targets; keeping the last ones"
                        );
                        self.counters.http_failures.inc();
                        self.counters.refresh_failures.with(&["http"]).inc();
                    }
                }
            }
        })
    }
}

/// `application/json`, with perhaps the only character set that JSON has.
fn is_json(content_type: &str) -> bool {
    let lower = content_type.to_ascii_lowercase();
    match lower.split_once(';') {
        None => lower == "application/json",
        Some((kind, parameter)) => {
            let charset = parameter.trim_start();
            kind == "application/json"
                && (charset == "charset=utf-8" || charset == "charset=\"utf-8\"")
        }
    }
}
