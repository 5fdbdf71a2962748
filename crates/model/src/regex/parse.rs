//! Go's syntax of regular expressions, read into a `regex_syntax::Hir`.
//!
//! The grammar, its quirks, its limits and the words of its errors follow `regexp/syntax` of Go
//! 1.26 with the flags that `regexp.Compile` sets. The parser keeps a stack of finished pieces
//! and open parentheses and does not recurse.

use regex_syntax::hir::{self, Class, ClassUnicode, ClassUnicodeRange, Hir, Look};

use super::RegexError;
use super::class;

pub(super) const TOO_LARGE: &str = "expression too large";
const TOO_DEEP: &str = "expression nests too deeply";
const INVALID_RANGE: &str = "invalid character class range";
const INVALID_ESCAPE: &str = "invalid escape sequence";
const INVALID_NAME: &str = "invalid named capture";
const INVALID_PERL: &str = "invalid or unsupported Perl syntax";
const NESTED_REPEAT: &str = "invalid nested repetition operator";
const REPEAT_SIZE: &str = "invalid repeat count";
const MISSING_BRACKET: &str = "missing closing ]";
const MISSING_PAREN: &str = "missing closing )";
const MISSING_ARGUMENT: &str = "missing argument to repetition operator";
const TRAILING_BACKSLASH: &str = "trailing backslash at end of expression";
const UNEXPECTED_PAREN: &str = "unexpected )";

/// Go's limits: copies that repetitions may ask for, depth of the tree, compiled instructions.
const MAX_REPEAT: u32 = 1000;
const MAX_HEIGHT: u32 = 1000;
const MAX_SIZE: u64 = 3_355_443;
/// Our own: pieces and ranges of characters that one pattern may consist of while it is read.
const MAX_PIECES: usize = 1 << 19;
const MAX_RANGES: usize = 1 << 20;

/// A pattern that was read.
pub(super) struct Parsed {
    pub(super) hir: Hir,
    /// Names of the groups, the whole match first.
    pub(super) names: Vec<Option<Box<str>>>,
    /// Depth of the tree.
    pub(super) height: u32,
}

#[derive(Clone, Copy)]
struct Flags {
    /// `i`
    fold: bool,
    /// `m`
    lines: bool,
    /// `s`
    dot_all: bool,
    /// `U`
    lazy: bool,
}

/// One finished piece, with what Go's limits are computed from.
struct Piece {
    hir: Hir,
    /// The most copies of anything in it.
    copies: u32,
    height: u32,
    size: u64,
    is_concat: bool,
    is_alternation: bool,
}

enum Item {
    /// Literal characters; repetition applies to the last one.
    Text(String),
    Piece(Piece),
    Open {
        group: Option<u32>,
        flags: Flags,
    },
    Bar,
}

/// Reads `pattern`; with `dot_all` as if it stood inside `(?s:...)`.
pub(super) fn parse(pattern: &str, dot_all: bool) -> Result<Parsed, RegexError> {
    let flags = Flags {
        fold: false,
        lines: false,
        dot_all,
        lazy: false,
    };
    let mut parser = Parser {
        pattern,
        flags,
        stack: Vec::new(),
        names: vec![None],
        pieces: 0,
        ranges: 0,
    };
    parser.run()?;
    let piece = parser.close_group()?;
    if !parser.stack.is_empty() {
        return Err(RegexError::new(MISSING_PAREN, pattern));
    }
    Ok(Parsed {
        hir: piece.hir,
        names: parser.names,
        height: piece.height,
    })
}

struct Parser<'a> {
    pattern: &'a str,
    flags: Flags,
    stack: Vec<Item>,
    names: Vec<Option<Box<str>>>,
    pieces: usize,
    ranges: usize,
}

/// What lies before `rest` in `text`, of which it is the end.
fn taken<'a>(text: &'a str, rest: &str) -> &'a str {
    text.get(..text.len() - rest.len()).unwrap_or(text)
}

/// The first character and what follows it.
fn next_char(text: &str) -> Option<(char, &str)> {
    let mut chars = text.chars();
    Some((chars.next()?, chars.as_str()))
}

