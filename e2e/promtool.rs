//! `tools tsdb` beside promtool, line for line: Debian's, and a newer one (`EPIMETHEUS_PROMTOOL3`, or
//! `promtool3` on `PATH`).

use std::path::{Path, PathBuf};
use std::process::Command;

use model::histogram::{Buckets, FloatHistogram, Histogram, IntBuckets, IntHistogram, Span};
use model::sink::HistogramSample;
use model::{Batch, Labels, STALE_NAN, SeriesRef};
use tsdb::{Db, Options};

use crate::process::Process;

const HOUR: i64 = 3_600_000;
/// A time within the first of the blocks, ms; a multiple of two hours.
const START: i64 = 1_700_006_400_000 / (2 * HOUR) * (2 * HOUR);

/// A promtool to be compared with.
pub struct Promtool {
    /// Its path, or its name on `PATH`.
    pub program: String,
    /// Debian's 2.42.
    pub old: bool,
}

/// Runs a program: its exit status and what it printed.
type Run<'a> = dyn Fn(&[&str]) -> (Option<i32>, String) + 'a;

/// Those that there are; says so where one is missing.
pub fn promtools(test: &str) -> Vec<Promtool> {
    let newer = std::env::var("EPIMETHEUS_PROMTOOL3").unwrap_or_else(|_| "promtool3".into());
    let mut found = Vec::new();
    for (program, old) in [("promtool".to_owned(), true), (newer, false)] {
        match Command::new(&program).arg("--version").output() {
            Ok(_) => found.push(Promtool { program, old }),
            Err(e) => println!("SKIPPED {test}: {program}: {e}"),
        }
    }
    found
}

