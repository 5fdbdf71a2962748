//! Which parts of an endpoint a querier looks at: those whose external labels relabelling keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{
    Answer, BoxFuture, Extent, LabelSelect, Labels, MatchOp, Matcher, Rows, Scope, Select, Source,
    SourceError, Str, View,
};

/// Whether a label set is kept (`--selector.relabel-config`).
pub type Selector = Arc<dyn Fn(&Labels) -> bool + Send + Sync>;

/// The source with only those parts that `selector` keeps; none if it keeps none.
pub(super) fn select(source: Arc<dyn Source>, selector: &Selector) -> Option<Arc<dyn Source>> {
    let extent = source.extent();
    let kept: Vec<_> = extent
        .parts
        .iter()
        .filter(|(labels, _)| selector(labels))
        .cloned()
        .collect();
    if extent.parts.is_empty() {
        // It says nothing of itself.
        return selector(&Labels::default()).then_some(source);
    }
    if kept.is_empty() {
        return None;
    }
    if kept.len() == extent.parts.len() {
        return Some(source);
    }
    let matchers = matchers(kept.iter().map(|(labels, _)| labels));
    Some(Arc::new(Narrowed {
        extent: Arc::new(Extent {
            parts: kept,
            capabilities: extent.capabilities,
        }),
        inner: source,
        matchers,
    }))
}

/// A pattern that only this text matches.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() && c != '_' {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Matchers that every one of the label sets satisfies and, but for mixtures of them, no other one.
fn matchers<'a>(sets: impl Iterator<Item = &'a Labels>) -> Vec<Matcher> {
    let sets: Vec<&Labels> = sets.collect();
    let names: BTreeSet<&str> = sets.iter().flat_map(|s| s.iter().map(|(n, _)| n)).collect();
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for name in names {
        let all = sets.iter().map(|set| set.get(name).unwrap_or(""));
        values.insert(name, all.collect());
    }
    let one = |(name, values): (&str, BTreeSet<&str>)| {
        let texts: Vec<String> = values.iter().map(|v| quoted(v)).collect();
        // Quoted text is always a pattern.
        Matcher::new(MatchOp::Regex, name, texts.join("|")).ok()
    };
    values.into_iter().filter_map(one).collect()
}

struct Narrowed {
    inner: Arc<dyn Source>,
    matchers: Vec<Matcher>,
    extent: Arc<Extent>,
}

impl Source for Narrowed {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        Ok(Box::new(NarrowedView {
            inner: self.inner.open(scope)?,
            matchers: self.matchers.clone(),
        }))
    }

    fn extent(&self) -> Arc<Extent> {
        Arc::clone(&self.extent)
    }
}

struct NarrowedView {
    inner: Box<dyn View>,
    matchers: Vec<Matcher>,
}

type Names = BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>>;

impl View for NarrowedView {
    fn select(&self, mut select: Select) -> Rows {
        select.matchers.extend(self.matchers.clone());
        self.inner.select(select)
    }

    fn label_names(&self, mut select: LabelSelect) -> Names {
        select.matchers.extend(self.matchers.clone());
        self.inner.label_names(select)
    }

    fn label_values(&self, name: Str, mut select: LabelSelect) -> Names {
        select.matchers.extend(self.matchers.clone());
        self.inner.label_values(name, select)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_keep_what_was_kept() {
        let set = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
        let (a, b) = (
            set(&[("cluster", "a.b-c"), ("zone", "1")]),
            set(&[("cluster", "c_d")]),
        );
        let all = matchers([&a, &b].into_iter());
        assert_eq!(all.len(), 2);
        let fits = |labels: &Labels| {
            all.iter()
                .all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
        };
        assert!(fits(&a) && fits(&b));
        assert!(!fits(&set(&[("cluster", "axb-c"), ("zone", "1")])));
        assert!(!fits(&set(&[("cluster", "c_d"), ("zone", "2")])));
        assert!(!fits(&set(&[])));
    }
}
