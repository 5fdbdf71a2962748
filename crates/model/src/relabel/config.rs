//! Rules as configuration files spell them.

use serde::de::{self, Deserialize, Deserializer, MapAccess};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Action, NameScheme, Quoted, RelabelError, Rule, Step, Template};
use crate::regex::Regex;
use crate::settings::{self, Blank, Settings};

const DEFAULT_SEPARATOR: &str = ";";
const DEFAULT_REGEX: &str = "(.*)";
const DEFAULT_REPLACEMENT: &str = "$1";

/// One rule of a `relabel_configs` list, or of its many siblings.
///
/// A key that is missing has its default; one that is there without a value is empty, which for
/// `action` is an error and for `regex` matches only the empty text.
#[derive(Clone, Debug)]
pub struct Config {
    /// Labels whose values, joined, are the source.
    pub source_labels: Option<Vec<String>>,
    /// What joins them; `;` if it is not given.
    pub separator: String,
    /// What the source, or a label's name, must match in full; `(.*)` if it is not given.
    pub regex: Option<Regex>,
    /// The modulus of `hashmod`.
    pub modulus: u64,
    /// The label to set or compare with.
    pub target_label: String,
    /// What to set it to; `$1` if it is not given.
    pub replacement: String,
    /// What to do; `replace` if it is not given. `None` if it was given empty.
    pub action: Option<Action>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            source_labels: None,
            separator: DEFAULT_SEPARATOR.to_owned(),
            regex: None,
            modulus: 0,
            target_label: String::new(),
            replacement: DEFAULT_REPLACEMENT.to_owned(),
            action: Some(Action::Replace),
        }
    }
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        fn rest(c: &Config) -> impl PartialEq + '_ {
            let strings = (
                &c.source_labels,
                &c.separator,
                &c.target_label,
                &c.replacement,
            );
            (
                strings,
                c.regex.as_ref().map(Regex::pattern),
                c.modulus,
                c.action,
            )
        }
        rest(self) == rest(other)
    }
}

impl Config {
    /// Judges the rule and makes it ready to run.
    pub fn compile(&self, scheme: NameScheme) -> Result<Rule, RelabelError> {
        let action = self.action.ok_or(RelabelError::EmptyAction)?;
        self.check(action, scheme)?;
        let target = || self.target_label.as_str().into();
        let step = match action {
            Action::Replace => Step::Replace {
                target: Template::new(&self.target_label),
                replacement: Template::new(&self.replacement),
            },
            Action::Keep => Step::Keep,
            Action::Drop => Step::Drop,
            Action::KeepEqual => Step::KeepEqual(target()),
            Action::DropEqual => Step::DropEqual(target()),
            Action::HashMod => Step::HashMod {
                target: target(),
                modulus: self.modulus,
            },
            Action::LabelMap => Step::LabelMap(Template::new(&self.replacement)),
            Action::LabelDrop => Step::LabelDrop,
            Action::LabelKeep => Step::LabelKeep,
            Action::Lowercase => Step::Lowercase(target()),
            Action::Uppercase => Step::Uppercase(target()),
        };
        let regex = match &self.regex {
            Some(regex) => regex.clone(),
            None => default_regex(),
        };
        Ok(Rule {
            sources: self
                .source_labels
                .iter()
                .flatten()
                .map(|s| s.as_str().into())
                .collect(),
            separator: self.separator.as_str().into(),
            regex,
            step,
            scheme,
        })
    }

    /// Prometheus' own order of judging decides which error comes first.
    fn check(&self, action: Action, scheme: NameScheme) -> Result<(), RelabelError> {
        use Action::*;
        let target = self.target_label.as_str();
        let replacement = self.replacement.as_str();
        let invalid_target = || RelabelError::InvalidTarget {
            action,
            target: target.to_owned(),
        };

        if action == HashMod && self.modulus == 0 {
            return Err(RelabelError::ZeroModulus);
        }
        let sets_or_compares = matches!(
            action,
            Replace | KeepEqual | DropEqual | HashMod | Lowercase | Uppercase
        );
        if sets_or_compares && target.is_empty() {
            return Err(RelabelError::MissingTarget(action));
        }
        let target_is_valid = match action {
            Replace => is_template_of_name(target, scheme),
            _ => scheme.is_label_name(target),
        };
        let case_or_equal = matches!(action, Lowercase | Uppercase | KeepEqual | DropEqual);
        if (action == Replace || case_or_equal) && !target_is_valid {
            return Err(invalid_target());
        }
        if case_or_equal && replacement != DEFAULT_REPLACEMENT {
            return Err(RelabelError::UnwantedReplacement(action));
        }
        if action == LabelMap && !is_template_of_name(replacement, scheme) {
            let replacement = replacement.to_owned();
            return Err(RelabelError::InvalidReplacement {
                action,
                replacement,
            });
        }
        if action == HashMod && !target_is_valid {
            return Err(invalid_target());
        }
        let plain = self.modulus == 0
            && self.separator == DEFAULT_SEPARATOR
            && replacement == DEFAULT_REPLACEMENT;
        if matches!(action, KeepEqual | DropEqual) && !(plain && self.regex.is_none()) {
            return Err(RelabelError::OnlySourceAndTarget(action));
        }
        let alone = plain && self.source_labels.is_none() && target.is_empty();
        if matches!(action, LabelDrop | LabelKeep) && !alone {
            return Err(RelabelError::OnlyRegex(action));
        }
        Ok(())
    }
}

