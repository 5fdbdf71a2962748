//! Rule files: reading, and saying where they are wrong.
//!
//! The format is Prometheus' (`model/rulefmt`), with Thanos' `partial_response_strategy` beside it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use model::Millis;
use model::relabel::NameScheme;
use model::scope::PartialResponse;
use model::settings::{Blank, Duration};
use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde::ser::{Serialize, Serializer};
use serde_saphyr::{Spanned, UserMessageFormatter};

use crate::template::Template;

model::settings! {
    /// A rule file.
    #[derive(Clone, Debug, PartialEq)]
    pub struct RuleFile ("rulefmt.RuleGroups") {
        /// The groups.
        pub groups ("groups"): Vec<RuleGroup>;
    }
}

model::settings! {
    /// Rules that are evaluated one after the other.
    #[derive(Clone, Debug, PartialEq)]
    pub struct RuleGroup ("rulefmt.RuleGroup") {
        /// Unique in its file.
        pub name ("name"): String;
        /// How often; 0: as often as the configuration says.
        pub interval ("interval"): Duration;
        /// How far behind the clock queries look; absent: as the configuration says.
        pub query_offset ("query_offset"): Option<Duration>;
        /// Most series or alerts that a rule may make; 0: any number.
        pub limit ("limit"): i64;
        /// The rules, in order.
        pub rules ("rules"): Vec<RuleDef>;
        /// Labels of all its rules.
        pub labels ("labels"): BTreeMap<String, String>;
        /// What to do when a part of the data cannot be had (Thanos').
        pub partial_response_strategy ("partial_response_strategy"): Option<Strategy>;
    }
}

model::settings! {
    /// A rule as it is written.
    #[derive(Clone, Debug, PartialEq)]
    pub struct RuleDef ("rulefmt.Rule") {
        /// The metric that it records.
        pub record ("record"): String;
        /// The alert that it raises.
        pub alert ("alert"): String;
        /// The expression.
        pub expr ("expr"): String;
        /// How long an alert is pending first.
        pub hold ("for"): Duration;
        /// How long an alert goes on after its expression has stopped to hold.
        pub keep_firing_for ("keep_firing_for"): Duration;
        /// Labels to add.
        pub labels ("labels"): BTreeMap<String, String>;
        /// Annotations of the alert.
        pub annotations ("annotations"): BTreeMap<String, String>;
    }
}

/// Thanos' word for what to do with partial data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strategy(pub PartialResponse);

impl Blank for Strategy {}

impl<'de> Deserialize<'de> for Strategy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.to_ascii_uppercase().as_str() {
            "" | "ABORT" => Ok(Self(PartialResponse::Abort)),
            "WARN" => Ok(Self(PartialResponse::Warn)),
            _ => Err(de::Error::custom(format_args!(
                "unknown partial_response_strategy {text:?}: it is abort or warn"
            ))),
        }
    }
}

impl Serialize for Strategy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self.0 {
            PartialResponse::Abort => "ABORT",
            PartialResponse::Warn => "WARN",
        })
    }
}

/// Something wrong in a rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong, with line and column where they are known.
    pub message: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.message)
    }
}

impl std::error::Error for FileError {}

/// How to read rule files.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOptions {
    /// Which names are valid.
    pub scheme: NameScheme,
    /// Which parts of PromQL are switched on.
    pub features: promql::features::Features,
    /// Do not mind keys that are not known.
    pub ignore_unknown: bool,
}

/// A file that was read, and what deserves a word about it.
#[derive(Clone, Debug)]
pub struct Read {
    /// The file.
    pub file: RuleFile,
    /// Whether more documents follow the first, which are not looked at.
    pub more_documents: bool,
}

/// Reads a rule file.
pub fn read(path: &Path, options: ReadOptions) -> Result<Read, Vec<FileError>> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        vec![FileError {
            path: path.to_owned(),
            message: format!("open: {e}"),
        }]
    })?;
    parse(path, &text, options)
}

