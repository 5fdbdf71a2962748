//! External labels, and the environment variables in them.

use std::collections::BTreeMap;

use model::Labels;
use model::settings::Blank;
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, SerializeMap, Serializer};

use model::relabel::NameScheme;

/// Labels written as a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelMap(pub Labels);

impl LabelMap {
    pub(super) fn check(&self, scheme: NameScheme) -> Result<(), String> {
        match self.0.iter().find(|(name, _)| !scheme.is_label_name(name)) {
            Some((name, _)) => Err(format!("{name:?} is not a valid label name")),
            None => Ok(()),
        }
    }

    /// Replaces `$NAME` and `${NAME}` in the values by what `variable` knows; returns the names it
    /// does not know, which stand for nothing.
    pub fn expand(&mut self, variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let mut unknown = Vec::new();
        let expanded: Vec<(String, String)> = self
            .0
            .iter()
            .map(|(name, value)| {
                let value = expand(value, |name| match variable(name) {
                    Some(value) if !value.is_empty() => value,
                    _ => {
                        unknown.push(name.to_owned());
                        String::new()
                    }
                });
                (name.to_owned(), value)
            })
            .collect();
        self.0 = Labels::from_pairs(expanded);
        unknown
    }
}

impl Blank for LabelMap {
    fn is_blank(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for LabelMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<String, Option<String>>::deserialize(deserializer)?;
        Ok(Self(Labels::from_pairs(
            map.into_iter().map(|(n, v)| (n, v.unwrap_or_default())),
        )))
    }
}

impl Serialize for LabelMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Replaces `$NAME` and `${NAME}` as Go's `os.Expand` does; `$$` stands for a dollar.
pub fn expand(text: &str, mut variable: impl FnMut(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        let (before, after) = rest.split_at(dollar);
        out.push_str(before);
        let after = after.get(1..).unwrap_or_default();
        let (name, width) = name(after);
        match name {
            Some("$") => out.push('$'),
            Some(name) => out.push_str(&variable(name)),
            // A dollar before anything else stands for itself; broken braces vanish.
            None if width == 0 => out.push('$'),
            None => {}
        }
        rest = after.get(width..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// The name behind a dollar, and how many bytes it takes.
fn name(text: &str) -> (Option<&str>, usize) {
    let special = |b: u8| b"*#$@!?-".contains(&b) || b.is_ascii_digit();
    match text.as_bytes() {
        [b'{', inner @ ..] => match inner.iter().position(|b| *b == b'}') {
            Some(0) => (None, 2),
            Some(end) => (text.get(1..=end), end + 2),
            None => (None, 1),
        },
        [b, ..] if special(*b) => (text.get(..1), 1),
        bytes => {
            let len = bytes
                .iter()
                .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
                .count();
            (text.get(..len).filter(|name| !name.is_empty()), len)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded_as_go_does() {
        let known = |name: &str| {
            if name == "TEST" {
                "v".to_owned()
            } else {
                String::new()
            }
        };
        for (text, wanted) in [
            ("${TEST}", "v"),
            ("foo${TEST}bar", "foovbar"),
            ("foo$TEST-bar", "foov-bar"),
            ("foo$${TEST}", "foo${TEST}"),
            ("foo$$bar", "foo$bar"),
            ("$UNKNOWN.", "."),
            ("a$ b", "a$ b"),
            ("${}x", "x"),
            ("${TEST", "TEST"),
            ("5$", "5$"),
        ] {
            assert_eq!(expand(text, known), wanted, "{text}");
        }
    }
}
