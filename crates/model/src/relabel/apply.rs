//! Running rules over a label set.

use std::borrow::Cow;

use md5::{Digest, Md5};

use super::{Rule, Step, Template};
use crate::Labels;
use crate::regex;

/// Runs `rules` over `labels`, one after the other; nothing if one of them drops it.
///
/// As long as no rule changes anything the answer shares the memory of `labels`.
pub fn process(labels: &Labels, rules: &[Rule]) -> Option<Labels> {
    let mut edit = Edit {
        base: labels,
        set: Vec::new(),
        removed: Vec::new(),
    };
    for rule in rules {
        if !rule.apply(&mut edit) {
            return None;
        }
    }
    Some(edit.finish())
}

/// A label set with changes laid over it.
struct Edit<'a> {
    base: &'a Labels,
    /// In the order in which they were set.
    set: Vec<(String, String)>,
    removed: Vec<String>,
}

impl Edit<'_> {
    /// The present value, empty if there is none.
    fn get(&self, name: &str) -> &str {
        if let Some((_, value)) = self.set.iter().find(|(n, _)| n == name) {
            return value;
        }
        if self.removed.iter().any(|n| n == name) {
            return "";
        }
        self.base.get(name).unwrap_or("")
    }

    /// Sets a label; an empty value removes it.
    fn set(&mut self, name: &str, value: String) {
        if self.get(name) == value {
            return;
        }
        if value.is_empty() {
            return self.remove(name);
        }
        match self.set.iter_mut().find(|(n, _)| n == name) {
            Some(pair) => pair.1 = value,
            None => self.set.push((name.to_owned(), value)),
        }
    }

    fn remove(&mut self, name: &str) {
        self.set.retain(|(n, _)| n != name);
        if !self.removed.iter().any(|n| n == name) {
            self.removed.push(name.to_owned());
        }
    }

    fn in_base(&self, name: &str) -> bool {
        !self.set.iter().any(|(n, _)| n == name) && !self.removed.iter().any(|n| n == name)
    }

    /// What stands in the base unchanged, then what was set.
    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let base = self.base.iter().filter(|(n, _)| self.in_base(n));
        base.chain(self.set.iter().map(|(n, v)| (n.as_str(), v.as_str())))
    }

    fn finish(self) -> Labels {
        if self.set.is_empty() && self.removed.is_empty() {
            return self.base.clone();
        }
        let mut pairs: Vec<(&str, &str)> = self.iter().collect();
        pairs.sort_unstable_by_key(|(name, _)| *name);
        Labels::from_sorted(pairs)
    }
}

impl Rule {
    /// Whether the set is kept.
    fn apply(&self, edit: &mut Edit<'_>) -> bool {
        let (target, value) = match &self.step {
            Step::Keep => return self.regex.is_match(&self.source(edit)),
            Step::Drop => return !self.regex.is_match(&self.source(edit)),
            Step::KeepEqual(target) => return self.source(edit) == edit.get(target),
            Step::DropEqual(target) => return self.source(edit) != edit.get(target),
            Step::LabelDrop => {
                self.remove_names(edit, true);
                return true;
            }
            Step::LabelKeep => {
                self.remove_names(edit, false);
                return true;
            }
            Step::LabelMap(replacement) => {
                self.map_names(edit, replacement);
                return true;
            }
            Step::Replace {
                target,
                replacement,
            } => match self.replacement(&self.source(edit), target, replacement) {
                Some(found) => found,
                None => return true,
            },
            Step::HashMod { target, modulus } => {
                let hash = hash(&self.source(edit));
                // The modulus was checked; but a division must not panic.
                (
                    Cow::Borrowed(&**target),
                    hash.checked_rem(*modulus).unwrap_or(0).to_string(),
                )
            }
            Step::Lowercase(target) => {
                let lower = self.source(edit).chars().map(regex::to_lower).collect();
                (Cow::Borrowed(&**target), lower)
            }
            Step::Uppercase(target) => {
                let upper = self.source(edit).chars().map(regex::to_upper).collect();
                (Cow::Borrowed(&**target), upper)
            }
        };
        edit.set(&target, value);
        true
    }

    /// The values of the source labels, joined.
    fn source<'e>(&self, edit: &'e Edit<'_>) -> Cow<'e, str> {
        match &*self.sources {
            [] => Cow::Borrowed(""),
            [one] => Cow::Borrowed(edit.get(one)),
            [first, rest @ ..] => {
                let mut joined = edit.get(first).to_owned();
                for name in rest {
                    joined.push_str(&self.separator);
                    joined.push_str(edit.get(name));
                }
                Cow::Owned(joined)
            }
        }
    }

    /// Which label to set to what, if the source matches and the label's name is valid.
    fn replacement<'r>(
        &self,
        source: &str,
        target: &'r Template,
        replacement: &Template,
    ) -> Option<(Cow<'r, str>, String)> {
        if let (Template::Fixed(target), Template::Fixed(value)) = (target, replacement) {
            let found = self.regex.is_match(source);
            return found.then(|| (Cow::Borrowed(&**target), String::from(&**value)));
        }
        let captures = self.regex.captures(source)?;
        let target = match target {
            Template::Fixed(target) => Cow::Borrowed(&**target),
            Template::Groups(template) => {
                let mut name = String::new();
                captures.expand(template, &mut name);
                if !self.scheme.is_label_name(&name) {
                    return None;
                }
                Cow::Owned(name)
            }
        };
        let mut value = String::new();
        match replacement {
            Template::Fixed(text) => value.push_str(text),
            Template::Groups(template) => captures.expand(template, &mut value),
        }
        Some((target, value))
    }

    fn remove_names(&self, edit: &mut Edit<'_>, matching: bool) {
        let names = edit.iter().map(|(name, _)| name);
        let wrong: Vec<String> = names
            .filter(|n| self.regex.is_match(n) == matching)
            .map(str::to_owned)
            .collect();
        for name in wrong {
            edit.remove(&name);
        }
    }

    fn map_names(&self, edit: &mut Edit<'_>, replacement: &Template) {
        let mut copies = Vec::new();
        for (name, value) in edit.iter() {
            let copy = match replacement {
                Template::Fixed(fixed) => self.regex.is_match(name).then(|| fixed.to_string()),
                Template::Groups(template) => self.regex.expand(name, template),
            };
            copies.extend(copy.map(|copy| (copy, value.to_owned())));
        }
        for (name, value) in copies {
            edit.set(&name, value);
        }
    }
}

/// The low half of the MD5 of `text`, big-endian.
fn hash(text: &str) -> u64 {
    let digest: [u8; 16] = Md5::digest(text).into();
    u128::from_be_bytes(digest) as u64
}
