//! A script's text to commands.

use std::collections::BTreeMap;

use model::time::parse_duration;
use model::{Labels, Millis, regex::Regex};

use super::start_times;
use super::{LoadedSample, LoadedValue, Series};
use crate::ast::ExprKind;
use crate::features::Features;
use crate::parse::{SequenceValue, parse, parse_int, parse_number, parse_series};

/// One command of a script.
pub(super) enum Command {
    /// Throws all series away.
    Clear,
    /// Adds series.
    Load(Load),
    /// Evaluates a query.
    Eval(Box<Eval>),
}

/// `load` and `load_with_nhcb`
pub(super) struct Load {
    pub(super) series: Vec<Series>,
    /// Whether classic histograms become native ones too.
    pub(super) with_nhcb: bool,
}

/// `eval` with everything that is expected.
pub(super) struct Eval {
    /// From 1.
    pub(super) line: usize,
    pub(super) query: String,
    /// Whether it is an instant query, at `end`.
    pub(super) instant: bool,
    /// First step, ms. (Instant: of the range vector that is expected.)
    pub(super) start: Millis,
    pub(super) end: Millis,
    /// Between steps, ms.
    pub(super) step: Millis,
    pub(super) ordered: bool,
    /// The query must fail with this.
    pub(super) fail: Option<Wanted>,
    /// Each must be there, and nothing else.
    pub(super) warn: Vec<Wanted>,
    pub(super) info: Vec<Wanted>,
    /// `eval_warn`, `eval_info`: there must be any.
    pub(super) some_warn: bool,
    pub(super) some_info: bool,
    pub(super) no_warn: bool,
    pub(super) no_info: bool,
    pub(super) scalar: Option<f64>,
    pub(super) string: Option<String>,
    pub(super) series: Vec<(Labels, Vec<SequenceValue>)>,
    /// Whether the result cannot be had as a range query.
    pub(super) only_instant: bool,
}

/// A text that is expected.
pub(super) enum Wanted {
    Anything,
    Text(String),
    Pattern(Regex),
}

impl Wanted {
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Wanted::Anything => true,
            Wanted::Text(wanted) => wanted == text,
            Wanted::Pattern(pattern) => pattern.is_match(text),
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wanted::Anything => f.write_str("anything"),
            Wanted::Text(text) => write!(f, "{text:?}"),
            Wanted::Pattern(pattern) => write!(f, "/{}/", pattern.pattern()),
        }
    }
}

/// The forms of the command lines.
struct Patterns {
    load: Regex,
    instant: Regex,
    range: Regex,
    expect: Regex,
    range_vector: Regex,
}

impl Patterns {
    fn new() -> Result<Self, String> {
        let regex = |text| Regex::new(text).map_err(|e| e.to_string());
        Ok(Self {
            load: regex(r"^load(?:_(with_nhcb))?\s+(.+?)$")?,
            instant: regex(
                r"^eval(?:_(fail|warn|ordered|info))?\s+instant\s+(?:at\s+(.+?))?\s+(.+)$",
            )?,
            range: regex(
                r"^eval(?:_(fail|warn|info))?\s+range\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+?)\s+(.+)$",
            )?,
            expect: regex(
                r"^expect\s+(ordered|fail|warn|no_warn|info|no_info)(?:\s+(regex|msg):(.+))?$",
            )?,
            range_vector: regex(r"^expect range vector\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+)$")?,
        })
    }
}

/// The lines of a script, trimmed, comments emptied.
struct Lines<'a> {
    lines: Vec<&'a str>,
    /// Index of the next line.
    next: usize,
}

impl<'a> Lines<'a> {
    /// The next line of the present block and its number.
    fn in_block(&mut self) -> Option<(usize, &'a str)> {
        let line = self.lines.get(self.next).filter(|l| !l.is_empty())?;
        self.next += 1;
        Some((self.next, line))
    }
}

