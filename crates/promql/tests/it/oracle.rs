//! Random queries over random data, ours against a real Prometheus 3 that reads a block of ours.
//!
//! `EPIMETHEUS_PROMETHEUS3` names the binary; `ORACLE_QUERIES` and `ORACLE_SEED` say how many
//! queries there are, and which. `ORACLE_EXPR` asks that query alone, at `ORACLE_WHEN` (a time in ms,
//! or start, end and step), and shows both answers.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use block::index::SymbolSet;
use block::{Chunk, Meta, Writer};
use chunk::memory::{MemorySource, StoredSeries};
use futures::executor::block_on;
use promql::features::Features;
use promql::value::QueryOptions;
use promql::{
    Engine, EngineOptions, Evaluator, InstantQuery, QueryError, QueryResult, RangeQuery, Value,
};
use serde_json::Value as Json;

use crate::oracle_data::{self, END, Random, START};

/// A Prometheus 3, if there is one.
fn binary() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("EPIMETHEUS_PROMETHEUS3") {
        return Some(path.into());
    }
    let output = Command::new("prometheus").arg("--version").output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.contains("version 3.").then(|| "prometheus".into())
}

/// A server that ends with this.
struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(binary: &Path, data: &Path, delayed_names: bool) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let address = format!("127.0.0.1:{port}");
        let config = data.join("prometheus.yml");
        std::fs::write(&config, "").expect("the folder can be written");
        let mut features = "promql-experimental-functions,promql-extended-range-selectors,\
                            promql-binop-fill-modifiers,use-start-timestamps"
            .to_owned();
        if delayed_names {
            features.push_str(",promql-delayed-name-removal");
        }
        let child = Command::new(binary)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address={address}"))
            .arg(format!("--enable-feature={features}"))
            .arg("--storage.tsdb.retention.time=100y")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary can be run");
        let server = Self { child, address };
        let begun = Instant::now();
        while server
            .ask("/-/ready", "")
            .is_none_or(|a| !a.0.contains(" 200 "))
        {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "it does not get ready"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// First line and body of the answer.
    fn ask(&self, path: &str, form: &str) -> Option<(String, String)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let method = if form.is_empty() { "GET" } else { "POST" };
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let first = head.lines().next()?;
        Some((first.to_owned(), body.to_owned()))
    }

    fn query(&self, expr: &str, when: When) -> Answer {
        let encoded: String = expr.bytes().map(|b| format!("%{b:02X}")).collect();
        let (path, form) = match when {
            When::At(ts) => (
                "/api/v1/query",
                format!("query={encoded}&time={}", seconds(ts)),
            ),
            When::Range(start, end, step) => (
                "/api/v1/query_range",
                format!(
                    "query={encoded}&start={}&end={}&step={}",
                    seconds(start),
                    seconds(end),
                    seconds(step)
                ),
            ),
        };
        let (_, body) = self.ask(path, &form).expect("an answer");
        let json: Json = serde_json::from_str(&body).expect("JSON");
        Answer::of_json(&json)
    }
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

#[derive(Clone, Copy, Debug)]
enum When {
    At(i64),
    Range(i64, i64, i64),
}

#[derive(Clone, Debug, PartialEq)]
enum Point {
    Float(f64),
    /// Count, sum, buckets.
    Histogram(f64, f64, Vec<[f64; 4]>),
}

#[derive(Clone, Debug, Default)]
struct Answer {
    error: Option<String>,
    series: BTreeMap<String, BTreeMap<i64, Point>>,
    warnings: Vec<String>,
    infos: Vec<String>,
}

fn number(json: &Json) -> f64 {
    match json.as_str() {
        Some("+Inf") => f64::INFINITY,
        Some("-Inf") => f64::NEG_INFINITY,
        Some("NaN") => f64::NAN,
        Some(text) => text.parse().expect("a number"),
        None => json.as_f64().expect("a number"),
    }
}

