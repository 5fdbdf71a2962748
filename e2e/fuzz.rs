//! Random queries over generated data, asked of us and of real Prometheus: equal answers.
//!
//! Prometheus 3 (`EPIMETHEUS_PROMETHEUS3`, or `prometheus3` on `PATH`) is compared with in
//! everything an answer holds: labels, values, error texts and types, warnings, infos. Prometheus
//! 2.x (`prometheus` on `PATH`) is asked off the sample grid about what means the same there, and
//! compared in labels and values. `EPIMETHEUS_FUZZ_QUERIES` and `EPIMETHEUS_FUZZ_SEED` make the
//! run longer or another.

mod data;
mod grammar;
mod held;
mod kept;
mod mangle;

use std::path::Path;

use serde_json::Value;

use crate::compare::{equal, equal_answers};
use crate::fleet::role;
use crate::peers::{prometheus3, thanos};
use crate::process::{Process, available, free_port};
use crate::random::Random;
use grammar::{Grammar, Language};

/// How many queries `make test` asks.
const QUICK: usize = 400;

/// When a query is asked.
#[derive(Clone, Debug)]
enum When {
    At(String),
    Range(String, String, String),
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().unwrap())
}

fn seconds(ms: i64) -> String {
    format!("{:.3}", ms as f64 / 1000.0)
}

fn when(random: &mut Random, on_grid: bool) -> When {
    let span = (data::END - data::START + 1_200_000) as usize;
    let time = |random: &mut Random| {
        let t = data::START - 300_000 + random.below(span) as i64;
        if on_grid && random.chance(30) {
            t / 15_000 * 15_000
        } else if on_grid {
            t
        } else {
            t / 1000 * 1000 + 777
        }
    };
    let start = time(random);
    if random.chance(50) {
        return When::At(seconds(start));
    }
    let step = [15, 30, 60, 61, 300, 1000][random.below(6)];
    let end = start + step * 1000 * random.below(60) as i64;
    When::Range(seconds(start), seconds(end), step.to_string())
}

async fn ask(server: &Process, query: &str, when: &When) -> Value {
    match when {
        When::At(time) => {
            let params = [("query", query), ("time", time)];
            server.get("/api/v1/query", &params).await
        }
        When::Range(start, end, step) => {
            let params = [
                ("query", query),
                ("start", start),
                ("end", end),
                ("step", step),
            ];
            server.get("/api/v1/query_range", &params).await
        }
    }
}

const FEATURES: &str = "--enable-feature=promql-experimental-functions,promql-duration-expr,promql-extended-range-selectors,promql-binop-fill-modifiers";

/// A folder for data and logs; it stays with `EPIMETHEUS_FUZZ_KEEP`, for trying queries by hand.
fn folder() -> tempfile::TempDir {
    let mut dir = tempfile::tempdir().unwrap();
    if std::env::var_os("EPIMETHEUS_FUZZ_KEEP").is_some() {
        println!("data and logs stay in {}", dir.path().display());
        dir.disable_cleanup(true);
    }
    dir
}

/// Both servers over copies of the same blocks.
async fn servers(dir: &Path, theirs: &Path, args: &[&str], of_ours: &[&str]) -> (Process, Process) {
    let config = dir.join("prometheus.yml");
    std::fs::write(&config, "global: {}\n").unwrap();
    let config = format!("--config.file={}", config.display());
    let path = |name: &str| {
        let path = dir.join(name);
        std::fs::create_dir_all(&path).unwrap();
        data::write(&path, 7);
        format!("--storage.tsdb.path={}", path.display())
    };
    let port = free_port();
    let listen = format!("--web.listen-address=127.0.0.1:{port}");
    let retention = "--storage.tsdb.retention.time=100y";
    let path_of_theirs = path("theirs");
    let mut all = vec![config.as_str(), &listen, &path_of_theirs, retention];
    all.extend(args);
    let mut theirs = Process::start(theirs, dir, port, &all);
    let path_of_ours = path("ours");
    let mut all = vec![config.as_str(), &path_of_ours, retention, FEATURES];
    all.extend(of_ours);
    let mut ours = Process::epimetheus(dir, "server", &all);
    theirs.wait_for("/-/ready").await;
    ours.wait_for("/-/ready").await;
    (ours, theirs)
}

