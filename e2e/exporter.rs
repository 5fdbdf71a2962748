//! An exporter whose samples carry explicit timestamps and move on only when every scraper has
//! seen them, so that two servers hold exactly the same data.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::get;

/// One step of the exporter's clock.
pub const STEP_MS: i64 = 15_000;

#[derive(Default)]
struct Inner {
    tick: usize,
    /// Scraper (its User-Agent's first word) -> the last tick it was given in full.
    seen: HashMap<String, usize>,
}

/// The exporter.
#[derive(Clone)]
pub struct Exporter {
    inner: Arc<Mutex<Inner>>,
    base: i64,
    explicit: bool,
    /// Where it listens.
    pub port: u16,
}

impl Exporter {
    /// Starts one whose first tick is at `base` ms and whose samples say so.
    pub async fn start(base: i64) -> Self {
        Self::listen(base, true).await
    }

    /// Starts one whose samples leave the time to the scraper.
    pub async fn without_timestamps() -> Self {
        Self::listen(0, false).await
    }

    async fn listen(base: i64, explicit: bool) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let exporter = Self {
            inner: Arc::default(),
            base,
            explicit,
            port,
        };
        let router = axum::Router::new()
            .route("/metrics", get(serve))
            .with_state(exporter.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        exporter
    }

    /// The time of a tick, ms.
    pub fn time(&self, tick: usize) -> i64 {
        self.base + tick as i64 * STEP_MS
    }

    /// Runs `ticks` ticks, each until all of `scrapers` (by User-Agent) have taken it twice: the
    /// second request proves that the first answer was taken whole.
    pub async fn run(&self, ticks: usize, scrapers: &[&str]) {
        for _ in 0..ticks {
            let tick = {
                let mut inner = self.inner.lock().unwrap();
                inner.tick += 1;
                inner.seen.clear();
                inner.tick
            };
            let mut waited = 0;
            loop {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let done = {
                    let inner = self.inner.lock().unwrap();
                    scrapers
                        .iter()
                        .all(|s| inner.seen.get(*s).is_some_and(|n| *n >= 2))
                };
                if done {
                    break;
                }
                waited += 1;
                assert!(
                    waited < 3000,
                    "tick {tick} was not scraped by all of {scrapers:?}"
                );
            }
        }
    }
}

async fn serve(
    State(exporter): State<Exporter>,
    headers: HeaderMap,
) -> ([(&'static str, &'static str); 1], String) {
    let agent = headers
        .get("user-agent")
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let agent = agent.split('/').next().unwrap_or_default().to_owned();
    let tick = {
        let mut inner = exporter.inner.lock().unwrap();
        *inner.seen.entry(agent).or_default() += 1;
        inner.tick
    };
    let content_type = ("content-type", "text/plain; version=0.0.4; charset=utf-8");
    let text = body(tick, exporter.time(tick));
    if exporter.explicit {
        return ([content_type], text);
    }
    let stamp = format!(" {}\n", exporter.time(tick));
    ([content_type], text.replace(&stamp, "\n"))
}

/// Deterministic noise in 0..1.
fn noise(tick: usize, series: usize) -> f64 {
    let mut x = (tick as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (series as u64) << 17;
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Counters with resets, gauges with NaN and Inf, a histogram, series that come and go.
fn body(tick: usize, ts: i64) -> String {
    let mut out = String::new();
    out.push_str("# HELP e2e_requests_total Requests.\n# TYPE e2e_requests_total counter\n");
    for (s, (job, code)) in [
        ("a", "200"),
        ("a", "500"),
        ("b", "200"),
        ("b", "500"),
        ("c", "200"),
        ("c", "404"),
    ]
    .into_iter()
    .enumerate()
    {
        // A restart every 37 ticks sets the counters of one service back.
        let since = if job == "b" { tick % 37 } else { tick + 100 };
        let value: f64 = (0..=since).map(|t| (noise(t, s) * 20.0).floor()).sum();
        let _ = writeln!(
            out,
            "e2e_requests_total{{service=\"{job}\",code=\"{code}\"}} {value} {ts}"
        );
    }
    out.push_str("# TYPE e2e_temperature gauge\n");
    for s in 0..8 {
        // Two series come and go.
        if s >= 6 && (tick / 9 + s).is_multiple_of(2) {
            continue;
        }
        let value = match (s, tick % 23) {
            (3, 5) => "NaN".to_owned(),
            (4, 7) => "+Inf".to_owned(),
            _ => format!("{}", (noise(tick, 100 + s) * 4000.0).round() / 100.0 - 7.0),
        };
        let zone = if s % 2 == 0 { "north" } else { "south" };
        let _ = writeln!(
            out,
            "e2e_temperature{{sensor=\"s{s}\",zone=\"{zone}\"}} {value} {ts}"
        );
    }
    out.push_str("# TYPE e2e_zone_info gauge\n");
    for (zone, owner) in [("north", "ada"), ("south", "grace")] {
        let _ = writeln!(
            out,
            "e2e_zone_info{{zone=\"{zone}\",owner=\"{owner}\"}} 1 {ts}"
        );
    }
    out.push_str("# TYPE e2e_latency_seconds histogram\n");
    for (s, service) in ["a", "b"].into_iter().enumerate() {
        let mut total = 0.0;
        for (b, le) in ["0.05", "0.1", "0.25", "0.5", "1", "2.5", "+Inf"]
            .into_iter()
            .enumerate()
        {
            let count: f64 = (0..=tick)
                .map(|t| (noise(t, 1000 + s * 50 + b) * 9.0).floor())
                .sum();
            total += count;
            let _ = writeln!(
                out,
                "e2e_latency_seconds_bucket{{service=\"{service}\",le=\"{le}\"}} {total} {ts}"
            );
        }
        let _ = writeln!(
            out,
            "e2e_latency_seconds_sum{{service=\"{service}\"}} {} {ts}",
            total * 0.3
        );
        let _ = writeln!(
            out,
            "e2e_latency_seconds_count{{service=\"{service}\"}} {total} {ts}"
        );
    }
    out
}
