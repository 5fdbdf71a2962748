//! `ls` and `inspect`.

use std::cmp::Ordering;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use block::Meta;
use bucket::CatalogOptions;
use compact::downsample::plan::{LENGTH_FOR_FIVE_MINUTES, LENGTH_FOR_HOUR};
use model::Millis;
use model::time::span;
use serde_json::Value;

use crate::flags::{compact as flags, thanos};
use crate::kingpin::{Flag, Typed, many, many_or, switch, value};
use crate::logging;
use crate::roles::compact::selection;

const TIMEOUT: Flag = value(
    "timeout",
    "5m",
    "Timeout to download metadata from remote storage.",
);

/// The flags of `ls`.
pub const LS: &[&[Flag]] = &[
    &[
        value("output", "", "Optional format in which to print each block's information. Options are 'json', 'wide' or a template of fields ({{.ULID}}).").short('o'),
        switch("exclude-delete", "Exclude blocks marked for deletion."),
        TIMEOUT,
    ],
    flags::SELECT,
    thanos::OBJSTORE,
    logging::FLAGS,
];

/// The flags of `inspect`.
pub const INSPECT: &[&[Flag]] = &[
    &[
        many("selector", "Selects blocks based on label, e.g. '-l key1=\\\"value1\\\" -l key2=\\\"value2\\\"'. All key value pairs must match.").short('l'),
        many_or("sort-by", "FROM,UNTIL", "Sort by columns. It's also possible to sort by multiple columns, e.g. '--sort-by FROM --sort-by UNTIL'."),
        value("output", "table", "Output format for result: table, tsv or csv."),
        TIMEOUT,
    ],
    thanos::OBJSTORE,
    logging::FLAGS,
];

/// All blocks, by their names.
fn metas(typed: &Typed<'_>, options: CatalogOptions) -> Result<Vec<Meta>> {
    let bucket = super::open(typed)?;
    let timeout = span(typed.duration("timeout")?);
    let mut metas = Vec::new();
    crate::runtime::run(async {
        let look = super::look(&bucket, options);
        let catalog = tokio::time::timeout(timeout, look)
            .await
            .context("--timeout passed before the bucket was listed")??;
        metas = catalog
            .snapshot()
            .blocks
            .iter()
            .map(|b| b.meta.clone())
            .collect();
        Ok(ExitCode::SUCCESS)
    })?;
    metas.sort_by_key(|m| m.ulid);
    Ok(metas)
}

/// Runs `ls`.
pub fn ls(typed: &Typed<'_>) -> Result<ExitCode> {
    let options = CatalogOptions {
        ignore_deletion_marks_delay: typed.switch("exclude-delete").then_some(Duration::ZERO),
        deduplicate: false,
        ..selection(typed)?
    };
    let metas = metas(typed, options)?;
    let mut out = std::io::stdout().lock();
    for meta in &metas {
        match typed.required("output")? {
            "" => writeln!(out, "{}", meta.ulid)?,
            "wide" => writeln!(
                out,
                "{} -- {} - {} Diff: {}, Compaction: {}, Downsample: {}, Source: {}",
                meta.ulid,
                rfc3339(meta.min_time),
                rfc3339(meta.max_time),
                go_duration(seconds(meta.max_time) - seconds(meta.min_time)),
                meta.compaction.level,
                meta.resolution(),
                meta.thanos.as_ref().map_or("", |t| t.source.as_str()),
            )?,
            "json" => {
                out.write_all(&meta.to_json())?;
                writeln!(out)?;
            }
            template => writeln!(out, "{}", fill(template, meta)?)?,
        }
    }
    tracing::info!(objects = metas.len(), "ls done");
    Ok(ExitCode::SUCCESS)
}

/// ms, cut to whole seconds.
fn seconds(ms: Millis) -> Millis {
    ms / 1000 * 1000
}

fn rfc3339(ms: Millis) -> String {
    let time = jiff::Timestamp::from_millisecond(seconds(ms));
    time.map_or_else(|_| ms.to_string(), |t| t.to_string())
}

