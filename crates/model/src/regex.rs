//! Regular expressions with Go's RE2 syntax and meaning.
//!
//! Prometheus' regular expressions are Go's. Rust's `regex` differs from them silently (`\d`,
//! `\w`, `\s` and `\b` are Unicode there and ASCII here; `\<` is a word edge there and a plain
//! `<` here; `[a&&b]`, `[[a]]`, `{,5}`, ...), so patterns are read by our own parser of Go's
//! syntax (`regexp/syntax` of Go 1.26, Unicode 15.0) and only executed by `regex-automata`.
//!
//! A fully anchored pattern is looked at before it is compiled: a finite set of strings, and
//! literals with `.*` or `.+` between them, are matched by comparing and searching bytes.

mod case;
mod class;
mod expand;
mod parse;
mod shape;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use regex_automata::meta;
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::util::primitives::NonMaxUsize;
use regex_syntax::hir::{Hir, HirKind, Look};

use shape::Shape;

pub(crate) use case::{to_lower, to_upper};

/// Memory that the compiled form of one pattern may take, bytes. Go allows 128 MiB.
const SIZE_LIMIT: usize = 16 << 20;
/// What a thread may cache while it searches with one pattern, bytes.
const CACHE_LIMIT: usize = 1 << 20;
/// Patterns nested deeper than this are compiled on a thread with a larger stack.
const SHALLOW: u32 = 100;
/// That stack, bytes: enough for the deepest pattern that the parser lets through.
const DEEP_STACK: usize = 64 << 20;
/// With fewer parentheses than this no pattern comes near the greatest depth.
const DEEP: usize = 900;

/// A pattern that Go would not accept, or one that is too large.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {message}")]
pub struct RegexError {
    /// What is wrong, in Go's words.
    pub message: String,
}

impl RegexError {
    fn new(what: &str, expression: &str) -> Self {
        Self {
            message: format!("{what}: `{expression}`"),
        }
    }
}

/// A compiled pattern. Clones share it.
#[derive(Clone)]
pub struct Regex(Arc<Inner>);

struct Inner {
    pattern: Box<str>,
    shape: Shape,
    /// Names of the groups; group 0 is the whole match.
    names: Box<[Option<Box<str>>]>,
    /// Absent where the shape answers everything: whether the text matches, and that all groups
    /// that there are hold the whole text.
    engine: Option<meta::Regex>,
}

impl Regex {
    /// Compiles `^(?s:pattern)$`, as label matchers use it: the pattern must be valid by itself.
    pub fn anchored(pattern: &str) -> Result<Self, RegexError> {
        if let Some(shape) = Shape::of_plain_text(pattern) {
            return Ok(Self::from_parts(pattern, shape, Box::new([None]), None));
        }
        let parsed = parse::parse(pattern, true)?;
        let whole_groups = whole_groups(&parsed.hir);
        let shape = Shape::of(&parsed.hir);
        let engine = if shape.is_complete() && whole_groups + 1 == parsed.names.len() {
            None
        } else {
            let hir = Hir::concat(vec![
                Hir::look(Look::Start),
                parsed.hir,
                Hir::look(Look::End),
            ]);
            Some(compile(pattern, hir, parsed.height)?)
        };
        Ok(Self::from_parts(
            pattern,
            shape,
            parsed.names.into(),
            engine,
        ))
    }

    /// Compiles the text `^(?s:pattern)$` as it stands, as relabelling and `label_replace` do.
    ///
    /// This differs from [`Regex::anchored`] only for patterns with unbalanced parentheses, such
    /// as `a)|(b`, and in that error messages quote the whole text.
    pub fn wrapped(pattern: &str) -> Result<Self, RegexError> {
        // An open quotation swallows the parenthesis, and the wrapping counts for the depth.
        let plain = !pattern.contains("\\Q") && pattern.matches('(').count() < DEEP;
        if plain && let Ok(regex) = Self::anchored(pattern) {
            return Ok(regex);
        }
        let whole = Self::new(&format!("^(?s:{pattern})$"))?;
        let Inner {
            shape,
            names,
            engine,
            ..
        } = match Arc::try_unwrap(whole.0) {
            Ok(inner) => inner,
            Err(shared) => return Ok(Self(shared)),
        };
        Ok(Self::from_parts(pattern, shape, names, engine))
    }

    /// Compiles `pattern` to be searched for anywhere in a text, as Go's `regexp.Compile` does.
    pub fn new(pattern: &str) -> Result<Self, RegexError> {
        let parsed = parse::parse(pattern, false)?;
        let engine = compile(pattern, parsed.hir, parsed.height)?;
        Ok(Self::from_parts(
            pattern,
            Shape::unknown(),
            parsed.names.into(),
            Some(engine),
        ))
    }

    fn from_parts(
        pattern: &str,
        shape: Shape,
        names: Box<[Option<Box<str>>]>,
        engine: Option<meta::Regex>,
    ) -> Self {
        Self(Arc::new(Inner {
            pattern: pattern.into(),
            shape,
            names,
            engine,
        }))
    }

    /// Whether `text` matches: the whole of it if the pattern is anchored, else any part.
    pub fn is_match(&self, text: &str) -> bool {
        match self.0.shape.is_match(text) {
            Some(answer) => answer,
            None => self.0.engine.as_ref().is_some_and(|e| e.is_match(text)),
        }
    }

