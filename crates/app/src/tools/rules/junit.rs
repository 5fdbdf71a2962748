//! Results of unit tests as JUnit's XML, as promtool writes it (`util/junitxml`).

use std::fmt::Write as _;
use std::path::Path;

use rules::unit_test::Outcome;

/// One suite a file, one case a test.
#[derive(Default)]
pub struct Results(String);

impl Results {
    /// Adds a file.
    pub fn add(&mut self, path: &Path, outcome: &Outcome) {
        let aborted = outcome.aborted.as_deref();
        let failures: usize = outcome.cases.iter().map(|case| case.1.len()).sum();
        // What was not even read has no time, and one case that nobody named.
        let (time, errors) = match aborted {
            Some(_) => (String::new(), 1),
            None => (now(), 0),
        };
        let out = &mut self.0;
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "<testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" \
             skipped=\"0\" timestamp=\"{time}\">",
            escaped(&path.display().to_string()),
            outcome.cases.len() + errors,
        );
        if let Some(error) = aborted {
            let error = escaped(error);
            let _ = write!(
                out,
                "<testcase name=\"unknown\"><error>{error}</error></testcase>"
            );
        }
        for (name, failures) in &outcome.cases {
            let _ = write!(out, "<testcase name=\"{}\">", escaped(name));
            for failure in failures {
                let _ = write!(out, "<failure>{}</failure>", escaped(failure));
            }
            out.push_str("</testcase>");
        }
        out.push_str("</testsuite>");
    }

    /// The document.
    pub fn finish(&self) -> String {
        format!("<testsuites>{}</testsuites>", self.0)
    }
}

/// The local time to the second.
fn now() -> String {
    let now = jiff::Zoned::now();
    now.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

/// As Go escapes text and attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\t' => out.push_str("&#x9;"),
            '\n' => out.push_str("&#xA;"),
            '\r' => out.push_str("&#xD;"),
            // XML has no way to say these.
            c if c < ' ' || c == '\u{fffe}' || c == '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