/// A duration as Go writes it: `1h0m0s`.
fn go_duration(ms: Millis) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let abs = ms.unsigned_abs();
    if abs == 0 {
        return "0s".to_owned();
    }
    if abs < 1000 {
        return format!("{sign}{abs}ms");
    }
    let (hours, minutes) = (abs / 3_600_000, abs / 60_000 % 60);
    let fraction = format!("{:03}", abs % 1000);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{}{point}{fraction}s", abs / 1000 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}"),
        (0, m) => format!("{sign}{m}m{seconds}"),
        (h, m) => format!("{sign}{h}h{m}m{seconds}"),
    }
}

/// Fills the fields of a template: `{{.ULID}} {{.Thanos.Source}}`.
fn fill(template: &str, meta: &Meta) -> Result<String> {
    let json = serde_json::to_value(meta)?;
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once("{{") {
        out.push_str(before);
        let (field, behind) = behind
            .split_once("}}")
            .context("invalid template: a {{ without its }}")?;
        let path = field.trim().strip_prefix('.').with_context(|| {
            format!(
                "invalid template: {field:?} is no field; only fields ({{{{.ULID}}}}) are known"
            )
        })?;
        let mut at = &json;
        for name in path.split('.').filter(|n| !n.is_empty()) {
            let plain = |s: &str| s.replace('_', "").to_ascii_lowercase();
            let fields = at.as_object();
            let found = fields.and_then(|f| f.iter().find(|(k, _)| plain(k) == plain(name)));
            // Fields that are zero are left out of the JSON.
            at = found.map_or(&Value::Null, |(_, v)| v);
        }
        match at {
            Value::String(text) => out.push_str(text),
            Value::Null => out.push('0'),
            other => out.push_str(&other.to_string()),
        }
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

const COLUMNS: [&str; 13] = [
    "ULID",
    "FROM",
    "UNTIL",
    "RANGE",
    "UNTIL-DOWN",
    "#SERIES",
    "#SAMPLES",
    "#CHUNKS",
    "COMP-LEVEL",
    "COMP-FAILED",
    "LABELS",
    "RESOLUTION",
    "SOURCE",
];

/// Runs `inspect`.
pub fn inspect(typed: &Typed<'_>) -> Result<ExitCode> {
    let mut wanted = Vec::new();
    for pair in typed.list("selector") {
        let (name, text) = pair
            .split_once('=')
            .with_context(|| format!("selector {pair:?} is not name=\"value\""))?;
        wanted.push((name.to_owned(), text.trim_matches('"').to_owned()));
    }
    let mut sort_by = Vec::new();
    for name in typed.list("sort-by").into_iter().flat_map(|l| l.split(',')) {
        let at = COLUMNS.iter().position(|c| *c == name);
        sort_by.push(at.with_context(|| {
            format!(
                "--sort-by: {name:?} is no column; there are {}",
                COLUMNS.join(", ")
            )
        })?);
    }
    let options = CatalogOptions {
        ignore_deletion_marks_delay: None,
        deduplicate: false,
        ..CatalogOptions::default()
    };
    let metas = metas(typed, options)?;
    let selected = metas.iter().filter(|m| {
        let labels = m.thanos.as_ref().map(|t| &t.labels);
        let has = |(n, v): &(String, String)| labels.is_some_and(|l| l.get(n) == Some(v));
        wanted.iter().all(has)
    });
    let mut lines: Vec<[String; 13]> = selected.map(line).collect();
    lines.sort_by(|a, b| {
        let by = sort_by
            .iter()
            .map(|&column| compare(&a[column], &b[column]));
        by.fold(Ordering::Equal, Ordering::then)
    });
    let mut out = std::io::stdout().lock();
    match typed.required("output")? {
        "table" => out.write_all(table(&lines).as_bytes())?,
        "tsv" => {
            for line in std::iter::once(COLUMNS.map(str::to_owned)).chain(lines) {
                writeln!(out, "{}", line.join("\t"))?;
            }
        }
        "csv" => {
            for line in std::iter::once(COLUMNS.map(str::to_owned)).chain(lines) {
                let quoted = line.map(|cell| match cell.contains([',', '"', '\n']) {
                    true => format!("\"{}\"", cell.replace('"', "\"\"")),
                    false => cell,
                });
                writeln!(out, "{}", quoted.join(","))?;
            }
        }
        other => bail!("--output: {other:?} is no format; use table, tsv or csv"),
    }
    Ok(ExitCode::SUCCESS)
}

fn line(meta: &Meta) -> [String; 13] {
    let range = meta.max_time - meta.min_time;
    let until_down = match meta.resolution() {
        0 => go_duration(LENGTH_FOR_FIVE_MINUTES - range),
        compact::FIVE_MINUTES => go_duration(LENGTH_FOR_HOUR - range),
        _ => "-".to_owned(),
    };
    let labels = meta.thanos.iter().flat_map(|t| &t.labels);
    let labels: Vec<String> = labels.map(|(n, v)| format!("{n}={v}")).collect();
    let stats = &meta.stats;
    [
        meta.ulid.to_string(),
        rfc3339(meta.min_time),
        rfc3339(meta.max_time),
        go_duration(range),
        until_down,
        grouped(stats.num_series),
        grouped(stats.num_samples),
        grouped(stats.num_chunks),
        meta.compaction.level.to_string(),
        meta.compaction.failed.to_string(),
        labels.join(","),
        go_duration(meta.resolution()),
        meta.thanos
            .as_ref()
            .map_or(String::new(), |t| t.source.clone()),
    ]
}

/// A number with a comma before every three digits.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// As times, durations, numbers or words, whatever both are.
fn compare(a: &str, b: &str) -> Ordering {
    let time = |text: &str| text.parse::<jiff::Timestamp>().ok();
    if let (Some(a), Some(b)) = (time(a), time(b)) {
        return a.cmp(&b);
    }
    let number = |text: &str| text.replace(',', "").parse::<u64>().ok();
    if let (Some(a), Some(b)) = (number(a), number(b)) {
        return a.cmp(&b);
    }
    let length = |text: &str| model::time::parse_duration(text).ok();
    match (length(a), length(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.cmp(b),
    }
}

/// The lines between bars, as Thanos draws them.
fn table(lines: &[[String; 13]]) -> String {
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells
            .max()
            .unwrap_or(0)
            .max(COLUMNS[column].chars().count())
    };
    let widths: [usize; 13] = std::array::from_fn(width);
    let mut out = String::from("|");
    for (name, width) in COLUMNS.iter().zip(widths) {
        out.push_str(&format!(" {name:^width$} |"));
    }
    out.push_str("\n|");
    for width in widths {
        out.push_str(&"-".repeat(width + 2));
        out.push('|');
    }
    out.push('\n');
    for line in lines {
        out.push('|');
        for (cell, width) in line.iter().zip(widths) {
            out.push_str(&format!(" {cell:<width$} |"));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        for (ms, want) in [
            (0, "0s"),
            (500, "500ms"),
            (7_200_000, "2h0m0s"),
            (300_000, "5m0s"),
            (1_500, "1.5s"),
            (-7_261_250, "-2h1m1.25s"),
        ] {
            assert_eq!(go_duration(ms), want);
        }
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(123), "123");
    }

    #[test]
    fn templates_have_fields() {
        let mut meta = Meta::new(ulid::Ulid::from_parts(1, 2), model::TimeRange::new(0, 9));
        meta.thanos = Some(block::meta::Thanos {
            source: "sidecar".into(),
            ..Default::default()
        });
        let text = fill(
            "{{.ULID}} {{ .Thanos.Source }} {{.Compaction.Level}} {{.Stats.NumSeries}}!",
            &meta,
        );
        assert_eq!(text.unwrap(), format!("{} sidecar 1 0!", meta.ulid));
        assert!(fill("{{range .}}", &meta).is_err());
        assert!(fill("{{.ULID", &meta).is_err());
    }

    #[test]
    fn columns_are_sorted_by_what_they_hold() {
        assert_eq!(compare("9", "10"), Ordering::Less);
        assert_eq!(compare("1,000", "999"), Ordering::Greater);
        assert_eq!(compare("2h0m0s", "30m0s"), Ordering::Greater);
        assert_eq!(compare("a", "b"), Ordering::Less);
    }
}
