//! `tools tsdb dump` and `dump-openmetrics`: every sample as a line of text.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use chunk::{Columns, Dedup, SeriesDecoder, Want};
use clap::ArgMatches;
use model::text::{format_g, quote};
use model::{
    Cursor, Encoding, Labels, METRIC_NAME, Order, Rows, Scope, Select, SeriesBatch, Source as _,
    TimeRange, View,
};
use tsdb::ReadOnly;

use super::{folder, histogram, selector, text};

/// How samples are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `{labels} value timestamp`.
    Text,
    /// The labels alone, as JSON objects.
    Json,
    /// `name{labels} value seconds`, floats only.
    OpenMetrics,
}

/// Dumps to the standard output.
pub fn run(m: &ArgMatches, form: Form) -> Result<ExitCode> {
    let time = |name: &str| m.get_one::<i64>(name).copied();
    let range = TimeRange::new(
        time("min-time").unwrap_or(i64::MIN),
        time("max-time").unwrap_or(i64::MAX),
    );
    let selectors = m.get_many::<String>("match").into_iter().flatten();
    let selectors: Vec<_> = selectors.map(|s| selector(s)).collect::<Result<_>>()?;
    let root = text(m, "sandbox-dir-root").map(std::path::PathBuf::from);
    let db = ReadOnly::open(&folder(m, "path"), root.as_deref())?;
    if let Some(damage) = db.replayed().damaged.first() {
        bail!("{damage}");
    }
    let mut out = std::io::BufWriter::with_capacity(1 << 18, std::io::stdout().lock());
    let written = write(&db, selectors, range, form, &mut out);
    match written.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // Whoever read has had enough.
        Err(e) if is_broken_pipe(&e) => Ok(ExitCode::SUCCESS),
        Err(e) => Err(e),
    }
}

fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.downcast_ref::<std::io::Error>()
        .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

