//! What a template computes with.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Labels;

use super::format;

/// A value of a template.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing was there: prints `<no value>`.
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    Histogram(Arc<str>),
    /// Nanoseconds.
    Duration(i64),
    /// Nanoseconds since the Unix epoch, UTC.
    Time(i64),
    /// The method `Format` of such a time, before its argument.
    Layout(i64),
    /// What `args` makes.
    Args(Arc<BTreeMap<String, Value>>),
    Labels(Arc<Labels>),
    Sample(Arc<Sample>),
    Samples(Arc<Vec<Arc<Sample>>>),
    /// What a template starts with.
    Root(Arc<Root>),
}

/// The value of a sample.
#[derive(Clone, Debug)]
pub enum Number {
    /// A float.
    Float(f64),
    /// A native histogram, as it prints itself.
    Histogram(Arc<str>),
}

impl Default for Number {
    fn default() -> Self {
        Number::Float(0.0)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Number::Float(value)
    }
}

impl Number {
    pub(super) fn value(&self) -> Value {
        match self {
            Number::Float(value) => Value::Float(*value),
            Number::Histogram(text) => Value::Histogram(Arc::clone(text)),
        }
    }
}

/// A sample that a query found.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its labels.
    pub labels: Labels,
    /// Its value.
    pub value: Number,
}

/// What an alert's templates are about.
#[derive(Clone, Debug, Default)]
pub struct Root {
    /// The series' labels: `$labels`.
    pub labels: Labels,
    /// The process' labels: `$externalLabels`.
    pub external_labels: Labels,
    /// The URL under which the process is reached: `$externalURL`.
    pub external_url: String,
    /// The sample's value: `$value`.
    pub value: Number,
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Value::Str(text.into())
    }

    /// Go's name of its type, for errors.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::None => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::Str(_) => "string",
            Value::Histogram(_) => "*histogram.FloatHistogram",
            Value::Duration(_) => "*time.Duration",
            Value::Time(_) => "*time.Time",
            Value::Layout(_) => "func(string) string",
            Value::Args(_) => "map[string]interface {}",
            Value::Labels(_) => "map[string]string",
            Value::Sample(_) => "*template.sample",
            Value::Samples(_) => "template.queryResult",
            Value::Root(_) => {
                "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }"
            }
        }
    }

    /// Whether an `if` takes it for true.
    pub(super) fn truth(&self) -> bool {
        match self {
            Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(i) => *i != 0,
            Value::Float(f) => *f != 0.0,
            Value::Str(s) => !s.is_empty(),
            Value::Args(map) => !map.is_empty(),
            Value::Labels(labels) => !labels.is_empty(),
            Value::Samples(list) => !list.is_empty(),
            Value::Histogram(_)
            | Value::Duration(_)
            | Value::Time(_)
            | Value::Layout(_)
            | Value::Sample(_)
            | Value::Root(_) => true,
        }
    }

    /// As an action prints it: what a pointer points to.
    pub(super) fn shown(&self) -> String {
        match self {
            Value::Sample(sample) => print_sample(sample, ""),
            other => other.print(),
        }
    }

    /// As Go's `fmt.Sprint` prints it.
    pub(super) fn print(&self) -> String {
        match self {
            Value::None => "<no value>".to_owned(),
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::Float(f) => model::text::format_g(*f),
            Value::Str(s) | Value::Histogram(s) => s.to_string(),
            Value::Duration(ns) => format::duration(*ns),
            Value::Time(ns) => format::time(*ns, format::DEFAULT_LAYOUT),
            Value::Layout(_) => "Format".to_owned(),
            Value::Args(map) => {
                let pairs = map.iter().map(|(k, v)| match v {
                    Value::None => (k.as_str(), "<nil>".to_owned()),
                    v => (k.as_str(), v.print()),
                });
                print_map(pairs)
            }
            Value::Labels(labels) => print_map(labels.iter().map(|(n, v)| (n, v.to_owned()))),
            Value::Sample(sample) => print_sample(sample, "&"),
            Value::Samples(list) => {
                // Go prints addresses here, which nobody can want.
                let all: Vec<_> = list.iter().map(|s| print_sample(s, "&")).collect();
                format!("[{}]", all.join(" "))
            }
            Value::Root(root) => format!(
                "{{{} {} {} {}}}",
                Value::Labels(Arc::new(root.labels.clone())).print(),
                Value::Labels(Arc::new(root.external_labels.clone())).print(),
                root.external_url,
                root.value.value().print()
            ),
        }
    }

    /// A field of it. `None`: there is no such field.
    pub(super) fn field(&self, name: &str) -> Option<Value> {
        Some(match (self, name) {
            // A label that is missing is empty.
            (Value::Labels(labels), _) => Value::text(labels.get(name).unwrap_or("")),
            (Value::Args(map), _) => map.get(name).cloned().unwrap_or(Value::None),
            (Value::Sample(s), "Labels") => Value::Labels(Arc::new(s.labels.clone())),
            (Value::Sample(s), "Value") => s.value.value(),
            (Value::Root(r), "Labels") => Value::Labels(Arc::new(r.labels.clone())),
            (Value::Root(r), "ExternalLabels") => {
                Value::Labels(Arc::new(r.external_labels.clone()))
            }
            (Value::Root(r), "ExternalURL") => Value::text(&r.external_url),
            (Value::Root(r), "Value") => r.value.value(),
            (Value::Duration(ns), _) => match name {
                "Seconds" => Value::Float(*ns as f64 / 1e9),
                "Minutes" => Value::Float(*ns as f64 / 6e10),
                "Hours" => Value::Float(*ns as f64 / 3.6e12),
                "Milliseconds" => Value::Int(ns / 1_000_000),
                "Microseconds" => Value::Int(ns / 1_000),
                "Nanoseconds" => Value::Int(*ns),
                "String" => Value::text(&format::duration(*ns)),
                _ => return None,
            },
            (Value::Time(ns), "Format") => Value::Layout(*ns),
            (Value::Time(ns), _) => return format::time_method(*ns, name),
            _ => return None,
        })
    }
}

fn print_map<'a>(pairs: impl Iterator<Item = (&'a str, String)>) -> String {
    let pairs: Vec<_> = pairs.map(|(k, v)| format!("{k}:{v}")).collect();
    format!("map[{}]", pairs.join(" "))
}

fn print_sample(sample: &Sample, before: &str) -> String {
    let labels = print_map(sample.labels.iter().map(|(n, v)| (n, v.to_owned())));
    let value = sample.value.value().print();
    format!("{before}{{{labels} {value}}}")
}