impl Parser<'_> {
    fn run(&mut self) -> Result<(), RegexError> {
        let mut rest = self.pattern;
        // From where the last repetition operator stands, if nothing came between.
        let mut last_repeat = "";
        while let Some((c, after)) = next_char(rest) {
            let mut repeat = "";
            match c {
                '(' if after.starts_with('?') => {
                    rest = self.perl_group(rest)?;
                    last_repeat = repeat;
                    continue;
                }
                '(' => self.open_capture(None),
                '|' => {
                    let run = self.close_run()?;
                    self.stack.push(Item::Piece(run));
                    self.stack.push(Item::Bar);
                }
                ')' => self.close_paren()?,
                '^' if self.flags.lines => self.push(Hir::look(Look::StartLF))?,
                '^' => self.push(Hir::look(Look::Start))?,
                '$' if self.flags.lines => self.push(Hir::look(Look::EndLF))?,
                '$' => self.push(Hir::look(Look::End))?,
                '.' if self.flags.dot_all => self.push(Hir::dot(hir::Dot::AnyChar))?,
                '.' => self.push(Hir::dot(hir::Dot::AnyCharExceptLF))?,
                '[' => {
                    rest = self.class(rest)?;
                    last_repeat = repeat;
                    continue;
                }
                '*' | '+' | '?' => {
                    let (min, max) = match c {
                        '*' => (0, None),
                        '+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    repeat = rest;
                    rest = self.repeat(min, max, false, rest, after, last_repeat)?;
                    last_repeat = repeat;
                    continue;
                }
                '{' => match repeat_counts(rest) {
                    // Not a count: a plain brace.
                    None => self.literal('{')?,
                    Some((min, max, after)) => {
                        let (min, max) = valid_counts(min, max)
                            .ok_or_else(|| RegexError::new(REPEAT_SIZE, taken(rest, after)))?;
                        repeat = rest;
                        rest = self.repeat(min, max, true, rest, after, last_repeat)?;
                        last_repeat = repeat;
                        continue;
                    }
                },
                '\\' => {
                    rest = self.backslash(rest)?;
                    last_repeat = repeat;
                    continue;
                }
                c => self.literal(c)?,
            }
            last_repeat = repeat;
            rest = after;
        }
        Ok(())
    }

    // === pieces ===

    fn too_large(&self) -> RegexError {
        RegexError::new(TOO_LARGE, self.pattern)
    }

    fn count(&mut self, pieces: usize, ranges: usize) -> Result<(), RegexError> {
        self.pieces += pieces;
        self.ranges += ranges;
        if self.pieces > MAX_PIECES || self.ranges > MAX_RANGES {
            return Err(self.too_large());
        }
        Ok(())
    }

    fn check(&self, piece: Piece) -> Result<Piece, RegexError> {
        if piece.size > MAX_SIZE {
            return Err(self.too_large());
        }
        if piece.height > MAX_HEIGHT {
            return Err(RegexError::new(TOO_DEEP, self.pattern));
        }
        Ok(piece)
    }

    fn push(&mut self, hir: Hir) -> Result<(), RegexError> {
        self.count(1, 0)?;
        self.stack.push(Item::Piece(Piece::leaf(hir, 1)));
        Ok(())
    }

    fn push_class(&mut self, class: ClassUnicode) -> Result<(), RegexError> {
        self.count(1, class.ranges().len())?;
        let hir = Hir::class(Class::Unicode(class));
        self.stack.push(Item::Piece(Piece::leaf(hir, 1)));
        Ok(())
    }

    fn literal(&mut self, c: char) -> Result<(), RegexError> {
        if self.flags.fold {
            let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
            class::fold_class(&mut class);
            let one = class.ranges().first().is_some_and(|r| r.start() == r.end());
            if class.ranges().len() > 1 || !one {
                return self.push_class(class);
            }
        }
        if let Some(Item::Text(text)) = self.stack.last_mut() {
            text.push(c);
            return Ok(());
        }
        self.count(1, 0)?;
        self.stack.push(Item::Text(c.into()));
        Ok(())
    }

    /// A literal by code point; surrogates can be written but never matched.
    fn literal_code(&mut self, code: u32) -> Result<(), RegexError> {
        match char::from_u32(code) {
            Some(c) => self.literal(c),
            None => self.push_class(ClassUnicode::empty()),
        }
    }

    /// Puts a repetition around the last piece. `before` starts at the operator, `after` behind
    /// it; `counted` says that it was written with numbers. Returns what is left to read.
    fn repeat<'t>(
        &mut self,
        min: u32,
        max: Option<u32>,
        counted: bool,
        before: &'t str,
        after: &'t str,
        last_repeat: &str,
    ) -> Result<&'t str, RegexError> {
        let (after, lazy) = match after.strip_prefix('?') {
            Some(after) => (after, !self.flags.lazy),
            None => (after, self.flags.lazy),
        };
        if !last_repeat.is_empty() {
            return Err(RegexError::new(NESTED_REPEAT, taken(last_repeat, after)));
        }
        let missing = || RegexError::new(MISSING_ARGUMENT, taken(before, after));
        let sub = match self.stack.pop() {
            Some(Item::Piece(piece)) => piece,
            Some(Item::Text(mut text)) => {
                let last = text.pop().ok_or_else(missing)?;
                if !text.is_empty() {
                    self.stack.push(Item::Text(text));
                }
                Piece::text(last.encode_utf8(&mut [0; 4]))
            }
            Some(Item::Open { .. } | Item::Bar) | None => return Err(missing()),
        };
        self.count(1, 0)?;
        let (copies, size) = match (counted, min, max) {
            (_, _, Some(0)) => (1, 1),
            (_, 0, None) => (sub.copies, 2 + sub.size),
            (false, _, _) => (sub.copies, 1 + sub.size),
            (true, n, None) => (sub.copies.saturating_mul(n), 1 + u64::from(n) * sub.size),
            (true, n, Some(m)) => (
                sub.copies.saturating_mul(m),
                u64::from(m) * sub.size + u64::from(m.saturating_sub(n)),
            ),
        };
        let height = sub.height + 1;
        let hir = Hir::repetition(hir::Repetition {
            min,
            max,
            greedy: !lazy,
            sub: Box::new(sub.hir),
        });
        let piece = Piece {
            hir,
            copies,
            height,
            size,
            is_concat: false,
            is_alternation: false,
        };
        let piece = self.check(piece)?;
        let many = min >= 2 || max.is_some_and(|m| m >= 2);
        if counted && many && copies > MAX_REPEAT {
            return Err(RegexError::new(REPEAT_SIZE, taken(before, after)));
        }
        self.stack.push(Item::Piece(piece));
        Ok(after)
    }

    /// Joins what lies on the stack above the last bar or parenthesis.
    fn close_run(&mut self) -> Result<Piece, RegexError> {
        let marker = |item: &Item| matches!(item, Item::Open { .. } | Item::Bar);
        let start = self.stack.iter().rposition(marker).map_or(0, |i| i + 1);
        let mut run: Vec<Piece> = self
            .stack
            .drain(start..)
            .filter_map(|item| match item {
                Item::Text(text) => Some(Piece::text(&text)),
                Item::Piece(piece) => Some(piece),
                Item::Open { .. } | Item::Bar => None, // none lie above the start
            })
            .collect();
        if run.len() == 1
            && let Some(only) = run.pop()
        {
            return Ok(only);
        }
        let mut whole = Piece::leaf(Hir::empty(), 0);
        for piece in &run {
            whole.include(piece, piece.is_concat);
        }
        whole.is_concat = !run.is_empty();
        whole.size = whole.size.max(1);
        whole.hir = Hir::concat(run.into_iter().map(|p| p.hir).collect());
        self.check(whole)
    }

    /// Joins the alternatives above the last parenthesis, which stays.
    fn close_group(&mut self) -> Result<Piece, RegexError> {
        let last = self.close_run()?;
        let open = |item: &Item| matches!(item, Item::Open { .. });
        let start = self.stack.iter().rposition(open).map_or(0, |i| i + 1);
        let mut alternatives: Vec<Piece> = self
            .stack
            .drain(start..)
            .filter_map(|item| match item {
                Item::Piece(piece) => Some(piece),
                _ => None, // bars; runs of text have been closed
            })
            .collect();
        if alternatives.is_empty() {
            return Ok(last);
        }
        alternatives.push(last);
        let mut whole = Piece::leaf(Hir::empty(), alternatives.len() as u64 - 1);
        for piece in &alternatives {
            whole.include(piece, piece.is_alternation);
        }
        whole.is_alternation = true;
        whole.hir = Hir::alternation(alternatives.into_iter().map(|p| p.hir).collect());
        self.check(whole)
    }

    // === groups ===

    fn open_capture(&mut self, name: Option<&str>) {
        let group = u32::try_from(self.names.len()).ok();
        self.names.push(name.map(Box::from));
        self.stack.push(Item::Open {
            group,
            flags: self.flags,
        });
    }

    fn close_paren(&mut self) -> Result<(), RegexError> {
        let piece = self.close_group()?;
        let Some(Item::Open { group, flags }) = self.stack.pop() else {
            return Err(RegexError::new(UNEXPECTED_PAREN, self.pattern));
        };
        self.flags = flags;
        let piece = match group {
            None => piece,
            Some(index) => {
                self.count(1, 0)?;
                // Names stay with us: Go lets two groups share one.
                let sub = Box::new(piece.hir);
                self.check(Piece {
                    hir: Hir::capture(hir::Capture {
                        index,
                        name: None,
                        sub,
                    }),
                    copies: piece.copies,
                    height: piece.height + 1,
                    size: piece.size + 2,
                    is_concat: false,
                    is_alternation: false,
                })?
            }
        };
        self.stack.push(Item::Piece(piece));
        Ok(())
    }

    /// Reads what starts with `(?`: a named group, or flags for a group or for what follows.
    fn perl_group<'t>(&mut self, text: &'t str) -> Result<&'t str, RegexError> {
        let named = text
            .strip_prefix("(?P<")
            .or_else(|| text.strip_prefix("(?<"))
            .filter(|inside| !inside.is_empty());
        if let Some(inside) = named {
            let Some((name, rest)) = inside.split_once('>') else {
                return Err(RegexError::new(INVALID_NAME, text));
            };
            let valid = |b: u8| b == b'_' || b.is_ascii_alphanumeric();
            if name.is_empty() || !name.bytes().all(valid) {
                return Err(RegexError::new(INVALID_NAME, taken(text, rest)));
            }
            self.open_capture(Some(name));
            return Ok(rest);
        }

        let mut flags = self.flags;
        let (mut value, mut saw_flag) = (true, false);
        let mut rest = &text[2..]; // the caller saw "(?"
        while let Some((c, after)) = next_char(rest) {
            rest = after;
            let flag = match c {
                'i' => &mut flags.fold,
                'm' => &mut flags.lines,
                's' => &mut flags.dot_all,
                'U' => &mut flags.lazy,
                '-' if value => {
                    (value, saw_flag) = (false, false);
                    continue;
                }
                ':' | ')' if value || saw_flag => {
                    if c == ':' {
                        self.stack.push(Item::Open {
                            group: None,
                            flags: self.flags,
                        });
                    }
                    self.flags = flags;
                    return Ok(rest);
                }
                _ => break,
            };
            *flag = value;
            saw_flag = true;
        }
        Err(RegexError::new(INVALID_PERL, taken(text, rest)))
    }

    // === escapes and classes ===

    fn backslash<'t>(&mut self, text: &'t str) -> Result<&'t str, RegexError> {
        let after = text.strip_prefix('\\').unwrap_or(text);
        if let Some((c, rest)) = next_char(after) {
            match c {
                'A' => self.push(Hir::look(Look::Start))?,
                'z' => self.push(Hir::look(Look::End))?,
                'b' => self.push(Hir::look(Look::WordAscii))?,
                'B' => self.push(Hir::look(Look::WordAsciiNegate))?,
                'C' => return Err(RegexError::new(INVALID_ESCAPE, taken(text, rest))),
                'Q' => {
                    let (quoted, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
                    for c in quoted.chars() {
                        self.literal(c)?;
                    }
                    return Ok(rest);
                }
                'p' | 'P' => {
                    let (class, rest) = self.unicode_class(text)?;
                    self.push_class(class)?;
                    return Ok(rest);
                }
                c => match class::perl(c, self.flags.fold) {
                    Some(class) => self.push_class(class)?,
                    None => {
                        let (code, rest) = escape(text)?;
                        self.literal_code(code)?;
                        return Ok(rest);
                    }
                },
            }
            return Ok(rest);
        }
        Err(RegexError::new(TRAILING_BACKSLASH, ""))
    }

    /// Reads `\pN`, `\p{Name}`, `\p{^Name}` or one of them with a capital P.
    fn unicode_class<'t>(&self, text: &'t str) -> Result<(ClassUnicode, &'t str), RegexError> {
        let mut negated = text.starts_with("\\P");
        let after = &text[2..]; // the caller saw "\p" or "\P"
        let (name, rest) = match after.strip_prefix('{') {
            Some(inside) => inside
                .split_once('}')
                .ok_or_else(|| RegexError::new(INVALID_RANGE, text))?,
            None => after.split_at(next_char(after).map_or(0, |(c, _)| c.len_utf8())),
        };
        let name = match name.strip_prefix('^') {
            Some(name) => {
                negated = !negated;
                name
            }
            None => name,
        };
        let mut class = class::unicode(name, self.flags.fold)
            .ok_or_else(|| RegexError::new(INVALID_RANGE, taken(text, rest)))?;
        if negated {
            class::negate(&mut class);
        }
        Ok((class, rest))
    }

    /// Reads `[...]`.
    fn class<'t>(&mut self, text: &'t str) -> Result<&'t str, RegexError> {
        let mut rest = &text[1..]; // the caller saw "["
        let negated = rest.starts_with('^');
        if negated {
            rest = &rest[1..];
        }
        let mut named = ClassUnicode::empty();
        let mut written: Vec<ClassUnicodeRange> = Vec::new();
        let mut first = true;
        while first || !rest.starts_with(']') {
            first = false;
            let (known, after) = self.known_class(rest)?;
            if let Some(known) = known {
                self.count(0, known.ranges().len())?;
                named.union(&known);
                rest = after;
                continue;
            }
            let start = rest;
            let (low, after) = class_char(rest, text)?;
            rest = after;
            let mut high = low;
            // A hyphen before the closing bracket is itself.
            if let Some(end) = rest.strip_prefix('-')
                && !end.is_empty()
                && !end.starts_with(']')
            {
                (high, rest) = class_char(end, text)?;
                if high < low {
                    return Err(RegexError::new(INVALID_RANGE, taken(start, rest)));
                }
            }
            self.count(0, 1)?;
            class::add_range(&mut written, low, high);
        }
        // Named classes were folded where they were read.
        let mut class = ClassUnicode::new(written);
        if self.flags.fold {
            class::fold_class(&mut class);
        }
        class.union(&named);
        if negated {
            class::negate(&mut class);
        }
        self.push_class(class)?;
        Ok(&rest[1..]) // the loop ended at "]"
    }

    /// A named class at this place inside brackets, if there is one.
    fn known_class<'t>(
        &self,
        text: &'t str,
    ) -> Result<(Option<ClassUnicode>, &'t str), RegexError> {
        if let Some(inside) = text.strip_prefix("[:")
            && let Some((name, rest)) = inside.split_once(":]")
        {
            let class = class::posix(name, self.flags.fold)
                .ok_or_else(|| RegexError::new(INVALID_RANGE, taken(text, rest)))?;
            return Ok((Some(class), rest));
        }
        if text.starts_with("\\p") || text.starts_with("\\P") {
            let (class, rest) = self.unicode_class(text)?;
            return Ok((Some(class), rest));
        }
        if let Some((c, rest)) = text.strip_prefix('\\').and_then(next_char)
            && let Some(class) = class::perl(c, self.flags.fold)
        {
            return Ok((Some(class), rest));
        }
        Ok((None, text))
    }
}

