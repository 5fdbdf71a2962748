//! What is wrong with the names and labels of metrics, in promtool's words.

use model::report::MetricType;

use super::metrics::Family;

/// Units, and the base unit that should stand in the place of each.
const UNITS: [(&str, &str); 24] = [
    ("amperes", "amperes"),
    ("bytes", "bytes"),
    ("celsius", "celsius"),
    ("grams", "grams"),
    ("joules", "joules"),
    ("kelvin", "kelvin"),
    ("meters", "meters"),
    ("metres", "metres"),
    ("seconds", "seconds"),
    ("volts", "volts"),
    ("minutes", "seconds"),
    ("hours", "seconds"),
    ("days", "seconds"),
    ("weeks", "seconds"),
    ("kelvins", "kelvin"),
    ("fahrenheit", "celsius"),
    ("rankine", "celsius"),
    ("inches", "meters"),
    ("yards", "meters"),
    ("miles", "meters"),
    ("bits", "bytes"),
    ("calories", "joules"),
    ("pounds", "grams"),
    ("ounces", "grams"),
];

const PREFIXES: [&str; 18] = [
    "pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo", "kibi", "mega",
    "mibi", "giga", "gibi", "tera", "tebi", "peta", "pebi",
];

const ABBREVIATIONS: [&str; 14] = [
    "s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d",
];

/// Metric and problem, sorted.
pub(super) fn problems(families: &[Family]) -> Vec<(&str, String)> {
    let mut all: Vec<(&str, String)> = Vec::new();
    for family in families {
        let name = family.name.as_str();
        let mut say = |text: &str| all.push((name, text.to_owned()));
        if family.help.is_none() {
            say("no help text");
        }
        if let Some((unit, base)) = unit(name) {
            say(&format!("use base unit \"{base}\" instead of \"{unit}\""));
        }
        kinds(family, &mut say);
        if name.contains(':') {
            say("metric names should not contain ':'");
        }
        if is_camel_case(name) {
            say("metric names should be written in 'snake_case' not 'camelCase'");
        }
        let labels = family.members.iter().flat_map(|m| &m.labels);
        for _ in labels.filter(|(label, _)| is_camel_case(label)) {
            say("label names should be written in 'snake_case' not 'camelCase'");
        }
        let lower = name.to_ascii_lowercase();
        for _ in ABBREVIATIONS.iter().filter(|short| has_word(&lower, short)) {
            say("metric names should not contain abbreviated units");
        }
        let mut seen = std::collections::HashSet::new();
        for _ in family.members.iter().filter(|m| !seen.insert(&m.labels)) {
            say("metric not unique");
        }
    }
    all.sort();
    all
}

/// What does not fit the type of a metric.
fn kinds(family: &Family, say: &mut impl FnMut(&str)) {
    let (name, kind) = (family.name.as_str(), family.kind);
    if kind == MetricType::Unknown {
        return;
    }
    let is_counter = kind == MetricType::Counter;
    match name.ends_with("_total") {
        false if is_counter => say("counter metrics should have \"_total\" suffix"),
        true if !is_counter => say("non-counter metrics should not have \"_total\" suffix"),
        _ => {}
    }
    let (histogram, summary) = (kind == MetricType::Histogram, kind == MetricType::Summary);
    if !histogram && name.ends_with("_bucket") {
        say("non-histogram metrics should not have \"_bucket\" suffix");
    }
    for suffix in ["_count", "_sum"] {
        if !histogram && !summary && name.ends_with(suffix) {
            say(&format!(
                "non-histogram and non-summary metrics should not have \"{suffix}\" suffix"
            ));
        }
    }
    for (label, _) in family.members.iter().flat_map(|m| &m.labels) {
        if !histogram && label == "le" {
            say("non-histogram metrics should not have \"le\" label");
        }
        if !summary && label == "quantile" {
            say("non-summary metrics should not have \"quantile\" label");
        }
    }
    if has_word(&name.to_ascii_lowercase(), kind.as_str()) {
        let kind = kind.as_str();
        say(&format!("metric name should not include type '{kind}'"));
    }
}

/// Whether a word stands behind an underscore, and before one or at the end.
fn has_word(name: &str, word: &str) -> bool {
    name.split('_').skip(1).any(|part| part == word)
}

/// The first unit of a name if it is no base unit, and the one to use.
fn unit(name: &str) -> Option<(&str, &'static str)> {
    let base = |word: &str| {
        UNITS
            .iter()
            .find(|(unit, _)| *unit == word)
            .map(|(_, b)| *b)
    };
    let found = name.split('_').find_map(|word| {
        let prefixed = || {
            let bare = PREFIXES.iter().filter_map(|p| word.strip_prefix(p));
            bare.filter_map(base).next()
        };
        Some((word, base(word).or_else(prefixed)?))
    });
    found.filter(|(word, base)| word != base)
}

fn is_camel_case(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes
        .windows(2)
        .any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(
            unit("a_milliseconds_total"),
            Some(("milliseconds", "seconds"))
        );
        assert_eq!(unit("a_hours"), Some(("hours", "seconds")));
        assert_eq!(unit("a_seconds_hours"), None);
        assert_eq!(unit("a_metres"), None);
        assert!(has_word("a_ms", "ms") && !has_word("ms_a", "ms"));
    }
}
