//! The top floor: flags, roles, wiring, lifecycle. It decides nothing about samples.
//!
//! [`run`] takes a command line and gives an exit code. A role is one file in `roles/`: its
//! flags, its settings, its rooms opened in order.
//!
//! Useful for: finding out which rooms a role opens. Not useful for: anything a room does.

pub mod addresses;
pub mod blocks;
pub mod cli;
pub mod compaction;
pub mod config;
pub mod flags;
pub mod house;
pub mod kingpin;
pub mod limits;
pub mod logging;
pub mod outpost;
pub mod profile;
pub mod programs;
pub mod roles;
pub mod runtime;
pub mod terminal;
pub mod tools;
pub mod traces;

use std::process::ExitCode;

use programs::Program;

/// Runs a command line (program name first, which may be that of a program we stand in for).
pub fn run(args: Vec<String>) -> ExitCode {
    let program = Program::of(args.first().map_or("", String::as_str));
    let args = match kingpin::expand_files(args) {
        Ok(args) => program.arrange(args),
        Err(e) => return misuse(program, &e),
    };
    if program.asks_version(&args) {
        println!("{}", program.version());
        return ExitCode::SUCCESS;
    }
    let matches = match program.command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(e) => {
            // Help and version go to standard output with status 0, mistakes to the error stream.
            let _ = e.print();
            return if e.use_stderr() {
                program.misuse()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match program.dispatch(&matches) {
        Ok(code) => code,
        Err(e) if e.downcast_ref::<kingpin::FlagError>().is_some() => misuse(program, &e),
        Err(e) => {
            eprintln!("{}: {}", program.name(), said(&e));
            ExitCode::FAILURE
        }
    }
}

fn misuse(program: Program, e: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{}: {e}", program.name());
    program.misuse()
}

/// An error and what led to it, but nothing twice: errors of rooms say their cause themselves.
fn said(e: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in e.chain() {
        let cause = cause.to_string();
        if text.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}