/// Whether a counter's fall is read out of what a window that slides has added up. Prometheus adds every
/// window up anew, ours goes on from the one before: a value may differ in its last bit, which is a fall
/// or none.
fn turns_on_the_last_bit(query: &str) -> bool {
    let has = |names: &[&str]| names.iter().any(|name| query.contains(&format!("{name}(")));
    let slides = [
        "sum_over_time",
        "avg_over_time",
        "stddev_over_time",
        "stdvar_over_time",
        "deriv",
        "predict_linear",
    ];
    let falls = ["rate", "irate", "increase", "resets", "changes"];
    let subquery = [":]", "s:", "m:"].iter().any(|part| query.contains(part));
    subquery && has(&slides) && has(&falls)
}

/// Asks both servers, and gathers what differs.
struct Run<'a> {
    ours: &'a Process,
    theirs: &'a Process,
    whole: bool,
    asked: usize,
    failed: usize,
    empty: usize,
    undecided: usize,
    differences: Vec<String>,
}

impl Run<'_> {
    async fn compare(&mut self, query: &str, when: &When) {
        let (ours, theirs) =
            futures_util::join!(ask(self.ours, query, when), ask(self.theirs, query, when));
        self.asked += 1;
        let verdict = if self.whole {
            equal_answers(query, &ours, &theirs)
        } else if theirs["status"] != ours["status"] {
            // 2.x looks for several matches after the comparison, 3.x before it.
            let text = ours["error"].as_str().unwrap_or_default();
            if text.starts_with("multiple matches") || text.starts_with("found duplicate") {
                return;
            }
            Err(format!("{ours} and {theirs}"))
        } else if theirs["status"] == "success" {
            equal(query, &ours["data"], &theirs["data"])
        } else {
            Ok(())
        };
        self.failed += usize::from(theirs["status"] != "success");
        let empty = theirs["data"]["result"]
            .as_array()
            .is_some_and(Vec::is_empty);
        self.empty += usize::from(empty);
        if let Err(e) = verdict {
            // A defect of theirs: `anchored` shown where there is nothing to begin with.
            let broke = theirs["error"].as_str().unwrap_or_default();
            if broke.starts_with("unexpected error: runtime error") {
                self.undecided += 1;
                return;
            }
            if turns_on_the_last_bit(query)
                || self.is_up_to_chance(query, when, &ours, &theirs).await
            {
                self.undecided += 1;
                return;
            }
            let e: String = e.chars().take(600).collect();
            println!("DIFFERENT {query}\n  {when:?}\n  {e}");
            self.differences.push(format!("{query}\n  {when:?}\n  {e}"));
        }
    }

    /// Whether they themselves answer now this and now that, or once as we do: where Prometheus
    /// gathers series in a hash table, which of equals `topk` picks is up to chance.
    async fn is_up_to_chance(
        &self,
        query: &str,
        when: &When,
        ours: &Value,
        theirs: &Value,
    ) -> bool {
        const TIMES: usize = 8;
        for _ in 0..TIMES {
            let again = ask(self.theirs, query, when).await;
            if equal_answers(query, ours, &again).is_ok()
                || equal_answers(query, theirs, &again).is_err()
            {
                return true;
            }
        }
        false
    }

    /// The queries that were answered differently once, then random ones.
    async fn all(&mut self, language: Language, on_grid: bool) {
        for (query, when) in kept::QUERIES {
            if language.three || kept::means_the_same_in_2(query) {
                self.compare(query, &kept::when(*when)).await;
            }
        }
        let kept = self.asked;
        let seed = number("EPIMETHEUS_FUZZ_SEED", 6);
        let count = number("EPIMETHEUS_FUZZ_QUERIES", QUICK as u64);
        let mut random = Random::new(seed);
        for _ in 0..count {
            let query = Grammar {
                random: &mut random,
                language,
            }
            .query();
            let when = when(&mut random, on_grid);
            if !language.three && !kept::means_the_same_in_2(&query) {
                continue;
            }
            self.compare(&query, &when).await;
        }
        // Errors of 3.x are ours.
        for _ in 0..if language.three { count } else { 0 } {
            let query = Grammar {
                random: &mut random,
                language,
            }
            .query();
            let query = mangle::mangle(&mut random, &query);
            if !query.trim().is_empty() {
                self.compare(&query, &When::At(seconds(data::START + 3_000_777)))
                    .await;
            }
        }
        println!(
            "seed {seed}: {kept} kept and {count} random queries (with as many mangled ones in 3.x); {} failed alike, {} were empty, {} up to chance, {} differ",
            self.failed,
            self.empty,
            self.undecided,
            self.differences.len()
        );
        assert!(
            self.differences.is_empty(),
            "{} of {} queries differ:\n{}",
            self.differences.len(),
            self.asked,
            self.differences
                .iter()
                .take(20)
                .cloned()
                .collect::<Vec<_>>()
                .join("\n")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_queries_answer_as_in_prometheus_3() {
    let Some(program) = prometheus3("random_queries_answer_as_in_prometheus_3") else {
        return;
    };
    let dir = folder();
    let (ours, theirs) = servers(dir.path(), &program, &[FEATURES], &[]).await;
    let mut run = Run {
        ours: &ours,
        theirs: &theirs,
        whole: true,
        asked: 0,
        failed: 0,
        empty: 0,
        undecided: 0,
        differences: Vec::new(),
    };
    run.all(Language { three: true }, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_queries_answer_as_in_prometheus_2() {
    if !available("prometheus", "random_queries_answer_as_in_prometheus_2") {
        return;
    }
    let dir = folder();
    let (ours, theirs) = servers(dir.path(), Path::new("prometheus"), &[], &[]).await;
    let mut run = Run {
        ours: &ours,
        theirs: &theirs,
        whole: false,
        asked: 0,
        failed: 0,
        empty: 0,
        undecided: 0,
        differences: Vec::new(),
    };
    run.all(Language { three: false }, false).await;
}

/// `xrate` and its kin are Thanos' own: its querier and ours over one server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_extended_rates_answer_as_in_thanos() {
    let Some(thanos) = thanos("random_extended_rates_answer_as_in_thanos") else {
        return;
    };
    let dir = folder();
    let config = dir.path().join("prometheus.yml");
    std::fs::write(&config, "global: {external_labels: {cluster: one}}\n").unwrap();
    let blocks = dir.path().join("blocks");
    std::fs::create_dir_all(&blocks).unwrap();
    data::write(&blocks, 7);
    let grpc = free_port();
    let args = [
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", blocks.display()),
        format!("--grpc-address=127.0.0.1:{grpc}"),
        "--storage.tsdb.retention.time=100y".to_owned(),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut server = Process::epimetheus(dir.path(), "server", &args);
    server.wait_for("/-/ready").await;
    let args = [
        format!("--endpoint=127.0.0.1:{grpc}"),
        "--query.enable-x-functions".to_owned(),
        "--query.promql-engine=thanos".to_owned(),
    ];
    let own = Path::new(env!("CARGO_BIN_EXE_epimetheus"));
    let ours = role(own, dir.path(), "query", &args).await.process;
    let theirs = role(&thanos, dir.path(), "query", &args).await.process;
    for querier in [&ours, &theirs] {
        let found = |v: &Value| v.as_array().is_some_and(|r| !r.is_empty());
        querier
            .wait_until("count({__name__=~\".+\"} @ 1700000000)", found)
            .await;
    }
    let mut random = Random::new(number("EPIMETHEUS_FUZZ_SEED", 6));
    for _ in 0..number("EPIMETHEUS_FUZZ_QUERIES", QUICK as u64) {
        let function = random.pick(&["xrate", "xincrease", "xdelta"]);
        // Thanos' store makes counters of what these two eat, and numbers below zero are none.
        let metric = match function {
            "xdelta" => random.pick(&["requests_total", "temperature", "queue_length"]),
            _ => random.pick(&["requests_total", "latency_seconds_bucket"]),
        };
        let matchers = random.pick(&["", "{job=\"db\"}", "{instance=~\".*-[01]:.*\"}"]);
        let range = random.pick(&["30s", "1m", "5m", "17m", "1h"]);
        let shift = random.pick(&["", "", "", " offset 7m", " @ 1700003600"]);
        let mut query = format!("{function}({metric}{matchers}[{range}]{shift})");
        if random.chance(30) {
            query = format!("max by (job) ({query})");
        }
        // In a range whose steps are longer than its window Thanos forgets samples.
        let when = match when(&mut random, true) {
            When::Range(start, end, _) if shift.is_empty() => When::Range(start, end, "30".into()),
            When::Range(start, ..) | When::At(start) => When::At(start),
        };
        let (a, b) = futures_util::join!(ask(&ours, &query, &when), ask(&theirs, &query, &when));
        assert_eq!(b["status"], "success", "{query}: {b}");
        if let Err(e) = equal(&query, &a["data"], &b["data"]) {
            panic!("{query}\n  {when:?}\n  {e}");
        }
    }
}