/// Reads a whole script. The error says the line.
pub(super) fn commands(text: &str) -> Result<Vec<Command>, String> {
    let patterns = Patterns::new()?;
    let mut lines = Lines {
        lines: text
            .split('\n')
            .map(str::trim)
            .map(|line| if line.starts_with('#') { "" } else { line })
            .collect(),
        next: 0,
    };
    let mut commands = Vec::new();
    while lines.next < lines.lines.len() {
        let Some((number, line)) = lines.in_block() else {
            lines.next += 1;
            continue;
        };
        let word = line.split([' ', '\t']).next().unwrap_or("").to_lowercase();
        let command = if word == "clear" {
            Ok(Command::Clear)
        } else if word.starts_with("load") {
            load(&patterns, &mut lines, line).map(Command::Load)
        } else if word.starts_with("eval") {
            eval(&patterns, &mut lines, number, line).map(|e| Command::Eval(Box::new(e)))
        } else {
            Err(format!("invalid command {line:?}"))
        };
        commands.push(command.map_err(|e| format!("line {}: {e}", lines.next))?);
    }
    Ok(commands)
}

fn load(patterns: &Patterns, lines: &mut Lines<'_>, line: &str) -> Result<Load, String> {
    let parts = patterns
        .load
        .captures(line)
        .ok_or("invalid load command. (load[_with_nhcb] <step:duration>)")?;
    let with_nhcb = parts.get(1).is_some();
    let step = duration(parts.get(2), "step")?;
    let mut series: BTreeMap<Labels, Vec<LoadedSample>> = BTreeMap::new();
    let mut starts: Option<(Labels, Vec<Option<Millis>>)> = None;
    while let Some((_, line)) = lines.in_block() {
        if let Some((metric, items)) = start_times::split(line) {
            if starts.is_some() {
                return Err("@st line has no following sample line".to_owned());
            }
            let metric = parse_series(&format!("{metric} _")).map_err(|e| e.to_string())?;
            starts = Some((metric.labels, start_times::read(items)?));
            continue;
        }
        let described = parse_series(line).map_err(|e| e.to_string())?;
        let starts = starts.take();
        if let Some((labels, starts)) = &starts {
            if *labels != described.labels {
                return Err("@st metric does not match the following sample line metric".to_owned());
            }
            if starts.len() != described.values.len() {
                return Err(format!(
                    "@st line has {} values but sample line has {}",
                    starts.len(),
                    described.values.len()
                ));
            }
        }
        let start_of = |i: usize| {
            starts
                .as_ref()
                .and_then(|(_, s)| s.get(i).copied().flatten())
        };
        let mut samples = Vec::with_capacity(described.values.len());
        for (i, value) in described.values.into_iter().enumerate() {
            let ts = step.saturating_mul(i as Millis);
            let value = match value {
                SequenceValue::Omitted => continue,
                SequenceValue::Float(value) => LoadedValue::Float(value),
                SequenceValue::Histogram { histogram, .. } => LoadedValue::Histogram(histogram),
            };
            samples.push(LoadedSample {
                ts,
                start: start_of(i).map_or(0, |offset| ts.saturating_add(offset)),
                value,
            });
        }
        series.insert(described.labels, samples);
    }
    if starts.is_some() {
        return Err("@st line has no following sample line".to_owned());
    }
    Ok(Load {
        series: series
            .into_iter()
            .map(|(labels, samples)| Series { labels, samples })
            .collect(),
        with_nhcb,
    })
}

fn duration(text: Option<&str>, what: &str) -> Result<Millis, String> {
    let text = text.unwrap_or("");
    parse_duration(text).map_err(|e| format!("invalid {what} definition {text:?}: {e}"))
}

/// Start, end and step.
fn grid(from: Option<&str>, to: Option<&str>, step: Option<&str>) -> Result<[Millis; 3], String> {
    let start = duration(from, "start timestamp")?;
    let end = duration(to, "end timestamp")?;
    if end < start {
        return Err("invalid test definition, end timestamp is before start timestamp".to_owned());
    }
    Ok([start, end, duration(step, "step")?])
}

fn eval(
    patterns: &Patterns,
    lines: &mut Lines<'_>,
    number: usize,
    line: &str,
) -> Result<Eval, String> {
    let (old_form, query, instant, [start, end, step]) =
        if let Some(parts) = patterns.instant.captures(line) {
            let at = duration(parts.get(2), "timestamp")?;
            (parts.get(1), parts.get(3), true, [at, at, 0])
        } else if let Some(parts) = patterns.range.captures(line) {
            let grid = grid(parts.get(2), parts.get(3), parts.get(4))?;
            (parts.get(1), parts.get(5), false, grid)
        } else {
            return Err("invalid evaluation command. Must be either \
                        'eval[_fail|_warn|_ordered] instant [at <offset:duration>] <query>' or \
                        'eval[_fail|_warn] range from <from> to <to> step <step> <query>'"
                .to_owned());
        };
    let query = query.unwrap_or("").to_owned();
    parse(&query, &Features::ALL).map_err(|e| e.to_string())?;
    let mut eval = Eval {
        line: number,
        query,
        instant,
        start,
        end,
        step,
        ordered: old_form == Some("ordered"),
        fail: (old_form == Some("fail")).then_some(Wanted::Anything),
        warn: Vec::new(),
        info: Vec::new(),
        some_warn: old_form == Some("warn"),
        some_info: old_form == Some("info"),
        no_warn: false,
        no_info: false,
        scalar: None,
        string: None,
        series: Vec::new(),
        only_instant: false,
    };
    while let Some((_, line)) = lines.in_block() {
        if expectation(patterns, &mut eval, line)? {
            break;
        }
    }
    Ok(eval)
}

