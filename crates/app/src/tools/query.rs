//! `tools query`: asks a server, prints as promtool does.

pub mod analyze;
pub(super) mod client;
pub mod print;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};
use model::time::{Clock as _, WallClock};

use client::{Client, Failure};
use print::{Format, Printer};

fn option(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(name).help(help)
}

fn list(name: &'static str, help: &'static str) -> Arg {
    option(name, help).action(ArgAction::Append)
}

fn place(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).required(true).value_name(name).help(help)
}

/// The command and everything below it.
pub fn command() -> Command {
    let time = "(RFC3339 or Unix timestamp)";
    let start = || option("start", "Start time").help(format!("Start time {time}."));
    let end = || option("end", "End time").help(format!("End time {time}."));
    let matchers = || list("match", "Series selector. Can be given more than once.");
    let server = || place("server", "Prometheus server to query.");
    let header = || {
        list(
            "header",
            "Extra header to send to the server, as name=value.",
        )
    };
    let formats = ["promql", "json"];
    Command::new("query")
        .about("Ask a server")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            Arg::new("format")
                .long("format")
                .short('o')
                .global(true)
                .default_value("promql")
                .value_parser(formats)
                .help("Output format of the query."),
        )
        .arg(client::settings_file().global(true))
        .subcommand(
            Command::new("instant")
                .about("Run an instant query")
                .arg(option("time", "").help(format!("Query evaluation time {time}.")))
                .arg(header())
                .arg(server())
                .arg(place("expr", "PromQL query expression.")),
        )
        .subcommand(
            Command::new("range")
                .about("Run a range query")
                .arg(header())
                .arg(start())
                .arg(end())
                .arg(option("step", "Query step size (duration)."))
                .arg(server())
                .arg(place("expr", "PromQL query expression.")),
        )
        .subcommand(
            Command::new("series")
                .about("Find series")
                .arg(matchers().required(true))
                .arg(start())
                .arg(end())
                .arg(server()),
        )
        .subcommand(
            Command::new("labels")
                .about("Find the values of a label")
                .arg(start())
                .arg(end())
                .arg(matchers())
                .arg(server())
                .arg(place("name", "Label name to provide label values for.")),
        )
        .subcommand(
            Command::new("analyze")
                .about("Analyze how the buckets of histograms are used")
                .arg(option("server", "Prometheus server to query.").required(true))
                .arg(option("type", "Type of metric: histogram.").required(true))
                .arg(option("duration", "Time frame to analyze.").default_value("1h"))
                .arg(option("time", "").help(format!("Query time {time}, defaults to now.")))
                .arg(matchers().required(true)),
        )
}

/// Runs what was typed behind `query`.
pub fn dispatch(matches: &ArgMatches) -> Result<ExitCode> {
    let Some((name, m)) = matches.subcommand() else {
        return Ok(ExitCode::from(2));
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let asked = runtime.block_on(async {
        match name {
            "instant" => instant(m).await,
            "range" => range(m).await,
            "series" => series(m).await,
            "labels" => labels(m).await,
            _ => analyze::run(m).await,
        }
    });
    Ok(match asked {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("{}", e.text());
            ExitCode::FAILURE
        }
    })
}

fn text<'a>(m: &'a ArgMatches, name: &str) -> &'a str {
    m.get_one::<String>(name).map_or("", |s| s.as_str())
}

fn texts<'a>(m: &'a ArgMatches, name: &str) -> Vec<&'a str> {
    let given = m.get_many::<String>(name).into_iter().flatten();
    given.map(String::as_str).collect()
}

fn printer(m: &ArgMatches) -> Printer {
    Printer(match text(m, "format") {
        "json" => Format::Json,
        _ => Format::Promql,
    })
}

