//! Requests of remote write, 1.x and 2.0, out of items; and metadata of 1.x.

use hashbrown::HashMap;
use model::report::{Metadata, MetricType};
use model::{Labels, Str};
use wire::put;

use super::queue::{Item, Value};
use crate::receive::Message;

/// Encodes requests; keeps its memory.
pub(super) struct Encoder {
    plain: Vec<u8>,
    series: Vec<u8>,
    packed: Vec<u8>,
    snappy: snap::raw::Encoder,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            plain: Vec::new(),
            series: Vec::new(),
            packed: Vec::new(),
            snappy: snap::raw::Encoder::new(),
        }
    }
}

impl Encoder {
    /// A request with these items, compressed.
    pub(super) fn samples(&mut self, message: Message, items: &[Item]) -> Vec<u8> {
        self.plain.clear();
        match message {
            Message::V1 => items.iter().for_each(|item| v1(&mut self.plain, item)),
            Message::V2 => v2(&mut self.plain, &mut self.series, items),
        }
        self.compress()
    }

    /// A request of 1.x with metadata, compressed.
    pub(super) fn metadata(&mut self, entries: &[(Str, Metadata)]) -> Vec<u8> {
        self.plain.clear();
        for (name, metadata) in entries {
            v1_metadata(&mut self.plain, name, metadata);
        }
        self.compress()
    }

    /// A request of 1.x with items and the metadata of their metrics, compressed.
    pub(super) fn both(&mut self, items: &[Item]) -> Vec<u8> {
        self.plain.clear();
        let mut told = hashbrown::HashSet::new();
        for item in items {
            v1(&mut self.plain, item);
            let name = item.labels.name();
            if let Some(metadata) = &item.metadata
                && told.insert(name)
            {
                v1_metadata(&mut self.plain, name, metadata);
            }
        }
        self.compress()
    }

    fn compress(&mut self) -> Vec<u8> {
        let bound = snap::raw::max_compress_len(self.plain.len());
        if self.packed.len() < bound {
            self.packed.resize(bound, 0);
        }
        match self.snappy.compress(&self.plain, &mut self.packed) {
            Ok(len) => self.packed.get(..len).unwrap_or_default().to_vec(),
            // Only a request of 4 GiB cannot be compressed.
            Err(_) => Vec::new(),
        }
    }
}

/// The numbers of kinds are the same in both versions.
fn kind(kind: MetricType) -> u64 {
    match kind {
        MetricType::Unknown => 0,
        MetricType::Counter => 1,
        MetricType::Gauge => 2,
        MetricType::Histogram => 3,
        MetricType::GaugeHistogram => 4,
        MetricType::Summary => 5,
        MetricType::Info => 6,
        MetricType::StateSet => 7,
    }
}

fn pairs(out: &mut Vec<u8>, labels: &Labels) {
    for (name, value) in labels {
        put::nested(out, 1, |out| {
            put::bytes(out, 1, name.as_bytes());
            put::bytes(out, 2, value.as_bytes());
        });
    }
}

fn v1(out: &mut Vec<u8>, item: &Item) {
    put::nested(out, 1, |out| {
        pairs(out, &item.labels);
        match &item.value {
            Value::Float(value) => put::nested(out, 2, |out| {
                put::double(out, 1, *value);
                put::number(out, 2, item.ts as u64);
            }),
            Value::Histogram(h) => {
                put::nested(out, 4, |out| wire::histogram::write(out, item.ts, 0, h));
            }
            Value::Exemplar(exemplar) => put::nested(out, 3, |out| {
                pairs(out, &exemplar.0);
                put::double(out, 2, exemplar.1);
                put::number(out, 3, item.ts as u64);
            }),
        }
    });
}

fn v1_metadata(out: &mut Vec<u8>, name: &str, metadata: &Metadata) {
    put::nested(out, 3, |out| {
        put::number(out, 1, kind(metadata.kind));
        put::some_bytes(out, 2, name.as_bytes());
        put::some_bytes(out, 4, metadata.help.as_bytes());
        put::some_bytes(out, 5, metadata.unit.as_bytes());
    });
}

/// The texts of a request, each once.
struct Symbols<'a> {
    numbers: HashMap<&'a str, u64>,
    all: Vec<&'a str>,
}

impl<'a> Symbols<'a> {
    fn number(&mut self, text: &'a str) -> u64 {
        let all = &mut self.all;
        *self.numbers.entry(text).or_insert_with(|| {
            all.push(text);
            all.len() as u64 - 1
        })
    }

