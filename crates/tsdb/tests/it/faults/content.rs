//! What is in a database, as a map that any sample of any kind can stand in, and how two such maps
//! compare.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use chunk::Columns;
use model::histogram::{Histogram, View};
use model::sink::HistogramSample;
use model::{
    Appended, Batch, Labels, Millis, STALE_NAN, Scope, Select, SinkError, Source as _, SourceError,
    TimeRange,
};
use tsdb::Db;

use super::script::STEP;
use crate::kinds::{custom, float, gauge, int};

/// Every sample, by series and time.
pub type Content = BTreeMap<(Labels, Millis), Seen>;

/// What is compared of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The bits of its value.
    Float(u64),
    /// A hash of count, sum, schema and every bucket that has something; not of what is known about
    /// resets, which depends on where a chunk begins.
    Histogram(u64),
}

/// A sample to append.
#[derive(Clone, Debug)]
pub enum Value {
    Float(f64),
    Histogram(Histogram),
}

impl Value {
    /// What a series of a script takes at a time; `n` makes it differ from others. The series are of
    /// all kinds, two of them change theirs, and those that come and go leave stale markers.
    pub fn of(series: usize, ts: Millis, n: i64) -> Self {
        let count = n.unsigned_abs();
        let turn = ts / STEP % 5;
        match series {
            1 => Self::Histogram(int(count, 2 + (ts / 2_500) as usize % 3)),
            2 if turn < 3 => Self::Histogram(custom(count)),
            3 => Self::Histogram(gauge(count)),
            4 if turn < 2 => Self::Histogram(float(count)),
            10.. if turn == 4 => Self::Float(STALE_NAN),
            _ => Self::Float(n as f64),
        }
    }

    /// As it stands in a [`Content`].
    pub fn seen(&self) -> Seen {
        match self {
            Self::Float(v) => Seen::Float(v.to_bits()),
            Self::Histogram(h) => seen(&h.to_float().view()),
        }
    }
}

fn seen(h: &View<'_>) -> Seen {
    let mut hasher = DefaultHasher::new();
    (h.schema, h.count.to_bits(), h.sum.to_bits()).hash(&mut hasher);
    for b in h.ascending().filter(|b| b.count != 0.0) {
        [b.lower, b.upper, b.count]
            .map(f64::to_bits)
            .hash(&mut hasher);
    }
    Seen::Histogram(hasher.finish())
}

/// Appends rows as one batch.
pub fn append(db: &Db, rows: &[(Labels, Millis, Value)]) -> Result<Appended, SinkError> {
    let labels: Vec<Labels> = rows.iter().map(|r| r.0.clone()).collect();
    let refs = db.resolve_now(&labels)?;
    let mut batch = Batch::default();
    for (series, (_, ts, value)) in refs.into_iter().zip(rows) {
        match value {
            Value::Float(v) => batch.push(series, *ts, *v),
            Value::Histogram(h) => batch.histograms.push(HistogramSample {
                series,
                ts: *ts,
                start: 0,
                value: h.clone(),
            }),
        }
    }
    db.append_now(batch)
}

/// What a query over a range answers.
pub fn ask(db: &Db, range: TimeRange) -> Result<Content, SourceError> {
    let scope = Scope::unbounded(range);
    let view = db.open(Arc::clone(&scope))?;
    let rows = view.select(Select::new(vec![], range));
    let mut content = Content::new();
    for (labels, columns) in chunk::suite::collect_columns(rows, &scope, range)? {
        let mut put = |ts: Millis, what: Seen| {
            let twice = content.insert((labels.clone(), ts), what);
            assert_eq!(twice, None, "{labels} has two samples at {ts}");
        };
        let Columns { histograms, .. } = &columns;
        columns
            .iter()
            .for_each(|(ts, v)| put(ts, Seen::Float(v.to_bits())));
        histograms
            .iter()
            .for_each(|(ts, h)| put(ts, seen(&h.view())));
    }
    Ok(content)
}

/// What a query for everything answers.
pub fn content(db: &Db) -> Content {
    ask(db, TimeRange::ALL).unwrap()
}

/// How two contents differ, in a few lines.
pub fn difference(found: &Content, want: &Content) -> Vec<String> {
    let say = |what: &str, (key, seen): (&(Labels, Millis), &Seen)| {
        let value = match seen {
            Seen::Float(bits) => f64::from_bits(*bits).to_string(),
            Seen::Histogram(hash) => format!("histogram {hash:x}"),
        };
        format!("{what} {} at {}: {value}", key.0, key.1)
    };
    let missing = want.iter().filter(|(k, v)| found.get(k) != Some(v));
    let extra = found.iter().filter(|(k, v)| want.get(k) != Some(v));
    let mut lines: Vec<String> = missing.map(|e| say("missing", e)).collect();
    lines.extend(extra.map(|e| say("extra", e)));
    lines
}

pub fn assert_same(found: &Content, want: &Content, when: &str) {
    let lines = difference(found, want);
    assert!(
        lines.is_empty(),
        "{when}: {:#?}",
        &lines[..lines.len().min(8)]
    );
}

/// Whether `found` can be what is left when something between `before` and `after` was under way. A
/// batch is a few records, one for each kind of sample: of one that was not acknowledged there are the
/// first so many of them, floats before histograms.
pub fn judge(found: &Content, before: &Content, after: &Content) -> Result<(), String> {
    for (key, seen) in before {
        if after.get(key) == Some(seen) && found.get(key) != Some(seen) {
            return Err(format!("{} at {} is lost", key.0, key.1));
        }
    }
    for (key, seen) in found {
        if before.get(key) != Some(seen) && after.get(key) != Some(seen) {
            return Err(format!("{} at {} should not be there", key.0, key.1));
        }
    }
    let new = after.iter().filter(|(k, _)| !before.contains_key(*k));
    let (there, not): (Vec<_>, Vec<_>) = new.partition(|(k, _)| found.contains_key(*k));
    let missing = not.iter().find(|(_, s)| matches!(s, Seen::Float(_)));
    match (there.first(), missing) {
        (Some((there, _)), Some((not, _))) => Err(format!(
            "half a batch: {} at {} is there, {} is not",
            there.0, there.1, not.0
        )),
        _ => Ok(()),
    }
}
