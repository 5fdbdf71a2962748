//! How a script went, and its text.

use std::fmt::Write as _;

/// How a script went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The script's name.
    pub name: String,
    /// Why the script could not be read or its data not be loaded; nothing more ran then.
    pub error: Option<String>,
    /// Each `eval` that ran.
    pub cases: Vec<Case>,
}

/// How an `eval` went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its line, from 1.
    pub line: usize,
    /// Its query.
    pub query: String,
    /// How it went.
    pub outcome: Outcome,
}

/// How an `eval` went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As expected.
    Pass,
    /// Otherwise, and how.
    Fail(String),
    /// The evaluator cannot do it yet, and what.
    NotImplemented(String),
}

/// How many went how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// As expected.
    pub pass: usize,
    /// Otherwise; a script that could not be read counts as one.
    pub fail: usize,
    /// Not implemented yet.
    pub not_implemented: usize,
}

impl Counts {
    /// All of them.
    pub fn total(&self) -> usize {
        self.pass + self.fail + self.not_implemented
    }

    fn add(&mut self, other: Counts) {
        self.pass += other.pass;
        self.fail += other.fail;
        self.not_implemented += other.not_implemented;
    }
}

impl Report {
    /// How many went how.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            fail: usize::from(self.error.is_some()),
            ..Counts::default()
        };
        for case in &self.cases {
            match case.outcome {
                Outcome::Pass => counts.pass += 1,
                Outcome::Fail(_) => counts.fail += 1,
                Outcome::NotImplemented(_) => counts.not_implemented += 1,
            }
        }
        counts
    }

    /// Whether nothing failed (what is not implemented has not failed).
    pub fn passed(&self) -> bool {
        self.counts().fail == 0
    }
}

fn line(out: &mut String, name: &str, counts: Counts) {
    let _ = write!(out, "{name}: {} of {} passed", counts.pass, counts.total());
    if counts.fail > 0 {
        let _ = write!(out, ", {} failed", counts.fail);
    }
    if counts.not_implemented > 0 {
        let _ = write!(out, ", {} not implemented", counts.not_implemented);
    }
    out.push('\n');
}

/// One line a script with up to `failures` of its failures below, and the totals if there are
/// several scripts.
pub fn text_report(reports: &[Report], failures: usize) -> String {
    let mut out = String::new();
    let mut total = Counts::default();
    for report in reports {
        let counts = report.counts();
        total.add(counts);
        line(&mut out, &report.name, counts);
        if let Some(error) = &report.error {
            let _ = writeln!(out, "  {error}");
        }
        let failed = report.cases.iter().filter_map(|case| match &case.outcome {
            Outcome::Fail(why) => Some((case, why)),
            _ => None,
        });
        for (case, why) in failed.take(failures) {
            let _ = writeln!(out, "  line {}: {}\n    {why}", case.line, case.query);
        }
    }
    if reports.len() > 1 {
        line(&mut out, "total", total);
    }
    out
}