/// Exit code and standard output.
fn run(program: &str, first: &[&str], args: &[&str]) -> (Option<i32>, String) {
    let out = Command::new(program)
        .args(first)
        .args(args)
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    if !out.status.success() {
        println!(
            "{program} {args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
    (out.status.code(), text)
}

fn ours(args: &[&str]) -> (Option<i32>, String) {
    run(env!("CARGO_BIN_EXE_epimetheus"), &["tools", "tsdb"], args)
}

fn theirs(tool: &Promtool, args: &[&str]) -> (Option<i32>, String) {
    run(&tool.program, &["tsdb"], args)
}

/// The labels of a series.
pub fn set(name: &str, pairs: &[(&str, &str)]) -> Labels {
    let all = pairs.iter().copied().chain([("__name__", name)]);
    Labels::from_pairs(all)
}

/// A histogram of whole numbers.
fn int(n: u64) -> Histogram {
    Histogram::Int(IntHistogram {
        schema: 1,
        zero_threshold: 0.001,
        zero_count: n,
        count: 4 * n,
        sum: n as f64 * 1.25,
        positive: IntBuckets {
            spans: vec![Span {
                offset: -1,
                length: 2,
            }],
            deltas: vec![n as i64, n as i64],
        },
        ..IntHistogram::default()
    })
}

/// A histogram of floats.
fn float(n: f64) -> Histogram {
    Histogram::Float(FloatHistogram {
        schema: 0,
        count: 2.0 * n,
        sum: -n,
        negative: Buckets {
            spans: vec![Span {
                offset: 1,
                length: 1,
            }],
            counts: vec![2.0 * n],
        },
        ..FloatHistogram::default()
    })
}

/// Two blocks, and a head that is in the log only.
/// Sample number `k` of a series of either kind.
pub fn push_histograms(batch: &mut Batch, series: (SeriesRef, SeriesRef), ts: i64, k: i64) {
    for (series, value) in [(series.0, int(k as u64)), (series.1, float(k as f64))] {
        batch.histograms.push(HistogramSample {
            series,
            ts,
            start: 0,
            value,
        });
    }
}

fn fill(dir: &Path, histograms: bool) {
    let db = Db::open(dir, Options::quiet()).unwrap();
    let mut sets = vec![
        set("up", &[("job", "a \"quoted\" one"), ("instance", "x\\y:1")]),
        set("up", &[("job", "b"), ("instance", "é:2")]),
        set("requests_total", &[("job", "b"), ("code", "200")]),
        set("requests_total", &[("job", "b"), ("code", "500")]),
        set("ends", &[("job", "c")]),
    ];
    if histograms {
        sets.push(set("latency", &[("job", "a")]));
        sets.push(set("sizes", &[("job", "b")]));
    }
    let odd = [
        0.1,
        -0.0,
        1e21,
        1e-7,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        123_456_789.125,
    ];
    for k in 0..300i64 {
        let ts = START + k * 60_000;
        let refs = db.resolve_now(&sets).unwrap();
        let mut batch = Batch::default();
        batch.push(refs[0], ts, 1.0);
        batch.push(refs[1], ts, odd[k as usize % odd.len()]);
        batch.push(refs[2], ts, (k * 17) as f64);
        batch.push(refs[3], ts + 1, k as f64 / 7.0);
        if k <= 40 {
            batch.push(refs[4], ts, if k == 40 { STALE_NAN } else { 2.5 });
        }
        if histograms {
            push_histograms(&mut batch, (refs[5], refs[6]), ts, k);
        }
        assert_eq!(db.append_now(batch).unwrap().rejected, []);
        if k == 239 {
            db.maintain().unwrap();
        }
    }
}

/// Where counts are equal each list is in an order of its own: promtool's changes from run to run.
fn with_ties_sorted(text: &str) -> Vec<String> {
    let mut lists: Vec<Vec<&str>> = vec![vec![]];
    for line in text.lines() {
        match line.is_empty() {
            true => lists.push(vec![]),
            false => lists.last_mut().unwrap().push(line),
        }
    }
    for list in &mut lists {
        let count = |line: &str| line.split(' ').next().and_then(|n| n.parse::<u64>().ok());
        if list.get(1).is_some_and(|l| count(l).is_some()) {
            list[1..].sort_by_key(|l| (std::cmp::Reverse(count(l)), *l));
        }
    }
    let all = lists.into_iter().flat_map(|l| l.into_iter().chain([""]));
    // The older one's word.
    all.map(|l| match l.strip_prefix("Series: ") {
        Some(n) => format!("Total Series: {n}"),
        None => l.to_owned(),
    })
    .collect()
}

/// Our dump without what promtool 3 swallows of it: it asks for the next sample once for each kind, so that the first histogram or two
/// of a series, which are of no kind that it waits for, are gone.
fn without_swallowed(ours: &str, theirs: &str) -> String {
    let mut left = theirs.lines().peekable();
    let (mut kept, mut swallowed) = (String::new(), Vec::new());
    for line in ours.lines() {
        if left.next_if_eq(&line).is_none() && line.contains("{count:") {
            swallowed.push(line.split("{count:").next());
            continue;
        }
        kept.push_str(line);
        kept.push('\n');
    }
    for series in swallowed.chunk_by(|a, b| a == b) {
        assert!(series.len() <= 2, "{series:?}");
    }
    kept
}

#[test]
fn lists_and_dumps_are_promtools() {
    for tool in promtools("lists_and_dumps_are_promtools") {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), !tool.old);
        let data = dir.path().to_str().unwrap();
        let (from, to) = (
            format!("--min-time={}", START + 100 * 60_000),
            format!("--max-time={}", START + 101 * 60_000),
        );
        let mut calls: Vec<Vec<&str>> = vec![
            vec!["list", data],
            vec!["list", "-r", data],
            vec!["dump", data],
            vec!["dump", &from, &to, data],
            vec!["dump", "--match", "{job=~\"a.*\"}", data],
            vec!["dump", "--match", "nothing_of_that_name", data],
            vec!["dump", "--match", "{", data],
            vec!["dump", "/nonexistent/folder"],
            vec!["list", "/nonexistent/folder"],
        ];
        if !tool.old {
            calls.extend([
                vec!["dump", "--match", "up{job=\"b\"}", "--match", "ends", data],
                vec!["dump", "--format=seriesjson", data],
                vec!["dump-openmetrics", data],
                vec!["dump-openmetrics", &from, data],
            ]);
        }
        for call in calls {
            let (a, b) = (ours(&call), theirs(&tool, &call));
            assert_eq!(a.0, b.0, "{} {call:?}", tool.program);
            let a = without_swallowed(&a.1, &b.1);
            assert_eq!(a, b.1, "{} {call:?}", tool.program);
        }
        let mut calls = vec![vec!["analyze", data], vec!["analyze", "--limit=100", data]];
        if !tool.old {
            // The older one says it in other words.
            calls.push(vec!["analyze", "--extended", data]);
            calls.push(vec!["analyze", "--match={job=\"b\"}", data]);
        }
        for call in calls {
            let (a, b) = (ours(&call), theirs(&tool, &call));
            assert_eq!(a.0, b.0, "{} {call:?}", tool.program);
            let (a, b) = (with_ties_sorted(&a.1), with_ties_sorted(&b.1));
            assert_eq!(a, b, "{} {call:?}", tool.program);
        }
        let call = ["analyze", data, "01NOTHINGLIKEABLOCK"];
        assert_eq!(ours(&call), theirs(&tool, &call));
    }
}