/// Reads the text of a rule file and judges it in full. `path` is for errors.
pub fn parse(path: &Path, text: &str, options: ReadOptions) -> Result<Read, Vec<FileError>> {
    let error = |message| FileError {
        path: path.to_owned(),
        message,
    };
    let (text, more_documents) = first_document(text);
    let read = if options.ignore_unknown {
        lenient(text)
    } else {
        from_yaml(text)
    };
    let file: RuleFile = read.map_err(|message| vec![error(message)])?;
    let places: Option<FilePlaces> = from_yaml(text).unwrap_or_default();
    let messages = judge(&file, &places.unwrap_or_default(), options);
    if messages.is_empty() {
        Ok(Read {
            file,
            more_documents,
        })
    } else {
        Err(messages.into_iter().map(error).collect())
    }
}

/// The first document of a YAML text, and whether there are more.
fn first_document(text: &str) -> (&str, bool) {
    let mut seen = false;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let marker = line.trim_end() == "---" || line.starts_with("--- ");
        if marker && seen {
            return (text.get(..start).unwrap_or(text), true);
        }
        let content = line.trim();
        seen |= marker || !content.is_empty() && !content.starts_with(['#', '%']);
        start += line.len();
    }
    (text, false)
}

/// Reads a file and does not mind keys that it does not know.
fn lenient(text: &str) -> Result<RuleFile, String> {
    const FILE: &[&str] = &["groups"];
    const GROUP: &[&str] = &[
        "name",
        "interval",
        "query_offset",
        "limit",
        "rules",
        "labels",
        "partial_response_strategy",
    ];
    const RULE: &[&str] = &[
        "record",
        "alert",
        "expr",
        "for",
        "keep_firing_for",
        "labels",
        "annotations",
    ];
    let mut value: serde_json::Value = from_yaml(text)?;
    let keep = |value: &mut serde_json::Value, keys: &[&str]| {
        if let Some(map) = value.as_object_mut() {
            map.retain(|key, _| keys.contains(&key.as_str()));
        }
    };
    let list = |value: &mut serde_json::Value, key: &str| {
        let list = value.get_mut(key).and_then(|v| v.as_array_mut());
        list.map(std::mem::take).unwrap_or_default()
    };
    keep(&mut value, FILE);
    let mut groups = list(&mut value, "groups");
    for group in &mut groups {
        keep(group, GROUP);
        let mut rules = list(group, "rules");
        rules.iter_mut().for_each(|rule| keep(rule, RULE));
        if let Some(map) = group.as_object_mut() {
            map.insert("rules".to_owned(), rules.into());
        }
    }
    if let Some(map) = value.as_object_mut() {
        map.insert("groups".to_owned(), groups.into());
    }
    serde_json::from_value::<Option<RuleFile>>(value)
        .map(Option::unwrap_or_default)
        .map_err(|e| e.to_string())
}

pub(crate) fn from_yaml<T: de::DeserializeOwned + Default>(text: &str) -> Result<T, String> {
    // The reader's guard is for settings; rule files may hold ten thousands of rules.
    // Aliases repeat what they stand for, so a text may mean a few times its length.
    let mut budget = serde_saphyr::Budget::default();
    budget.max_events = text.len().saturating_mul(4).saturating_add(1 << 16);
    budget.max_nodes = budget.max_events;
    budget.max_total_scalar_bytes = budget.max_events;
    let options =
        serde_saphyr::options! { with_snippet: false, emit_comments: false, budget: Some(budget) };
    serde_saphyr::from_str_with_options::<Option<T>>(text, options)
        .map(Option::unwrap_or_default)
        .map_err(|e| {
            e.render_with_formatter(&UserMessageFormatter)
                .trim()
                .to_owned()
        })
}

/// Where things stand in a file: the same document, read for its places only.
#[derive(Default, Deserialize)]
struct FilePlaces {
    #[serde(default)]
    groups: Vec<Spanned<GroupPlaces>>,
}

#[derive(Deserialize)]
struct GroupPlaces {
    #[serde(default)]
    rules: Option<Vec<Spanned<RulePlaces>>>,
}

