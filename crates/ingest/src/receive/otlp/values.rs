//! Attributes and exemplars of OTLP messages.

use base64::Engine as _;
use model::{Labels, Millis};
use serde_json::Value as Json;
use wire::fields::{BadMessage, Fields, Value};

/// How deep values may be nested.
const DEPTH: usize = 16;
/// Most characters of an exemplar's labels.
const MAX_RUNES: usize = 128;

/// Name and value of an attribute.
pub(super) type Attribute<'a> = (&'a str, String);

/// A `KeyValue` message.
pub(super) fn attribute(message: &[u8]) -> Result<Attribute<'_>, BadMessage> {
    let (name, value) = key_value(message, 0)?;
    Ok((name, text(value)))
}

fn key_value(message: &[u8], depth: usize) -> Result<(&str, Json), BadMessage> {
    let (mut name, mut json) = ("", Json::Null);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => name = value.text()?,
            2 => json = any(value, depth)?,
            _ => {}
        }
    }
    Ok((name, json))
}

fn any(value: Value<'_>, depth: usize) -> Result<Json, BadMessage> {
    let mut json = Json::Null;
    let mut fields = value.fields();
    while let Some((number, value)) = fields.next_field()? {
        json = match number {
            1 => value.text()?.into(),
            2 => (value.number() != 0).into(),
            3 => value.signed().into(),
            4 => value.double().into(),
            5 if depth < DEPTH => {
                let mut list = Vec::new();
                let mut items = value.fields();
                while let Some((number, item)) = items.next_field()? {
                    if number == 1 {
                        list.push(any(item, depth + 1)?);
                    }
                }
                Json::Array(list)
            }
            6 if depth < DEPTH => {
                let mut map = serde_json::Map::new();
                let mut items = value.fields();
                while let Some((number, item)) = items.next_field()? {
                    if number == 1 {
                        let (name, json) = key_value(item.bytes(), depth + 1)?;
                        map.insert(name.to_owned(), json);
                    }
                }
                Json::Object(map)
            }
            7 => base64::engine::general_purpose::STANDARD
                .encode(value.bytes())
                .into(),
            _ => Json::Null,
        };
    }
    Ok(json)
}

/// A value as a label has it.
fn text(json: Json) -> String {
    match json {
        Json::Null => String::new(),
        Json::String(text) => text,
        Json::Number(n) => match n.as_f64() {
            Some(float) if n.is_f64() => float.to_string(),
            _ => n.to_string(),
        },
        other => other.to_string(),
    }
}

/// An exemplar: labels, value, time.
pub(super) fn exemplar(message: &[u8]) -> Result<(Labels, f64, Millis), BadMessage> {
    let (mut value, mut ts) = (0.0, 0);
    let mut ids = Vec::new();
    let mut filtered = Vec::new();
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next_field()? {
        match number {
            2 => ts = millis(field.number()),
            3 => value = field.double(),
            4 => id(&mut ids, "span_id", field.bytes()),
            5 => id(&mut ids, "trace_id", field.bytes()),
            6 => value = field.signed() as f64,
            7 => filtered.push(attribute(field.bytes())?),
            _ => {}
        }
    }
    let runes = |pairs: &[Attribute<'_>]| -> usize {
        let of = |(n, v): &Attribute<'_>| n.chars().count() + v.chars().count();
        pairs.iter().map(of).sum()
    };
    if runes(&ids) + runes(&filtered) <= MAX_RUNES {
        ids.extend(filtered);
    }
    Ok((Labels::from_pairs(ids), value, ts))
}

fn id<'a>(ids: &mut Vec<Attribute<'a>>, name: &'a str, bytes: &[u8]) {
    if bytes.iter().any(|b| *b != 0) {
        ids.push((name, bytes.iter().map(|b| format!("{b:02x}")).collect()));
    }
}

/// Nanoseconds in ms.
pub(super) fn millis(nanos: u64) -> Millis {
    (nanos / 1_000_000) as Millis
}