/// A table without the names of blocks.
fn without_ulids(table: &str) -> Vec<String> {
    let cut = |line: &str| line.get(26..).unwrap_or(line).to_owned();
    table.lines().map(cut).collect()
}

/// Ascending by time: names of blocks made within a millisecond are in no order.
fn blocks(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut blocks: Vec<_> = entries
        .filter_map(|path| {
            let meta = std::fs::read_to_string(path.join("meta.json")).ok()?;
            let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
            Some((meta["minTime"].as_i64().unwrap(), path))
        })
        .collect();
    blocks.sort();
    blocks.into_iter().map(|b| b.1).collect()
}

fn dump(dir: &Path) -> String {
    std::fs::create_dir_all(dir.join("wal")).unwrap();
    let (code, text) = ours(&["dump", dir.to_str().unwrap()]);
    assert_eq!(code, Some(0));
    text
}

#[test]
fn an_import_makes_promtools_blocks() {
    for tool in promtools("an_import_makes_promtools_blocks") {
        let dir = tempfile::tempdir().unwrap();
        let mut text = "# HELP http_requests The total.\n# TYPE http_requests counter\n".to_owned();
        for k in 0..400 {
            let t = START / 1000 + k * 90;
            for code in ["200", "404", "5\\\"0\\\\0"] {
                let v = k * k % 977;
                text += &format!("http_requests_total{{code=\"{code}\"}} {v} {t}\n");
            }
        }
        text += "# TYPE temp gauge\n";
        for (k, v) in ["-0.5", "NaN", "+Inf", "3.25e-7", "1e100"]
            .iter()
            .enumerate()
        {
            text += &format!(
                "temp{{a=\"é\"}} {v} {}.25\n",
                START / 1000 + k as i64 * 9_000
            );
        }
        text += "# EOF\n";
        let input = dir.path().join("in.om");
        std::fs::write(&input, text).unwrap();
        let input = input.to_str().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let call = |out: &'static str| ["create-blocks-from", "openmetrics", input, out];
        let run_in = |out: &Path, run: &Run<'_>| {
            let mut call = call("").to_vec();
            call[3] = out.to_str().unwrap();
            run(&call)
        };
        let mine = run_in(&a, &ours);
        let other = run_in(&b, &|args| theirs(&tool, args));
        assert_eq!((mine.0, other.0), (Some(0), Some(0)));
        assert_eq!(dump(&a), dump(&b));
        let (left, right) = (blocks(&a), blocks(&b));
        assert_eq!(left.len(), right.len());
        if tool.old {
            // It kept the offsets of postings in the index, so its sizes are others.
            continue;
        }
        assert_eq!(without_ulids(&mine.1), without_ulids(&other.1));
        for (x, y) in left.iter().zip(&right) {
            let chunks = |p: &Path| std::fs::read(p.join("chunks/000001")).unwrap();
            assert!(chunks(x) == chunks(y), "{}", x.display());
        }
        // What neither takes.
        std::fs::write(input, "a 1\n# EOF\n").unwrap();
        let mine = run_in(&a, &ours);
        let other = run_in(&b, &|args| theirs(&tool, args));
        assert_eq!(mine, other);
        assert_eq!(mine.0, Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_the_past_are_promtools() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("server/data");
    fill(&data, false);
    let config = dir.path().join("prometheus.yml");
    std::fs::write(&config, "global: {}\n").unwrap();
    let mut server = Process::epimetheus(
        dir.path(),
        "server",
        &[
            &format!("--config.file={}", config.display()),
            &format!("--storage.tsdb.path={}", data.display()),
            "--storage.tsdb.retention.time=20y",
        ],
    );
    server.wait_for("/-/ready").await;
    let rules = dir.path().join("rules.yml");
    std::fs::write(
        &rules,
        "groups:\n- name: g\n  interval: 2m\n  rules:\n  - record: job:requests:rate10m\n    \
         expr: sum by (job) (rate(requests_total[10m]))\n    labels: {team: x}\n  - alert: Never\n    \
         expr: up == 7\n- name: h\n  rules:\n  - record: ups\n    expr: count(up)\n",
    )
    .unwrap();
    let url = format!("--url=http://127.0.0.1:{}", server.port);
    let (start, end) = (
        format!("--start={}", START / 1000 + 600),
        format!("--end={}", START / 1000 + 4 * 3600),
    );
    let make = |out: &Path, run: &Run<'_>| {
        let out = format!("--output-dir={}", out.display());
        let rules = rules.to_str().unwrap();
        let (code, _) = run(&[
            "create-blocks-from",
            "rules",
            &start,
            &end,
            &url,
            &out,
            rules,
        ]);
        assert_eq!(code, Some(0));
    };
    let mine = dir.path().join("mine");
    make(&mine, &ours);
    let found = dump(&mine);
    assert!(
        found.contains("job:requests:rate10m") && found.contains("ups"),
        "{found}"
    );
    for tool in promtools("rules_of_the_past_are_promtools") {
        let other = dir.path().join(if tool.old { "old" } else { "new" });
        make(&other, &|args| theirs(&tool, args));
        assert_eq!(blocks(&mine).len(), blocks(&other).len());
        // When within its interval a group has its turn follows from a hash that has changed since.
        let shown = |text: &str| -> Vec<String> {
            let without_time = |line: &str| line.rsplit_once(' ').map(|l| l.0.to_owned());
            match tool.old {
                true => text.lines().filter_map(without_time).collect(),
                false => text.lines().map(str::to_owned).collect(),
            }
        };
        assert_eq!(shown(&found), shown(&dump(&other)), "{}", tool.program);
    }
}

