//! `tools tsdb create-blocks-from rules`: recording rules asked of a server for the past, and the
//! answers written as blocks.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use axum::http::{HeaderValue, Method, header};
use clap::{Arg, ArgAction, ArgMatches, Command};
use model::time::{Clock as _, WallClock, parse_duration};
use model::{Labels, METRIC_NAME, Millis};
use serde::Deserialize;
use wire::client::{ClientOptions, HttpClient, HttpSettings};

use super::backfill::{Importer, Table, duration};
use super::{flag, folder, text};

/// The command line, without what all imports share.
pub fn command() -> Command {
    Command::new("rules")
        .about("Create blocks of data for new recording rules.")
        .arg(flag("http.config.file", "HTTP client configuration file."))
        .arg(
            flag("url", "The URL for the Prometheus API with the data where the rule will be backfilled from.")
                .default_value("http://localhost:9090"),
        )
        .arg(flag("start", "The time to start backfilling the new rule from. Must be a RFC3339 formatted date or Unix timestamp.").required(true))
        .arg(flag("end", "The time to backfill to (3 hours ago). Must be a RFC3339 formatted date or Unix timestamp."))
        .arg(flag("output-dir", "Output directory for generated blocks.").default_value("data/"))
        .arg(flag("eval-interval", "How frequently to evaluate rules when backfilling if a value is not set in the recording rule files.").default_value("60s"))
        .arg(
            Arg::new("files")
                .value_name("RULE_FILES")
                .action(ArgAction::Append)
                .num_args(1..)
                .required(true)
                .help("Files containing recording rules to be backfilled. Alerting rules are not evaluated."),
        )
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    name: String,
    #[serde(default)]
    interval: Option<String>,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(default)]
    record: String,
    #[serde(default)]
    expr: serde_json::Value,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// What is asked, from when to when.
struct Job {
    start: Millis,
    end: Millis,
    duration: Millis,
    default_interval: Millis,
    output: std::path::PathBuf,
}

/// Runs the command.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    let now = WallClock.now();
    let end = match text(m, "end").filter(|t| !t.is_empty()) {
        Some(text) => time(text).map_err(|e| anyhow!("error parsing end time: {e}"))?,
        None => now - 3 * 3_600_000,
    };
    let start = time(text(m, "start").unwrap_or_default())
        .map_err(|e| anyhow!("error parsing start time: {e}"))?;
    if start >= end {
        bail!("start time is not before end time");
    }
    let interval = text(m, "eval-interval").unwrap_or("60s");
    let job = Job {
        start: start.div_euclid(1000) * 1000,
        end: end.div_euclid(1000) * 1000,
        duration: duration(m)?,
        default_interval: parse_duration(interval)
            .map_err(|e| anyhow!("invalid --eval-interval: {e}"))?,
        output: folder(m, "output-dir"),
    };
    let files: Vec<&String> = m
        .get_many::<String>("files")
        .into_iter()
        .flatten()
        .collect();
    let mut groups = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("rule importer parse error: open {file}"))?;
        let parsed: File =
            wire::yaml(&text).map_err(|e| anyhow!("rule importer parse error: {file}: {e}"))?;
        groups.extend(parsed.groups.into_iter().map(|g| (file.clone(), g)));
    }
    let client = Client::new(m)?;
    std::fs::create_dir_all(&job.output).context("create output dir")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut table = Table::new(m);
    let mut failures = 0;
    for (file, group) in &groups {
        for rule in group.rules.iter().filter(|r| !r.record.is_empty()) {
            eprintln!("processing rule {} of group {}", rule.record, group.name);
            if let Err(e) = runtime.block_on(job.import(&client, file, group, rule, &mut table)) {
                eprintln!("rule importer error: {e:#}");
                failures += 1;
            }
        }
    }
    if failures > 0 {
        bail!("error importing rules");
    }
    Ok(ExitCode::SUCCESS)
}

