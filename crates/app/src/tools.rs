//! `epimetheus tools ...`: what promtool and `thanos tools` do.

pub mod promql;
pub mod rules;
pub mod tsdb;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::cli::{not_in_this_version, planned};

/// `tools` and everything below it.
pub fn command() -> Command {
    let files = Arg::new("files")
        .action(ArgAction::Append)
        .num_args(1..)
        .required(true)
        .value_name("FILE");
    let promql = Command::new("promql")
        .about("Work with PromQL")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("test")
                .about("Run scripts of Prometheus' .test language and count what passes")
                .arg(files),
        )
        .subcommand(
            Command::new("format")
                .about("Print an expression in its canonical, indented form")
                .arg(Arg::new("query").required(true).value_name("QUERY")),
        );
    let mut tools = Command::new("tools")
        .about("Tools: what promtool and 'thanos tools' do")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(promql)
        .subcommand(
            Command::new("check")
                .about("Check the resources for validity")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(rules::check_config_command())
                .subcommand(rules::check_rules_command()),
        )
        .subcommand(
            Command::new("test")
                .about("Unit testing")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(rules::test_rules_command()),
        )
        .subcommand(tsdb::command());
    for (name, about) in [
        ("bucket", "Look into a bucket and mend it"),
        ("query", "Ask a server"),
        ("push", "Push metrics"),
        ("debug", "Fetch debug information"),
    ] {
        tools = tools.subcommand(planned(name, about));
    }
    tools
}

/// Runs what was typed behind `tools`.
pub fn dispatch(matches: &ArgMatches) -> Result<ExitCode> {
    match matches.subcommand() {
        Some(("promql", m)) => match m.subcommand() {
            Some(("test", m)) => promql::test(m.get_many::<String>("files").into_iter().flatten()),
            Some(("format", m)) => promql::format(m.get_one::<String>("query").map_or("", |q| q)),
            _ => Ok(ExitCode::from(2)),
        },
        Some(("check", m)) => match m.subcommand() {
            Some(("config", m)) => rules::check_config(m),
            Some(("rules", m)) => rules::check_rules(m),
            _ => Ok(ExitCode::from(2)),
        },
        Some(("test", m)) => match m.subcommand() {
            Some(("rules", m)) => rules::test_rules(m),
            _ => Ok(ExitCode::from(2)),
        },
        Some(("tsdb", m)) => tsdb::dispatch(m),
        Some((name, _)) => Ok(not_in_this_version(&format!("tools {name}"))),
        None => Ok(ExitCode::from(2)),
    }
}
