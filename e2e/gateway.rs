//! The store gateway and the querier measured, for docs/benchmarks.md: requests, rounds and bytes of queries over
//! S3 with 20 ms a request (beside a real Thanos where there is one), memory of large queries, the start over
//! many blocks, and a querier among dead and slow endpoints. They take minutes and are run by hand:
//! `EPIMETHEUS_MEASURE=target/release/epimetheus cargo test --test e2e -- --ignored --nocapture gateway::`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use block::index::SymbolSet;
use block::meta::{File, Thanos};
use block::{Chunk, Meta, Writer};
use chunk::xor::Encoder;
use model::{Labels, TimeRange};
use s3kit::{Config, Server};
use serde_json::Value;
use ulid::Ulid;

use crate::fleet::{Role, role, wait};
use crate::peers::thanos;
use crate::process::{Process, free_port, status};

const HOUR: i64 = 3_600_000;
const START: i64 = 1_700_006_400_000;

/// The program that is measured.
fn measured() -> PathBuf {
    let built = std::env::var_os("EPIMETHEUS_MEASURE");
    built.map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_epimetheus")),
        PathBuf::from,
    )
}

/// What a block has: `series` of each of `metrics`, a sample every 15 s for two hours.
struct Shape {
    metrics: usize,
    series: usize,
    /// Values of which no two are alike, which take eight bytes each; else counters.
    noise: bool,
}

/// Writes a block straight into the bucket; gives its bytes of chunks.
fn put(server: &Server, number: u64, shape: &Shape) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let from = START + number as i64 * 2 * HOUR;
    let mut all: Vec<Labels> = Vec::new();
    for metric in 0..shape.metrics {
        for n in 0..shape.series {
            let (metric, instance) = (format!("metric_{metric:03}"), format!("host-{n:06}:9100"));
            let pairs = [
                ("__name__", metric.as_str()),
                ("instance", instance.as_str()),
                ("job", "node"),
            ];
            all.push(Labels::from_pairs(pairs));
        }
    }
    all.sort();
    let texts = all.iter().flat_map(|l| l.iter().flat_map(|(n, v)| [n, v]));
    let symbols = SymbolSet::collect(texts.collect::<std::collections::BTreeSet<_>>());
    // All series have the same samples: what is measured does not look at them.
    let chunks: Vec<(i64, i64, Vec<u8>)> = (0..4i64)
        .map(|part| {
            let mut encoder = Encoder::new();
            let at = |i: i64| from + (part * 120 + i) * 15_000;
            let mut dice = 0x9e37_79b9_7f4a_7c15u64;
            for i in 0..120 {
                dice = dice.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
                let value = match shape.noise {
                    true => f64::from_bits((dice >> 2) | 1),
                    false => ((part * 120 + i) * 7) as f64,
                };
                encoder.append(at(i), value);
            }
            (at(0), at(119), encoder.bytes().to_vec())
        })
        .collect();
    let chunks: Vec<Chunk<'_>> = chunks
        .iter()
        .map(|(min, max, data)| Chunk::xor(*min, *max, data))
        .collect();
    let ulid = Ulid::from_parts(1_700_000_000_000 + number, u128::from(number) + 1);
    let mut meta = Meta::new(ulid, TimeRange::new(from, from + 2 * HOUR - 1));
    meta.thanos = Some(Thanos {
        version: 1,
        labels: [("cluster".to_owned(), "eu".to_owned())].into(),
        source: "sidecar".into(),
        ..Thanos::default()
    });
    let mut writer = Writer::create(dir.path(), meta, symbols).unwrap();
    for labels in &all {
        writer.add_labels(labels, &chunks).unwrap();
    }
    let mut meta = writer.finish().unwrap().unwrap();
    let folder = dir.path().join(ulid.to_string());
    let mut bytes = 0;
    let mut files = Vec::new();
    let mut segments: Vec<_> = std::fs::read_dir(folder.join("chunks"))
        .unwrap()
        .flatten()
        .collect();
    segments.sort_by_key(std::fs::DirEntry::file_name);
    let mut upload = |rel_path: String, content: Vec<u8>| {
        files.push(File {
            rel_path: rel_path.clone(),
            size_bytes: content.len() as u64,
            hash: None,
        });
        server.put(&format!("{ulid}/{rel_path}"), content);
    };
    for segment in segments {
        let content = std::fs::read(segment.path()).unwrap();
        bytes += content.len() as u64;
        let name = segment.file_name().into_string().unwrap();
        upload(format!("chunks/{name}"), content);
    }
    upload(
        "index".to_owned(),
        std::fs::read(folder.join("index")).unwrap(),
    );
    meta.thanos.as_mut().unwrap().files = files;
    server.put(&format!("{ulid}/meta.json"), meta.to_json());
    bytes
}

