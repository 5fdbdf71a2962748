//! How many samples a query holds and looks at, beside real Prometheus: what `stats` says, and what
//! `--query.max-samples` refuses.
//!
//! Prometheus counts step by step, ours by series, so the most that are held may differ by what one
//! step or one window has: see `docs/query.md`.

use std::path::Path;

use serde_json::Value;

use super::{
    FEATURES, Grammar, Language, QUICK, Random, When, data, folder, number, seconds, servers,
};
use crate::peers::prometheus3;
use crate::process::Process;

/// Every operator, of instant and range queries.
const QUERIES: &[&str] = &[
    "1",
    "time() * 2",
    "temperature",
    "-temperature",
    "temperature * 2",
    "2 * temperature > 10",
    "abs(temperature)",
    "round(temperature, 5)",
    "clamp(temperature, 0, 10)",
    "timestamp(temperature)",
    "timestamp(-temperature)",
    "rate(requests_total[5m])",
    "sum by (job) (rate(requests_total[5m]))",
    "quantile_over_time(0.9, temperature[10m])",
    "predict_linear(temperature[10m], 600) / 2",
    "last_over_time(temperature[1h])",
    "sum(temperature)",
    "count by (instance) (temperature) + count by (instance) (requests_total)",
    "stddev without (instance) (temperature)",
    "topk(2, temperature)",
    "topk(scalar(count(temperature)) - 1, temperature)",
    "bottomk by (job) (1, requests_total)",
    "limitk(3, requests_total)",
    "limit_ratio(0.5, requests_total)",
    "quantile(0.9, temperature)",
    "count_values(\"v\", round(temperature, 20))",
    "requests_total / on (job, instance, code) requests_total",
    "requests_total * on (instance) group_left temperature",
    "temperature and on (instance) requests_total",
    "temperature or queue_length",
    "requests_total unless on (instance) temperature",
    "histogram_quantile(0.9, latency_seconds_bucket)",
    "histogram_quantile(0.9, sum by (le) (rate(latency_seconds_bucket[5m])))",
    "label_replace(temperature, \"x\", \"$1\", \"instance\", \"(.*):.*\")",
    "label_join(temperature, \"x\", \"-\", \"instance\", \"job\")",
    "absent(temperature)",
    "absent_over_time(temperature[10m])",
    "absent(nothing)",
    "scalar(sum(temperature)) + temperature",
    "vector(1) + temperature * on () group_left vector(2)",
    "sort(temperature)",
    "sort_by_label(temperature, \"instance\")",
    "max_over_time(temperature[1h:1m])",
    "max_over_time(sum(rate(requests_total[5m]))[30m:1m])",
    "avg_over_time(max_over_time(temperature[10m:30s])[20m:2m])",
    "temperature @ end()",
    "rate(requests_total[5m] @ end()) * 2",
    "max_over_time(temperature[30m:1m] @ start())",
    "hour(temperature)",
    "info(temperature)",
    "last_over_time({__name__=~\".*_total\"}[1h])",
    "sum(count_over_time(requests_total[10m]))",
];

/// When each is asked: at one time, at few steps and at many.
fn times() -> [When; 3] {
    let start = data::START + 7_000_777;
    let range = |steps: i64, step: i64| {
        let end = start + steps * step * 1000;
        When::Range(seconds(start), seconds(end), step.to_string())
    };
    [When::At(seconds(start)), range(2, 300), range(100, 60)]
}

async fn ask(server: &Process, query: &str, when: &When) -> Value {
    let mut params = vec![("query", query), ("stats", "all")];
    let path = match when {
        When::At(time) => {
            params.push(("time", time));
            "/api/v1/query"
        }
        When::Range(start, end, step) => {
            params.extend([("start", start.as_str()), ("end", end), ("step", step)]);
            "/api/v1/query_range"
        }
    };
    server.get(path, &params).await
}

/// The most samples that were held.
fn peak(answer: &Value) -> f64 {
    answer["data"]["stats"]["samples"]["peakSamples"]
        .as_f64()
        .unwrap()
}

/// Where ours is not within the band: its statistics but for the peak are to be the same.
fn differs(ours: &Value, theirs: &Value, width: Width) -> Option<String> {
    let without_peak = |answer: &Value| {
        let mut samples = answer["data"]["stats"]["samples"].clone();
        samples.as_object_mut().unwrap().remove("peakSamples");
        samples
    };
    let (a, b) = (without_peak(ours), without_peak(theirs));
    if a != b {
        return Some(format!("ours {a} theirs {b}").chars().take(900).collect());
    }
    let (a, b) = (peak(ours), peak(theirs));
    let edge = match width {
        Width::OneStep => most_of_a_step(theirs).max(8.0 + 0.05 * b),
        Width::Narrow => 0.0,
    };
    ((a - b).abs() > band(b).max(edge)).then(|| format!("peak of ours {a}, of theirs {b}"))
}

