//! Unit tests of rules: promtool's test files, run over whatever store the caller brings.
//!
//! The format is Prometheus' (`cmd/promtool/unittest.go`): series to begin with, rules evaluated at
//! every step over them, and what alerts and expressions are expected at some of the steps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::metrics::Registry;
use model::report::{AlertState, RuleKind};
use model::settings::{Blank, Duration};
use model::{Labels, Millis, Sink};
use promql::Evaluator;
use promql::parse::SequenceValue;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::file::ReadOptions;
use crate::group::{Group, Means, write};
use crate::link::Link;
use crate::manager::Silence;
use crate::metrics::Metrics;
use crate::rule::{Made, Shared, ask};

model::settings! {
    /// A test file.
    #[derive(Clone, Debug, PartialEq)]
    pub struct TestFile ("main.unitTestFile") {
        /// Patterns of rule files, relative to the test file.
        pub rule_files ("rule_files"): Vec<String>;
        /// How often rules are evaluated.
        pub evaluation_interval ("evaluation_interval"): Duration = Duration(60_000);
        /// Groups whose order matters.
        pub group_eval_order ("group_eval_order"): Vec<String>;
        /// The tests.
        pub tests ("tests"): Vec<Case>;
        /// Whether the last bit of a float may differ.
        pub fuzzy_compare ("fuzzy_compare"): bool;
    }
}

model::settings! {
    /// One test.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Case ("main.testGroup") {
        /// The distance of the input's samples.
        pub interval ("interval"): Duration;
        /// The input.
        pub input_series ("input_series"): Vec<InputSeries>;
        /// What alerts are expected.
        pub alert_rule_test ("alert_rule_test"): Vec<AlertTest>;
        /// What expressions are expected to give.
        pub promql_expr_test ("promql_expr_test"): Vec<ExprTest>;
        /// Labels for templates.
        pub external_labels ("external_labels"): BTreeMap<String, String>;
        /// The URL for templates.
        pub external_url ("external_url"): String;
        /// Its name.
        pub name ("name"): String;
        /// When it begins.
        pub start_timestamp ("start_timestamp"): Start;
    }
}

model::settings! {
    /// A series of the input.
    #[derive(Clone, Debug, PartialEq)]
    pub struct InputSeries ("main.series") {
        /// Name and labels.
        pub series ("series"): String;
        /// Values in the notation of tests.
        pub values ("values"): String;
    }
}

model::settings! {
    /// Alerts that are expected to fire.
    #[derive(Clone, Debug, PartialEq)]
    pub struct AlertTest ("main.alertTestCase") {
        /// When.
        pub eval_time ("eval_time"): Duration;
        /// Of which rule.
        pub alertname ("alertname"): String;
        /// Which.
        pub exp_alerts ("exp_alerts"): Vec<ExpectedAlert>;
    }
}

model::settings! {
    /// An alert.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ExpectedAlert ("main.alert") {
        /// Its labels, without the alert's name.
        pub exp_labels ("exp_labels"): BTreeMap<String, String>;
        /// Its annotations.
        pub exp_annotations ("exp_annotations"): BTreeMap<String, String>;
    }
}

model::settings! {
    /// An expression and what it gives.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ExprTest ("main.promqlTestCase") {
        /// The expression.
        pub expr ("expr"): String;
        /// When.
        pub eval_time ("eval_time"): Duration;
        /// What.
        pub exp_samples ("exp_samples"): Vec<ExpectedSample>;
    }
}

model::settings! {
    /// A sample.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ExpectedSample ("main.sample") {
        /// Its labels, as a selector.
        pub labels ("labels"): String;
        /// Its value.
        pub value ("value"): f64;
        /// Its native histogram, if it is one.
        pub histogram ("histogram"): String;
    }
}

/// When a test begins, ms: a number of seconds or RFC 3339.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start(pub Millis);

impl Blank for Start {
    fn is_blank(&self) -> bool {
        self.0 == 0
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Ok(seconds) = text.parse::<f64>() {
            return Ok(Self((seconds * 1000.0).round() as Millis));
        }
        match text.parse::<jiff::Timestamp>() {
            Ok(at) => Ok(Self(at.as_millisecond())),
            Err(_) => Err(de::Error::custom(format_args!(
                "cannot parse {text:?} to a valid timestamp"
            ))),
        }
    }
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 1000.0)
    }
}

/// A store for one test, and an engine over it.
pub struct Bench {
    /// Answers expressions over what the sink was given. Its subqueries without a step use the
    /// evaluation interval it was made for.
    pub evaluator: Arc<dyn Evaluator>,
    /// Takes samples.
    pub sink: Arc<dyn Sink>,
}