#[derive(Deserialize)]
struct RulePlaces {
    record: Option<Spanned<de::IgnoredAny>>,
    alert: Option<Spanned<de::IgnoredAny>>,
    expr: Option<Spanned<de::IgnoredAny>>,
}

/// Line and column, from 1; 0 where nothing stands.
#[derive(Clone, Copy, Default)]
struct Place(u64, u64);

impl Place {
    fn of<T>(value: Option<&Spanned<T>>) -> Self {
        value.map_or(Self::default(), |s| {
            Self(s.referenced.line(), s.referenced.column())
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

fn judge(file: &RuleFile, places: &FilePlaces, options: ReadOptions) -> Vec<String> {
    let mut errors = Vec::new();
    let mut names = std::collections::BTreeSet::new();
    for (i, group) in file.groups.iter().enumerate() {
        let spanned = places.groups.get(i);
        let place = Place::of(spanned);
        if group.name.is_empty() {
            errors.push(format!("{place}: Groupname must not be empty"));
        }
        if !names.insert(&group.name) {
            errors.push(format!(
                "{place}: groupname: \"{}\" is repeated in the same file",
                group.name
            ));
        }
        for name in group.labels.keys() {
            if !options.scheme.is_label_name(name) || name == model::METRIC_NAME {
                errors.push(format!("invalid label name: {name}"));
            }
        }
        let rules = spanned.and_then(|s| s.value.rules.as_ref());
        for (j, rule) in group.rules.iter().enumerate() {
            let spanned = rules.and_then(|r| r.get(j)).map(|s| &s.value);
            for (place, message) in judge_rule(rule, spanned, options) {
                let group = model::text::quote(&group.name);
                let name = model::text::quote(rule.name());
                let number = j + 1;
                errors.push(format!(
                    "{place}group {group}, rule {number}, {name}: {message}"
                ));
            }
        }
    }
    errors
}

fn judge_rule(
    rule: &RuleDef,
    places: Option<&RulePlaces>,
    options: ReadOptions,
) -> Vec<(String, String)> {
    let record = Place::of(places.and_then(|p| p.record.as_ref()));
    let alert = Place::of(places.and_then(|p| p.alert.as_ref()));
    let expr = Place::of(places.and_then(|p| p.expr.as_ref()));
    let mut errors = Vec::new();
    let mut add = |place: String, message: String| errors.push((place, message));
    let at = |place: Place| format!("{place}: ");
    let both = format!("{record}: {alert}: ");
    match (rule.record.is_empty(), rule.alert.is_empty()) {
        (false, false) => add(
            both,
            "only one of 'record' and 'alert' must be set".to_owned(),
        ),
        (true, true) => add(both, "one of 'record' or 'alert' must be set".to_owned()),
        _ => {}
    }
    if rule.expr.is_empty() {
        add(at(expr), "field 'expr' must be set in rule".to_owned());
    } else if let Err(e) = promql::parse::parse(&rule.expr, &options.features) {
        add(at(expr), format!("could not parse expression: {e}"));
    }
    if !rule.record.is_empty() {
        let unwanted = [
            ("annotations", !rule.annotations.is_empty()),
            ("for", rule.hold.0 != 0),
            ("keep_firing_for", rule.keep_firing_for.0 != 0),
        ];
        for (field, _) in unwanted.into_iter().filter(|(_, set)| *set) {
            add(
                at(record),
                format!("invalid field '{field}' in recording rule"),
            );
        }
        if !options.scheme.is_metric_name(&rule.record) {
            add(
                at(record),
                format!("invalid recording rule name: {}", rule.record),
            );
        }
        if rule.record.contains(['{', '}']) {
            add(
                at(record),
                format!(
                    "braces present in the recording rule name; should it be in expr?: {}",
                    rule.record
                ),
            );
        }
    }
    for name in rule.labels.keys() {
        if !options.scheme.is_label_name(name) || name == model::METRIC_NAME {
            add(String::new(), format!("invalid label name: {name}"));
        }
    }
    for name in rule.annotations.keys() {
        if !options.scheme.is_label_name(name) {
            add(String::new(), format!("invalid annotation name: {name}"));
        }
    }
    if !rule.alert.is_empty() {
        for (what, texts) in [("label", &rule.labels), ("annotation", &rule.annotations)] {
            for (name, text) in texts {
                if let Err(e) = Template::parse(&rule.alert, text) {
                    let name = model::text::quote(name);
                    add(String::new(), format!("{what} {name}: {e}"));
                }
            }
        }
    }
    errors
}

impl RuleDef {
    /// The metric or the alert.
    pub fn name(&self) -> &str {
        if self.alert.is_empty() {
            &self.record
        } else {
            &self.alert
        }
    }
}

impl RuleGroup {
    /// The interval, ms: its own, or else `otherwise`.
    pub fn interval_or(&self, otherwise: Millis) -> Millis {
        match self.interval.0 {
            0 => otherwise,
            own => own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        match parse(Path::new("r.yml"), text, ReadOptions::default()) {
            Ok(_) => vec![],
            Err(errors) => errors.into_iter().map(|e| e.to_string()).collect(),
        }
    }

    #[test]
    fn a_file_is_read() {
        let text = "groups:\n\
            - name: g\n  interval: 10s\n  query_offset: 1m\n  limit: 3\n  labels: {team: a}\n\
            \x20 partial_response_strategy: warn\n  rules:\n\
            \x20 - {record: 'a:b', expr: sum(up), labels: {x: ''}}\n\
            \x20 - alert: Down\n    expr: up == 0\n    for: 5m\n    keep_firing_for: 1m\n\
            \x20   annotations: {summary: '{{ $labels.job }}'}\n";
        let read = parse(Path::new("r.yml"), text, ReadOptions::default()).unwrap();
        let group = &read.file.groups[0];
        assert_eq!((group.interval_or(7), group.limit), (10_000, 3));
        assert_eq!(group.query_offset, Some(Duration(60_000)));
        assert_eq!(
            group.partial_response_strategy.map(|s| s.0),
            Some(PartialResponse::Warn)
        );
        assert_eq!(group.rules[1].name(), "Down");
        assert_eq!(group.rules[1].hold, Duration(300_000));
        assert!(!read.more_documents);
    }

    #[test]
    fn only_the_first_document_counts() {
        let text = "# rules\n---\ngroups: []\n---\nnonsense: {\n";
        let read = parse(Path::new("r.yml"), text, ReadOptions::default()).unwrap();
        assert!(read.more_documents);
        assert!(
            !parse(Path::new("r.yml"), "", ReadOptions::default())
                .unwrap()
                .more_documents
        );
    }

    #[test]
    fn errors_say_where_and_what() {
        for (text, want) in [
            (
                "groups:\n- name: g\n  rules:\n  - record: a\n    expr: sum(\n",
                "r.yml: 5:11: group \"g\", rule 1, \"a\": could not parse expression: ",
            ),
            (
                "groups:\n- name: g\n  rules: []\n- name: g\n",
                "r.yml: 4:3: groupname: \"g\" is repeated in the same file",
            ),
            (
                "groups:\n- name: g\n  rules:\n  - {record: a, alert: b, expr: up}\n",
                "only one of 'record' and 'alert' must be set",
            ),
            (
                "groups:\n- name: g\n  rules:\n  - {record: 'a{b}', expr: up}\n",
                "braces present in the recording rule name; should it be in expr?: a{b}",
            ),
            (
                "groups:\n- name: g\n  rules:\n  - {record: a, expr: up, for: 1m}\n",
                "invalid field 'for' in recording rule",
            ),
            (
                "groups:\n- name: g\n  rules:\n  - {alert: a, expr: up, labels: {x: '{{ $label.x }}'}}\n",
                "label \"x\": template: __alert_a:1: undefined variable \"$label\"",
            ),
            (
                "groups:\n- name: g\n  rulez: []\n",
                "field rulez not found in type rulefmt.RuleGroup",
            ),
            ("groups:\n- rules: []\n", "Groupname must not be empty"),
        ] {
            let all = errors(text);
            assert!(all.iter().any(|e| e.contains(want)), "{want}: {all:?}");
        }
    }
}