fn default_regex() -> Regex {
    static DEFAULT: std::sync::OnceLock<Regex> = std::sync::OnceLock::new();
    DEFAULT
        // The pattern is fixed and valid.
        .get_or_init(|| Regex::anchored(DEFAULT_REGEX).expect("a valid pattern"))
        .clone()
}

/// Whether `text` can become a name once the groups in it are filled: under the old scheme
/// letters, digits and underscores (the first no digit) with `$1` or `${1}` between them.
fn is_template_of_name(text: &str, scheme: NameScheme) -> bool {
    if scheme == NameScheme::Utf8 {
        return !text.is_empty();
    }
    let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let mut rest = text;
    let mut first = true;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c == '$' {
            let (inside, braced) = match rest.strip_prefix('{') {
                Some(inside) => (inside, true),
                None => (rest, false),
            };
            let end = inside.find(|c: char| !word(c)).unwrap_or(inside.len());
            if end == 0 {
                return false;
            }
            rest = &inside[end..];
            if braced {
                match rest.strip_prefix('}') {
                    Some(after) => rest = after,
                    None => return false,
                }
            }
        } else if !word(c) || (first && c.is_ascii_digit()) {
            return false;
        }
        first = false;
    }
    !first
}

impl Settings for Config {
    const TYPE: &'static str = "relabel.plain";

    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "source_labels" => {
                self.source_labels = map.next_value()?;
                if self.source_labels.iter().flatten().any(String::is_empty) {
                    return Err(de::Error::custom("\"\" is not a valid label name"));
                }
            }
            "separator" => self.separator = map.next_value::<Option<_>>()?.unwrap_or_default(),
            "regex" => {
                let pattern = map.next_value::<Option<String>>()?.unwrap_or_default();
                self.regex = Some(Regex::wrapped(&pattern).map_err(de::Error::custom)?);
            }
            "modulus" => self.modulus = map.next_value::<Option<_>>()?.unwrap_or_default(),
            "target_label" => {
                self.target_label = map.next_value::<Option<_>>()?.unwrap_or_default();
            }
            "replacement" => {
                self.replacement = map.next_value::<Option<_>>()?.unwrap_or_default();
            }
            "action" => {
                self.action = match map.next_value::<Option<String>>()? {
                    None => None,
                    Some(name) => Some(Action::from_name(&name).ok_or_else(|| {
                        let name = Quoted(&name);
                        de::Error::custom(format_args!("unknown relabel action {name}"))
                    })?),
                };
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn check(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        if let Some(labels) = self.source_labels.as_ref().filter(|l| !l.is_empty()) {
            map.serialize_entry("source_labels", labels)?;
        }
        let mut text = |key, value: &str| match value.is_empty() {
            true => Ok(()),
            false => map.serialize_entry(key, value),
        };
        text("separator", &self.separator)?;
        text(
            "regex",
            self.regex.as_ref().map_or(DEFAULT_REGEX, Regex::pattern),
        )?;
        if self.modulus != 0 {
            map.serialize_entry("modulus", &self.modulus)?;
        }
        let mut text = |key, value: &str| match value.is_empty() {
            true => Ok(()),
            false => map.serialize_entry(key, value),
        };
        text("target_label", &self.target_label)?;
        text("replacement", &self.replacement)?;
        text("action", self.action.map_or("", Action::as_str))
    }
}

impl Blank for Config {}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        settings::deserialize(deserializer)
    }
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        settings::serialize(self, serializer)
    }
}

/// `utf8` or `legacy`.
impl<'de> Deserialize<'de> for NameScheme {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "utf8" => Ok(NameScheme::Utf8),
            "legacy" => Ok(NameScheme::Legacy),
            other => Err(de::Error::custom(format_args!(
                "unrecognized ValidationScheme: {other:?}"
            ))),
        }
    }
}

impl Serialize for NameScheme {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            NameScheme::Utf8 => "utf8",
            NameScheme::Legacy => "legacy",
        })
    }
}

impl Blank for NameScheme {}
