//! `.test` scripts against the engine: Prometheus' corpus, and our own.

use std::path::Path;
use std::sync::Arc;

use promql::testlang::{OverEngine, Report, run, text_report};

/// Runs the scripts of a folder; the reports, or none if there is no such folder.
fn reports(folder: &Path) -> Option<Vec<Report>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
    let backend = OverEngine::new(Arc::new(pool.expect("threads can be started")));
    let mut scripts: Vec<_> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "test"))
        .collect();
    scripts.sort();
    let report = |path: &std::path::PathBuf| {
        let name = path.file_name()?.to_str()?;
        Some(run(&std::fs::read_to_string(path).ok()?, name, &backend))
    };
    Some(scripts.iter().filter_map(report).collect())
}

#[test]
fn our_own_scripts_pass() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"));
    let reports = reports(folder).expect("the folder is part of the crate");
    assert!(reports.len() > 3);
    let text = text_report(&reports, 20);
    assert!(
        reports
            .iter()
            .all(|r| r.counts().fail == 0 && r.counts().not_implemented == 0),
        "{text}"
    );
}

#[test]
fn prometheus_corpus_passes() {
    let Some(reports) = reports(&crate::corpus::root().join("promqltest")) else {
        println!(
            "SKIPPED: no promqltest in {}",
            crate::corpus::root().display()
        );
        return;
    };
    let text = text_report(&reports, 400);
    println!("{text}");
    if std::env::var_os("LIST_MISSING").is_some() {
        for report in &reports {
            for case in &report.cases {
                if let promql::testlang::Outcome::NotImplemented(what) = &case.outcome {
                    println!(
                        "MISSING {}:{} {what} | {}",
                        report.name, case.line, case.query
                    );
                }
            }
        }
    }
    let whole = |r: &Report| r.passed() && r.counts().not_implemented == 0;
    assert!(reports.iter().all(whole), "{text}");
}
