//! `tools tsdb analyze`: churn, cardinality and the shape of chunks of one block.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use block::Block;
use clap::ArgMatches;
use model::{Encoding, TimeRange};
use ulid::Ulid;

use super::{folder, histogram, selector, show, text};
use crate::tools::progress::{Progress, percent};

/// Prints the analysis.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    let dir = folder(m, "path");
    let limit = m.get_one::<usize>("limit").copied().unwrap_or(20);
    let matchers = text(m, "match").filter(|t| !t.is_empty());
    let parsed = matchers.map(selector).transpose()?;
    let name = match text(m, "block").filter(|b| !b.is_empty()) {
        Some(name) => name.to_owned(),
        None => last(&dir)?,
    };
    let path = dir.join(&name);
    if !path.exists() {
        bail!("invalid block ID {name}");
    }
    let block = Block::open(&path)?;
    let mut out = String::new();
    let all = Analysis::of(&block, parsed.as_deref())?;
    all.print(&block, matchers, limit, &mut out);
    print!("{out}");
    if m.get_flag("extended") {
        print!("{}", extended(&block, &all.ids)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// The block whose name is the newest.
fn last(dir: &Path) -> Result<String> {
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("opening the db dir: {}", dir.display()))?;
    let mut newest: Option<Ulid> = None;
    for entry in entries {
        let name = entry?.file_name();
        let ulid = name.to_str().and_then(|n| Ulid::from_string(n).ok());
        // In the order of names; of the same millisecond the first.
        if let Some(ulid) = ulid
            && newest.is_none_or(|n| {
                (ulid.timestamp_ms(), std::cmp::Reverse(ulid))
                    > (n.timestamp_ms(), std::cmp::Reverse(n))
            })
        {
            newest = Some(ulid);
        }
    }
    newest.map(|u| u.to_string()).context("no blocks found")
}

#[derive(Clone, Copy, Default)]
struct Tally {
    series: u64,
    uncovered: u64,
}

struct Analysis {
    ids: Vec<u32>,
    /// By ordinals of name and value.
    pairs: HashMap<(u32, u32), Tally>,
    names: HashMap<u32, Tally>,
    /// Values by name that the analysed series have; only where there are matchers.
    entries: u64,
    matched: bool,
}

impl Analysis {
    fn of(block: &Block, matchers: Option<&[model::Matcher]>) -> Result<Self> {
        let index = block.index();
        let ids = match matchers {
            Some(matchers) => block::postings::resolve(index, matchers)?,
            None => index.all_series()?,
        };
        let mut all = Self {
            pairs: HashMap::new(),
            names: HashMap::new(),
            entries: 0,
            matched: matchers.is_some(),
            ids,
        };
        let meta = block.meta();
        let length = meta.max_time.wrapping_sub(meta.min_time) as u64;
        let mut series = index.series();
        let (mut labels, mut chunks) = (Vec::new(), Vec::new());
        let mut progress = Progress::new();
        for (i, &id) in all.ids.iter().enumerate() {
            labels.clear();
            chunks.clear();
            series.decode(
                id,
                &all.ids[i + 1..],
                TimeRange::ALL,
                &mut labels,
                &mut chunks,
            )?;
            let covered = match (chunks.first(), chunks.last()) {
                (Some(first), Some(last)) => last.max.wrapping_sub(first.min) as u64,
                _ => 0,
            };
            let uncovered = length.wrapping_sub(covered);
            for &(name, value) in &labels {
                for tally in [
                    all.pairs.entry((name, value)).or_default(),
                    all.names.entry(name).or_default(),
                ] {
                    tally.series += 1;
                    tally.uncovered = tally.uncovered.wrapping_add(uncovered);
                }
                all.entries += 1;
            }
            progress.tick(|| {
                let (done, total) = (i as u64, all.ids.len() as u64);
                format!("read {done} of {total} series ({}%)", percent(done, total))
            });
        }
        Ok(all)
    }

    fn print(&self, block: &Block, matcher: Option<&str>, limit: usize, out: &mut String) {
        let (meta, symbols) = (block.meta(), block.index().symbols());
        let symbol = |ordinal: u32| symbols.get(ordinal).unwrap_or("");
        let table = block.index().table();
        let names: Vec<&str> = match self.matched {
            false => table.names().collect(),
            true => {
                let mut names: Vec<&str> = self.names.keys().map(|n| symbol(*n)).collect();
                names.sort_unstable();
                names
            }
        };
        let _ = writeln!(out, "Block ID: {}", meta.ulid);
        let _ = writeln!(out, "Duration: {}", show::duration_of(meta));
        let _ = writeln!(out, "Total Series: {}", meta.stats.num_series);
        if let Some(matcher) = matcher {
            let _ = writeln!(out, "Matcher: {matcher}");
        }
        let _ = writeln!(out, "Label names: {}", names.len());
        if self.matched {
            let _ = writeln!(out, "Matched series: {}", self.ids.len());
        }
        let _ = writeln!(out, "Postings (unique label pairs): {}", self.pairs.len());
        let _ = writeln!(
            out,
            "Postings entries (total label pairs): {}",
            self.entries
        );

        let length = (meta.max_time.wrapping_sub(meta.min_time)) as f64;
        let churn = |t: &Tally| (t.uncovered as f64 / length) as u64;
        let pair = |p: &(u32, u32)| format!("{}={}", symbol(p.0), symbol(p.1));
        let mut list = |title: &str, items: Vec<(String, u64)>| {
            let _ = write!(out, "\n{title}:\n{}", top(items, limit));
        };
        let pairs = self.pairs.iter();
        list(
            "Label pairs most involved in churning",
            pairs.clone().map(|(p, t)| (pair(p), churn(t))).collect(),
        );
        let of_name = self.names.iter();
        list(
            "Label names most involved in churning",
            of_name
                .map(|(n, t)| (symbol(*n).to_owned(), churn(t)))
                .collect(),
        );
        list(
            "Most common label pairs",
            pairs.clone().map(|(p, t)| (pair(p), t.series)).collect(),
        );
        // Length and number of the values of each name.
        let mut values: HashMap<&str, (u64, u64)> = HashMap::new();
        for (n, v) in self.pairs.keys() {
            let sum = values.entry(symbol(*n)).or_default();
            sum.0 += symbol(*v).len() as u64;
            sum.1 += 1;
        }
        let of = |n: &&str| values.get(*n).copied().unwrap_or_default();
        let named = |pick: fn((u64, u64)) -> u64| -> Vec<(String, u64)> {
            names
                .iter()
                .map(|n| ((*n).to_owned(), pick(of(n))))
                .collect()
        };
        list(
            "Label names with highest cumulative label value length",
            named(|v| v.0),
        );
        list("Highest cardinality labels", named(|v| v.1));
        let metric = symbols.find(model::METRIC_NAME);
        let metrics = pairs.filter(|(p, _)| Some(p.0) == metric);
        list(
            "Highest cardinality metric names",
            metrics
                .map(|(p, t)| (symbol(p.1).to_owned(), t.series))
                .collect(),
        );
    }
}

/// The biggest, biggest first; of equals the first by name.
fn top(mut items: Vec<(String, u64)>, limit: usize) -> String {
    items.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let mut out = String::new();
    for (name, n) in items.iter().take(limit) {
        let _ = writeln!(out, "{n} {name}");
    }
    out
}

fn extended(block: &Block, ids: &[u32]) -> Result<String> {
    let mut series = block.index().series();
    let (mut labels, mut chunks) = (Vec::new(), Vec::new());
    let (mut floats, mut float_bytes) = (Vec::new(), Vec::new());
    let (mut histograms, mut histogram_bytes, mut buckets) = (Vec::new(), Vec::new(), Vec::new());
    let mut total = 0;
    let mut progress = Progress::new();
    for (i, &id) in ids.iter().enumerate() {
        labels.clear();
        chunks.clear();
        series.decode(id, &ids[i + 1..], TimeRange::ALL, &mut labels, &mut chunks)?;
        for c in &chunks {
            let (encoding, data) = block.segments().chunk(c.reference)?;
            let samples = chunk::sample_count(encoding, &data)?;
            total += 1;
            match encoding {
                Encoding::XOR | Encoding::XOR2 => {
                    floats.push(samples);
                    float_bytes.push(data.len());
                }
                Encoding::AGGREGATE => {}
                _ => {
                    histograms.push(samples);
                    histogram_bytes.push(data.len());
                    let mut columns = chunk::Columns::default();
                    chunk::decode(encoding, &data, &mut columns)?;
                    let counts = columns.histograms.iter().map(|(_, h)| {
                        if h.is_stale() {
                            0
                        } else {
                            h.positive().len() + h.negative().len()
                        }
                    });
                    buckets.push(counts.sum());
                }
            }
        }
        progress.tick(|| {
            let (done, of) = (i as u64, ids.len() as u64);
            format!(
                "read the chunks of {done} of {of} series ({}%)",
                percent(done, of)
            )
        });
    }
    let mut out = "\nCompaction analysis:\n\n".to_owned();
    for (what, data) in [
        ("samples per float chunk", floats),
        ("bytes per float chunk", float_bytes),
        ("samples per histogram chunk", histograms),
        ("bytes per histogram chunk", histogram_bytes),
        ("buckets per histogram chunk", buckets),
    ] {
        out.push_str(&histogram::bars(what, data, total));
    }
    Ok(out)
}