#[test]
fn unit_tests_of_rules_fail_in_promtools_words() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("rules.yml"),
        "groups:\n- name: g\n  rules:\n  - {record: test, expr: a}\n  - {record: dup, expr: sum(a)}\n  \
         - alert: High\n    expr: a > 1\n    labels: {severity: page}\n    \
         annotations: {summary: 'it is {{ $value }}'}\n",
    )
    .unwrap();
    let case = |expr: &str, labels: &str| {
        format!(
            "  - {{expr: {expr}, eval_time: 2m, exp_samples: [{{labels: {labels}, value: 7}}, \
             {{labels: {labels}, value: 7}}]}}\n"
        )
    };
    let cases = [
        case("test", "'test{x=\"1\"}'"),
        case("dup", "dup"),
        case("sum(a)", "'{}'"),
    ];
    let file = dir.path().join("test.yml");
    std::fs::write(
        &file,
        format!(
            "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  \
             input_series:\n  - {{series: 'a{{x=\"1\"}}', values: 0 1 2 3}}\n  \
             - {{series: 'a{{x=\"2\"}}', values: 5x10}}\n  alert_rule_test:\n  \
             - {{eval_time: 3m, alertname: High, exp_alerts: [{{exp_labels: {{x: 1}}}}]}}\n  \
             promql_expr_test:\n{}",
            cases.concat()
        ),
    )
    .unwrap();
    let junit = dir.path().join("junit.xml");
    let run = |program: &str, first: &[&str], flags: &[&str]| {
        let mut command = Command::new(program);
        let out = command
            .args(first)
            .args(["test", "rules"])
            .args(flags)
            .arg(&file)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (out.status.code(), text(out.stdout), text(out.stderr))
    };
    let binary = env!("CARGO_BIN_EXE_epimetheus");
    let ours = run(binary, &["tools"], &[]);
    assert_eq!(ours.0, Some(1));
    assert!(ours.2.contains("{__name__=\"dup\"} 7E+00"), "{}", ours.2);
    let diff = run(binary, &["tools"], &["--diff"]);
    assert!(diff.2.contains("diff: [\n"), "{}", diff.2);
    let debug = run(binary, &["tools"], &["--debug"]);
    // How long it took, and when it was.
    let timeless = |(code, out, err): (Option<i32>, String, String)| {
        let lines = err.lines().filter(|line| !line.contains("finished, took"));
        (code, out, lines.map(str::to_owned).collect::<Vec<_>>())
    };
    assert!(
        debug.2.contains("DEBUG: Starting test unnamed#0"),
        "{}",
        debug.2
    );
    let flag = format!("--junit={}", junit.display());
    let xml = |program: &str, first: &[&str]| {
        run(program, first, &[&flag]);
        let xml = std::fs::read_to_string(&junit).unwrap();
        let (head, rest) = xml.split_once("timestamp=\"").unwrap();
        let (time, rest) = rest.split_once('"').unwrap();
        assert_eq!(time.len(), "2006-01-02T15:04:05".len(), "{time}");
        format!("{head}{rest}")
    };
    let reported = xml(binary, &["tools"]);
    assert!(
        reported.contains("<testcase name=\"unnamed#0\"><failure>"),
        "{reported}"
    );
    for tool in promtools("unit_tests_of_rules_fail_in_promtools_words") {
        // The older one knows fewer words.
        if tool.old {
            continue;
        }
        assert_eq!(ours, run(&tool.program, &[], &[]));
        assert_eq!(diff, run(&tool.program, &[], &["--diff"]));
        let theirs = run(&tool.program, &[], &["--debug"]);
        assert_eq!(timeless(debug.clone()), timeless(theirs));
        assert_eq!(reported, xml(&tool.program, &[]));
    }
}

