//! The page over made-up data, to look at it: `cargo run -p api --example page -- 127.0.0.1:9595`.
//! The data is a few hours of a few hundred series; targets, blocks and the bucket are invented.

use std::sync::Arc;

use api::{BuildInfo, Options, RuntimeInfo, ready};
use chunk::memory::MemorySource;
use model::report::{
    ActiveTarget, BucketBlock, BucketReport, BucketStatus, HeadReport, HeadStatistics, Health,
    LocalBlock, Metadata, MetadataReport, MetricType, Targets, TargetsReport,
};
use model::time::{Clock, WallClock};
use model::{Labels, Matcher, Millis, Sample, Str, TimeRange};
use promql::{Engine, EngineOptions};
use wire::server::{Server, Settings};

const HOUR: Millis = 3_600_000;
const STEP: Millis = 15_000;

fn series(now: Millis) -> Vec<(Labels, Vec<Sample>)> {
    let mut all = Vec::new();
    let mut seed = 1u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 40) as f64 / (1u64 << 24) as f64
    };
    let times: Vec<Millis> = (0..6 * HOUR / STEP).rev().map(|i| now - i * STEP).collect();
    for instance in 0..4 {
        let host = format!("node-{instance}:9100");
        let with = |name: &str, more: &[(&str, &str)]| {
            let common = [("__name__", name), ("job", "node"), ("instance", &host)];
            Labels::from_pairs(common.iter().chain(more).copied())
        };
        let up = times.iter().map(|&ts| Sample {
            ts,
            value: f64::from(u8::from(instance != 3 || ts < now - HOUR)),
        });
        all.push((with("up", &[]), up.collect()));
        for (mode, share) in [
            ("idle", 0.7),
            ("user", 0.2),
            ("system", 0.08),
            ("iowait", 0.02),
        ] {
            let mut total = 0.0;
            let samples = times.iter().map(|&ts| {
                let wave = (ts as f64 / 2e6 + f64::from(instance)).sin() * 0.3 + 1.0;
                total += share * wave * 15.0 * (0.9 + 0.2 * random());
                Sample { ts, value: total }
            });
            let samples = samples.collect();
            all.push((with("node_cpu_seconds_total", &[("mode", mode)]), samples));
        }
        let mut level = 0.5;
        let memory = times.iter().map(|&ts| {
            level = (level + (random() - 0.5) * 0.02_f64).clamp(0.1, 0.95);
            Sample {
                ts,
                value: level * 16e9,
            }
        });
        all.push((
            with("node_memory_MemAvailable_bytes", &[]),
            memory.collect(),
        ));
        for path in 0..20 {
            let path = format!("/api/{path}");
            let mut total: f64 = 0.0;
            let samples = times.iter().map(|&ts| {
                total += (random() * 30.0).floor();
                Sample { ts, value: total }
            });
            let samples = samples.collect();
            all.push((
                with("http_requests_total", &[("path", &path), ("code", "200")]),
                samples,
            ));
        }
    }
    all
}

struct Reports {
    start: Millis,
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

impl Targets for Reports {
    fn targets(&self) -> TargetsReport {
        let now = WallClock.now();
        let target = |pool: &str, address: &str, health: Health| ActiveTarget {
            discovered_labels: labels(&[
                ("__address__", address),
                ("__metrics_path__", "/metrics"),
                ("__scheme__", "http"),
                ("job", pool),
            ]),
            labels: labels(&[("instance", address), ("job", pool), ("zone", "eu-1")]),
            scrape_pool: pool.into(),
            scrape_url: format!("http://{address}/metrics"),
            global_url: format!("http://{address}/metrics"),
            last_error: match health {
                Health::Down => "connection refused: is something listening there?".to_owned(),
                _ => String::new(),
            },
            last_scrape: if health == Health::Unknown {
                0
            } else {
                now - now % 15_000
            },
            last_duration: 0.0123,
            health,
            interval: 15_000,
            timeout: 10_000,
        };
        let mut active = vec![target("epimetheus", "localhost:9090", Health::Up)];
        for (i, health) in [Health::Up, Health::Up, Health::Unknown, Health::Down]
            .into_iter()
            .enumerate()
        {
            active.push(target("node", &format!("node-{i}:9100"), health));
        }
        TargetsReport {
            active,
            dropped: vec![],
            dropped_counts: vec![("node".into(), 7)],
        }
    }
}

impl MetadataReport for Reports {
    fn metadata(&self, _: Option<&str>) -> Vec<(Str, Vec<Metadata>)> {
        [
            (
                "http_requests_total",
                MetricType::Counter,
                "Requests that were answered.",
            ),
            (
                "node_cpu_seconds_total",
                MetricType::Counter,
                "Seconds the CPUs spent in each mode.",
            ),
            (
                "node_memory_MemAvailable_bytes",
                MetricType::Gauge,
                "Memory that can be had.",
            ),
        ]
        .into_iter()
        .map(|(name, kind, help)| {
            let unit = "".into();
            (
                name.into(),
                vec![Metadata {
                    kind,
                    help: help.into(),
                    unit,
                }],
            )
        })
        .collect()
    }

