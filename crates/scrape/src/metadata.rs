//! Type, help and unit of metrics, as targets give them.
//!
//! Targets of a job mostly say the same, so that tables are shared: a target holds a pointer, and
//! a body's metadata lines are read again only if their fingerprint has changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use model::Str;
use model::report::{Metadata, MetricType};
use parking_lot::Mutex;

use crate::parse::proto::{self, Histograms, Item};
use crate::parse::{Event, Format, ParseError, Parser, Written, unescape, unescape_help};

/// Metadata by metric, ascending.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Table(pub(crate) Vec<(Str, Metadata)>);

impl Table {
    /// Reads the metadata of a body that was read before.
    fn read(body: &[u8], written: Written) -> Self {
        match written {
            Written::Lines(format) => Self::of_lines(body, format),
            Written::Protobuf => Self::of_messages(body),
        }
    }

    fn of_messages(body: &[u8]) -> Self {
        let mut metrics: BTreeMap<Str, Metadata> = BTreeMap::new();
        // What could not be read is not there.
        let _ = proto::read::<ParseError>(body, Histograms::default(), |item| {
            if let Item::Family(family) = item {
                let metadata = Metadata {
                    kind: family.kind,
                    help: family.help.into(),
                    unit: family.unit.into(),
                };
                metrics.insert(family.name.into(), metadata);
            }
            Ok(())
        });
        Self(metrics.into_iter().collect())
    }

    fn of_lines(body: &[u8], format: Format) -> Self {
        #[derive(Default)]
        struct Parts {
            kind: MetricType,
            help: String,
            unit: String,
        }
        let mut metrics: BTreeMap<String, Parts> = BTreeMap::new();
        let mut parser = Parser::new(body, format);
        while let Ok(Some(event)) = parser.next_event() {
            match event {
                Event::Help(metric, help) => {
                    metrics
                        .entry(unescape(metric).into_owned())
                        .or_default()
                        .help = match format {
                        Format::Text => unescape_help(help),
                        Format::OpenMetrics => unescape(help),
                    }
                    .into_owned();
                }
                Event::Type(metric, kind) => {
                    metrics
                        .entry(unescape(metric).into_owned())
                        .or_default()
                        .kind = kind;
                }
                Event::Unit(metric, unit) => {
                    unit.clone_into(
                        &mut metrics
                            .entry(unescape(metric).into_owned())
                            .or_default()
                            .unit,
                    );
                }
                Event::Comment(_) | Event::Series(_) => {}
            }
        }
        let table = metrics.into_iter().map(|(metric, parts)| {
            let metadata = Metadata {
                kind: parts.kind,
                help: parts.help.into(),
                unit: parts.unit.into(),
            };
            (metric.into(), metadata)
        });
        Self(table.collect())
    }

    /// How long names, help texts and units are together, bytes.
    pub(crate) fn bytes(&self) -> usize {
        let of = |(name, m): &(Str, Metadata)| name.len() + m.help.len() + m.unit.len();
        self.0.iter().map(of).sum()
    }

    /// The metadata of one metric.
    pub(crate) fn get(&self, metric: &str) -> Option<&(Str, Metadata)> {
        let at = self
            .0
            .binary_search_by(|(name, _)| (**name).cmp(metric))
            .ok()?;
        self.0.get(at)
    }
}

/// The tables of all targets of a job.
#[derive(Debug, Default)]
pub(crate) struct Tables(Mutex<HashMap<u64, Weak<Table>>>);

impl Tables {
    /// The table whose lines have this fingerprint.
    pub(crate) fn get(&self, fingerprint: u64, body: &[u8], written: Written) -> Arc<Table> {
        if let Some(table) = self.0.lock().get(&fingerprint).and_then(Weak::upgrade) {
            return table;
        }
        let table = Arc::new(Table::read(body, written));
        let mut tables = self.0.lock();
        tables.retain(|_, table| table.strong_count() > 0);
        tables.insert(fingerprint, Arc::downgrade(&table));
        table
    }
}
