//! What an anchored pattern looks like: most need no regular expression at all.
//!
//! The idea is Prometheus' `FastRegexMatcher`; the means are our own. A pattern is cut into
//! segments: finite sets of strings, gaps (`.*`, `.+`, `.{2,}` over all characters), and
//! whatever else. Without "whatever else" bytes are compared and searched; with it, what is
//! known of both ends and the middle turns texts away before the engine sees them.

use std::hash::BuildHasher;

use aho_corasick::AhoCorasick;
use hashbrown::{DefaultHashBuilder, HashTable};
use memchr::memmem;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// How many strings a product of sets may grow to, and how many bytes in all.
const MAX_PRODUCT: usize = 256;
const MAX_PRODUCT_BYTES: usize = 1 << 16;
/// Sets next to gaps are tried one by one, and branches too.
const MAX_GLOB_SET: usize = 64;
const MAX_BRANCHES: usize = 32;
/// How deep to look.
const MAX_DEPTH: usize = 50;

pub(super) struct Shape {
    kind: Kind,
    prefix: String,
}

/// What every matching text must have.
#[derive(Default)]
struct Needs {
    suffix: String,
    inner: Option<memmem::Finder<'static>>,
}

enum Kind {
    Literals(Literals),
    /// Matches what one of these does.
    Globs(Vec<Glob>),
    /// The engine must say, unless one of these is missing.
    Other(Box<Needs>),
}

impl Shape {
    /// Nothing is known.
    pub(super) fn unknown() -> Self {
        Self {
            kind: Kind::Other(Box::default()),
            prefix: String::new(),
        }
    }

    /// A pattern of plain text and bars needs no parsing, however long it is.
    pub(super) fn of_plain_text(pattern: &str) -> Option<Self> {
        if pattern.bytes().any(|b| b"\\.+*?()[]{}^$".contains(&b)) {
            return None;
        }
        Some(Self::literals_of(
            pattern.split('|').map(str::to_owned).collect(),
        ))
    }

    fn literals_of(list: Vec<String>) -> Self {
        let literals = Literals::new(list);
        let prefix = common_prefix(&literals.list);
        Self {
            kind: Kind::Literals(literals),
            prefix,
        }
    }

    /// The shape of `^(?:hir)$`.
    pub(super) fn of(hir: &Hir) -> Self {
        if let Some(set) = finite(hir, 0) {
            return Self::literals_of(set);
        }
        let branches: &[Hir] = match strip_captures(hir).kind() {
            HirKind::Alternation(branches) => branches,
            _ => std::slice::from_ref(hir),
        };
        let mut literals: Vec<String> = Vec::new();
        let mut globs = Vec::new();
        for branch in branches {
            let segments = segments_of(branch);
            match segments.as_slice() {
                [Segment::Set(set)] => literals.extend_from_slice(set),
                [] => literals.push(String::new()),
                _ => match Glob::new(&segments) {
                    Some(glob) if globs.len() < MAX_BRANCHES => globs.push(glob),
                    _ if branches.len() == 1 => return Self::other(&segments),
                    _ => return Self::unknown(),
                },
            }
        }
        if globs.is_empty() {
            return Self::literals_of(literals);
        }
        for literal in literals {
            if globs.len() == MAX_BRANCHES {
                return Self::unknown();
            }
            globs.push(Glob::exactly(literal));
        }
        let firsts: Vec<String> = globs.iter().flat_map(|g| g.first.iter().cloned()).collect();
        Self {
            kind: Kind::Globs(globs),
            prefix: common_prefix(&firsts),
        }
    }