/// How a run is done.
pub struct RunOptions<'a> {
    /// How to read rule files.
    pub read: ReadOptions,
    /// Makes a store for each test, given the evaluation interval in ms.
    pub bench: &'a dyn Fn(Millis) -> Bench,
    /// Finds the files that a pattern names.
    pub glob: &'a dyn Fn(&str) -> Result<Vec<PathBuf>, String>,
    /// Which tests to run, by name.
    pub wanted: &'a dyn Fn(&str) -> bool,
}

/// Runs the tests of a file: what failed, or what deserves a warning (second list).
pub async fn run(path: &Path, options: &RunOptions<'_>) -> (Vec<String>, Vec<String>) {
    let mut warnings = Vec::new();
    let failures = match read(path, options, &mut warnings) {
        Err(error) => vec![error],
        Ok((file, rule_files)) => run_cases(&file, &rule_files, options).await,
    };
    (failures, warnings)
}

fn read(
    path: &Path,
    options: &RunOptions<'_>,
    warnings: &mut Vec<String>,
) -> Result<(TestFile, Vec<PathBuf>), String> {
    let text =
        std::fs::read_to_string(path).map_err(|e| format!("open {}: {e}", path.display()))?;
    let file: TestFile = crate::file::from_yaml(&text)?;
    let mut seen = BTreeSet::new();
    for name in &file.group_eval_order {
        if !seen.insert(name) {
            return Err(format!("group name repeated in evaluation order: {name}"));
        }
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut rule_files = Vec::new();
    for pattern in &file.rule_files {
        let pattern = folder.join(pattern).display().to_string();
        let found = (options.glob)(&pattern)?;
        if found.is_empty() {
            warnings.push(format!("no file match pattern {pattern}"));
        }
        rule_files.extend(found);
    }
    Ok((file, rule_files))
}

async fn run_cases(
    file: &TestFile,
    rule_files: &[PathBuf],
    options: &RunOptions<'_>,
) -> Vec<String> {
    let mut failures = Vec::new();
    for case in file
        .tests
        .iter()
        .filter(|case| (options.wanted)(&case.name))
    {
        let running = Running {
            file,
            case,
            interval: file.evaluation_interval.0.max(1),
            spacing: match case.interval.0 {
                0 => file.evaluation_interval.0.max(1),
                own => own,
            },
        };
        let (Ok(found) | Err(found)) = running.run(rule_files, options).await;
        failures.extend(found);
    }
    failures
}

struct Running<'a> {
    file: &'a TestFile,
    case: &'a Case,
    /// Distance of evaluations, ms.
    interval: Millis,
    /// Distance of the input's samples, ms.
    spacing: Millis,
}

/// A sample of the input: series, time, value.
type Input = (Labels, Millis, SequenceValue);

