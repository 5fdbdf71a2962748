//! `tools check migrate`: what in a configuration and in rules of Prometheus 2 means something else in
//! Prometheus 3, and so here.
//!
//! Files are read as plain YAML, for what Prometheus 2 took may be refused today.

mod expressions;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use model::Millis;
use model::time::parse_duration;
use serde_json::Value;

use crate::config::glob;
use crate::tools::rules::LINT;

/// `check migrate`.
pub(super) fn command() -> Command {
    Command::new("migrate")
        .about("Find what means something else in Prometheus 3 than in 2: in configuration files, the rule files that they name, and directories of rules")
        .arg(
            Arg::new("places")
                .value_name("FILE|DIRECTORY")
                .action(ArgAction::Append)
                .num_args(1..)
                .required(true)
                .help("Configuration files, rule files, or directories of them (*.yml, *.yaml)."),
        )
}

/// What was found in one file.
struct Found {
    file: PathBuf,
    findings: Vec<String>,
}

/// Exit status 0: nothing was found; 3: something was; 1: a file cannot be read.
pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode> {
    let places = matches.get_many::<String>("places");
    let mut todo: BTreeSet<PathBuf> = BTreeSet::new();
    let mut failed = false;
    for place in places.into_iter().flatten().map(Path::new) {
        match listed(place) {
            Ok(files) => todo.extend(files),
            Err(e) => {
                eprintln!("{}: {e}", place.display());
                failed = true;
            }
        }
    }
    // A configuration says how often its rules' series are scraped.
    let mut configs = Vec::new();
    let mut rules: BTreeSet<PathBuf> = BTreeSet::new();
    for file in todo {
        match read(&file) {
            Ok(value) if is_rules(&value) => drop(rules.insert(file)),
            Ok(value) => configs.push((file, value)),
            Err(e) => {
                eprintln!("{}: {e}", file.display());
                failed = true;
            }
        }
    }
    let mut found = Vec::new();
    let mut interval = None;
    for (file, value) in &configs {
        rules.extend(rule_files(file, value));
        interval = interval.max(Some(longest_interval(value)));
        found.push(Found {
            file: file.clone(),
            findings: of_config(value),
        });
    }
    for file in rules {
        match read(&file) {
            Ok(value) => found.push(Found {
                findings: of_rules(&value, interval.unwrap_or(MINUTE)),
                file,
            }),
            Err(e) => {
                eprintln!("{}: {e}", file.display());
                failed = true;
            }
        }
    }
    let mut any = false;
    for Found { file, findings } in &found {
        match findings.as_slice() {
            [] => println!("{}: nothing to do", file.display()),
            some => {
                any = true;
                some.iter()
                    .for_each(|f| println!("{}: {f}", file.display()));
            }
        }
    }
    Ok(match (failed, any) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(LINT),
        (false, false) => ExitCode::SUCCESS,
    })
}

const MINUTE: Millis = 60_000;

