//! Regular expressions with Go's RE2 syntax and meaning.

use std::sync::Arc;

use regex_automata::meta;

/// A pattern that Go would not accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {message}")]
pub struct RegexError {
    /// What is wrong, in Go's words.
    pub message: String,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Regex {
    pattern: Arc<str>,
    regex: meta::Regex,
}

impl Regex {
    /// Compiles `^(?s:pattern)$`, as matchers, relabelling and `label_replace` use it.
    pub fn anchored(pattern: &str) -> Result<Self, RegexError> {
        let regex = meta::Regex::new(&format!("^(?s:{pattern})$")).map_err(|e| RegexError {
            message: e.to_string(),
        })?;
        Ok(Self {
            pattern: pattern.into(),
            regex,
        })
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The pattern as it was written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }
}
