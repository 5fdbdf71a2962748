//! Prometheus' `.test` scripts.

use std::sync::Arc;

use promql::Evaluator;
use promql::testlang::{Backend, Series, run, text_report};

use crate::corpus;

struct NoEngine;

impl Backend for NoEngine {
    fn evaluator(&self, series: &[Series]) -> Result<Arc<dyn Evaluator>, String> {
        assert!(series.windows(2).all(|w| w[0].labels < w[1].labels));
        Err("not implemented: any engine".to_owned())
    }
}

/// Every command of the corpus is understood, and nothing is left out.
#[test]
fn every_script_is_read() {
    let mut reports = Vec::new();
    for (name, text) in corpus::scripts() {
        let report = run(&text, &name, &NoEngine);
        assert_eq!(report.error, None, "{name}");
        let evals = text.lines().filter(|l| l.trim_start().starts_with("eval"));
        assert_eq!(report.cases.len(), evals.count(), "{name}");
        reports.push(report);
    }
    eprint!("{}", text_report(&reports, 1));
}