fn s3(server: &Server) -> String {
    let (access, secret) = server.keys();
    format!(
        "--objstore.config=type: S3\nconfig: {{bucket: {}, endpoint: '{}', insecure: true, access_key: {access}, secret_key: {secret}}}\n",
        server.bucket(),
        server.host_port(),
    )
}

async fn store(program: &Path, dir: &Path, server: &Server, more: &[&str]) -> Role {
    let mut args = vec![
        s3(server),
        format!("--data-dir={}", dir.join("store").display()),
    ];
    args.extend(more.iter().map(|&a| a.to_owned()));
    role(program, dir, "store", &args).await
}

/// Our querier over a store that has some series.
async fn querier(dir: &Path, over: &[String]) -> Role {
    let mut args: Vec<String> = over.iter().map(|a| format!("--endpoint={a}")).collect();
    args.push("--query.timeout=10m".to_owned());
    role(&measured(), dir, "query", &args).await
}

fn address(role: &Role) -> String {
    format!("127.0.0.1:{}", role.grpc)
}

async fn knows(querier: &Role, count: usize) {
    wait("a querier to know its endpoints", 120, async || {
        let stores = querier.process.get("/api/v1/stores", &[]).await;
        let kinds = stores["data"].as_object().into_iter().flatten();
        let lists = kinds.filter_map(|(_, list)| list.as_array());
        let well = |s: &&Value| s["lastError"].is_null();
        lists.flatten().filter(well).count() >= count
    })
    .await;
}