    fn other(segments: &[Segment]) -> Self {
        let prefix = match segments.first() {
            Some(Segment::Set(set)) => common_prefix(set),
            _ => String::new(),
        };
        let suffix = match segments.last() {
            Some(Segment::Set(set)) if segments.len() > 1 => common_suffix(set),
            _ => String::new(),
        };
        let middle = segments
            .get(1..segments.len().saturating_sub(1))
            .unwrap_or(&[]);
        let inner = middle
            .iter()
            .filter_map(|s| match s {
                Segment::Set(set) if set.len() == 1 => set.first(),
                _ => None,
            })
            .max_by_key(|s| s.len())
            .filter(|s| s.len() > 1)
            .map(|s| memmem::Finder::new(s).into_owned());
        Self {
            kind: Kind::Other(Box::new(Needs { suffix, inner })),
            prefix,
        }
    }

    /// Whether the engine is not needed to say if a text matches.
    pub(super) fn is_complete(&self) -> bool {
        !matches!(self.kind, Kind::Other(_))
    }

    /// Whether `text` matches, if that is known.
    pub(super) fn is_match(&self, text: &str) -> Option<bool> {
        match &self.kind {
            Kind::Literals(literals) => Some(literals.contains(text)),
            Kind::Globs(globs) => Some(globs.iter().any(|g| g.is_match(text))),
            Kind::Other(needs) => {
                let may = begins(text, &self.prefix)
                    && ends(text, &needs.suffix)
                    && needs
                        .inner
                        .as_ref()
                        .is_none_or(|f| f.find(text.as_bytes()).is_some());
                if may { None } else { Some(false) }
            }
        }
    }

    pub(super) fn literals(&self) -> Option<&[String]> {
        match &self.kind {
            Kind::Literals(literals) => Some(&literals.list),
            _ => None,
        }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }
}

// === sets of strings ===

struct Literals {
    /// Sorted and unique.
    list: Vec<String>,
    /// Positions in the list by hash, for more than a few.
    index: Option<(HashTable<u32>, DefaultHashBuilder)>,
}

impl Literals {
    const FEW: usize = 8;

    fn new(mut list: Vec<String>) -> Self {
        list.sort_unstable();
        list.dedup();
        list.shrink_to_fit();
        let index = (list.len() > Self::FEW).then(|| {
            let hasher = DefaultHashBuilder::default();
            let mut index = HashTable::with_capacity(list.len());
            for (i, s) in (0u32..).zip(&list) {
                let hash = |&i: &u32| hasher.hash_one(list[i as usize].as_str());
                index.insert_unique(hasher.hash_one(s.as_str()), i, hash);
            }
            (index, hasher)
        });
        Self { list, index }
    }

    fn contains(&self, text: &str) -> bool {
        match &self.index {
            None => self.list.iter().any(|s| s == text),
            Some((index, hasher)) => {
                let same = |&i: &u32| self.list.get(i as usize).is_some_and(|s| s == text);
                index.find(hasher.hash_one(text), same).is_some()
            }
        }
    }
}

fn common_prefix(set: &[String]) -> String {
    let Some((first, rest)) = set.split_first() else {
        return String::new();
    };
    let shortest = rest.iter().fold(first.as_str(), |prefix, s| {
        let same = prefix.chars().zip(s.chars()).take_while(|(a, b)| a == b);
        &prefix[..same.map(|(c, _)| c.len_utf8()).sum()]
    });
    shortest.to_owned()
}

fn common_suffix(set: &[String]) -> String {
    let Some((first, rest)) = set.split_first() else {
        return String::new();
    };
    let shortest = rest.iter().fold(first.as_str(), |suffix, s| {
        let same = suffix
            .chars()
            .rev()
            .zip(s.chars().rev())
            .take_while(|(a, b)| a == b);
        &suffix[suffix.len() - same.map(|(c, _)| c.len_utf8()).sum::<usize>()..]
    });
    shortest.to_owned()
}