/// A time as it was typed, or `default`: nanoseconds since the epoch.
fn time(m: &ArgMatches, name: &str, default: i128, what: &str) -> Result<i128, Failure> {
    match text(m, name) {
        "" => Ok(default),
        typed => {
            parse_time(typed).map_err(|e| Failure::Plain(format!("error parsing {what}: {e}")))
        }
    }
}

fn parse_time(typed: &str) -> Result<i128> {
    if let Ok(seconds) = typed.parse::<f64>() {
        let whole = seconds.trunc();
        return Ok(whole as i128 * 1_000_000_000 + ((seconds - whole) * 1e9) as i128);
    }
    match typed.parse::<jiff::Timestamp>() {
        Ok(at) => Ok(at.as_nanosecond()),
        Err(_) => bail!("cannot parse {typed:?} to a valid timestamp"),
    }
}

fn now() -> i128 {
    i128::from(WallClock.now()) * 1_000_000
}

/// Nanoseconds as the API's seconds.
fn seconds(nanos: i128) -> String {
    print::number((nanos / 1_000_000_000) as f64 + (nanos % 1_000_000_000) as f64 / 1e9)
}

async fn instant(m: &ArgMatches) -> Result<String, Failure> {
    let client = Client::new(m, text(m, "server"), &texts(m, "header"))?;
    let at = seconds(time(m, "time", now(), "evaluation time")?);
    let params = [("query", text(m, "expr")), ("time", &at)];
    let data = client.post("/api/v1/query", &params).await?.data;
    Ok(printer(m).value(&data))
}

async fn range(m: &ArgMatches) -> Result<String, Failure> {
    const SECOND: i128 = 1_000_000_000;
    let client = Client::new(m, text(m, "server"), &texts(m, "header"))?;
    let end = time(m, "end", now(), "end time")?;
    let start = time(m, "start", end - 300 * SECOND, "start time")?;
    if start >= end {
        let why = "start time is not before end time";
        return Err(Failure::Plain(why.to_owned()));
    }
    let step = match text(m, "step") {
        "" => ((end - start) / SECOND / 250).max(1) * SECOND,
        typed => i128::from(print::parse_go_duration(typed).map_err(Failure::Plain)?),
    };
    let (start, end, step) = (seconds(start), seconds(end), seconds(step));
    let params = [
        ("query", text(m, "expr")),
        ("start", &start),
        ("end", &end),
        ("step", &step),
    ];
    let data = client.post("/api/v1/query_range", &params).await?.data;
    Ok(printer(m).value(&data))
}

/// `start` and `end` of everything, unless they were typed.
fn span(m: &ArgMatches) -> Result<(String, String), Failure> {
    const FAR: i128 = 9_999 * 3_600_000_000_000;
    let start = time(m, "start", now() - FAR, "start time")?;
    let end = time(m, "end", now() + FAR, "end time")?;
    Ok((seconds(start), seconds(end)))
}

fn with_matchers<'a>(
    m: &'a ArgMatches,
    start: &'a str,
    end: &'a str,
) -> Vec<(&'static str, &'a str)> {
    let matchers = texts(m, "match").into_iter().map(|s| ("match[]", s));
    let mut params = vec![("start", start), ("end", end)];
    params.extend(matchers);
    params
}

async fn series(m: &ArgMatches) -> Result<String, Failure> {
    let client = Client::new(m, text(m, "server"), &[])?;
    let (start, end) = span(m)?;
    let params = with_matchers(m, &start, &end);
    let data = client.post("/api/v1/series", &params).await?.data;
    Ok(printer(m).series(&data))
}

async fn labels(m: &ArgMatches) -> Result<String, Failure> {
    let client = Client::new(m, text(m, "server"), &[])?;
    let (start, end) = span(m)?;
    let params = with_matchers(m, &start, &end);
    let path = format!("/api/v1/label/{}/values", text(m, "name"));
    let answer = client.get(&path, &params).await?;
    for warning in &answer.warnings {
        eprintln!("query warning: {warning}");
    }
    Ok(printer(m).labels(&answer.data))
}