impl Answer {
    fn of_json(json: &Json) -> Self {
        let texts = |name: &str| {
            let list = json[name].as_array().cloned().unwrap_or_default();
            let mut texts: Vec<String> = list
                .iter()
                .filter_map(|t| t.as_str().map(str::to_owned))
                .collect();
            texts.sort();
            texts
        };
        let mut answer = Answer {
            error: json["error"].as_str().map(|e| {
                e.trim_start_matches("invalid parameter \"query\": ")
                    .to_owned()
            }),
            warnings: texts("warnings"),
            infos: texts("infos"),
            ..Answer::default()
        };
        let result = &json["data"]["result"];
        if json["data"]["resultType"] == "scalar" {
            answer.point("", &result[0], Point::Float(number(&result[1])));
            return answer;
        }
        for one in result.as_array().into_iter().flatten() {
            let labels: BTreeMap<String, String> = one["metric"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(n, v)| (n.clone(), v.as_str().unwrap_or("").to_owned()))
                .collect();
            let labels = format!("{labels:?}");
            let float = |p: &Json| (p[0].clone(), Point::Float(number(&p[1])));
            let histogram = |p: &Json| {
                let h = &p[1];
                let buckets = h["buckets"].as_array().into_iter().flatten();
                let buckets = buckets
                    .map(|b| [number(&b[0]), number(&b[1]), number(&b[2]), number(&b[3])])
                    .collect();
                let point = Point::Histogram(number(&h["count"]), number(&h["sum"]), buckets);
                (p[0].clone(), point)
            };
            let mut points = Vec::new();
            if one["value"].is_array() {
                points.push(float(&one["value"]));
            }
            if one["histogram"].is_array() {
                points.push(histogram(&one["histogram"]));
            }
            points.extend(one["values"].as_array().into_iter().flatten().map(float));
            let histograms = one["histograms"].as_array().into_iter().flatten();
            points.extend(histograms.map(histogram));
            for (t, p) in points {
                answer.point(&labels, &t, p);
            }
        }
        answer
    }

    fn point(&mut self, labels: &str, t: &Json, point: Point) {
        let ms = (t.as_f64().expect("a time") * 1000.0).round() as i64;
        let series = self.series.entry(labels.to_owned()).or_default();
        series.insert(ms, point);
    }

    fn of_ours(result: Result<QueryResult, QueryError>) -> Self {
        let result = match result {
            Ok(result) => result,
            Err(e) => {
                return Answer {
                    error: Some(e.to_string()),
                    ..Answer::default()
                };
            }
        };
        let texts = |list: &[model::Str]| {
            let mut texts: Vec<String> = list.iter().map(|t| t.to_string()).collect();
            texts.sort();
            texts
        };
        let mut answer = Answer {
            warnings: texts(&result.warnings),
            infos: texts(&result.infos),
            ..Answer::default()
        };
        let labels = |labels: &model::Labels| {
            let map: BTreeMap<String, String> = labels
                .iter()
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .collect();
            format!("{map:?}")
        };
        let histogram = |h: &model::histogram::FloatHistogram| {
            let populated = h.view().ascending().filter(|b| b.count != 0.0);
            let buckets = populated.map(|b| {
                let code = match (b.lower_inclusive, b.upper_inclusive) {
                    (false, true) => 0.0,
                    (true, false) => 1.0,
                    (false, false) => 2.0,
                    (true, true) => 3.0,
                };
                [code, b.lower, b.upper, b.count]
            });
            Point::Histogram(h.count, h.sum, buckets.collect())
        };
        match result.value {
            Value::Scalar(t, v) => {
                let series = answer.series.entry(String::new()).or_default();
                series.insert(t, Point::Float(v));
            }
            Value::String(..) => {}
            Value::Vector(all) => {
                for s in all {
                    let point = match &s.histogram {
                        Some(h) => histogram(h),
                        None => Point::Float(s.value),
                    };
                    let series = answer.series.entry(labels(&s.labels)).or_default();
                    series.insert(s.ts, point);
                }
            }
            Value::Matrix(all) => {
                for s in all {
                    let series = answer.series.entry(labels(&s.labels)).or_default();
                    for (t, v) in s.ts.iter().zip(&s.values) {
                        series.insert(*t, Point::Float(*v));
                    }
                    for (t, h) in &s.histograms {
                        series.insert(*t, histogram(h));
                    }
                }
            }
        }
        answer
    }
}

