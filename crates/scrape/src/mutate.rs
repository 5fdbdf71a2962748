//! From the labels that a target shows to the labels that are stored.

use std::cmp::Ordering;

use model::relabel::{self, NameScheme};
use model::{Labels, LabelsBuilder, METRIC_NAME};

use crate::config::ScrapeConfig;
use crate::error::ScrapeError;
use crate::parse::Pair;

/// Limits of labels; 0 for none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LabelLimits {
    pub(crate) count: u64,
    pub(crate) name_length: u64,
    pub(crate) value_length: u64,
}

impl LabelLimits {
    pub(crate) fn of(config: &ScrapeConfig) -> Self {
        Self {
            count: config.label_limit,
            name_length: config.label_name_length_limit,
            value_length: config.label_value_length_limit,
        }
    }

    /// Fails if `labels` are beyond a limit.
    pub(crate) fn check(&self, labels: &Labels) -> Result<(), ScrapeError> {
        let exceeded = |text: String| Err(ScrapeError::LabelLimit(text));
        let metric = || cut(labels.name()).to_owned();
        if self.count > 0 {
            let count = labels.len() as u64;
            if count > self.count {
                return exceeded(format!(
                    "label_limit exceeded (metric: {}, number of labels: {count}, limit: {})",
                    metric(),
                    self.count
                ));
            }
        }
        if self.name_length == 0 && self.value_length == 0 {
            return Ok(());
        }
        for (name, value) in labels {
            if self.name_length > 0 && name.len() as u64 > self.name_length {
                return exceeded(format!(
                    "label_name_length_limit exceeded (metric: {}, label name: {}, length: {}, limit: {})",
                    metric(),
                    cut(name),
                    name.len(),
                    self.name_length
                ));
            }
            if self.value_length > 0 && value.len() as u64 > self.value_length {
                return exceeded(format!(
                    "label_value_length_limit exceeded (metric: {}, label name: {}, value: {:?}, length: {}, limit: {})",
                    metric(),
                    cut(name),
                    cut(value),
                    value.len(),
                    self.value_length
                ));
            }
        }
        Ok(())
    }
}

/// The first 50 characters.
fn cut(text: &str) -> &str {
    text.char_indices()
        .nth(50)
        .map_or(text, |(at, _)| text.get(..at).unwrap_or(text))
}

/// How the labels of one target's samples are made.
#[derive(Debug)]
pub(crate) struct Mutator<'a> {
    /// The target's own labels, those that do not begin with `__`.
    pub(crate) target: &'a Labels,
    pub(crate) honor_labels: bool,
    pub(crate) rules: &'a [relabel::Rule],
    pub(crate) limits: LabelLimits,
    pub(crate) scheme: NameScheme,
}

impl Mutator<'_> {
    /// The labels to store for a series that shows `pairs` (sorted by name, unique, perhaps with
    /// empty values); none if relabelling drops it.
    pub(crate) fn labels(&self, pairs: &[Pair<'_>]) -> Result<Option<Labels>, ScrapeError> {
        let merged = merge(pairs, self.target, self.honor_labels);
        let Some(labels) = relabel::process(&merged, self.rules) else {
            return Ok(None);
        };
        // Rules that leave no label at all drop too.
        if labels.is_empty() {
            return Ok(None);
        }
        if labels.get(METRIC_NAME).is_none() {
            return Err(ScrapeError::NoName);
        }
        let valid = labels.iter().all(|(name, value)| {
            if name == METRIC_NAME {
                self.scheme.is_metric_name(value)
            } else {
                self.scheme.is_label_name(name)
            }
        });
        if !valid {
            return Err(ScrapeError::InvalidNames(labels.to_string()));
        }
        self.limits.check(&labels)?;
        Ok(Some(labels))
    }
}

/// Lays the target's labels over those of the series, or the other way round if those of the
/// series are honored. An empty value that is honored keeps the target's label away.
fn merge(pairs: &[Pair<'_>], target: &Labels, honor: bool) -> Labels {
    let mut merged: Vec<(&str, &str)> = Vec::with_capacity(pairs.len() + 8);
    let mut clashes = false;
    let mut own = target.iter().peekable();
    for (name, value) in pairs {
        let (name, value) = (name.as_ref(), value.as_ref());
        while let Some(pair) = own.next_if(|(n, _)| *n < name) {
            merged.push(pair);
        }
        let same = own.next_if(|(n, _)| n.cmp(&name) == Ordering::Equal);
        match same {
            Some(_) if honor => merged.push((name, value)),
            Some(pair) => {
                clashes |= !value.is_empty();
                merged.push(pair);
            }
            None => merged.push((name, value)),
        }
    }
    merged.extend(own);
    if !clashes {
        return Labels::from_sorted(merged.into_iter().filter(|(_, v)| !v.is_empty()));
    }
    let mut builder = LabelsBuilder::default();
    for (name, value) in merged {
        builder.set(name, value);
    }
    let mut exported: Vec<(&str, &str)> = pairs
        .iter()
        .map(|(n, v)| (n.as_ref(), v.as_ref()))
        .filter(|(n, v)| !v.is_empty() && target.get(n).is_some())
        .collect();
    // Shorter names first, so that `exported_x` itself can become `exported_exported_x`.
    exported.sort_by_key(|(name, _)| name.len());
    for (name, value) in exported {
        let mut name = format!("exported_{name}");
        while !builder.get(&name).is_empty() {
            name.insert_str(0, "exported_");
        }
        builder.set(name, value);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn merged(pairs: &[(&str, &str)], target: &[(&str, &str)], honor: bool) -> String {
        let pairs: Vec<Pair<'_>> = pairs
            .iter()
            .map(|(n, v)| (Cow::from(*n), Cow::from(*v)))
            .collect();
        merge(&pairs, &Labels::from_pairs(target.iter().copied()), honor).to_string()
    }

    #[test]
    fn clashing_labels_are_exported_or_honored() {
        let target = [("instance", "i"), ("job", "j")];
        assert_eq!(
            merged(&[("__name__", "m"), ("a", "1"), ("z", "2")], &target, false),
            r#"m{a="1", instance="i", job="j", z="2"}"#
        );
        assert_eq!(
            merged(&[("__name__", "m"), ("job", "x")], &target, false),
            r#"m{exported_job="x", instance="i", job="j"}"#
        );
        assert_eq!(
            merged(
                &[("__name__", "m"), ("exported_job", "y"), ("job", "x")],
                &target,
                false
            ),
            r#"m{exported_exported_job="x", exported_job="y", instance="i", job="j"}"#
        );
        assert_eq!(
            merged(
                &[("__name__", "m"), ("instance", ""), ("job", "x")],
                &target,
                true
            ),
            r#"m{job="x"}"#
        );
        assert_eq!(
            merged(
                &[("__name__", "m"), ("instance", ""), ("job", "")],
                &target,
                false
            ),
            r#"m{instance="i", job="j"}"#
        );
    }

    #[test]
    fn limits_name_what_is_beyond_them() {
        let labels = Labels::from_pairs([("__name__", "m"), ("abc", "value")]);
        let error = |limits: LabelLimits| limits.check(&labels).unwrap_err().to_string();
        let none = LabelLimits::default();
        assert!(none.check(&labels).is_ok());
        assert!(error(LabelLimits { count: 1, ..none }).contains("number of labels: 2, limit: 1"));
        assert!(
            error(LabelLimits {
                name_length: 7,
                ..none
            })
            .contains("label name: __name__")
        );
        assert!(
            error(LabelLimits {
                value_length: 4,
                ..none
            })
            .contains("value: \"value\", length: 5")
        );
    }
}