impl Running<'_> {
    /// What failed; as an error where the test could not go on.
    async fn run(
        &self,
        rule_files: &[PathBuf],
        options: &RunOptions<'_>,
    ) -> Result<Vec<String>, Vec<String>> {
        let one = |message: String| vec![message];
        let start = self.case.start_timestamp.0;
        let mut input = self.input(start).map_err(one)?.into_iter().peekable();
        let mut groups = self.groups(rule_files, options)?;
        self.check_names().map_err(one)?;
        let bench = (options.bench)(self.interval);
        let shared = Shared {
            evaluator: Arc::clone(&bench.evaluator),
            external_labels: Labels::from_pairs(self.case.external_labels.clone()),
            external_url: self.case.external_url.clone(),
            link: Link::default(),
            expansions: Default::default(),
        };
        let metrics = Metrics::new(&Registry::new(), false).map_err(|e| one(e.to_string()))?;
        let metrics = metrics.of("", model::scope::PartialResponse::Abort);
        let means = Means {
            shared: &shared,
            sink: &*bench.sink,
            notify: &Silence,
            clock: &model::time::WallClock,
            resend_delay: 0,
            metrics: &metrics,
            beside: None,
        };
        let mut failures = Vec::new();
        let mut ts = start;
        let last = start + self.last_time();
        while ts <= last {
            while let Some((labels, at, value)) = input.next_if(|(_, at, _)| *at <= ts) {
                put(&*bench.sink, labels, at, value).await.map_err(one)?;
            }
            let mut broken = Vec::new();
            for group in &mut groups {
                group.evaluate(&means, ts).await;
                for rule in group.rules.iter().filter(|r| !r.last_error.is_empty()) {
                    broken.push(format!(
                        "    rule: {}, time: {}, err: {}",
                        rule.name(),
                        shown_time(ts),
                        rule.last_error
                    ));
                }
            }
            if !broken.is_empty() {
                failures.extend(broken);
                return Err(failures);
            }
            failures.extend(self.alerts_at(ts - start, &groups));
            ts += self.interval;
        }
        for (labels, at, value) in input {
            put(&*bench.sink, labels, at, value).await.map_err(one)?;
        }
        for test in &self.case.promql_expr_test {
            let at = start + test.eval_time.0;
            failures.extend(self.expression(test, &*bench.evaluator, at).await);
        }
        Ok(failures)
    }

    /// The samples of the input by time.
    fn input(&self, start: Millis) -> Result<Vec<Input>, String> {
        let mut all = Vec::new();
        for series in &self.case.input_series {
            let text = format!("{} {}", series.series, series.values);
            let parsed = promql::parse::parse_series(&text).map_err(|e| e.to_string())?;
            for (i, value) in parsed.values.into_iter().enumerate() {
                if value != SequenceValue::Omitted {
                    let at = start + i as Millis * self.spacing;
                    all.push((parsed.labels.clone(), at, value));
                }
            }
        }
        all.sort_by_key(|(_, at, _)| *at);
        Ok(all)
    }

    fn groups(
        &self,
        rule_files: &[PathBuf],
        options: &RunOptions<'_>,
    ) -> Result<Vec<Group>, Vec<String>> {
        let files = crate::load(rule_files, options.read)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let mut groups = Vec::new();
        for (path, file) in files {
            for definition in &file.groups {
                let path = path.display().to_string().into();
                let mut group = Group::new(path, definition, self.spacing, 0);
                group.skip_restore();
                groups.push(group);
            }
        }
        let order = |group: &Group| {
            let mut names = self.file.group_eval_order.iter();
            names.position(|name| **name == *group.name).unwrap_or(0)
        };
        groups.sort_by_key(order);
        Ok(groups)
    }

    fn check_names(&self) -> Result<(), String> {
        for test in &self.case.alert_rule_test {
            if test.alertname.is_empty() {
                let group = match self.case.name.as_str() {
                    "" => String::new(),
                    name => format!(" (in TestGroup {name})"),
                };
                return Err(format!(
                    "an item under alert_rule_test misses required attribute alertname at eval_time {}{group}",
                    shown(test.eval_time.0)
                ));
            }
        }
        Ok(())
    }

    /// The time of the last test, ms after the start.
    fn last_time(&self) -> Millis {
        let alerts = self.case.alert_rule_test.iter().map(|t| t.eval_time.0);
        let expressions = self.case.promql_expr_test.iter().map(|t| t.eval_time.0);
        alerts.chain(expressions).max().unwrap_or(0)
    }

    /// Judges the alerts after the evaluation at `since` ms after the start.
    fn alerts_at(&self, since: Millis, groups: &[Group]) -> Vec<String> {
        let now = since..since + self.interval;
        let mut tests: Vec<_> = self
            .case
            .alert_rule_test
            .iter()
            .filter(|test| now.contains(&test.eval_time.0))
            .collect();
        tests.sort_by_key(|test| test.eval_time.0);
        let mut failures = Vec::new();
        for test in tests {
            let mut got: Vec<(Labels, Labels)> = Vec::new();
            for rule in groups.iter().flat_map(|g| &g.rules) {
                let RuleKind::Alerting { alerts, .. } = rule.status().kind else {
                    continue;
                };
                if rule.name() == test.alertname {
                    let firing = alerts.into_iter().filter(|a| a.state == AlertState::Firing);
                    got.extend(firing.map(|a| (a.labels, a.annotations)));
                }
            }
            let mut expected: Vec<(Labels, Labels)> = test
                .exp_alerts
                .iter()
                .map(|alert| {
                    let mut labels = alert.exp_labels.clone();
                    labels.insert("alertname".to_owned(), test.alertname.clone());
                    let annotations = alert.exp_annotations.clone();
                    (Labels::from_pairs(labels), Labels::from_pairs(annotations))
                })
                .collect();
            got.sort();
            expected.sort();
            if got != expected {
                let name = match self.case.name.as_str() {
                    "" => String::new(),
                    name => format!("    name: {name},\n"),
                };
                failures.push(format!(
                    "{name}    alertname: {}, time: {}, \n        exp:{}, \n        got:{}",
                    test.alertname,
                    shown(test.eval_time.0),
                    list(&expected),
                    list(&got)
                ));
            }
        }
        failures
    }

    async fn expression(
        &self,
        test: &ExprTest,
        evaluator: &dyn Evaluator,
        at: Millis,
    ) -> Option<String> {
        let head = format!(
            "    expr: {}, time: {},",
            model::text::quote(&test.expr),
            shown(test.eval_time.0)
        );
        let mut got = match ask(evaluator, &test.expr, at, Default::default()).await {
            Ok(got) => got,
            Err(error) => return Some(format!("{head} err: {error}")),
        };
        let mut expected = Vec::new();
        for sample in &test.exp_samples {
            match expectation(sample) {
                Ok(made) => expected.push(made),
                Err(error) => {
                    let labels = model::text::quote(&sample.labels);
                    return Some(format!("{head} err: labels {labels}: {error}"));
                }
            }
        }
        let by_labels = |a: &Made, b: &Made| a.labels.cmp(&b.labels);
        got.sort_by(by_labels);
        expected.sort_by(by_labels);
        let same =
            got.len() == expected.len() && got.iter().zip(&expected).all(|(g, e)| self.same(g, e));
        (!same).then(|| {
            format!(
                "{head}\n        exp: {}\n        got: {}",
                samples(&expected),
                samples(&got)
            )
        })
    }

    fn same(&self, got: &Made, expected: &Made) -> bool {
        let values = match (&got.histogram, &expected.histogram) {
            (Some(g), Some(e)) => {
                promql::value::histogram_text(g) == promql::value::histogram_text(e)
            }
            (None, None) => {
                let (g, e) = (got.value, expected.value);
                let near = self.file.fuzzy_compare && (g.next_up() == e || g.next_down() == e);
                g == e || near
            }
            _ => false,
        };
        values && got.labels == expected.labels
    }
}