impl Job {
    async fn import(
        &self,
        client: &Client,
        file: &str,
        group: &Group,
        rule: &Rule,
        table: &mut Table,
    ) -> Result<()> {
        let interval = match group.interval.as_deref().filter(|i| !i.is_empty()) {
            Some(text) => parse_duration(text).map_err(|e| anyhow!("group {}: {e}", group.name))?,
            None => self.default_interval,
        };
        if interval <= 0 {
            bail!("group {}: the interval must be positive", group.name);
        }
        let expr = match &rule.expr {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        promql::parse::parse(&expr, &promql::features::Features::ALL)
            .map_err(|e| anyhow!("rule {}: {e}", rule.record))?;
        let offset = phase(file, &group.name, interval);
        let mut from = self.start.div_euclid(self.duration) * self.duration;
        while from <= self.end {
            let first = aligned(self.start.max(from), interval, offset);
            let last = self.end.min(from + self.duration - 1000);
            if last < first {
                // The rest of this block is shorter than an interval.
                from += self.duration;
                continue;
            }
            let answer = client.query_range(&expr, first, last, interval).await?;
            let mut importer = Importer::new(self.duration, usize::MAX);
            for series in answer {
                let mut labels = Labels::from_pairs(series.metric).builder();
                for (name, value) in &rule.labels {
                    match value.as_str() {
                        "" => labels.remove(name),
                        value => labels.set(name, value),
                    };
                }
                labels.set(METRIC_NAME, rule.record.as_str());
                let id = importer.series(&labels.build())?;
                for (seconds, value) in series.values {
                    let value = model::text::parse_float(&value)
                        .ok_or_else(|| anyhow!("query range: {value:?} is no number"))?;
                    importer.add(id, (seconds * 1000.0).round() as Millis, value)?;
                }
                if !series.histograms.is_empty() {
                    eprintln!("rule {}: native histograms are left out", rule.record);
                }
            }
            importer.write(&self.output, &mut |meta| table.print((meta, &self.output)))?;
            from += self.duration;
        }
        Ok(())
    }
}

/// When a group is evaluated: so long behind the multiples of its interval (as Prometheus spreads
/// groups, by a hash of file and name).
fn phase(file: &str, group: &str, interval: Millis) -> Millis {
    let hash = Labels::from_pairs([("name", group), ("file", file)]).hash64();
    // In nanoseconds, as the server does; whoever is asked rounds to milliseconds.
    let interval = interval as u64 * 1_000_000;
    ((hash % interval + 500_000) / 1_000_000) as Millis
}

/// The first evaluation at or after the second of `ts`.
fn aligned(ts: Millis, interval: Millis, offset: Millis) -> Millis {
    let before = (ts - offset).div_euclid(interval) * interval + offset;
    match before.div_euclid(1000) < ts.div_euclid(1000) {
        true => before + interval,
        false => before,
    }
}

/// A time as promtool takes it: seconds, or RFC 3339.
fn time(text: &str) -> Result<Millis> {
    if let Some(seconds) = model::text::parse_float(text).filter(|s| s.is_finite()) {
        return Ok((seconds * 1000.0).round() as Millis);
    }
    let parsed: jiff::Timestamp = text.parse().map_err(|_| {
        anyhow!(
            "cannot parse {} to a valid timestamp",
            model::text::quote(text)
        )
    })?;
    Ok(parsed.as_millisecond())
}

struct Client {
    http: HttpClient,
    base: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
    #[serde(default)]
    histograms: Vec<serde_json::Value>,
}

impl Client {
    fn new(m: &ArgMatches) -> Result<Self> {
        let settings = match text(m, "http.config.file").filter(|f| !f.is_empty()) {
            None => HttpSettings::default(),
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("failed to load HTTP config file: open {file}"))?;
                wire::yaml(&text).map_err(|e| anyhow!("failed to load HTTP config file: {e}"))?
            }
        };
        // Only the first caller of a process sets it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = ClientOptions {
            timeout: Some(Duration::from_secs(300)),
            ..ClientOptions::default()
        };
        Ok(Self {
            http: HttpClient::new(&settings, options)
                .map_err(|e| anyhow!("new api client error: {e}"))?,
            base: text(m, "url")
                .unwrap_or_default()
                .trim_end_matches('/')
                .to_owned(),
        })
    }

    async fn query_range(
        &self,
        query: &str,
        start: Millis,
        end: Millis,
        step: Millis,
    ) -> Result<Vec<Series>> {
        const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
        let seconds = |ms: Millis| format!("{}", ms as f64 / 1000.0);
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("query", query)
            .append_pair("start", &seconds(start))
            .append_pair("end", &seconds(end))
            .append_pair("step", &seconds(step))
            .finish();
        let url = format!("{}/api/v1/query_range", self.base);
        let mut request = self.http.request(Method::POST, &url)?;
        request.headers_mut().insert(header::CONTENT_TYPE, FORM);
        *request.body_mut() = Some(form.into());
        let response = self
            .http
            .send(request)
            .await
            .map_err(|e| anyhow!("query range: {e}"))?;
        let status = response.status();
        let body = response
            .bytes()
            .await
            .map_err(|e| anyhow!("query range: {e}"))?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|e| anyhow!("query range: status {}: {e}", status.as_u16()))?;
        for warning in &answer.warnings {
            eprintln!("Range query returned warnings: {warning}");
        }
        match (answer.error, answer.data) {
            (None, Some(data)) if data.kind == "matrix" => Ok(data.result),
            (None, Some(data)) => bail!("rule result is wrong type {}", data.kind),
            (Some(error), _) => bail!("query range: {error}"),
            (None, None) => bail!("query range: an answer without data"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_keep_their_phase() {
        for (ts, interval, offset, want) in [
            (0, 60_000, 0, 0),
            (1000, 60_000, 0, 60_000),
            (60_000, 60_000, 17_000, 77_000),
            (77_900, 60_000, 17_500, 77_500),
            (-5000, 60_000, 10_000, 10_000),
        ] {
            assert_eq!(aligned(ts, interval, offset), want, "{ts}");
        }
        let p = phase("a.yml", "g", 60_000);
        assert!((0..60_000).contains(&p) && p != phase("b.yml", "g", 60_000));
    }

    #[test]
    fn times() {
        assert_eq!(time("1700000000.5").unwrap(), 1_700_000_000_500);
        assert_eq!(time("2023-11-14T22:13:20Z").unwrap(), 1_700_000_000_000);
        assert!(time("yesterday").is_err());
    }
}
