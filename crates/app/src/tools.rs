//! `epimetheus tools ...`: what promtool and `thanos tools` do.

pub mod bucket;
pub mod check;
pub mod debug;
pub mod language;
mod progress;
pub mod promql;
pub mod push;
pub mod query;
pub mod rules;
pub mod tsdb;

use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgMatches, Command};

/// `tools` and everything below it.
pub fn command() -> Command {
    commands().args(language::flags(false))
}

/// The commands, without the flags that all of them take.
pub fn commands() -> Command {
    Command::new("tools")
        .about("Tools: what promtool and 'thanos tools' do")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(promql::command())
        .subcommand(query::command())
        .subcommand(
            Command::new("check")
                .about("Check the resources for validity")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .arg(rules::lookback())
                .subcommand(rules::check_config_command())
                .subcommand(rules::check_rules_command())
                .subcommands(check::commands()),
        )
        .subcommand(
            Command::new("test")
                .about("Unit testing")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .arg(rules::junit_arg())
                .subcommand(rules::test_rules_command()),
        )
        .subcommand(debug::command())
        .subcommand(tsdb::command())
        .subcommand(bucket::command())
        .subcommand(push::command())
}

/// Runs what was typed behind `tools`.
pub fn dispatch(matches: &ArgMatches) -> Result<ExitCode> {
    match matches.subcommand() {
        Some(("promql", m)) => promql::dispatch(m),
        Some(("query", m)) => query::dispatch(m),
        Some(("check", m)) => match m.subcommand() {
            Some(("config", m)) => rules::check_config(m),
            Some(("rules", m)) => rules::check_rules(m),
            Some((name, m)) => check::dispatch(name, m),
            _ => Ok(ExitCode::from(2)),
        },
        Some(("test", m)) => match m.subcommand() {
            Some(("rules", m)) => rules::test_rules(m),
            _ => Ok(ExitCode::from(2)),
        },
        Some(("debug", m)) => debug::dispatch(m),
        Some(("tsdb", m)) => tsdb::dispatch(m),
        Some(("bucket", m)) => bucket::dispatch(m),
        Some(("push", m)) => push::dispatch(m),
        _ => Ok(ExitCode::from(2)),
    }
}