    fn refs(&mut self, out: &mut Vec<u8>, labels: &'a Labels) {
        put::nested(out, 1, |out| {
            for (name, value) in labels {
                let name = self.number(name);
                put::varint(out, name);
                let value = self.number(value);
                put::varint(out, value);
            }
        });
    }
}

fn v2(out: &mut Vec<u8>, series: &mut Vec<u8>, items: &[Item]) {
    series.clear();
    let mut symbols = Symbols {
        numbers: HashMap::new(),
        all: Vec::new(),
    };
    // The empty text has to be the first.
    symbols.number("");
    for item in items {
        put::nested(series, 5, |out| {
            symbols.refs(out, &item.labels);
            match &item.value {
                Value::Float(value) => put::nested(out, 2, |out| {
                    put::double(out, 1, *value);
                    put::number(out, 2, item.ts as u64);
                    put::number(out, 3, item.start as u64);
                }),
                Value::Histogram(h) => put::nested(out, 3, |out| {
                    wire::histogram::write(out, item.ts, item.start, h);
                }),
                Value::Exemplar(exemplar) => put::nested(out, 4, |out| {
                    symbols.refs(out, &exemplar.0);
                    put::double(out, 2, exemplar.1);
                    put::number(out, 3, item.ts as u64);
                }),
            }
            if let Some(metadata) = &item.metadata {
                put::nested(out, 5, |out| {
                    put::number(out, 1, kind(metadata.kind));
                    let help = symbols.number(&metadata.help);
                    put::number(out, 3, help);
                    let unit = symbols.number(&metadata.unit);
                    put::number(out, 4, unit);
                });
            }
        });
    }
    for text in &symbols.all {
        put::bytes(out, 4, text.as_bytes());
    }
    out.extend_from_slice(series);
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use std::sync::Arc;
    use wire::proto::io::prometheus::write::v2 as pb2;
    use wire::proto::prometheus as pb1;

    use super::*;

    fn items() -> Vec<Item> {
        let item = |ts, value| Item {
            labels: Labels::from_pairs([("__name__", "a"), ("job", "x")]),
            ts,
            start: 5,
            value,
            metadata: Some(Arc::new(Metadata {
                kind: MetricType::Counter,
                help: "h".into(),
                unit: "".into(),
            })),
        };
        vec![
            item(1, Value::Float(0.0)),
            item(
                -2,
                Value::Histogram(Box::new(model::histogram::Histogram::Int(
                    Default::default(),
                ))),
            ),
            item(
                3,
                Value::Exemplar(Box::new((Labels::from_pairs([("id", "x")]), 2.5))),
            ),
        ]
    }

    fn plain(packed: &[u8]) -> Vec<u8> {
        snap::raw::Decoder::new().decompress_vec(packed).unwrap()
    }

    #[test]
    fn requests_are_what_libraries_read() {
        let mut encoder = Encoder::default();
        let one = plain(&encoder.samples(Message::V1, &items()));
        let one = pb1::WriteRequest::decode(one.as_slice()).unwrap();
        assert_eq!(one.timeseries.len(), 3);
        assert_eq!(one.timeseries[0].labels[1].value, "x");
        assert_eq!(one.timeseries[0].samples[0].timestamp, 1);
        assert_eq!(one.timeseries[1].histograms[0].timestamp, -2);
        assert_eq!(one.timeseries[2].exemplars[0].value, 2.5);
        let two = plain(&encoder.samples(Message::V2, &items()));
        let two = pb2::Request::decode(two.as_slice()).unwrap();
        let text = |n: u32| two.symbols[n as usize].as_str();
        assert_eq!(text(0), "");
        let refs = &two.timeseries[0].labels_refs;
        let texts: Vec<&str> = refs.iter().map(|n| text(*n)).collect();
        assert_eq!(texts, ["__name__", "a", "job", "x"]);
        assert_eq!(two.timeseries[0].samples[0].start_timestamp, 5);
        assert_eq!(two.timeseries[1].histograms[0].timestamp, -2);
        let exemplar = &two.timeseries[2].exemplars[0];
        assert_eq!(text(exemplar.labels_refs[0]), "id");
        assert_eq!(text(two.timeseries[0].metadata.unwrap().help_ref), "h");
        let entries = [("m".into(), items()[0].metadata.as_deref().unwrap().clone())];
        let metadata = plain(&encoder.metadata(&entries));
        let metadata = pb1::WriteRequest::decode(metadata.as_slice()).unwrap();
        assert_eq!(metadata.metadata[0].metric_family_name, "m");
    }
}