impl Piece {
    fn leaf(hir: Hir, size: u64) -> Self {
        Self {
            hir,
            copies: 1,
            height: 1,
            size,
            is_concat: false,
            is_alternation: false,
        }
    }

    fn text(text: &str) -> Self {
        Self::leaf(
            Hir::literal(text.as_bytes()),
            text.chars().count().max(1) as u64,
        )
    }

    /// Takes in what a child adds to the limits; one of the same operator dissolves in it.
    fn include(&mut self, child: &Piece, dissolves: bool) {
        self.copies = self.copies.max(child.copies);
        self.size += child.size;
        self.height = self.height.max(child.height + u32::from(!dissolves));
    }
}

/// Reads `{n}`, `{n,}` or `{n,m}`; nothing if it is not of that form. A number too large for
/// Go to read is `None` in `Some`.
#[expect(clippy::type_complexity, reason = "read once, just above its only use")]
fn repeat_counts(text: &str) -> Option<(Option<u32>, Option<Option<u32>>, &str)> {
    let (min, rest) = decimal(text.strip_prefix('{')?)?;
    let (max, rest) = match rest.strip_prefix(',') {
        None => (Some(min), rest),
        Some(rest) if rest.starts_with('}') => (None, rest),
        Some(rest) => {
            let (max, rest) = decimal(rest)?;
            (Some(max), rest)
        }
    };
    Some((min, max, rest.strip_prefix('}')?))
}