/// How far ours may be from a peak of theirs: where about as many series have samples at each step,
/// and where some begin and end between them.
#[derive(Clone, Copy)]
enum Width {
    Narrow,
    /// What one step looks at.
    OneStep,
}

fn band(theirs: f64) -> f64 {
    4.0 + 0.02 * theirs
}

/// The most samples that a step looks at.
fn most_of_a_step(answer: &Value) -> f64 {
    let steps = &answer["data"]["stats"]["samples"]["totalQueryableSamplesPerStep"];
    let steps = steps.as_array().into_iter().flatten();
    steps.filter_map(|s| s[1].as_f64()).fold(0.0, f64::max)
}

/// Whether the plan says that matchers of one side of a join narrow the other.
async fn narrows(ours: &Process, query: &str) -> bool {
    let plan = ours.get("/api/v1/query_explain", &[("query", query)]).await;
    plan.to_string().contains("narrowed by the other side's")
}

const STATISTICS: &str = "--enable-feature=promql-per-step-stats";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_hold_as_many_samples_as_in_prometheus_3() {
    let Some(program) = prometheus3("queries_hold_as_many_samples_as_in_prometheus_3") else {
        return;
    };
    let dir = folder();
    let features = [FEATURES, STATISTICS];
    let (ours, theirs) = servers(dir.path(), &program, &features, &[STATISTICS]).await;
    let mut wrong = Vec::new();
    let (mut asked, mut exact, mut narrowed) = (0, 0, 0);
    let mut compare = async |query: &str, when: &When, width: Width| {
        let (a, b) = futures_util::join!(ask(&ours, query, when), ask(&theirs, query, when));
        if b["status"] != "success" {
            return;
        }
        asked += 1;
        // What is left out of one side of a join, because the other has no such series, is not held.
        if narrows(&ours, query).await {
            narrowed += 1;
            return;
        }
        exact += usize::from(peak(&a) == peak(&b));
        if let Some(how) = differs(&a, &b, width) {
            println!("{query}\n  {when:?}\n  {how}");
            wrong.push(format!("{query}\n  {when:?}\n  {how}"));
        }
    };
    for query in QUERIES {
        for when in times() {
            compare(query, &when, Width::Narrow).await;
        }
    }
    let mut random = Random::new(number("EPIMETHEUS_FUZZ_SEED", 6));
    for _ in 0..number("EPIMETHEUS_FUZZ_QUERIES", QUICK as u64) {
        let language = Language { three: true };
        let query = Grammar {
            random: &mut random,
            language,
        }
        .query();
        // Prometheus counts the windows of smoothed instant selectors, and never lets go of them.
        if !query.contains("smoothed") {
            compare(&query, &super::when(&mut random, true), Width::OneStep).await;
        }
    }
    println!(
        "{asked} queries compared, the peak of {exact} the same, {} differ; {narrowed} joins narrowed",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Both servers, and what each says of the queries it is asked, at a limit.
async fn limited(dir: &Path, program: &Path, most: u64) -> (Process, Process) {
    let limit = format!("--query.max-samples={most}");
    let dir = dir.join(most.to_string());
    std::fs::create_dir_all(&dir).unwrap();
    servers(&dir, program, &[FEATURES, &limit], &[&limit]).await
}

/// What decides: whether it is refused, and with which words and type.
fn verdict(answer: &Value) -> [Value; 3] {
    ["status", "errorType", "error"].map(|field| answer[field].clone())
}

/// At each limit both refuse the same queries with the same words, but those whose own peak is within
/// the band around it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_samples_are_refused_as_in_prometheus_3() {
    let Some(program) = prometheus3("too_many_samples_are_refused_as_in_prometheus_3") else {
        return;
    };
    let dir = folder();
    let mut peaks = Vec::new();
    let (ours, theirs) = servers(dir.path(), &program, &[FEATURES], &[]).await;
    for query in QUERIES {
        for when in times() {
            let answer = ask(&theirs, query, &when).await;
            assert_eq!(answer["status"], "success", "{query}: {answer}");
            peaks.push((*query, when, peak(&answer)));
        }
    }
    drop((ours, theirs));
    let (mut refused, mut at_the_edge) = (0, 0);
    for most in [2, 20, 60, 200, 800, 3000, 8000] {
        let (ours, theirs) = limited(dir.path(), &program, most).await;
        for (query, when, peak) in &peaks {
            let (a, b) = futures_util::join!(ask(&ours, query, when), ask(&theirs, query, when));
            if (peak - most as f64).abs() <= band(*peak) {
                at_the_edge += 1;
                continue;
            }
            assert_eq!(
                verdict(&a),
                verdict(&b),
                "{query} {when:?} at {most}, held {peak}"
            );
            refused += usize::from(b["status"] == "error");
            // The peak that is told is the limit that decides.
            assert_eq!(
                b["status"] == "error",
                *peak > most as f64,
                "{query} at {most}: {peak}"
            );
        }
    }
    println!("{refused} refused alike, {at_the_edge} at the edge of a limit");
}
