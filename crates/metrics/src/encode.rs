//! Text format 0.0.4 and OpenMetrics 1.0.
//!
//! Sources: <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

use std::sync::Arc;

use crate::desc::Kind;
use crate::negotiate::Format;
use crate::number::{write_bound, write_value};
use crate::snapshot::{MetricFamily, Value};

/// Writes `families` to the end of `out` in `format`.
///
/// In OpenMetrics a counter's family loses its `_total`, which its samples keep; a counter whose
/// name does not end so is called `unknown`, as Go's client does, rather than renamed.
pub fn encode(families: &[MetricFamily], format: Format, out: &mut Vec<u8>) {
    let openmetrics = matches!(format, Format::OpenMetrics | Format::OpenMetricsOld);
    for family in families {
        encode_family(family, openmetrics, out);
    }
    if openmetrics {
        out.extend_from_slice(b"# EOF\n");
    }
}

fn encode_family(family: &MetricFamily, openmetrics: bool, out: &mut Vec<u8>) {
    let name = &*family.desc.name;
    let total = name.strip_suffix("_total");
    let (title, kind) = match (openmetrics, family.desc.kind, total) {
        (true, Kind::Counter, Some(title)) => (title, "counter"),
        (true, Kind::Counter, None) => (name, "unknown"),
        (true, Kind::Unknown, _) => (name, "unknown"),
        (false, Kind::Unknown, _) => (name, "untyped"),
        (false, Kind::Counter, _) => (name, "counter"),
        (_, Kind::Gauge, _) => (name, "gauge"),
        (_, Kind::Histogram, _) => (name, "histogram"),
        (_, Kind::Summary, _) => (name, "summary"),
    };
    put(out, &["# HELP ", title, " "]);
    escape(out, &family.desc.help, openmetrics);
    put(out, &["\n# TYPE ", title, " ", kind, "\n"]);

    for metric in &family.metrics {
        let line = Line {
            name,
            names: &family.desc.labels,
            values: &metric.labels,
        };
        match &metric.value {
            Value::Number(v) => line.write(out, "", None, |out| write_value(out, *v)),
            Value::Histogram {
                buckets,
                sum,
                count,
            } => {
                for (bound, n) in buckets {
                    let le = Some(("le", *bound, openmetrics));
                    line.write(out, "_bucket", le, |out| write_count(out, *n));
                }
                line.write(out, "_sum", None, |out| write_value(out, *sum));
                line.write(out, "_count", None, |out| write_count(out, *count));
            }
            Value::Summary {
                quantiles,
                sum,
                count,
            } => {
                for (quantile, v) in quantiles {
                    let quantile = Some(("quantile", *quantile, openmetrics));
                    line.write(out, "", quantile, |out| write_value(out, *v));
                }
                line.write(out, "_sum", None, |out| write_value(out, *sum));
                line.write(out, "_count", None, |out| write_count(out, *count));
            }
        }
    }
}

fn write_count(out: &mut Vec<u8>, count: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
}

struct Line<'a> {
    name: &'a str,
    names: &'a [Arc<str>],
    values: &'a [Arc<str>],
}

impl Line<'_> {
    fn write(
        &self,
        out: &mut Vec<u8>,
        suffix: &str,
        extra: Option<(&str, f64, bool)>,
        value: impl FnOnce(&mut Vec<u8>),
    ) {
        put(out, &[self.name, suffix]);
        let mut open = "{";
        for (name, value) in self.names.iter().zip(self.values) {
            put(out, &[open, name, "=\""]);
            escape(out, value, true);
            put(out, &["\""]);
            open = ",";
        }
        if let Some((name, bound, openmetrics)) = extra {
            put(out, &[open, name, "=\""]);
            write_bound(out, bound, openmetrics);
            put(out, &["\""]);
            open = ",";
        }
        put(out, &[if open == "," { "} " } else { " " }]);
        value(out);
        out.push(b'\n');
    }
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

fn escape(out: &mut Vec<u8>, text: &str, quotes: bool) {
    for &b in text.as_bytes() {
        match b {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' if quotes => out.extend_from_slice(b"\\\""),
            b => out.push(b),
        }
    }
}
