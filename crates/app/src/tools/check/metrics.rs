//! Lints what a target exposes.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::ArgMatches;
use model::report::MetricType;
use scrape::parse::{Event, Format, ParseError, Parser, unescape, unescape_help};

use super::lint;
use crate::tools::rules::LINT;

/// One metric with all its lines.
#[derive(Debug, Default)]
pub(super) struct Family {
    pub name: String,
    pub help: Option<String>,
    pub kind: MetricType,
    pub members: Vec<Member>,
}

/// Labels of one member, without those that tell parts of histograms and summaries apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub labels: Vec<(String, String)>,
    /// Buckets or quantiles.
    pub parts: usize,
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode> {
    let extended = matches.get_flag("extended");
    let linted = matches
        .get_one::<String>("lint")
        .is_none_or(|l| l != "none");
    if !extended && !linted {
        eprintln!("error: at least one of --extended or linting must be enabled");
        eprintln!(
            "Use --extended for cardinality analysis, or remove --lint=none to enable linting"
        );
        return Ok(ExitCode::FAILURE);
    }
    let mut text = Vec::new();
    std::io::stdin()
        .read_to_end(&mut text)
        .context("reading standard input")?;
    let families = match families(&text) {
        Ok(families) => families,
        Err(error) => {
            eprintln!("error while linting: text format parsing error: {error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let mut code = ExitCode::SUCCESS;
    if linted {
        for (metric, problem) in lint::problems(&families) {
            eprintln!("{metric} {problem}");
            code = ExitCode::from(LINT);
        }
    }
    if extended {
        print!("{}", cardinality(&families));
    }
    Ok(code)
}

/// Takes the lines of a body together by metric, in the order in which those come.
pub(super) fn families(body: &[u8]) -> Result<Vec<Family>, ParseError> {
    let mut families: Vec<Family> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut parser = Parser::new(body, Format::Text);
    while let Some(event) = parser.next_event()? {
        match event {
            Event::Help(name, text) => {
                let at = find(&mut families, &mut known, &unescape(name));
                families[at].help = Some(unescape_help(text).into());
            }
            Event::Type(name, kind) => {
                let at = find(&mut families, &mut known, &unescape(name));
                families[at].kind = kind;
            }
            Event::Series(series) => {
                let labels = series.labels()?;
                let at = match part_of(&families, &known, labels.name()) {
                    Some(at) => at,
                    None => find(&mut families, &mut known, labels.name()),
                };
                families[at].add(&labels);
            }
            Event::Unit(..) | Event::Comment(_) => {}
        }
    }
    families.retain(|family| !family.members.is_empty());
    Ok(families)
}

fn find(families: &mut Vec<Family>, known: &mut BTreeMap<String, usize>, name: &str) -> usize {
    if let Some(at) = known.get(name) {
        return *at;
    }
    families.push(Family {
        name: name.to_owned(),
        ..Family::default()
    });
    known.insert(name.to_owned(), families.len() - 1);
    families.len() - 1
}

/// The histogram or summary that a line of this name is a part of.
fn part_of(families: &[Family], known: &BTreeMap<String, usize>, name: &str) -> Option<usize> {
    if known.contains_key(name) {
        return None;
    }
    ["_sum", "_count", "_bucket"]
        .into_iter()
        .find_map(|suffix| {
            let at = *known.get(name.strip_suffix(suffix)?)?;
            let whole = match families.get(at)?.kind {
                MetricType::Histogram => true,
                MetricType::Summary => suffix != "_bucket",
                _ => false,
            };
            whole.then_some(at)
        })
}

impl Family {
    fn add(&mut self, labels: &model::Labels) {
        let part = match self.kind {
            MetricType::Histogram => "le",
            MetricType::Summary => "quantile",
            _ => "",
        };
        let own = labels
            .iter()
            .filter(|(n, _)| *n != "__name__" && *n != part);
        let own: Vec<(String, String)> = own.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let parts = usize::from(!part.is_empty() && labels.get(part).is_some());
        let same = self.members.iter_mut().rev().find(|m| m.labels == own);
        match same.filter(|_| !part.is_empty()) {
            Some(member) => member.parts += parts,
            None => self.members.push(Member { labels: own, parts }),
        }
    }

    /// How many series it is.
    fn series(&self) -> usize {
        match self.kind {
            MetricType::Histogram | MetricType::Summary => {
                let parts = self.members.first().map_or(0, |m| m.parts);
                self.members.len() * (2 + parts)
            }
            _ => self.members.len(),
        }
    }
}

/// A table of the metrics with the most series.
fn cardinality(families: &[Family]) -> String {
    let total: usize = families.iter().map(Family::series).sum();
    let mut sorted: Vec<&Family> = families.iter().collect();
    sorted.sort_by(|a, b| b.series().cmp(&a.series()).then(a.name.cmp(&b.name)));
    let mut rows = vec![[
        "Metric".to_owned(),
        "Cardinality".to_owned(),
        "Percentage".to_owned(),
    ]];
    for family in sorted {
        let share = family.series() as f64 / total as f64 * 100.0;
        rows.push([
            family.name.clone(),
            family.series().to_string(),
            format!("{share:.2}%"),
        ]);
    }
    rows.push(["Total".to_owned(), total.to_string(), "100%".to_owned()]);
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0) + 4
    };
    let (a, b, c) = (width(0), width(1), width(2));
    let lines = rows
        .iter()
        .map(|[x, y, z]| format!("{x:<a$}{y:<b$}{z:<c$}\n"));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_together() {
        let text = b"# TYPE h histogram\nh_bucket{a=\"1\",le=\"1\"} 1\nh_bucket{a=\"1\",le=\"+Inf\"} 2\n\
            h_sum{a=\"1\"} 3\nh_count{a=\"1\"} 2\n# HELP c x\n# TYPE c counter\nc 1\nc 2\nother_sum 1\n";
        let families = families(text).unwrap();
        let seen: Vec<(&str, usize)> = families.iter().map(|f| (&*f.name, f.series())).collect();
        assert_eq!(seen, [("h", 4), ("c", 2), ("other_sum", 1)]);
        assert_eq!(
            cardinality(&families),
            "Metric       Cardinality    Percentage    \nh            4              57.14%        \n\
             c            2              28.57%        \nother_sum    1              14.29%        \n\
             Total        7              100%          \n"
        );
    }
}
