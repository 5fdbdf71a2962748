//! Relabelling: rules that keep, drop and rewrite label sets, as Prometheus defines them.
//!
//! [`Config`] is a rule as a configuration file spells it; [`Config::compile`] judges it and makes
//! a [`Rule`]; [`process`] runs rules over a label set and copies nothing as long as none of them
//! changes anything.
//!
//! ```
//! use model::Labels;
//! use model::relabel::{self, Config, NameScheme};
//!
//! let config: Vec<Config> = serde_json::from_str(
//!     r#"[{"source_labels": ["__address__"], "regex": "(.*):.*", "target_label": "host"}]"#,
//! )?;
//! let rules = relabel::compile(&config, NameScheme::Utf8)?;
//! let target = Labels::from_pairs([("__address__", "db-1:9100")]);
//! assert_eq!(relabel::process(&target, &rules).unwrap().get("host"), Some("db-1"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod apply;
mod config;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::labels::{is_legacy_label_name, is_legacy_metric_name, write_quoted};
use crate::regex::Regex;

pub use apply::process;
pub use config::Config;

/// Which names are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum NameScheme {
    /// Any text that is not empty.
    #[default]
    Utf8,
    /// `[a-zA-Z_][a-zA-Z0-9_]*`, with colons too for metrics.
    Legacy,
}

impl NameScheme {
    /// Whether a label may be called so.
    pub fn is_label_name(self, name: &str) -> bool {
        match self {
            NameScheme::Utf8 => !name.is_empty(),
            NameScheme::Legacy => is_legacy_label_name(name),
        }
    }

    /// Whether a metric may be called so.
    pub fn is_metric_name(self, name: &str) -> bool {
        match self {
            NameScheme::Utf8 => !name.is_empty(),
            NameScheme::Legacy => is_legacy_metric_name(name),
        }
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Action {
    /// Sets a label to the replacement if the source matches.
    #[default]
    Replace,
    /// Drops what does not match.
    Keep,
    /// Drops what matches.
    Drop,
    /// Drops what differs from the target label.
    KeepEqual,
    /// Drops what equals the target label.
    DropEqual,
    /// Sets a label to a hash of the source, modulo a number.
    HashMod,
    /// Copies labels whose names match to other names.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
    /// Sets a label to the source in small letters.
    Lowercase,
    /// Sets a label to the source in capitals.
    Uppercase,
}

impl Action {
    const ALL: [(Action, &'static str); 11] = [
        (Action::Replace, "replace"),
        (Action::Keep, "keep"),
        (Action::Drop, "drop"),
        (Action::KeepEqual, "keepequal"),
        (Action::DropEqual, "dropequal"),
        (Action::HashMod, "hashmod"),
        (Action::LabelMap, "labelmap"),
        (Action::LabelDrop, "labeldrop"),
        (Action::LabelKeep, "labelkeep"),
        (Action::Lowercase, "lowercase"),
        (Action::Uppercase, "uppercase"),
    ];

    /// The action's name in a configuration file.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(a, _)| *a == self)
            .map_or("", |(_, name)| name)
    }

    /// The action of that name, in letters of any case.
    pub fn from_name(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, n)| n.eq_ignore_ascii_case(name));
        found.map(|(action, _)| *action)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A rule that makes no sense, in Prometheus' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RelabelError {
    #[error("relabel action cannot be empty")]
    EmptyAction,
    #[error("relabel configuration for hashmod requires non-zero modulus")]
    ZeroModulus,
    #[error("relabel configuration for {0} action requires 'target_label' value")]
    MissingTarget(Action),
    #[error("{} is invalid 'target_label' for {action} action", Quoted(target))]
    InvalidTarget { action: Action, target: String },
    #[error("{} is invalid 'replacement' for {action} action", Quoted(replacement))]
    InvalidReplacement { action: Action, replacement: String },
    #[error("'replacement' can not be set for {0} action")]
    UnwantedReplacement(Action),
    #[error("{0} action requires only 'source_labels' and `target_label`, and no other fields")]
    OnlySourceAndTarget(Action),
    #[error("{0} action requires only 'regex', and no other fields")]
    OnlyRegex(Action),
}

/// Prints in quotes, as Go does.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_quoted(f, self.0)
    }
}

/// A rule that was judged and is ready to run.
#[derive(Clone, Debug)]
pub struct Rule {
    sources: Box<[Box<str>]>,
    separator: Box<str>,
    regex: Regex,
    step: Step,
    scheme: NameScheme,
}

/// What a rule does, with just what it needs for that.
#[derive(Clone, Debug)]
enum Step {
    Replace {
        target: Template,
        replacement: Template,
    },
    Keep,
    Drop,
    KeepEqual(Box<str>),
    DropEqual(Box<str>),
    HashMod {
        target: Box<str>,
        modulus: u64,
    },
    LabelMap(Template),
    LabelDrop,
    LabelKeep,
    Lowercase(Box<str>),
    Uppercase(Box<str>),
}

/// A text in which groups of the match may be named.
#[derive(Clone, Debug)]
enum Template {
    Fixed(Box<str>),
    Groups(Box<str>),
}

impl Template {
    fn new(text: &str) -> Self {
        match text.contains('$') {
            true => Template::Groups(text.into()),
            false => Template::Fixed(text.into()),
        }
    }
}

/// Judges all rules; the first that is wrong is the error.
pub fn compile(configs: &[Config], scheme: NameScheme) -> Result<Vec<Rule>, RelabelError> {
    configs.iter().map(|c| c.compile(scheme)).collect()
}
