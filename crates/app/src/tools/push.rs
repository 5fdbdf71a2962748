//! `tools push metrics`: the lines of a text, sent to a server that receives remote write.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use ingest::receive::Message;
use ingest::send::push::{Pushed, push};
use model::report::{Metadata, MetricType};
use model::time::{Clock as _, WallClock, parse_duration, span};
use model::{Labels, Millis};
use scrape::parse::{Event, Format, Parser, families, unescape, unescape_help};
use wire::client::{ClientOptions, HttpClient};

use super::query::client::{parse_headers, settings, settings_file};

/// Where servers receive remote write.
const PATH: &str = "/api/v1/write";

/// The command and everything below it.
pub fn command() -> Command {
    let value = |name, default, help| {
        let arg = Arg::new(name).long(name).value_name("VALUE");
        arg.default_value(default).help(help)
    };
    let pairs = |name, help| {
        let arg = Arg::new(name).long(name).value_name("NAME=VALUE");
        arg.action(ArgAction::Append).help(help)
    };
    Command::new("push")
        .about("Push to a Prometheus server")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(settings_file().global(true))
        .subcommand(
            Command::new("metrics")
                .about("Push metrics to a Prometheus remote write (for testing purpose only)")
                .arg(
                    Arg::new("remote-write-url")
                        .required(true)
                        .help("URL of the server to push to, with or without the path of its remote write."),
                )
                .arg(
                    Arg::new("metric-files")
                        .action(ArgAction::Append)
                        .help("The metric files to push; without any, standard input."),
                )
                .arg(
                    pairs("label", "Label to attach to metrics. Can be given more than once.")
                        .default_value("job=promtool"),
                )
                .arg(value("timeout", "30s", "The time to wait for pushing metrics."))
                .arg(pairs("header", "Prometheus remote write header."))
                .arg(value(
                    "protobuf_message",
                    "prometheus.WriteRequest",
                    "The message to send: prometheus.WriteRequest or io.prometheus.write.v2.Request.",
                ))
                .arg(value("remote-write.path", PATH, "Where the server receives remote write.")),
        )
}