fn valid_counts(min: Option<u32>, max: Option<Option<u32>>) -> Option<(u32, Option<u32>)> {
    let min = min.filter(|&n| n <= MAX_REPEAT)?;
    match max {
        None => Some((min, None)),
        Some(max) => {
            let max = max.filter(|&n| n <= MAX_REPEAT && n >= min)?;
            Some((min, Some(max)))
        }
    }
}

/// Reads digits without a leading zero; the number is `None` where it is far too large.
fn decimal(text: &str) -> Option<(Option<u32>, &str)> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    Some((digits.parse().ok(), rest))
}

/// One character inside brackets, as it is or escaped. `whole` is the class from its bracket on.
fn class_char<'t>(text: &'t str, whole: &str) -> Result<(u32, &'t str), RegexError> {
    if text.starts_with('\\') {
        return escape(text);
    }
    let (c, rest) = next_char(text).ok_or_else(|| RegexError::new(MISSING_BRACKET, whole))?;
    Ok((c as u32, rest))
}

/// Reads a backslash and what it escapes: a code point, which may be a surrogate.
fn escape(text: &str) -> Result<(u32, &str), RegexError> {
    let after = text.strip_prefix('\\').unwrap_or(text);
    let Some((c, rest)) = next_char(after) else {
        return Err(RegexError::new(TRAILING_BACKSLASH, ""));
    };
    let invalid = |rest: &str| RegexError::new(INVALID_ESCAPE, taken(text, rest));
    let octal = |b: &u8| (b'0'..=b'7').contains(b);
    let code = match c {
        // A digit alone would be a reference back to a group, which RE2 has not.
        '0'..='7' if c == '0' || rest.as_bytes().first().is_some_and(octal) => {
            let more = rest.bytes().take(2).take_while(octal).count();
            let digits = &after[..1 + more];
            return Ok((u32::from_str_radix(digits, 8).unwrap_or(0), &rest[more..]));
        }
        'x' => return hexadecimal(rest).map_err(invalid),
        'a' => 7,
        'f' => 12,
        'n' => 10,
        'r' => 13,
        't' => 9,
        'v' => 11,
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => c as u32,
        _ => return Err(invalid(rest)),
    };
    Ok((code, rest))
}

/// Reads what follows `\x`: two digits, or any number of them in braces. The error is what is
/// left where reading gave up.
fn hexadecimal(text: &str) -> Result<(u32, &str), &str> {
    let digit = |c: char| c.to_digit(16);
    let (first, mut rest) = next_char(text).ok_or(text)?;
    if first != '{' {
        let (second, rest) = next_char(rest).ok_or(rest)?;
        return match (digit(first), digit(second)) {
            (Some(high), Some(low)) => Ok((high * 16 + low, rest)),
            _ => Err(rest),
        };
    }
    let mut code = None;
    while let Some((c, after)) = next_char(rest) {
        rest = after;
        if c == '}' {
            return code.map(|code| (code, rest)).ok_or(rest);
        }
        let next = digit(c).map(|d| code.unwrap_or(0) * 16 + d);
        code = Some(next.filter(|&n| n <= 0x10_ffff).ok_or(rest)?);
    }
    Err(rest)
}