/// All strings that `hir` matches, if they are few; not sorted, perhaps repeated.
fn finite(hir: &Hir, depth: usize) -> Option<Vec<String>> {
    if depth > MAX_DEPTH {
        return None;
    }
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(literal) => Some(vec![std::str::from_utf8(&literal.0).ok()?.to_owned()]),
        HirKind::Class(Class::Unicode(class)) => {
            let mut chars = Vec::new();
            for range in class.ranges() {
                if range.len() + chars.len() > MAX_PRODUCT {
                    return None;
                }
                chars.extend((range.start()..=range.end()).map(String::from));
            }
            Some(chars)
        }
        HirKind::Class(Class::Bytes(_)) | HirKind::Look(_) => None,
        HirKind::Capture(capture) => finite(&capture.sub, depth + 1),
        HirKind::Concat(parts) => parts.iter().try_fold(vec![String::new()], |set, part| {
            product(&set, &finite(part, depth + 1)?)
        }),
        HirKind::Alternation(branches) => {
            let mut all = Vec::with_capacity(branches.len());
            for branch in branches {
                all.extend(finite(branch, depth + 1)?);
            }
            Some(all)
        }
        HirKind::Repetition(repetition) => {
            let max = repetition.max.filter(|&m| m as usize <= MAX_PRODUCT)?;
            let once = finite(&repetition.sub, depth + 1)?;
            let mut power = vec![String::new()];
            let mut all = Vec::new();
            for n in 0..=max {
                if n >= repetition.min {
                    all.extend_from_slice(&power);
                }
                if all.len() > MAX_PRODUCT {
                    return None;
                }
                if n < max {
                    power = product(&power, &once)?;
                }
            }
            Some(all)
        }
    }
}

/// Every string of `a` followed by every string of `b`, unless that grows too large.
fn product(a: &[String], b: &[String]) -> Option<Vec<String>> {
    match (a, b) {
        ([one], _) if one.is_empty() => return Some(b.to_vec()),
        (_, [one]) if one.is_empty() => return Some(a.to_vec()),
        _ => {}
    }
    let bytes = |set: &[String]| set.iter().map(String::len).sum::<usize>();
    let total = bytes(a)
        .saturating_mul(b.len())
        .saturating_add(bytes(b).saturating_mul(a.len()));
    if a.len().saturating_mul(b.len()) > MAX_PRODUCT || total > MAX_PRODUCT_BYTES {
        return None;
    }
    Some(
        a.iter()
            .flat_map(|x| b.iter().map(move |y| format!("{x}{y}")))
            .collect(),
    )
}

// === segments ===

#[derive(Debug)]
enum Segment {
    /// One of these strings.
    Set(Vec<String>),
    /// At least so many characters, whichever.
    Gap(u32),
    /// The end of the text.
    End,
    Other,
}

fn strip_captures(mut hir: &Hir) -> &Hir {
    while let HirKind::Capture(capture) = hir.kind() {
        hir = &capture.sub;
    }
    hir
}

/// Segments in order, neighbours joined, anchors at the very ends dropped.
fn segments_of(hir: &Hir) -> Vec<Segment> {
    let mut segments = Vec::new();
    cut(hir, 0, &mut segments);
    while matches!(segments.last(), Some(Segment::End)) {
        segments.pop();
    }
    for segment in &mut segments {
        if matches!(segment, Segment::End) {
            *segment = Segment::Other;
        }
    }
    segments
}

fn cut(hir: &Hir, depth: usize, out: &mut Vec<Segment>) {
    if depth > MAX_DEPTH {
        out.push(Segment::Other);
        return;
    }
    match hir.kind() {
        HirKind::Concat(parts) => parts.iter().for_each(|part| cut(part, depth + 1, out)),
        HirKind::Capture(capture) => cut(&capture.sub, depth + 1, out),
        HirKind::Look(Look::Start) if out.is_empty() => {}
        HirKind::Look(Look::End) => out.push(Segment::End),
        HirKind::Repetition(r) if r.max.is_none() && is_any_char(&r.sub) => match out.last_mut() {
            Some(Segment::Gap(min)) => *min = min.saturating_add(r.min),
            _ => out.push(Segment::Gap(r.min)),
        },
        _ => match (finite(hir, depth), out.last_mut()) {
            (Some(more), Some(Segment::Set(set))) => match product(set, &more) {
                Some(joined) => *set = joined,
                None => {
                    out.push(Segment::Other);
                    out.push(Segment::Set(more));
                }
            },
            (Some(set), _) => out.push(Segment::Set(set)),
            (None, _) => out.push(Segment::Other),
        },
    }
}