/// One line under an `eval`; `true` if it ends the block.
fn expectation(patterns: &Patterns, eval: &mut Eval, line: &str) -> Result<bool, String> {
    if eval.fail.is_some() {
        if let Some(text) = line.strip_prefix("expected_fail_message") {
            eval.fail = Some(Wanted::Text(text.trim().to_owned()));
            return Ok(true);
        }
        if let Some(text) = line.strip_prefix("expected_fail_regexp") {
            eval.fail = Some(pattern(text)?);
            return Ok(true);
        }
    }
    if line.starts_with("expect range vector") {
        let parts = patterns
            .range_vector
            .captures(line)
            .ok_or_else(|| format!("invalid range vector definition {line:?}"))?;
        [eval.start, eval.end, eval.step] = grid(parts.get(1), parts.get(2), parts.get(3))?;
        eval.only_instant = true;
        return Ok(false);
    }
    if let Some(text) = line.strip_prefix("expect string") {
        match parse(text.trim(), &Features::ALL).map(|e| e.kind) {
            Ok(ExprKind::String(text)) => eval.string = Some(text.as_str().to_owned()),
            _ => return Err("expected string literal not valid".to_owned()),
        }
        eval.only_instant = true;
        return Ok(false);
    }
    if line.split(' ').next() == Some("expect") {
        expect(patterns, eval, line)?;
        return Ok(false);
    }
    if let Some(number) = number(line) {
        eval.scalar = Some(number);
        return Ok(true);
    }
    let described = parse_series(line).map_err(|e| e.to_string())?;
    if described.values.len() > 1 && eval.instant && !eval.only_instant {
        return Err("expecting multiple values in instant evaluation not allowed".to_owned());
    }
    eval.scalar = None;
    eval.series.push((described.labels, described.values));
    Ok(false)
}

fn expect(patterns: &Patterns, eval: &mut Eval, line: &str) -> Result<(), String> {
    let parts = patterns.expect.captures(line).ok_or(
        "invalid expect statement, must match `expect <type> <match_type>: <string>` format",
    )?;
    let text = parts.get(3).unwrap_or("");
    let wanted = match parts.get(2) {
        Some("msg") => Wanted::Text(text.trim().to_owned()),
        Some(_) => pattern(text)?,
        None => Wanted::Anything,
    };
    match parts.get(1) {
        Some("ordered") => eval.ordered = true,
        Some("fail") if eval.fail.is_some() => {
            return Err(
                "invalid expect lines, multiple expect fail lines are not allowed".to_owned(),
            );
        }
        Some("fail") => eval.fail = Some(wanted),
        Some("warn") => eval.warn.push(wanted),
        Some("info") => eval.info.push(wanted),
        Some("no_warn") => eval.no_warn = true,
        _ => eval.no_info = true,
    }
    if (eval.no_warn && !eval.warn.is_empty()) || (eval.no_info && !eval.info.is_empty()) {
        return Err(
            "invalid expect lines, an annotation and its absence cannot be expected together"
                .to_owned(),
        );
    }
    Ok(())
}

fn pattern(text: &str) -> Result<Wanted, String> {
    Regex::new(text.trim())
        .map(Wanted::Pattern)
        .map_err(|e| e.to_string())
}

/// A line that is nothing but a number.
fn number(line: &str) -> Option<f64> {
    if let Some(n) = parse_int(line) {
        return Some(n as f64);
    }
    let negative = line.starts_with('-');
    let magnitude = parse_number(line.strip_prefix(['+', '-']).unwrap_or(line)).ok()?;
    Some(if negative { -magnitude } else { magnitude })
}