/// As `promtool` ours takes the flags that stand before or behind any command, with what they mean.
#[test]
fn features_are_on_where_promtool_has_them_on() {
    let Some(newer) = promtools("features_are_on_where_promtool_has_them_on")
        .into_iter()
        .find(|tool| !tool.old)
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("promtool");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_epimetheus"), &ours).unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let rule = |expr: &str| {
        format!("groups:\n- name: g\n  rules:\n  - record: recorded\n    expr: \"{expr}\"\n")
    };
    let mad = file("mad.yml", &rule("mad_over_time(x[5m])"));
    let plain = file("plain.yml", &rule("sum(x)"));
    let config = file("prometheus.yml", "rule_files: [mad.yml]\n");
    let unit = |name: &str, rules: &str, expr: &str, value: f64| {
        let text = format!(
            "rule_files: [{rules}]\ntests:\n- interval: 1m\n  input_series:\n  - series: x\n    values: '0 1 2 3 4 5'\n  \
             promql_expr_test:\n  - expr: '{expr}'\n    eval_time: 5m\n    exp_samples: [{{value: {value}}}]\n"
        );
        file(name, &text)
    };
    let unit_mad = unit("unit_mad.yml", "mad.yml", "mad_over_time(x[4m])", 1.0);
    let unit_fill = unit("unit_fill.yml", "plain.yml", "x + fill(1) nothing", 6.0);
    let unit_name = unit(
        "unit_name.yml",
        "plain.yml",
        "count by (__name__) (x + 1)",
        1.0,
    );
    let experimental = "--enable-feature=promql-experimental-functions";
    let cases: &[&[&str]] = &[
        &["promql", "format", "sum(x)"],
        &["--experimental", "promql", "format", "sum   by(a)(x)"],
        &["promql", "format", "--experimental", "sum(x)"],
        &["--no-experimental", "promql", "format", "sum(x)"],
        &["--experimental", "promql", "format", "mad_over_time(x[5m])"],
        &[
            "--experimental",
            experimental,
            "promql",
            "format",
            "mad_over_time(x[5m])",
        ],
        &["--experimental", "promql", "format", "x[5m * 2]"],
        &["--experimental", "promql", "format", "rate(x[5m] anchored)"],
        &[
            "--experimental",
            "--enable-feature=promql-extended-range-selectors,promql-experimental-functions",
            "promql",
            "format",
            "rate(x[5m] anchored)",
        ],
        &["--experimental", "promql", "format", "x + fill(1) y"],
        &[
            "--experimental",
            "--enable-feature=promql-binop-fill-modifiers",
            "promql",
            "format",
            "x + fill(1) y",
        ],
        &["--experimental", "promql", "format", "sum("],
        &["promql", "label-matchers", "set", "x", "a", "b"],
        &[
            "--experimental",
            "promql",
            "label-matchers",
            "set",
            "x",
            "a",
            "b",
        ],
        &[
            "--experimental",
            "promql",
            "label-matchers",
            "set",
            "-t",
            "=~",
            "x{a=\"c\"}",
            "a",
            "b.*",
        ],
        &[
            "--experimental",
            "promql",
            "label-matchers",
            "set",
            "--type=!=",
            "x",
            "a",
            "b",
        ],
        &[
            "--experimental",
            "promql",
            "label-matchers",
            "set",
            "-t",
            "==",
            "x",
            "a",
            "b",
        ],
        &[
            "--experimental",
            "promql",
            "label-matchers",
            "delete",
            "x{a=\"c\"}",
            "a",
        ],
        &["--enable-feature=nonsense", "check", "rules", &plain],
        &[
            "--enable-feature=promql-duration-expr,",
            "check",
            "rules",
            &plain,
        ],
        &["check", "rules", &mad],
        &[experimental, "check", "rules", &mad],
        &["check", "rules", experimental, &mad],
        &[
            "check",
            "rules",
            "--lint=none",
            "--no-lint-fatal",
            "--ignore-unknown-fields",
            &plain,
        ],
        &["check", "config", &config],
        &[experimental, "check", "config", &config],
        &[
            "check",
            "config",
            "--syntax-only",
            "--lint=all",
            "--lint-fatal",
            &config,
        ],
        &["test", "rules", &unit_mad],
        &["test", "rules", &unit_fill],
        &["test", "rules", &unit_name],
        &[
            "--enable-feature=promql-delayed-name-removal",
            "test",
            "rules",
            &unit_name,
        ],
        &[
            "test",
            "rules",
            "--run=nothing",
            "--diff",
            "--debug",
            &unit_name,
        ],
        &["--nonsense", "check", "rules", &plain],
        &["check", "rules", "--nonsense", &plain],
        &["check", "nonsense"],
    ];
    let mut wrong = Vec::new();
    for args in cases {
        let (a, b) = (
            run(ours.to_str().unwrap(), &[], args),
            run(&newer.program, &[], args),
        );
        if a != b {
            wrong.push(format!("{args:?}\n  ours   {a:?}\n  theirs {b:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // promtool 3.14 forgets its features where it evaluates the expressions of a unit test; ours knows
    // them.
    let fill = "--enable-feature=promql-binop-fill-modifiers";
    for args in [
        [experimental, "test", "rules", &unit_mad],
        [fill, "test", "rules", &unit_fill],
    ] {
        let (code, _) = run(ours.to_str().unwrap(), &[], &args);
        assert_eq!(code, Some(0), "{args:?}");
    }
    // Tools under our own name know the whole language, unless it is named.
    let tools = |args: &[&str]| run(env!("CARGO_BIN_EXE_epimetheus"), &["tools"], args).0;
    assert_eq!(tools(&["check", "rules", &mad]), Some(0));
    assert_eq!(
        tools(&["promql", "format", "mad_over_time(x[5m])"]),
        Some(0)
    );
    assert_eq!(
        tools(&["--enable-feature=", "check", "rules", &mad]),
        Some(1)
    );
    assert_eq!(
        tools(&["--experimental", experimental, "check", "rules", &mad]),
        Some(0)
    );
}
