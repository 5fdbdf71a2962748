//! Queries with something wrong: errors must have Prometheus' texts, types and places.

use crate::random::Random;

/// What is put in: words and signs of the language, and what belongs to none.
const PIECES: &[&str] = &[
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ",",
    ":",
    "=~",
    "!~",
    "==",
    "!=",
    ">=",
    ">/",
    "</",
    "@",
    "=",
    "+",
    "-",
    "/",
    "%",
    "^",
    "offset",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "bool",
    "and",
    "or",
    "unless",
    "atan2",
    "sum",
    "topk",
    "quantile",
    "rate",
    "info",
    "absent",
    "label_replace",
    "smoothed",
    "anchored",
    "fill",
    "fill_left",
    "start()",
    "end()",
    "step()",
    "range()",
    "max_of",
    "5m",
    "1h30",
    "5mm",
    "0x1F",
    "1e",
    "1e5",
    "Inf",
    "NaN",
    "..",
    "0b1",
    "007",
    ":5m",
    "[5m:]",
    "[5m]",
    "\"a\"",
    "\"",
    "'",
    "`",
    "\"\\x\"",
    "\\",
    "é",
    "#",
    "$",
    "~",
    "!",
    ";",
    "\n",
    "_",
    "__name__",
];

/// The words and signs of `query`, white space included.
fn pieces(query: &str) -> Vec<String> {
    let kind = |c: char| match c {
        c if c.is_alphanumeric() || matches!(c, '_' | '.' | ':') => 0,
        c if c.is_whitespace() => 1,
        _ => 2,
    };
    let mut out: Vec<String> = Vec::new();
    let mut last = 2;
    for c in query.chars() {
        match out.last_mut() {
            Some(piece) if kind(c) == last && last < 2 => piece.push(c),
            _ => out.push(c.into()),
        }
        last = kind(c);
    }
    out
}

/// `query` with one to three pieces gone, more, others, in another place, or cut off.
pub fn mangle(random: &mut Random, query: &str) -> String {
    let mut pieces = pieces(query);
    for _ in 0..1 + random.below(6).saturating_sub(3) {
        if pieces.is_empty() {
            break;
        }
        let (at, other) = (random.below(pieces.len()), random.below(pieces.len()));
        match random.below(6) {
            0 => drop(pieces.remove(at)),
            1 => pieces.insert(at, random.pick(PIECES).to_owned()),
            2 => pieces[at] = random.pick(PIECES).to_owned(),
            3 => pieces.swap(at, other),
            4 => pieces.insert(at, pieces[other].clone()),
            _ => pieces.truncate(at + 1),
        }
    }
    pieces.concat()
}
