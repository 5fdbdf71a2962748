//! Label sets: sorted by name, without empty values, immutable and cheap to clone.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use crate::Str;

/// The label that carries a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// One label set: names ascending bytewise and unique, no empty values.
///
/// The bytes are laid out as Prometheus' "stringlabels" encoding lays them out (each string
/// preceded by its length in one byte, or `0xff` and three bytes little-endian), so that
/// [`Labels::hash64`] equals the hash that `limit_ratio` needs
/// (`model/labels/labels_stringlabels.go`).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Labels(Arc<[u8]>);

impl Labels {
    /// The set from name/value pairs in any order; later duplicates win, empty values vanish.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name, value);
        }
        builder.build()
    }

    /// The set from pairs that are already sorted by name, unique and non-empty (debug-asserted).
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut bytes = Vec::with_capacity(128);
        let mut last: Option<&str> = None;
        for (name, value) in pairs {
            debug_assert!(last.is_none_or(|l| l < name), "label names must ascend");
            debug_assert!(!value.is_empty(), "an empty value is an absent label");
            push_string(&mut bytes, name);
            push_string(&mut bytes, value);
            last = Some(name);
        }
        Self(bytes.into())
    }

    /// The set from its [encoded bytes](Labels::as_bytes); none if they are not those of a set.
    pub fn from_encoded(bytes: &[u8]) -> Option<Self> {
        let ascii = bytes.is_ascii();
        let text = |s: &[u8]| ascii || std::str::from_utf8(s).is_ok();
        let mut rest = Iter(bytes);
        let mut last: Option<&[u8]> = None;
        while !rest.0.is_empty() {
            let (name, value) = (rest.bytes()?, rest.bytes()?);
            let ascends = last.is_none_or(|last| last < name);
            if !ascends || value.is_empty() || !text(name) || !text(value) {
                return None;
            }
            last = Some(name);
        }
        Some(Self(bytes.into()))
    }

    /// Pairs in order of name, to be compared before they are read.
    pub fn encoded_pairs(&self) -> impl Iterator<Item = EncodedPair<'_>> {
        let mut rest = self.iter();
        std::iter::from_fn(move || {
            let all = rest.0;
            let _ = (rest.bytes()?, rest.bytes()?);
            all.get(..all.len() - rest.0.len()).map(EncodedPair)
        })
    }

    /// The value of `name`, if the set has it.
    pub fn get(&self, name: &str) -> Option<&str> {
        for (n, v) in self.iter() {
            match n.as_bytes().cmp(name.as_bytes()) {
                Ordering::Less => {}
                Ordering::Equal => return Some(v),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// The metric name, or `""`.
    pub fn name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// Pairs in order of name.
    pub fn iter(&self) -> Iter<'_> {
        Iter(&self.0)
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// xxHash64 (seed 0) of the encoded bytes: stable across processes.
    pub fn hash64(&self) -> u64 {
        xxh64(&self.0, 0)
    }

    /// The encoded bytes (see the type's documentation).
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A builder that starts from this set.
    pub fn builder(&self) -> LabelsBuilder {
        LabelsBuilder {
            pairs: self
                .iter()
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .collect(),
        }
    }

    /// This set with `over`'s labels laid on top (`over` wins on a name clash).
    pub fn overlay(&self, over: &Labels) -> Labels {
        if over.is_empty() {
            return self.clone();
        }
        let mut builder = self.builder();
        for (name, value) in over.iter() {
            builder.set(name, value);
        }
        builder.build()
    }
}

fn push_string(out: &mut Vec<u8>, s: &str) {
    // A string of 16 MiB or more cannot be represented; cut it at a character border. Every
    // entrance limits label lengths far below this.
    const MAX: usize = (1 << 24) - 1;
    let mut end = s.len().min(MAX);
    while !s.is_char_boundary(end) {
        end -= 1;
    }
    let s = &s[..end];
    if s.len() < 255 {
        out.push(s.len() as u8);
    } else {
        out.push(255);
        out.extend_from_slice(&(s.len() as u32).to_le_bytes()[..3]);
    }
    out.extend_from_slice(s.as_bytes());
}

/// A name and a value as a set has them encoded: two are equal if their strings are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EncodedPair<'a>(&'a [u8]);

impl<'a> EncodedPair<'a> {
    /// Name and value.
    pub fn read(self) -> (&'a str, &'a str) {
        // It was made of a pair.
        Iter(self.0).next().unwrap_or_default()
    }
}

/// Iterator over the pairs of a [`Labels`].
#[derive(Clone)]
pub struct Iter<'a>(&'a [u8]);

impl<'a> Iter<'a> {
    fn string(&mut self) -> Option<&'a str> {
        // The only constructors take whole `str`s, so this never fails.
        std::str::from_utf8(self.bytes()?).ok()
    }

    #[inline]
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let (&first, rest) = self.0.split_first()?;
        let (len, rest) = if first < 255 {
            (first as usize, rest)
        } else {
            let (head, rest) = rest.split_first_chunk::<3>()?;
            (
                u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize,
                rest,
            )
        };
        let (s, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some(s)
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.string()?, self.string()?))
    }
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Pair by pair: name, then value, bytewise; a shorter prefix comes first.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

