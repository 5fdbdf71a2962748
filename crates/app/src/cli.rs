//! The commands, and which code each runs.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::kingpin::{Flag, Typed, register};
use crate::roles::{all_in_one, server};
use crate::tools;

/// Roles and tools that stand in the plan, but not in this version.
const PLANNED: &[(&str, &str)] = &[
    (
        "sidecar",
        "StoreAPI and block shipping beside a real Prometheus",
    ),
    ("store", "StoreAPI over the blocks in a bucket"),
    ("query", "PromQL over many stores"),
    (
        "query-frontend",
        "Split, cache and retry in front of a querier",
    ),
    ("compact", "Compact, downsample, retain and clean a bucket"),
    ("rule", "Evaluate rules against queriers"),
    ("receive", "Take remote write and OTLP"),
];

/// The whole command line.
pub fn command() -> Command {
    let mut command = Command::new("epimetheus")
        .about("Hindsight for Prometheus: scrape, store, ship, query - forever, in one binary")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(role(
            "all-in-one",
            "Everything in one process over a local folder",
            all_in_one::FLAGS,
        ))
        .subcommand(role(
            "server",
            "Scrape, store and answer, with Prometheus' flags and prometheus.yml",
            server::FLAGS,
        ))
        .subcommand(tools::command());
    for (name, about) in PLANNED {
        command = command.subcommand(planned(name, about));
    }
    command
}

fn role(name: &'static str, about: &'static str, flags: &[&[Flag]]) -> Command {
    register(Command::new(name).about(about), flags)
}

/// A command that takes whatever is typed and says that it is not there yet.
pub fn planned(name: &'static str, about: &str) -> Command {
    Command::new(name)
        .about(format!("{about} [not in this version]"))
        .disable_help_flag(true)
        .arg(
            Arg::new("rest")
                .action(ArgAction::Append)
                .num_args(0..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .hide(true),
        )
}

/// Says in one line that `name` is not there yet.
pub fn not_in_this_version(name: &str) -> ExitCode {
    eprintln!("epimetheus: {name}: not in this version");
    ExitCode::FAILURE
}

/// Runs what was typed.
pub fn dispatch(matches: &ArgMatches) -> Result<ExitCode> {
    match matches.subcommand() {
        Some(("all-in-one", m)) => all_in_one::run(&Typed::new(m, all_in_one::FLAGS)),
        Some(("server", m)) => server::run(&Typed::new(m, server::FLAGS)),
        Some(("tools", m)) => tools::dispatch(m),
        Some((name, _)) => Ok(not_in_this_version(name)),
        None => Ok(ExitCode::from(2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn planned_roles_take_any_flags() {
        let typed = [
            "epimetheus",
            "store",
            "--objstore.config-file=x",
            "--help",
            "y",
        ];
        let matches = command().try_get_matches_from(typed).unwrap();
        assert_eq!(matches.subcommand_name(), Some("store"));
    }

    #[test]
    fn a_near_miss_names_the_flag() {
        let typed = ["epimetheus", "server", "--storage.tsdb.pth=x"];
        let error = command()
            .try_get_matches_from(typed)
            .unwrap_err()
            .to_string();
        assert!(error.contains("--storage.tsdb.path"), "{error}");
    }
}
