//! `tools promql`: scripts, formatting and editing.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::{Arg, ArgAction, ArgMatches, Command};
use model::{MatchOp, Matcher};
use promql::ast::Expr;
use promql::features::Features;
use promql::parse::parse;
use promql::testlang::{self, OverEngine, Report};

use super::language::Language;

/// Runs scripts; the exit code says whether any case failed.
pub fn test<'a>(files: impl Iterator<Item = &'a String>) -> Result<ExitCode> {
    let pool = Arc::new(
        rayon::ThreadPoolBuilder::new()
            .build()
            .context("starting the pool")?,
    );
    let backend = OverEngine::new(pool);
    let mut reports = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
        reports.push(testlang::run(&text, file, &backend));
    }
    print!("{}", testlang::text_report(&reports, 10));
    let passed = reports.iter().all(Report::passed);
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints an expression in its indented form, after `change` has seen its tree.
fn format(
    query: &str,
    features: &Features,
    change: impl FnOnce(&mut Expr) -> Result<(), String>,
) -> Result<ExitCode> {
    let changed = parse(query, features)
        .map_err(|e| e.to_string())
        .and_then(|mut expr| change(&mut expr).map(|()| expr));
    match changed {
        Ok(expr) => {
            println!("{}", promql::prettify::prettify(&expr));
            Ok(ExitCode::SUCCESS)
        }
        Err(e) => {
            eprintln!("{e}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Prints the tree of an expression as JSON, as `parse_query` answers it.
fn tree(query: &str, features: &Features) -> Result<ExitCode> {
    match parse(query, features) {
        Ok(expr) => {
            let tree = promql::parse_tree::to_json(&expr);
            println!("{}", serde_json::to_string_pretty(&tree)?);
            Ok(ExitCode::SUCCESS)
        }
        Err(e) => {
            eprintln!("{e}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Sets the matcher of `name` in every selector, or adds it.
fn set_matcher(expr: &mut Expr, op: &str, name: &str, value: &str) -> Result<(), String> {
    let op = match op {
        "=" => MatchOp::Equal,
        "!=" => MatchOp::NotEqual,
        "=~" => MatchOp::Regex,
        "!~" => MatchOp::NotRegex,
        _ => return Err(format!("invalid label match type: {op}")),
    };
    let matcher = Matcher::new(op, name, value).map_err(|e| e.to_string())?;
    expr.each_selector(&mut |selector| {
        let mut found = false;
        for old in selector.matchers.iter_mut().filter(|m| &*m.name == name) {
            *old = matcher.clone();
            found = true;
        }
        if !found {
            selector.matchers.push(matcher.clone());
        }
    });
    Ok(())
}

/// The command and everything below it.
pub fn command() -> Command {
    let place = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .required(true)
            .value_name(name)
            .help(help)
            .allow_hyphen_values(true)
    };
    let query = || place("query", "PromQL query.");
    let files = Arg::new("files")
        .action(ArgAction::Append)
        .num_args(1..)
        .required(true)
        .value_name("FILE");
    Command::new("promql")
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
                .arg(query()),
        )
        .subcommand(
            Command::new("parse")
                .about("Print the tree of an expression as JSON")
                .arg(query()),
        )
        .subcommand(
            Command::new("label-matchers")
                .about("Edit the label matchers of an expression")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(
                    Command::new("set")
                        .about("Set a label matcher in every selector")
                        .arg(
                            Arg::new("type")
                                .long("type")
                                .short('t')
                                .default_value("=")
                                .help("Type of the label matcher to set."),
                        )
                        .arg(query())
                        .arg(place("name", "Name of the label matcher to set."))
                        .arg(place("value", "Value of the label matcher to set.")),
                )
                .subcommand(
                    Command::new("delete")
                        .about("Delete a label matcher from every selector")
                        .arg(query())
                        .arg(place("name", "Name of the label to delete.")),
                ),
        )
}

/// Runs what was typed behind `promql`.
pub fn dispatch(matches: &ArgMatches) -> Result<ExitCode> {
    let text =
        |m: &'_ ArgMatches, name: &str| m.get_one::<String>(name).cloned().unwrap_or_default();
    let features = Language::of(matches).features;
    match matches.subcommand() {
        Some(("test", m)) => test(m.get_many::<String>("files").into_iter().flatten()),
        Some(("format", m)) => format(&text(m, "query"), &features, |_| Ok(())),
        Some(("parse", m)) => tree(&text(m, "query"), &features),
        Some(("label-matchers", m)) => match m.subcommand() {
            Some(("set", m)) => format(&text(m, "query"), &features, |expr| {
                let (op, name, value) = (text(m, "type"), text(m, "name"), text(m, "value"));
                set_matcher(expr, &op, &name, &value)
            }),
            Some(("delete", m)) => format(&text(m, "query"), &features, |expr| {
                let name = text(m, "name");
                expr.each_selector(&mut |s| s.matchers.retain(|m| *m.name != *name));
                Ok(())
            }),
            _ => Ok(ExitCode::from(2)),
        },
        _ => Ok(ExitCode::from(2)),
    }
}