/// A range query over all blocks; gives what it took.
async fn ask(querier: &Role, query: &str, blocks: u64, step: &str) -> Duration {
    let end = (START + blocks as i64 * 2 * HOUR) / 1000 - 15;
    let (start, end) = ((START / 1000).to_string(), end.to_string());
    let params = [
        ("query", query),
        ("start", &start),
        ("end", &end),
        ("step", step),
    ];
    let begun = Instant::now();
    let answer = querier.process.get("/api/v1/query_range", &params).await;
    let took = begun.elapsed();
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    assert!(answer["data"]["result"][0].is_object(), "{query}: {answer}");
    took
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Sums of a metric by the value of one label.
async fn metric(process: &Process, name: &str, having: &str) -> f64 {
    let text = reqwest::get(process.url("/metrics"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let lines = text
        .lines()
        .filter(|l| l.starts_with(name) && l.contains(having));
    lines
        .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes minutes; it is for docs/benchmarks.md"]
async fn requests_of_queries() {
    println!(
        "| series a block | query | who | requests | rounds | MiB read | fetched/touched | seconds |"
    );
    // An index of which all is kept with its header, one of which the postings are, and one of which nothing is.
    requests_over(12, 100, "host-00001.*").await;
    requests_over(12, 400, "host-0001.*").await;
    requests_over(3, 4000, "host-0001.*").await;
}

/// Queries over blocks of fifty metrics with so many series each.
async fn requests_over(blocks: u64, series: usize, some: &str) {
    let server = Server::start(Config::default()).unwrap();
    for number in 0..blocks {
        put(
            &server,
            number,
            &Shape {
                metrics: 50,
                series,
                noise: false,
            },
        );
    }
    let queries = [
        "sum(rate(metric_000[5m]))".to_owned(),
        "metric_001{instance=\"host-000023:9100\"}".to_owned(),
        format!("sum(rate(metric_002{{instance=~\"{some}\"}}[5m]))"),
        "sum by (job) ({__name__=~\"metric_0[1-4]0\"})".to_owned(),
    ];
    let mut programs = vec![("ours", measured())];
    programs.extend(thanos("requests_of_queries").map(|t| ("thanos", t)));
    for (who, program) in programs {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        for (n, query) in queries.iter().enumerate() {
            // The first time index-headers are made; then the process begins anew, its caches empty.
            if n == 0 {
                let mut warm = store(&program, dir, &server, &[]).await;
                let querier = querier(dir, &[address(&warm)]).await;
                knows(&querier, 1).await;
                ask(&querier, query, blocks, "60").await;
                warm.process.stop();
            }
            let mut cold = store(&program, dir, &server, &["--index-cache-size=250MB"]).await;
            let querier = querier(dir, &[address(&cold)]).await;
            knows(&querier, 1).await;
            server.set_latency(Duration::from_millis(20));
            server.counters().reset();
            let took = ask(&querier, query, blocks, "60").await;
            server.set_latency(Duration::ZERO);
            let all = server.counters().all();
            let sums = |kind: &'static str| {
                let name = format!("thanos_bucket_store_series_data_size_{kind}_bytes_sum");
                let process = &cold.process;
                async move { metric(process, &name, "").await }
            };
            println!(
                "| {} | `{query}` | {who} | {} | {} | {:.2} | {:.2} | {:.3} |",
                50 * series,
                all.requests,
                server.counters().rounds(),
                mib(all.bytes_out),
                sums("fetched").await / sums("touched").await,
                took.as_secs_f64()
            );
            if std::env::var_os("EPIMETHEUS_SHOW_REQUESTS").is_some() {
                for r in server.counters().log() {
                    println!("{:?} {} {:?} {}", r.op, r.key, r.range, r.bytes_out);
                }
            }
            cold.process.stop();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes minutes; it is for docs/benchmarks.md"]
async fn memory_of_large_queries() {
    println!(
        "| query | who | chunks MiB | store peak MiB | querier peak MiB | store CPU s | seconds |"
    );
    for (what, shape, blocks, query) in [
        (
            "100,000 series",
            Shape {
                metrics: 1,
                series: 100_000,
                noise: false,
            },
            1,
            "sum(rate(metric_000[5m]))",
        ),
        (
            "1 GiB of chunks",
            Shape {
                metrics: 1,
                series: 20_000,
                noise: true,
            },
            14,
            "count(count_over_time(metric_000[5m]))",
        ),
    ] {
        let server = Server::start(Config::default()).unwrap();
        let bytes: u64 = (0..blocks).map(|n| put(&server, n, &shape)).sum();
        let mut programs = vec![("ours", measured())];
        programs.extend(thanos("memory_of_large_queries").map(|t| ("thanos", t)));
        for (who, program) in programs {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path();
            let store = store(&program, dir, &server, &[]).await;
            let querier = querier(dir, &[address(&store)]).await;
            knows(&querier, 1).await;
            let took = ask(&querier, query, blocks, "300").await;
            let cpu = crate::process::cpu(store.process.id()).map_or(0.0, |c| c.0);
            println!(
                "| {what} | {who} | {:.0} | {:.0} | {:.0} | {cpu:.1} | {:.1} |",
                mib(bytes),
                mib(status(store.process.id(), "VmHWM:")),
                mib(status(querier.process.id(), "VmHWM:")),
                took.as_secs_f64()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes minutes; it is for docs/benchmarks.md"]
async fn start_over_many_blocks() {
    println!(
        "| blocks | who | first start s | restart s | resident MiB | KiB a block | requests first | restart |"
    );
    let server = Server::start(Config::default()).unwrap();
    put(
        &server,
        0,
        &Shape {
            metrics: 3,
            series: 20,
            noise: false,
        },
    );
    let first = Ulid::from_parts(1_700_000_000_000, 1).to_string();
    let file = |name: &str| server.get(&format!("{first}/{name}")).unwrap();
    let (index, chunks) = (file("index"), file("chunks/000001"));
    let meta = Meta::parse(&file("meta.json")).unwrap();
    let mut known = 1u64;
    for blocks in [1u64, 5_000, 10_000] {
        for number in known..blocks {
            let ulid = Ulid::from_parts(1_700_000_000_000 + number, 7);
            let shift = number as i64 * 2 * HOUR;
            let mut meta = meta.clone();
            meta.ulid = ulid;
            meta.compaction.sources = vec![ulid];
            (meta.min_time, meta.max_time) = (meta.min_time - shift, meta.max_time - shift);
            server.put(&format!("{ulid}/index"), index.clone());
            server.put(&format!("{ulid}/chunks/000001"), chunks.clone());
            server.put(&format!("{ulid}/meta.json"), meta.to_json());
        }
        known = known.max(blocks);
        let mut programs = vec![("ours", measured())];
        if blocks <= 5_000 {
            programs.extend(thanos("start_over_many_blocks").map(|t| ("thanos", t)));
        }
        for (who, program) in programs {
            let dir = tempfile::tempdir().unwrap();
            let mut taken = Vec::new();
            let mut resident = 0;
            for _ in 0..2 {
                server.counters().reset();
                let begun = Instant::now();
                let args = [
                    s3(&server),
                    format!("--data-dir={}", dir.path().join("store").display()),
                ];
                let mut store = role(&program, dir.path(), "store", &args).await;
                // Ready is when all of them can be answered from.
                wait("all blocks", 600, async || {
                    metric(&store.process, "thanos_bucket_store_blocks_loaded", "").await
                        >= blocks as f64
                })
                .await;
                taken.push((begun.elapsed(), server.counters().all().requests));
                resident = status(store.process.id(), "VmRSS:");
                store.process.stop();
            }
            println!(
                "| {blocks} | {who} | {:.2} | {:.2} | {:.1} | {:.1} | {} | {} |",
                taken[0].0.as_secs_f64(),
                taken[1].0.as_secs_f64(),
                mib(resident),
                resident as f64 / 1024.0 / blocks as f64,
                taken[0].1,
                taken[1].1
            );
        }
    }
}

/// Passes bytes on to `to`, those that come back `late`.
async fn slow(to: String, late: Duration) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                let Ok(far) = tokio::net::TcpStream::connect(to).await else {
                    return;
                };
                let (mut near_in, mut near_out) = near.into_split();
                let (mut far_in, mut far_out) = far.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut near_in, &mut far_out).await });
                let mut buffer = vec![0; 64 << 10];
                loop {
                    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                    match far_in.read(&mut buffer).await {
                        Ok(n) if n > 0 => {
                            tokio::time::sleep(late).await;
                            if near_out.write_all(&buffer[..n]).await.is_err() {
                                return;
                            }
                        }
                        _ => return,
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes minutes; it is for docs/benchmarks.md"]
async fn a_querier_among_twenty_endpoints() {
    let server = Server::start(Config::default()).unwrap();
    put(
        &server,
        0,
        &Shape {
            metrics: 5,
            series: 200,
            noise: false,
        },
    );
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (http, grpc) = (free_port(), free_port());
    let args = [
        "store".to_owned(),
        s3(&server),
        format!("--data-dir={}", dir.join("store").display()),
        format!("--http-address=127.0.0.1:{http}"),
        format!("--grpc-address=0.0.0.0:{grpc}"),
    ];
    let mut store = Process::start(measured(), dir, http, args);
    store.wait_for("/-/ready").await;
    let near: Vec<String> = (1..=18).map(|n| format!("127.0.0.{n}:{grpc}")).collect();
    let far = slow(format!("127.0.0.1:{grpc}"), Duration::from_millis(700)).await;
    println!("| endpoints | who | median ms | worst ms | warnings | whole of 31 |");
    let mut programs = vec![("ours", measured())];
    programs.extend(thanos("a_querier_among_twenty_endpoints").map(|t| ("thanos", t)));
    for (who, program) in programs {
        for (what, more, flags) in [
            ("18 well", vec![], &[][..]),
            ("18 well, one dead", vec!["127.0.0.1:1".to_owned()], &[]),
            (
                "18 well, one dead, one slow (700 ms a message)",
                vec!["127.0.0.1:1".to_owned(), format!("127.0.0.1:{far}")],
                &[],
            ),
            (
                "the same, --store.response-timeout=200ms",
                vec!["127.0.0.1:1".to_owned(), format!("127.0.0.1:{far}")],
                &["--store.response-timeout=200ms"][..],
            ),
        ] {
            let mut args: Vec<String> = near
                .iter()
                .chain(&more)
                .map(|a| format!("--endpoint={a}"))
                .collect();
            args.extend(flags.iter().map(|&f| f.to_owned()));
            let querier = role(&program, dir, "query", &args).await;
            knows(&querier, 18 + usize::from(more.len() == 2)).await;
            let time = (START / 1000 + 3600).to_string();
            let params = [("query", "sum(metric_001)"), ("time", time.as_str())];
            let mut taken = Vec::new();
            let (mut said, mut whole) = (Value::Null, 0);
            for _ in 0..31 {
                let begun = Instant::now();
                said = querier.process.get("/api/v1/query", &params).await;
                taken.push(begun.elapsed().as_secs_f64() * 1e3);
                whole += usize::from(said["data"]["result"][0]["value"][1] == "336000");
            }
            taken.sort_by(f64::total_cmp);
            println!(
                "| {what} | {who} | {:.1} | {:.1} | {} | {whole} |",
                taken[15],
                taken[30],
                said["warnings"].as_array().map_or(0, Vec::len)
            );
        }
    }
}