/// How far apart values may be, relative to the greater. The variance of large numbers that lie
/// close to each other depends on the order in which they come: of times, that is.
fn tolerance(expr: &str) -> f64 {
    let has = |part: &str| expr.contains(part);
    if (has("stddev") || has("stdvar")) && (has("timestamp(") || has("ts_of_")) {
        1e-6
    } else {
        1e-9
    }
}

fn same(a: &Point, b: &Point, within: f64) -> bool {
    let close = |a: f64, b: f64| {
        a == b
            || (a.is_nan() && b.is_nan())
            || (a - b).abs() <= within * a.abs().max(b.abs())
            // What is left where large numbers take each other away.
            || (a - b).abs() <= 1e-11
    };
    match (a, b) {
        (Point::Float(a), Point::Float(b)) => close(*a, *b),
        (Point::Histogram(c1, s1, b1), Point::Histogram(c2, s2, b2)) => {
            // What is left of a difference that should be nothing is no bucket.
            let all = |b: &[[f64; 4]]| -> Vec<[f64; 4]> {
                b.iter().filter(|b| b[3].abs() > 1e-9).copied().collect()
            };
            let (b1, b2) = (all(b1), all(b2));
            close(*c1, *c2)
                && close(*s1, *s2)
                && b1.len() == b2.len()
                && b1
                    .iter()
                    .zip(&b2)
                    .all(|(a, b)| a.iter().zip(b).all(|(a, b)| close(*a, *b)))
        }
        _ => false,
    }
}

/// The first difference of errors and series, if there is one.
fn difference_of_values(expr: &str, theirs: &Answer, ours: &Answer) -> Option<String> {
    if theirs.error.is_some() || ours.error.is_some() {
        // Which duplicates are shown depends on an order that is random in Prometheus.
        let text = |a: &Answer| {
            let e = a.error.as_deref()?;
            let duplicate = "found duplicate series for the match group";
            Some(
                if e.starts_with(duplicate) {
                    duplicate
                } else {
                    e
                }
                .to_owned(),
            )
        };
        return (text(theirs) != text(ours))
            .then(|| format!("error {:?}, ours {:?}", theirs.error, ours.error));
    }
    let within = tolerance(expr);
    for (labels, points) in &theirs.series {
        let Some(mine) = ours.series.get(labels) else {
            return Some(format!("{labels} is missing: {points:?}"));
        };
        for (t, p) in points {
            match mine.get(t) {
                Some(mine) if same(p, mine, within) => {}
                mine => return Some(format!("{labels} at {t}: {p:?}\n  ours {mine:?}")),
            }
        }
        if let Some((t, p)) = mine.iter().find(|(t, _)| !points.contains_key(t)) {
            return Some(format!("{labels} at {t}: nothing, ours {p:?}"));
        }
    }
    let more = ours.series.keys().find(|l| !theirs.series.contains_key(*l));
    if let Some(labels) = more {
        return Some(format!("ours has {labels} too: {:?}", ours.series[labels]));
    }
    None
}