    fn target_metadata(&self, _: &[Matcher], _: Option<&str>) -> Vec<(Labels, Str, Metadata)> {
        vec![]
    }
}

impl HeadReport for Reports {
    fn head(&self, limit: usize) -> HeadStatistics {
        let stats = |all: &[(&str, u64)]| -> Vec<(Str, u64)> {
            all.iter()
                .take(limit)
                .map(|(n, v)| ((*n).into(), *v))
                .collect()
        };
        HeadStatistics {
            series: 104,
            label_pairs: 41,
            chunks: 1352,
            range: Some(TimeRange::new(self.start - 6 * HOUR, self.start)),
            series_by_metric: stats(&[
                ("http_requests_total", 80),
                ("node_cpu_seconds_total", 16),
                ("up", 4),
            ]),
            values_by_label: stats(&[("path", 20), ("instance", 4), ("mode", 4), ("__name__", 4)]),
            bytes_by_label: stats(&[("__name__", 4096), ("path", 1780), ("instance", 960)]),
            series_by_pair: stats(&[
                ("job=node", 104),
                ("code=200", 80),
                ("instance=node-0:9100", 26),
            ]),
        }
    }

    fn local_blocks(&self) -> Vec<LocalBlock> {
        let from = self.start / (2 * HOUR) * (2 * HOUR);
        (1..5)
            .map(|i| LocalBlock {
                ulid: format!("01KC4D6GXQA4CRHYKV78NEBV{i:02}").into(),
                min: from - i * 2 * HOUR,
                max: from - (i - 1) * 2 * HOUR,
                counts: (104, 49_920, 416),
                level: 1,
                sources: vec![],
                bytes: 74_211,
                shipped: Some(i > 1),
            })
            .collect()
    }
}

impl BucketReport for Reports {
    fn bucket(&self) -> BucketStatus {
        let from = self.start / (2 * HOUR) * (2 * HOUR);
        let block = |i: i64, level: u32, hours: i64| BucketBlock {
            ulid: format!("01KC4D6GXQA4CRHYKV78NE{level}{i:03}").into(),
            min: from - i * HOUR,
            max: from - (i - hours) * HOUR,
            counts: (104, 24_960 * hours as u64, 208 * hours as u64),
            level,
            resolution: if level > 2 { 300_000 } else { 0 },
            bytes: Some(37_105 * hours as u64),
            labels: labels(&[("cluster", "demo"), ("replica", "a")]),
            source: if level > 1 { "compactor" } else { "sidecar" }.into(),
        };
        let mut blocks: Vec<_> = (1..4).map(|i| block(i * 2, 1, 2)).collect();
        blocks.extend((1..4).map(|i| block(6 + i * 8, 2, 8)));
        blocks.push(block(78, 3, 48));
        // EMPTY=1 shows what a new installation shows.
        if std::env::var_os("EMPTY").is_some() {
            blocks.clear();
        }
        BucketStatus {
            location: "filesystem ./data/bucket".to_owned(),
            blocks,
            partial: 0,
            last_sync: WallClock.now() - 12_000,
            last_error: String::new(),
            next_block_due: Some(self.start + 4 * 60_000),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let listen = args.next().unwrap_or_else(|| "127.0.0.1:9595".to_owned());
    let prefix = args.next().unwrap_or_default();
    let start = WallClock.now();
    let source = Arc::new(MemorySource::new(series(start)));
    let pool = Arc::new(rayon::ThreadPoolBuilder::new().build()?);
    let engine = Engine::new(source.clone(), EngineOptions::default(), pool);
    let reports = Arc::new(Reports { start });
    let ready = api::Ready::default();
    ready.set(ready::State::Ready);
    let options = Options {
        evaluator: Some(Arc::new(engine)),
        source: Some(source),
        targets: Some(reports.clone()),
        metadata: Some(reports.clone()),
        head: Some(reports.clone()),
        bucket: Some(reports),
        config: Some(Arc::new(|| {
            "global:\n  scrape_interval: 15s\n  external_labels:\n    replica: a\nscrape_configs:\n\
             - job_name: node\n  static_configs:\n  - targets:\n    - node-0:9100\n"
                .to_owned()
        })),
        runtime: Some(Arc::new(move || RuntimeInfo {
            start_time: start - 3 * HOUR,
            cwd: "/srv/epimetheus".to_owned(),
            hostname: "demo".to_owned(),
            reload_success: true,
            last_config_time: start - 3 * HOUR,
            corruption_count: 0,
            tasks: 12,
            threads: 2,
            memory_limit: 3 << 30,
            retention: "15d".to_owned(),
            role: "all-in-one".to_owned(),
        })),
        flags: [
            ("web.listen-address", "0.0.0.0:9090"),
            ("storage.tsdb.path", "data/tsdb"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        build: BuildInfo {
            version: "3.14.0".to_owned(),
            application: "Epimetheus".to_owned(),
            application_version: "0.1.0".to_owned(),
            go_version: "rustc 1.95".to_owned(),
            ..BuildInfo::default()
        },
        ready,
        external_path: prefix.clone(),
        ..Options::default()
    };
    let settings = Settings {
        listen: vec![listen],
        ..Settings::default()
    };
    let server = Server::bind(settings, &options.registry).await?;
    println!("http://{}{prefix}/query", server.addresses()[0]);
    let app = wire::server::prefix::mount(api::router(options), &prefix);
    server.serve(app, std::future::pending()).await?;
    Ok(())
}