/// Runs what was typed behind `push`.
pub fn dispatch(matches: &ArgMatches) -> Result<ExitCode> {
    let Some((_, m)) = matches.subcommand() else {
        return Ok(ExitCode::from(2));
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let target = match Target::new(m) {
        Ok(target) => target,
        Err(error) => {
            eprintln!("  FAILED: {error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let files: Vec<&String> = m.get_many("metric-files").into_iter().flatten().collect();
    let one = |read: Result<Vec<u8>, String>, place: &str, what: &str| {
        let pushed = read.and_then(|text| {
            println!("Parsing {place}");
            runtime.block_on(target.push(&text))
        });
        match &pushed {
            Ok(()) => println!("  SUCCESS: {what} pushed to remote write."),
            Err(error) => eprintln!("  FAILED: {error}"),
        }
        pushed.is_ok()
    };
    let mut all_well = true;
    if files.is_empty() {
        let mut text = Vec::new();
        let read = std::io::stdin().read_to_end(&mut text);
        let read = read.map(|_| text).map_err(|e| e.to_string());
        all_well = one(read, "standard input", "metrics");
    }
    for file in files {
        let read = std::fs::read(file).map_err(|e| format!("open {file}: {e}"));
        let what = format!("metrics file {file}");
        all_well &= one(read, &what, &what);
    }
    Ok(if all_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Where metrics are pushed, and how.
struct Target {
    client: HttpClient,
    url: String,
    message: Message,
    labels: BTreeMap<String, String>,
    headers: Vec<(axum::http::HeaderName, axum::http::HeaderValue)>,
}

impl Target {
    fn new(m: &ArgMatches) -> Result<Self, String> {
        let text = |name: &str| m.get_one::<String>(name).map_or("", String::as_str);
        let list = |name: &str| -> Vec<&str> {
            let values = m.get_many::<String>(name).into_iter().flatten();
            values.map(String::as_str).collect()
        };
        let name = text("protobuf_message");
        let message: Message = name.parse().map_err(|_| {
            format!("invalid protobuf message {name:?}, must be prometheus.WriteRequest or io.prometheus.write.v2.Request")
        })?;
        let timeout = text("timeout");
        let timeout = parse_duration(timeout).map_err(|e| format!("--timeout {timeout:?}: {e}"))?;
        let mut labels = BTreeMap::new();
        for label in list("label") {
            let pair = label.split_once('=');
            let (name, value) = pair.ok_or_else(|| format!("expected KEY=VALUE got {label:?}"))?;
            labels.insert(name.to_owned(), value.to_owned());
        }
        // Only the first caller of a process sets it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = ClientOptions {
            timeout: Some(span(timeout)),
            ..ClientOptions::default()
        };
        let client = HttpClient::new(&settings(m)?, options).map_err(|e| e.to_string())?;
        let path = text("remote-write.path").trim_start_matches('/');
        let mut url = url::Url::parse(text("remote-write-url")).map_err(|e| e.to_string())?;
        let base = url.path().trim_end_matches('/').to_owned();
        if !base.ends_with(path) {
            url.set_path(&format!("{base}/{path}"));
        }
        Ok(Self {
            client,
            url: url.into(),
            message,
            labels,
            headers: parse_headers(&list("header"))?,
        })
    }

    /// Sends all lines of a text in one request.
    async fn push(&self, text: &[u8]) -> Result<(), String> {
        let samples = samples(text, &self.labels, WallClock.now())?;
        push(
            &self.client,
            &self.url,
            self.message,
            &samples,
            &self.headers,
        )
        .await
    }
}

/// The samples of a text; those without a timestamp are of `now` (ms). A `job` of their own is
/// called `exported_job`.
fn samples(
    text: &[u8],
    labels: &BTreeMap<String, String>,
    now: Millis,
) -> Result<Vec<Pushed>, String> {
    let mut known: BTreeMap<String, (MetricType, String)> = BTreeMap::new();
    let mut lines = Vec::new();
    let mut parser = Parser::new(text, Format::Text);
    while let Some(event) = parser.next_event().map_err(|e| e.to_string())? {
        match event {
            Event::Help(name, help) => {
                let entry = known.entry(unescape(name).into_owned()).or_default();
                entry.1 = unescape_help(help).into_owned();
            }
            Event::Type(name, kind) => {
                known.entry(unescape(name).into_owned()).or_default().0 = kind;
            }
            Event::Series(series) => {
                let own = series.labels().map_err(|e| e.to_string())?;
                let ts = series.timestamp.filter(|ts| *ts != 0).unwrap_or(now);
                lines.push((own, ts, series.value));
            }
            Event::Unit(..) | Event::Comment(_) => {}
        }
    }
    let known: BTreeMap<String, Arc<Metadata>> = known
        .into_iter()
        .map(|(name, (kind, help))| {
            let metadata = Metadata {
                kind,
                help: help.into(),
                unit: "".into(),
            };
            (name, Arc::new(metadata))
        })
        .collect();
    let pushed = lines.into_iter().map(|(own, ts, value)| Pushed {
        metadata: metadata_of(&known, own.name()).cloned(),
        labels: labelled(&own, labels),
        ts,
        value,
    });
    Ok(pushed.collect())
}

fn labelled(own: &Labels, labels: &BTreeMap<String, String>) -> Labels {
    let mut builder = Labels::default().builder();
    for (name, value) in labels {
        builder.set(name, value);
    }
    for (name, value) in own {
        let name = if name == "job" { "exported_job" } else { name };
        builder.set(name, value);
    }
    builder.build()
}

/// What is known of a metric, or of the histogram or summary that it is a part of.
fn metadata_of<'a>(
    known: &'a BTreeMap<String, Arc<Metadata>>,
    name: &str,
) -> Option<&'a Arc<Metadata>> {
    families(name).find_map(|name| known.get(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_samples() {
        let text = b"# HELP a what it is\n# TYPE a counter\na{job=\"x\"} 1 5\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n";
        let labels = BTreeMap::from([("job".to_owned(), "promtool".to_owned())]);
        let found = samples(text, &labels, 9).unwrap();
        let shown: Vec<String> = found.iter().map(|s| s.labels.to_string()).collect();
        assert_eq!(shown[0], r#"a{exported_job="x", job="promtool"}"#);
        assert_eq!(shown[1], r#"h_bucket{job="promtool", le="+Inf"}"#);
        assert_eq!((found[0].ts, found[1].ts), (5, 9));
        let kind = |s: &Pushed| s.metadata.as_ref().unwrap().kind;
        assert_eq!(kind(&found[0]), MetricType::Counter);
        assert_eq!(kind(&found[3]), MetricType::Histogram);
        assert!(samples(b"a{ 1\n", &labels, 9).is_err());
    }
}
