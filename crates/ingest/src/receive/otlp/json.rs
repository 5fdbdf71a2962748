//! OTLP requests in JSON, written anew as the protobuf messages that they spell.
//!
//! The JSON of OTLP is protobuf's with exceptions: ids of traces and spans are hexadecimal, enumerations
//! are numbers. Names are read in camel case and as they stand in the definitions; a key that no
//! version knows is passed over, as protobuf does.

use base64::Engine as _;
use serde_json::{Map, Value as Json};
use wire::put;

/// What a field holds.
#[derive(Clone, Copy)]
enum Field {
    Text,
    Bool,
    /// A number of variable length: `uint32`, `int64`, an enumeration.
    Varint,
    /// The same, with the sign last.
    Zigzag,
    Fixed,
    Double,
    Hex,
    Base64,
    /// An enumeration that JSON may name.
    Temporality,
    Message(&'static Message),
    List(&'static Field),
}

type Message = [(&'static str, u32, Field)];

use Field::{
    Base64, Bool, Double, Fixed, Hex, List, Message as Of, Temporality, Text, Varint, Zigzag,
};

/// `ExportMetricsServiceRequest`.
const REQUEST: &Message = &[("resourceMetrics", 1, List(&Of(RESOURCE_METRICS)))];
const RESOURCE_METRICS: &Message = &[
    ("resource", 1, Of(&[("attributes", 1, List(&ATTRIBUTE))])),
    ("scopeMetrics", 2, List(&Of(SCOPE_METRICS))),
    ("schemaUrl", 3, Text),
];
const SCOPE_METRICS: &Message = &[
    ("scope", 1, Of(SCOPE)),
    ("metrics", 2, List(&Of(METRIC))),
    ("schemaUrl", 3, Text),
];
const SCOPE: &Message = &[
    ("name", 1, Text),
    ("version", 2, Text),
    ("attributes", 3, List(&ATTRIBUTE)),
];
const METRIC: &Message = &[
    ("name", 1, Text),
    ("description", 2, Text),
    ("unit", 3, Text),
    ("gauge", 5, Of(&[("dataPoints", 1, List(&Of(NUMBER)))])),
    ("sum", 7, Of(SUM)),
    ("histogram", 9, Of(HISTOGRAM)),
    ("exponentialHistogram", 10, Of(EXPONENTIAL)),
    ("summary", 11, Of(&[("dataPoints", 1, List(&Of(SUMMARY)))])),
];
const SUM: &Message = &[
    ("dataPoints", 1, List(&Of(NUMBER))),
    ("aggregationTemporality", 2, Temporality),
    ("isMonotonic", 3, Bool),
];
const HISTOGRAM: &Message = &[
    ("dataPoints", 1, List(&Of(HISTOGRAM_POINT))),
    ("aggregationTemporality", 2, Temporality),
];
const EXPONENTIAL: &Message = &[
    ("dataPoints", 1, List(&Of(EXPONENTIAL_POINT))),
    ("aggregationTemporality", 2, Temporality),
];
const NUMBER: &Message = &[
    ("startTimeUnixNano", 2, Fixed),
    ("timeUnixNano", 3, Fixed),
    ("asDouble", 4, Double),
    ("exemplars", 5, List(&Of(EXEMPLAR))),
    ("asInt", 6, Fixed),
    ("attributes", 7, List(&ATTRIBUTE)),
    ("flags", 8, Varint),
];
const HISTOGRAM_POINT: &Message = &[
    ("startTimeUnixNano", 2, Fixed),
    ("timeUnixNano", 3, Fixed),
    ("count", 4, Fixed),
    ("sum", 5, Double),
    ("bucketCounts", 6, List(&Fixed)),
    ("explicitBounds", 7, List(&Double)),
    ("exemplars", 8, List(&Of(EXEMPLAR))),
    ("attributes", 9, List(&ATTRIBUTE)),
    ("flags", 10, Varint),
    ("min", 11, Double),
    ("max", 12, Double),
];
const EXPONENTIAL_POINT: &Message = &[
    ("attributes", 1, List(&ATTRIBUTE)),
    ("startTimeUnixNano", 2, Fixed),
    ("timeUnixNano", 3, Fixed),
    ("count", 4, Fixed),
    ("sum", 5, Double),
    ("scale", 6, Zigzag),
    ("zeroCount", 7, Fixed),
    ("positive", 8, Of(BUCKETS)),
    ("negative", 9, Of(BUCKETS)),
    ("flags", 10, Varint),
    ("exemplars", 11, List(&Of(EXEMPLAR))),
    ("min", 12, Double),
    ("max", 13, Double),
    ("zeroThreshold", 14, Double),
];
const BUCKETS: &Message = &[("offset", 1, Zigzag), ("bucketCounts", 2, List(&Varint))];
const SUMMARY: &Message = &[
    ("startTimeUnixNano", 2, Fixed),
    ("timeUnixNano", 3, Fixed),
    ("count", 4, Fixed),
    ("sum", 5, Double),
    (
        "quantileValues",
        6,
        List(&Of(&[("quantile", 1, Double), ("value", 2, Double)])),
    ),
    ("attributes", 7, List(&ATTRIBUTE)),
    ("flags", 8, Varint),
];
const EXEMPLAR: &Message = &[
    ("timeUnixNano", 2, Fixed),
    ("asDouble", 3, Double),
    ("spanId", 4, Hex),
    ("traceId", 5, Hex),
    ("asInt", 6, Fixed),
    ("filteredAttributes", 7, List(&ATTRIBUTE)),
];
static ATTRIBUTE: Field = Of(KEY_VALUE);
static KEY_VALUE: &Message = &[("key", 1, Text), ("value", 2, Of(ANY_VALUE))];
static ANY_VALUE: &Message = &[
    ("stringValue", 1, Text),
    ("boolValue", 2, Bool),
    ("intValue", 3, Varint),
    ("doubleValue", 4, Double),
    ("arrayValue", 5, Of(ARRAY)),
    ("kvlistValue", 6, Of(LIST)),
    ("bytesValue", 7, Base64),
];
static ARRAY: &Message = &[("values", 1, List(&VALUE))];
static LIST: &Message = &[("values", 1, List(&ATTRIBUTE))];
static VALUE: Field = Of(ANY_VALUE);

/// The request in protobuf that a request in JSON spells. The error says where it cannot be read.
pub(super) fn to_protobuf(text: &[u8]) -> Result<Vec<u8>, String> {
    let json: Json = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    match &json {
        Json::Object(map) => message(&mut out, REQUEST, map)?,
        _ => return Err("the request is no object".to_owned()),
    }
    Ok(out)
}

fn message(out: &mut Vec<u8>, fields: &Message, map: &Map<String, Json>) -> Result<(), String> {
    for (key, json) in map {
        let known = fields.iter().find(|(name, ..)| is_called(key, name));
        let Some((name, number, kind)) = known.filter(|_| !json.is_null()) else {
            continue;
        };
        field(out, *number, *kind, json).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

/// Whether a key is this name, in camel case or with underscores.
fn is_called(key: &str, name: &str) -> bool {
    if !key.contains('_') {
        return key == name;
    }
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    key == snake
}

fn field(out: &mut Vec<u8>, number: u32, kind: Field, json: &Json) -> Result<(), String> {
    match kind {
        List(of) => {
            let items = json.as_array().ok_or_else(|| wrong("a list", json))?;
            for (i, item) in items.iter().enumerate() {
                field(out, number, *of, item).map_err(|e| format!("{i}: {e}"))?;
            }
        }
        Of(fields) => {
            let map = json.as_object().ok_or_else(|| wrong("an object", json))?;
            let mut inner = Vec::new();
            message(&mut inner, fields, map)?;
            put::bytes(out, number, &inner);
        }
        Text => {
            let text = json.as_str().ok_or_else(|| wrong("a text", json))?;
            put::bytes(out, number, text.as_bytes());
        }
        Hex => {
            let text = json.as_str().ok_or_else(|| wrong("a text", json))?;
            let bytes = unhex(text).ok_or_else(|| wrong("hexadecimal digits", json))?;
            put::bytes(out, number, &bytes);
        }
        Base64 => {
            let text = json.as_str().unwrap_or_default();
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            put::bytes(out, number, &bytes.map_err(|_| wrong("base64", json))?);
        }
        Bool => {
            let is = json.as_bool().ok_or_else(|| wrong("a boolean", json))?;
            varint(out, number, u64::from(is));
        }
        Varint => varint(out, number, integer(json)? as u64),
        Zigzag => varint(out, number, put::zigzag(integer(json)?)),
        Temporality => {
            let value = match json.as_str() {
                Some("AGGREGATION_TEMPORALITY_DELTA") => 1,
                Some("AGGREGATION_TEMPORALITY_CUMULATIVE") => 2,
                Some("AGGREGATION_TEMPORALITY_UNSPECIFIED") => 0,
                _ => integer(json)?,
            };
            varint(out, number, value as u64);
        }
        Fixed => fixed(out, number, integer(json)? as u64),
        Double => fixed(out, number, double(json)?.to_bits()),
    }
    Ok(())
}

/// That a value is there says something even if it is 0, so that it is written.
fn varint(out: &mut Vec<u8>, number: u32, n: u64) {
    put::key(out, number, 0);
    put::varint(out, n);
}

fn fixed(out: &mut Vec<u8>, number: u32, n: u64) {
    put::key(out, number, 1);
    out.extend_from_slice(&n.to_le_bytes());
}

/// Whole numbers are texts, for JSON's are too short; numbers are taken, too. Those without a sign may
/// be larger, and keep their bits.
fn integer(json: &Json) -> Result<i64, String> {
    let read = match json {
        Json::String(text) => text
            .parse()
            .ok()
            .or_else(|| text.parse::<u64>().ok().map(|n| n as i64)),
        other => other.as_i64().or_else(|| other.as_u64().map(|n| n as i64)),
    };
    read.ok_or_else(|| wrong("a whole number", json))
}

fn double(json: &Json) -> Result<f64, String> {
    let read = match json {
        Json::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => text.parse().ok(),
        },
        other => other.as_f64(),
    };
    read.ok_or_else(|| wrong("a number", json))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    Some(pairs.map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

fn wrong(wanted: &str, json: &Json) -> String {
    let mut shown = json.to_string();
    if let Some((at, _)) = shown.char_indices().nth(40) {
        shown.truncate(at);
        shown.push('…');
    }
    format!("{shown} is not {wanted}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_places() {
        let text = br#"{"resourceMetrics": [{"resource": {"attributes": [{"key": "a", "value": {"intValue": "-1"}}]}, "other": 1}]}"#;
        let snake = br#"{"resource_metrics": [{"resource": {"attributes": [{"key": "a", "value": {"int_value": -1}}]}}]}"#;
        let bytes = to_protobuf(text).unwrap();
        assert_eq!(bytes, to_protobuf(snake).unwrap());
        let mut value = Vec::new();
        varint(&mut value, 3, u64::MAX);
        let mut pair = Vec::new();
        put::bytes(&mut pair, 1, b"a");
        put::bytes(&mut pair, 2, &value);
        assert!(bytes.ends_with(&pair));
        for (text, says) in [
            ("[]", "no object"),
            ("{", "EOF"),
            (
                r#"{"resourceMetrics": 1}"#,
                "resourceMetrics: 1 is not a list",
            ),
            (
                r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"sum": {"dataPoints": [{"timeUnixNano": "x"}]}}]}]}]}"#,
                r#"sum: dataPoints: 0: timeUnixNano: "x" is not a whole number"#,
            ),
        ] {
            let error = to_protobuf(text.as_bytes()).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert_eq!(unhex("0aFF"), Some(vec![10, 255]));
        assert_eq!(unhex("0"), None);
    }

    #[test]
    fn deep_values_end() {
        let deep = format!(
            r#"{{"resourceMetrics": [{{"resource": {{"attributes": [{}1{}]}}}}]}}"#,
            r#"{"value": {"kvlistValue": {"values": ["#.repeat(10_000),
            "]}}}".repeat(10_000)
        );
        assert!(to_protobuf(deep.as_bytes()).is_err());
    }
}