fn expectation(sample: &ExpectedSample) -> Result<Made, String> {
    let labels = promql::parse::parse_metric(&sample.labels).map_err(|e| e.to_string())?;
    if sample.histogram.is_empty() {
        return Ok(Made::float(labels, sample.value));
    }
    let text = format!("{{}} {}", sample.histogram);
    let parsed = promql::parse::parse_series(&text).map_err(|e| e.to_string())?;
    match parsed.values.as_slice() {
        [SequenceValue::Histogram { histogram, .. }] => Ok(Made {
            labels,
            value: 0.0,
            histogram: Some(Arc::clone(histogram)),
        }),
        [other] => Err(format!("expected histogram, got {other:?}")),
        all => Err(format!("expected 1 value, got {}", all.len())),
    }
}

async fn put(
    sink: &dyn Sink,
    labels: Labels,
    at: Millis,
    value: SequenceValue,
) -> Result<(), String> {
    let made = match value {
        SequenceValue::Omitted => return Ok(()),
        SequenceValue::Float(value) => Made::float(labels, value),
        SequenceValue::Histogram { histogram, .. } => Made {
            labels,
            value: 0.0,
            histogram: Some(histogram),
        },
    };
    let taken = write(sink, vec![made], Vec::new(), at).await;
    let taken = taken.map_err(|e| e.to_string())?;
    match taken.rejected.first() {
        Some(rejected) => Err(rejected.reason.to_string()),
        None => Ok(()),
    }
}

/// A duration as Prometheus shows it.
fn shown(ms: Millis) -> String {
    model::time::format_duration(ms)
}

/// A time since the epoch as Go shows a duration.
fn shown_time(ms: Millis) -> String {
    crate::template::go_duration(ms)
}

fn list(alerts: &[(Labels, Labels)]) -> String {
    let pad = " ".repeat(12);
    if alerts.is_empty() {
        return "[]".to_owned();
    }
    let mut out = format!("[\n{pad}");
    for (i, (labels, annotations)) in alerts.iter().enumerate() {
        if i > 0 {
            let _ = write!(out, ",\n{pad}");
        }
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "{i}:\n{pad}  Labels:{labels}\n{pad}  Annotations:{annotations}"
        );
    }
    let _ = write!(out, "\n{pad}]");
    out
}

fn samples(all: &[Made]) -> String {
    if all.is_empty() {
        return "nil".to_owned();
    }
    let shown: Vec<String> = all
        .iter()
        .map(|made| {
            let labels = pairs(&made.labels);
            match &made.histogram {
                Some(h) => format!("{labels} {}", promql::value::histogram_text(h)),
                None => {
                    let value = model::text::format_e(made.value, None).replace('e', "E");
                    format!("{labels} {value}")
                }
            }
        })
        .collect();
    shown.join(", ")
}

/// All pairs, the name among them.
fn pairs(labels: &Labels) -> String {
    let pair = |(name, value): (&str, &str)| {
        let name = match model::labels::is_legacy_label_name(name) {
            true => name.to_owned(),
            false => model::text::quote(name),
        };
        format!("{name}={}", model::text::quote(value))
    };
    let all: Vec<String> = labels.iter().map(pair).collect();
    format!("{{{}}}", all.join(", "))
}