fn write(
    db: &tsdb::Db,
    selectors: Vec<Vec<model::Matcher>>,
    range: TimeRange,
    form: Form,
    out: &mut impl std::io::Write,
) -> Result<()> {
    let scope = Scope::unbounded(range);
    let view = db.open(Arc::clone(&scope))?;
    // A log alone is dumped in the order in which series came, as promtool does.
    let has_blocks = model::report::HeadReport::local_blocks(db)
        .iter()
        .any(|b| b.min <= range.max && b.max > range.min);
    let order = match has_blocks || selectors.len() > 1 {
        true => Order::ByLabels {
            without: Vec::new(),
        },
        false => Order::Any,
    };
    let mut streams = selectors
        .into_iter()
        .map(|matchers| {
            let mut select = Select::new(matchers, range);
            select.order = order.clone();
            select.hints.step = 1;
            Stream::new(&*view, select, &scope)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut writer = Writer::new(range, form);
    // The first in order of all streams; what several of them have is written once.
    while let Some((labels, first)) = first(&streams) {
        writer.series(&labels, &streams[first], out)?;
        for stream in &mut streams {
            if stream.labels() == Some(&labels) {
                stream.advance()?;
            }
        }
    }
    if form == Form::OpenMetrics {
        writeln!(out, "# EOF")?;
    }
    Ok(())
}

fn first(streams: &[Stream]) -> Option<(Labels, usize)> {
    let there = streams.iter().enumerate();
    there
        .filter_map(|(i, s)| Some((s.labels()?.clone(), i)))
        .reduce(|a, b| if b.0 < a.0 { b } else { a })
}

/// The series of one select, one after the other.
struct Stream {
    cursors: VecDeque<Box<dyn Cursor>>,
    scope: Arc<Scope>,
    batch: SeriesBatch,
    at: usize,
    labels: Option<Labels>,
}

impl Stream {
    fn new(view: &dyn View, select: Select, scope: &Arc<Scope>) -> Result<Self> {
        let Rows::Cursors(cursors) = view.select(select) else {
            bail!("a local database answers with cursors");
        };
        let mut stream = Self {
            cursors: cursors.into(),
            scope: Arc::clone(scope),
            batch: SeriesBatch::default(),
            at: 0,
            labels: None,
        };
        stream.fill()?;
        Ok(stream)
    }

    fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref()
    }

    fn advance(&mut self) -> Result<()> {
        self.at += 1;
        self.fill()
    }

    fn fill(&mut self) -> Result<()> {
        while self.at >= self.batch.len() {
            self.labels = None;
            let Some(cursor) = self.cursors.front_mut() else {
                return Ok(());
            };
            match cursor.next()? {
                Some(batch) => {
                    self.batch = batch;
                    self.at = 0;
                }
                None => {
                    self.cursors.pop_front();
                }
            }
        }
        self.labels = Some(self.batch.label_set(self.at, &self.scope.symbols));
        Ok(())
    }
}

struct Writer {
    want: Want,
    form: Form,
    decoder: SeriesDecoder,
    columns: Columns,
    prefix: String,
    line: String,
}

impl Writer {
    fn new(range: TimeRange, form: Form) -> Self {
        Self {
            want: Want {
                dedup: Dedup::Chain,
                ..Want::raw(range)
            },
            form,
            decoder: SeriesDecoder::new(),
            columns: Columns::default(),
            prefix: String::new(),
            line: String::new(),
        }
    }

    fn series(
        &mut self,
        labels: &Labels,
        stream: &Stream,
        out: &mut impl std::io::Write,
    ) -> Result<()> {
        self.prefix.clear();
        match self.form {
            Form::Json => {
                writeln!(out, "{}", json(labels))?;
                return Ok(());
            }
            Form::Text => full(labels, &mut self.prefix),
            Form::OpenMetrics => condensed(labels, &mut self.prefix),
        }
        let (batch, i) = (&stream.batch, stream.at);
        self.decoder
            .decode(batch, i, &self.want, &mut self.columns)?;
        let mut histograms = self.columns.histograms.iter().peekable();
        let mut floats = self.columns.iter().peekable();
        loop {
            let next = histograms.peek().map(|h| h.0);
            if let Some((ts, value)) = floats.next_if(|f| next.is_none_or(|h| f.0 < h)) {
                self.line.clear();
                let _ = match self.form {
                    Form::OpenMetrics => {
                        let (sign, ms) = (if ts < 0 { "-" } else { "" }, ts.unsigned_abs());
                        let prefix = &self.prefix;
                        let value = format_g(value);
                        writeln!(
                            self.line,
                            "{prefix} {value} {sign}{}.{:03}",
                            ms / 1000,
                            ms % 1000
                        )
                    }
                    _ => writeln!(self.line, "{} {} {ts}", self.prefix, format_g(value)),
                };
                out.write_all(self.line.as_bytes())?;
            } else if let Some((ts, h)) = histograms.next() {
                if self.form == Form::OpenMetrics {
                    // Everything behind it, too.
                    return Ok(());
                }
                let integers = batch.chunks_of(i).iter().any(|c| {
                    matches!(c.encoding, Encoding::HISTOGRAM | Encoding::HISTOGRAM_ST)
                        && (c.min..=c.max).contains(&ts)
                });
                let text = histogram::text(&h.to_histogram(), integers);
                writeln!(out, "{} {text} {ts}", self.prefix)?;
            } else {
                return Ok(());
            }
        }
    }
}

/// `{__name__="up", job="a"}`
fn full(labels: &Labels, out: &mut String) {
    out.push('{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        match model::labels::is_legacy_label_name(name) {
            true => out.push_str(name),
            false => out.push_str(&quote(name)),
        }
        out.push('=');
        out.push_str(&quote(value));
    }
    out.push('}');
}

/// `up{job="a"}`
fn condensed(labels: &Labels, out: &mut String) {
    out.push_str(labels.name());
    out.push('{');
    let others = labels.iter().filter(|(n, _)| *n != METRIC_NAME);
    for (i, (name, value)) in others.enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(name);
        out.push('=');
        out.push_str(&quote(value));
    }
    out.push('}');
}

/// As Go's encoder writes a map of strings: sorted, `<`, `>`, `&` and two line ends escaped.
fn json(labels: &Labels) -> String {
    let map: serde_json::Map<String, serde_json::Value> = labels
        .iter()
        .map(|(n, v)| (n.to_owned(), v.into()))
        .collect();
    let plain = serde_json::Value::Object(map).to_string();
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}