/// The first difference, if there is one.
fn difference(expr: &str, when: When, theirs: &Answer, ours: &Answer) -> Option<String> {
    if let Some(what) = difference_of_values(expr, theirs, ours) {
        return Some(what);
    }
    // Prometheus says nothing beside an error; neither is it compared here.
    if theirs.error.is_some() {
        return None;
    }
    for (kind, a, b) in [
        ("warnings", &theirs.warnings, &ours.warnings),
        ("infos", &theirs.infos, &ours.infos),
    ] {
        // One text is shown once, with the place of the last that said it.
        let said = |text: &String| {
            text.rsplit_once(" (")
                .map_or(text.clone(), |t| t.0.to_owned())
        };
        let theirs: Vec<String> = a.iter().map(said).collect();
        if is_narrowed(expr) && b.iter().all(|text| theirs.contains(&said(text))) {
            continue;
        }
        let plain = |texts: &[String]| -> Vec<String> {
            texts
                .iter()
                .map(|text| without_count(expr, when, text))
                .collect()
        };
        let (theirs, mine) = (plain(a), plain(b));
        let same = match theirs.iter().find(|text| text.contains(" omitted")) {
            // The API shows ten and says how many more there are.
            Some(more) => {
                let count = more.split(' ').find_map(|word| word.parse().ok());
                count.is_some_and(|more: usize| more + theirs.len() - 1 == mine.len())
                    && theirs
                        .iter()
                        .all(|text| text == more || mine.contains(text))
            }
            None => theirs == mine,
        };
        if !same {
            return Some(format!("{kind} {a:#?}\n  ours {b:#?}"));
        }
    }
    None
}

/// Whether matchers of one side of an operation narrow the other: series that a join cannot match may
/// never be read, so that nothing is said of them.
fn is_narrowed(expr: &str) -> bool {
    let set = [") and", ") unless", "on (", "ignoring ("];
    let arithmetic = ["+", "-", "*", "/", "==", "!=", "== bool", ">", ">/"];
    expr.contains('{')
        && (set.iter().any(|op| expr.contains(op))
            || arithmetic
                .iter()
                .any(|op| expr.contains(&format!(") {op} ("))))
}

/// Over several steps Prometheus adds the number of samples of a corrected histogram up more than
/// once.
fn without_count(expr: &str, when: When, text: &str) -> String {
    let several = matches!(when, When::Range(..)) || expr.contains(")[");
    match text.split_once(", over ") {
        Some((head, tail)) if several && text.contains("monotonicity") => {
            let rest = tail.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit());
            format!("{head}{rest}")
        }
        _ => text.to_owned(),
    }
}

/// What is different between ours and whatever Prometheus says, and whether it says several things:
/// the order of series in between is that of its hash tables, another one each time. What it says
/// only once, its values perhaps, must be ours, too.
fn judge(
    expr: &str,
    when: When,
    ours: &Answer,
    mut ask: impl FnMut() -> Answer,
) -> (Option<String>, bool) {
    let first = ask();
    let Some(what) = difference(expr, when, &first, ours) else {
        return (None, false);
    };
    let (mut varies, mut values_vary) = (false, false);
    for _ in 0..30 {
        let again = ask();
        if difference(expr, when, &again, ours).is_none() {
            return (None, false);
        }
        varies |= difference(expr, when, &first, &again).is_some();
        values_vary |= difference_of_values(expr, &first, &again).is_some();
    }
    match difference_of_values(expr, &first, ours) {
        Some(what) => (Some(what), values_vary),
        None => (Some(what), varies),
    }
}

/// Writes the series as a block into `folder`.
fn write_block(folder: &Path, series: &[StoredSeries]) {
    let strings = series.iter().flat_map(|s| s.labels.iter());
    let symbols = SymbolSet::collect(strings.flat_map(|(n, v)| [n, v]));
    let ulid = ulid::Ulid::from_parts(START as u64, 7);
    let meta = Meta {
        ulid,
        min_time: START - 1,
        max_time: END + 1,
        stats: Default::default(),
        compaction: block::meta::Compaction {
            level: 1,
            sources: vec![ulid],
            ..Default::default()
        },
        version: 1,
        thanos: None,
        extra: Default::default(),
    };
    let mut writer = Writer::create(folder, meta, symbols).expect("a block");
    let mut sorted: Vec<&StoredSeries> = series.iter().collect();
    sorted.sort_by(|a, b| a.labels.cmp(&b.labels));
    for one in sorted {
        let chunks = one.chunks();
        let chunks: Vec<Chunk<'_>> = chunks
            .iter()
            .map(|c| Chunk {
                min: c.range.min,
                max: c.range.max,
                encoding: c.encoding,
                data: &c.data,
            })
            .collect();
        writer.add_labels(&one.labels, &chunks).expect("a series");
    }
    writer.finish().expect("a whole block");
}

