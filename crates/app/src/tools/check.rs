//! `tools check metrics|web-config|service-discovery|healthy|ready`, as promtool does them, and `migrate`,
//! which is our own.

pub mod config;
mod discovery;
mod lint;
mod metrics;
mod migrate;
mod status;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};

fn place(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).required(true).value_name(name).help(help)
}

/// The commands below `check` but for `config` and `rules`.
pub fn commands() -> [Command; 6] {
    let asking = |name, about| {
        Command::new(name)
            .about(about)
            .arg(super::query::client::settings_file())
            .arg(
                Arg::new("url")
                    .long("url")
                    .default_value("http://localhost:9090")
                    .help("The URL for the Prometheus server."),
            )
    };
    [
        Command::new("metrics")
            .about("Lint metrics on standard input for consistency and correctness, and count their series")
            .arg(
                Arg::new("extended")
                    .long("extended")
                    .action(ArgAction::SetTrue)
                    .help("Print extended information related to the cardinality of the metrics."),
            )
            .arg(
                Arg::new("lint")
                    .long("lint")
                    .default_value("all")
                    .help("Linting checks to apply for metrics: all, none."),
            ),
        Command::new("web-config")
            .about("Check if the web config files are valid or not")
            .arg(
                place("web-config-files", "The config files to check.")
                    .action(ArgAction::Append)
                    .num_args(1..),
            ),
        Command::new("service-discovery")
            .about("Perform service discovery for the given job name and report the results, including relabeling")
            .arg(
                Arg::new("timeout")
                    .long("timeout")
                    .default_value("30s")
                    .help("The time to wait for discovery results."),
            )
            .arg(place("config-file", "The prometheus config file."))
            .arg(place("job", "The job to run service discovery for.")),
        asking("healthy", "Check if the Prometheus server is healthy"),
        asking("ready", "Check if the Prometheus server is ready"),
        migrate::command(),
    ]
}

/// Runs one of them.
pub fn dispatch(name: &str, matches: &ArgMatches) -> Result<ExitCode> {
    match name {
        "metrics" => metrics::run(matches),
        "web-config" => Ok(web_config(matches)),
        "service-discovery" => discovery::run(matches),
        "healthy" => status::run(matches, "/-/healthy"),
        "ready" => status::run(matches, "/-/ready"),
        "migrate" => migrate::run(matches),
        _ => Ok(ExitCode::from(2)),
    }
}

fn web_config(matches: &ArgMatches) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    let files = matches.get_many::<String>("web-config-files");
    for file in files.into_iter().flatten() {
        match wire::server::WebConfig::load(Path::new(file)) {
            Ok(_) => eprintln!("{file} SUCCESS"),
            Err(error) => {
                eprintln!("{file} FAILED: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