fn is_any_char(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            matches!(class.ranges(), [r] if r.start() == '\0' && r.end() == char::MAX)
        }
        _ => false,
    }
}

// === globs ===

/// A set, then gaps with sets between them, then a set: `(a|b).*c.+d`. Either end may be `""`.
struct Glob {
    /// What the text begins with, shortest first.
    first: Vec<String>,
    /// Gaps, each with what follows it, the last one excepted.
    middle: Vec<(u32, Finder)>,
    /// The last gap with what the text ends with; nothing if there is no gap at all.
    last: Option<(u32, Vec<String>)>,
}

enum Finder {
    One(Box<memmem::Finder<'static>>),
    Many(AhoCorasick),
}

impl Finder {
    fn new(set: &[String]) -> Option<Self> {
        match set {
            [one] => Some(Finder::One(Box::new(memmem::Finder::new(one).into_owned()))),
            // The standard kind of search stops at the first end, which is what we want.
            many => AhoCorasick::new(many).ok().map(Finder::Many),
        }
    }

    /// Where the occurrence that ends first in `text` ends.
    fn end_in(&self, text: &str) -> Option<usize> {
        match self {
            Finder::One(f) => f.find(text.as_bytes()).map(|at| at + f.needle().len()),
            Finder::Many(f) => f.find(text).map(|m| m.end()),
        }
    }
}

impl Glob {
    fn exactly(text: String) -> Self {
        Self {
            first: vec![text],
            middle: Vec::new(),
            last: None,
        }
    }

    fn new(segments: &[Segment]) -> Option<Self> {
        let mut glob = Self::exactly(String::new());
        for (i, segment) in segments.iter().enumerate() {
            match segment {
                Segment::Set(set) if set.is_empty() || set.len() > MAX_GLOB_SET => return None,
                Segment::Set(set) if i == 0 => glob.first = set.clone(),
                Segment::Set(set) => glob.last.as_mut()?.1 = set.clone(),
                Segment::Gap(min) => {
                    if let Some((gap, set)) = glob.last.replace((*min, vec![String::new()])) {
                        glob.middle.push((gap, Finder::new(&set)?));
                    }
                }
                Segment::End | Segment::Other => return None,
            }
        }
        glob.first.sort_by_key(String::len);
        Some(glob)
    }

    /// Taking each piece as early as it can end leaves the most room for the rest.
    fn is_match(&self, text: &str) -> bool {
        let Some((last_gap, last)) = &self.last else {
            return self.first.iter().any(|s| s == text);
        };
        let Some(first) = self.first.iter().find(|s| begins(text, s)) else {
            return false;
        };
        let mut rest = &text[first.len()..];
        for (gap, finder) in &self.middle {
            let Some(after) = skip(rest, *gap) else {
                return false;
            };
            let Some(end) = finder.end_in(after) else {
                return false;
            };
            rest = &after[end..];
        }
        skip(rest, *last_gap).is_some_and(|rest| last.iter().any(|s| ends(rest, s)))
    }
}

/// `starts_with`, without comparing nothing: where a processor masks what it loads, the address of an empty
/// text, which is none, costs a fault that is then ignored.
#[inline]
fn begins(text: &str, with: &str) -> bool {
    with.is_empty() || text.starts_with(with)
}

/// `ends_with` in the same way.
#[inline]
fn ends(text: &str, with: &str) -> bool {
    with.is_empty() || text.ends_with(with)
}

/// What is left of `text` after `n` characters, if it has so many.
fn skip(text: &str, n: u32) -> Option<&str> {
    if n == 0 {
        return Some(text);
    }
    let mut chars = text.chars();
    chars.nth(n as usize - 1)?;
    Some(chars.as_str())
}
