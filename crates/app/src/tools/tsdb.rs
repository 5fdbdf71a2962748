//! `tools tsdb`: what `promtool tsdb` does, with its flags, outputs and exit codes, and more.

mod analyze;
mod backfill;
mod bench;
mod dump;
mod histogram;
mod list;
pub(crate) mod rules;
mod show;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};

const DEFAULT_PATH: &str = "data/";

fn group(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .subcommand_required(true)
        .arg_required_else_help(true)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .allow_hyphen_values(true)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .action(ArgAction::SetTrue)
}

fn human_readable() -> Arg {
    switch("human-readable", "Print human readable values.").short('r')
}

fn path() -> Arg {
    Arg::new("path")
        .value_name("DB_PATH")
        .default_value(DEFAULT_PATH)
        .help("Database path.")
}

fn dumping(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .arg(path())
        .arg(flag(
            "sandbox-dir-root",
            "Folder in which a folder of links is made for reading (default is the database path). It is removed at the end.",
        ))
        .arg(
            flag("min-time", "Minimum timestamp to dump, in milliseconds since the Unix epoch.")
                .value_parser(clap::value_parser!(i64)),
        )
        .arg(
            flag("max-time", "Maximum timestamp to dump, in milliseconds since the Unix epoch.")
                .value_parser(clap::value_parser!(i64)),
        )
        .arg(
            flag("match", "Series selector. Can be specified multiple times.")
                .action(ArgAction::Append)
                .default_value("{__name__=~'(?s:.*)'}"),
        )
}

/// The command line.
pub fn command() -> Command {
    let importing = |command: Command| {
        command
            .arg(human_readable())
            .arg(switch("quiet", "Do not print created blocks.").short('q'))
            .arg(flag(
                "max-block-duration",
                "Maximum duration created blocks may span. Anything less than 2h is ignored.",
            ))
    };
    group("tsdb", "Look into a data directory, and write one")
        .subcommand(
            Command::new("list")
                .about("List tsdb blocks.")
                .arg(human_readable())
                .arg(path()),
        )
        .subcommand(
            Command::new("analyze")
                .about("Analyze churn, label pair cardinality and compaction efficiency.")
                .arg(path())
                .arg(Arg::new("block").value_name("BLOCK_ID").help("Block to analyze (default is the last block)."))
                .arg(
                    flag("limit", "How many items to show in each list.")
                        .default_value("20")
                        .value_parser(clap::value_parser!(usize)),
                )
                .arg(switch("extended", "Run extended analysis."))
                .arg(flag("match", "Series selector to analyze. Only 1 set of matchers is supported now.")),
        )
        .subcommand(
            dumping("dump", "Dump data (series+samples or optionally just series) from a TSDB.").arg(
                flag("format", "Output format of the dump.")
                    .default_value("prom")
                    .value_parser(["prom", "seriesjson"]),
            ),
        )
        .subcommand(dumping(
            "dump-openmetrics",
            "Dump samples from a TSDB into OpenMetrics text format, excluding native histograms.",
        ))
        .subcommand(
            group(
                "create-blocks-from",
                "Import samples from input and produce TSDB blocks.",
            )
            .subcommand(
                importing(Command::new("openmetrics").about("Import samples from OpenMetrics input."))
                    .arg(
                        flag("label", "Label to attach to metrics. Can be specified multiple times. Example --label=label_name=label_value")
                            .action(ArgAction::Append),
                    )
                    .arg(Arg::new("input").value_name("INPUT_FILE").required(true).help("OpenMetrics file to read samples from."))
                    .arg(Arg::new("output").value_name("OUTPUT_DIR").default_value(DEFAULT_PATH).help("Output directory for generated blocks.")),
            )
            .subcommand(importing(rules::command())),
        )
        .subcommand(
            Command::new("verify")
                .about("Check every block, log and head chunk file, and say what an older Prometheus could not read.")
                .arg(path())
                .arg(
                    flag("readable-by", "Also say what this version of Prometheus could not read.")
                        .value_parser(["2.42", "2.55", "3.x"]),
                ),
        )
        .subcommand(
            group("bench", "Run benchmarks.").subcommand(bench::command()),
        )
}

/// Runs what was typed.
pub fn dispatch(matches: &ArgMatches) -> Result<ExitCode> {
    match matches.subcommand() {
        Some(("list", m)) => list::run(&folder(m, "path"), m.get_flag("human-readable")),
        Some(("analyze", m)) => analyze::run(m),
        Some(("dump", m)) => dump::run(
            m,
            match text(m, "format") {
                Some("seriesjson") => dump::Form::Json,
                _ => dump::Form::Text,
            },
        ),
        Some(("dump-openmetrics", m)) => dump::run(m, dump::Form::OpenMetrics),
        Some(("create-blocks-from", m)) => match m.subcommand() {
            Some(("openmetrics", m)) => backfill::run(m),
            Some(("rules", m)) => rules::run(m),
            _ => Ok(ExitCode::from(2)),
        },
        Some(("verify", m)) => verify::run(m),
        Some(("bench", m)) => match m.subcommand() {
            Some(("write", m)) => bench::run(m),
            _ => Ok(ExitCode::from(2)),
        },
        _ => Ok(ExitCode::from(2)),
    }
}

fn text<'a>(m: &'a ArgMatches, name: &str) -> Option<&'a str> {
    m.try_get_one::<String>(name)
        .ok()
        .flatten()
        .map(String::as_str)
}

fn folder(m: &ArgMatches, name: &str) -> PathBuf {
    PathBuf::from(text(m, name).unwrap_or(DEFAULT_PATH))
}

/// Series that a selector selects; the error is for people.
fn selector(text: &str) -> Result<Vec<model::Matcher>> {
    promql::parse::parse_selector(text).map_err(|e| anyhow::anyhow!("{e}"))
}
