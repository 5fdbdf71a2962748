//! `tools query analyze`: how many buckets of histograms are in use.

use std::collections::{BTreeMap, BTreeSet};

use clap::ArgMatches;
use serde_json::Value;

use super::client::{Client, Failure};
use super::{now, print, seconds, text, texts, time};

const HEADER: &str = "Bucket stats for each histogram series over time\n\
    ------------------------------------------------\n\
    First the min, avg, and max number of populated buckets, followed by the total\n\
    number of buckets (only if different from the max number of populated buckets\n\
    which is typical for classic but not native histograms).";
const FOOTER: &str = "Aggregated bucket stats\n\
    -----------------------\n\
    Each line shows min/avg/max over the series above.";

/// Asks for the histograms and counts.
pub async fn run(m: &ArgMatches) -> Result<String, Failure> {
    let kind = text(m, "type");
    if kind != "histogram" {
        let why = format!("analyze type is {kind}, must be 'histogram'");
        return Err(Failure::Plain(why));
    }
    let client = Client::new(m, text(m, "server"), &[])?;
    let at = seconds(time(m, "time", now(), "time")?);
    let range = model::time::parse_duration(text(m, "duration"))
        .map_err(|e| Failure::Plain(e.to_string()))?;
    // What was found stays, even if something fails later.
    println!("{HEADER}\n");
    let (mut native, mut classic) = (Overall::default(), Overall::default());
    for selector in texts(m, "match") {
        let query = format!("{selector}[{}]", model::time::format_duration(range));
        let params = [("query", query.as_str()), ("time", at.as_str())];
        let data = client.post("/api/v1/query", &params).await?.data;
        if data["resultType"] != "matrix" {
            let why = "query of buckets resulted in non-Matrix";
            return Err(Failure::Plain(why.to_owned()));
        }
        let mut groups: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for series in data["result"].as_array().into_iter().flatten() {
            if series["values"].as_array().is_none_or(Vec::is_empty) {
                if let Some(stats) = of_native(series) {
                    let name = print::metric_text(&series["metric"]);
                    println!("- {name} (native): {stats}");
                    native.add(&stats);
                }
                continue;
            }
            let name = series["metric"]["__name__"].as_str().unwrap_or_default();
            if series["metric"]["le"].is_string() && name.ends_with("_bucket") {
                let key = print::metric_without(&series["metric"], "le");
                groups.entry(key).or_default().push(series);
            }
        }
        for (key, buckets) in groups {
            if let Some(stats) = of_classic(buckets).map_err(Failure::Plain)? {
                println!("- {key} (classic): {stats}");
                classic.add(&stats);
            }
        }
    }
    println!("\n{FOOTER}");
    for (name, overall) in [("Native", native), ("Classic", classic)] {
        if overall.min.count > 0 {
            println!("\n{name} {overall}");
        }
    }
    Ok(String::new())
}

/// Populated buckets of one histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Populated {
    min: usize,
    max: usize,
    avg: f64,
    total: usize,
}

impl Populated {
    fn of(counts: &[usize], total: usize) -> Self {
        Self {
            min: counts.iter().copied().min().unwrap_or(0),
            max: counts.iter().copied().max().unwrap_or(0),
            avg: counts.iter().sum::<usize>() as f64 / counts.len().max(1) as f64,
            total,
        }
    }
}

impl std::fmt::Display for Populated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{:.3}/{}", self.min, self.avg, self.max)?;
        if self.max == self.total {
            return Ok(());
        }
        write!(f, "/{}", self.total)
    }
}

fn of_native(series: &Value) -> Option<Populated> {
    let histograms = series["histograms"].as_array().filter(|h| h.len() > 1)?;
    let mut all = BTreeSet::new();
    let mut counts = Vec::new();
    for histogram in histograms {
        let buckets = histogram[1]["buckets"].as_array();
        let buckets = buckets.map_or(&[][..], Vec::as_slice);
        counts.push(buckets.len());
        all.extend(
            buckets
                .iter()
                .map(|b| format!("{} {} {}", b[0], b[1], b[2])),
        );
    }
    Some(Populated::of(&counts, all.len()))
}

fn of_classic(mut buckets: Vec<&Value>) -> Result<Option<Populated>, String> {
    let bound = |series: &Value| {
        let le = series["metric"]["le"].as_str().unwrap_or_default();
        le.parse::<f64>().unwrap_or(0.0)
    };
    let samples = |series: &Value| series["values"].as_array().map_or(0, Vec::len);
    // Enough data or not is decided before the buckets are put in order.
    if buckets.first().is_none_or(|first| samples(first) < 2) {
        return Ok(None);
    }
    let steps = samples(buckets[0]);
    buckets.sort_by(|a, b| bound(a).total_cmp(&bound(b)));
    let value = |series: &Value, i: usize| {
        let text = series["values"][i][1].as_str().unwrap_or_default();
        text.parse::<f64>().unwrap_or(0.0)
    };
    let mut counts = Vec::with_capacity(steps);
    for i in 0..steps {
        let mut populated = 0;
        for (b, series) in buckets.iter().enumerate() {
            if i >= samples(series) {
                break;
            }
            let before = match b {
                0 => 0.0,
                _ => {
                    let before = buckets[b - 1];
                    if before["values"][i][0] != series["values"][i][0] {
                        return Err("matrix result is not time aligned".to_owned());
                    }
                    value(before, i)
                }
            };
            populated += usize::from((value(series, i) - before) as i64 != 0);
        }
        counts.push(populated);
    }
    Ok(Some(Populated::of(&counts, buckets.len())))
}

/// Least, mean and greatest of one number over all series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Spread {
    min: usize,
    max: usize,
    count: usize,
    avg: f64,
}

impl Spread {
    fn add(&mut self, n: usize) {
        self.min = if self.count == 0 { n } else { self.min.min(n) };
        self.max = self.max.max(n);
        self.count += 1;
        let count = self.count as f64;
        self.avg += n as f64 / count - self.avg / count;
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{:.3}/{}", self.min, self.avg, self.max)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Overall {
    min: Spread,
    avg: Spread,
    max: Spread,
    total: Spread,
}

impl Overall {
    fn add(&mut self, stats: &Populated) {
        self.min.add(stats.min);
        self.avg.add(stats.avg as usize);
        self.max.add(stats.max);
        self.total.add(stats.total);
    }
}

impl std::fmt::Display for Overall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "histogram series ({} in total):\n- min populated: {}\n- avg populated: {}\n- max populated: {}",
            self.min.count, self.min, self.avg, self.max
        )?;
        if self.max == self.total {
            return Ok(());
        }
        write!(f, "\n- total: {}", self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn populated_buckets_are_counted() {
        let series = |le: &str, a: i64, b: i64| {
            json!({"metric": {"__name__": "x_bucket", "le": le},
                   "values": [[1, a.to_string()], [2, b.to_string()]]})
        };
        let all = [series("+Inf", 5, 9), series("1", 2, 2), series("0.5", 2, 1)];
        let stats = of_classic(all.iter().collect()).unwrap().unwrap();
        assert_eq!(stats.to_string(), "2/2.500/3");
        let native = json!({"histograms": [
            [1, {"buckets": [[0, "1", "2", "3"]]}],
            [2, {"buckets": [[0, "1", "2", "3"], [0, "2", "4", "1"]]}],
        ]});
        assert_eq!(of_native(&native).unwrap().to_string(), "1/1.500/2");
        assert_eq!(of_native(&json!({"histograms": []})), None);
    }
}