/// A file, or all YAML below a directory.
fn listed(place: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(place)?.is_dir() {
        return Ok(vec![place.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(place)? {
        let path = entry?.path();
        let yaml = path.extension().is_some_and(|e| e == "yml" || e == "yaml");
        if path.is_dir() {
            files.extend(listed(&path)?);
        } else if yaml {
            files.push(path);
        }
    }
    Ok(files)
}

fn read(file: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    wire::yaml(&text)
}

fn is_rules(value: &Value) -> bool {
    value.get("groups").is_some_and(Value::is_array)
}

/// The rule files that a configuration names.
fn rule_files(file: &Path, config: &Value) -> Vec<PathBuf> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let patterns = list(config, "rule_files").filter_map(Value::as_str);
    let found = patterns.flat_map(|pattern| {
        let full = folder.join(pattern);
        glob(&full.display().to_string()).unwrap_or_default()
    });
    found.collect()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn duration(value: &Value, key: &str) -> Option<Millis> {
    parse_duration(value.get(key)?.as_str()?).ok()
}

/// The longest time between two samples of a series that a configuration asks for.
fn longest_interval(config: &Value) -> Millis {
    let global = config
        .get("global")
        .and_then(|g| duration(g, "scrape_interval"));
    let jobs = list(config, "scrape_configs").filter_map(|job| duration(job, "scrape_interval"));
    jobs.chain([global.unwrap_or(MINUTE)])
        .max()
        .unwrap_or(MINUTE)
}

/// What means something else in a configuration.
fn of_config(config: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    let labels = config.get("global").and_then(|g| g.get("external_labels"));
    for (name, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        if value.as_str().is_some_and(|v| v.contains('$')) {
            findings.push(format!(
                "external label {name}: environment variables in it ($x, ${{x}}) are replaced now; write $$ for a $"
            ));
        }
    }
    for job in list(config, "scrape_configs") {
        of_job(job, &mut findings);
    }
    let managers = config.get("alerting").map(|a| list(a, "alertmanagers"));
    for manager in managers.into_iter().flatten() {
        if text(manager, "api_version") == "v1" {
            findings.push(
                "alertmanagers: API v1 is not spoken any more; take api_version out, or say v2 (Alertmanager 0.16 or later)"
                    .to_owned(),
            );
        }
    }
    for remote in list(config, "remote_write") {
        if remote.get("enable_http2").is_none() {
            let name = match text(remote, "name") {
                "" => text(remote, "url"),
                name => name,
            };
            findings.push(format!(
                "remote_write {name}: HTTP/2 is off unless enable_http2: true is set"
            ));
        }
    }
    findings
}

fn of_job(job: &Value, findings: &mut Vec<String>) {
    let name = text(job, "job_name");
    if job.get("scrape_classic_histograms").is_some() {
        findings.push(format!(
            "job {name}: scrape_classic_histograms is called always_scrape_classic_histograms"
        ));
    }
    if job.get("fallback_scrape_protocol").is_none() {
        findings.push(format!(
            "job {name}: a target without a known Content-Type fails to be scraped; set fallback_scrape_protocol: PrometheusText0.0.4 if there may be one"
        ));
    }
    let groups = list(job, "static_configs").flat_map(|group| list(group, "targets"));
    for target in groups.filter_map(Value::as_str) {
        let host = target.rsplit_once(']').map_or(target, |(_, rest)| rest);
        if !host.contains(':') {
            findings.push(format!(
                "job {name}: target {target} has no port, and none is added to its address any more: its label instance is {target} from now on"
            ));
        }
    }
    for section in ["relabel_configs", "metric_relabel_configs"] {
        for rule in list(job, section) {
            of_relabelling(name, section, rule, findings);
        }
    }
}

/// Values of `le` and `quantile` are floats now, `1.0`, and expressions match line feeds.
fn of_relabelling(job: &str, section: &str, rule: &Value, findings: &mut Vec<String>) {
    let mut sources = list(rule, "source_labels").filter_map(Value::as_str);
    let buckets = sources.find(|s| matches!(*s, "le" | "quantile"));
    let regex = match rule.get("regex") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => return,
    };
    if let Some(label) = buckets
        && expressions::has_whole_number(&regex)
    {
        findings.push(format!(
            "job {job}, {section}: {label} is written as a float now (1.0 for 1): {regex:?} does not match any more"
        ));
    }
}

/// What means something else in rules whose series are scraped every `interval` ms.
fn of_rules(file: &Value, interval: Millis) -> Vec<String> {
    let mut findings = Vec::new();
    for group in list(file, "groups") {
        for rule in list(group, "rules") {
            let name = match text(rule, "alert") {
                "" => text(rule, "record"),
                alert => alert,
            };
            let place = format!("group {:?}, rule {name:?}", text(group, "name"));
            let expr = match rule.get("expr") {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => continue,
            };
            let found = expressions::findings(&expr, interval);
            findings.extend(found.into_iter().map(|f| format!("{place}: {f}")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Vec<String> {
        of_config(&wire::yaml(text).unwrap())
    }

    #[test]
    fn configurations() {
        let found = config(
            "global: {external_labels: {a: 'x${HOST}', b: y}}\nscrape_configs:\n- job_name: j\n  scrape_classic_histograms: true\n  fallback_scrape_protocol: PrometheusText0.0.4\n  static_configs: [{targets: ['a', 'b:9090', '[::1]', '[::1]:80']}]\n  metric_relabel_configs: [{source_labels: [le], regex: '1|2.5', action: drop}]\n- job_name: k\nalerting: {alertmanagers: [{api_version: v1}, {}]}\nremote_write: [{url: 'http://a/'}, {url: 'http://b/', enable_http2: true}]\n",
        );
        let about = [
            "external label a",
            "always_scrape_classic_histograms",
            "target a has no port",
            "target [::1] has no port",
            "le is written as a float",
            "job k: a target without a known Content-Type",
            "API v1",
            "remote_write http://a/",
        ];
        assert_eq!(found.len(), about.len(), "{found:#?}");
        for (found, about) in found.iter().zip(about) {
            assert!(found.contains(about), "{found}");
        }
        assert_eq!(config("scrape_configs: 1\nalerting: []\n"), [""; 0]);
    }

    #[test]
    fn intervals() {
        let of = |text| longest_interval(&wire::yaml(text).unwrap());
        assert_eq!(of("{}"), MINUTE);
        assert_eq!(of("global: {scrape_interval: 15s}"), 15_000);
        let two =
            "global: {scrape_interval: 15s}\nscrape_configs: [{job_name: a, scrape_interval: 2m}]";
        assert_eq!(of(two), 2 * MINUTE);
    }

    #[test]
    fn rules_are_named() {
        let text = "groups: [{name: g, rules: [{record: r, expr: 'holt_winters(a[10m], 0.5, 0.5)'}, {alert: A, expr: 1}]}]";
        let found = of_rules(&wire::yaml(text).unwrap(), MINUTE);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("group \"g\", rule \"r\": holt_winters"),
            "{found:?}"
        );
    }
}
