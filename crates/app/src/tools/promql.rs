//! `tools promql`: scripts and formatting.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use promql::features::Features;
use promql::testlang::{self, OverEngine, Report};

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

/// Prints an expression in its indented form.
pub fn format(query: &str) -> Result<ExitCode> {
    match promql::parse::parse(query, &Features::ALL) {
        Ok(expr) => {
            println!("{}", promql::prettify::prettify(&expr));
            Ok(ExitCode::SUCCESS)
        }
        Err(e) => {
            eprintln!("epimetheus: {e}");
            Ok(ExitCode::FAILURE)
        }
    }
}
