//! The top floor: flags, roles, wiring, lifecycle. It decides nothing about samples.
//!
//! [`run`] takes a command line and gives an exit code. A role is one file in `roles/`: its
//! flags, its settings, its rooms opened in order.
//!
//! Useful for: finding out which rooms a role opens. Not useful for: anything a room does.

pub mod addresses;
pub mod cli;
pub mod config;
pub mod flags;
pub mod house;
pub mod kingpin;
pub mod limits;
pub mod logging;
pub mod outpost;
pub mod roles;
pub mod runtime;
pub mod tools;

use std::process::ExitCode;

/// Runs a command line (program name first).
pub fn run(args: Vec<String>) -> ExitCode {
    let args = match kingpin::expand_files(args) {
        Ok(args) => args,
        Err(e) => return usage_error(&e),
    };
    let matches = match cli::command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(e) => {
            // Help and version go to standard output with status 0, mistakes to the error stream.
            let _ = e.print();
            return if e.use_stderr() {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match cli::dispatch(&matches) {
        Ok(code) => code,
        Err(e) if e.downcast_ref::<kingpin::FlagError>().is_some() => usage_error(&e),
        Err(e) => {
            eprintln!("epimetheus: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage_error(e: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("epimetheus: {e}");
    ExitCode::from(2)
}