#[test]
fn random_histogram_queries_equal_prometheus() {
    let Some(binary) = binary() else {
        println!("SKIPPED: no Prometheus 3 on PATH or in EPIMETHEUS_PROMETHEUS3");
        return;
    };
    let env = |name: &str, default: u64| {
        let text = std::env::var(name).ok();
        text.and_then(|t| t.parse().ok()).unwrap_or(default)
    };
    let (queries, seed) = (env("ORACLE_QUERIES", 500), env("ORACLE_SEED", 1));
    let delayed_names = seed % 2 == 0;
    let series = oracle_data::series(seed);
    let folder = tempfile::tempdir().expect("a folder");
    write_block(folder.path(), &series);
    let server = Server::start(&binary, folder.path(), delayed_names);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
    let engine = Engine::new(
        Arc::new(MemorySource::with_histograms(series)),
        EngineOptions {
            features: Features::ALL,
            delayed_name_removal: delayed_names,
            start_timestamps: true,
            ..EngineOptions::default()
        },
        Arc::new(pool.expect("threads")),
    );
    let mut random = Random::new(seed ^ 0x5eed);
    let ours = |expr: &str, when: When| {
        let (expr, options) = (expr.into(), QueryOptions::default());
        Answer::of_ours(match when {
            When::At(ts) => block_on(engine.instant(InstantQuery { expr, ts, options })),
            When::Range(start, end, step) => block_on(engine.range(RangeQuery {
                expr,
                start,
                end,
                step,
                options,
            })),
        })
    };
    if let Ok(expr) = std::env::var("ORACLE_EXPR") {
        let text = std::env::var("ORACLE_WHEN").unwrap_or_default();
        let numbers: Vec<i64> = text.split(',').filter_map(|n| n.parse().ok()).collect();
        let when = match numbers[..] {
            [start, end, step] => When::Range(start, end, step),
            [at, ..] => When::At(at),
            [] => When::At(END),
        };
        println!("{:#?}", server.query(&expr, when));
        println!("ours {:#?}", ours(&expr, when));
        return;
    }
    let (mut found, mut undecided) = (Vec::new(), Vec::new());
    let mut answered = 0;
    for _ in 0..queries {
        let expr = oracle_data::expression(&mut random);
        let at = START + random.below((END - START) as u64) as i64;
        let when = if random.below(2) == 0 {
            When::At(at)
        } else {
            let step = [15_000, 60_000, 137_000, 600_000][random.below(4) as usize];
            When::Range(at, (at + 20 * step).min(END), step)
        };
        let ours = ours(&expr, when);
        answered += usize::from(!ours.series.is_empty());
        let (what, varies) = judge(&expr, when, &ours, || server.query(&expr, when));
        if let Some(what) = what {
            let list = if varies { &mut undecided } else { &mut found };
            list.push(format!("{expr}\n  {when:?}\n  {what}"));
        }
    }
    let text = |list: &[String]| -> String {
        let first = list.iter().take(40);
        let short: Vec<String> = first.map(|f| f.chars().take(1500).collect()).collect();
        short.join("\n\n")
    };
    println!(
        "{queries} queries, {answered} with series, {} differ, of {} Prometheus says several things\n{}",
        found.len(),
        undecided.len(),
        text(&undecided)
    );
    assert!(found.is_empty(), "{}", text(&found));
    // Few: else the queries would be the wrong ones.
    assert!(undecided.len() as u64 <= 2 + queries / 200);
}
