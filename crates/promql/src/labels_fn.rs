//! `label_replace` and `label_join`.

use model::Str;
use model::regex::Regex;

/// `label_replace(v, dst, replacement, src, regex)`
#[derive(Debug)]
pub(crate) struct LabelReplace {
    pub(crate) dst: Str,
    pub(crate) src: Str,
    pub(crate) replacement: String,
    pub(crate) regex: Regex,
}

impl LabelReplace {
    /// The value of `dst` for this value of `src`; none if the pattern does not match.
    pub(crate) fn value(&self, src: &str) -> Option<String> {
        self.regex.expand(src, &self.replacement)
    }
}

/// `label_join(v, dst, separator, src...)`
#[derive(Debug)]
pub(crate) struct LabelJoin {
    pub(crate) dst: Str,
    pub(crate) separator: String,
    pub(crate) src: Vec<Str>,
}

impl LabelJoin {
    pub(crate) fn value<'a>(&self, values: impl Iterator<Item = &'a str>) -> String {
        values.collect::<Vec<_>>().join(&self.separator)
    }
}