/// `{a="b", __name__="c"}` as Prometheus prints it: `c{a="b"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        let legacy = is_legacy_metric_name(name);
        if legacy {
            f.write_str(name)?;
        }
        let mut first = true;
        for (n, v) in self.iter() {
            if n == METRIC_NAME && legacy {
                continue;
            }
            f.write_str(if first { "{" } else { ", " })?;
            first = false;
            if is_legacy_label_name(n) {
                f.write_str(n)?;
            } else {
                write_quoted(f, n)?;
            }
            f.write_str("=")?;
            write_quoted(f, v)?;
        }
        match (first, legacy) {
            (true, true) => Ok(()),
            (true, false) => f.write_str("{}"),
            (false, _) => f.write_str("}"),
        }
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl FromIterator<(String, String)> for Labels {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(iter: T) -> Self {
        Labels::from_pairs(iter)
    }
}

/// Writes `s` in double quotes, escaped as Go's `%q` escapes it.
pub fn write_quoted(out: &mut impl fmt::Write, s: &str) -> fmt::Result {
    out.write_char('"')?;
    for c in s.chars() {
        match c {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\u{7}' => out.write_str("\\a")?,
            '\u{8}' => out.write_str("\\b")?,
            '\u{b}' => out.write_str("\\v")?,
            '\u{c}' => out.write_str("\\f")?,
            c if (c as u32) < 0x20 || c as u32 == 0x7f => write!(out, "\\x{:02x}", c as u32)?,
            // C1 controls and the soft hyphen are the commonest runes that Go calls unprintable.
            c if c.is_control() || c == '\u{ad}' || c == '\u{feff}' => {
                write!(out, "\\u{:04x}", c as u32)?
            }
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

/// Whether `name` is a metric name of the pre-UTF-8 scheme: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub fn is_legacy_metric_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().enumerate().all(|(i, b)| {
            b.is_ascii_alphabetic() || b == b'_' || b == b':' || (i > 0 && b.is_ascii_digit())
        })
}

/// Whether `name` is a label name of the pre-UTF-8 scheme: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_legacy_label_name(name: &str) -> bool {
    !name.contains(':') && is_legacy_metric_name(name)
}

/// Builds or edits a label set.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Sets `name` to `value`; an empty value removes the label.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Self {
        let (name, value) = (name.into(), value.into());
        match self.pairs.iter_mut().find(|(n, _)| *n == name) {
            Some(pair) => pair.1 = value,
            None => self.pairs.push((name, value)),
        }
        self
    }

    /// Removes `name`.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.pairs.retain(|(n, _)| n != name);
        self
    }

    /// Keeps the labels for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) -> &mut Self {
        self.pairs.retain(|(n, v)| keep(n, v));
        self
    }

    /// The present value of `name`, or `""`.
    pub fn get(&self, name: &str) -> &str {
        self.pairs
            .iter()
            .find(|(n, _)| n == name)
            .map_or("", |(_, v)| v)
    }

    /// Pairs in no particular order; values may be empty.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// The finished set.
    pub fn build(&self) -> Labels {
        let mut sorted: Vec<(&str, &str)> = self.iter().filter(|(_, v)| !v.is_empty()).collect();
        sorted.sort_unstable();
        Labels::from_sorted(sorted)
    }
}

/// The labels as owned shared strings, for APIs that hand out names and values one by one.
pub fn to_strs(labels: &Labels) -> Vec<(Str, Str)> {
    labels.iter().map(|(n, v)| (n.into(), v.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_and_empty_values_vanish() {
        let l = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", ""), ("b", "3")]);
        assert_eq!(l.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "3")]);
        assert_eq!(l.get("c"), None);
        assert_eq!(l.to_string(), r#"{a="1", b="3"}"#);
    }

    #[test]
    fn display_puts_the_name_in_front() {
        let l = Labels::from_pairs([(METRIC_NAME, "up"), ("job", "a\"b")]);
        assert_eq!(l.to_string(), r#"up{job="a\"b"}"#);
        let utf8 = Labels::from_pairs([(METRIC_NAME, "my.metric"), ("a.b", "c")]);
        assert_eq!(utf8.to_string(), r#"{__name__="my.metric", "a.b"="c"}"#);
        assert_eq!(Labels::default().to_string(), "{}");
    }

    #[test]
    fn long_strings_survive() {
        let long = "x".repeat(70_000);
        let l = Labels::from_pairs([("a", long.as_str()), ("b", "2")]);
        assert_eq!(l.get("a"), Some(long.as_str()));
        assert_eq!(l.get("b"), Some("2"));
    }

    #[test]
    fn order_is_label_by_label() {
        let mut sets = [
            Labels::from_pairs([("a", "2")]),
            Labels::from_pairs([("a", "1"), ("b", "1")]),
            Labels::from_pairs([("a", "1")]),
            Labels::default(),
        ];
        sets.sort();
        let text: Vec<String> = sets.iter().map(Labels::to_string).collect();
        assert_eq!(
            text,
            ["{}", r#"{a="1"}"#, r#"{a="1", b="1"}"#, r#"{a="2"}"#]
        );
    }
}