    /// The pattern as it was written.
    pub fn pattern(&self) -> &str {
        &self.0.pattern
    }

    /// All strings that an anchored pattern matches, sorted and unique, if they are few enough
    /// to name: alternations of literals of any length, and small products such as `a[0-9](x|y)`
    /// up to 256 strings.
    pub fn literals(&self) -> Option<&[String]> {
        self.0.shape.literals()
    }

    /// What every match of an anchored pattern begins with; may be empty.
    pub fn prefix(&self) -> &str {
        self.0.shape.prefix()
    }

    /// Names of the groups by number; number 0 is the whole match and has none.
    pub fn group_names(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        self.0.names.iter().map(Option::as_deref)
    }

    /// The first match in `text` with its groups.
    pub fn captures<'a>(&'a self, text: &'a str) -> Option<Captures<'a>> {
        let groups = self.0.names.len();
        if self.0.shape.is_match(text) == Some(false) {
            return None;
        }
        let Some(engine) = &self.0.engine else {
            let whole = Some((0, text.len()));
            return Some(Captures {
                regex: self,
                text,
                spans: vec![whole; groups],
            });
        };
        let mut slots: Vec<Option<NonMaxUsize>> = vec![None; groups * 2];
        engine.search_slots(&text.into(), &mut slots)?;
        let spans = slots
            .chunks_exact(2)
            .map(|pair| Some((pair[0]?.get(), pair[1]?.get())))
            .collect();
        Some(Captures {
            regex: self,
            text,
            spans,
        })
    }

    /// `text` with every match replaced by `template`, filled as [`Regex::expand`] says. As in Go's
    /// `Regexp.ReplaceAllString`, an empty match right behind another one is none.
    pub fn replace_all(&self, text: &str, template: &str) -> String {
        let Some(engine) = &self.0.engine else {
            // The shape answers for the whole text.
            return self.expand(text, template).unwrap_or_else(|| text.into());
        };
        let mut out = String::with_capacity(text.len());
        let mut end = 0;
        for found in engine.captures_iter(text) {
            let spans: Vec<_> = (0..self.0.names.len())
                .map(|i| found.get_group(i).map(|s| (s.start, s.end)))
                .collect();
            let Some((from, to)) = spans.first().copied().flatten() else {
                continue;
            };
            out.push_str(text.get(end..from).unwrap_or(""));
            end = to;
            let captures = Captures {
                regex: self,
                text,
                spans,
            };
            captures.expand(template, &mut out);
        }
        out.push_str(text.get(end..).unwrap_or(""));
        out
    }

    /// Fills `template` from the first match in `text`; nothing if there is no match.
    ///
    /// As in Go's `Regexp.Expand`: `$1`, `$name`, `${1}` and `${name}` are groups, `$$` is a
    /// dollar, a name takes all letters, digits and underscores (`$1x` is the group named `1x`),
    /// and a group that does not exist or did not take part is empty.
    pub fn expand(&self, text: &str, template: &str) -> Option<String> {
        let mut out = String::new();
        self.captures(text)?.expand(template, &mut out);
        Some(out)
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regex({:?})", self.0.pattern)
    }
}

/// One match and its groups.
#[derive(Clone, Debug)]
pub struct Captures<'a> {
    regex: &'a Regex,
    text: &'a str,
    spans: Vec<Option<(usize, usize)>>,
}

impl<'a> Captures<'a> {
    /// The text of a group by number, if it took part in the match. Number 0 is the whole match.
    pub fn get(&self, group: usize) -> Option<&'a str> {
        let (start, end) = (*self.spans.get(group)?)?;
        self.text.get(start..end)
    }

    /// The text of the first group with this name that took part in the match.
    pub fn name(&self, name: &str) -> Option<&'a str> {
        let names = self.regex.0.names.iter().enumerate();
        names
            .filter(|(_, n)| n.as_deref() == Some(name))
            .find_map(|(i, _)| self.get(i))
    }

    /// Appends `template` to `out`, filled as [`Regex::expand`] says.
    pub fn expand(&self, template: &str, out: &mut String) {
        expand::expand(self, template, out);
    }
}

/// How many groups enclose the whole pattern: those always hold the whole text.
fn whole_groups(mut hir: &Hir) -> usize {
    let mut groups = 0;
    while let HirKind::Capture(capture) = hir.kind() {
        groups += 1;
        hir = &capture.sub;
    }
    groups
}

fn compile(pattern: &str, hir: Hir, height: u32) -> Result<meta::Regex, RegexError> {
    let build = || {
        let explicit = hir.properties().explicit_captures_len() > 0;
        let captures = if explicit {
            WhichCaptures::All
        } else {
            WhichCaptures::Implicit
        };
        let config = meta::Config::new()
            .utf8_empty(true)
            .which_captures(captures)
            .nfa_size_limit(Some(SIZE_LIMIT))
            .hybrid_cache_capacity(CACHE_LIMIT);
        meta::Builder::new()
            .configure(config)
            .build_from_hir(&hir)
            // The parser accepted it, so nothing but its size can be wrong.
            .map_err(|_| RegexError::new(parse::TOO_LARGE, pattern))
    };
    if height <= SHALLOW {
        return build();
    }
    // The compiler recurses; a caller's stack may be small.
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(DEEP_STACK)
            .spawn_scoped(scope, build)
            .ok()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_else(|| Err(RegexError::new(parse::TOO_LARGE, pattern)))
    })
}
