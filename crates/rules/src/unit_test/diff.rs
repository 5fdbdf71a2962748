//! How the alerts that are expected differ from those that fired: JSON in which what is missing is red,
//! what is too much is green and what is different is yellow, as promtool's `--diff` shows it.

use std::fmt::Write as _;

use model::Labels;

const RED: &str = "\x1b[0;31m";
const GREEN: &str = "\x1b[0;32m";
const YELLOW: &str = "\x1b[0;33m";
const PLAIN: &str = "\x1b[0m";

/// JSON, as far as alerts need it.
enum Json {
    Text(String),
    /// Brackets, and parts: each by its name, or by its place in an array.
    Parts([char; 2], Vec<(String, Json)>),
}

fn object(labels: &Labels) -> Json {
    let parts = labels.iter();
    let parts = parts.map(|(name, value)| (name.to_owned(), Json::Text(value.to_owned())));
    Json::Parts(['{', '}'], parts.collect())
}

fn alerts(all: &[(Labels, Labels)]) -> Json {
    let one = |(labels, annotations): &(Labels, Labels)| {
        let parts = [("Annotations", annotations), ("Labels", labels)];
        let parts = parts.map(|(name, set)| (name.to_owned(), object(set)));
        (String::new(), Json::Parts(['{', '}'], parts.into()))
    };
    let mut parts: Vec<_> = all.iter().map(one).collect();
    if parts.is_empty() {
        parts.push(one(&Default::default()));
    }
    Json::Parts(['[', ']'], parts)
}

/// Labels and annotations of alerts, expected and found.
pub(super) fn show(expected: &[(Labels, Labels)], got: &[(Labels, Labels)]) -> String {
    let mut out = String::new();
    both(&alerts(expected), &alerts(got), 0, &mut out);
    out
}

fn line(level: usize, out: &mut String) {
    out.push('\n');
    (0..level).for_each(|_| out.push_str("    "));
}

fn name(name: &str, out: &mut String) {
    if !name.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(out, "{}: ", model::text::quote(name));
    }
}

/// What stands on both sides.
fn both(a: &Json, b: &Json, level: usize, out: &mut String) {
    let ([open, close], a, b) = match (a, b) {
        (Json::Text(a), Json::Text(b)) if a == b => {
            out.push_str(&model::text::quote(a));
            return;
        }
        (Json::Parts(brackets, a), Json::Parts(_, b)) => (*brackets, a, b),
        _ => {
            let _ = write!(out, "{YELLOW}{} => {}{PLAIN}", short(a), short(b));
            return;
        }
    };
    out.push(open);
    let pairs = pairs(a, b);
    for (i, (key, a, b)) in pairs.iter().enumerate() {
        line(level + 1, out);
        let (color, only) = match (a, b) {
            (Some(a), Some(b)) => {
                name(key, out);
                both(a, b, level + 1, out);
                ("", None)
            }
            (Some(a), None) => (RED, Some(a)),
            (None, b) => (GREEN, b.as_ref()),
        };
        if let Some(only) = only {
            out.push_str(color);
            name(key, out);
            whole(only, color, level + 1, out);
            out.push_str(PLAIN);
        }
        if i + 1 < pairs.len() {
            out.push(',');
        }
    }
    if !pairs.is_empty() {
        line(level, out);
    }
    out.push(close);
}

fn short(json: &Json) -> String {
    match json {
        Json::Text(text) => model::text::quote(text),
        Json::Parts([open, close], _) => format!("{open}{close}"),
    }
}

type Pair<'a> = (&'a str, Option<&'a Json>, Option<&'a Json>);

/// Parts by place where they have no names, else by name, ascending.
fn pairs<'a>(a: &'a [(String, Json)], b: &'a [(String, Json)]) -> Vec<Pair<'a>> {
    let named = a.iter().chain(b).any(|(name, _)| !name.is_empty());
    if !named {
        let at = |list: &'a [(String, Json)], i: usize| list.get(i).map(|part| &part.1);
        let all = 0..a.len().max(b.len());
        return all.map(|i| ("", at(a, i), at(b, i))).collect();
    }
    let of = |list: &'a [(String, Json)], name: &str| {
        let found = list.iter().find(|part| part.0 == name);
        found.map(|part| &part.1)
    };
    let mut names: Vec<&str> = a.iter().chain(b).map(|part| part.0.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let all = names.into_iter();
    all.map(|name| (name, of(a, name), of(b, name))).collect()
}

/// What stands on one side alone; the color is begun anew in every line.
fn whole(json: &Json, color: &str, level: usize, out: &mut String) {
    let (brackets, parts) = match json {
        Json::Parts(brackets, parts) if !parts.is_empty() => (brackets, parts),
        _ => return out.push_str(&short(json)),
    };
    out.push(brackets[0]);
    for (i, (key, part)) in parts.iter().enumerate() {
        out.push_str(if i > 0 { "," } else { "" });
        out.push_str(PLAIN);
        line(level + 1, out);
        out.push_str(color);
        name(key, out);
        whole(part, color, level + 1, out);
    }
    out.push_str(PLAIN);
    line(level, out);
    out.push_str(color);
    out.push(brackets[1]);
}
