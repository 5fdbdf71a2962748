//! Unit tests of rules: promtool's test files, run over whatever store the caller brings.
//!
//! The format is Prometheus' (`cmd/promtool/unittest.go`): series to begin with, rules evaluated at
//! every step over them, and what alerts and expressions are expected at some of the steps.

mod diff;
mod file;
mod show;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::metrics::Registry;
use model::report::{AlertState, RuleKind};
use model::{Labels, Millis, Sink};
use promql::Evaluator;
use promql::parse::SequenceValue;
use promql::value::Value;

use crate::file::ReadOptions;
use crate::group::{Group, Means, write};
use crate::link::Link;
use crate::manager::Silence;
use crate::metrics::Metrics;
use crate::rule::{Made, Shared, ask};
pub use file::{
    AlertTest, Case, ExpectedAlert, ExpectedSample, ExprTest, InputSeries, Start, TestFile,
};
use show::{list, samples, shown, shown_time};

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
    /// Show how alerts differ, instead of both lists.
    pub diff: bool,
    /// Hears, line by line, what is under way, and at the end of a test all of its data.
    pub debug: Option<&'a dyn Fn(&str)>,
}

/// What came of a file.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What deserves a warning.
    pub warnings: Vec<String>,
    /// Its tests that ran: names and what failed.
    pub cases: Vec<(String, Vec<String>)>,
    /// Why it could not be read.
    pub aborted: Option<String>,
}

/// Runs the tests of a file.
pub async fn run(path: &Path, options: &RunOptions<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    match read(path, options, &mut outcome.warnings) {
        Err(error) => outcome.aborted = Some(error),
        Ok((file, rule_files)) => outcome.cases = run_cases(&file, &rule_files, options).await,
    }
    outcome
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
) -> Vec<(String, Vec<String>)> {
    let mut cases = Vec::new();
    for (i, case) in file.tests.iter().enumerate() {
        if !(options.wanted)(&case.name) {
            continue;
        }
        let running = Running {
            file,
            case,
            interval: file.evaluation_interval.0.max(1),
            spacing: match case.interval.0 {
                0 => file.evaluation_interval.0.max(1),
                own => own,
            },
            options,
        };
        let name = match case.name.as_str() {
            "" => format!("unnamed#{i}"),
            name => name.to_owned(),
        };
        running.tell(|| format!("DEBUG: Starting test {name}"));
        let started = std::time::Instant::now();
        let (Ok(found) | Err(found)) = running.run(rule_files).await;
        running.tell(|| format!("DEBUG: Test {name} finished, took {:?}", started.elapsed()));
        cases.push((name, found));
    }
    cases
}

struct Running<'a> {
    file: &'a TestFile,
    case: &'a Case,
    /// Distance of evaluations, ms.
    interval: Millis,
    /// Distance of the input's samples, ms.
    spacing: Millis,
    options: &'a RunOptions<'a>,
}

/// A sample of the input: series, time, value.
type Input = (Labels, Millis, SequenceValue);

impl Running<'_> {
    /// What failed; as an error where the test could not go on.
    async fn run(&self, rule_files: &[PathBuf]) -> Result<Vec<String>, Vec<String>> {
        let one = |message: String| vec![message];
        let start = self.case.start_timestamp.0;
        let mut input = self.input(start).map_err(one)?.into_iter().peekable();
        let mut groups = self.groups(rule_files)?;
        self.check_names().map_err(one)?;
        let bench = (self.options.bench)(self.interval);
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
        if self.options.debug.is_some() {
            self.dump(&*bench.evaluator, start).await;
        }
        Ok(failures)
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if let Some(debug) = self.options.debug {
            debug(&what());
        }
    }

    /// Tells all the data that there is at the end.
    async fn dump(&self, evaluator: &dyn Evaluator, start: Millis) {
        // An expression names whole seconds.
        let span = (self.last_time() / 1000 + 1) * 1000;
        let expr = format!("{{__name__=~\".+\"}}[{}]", shown(span));
        let query = promql::InstantQuery {
            expr: expr.as_str().into(),
            ts: start + span,
            options: Default::default(),
        };
        match evaluator.instant(query).await.map(|answer| answer.value) {
            Err(e) => {
                let expr = model::text::quote(&expr);
                self.tell(|| format!("DEBUG: Failed query exec, expr: {expr}, err: {e}"));
            }
            Ok(Value::Matrix(all)) => {
                let at = shown_time(span);
                self.tell(|| format!("DEBUG: Dump of all data (input_series and rules) at {at}:"));
                self.tell(|| show::matrix(&all));
            }
            Ok(_) => self.tell(|| "DEBUG: Got something that is no matrix".to_owned()),
        }
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

    fn groups(&self, rule_files: &[PathBuf]) -> Result<Vec<Group>, Vec<String>> {
        let files = crate::load(rule_files, self.options.read)
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
                let head = format!(
                    "{name}    alertname: {}, time: {}, ",
                    test.alertname,
                    shown(test.eval_time.0)
                );
                failures.push(match self.options.diff {
                    true => {
                        let pad = format!("\n{}", " ".repeat(12));
                        let diff = diff::show(&expected, &got).replace('\n', &pad);
                        format!("{head}\n        diff: {diff}")
                    }
                    false => format!(
                        "{head}\n        exp:{}, \n        got:{}",
                        list(&expected),
                        list(&got)
                    ),
                });
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
