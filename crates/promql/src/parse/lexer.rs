//! Text to tokens: a state machine, because what a character means depends on the bracket it
//! stands in.
//!
//! The states and their error texts are those of Prometheus' lexer (`promql/parser/lex.go`), which
//! error messages make part of the language.

mod series;

use super::token::{Item, Tok, duration_keyword, keyword};
use crate::ast::BinaryOp;
use model::text::{quote, quote_char, unicode};

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Outside of everything.
    Statements,
    /// Between `{` and `}`.
    Braces,
    /// After `[`, until the first number; then [`State::Statements`] goes on.
    Duration,
    /// After the metric of a series description.
    Values,
    /// Between `{{` and `}}`.
    Histogram,
    /// Between `[` and `]` of a histogram.
    Buckets,
    /// Nothing comes any more.
    Done,
}

/// Where a series description is with its histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InHistogram {
    No,
    Open,
    /// Between `}}` and `x`, `+` or `-`.
    Operator(Tok),
}

/// The lexer.
pub(crate) struct Lexer<'a> {
    input: &'a str,
    /// The next character's place.
    pos: usize,
    /// The present token's place.
    start: usize,
    /// Bytes of the last character, for going back one.
    width: usize,
    state: State,
    scanned: Option<Item<'a>>,
    /// Text of the last error token.
    message: String,
    paren_depth: i64,
    brace_open: bool,
    bracket_open: bool,
    /// Whether a colon came since the last `[`.
    got_colon: bool,
    /// Whether any duration came in brackets yet.
    got_duration: bool,
    series: bool,
    histogram: InHistogram,
}

fn is_space(c: Option<char>) -> bool {
    matches!(c, Some(' ' | '\t' | '\n' | '\r'))
}

fn is_alpha(c: Option<char>) -> bool {
    c.is_some_and(|c| c == '_' || c.is_ascii_alphabetic())
}

fn is_digit(c: Option<char>) -> bool {
    c.is_some_and(|c| c.is_ascii_digit())
}

fn is_alphanumeric(c: Option<char>) -> bool {
    is_alpha(c) || is_digit(c)
}

/// Whether a duration keyword (`step`, `range`, `max_of`, `min_of`) may start with it.
fn starts_duration_keyword(c: Option<char>) -> bool {
    c.is_some_and(|c| matches!(c.to_ascii_lowercase(), 's' | 'r' | 'm'))
}

impl<'a> Lexer<'a> {
    /// A lexer of expressions, or of series descriptions.
    pub(crate) fn new(input: &'a str, series: bool) -> Self {
        Self {
            input,
            pos: 0,
            start: 0,
            width: 0,
            state: State::Statements,
            scanned: None,
            message: String::new(),
            paren_depth: 0,
            brace_open: false,
            bracket_open: false,
            got_colon: false,
            got_duration: false,
            series,
            histogram: InHistogram::No,
        }
    }

    /// The whole text.
    pub(crate) fn input(&self) -> &'a str {
        self.input
    }

    /// Text of the last [`Tok::Error`].
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The next token; after the end or an error always the same again.
    pub(crate) fn next_item(&mut self) -> Item<'a> {
        self.scanned = None;
        loop {
            if let Some(item) = self.scanned.take() {
                return item;
            }
            self.state = match self.state {
                State::Statements => self.statements(),
                State::Braces => self.braces(),
                State::Duration => self.duration(),
                State::Values => self.values(),
                State::Histogram => self.histogram(),
                State::Buckets => self.buckets(),
                State::Done => {
                    let tok = if self.message.is_empty() {
                        Tok::Eof
                    } else {
                        Tok::Error
                    };
                    self.start = self.start.min(self.input.len());
                    self.scanned = Some(Item {
                        tok,
                        start: self.start as u32,
                        text: "",
                    });
                    State::Done
                }
            };
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.input[self.pos..].chars().next();
        self.width = c.map_or(0, char::len_utf8);
        self.pos += self.width;
        c
    }

    /// Goes back one character; only once after each `next`.
    fn back(&mut self) {
        self.pos -= self.width;
        self.width = 0;
    }

    fn peek(&self) -> Option<char> {
        self.input[self.pos..].chars().next()
    }

    fn emit(&mut self, tok: Tok) {
        self.scanned = Some(Item {
            tok,
            start: self.start as u32,
            text: &self.input[self.start..self.pos],
        });
        self.start = self.pos;
    }

    fn error(&mut self, message: String) -> State {
        self.message = message;
        self.scanned = Some(Item {
            tok: Tok::Error,
            start: self.start as u32,
            text: "",
        });
        State::Done
    }

    fn ignore(&mut self) {
        self.start = self.pos;
    }

    fn word(&self) -> &'a str {
        &self.input[self.start..self.pos]
    }

    /// Takes the next character if `wanted` says so.
    fn accept(&mut self, wanted: impl Fn(char) -> bool) -> bool {
        match self.peek() {
            Some(c) if wanted(c) => {
                self.next();
                true
            }
            _ => false,
        }
    }

    fn skip_spaces(&mut self) {
        while is_space(self.peek()) {
            self.next();
        }
        self.ignore();
    }

    fn statements(&mut self) -> State {
        if self.histogram != InHistogram::No {
            return State::Histogram;
        }
        if self.brace_open {
            return State::Braces;
        }
        if self.peek() == Some('#') {
            return self.comment();
        }
        let c = self.next();
        match c {
            None => {
                if self.paren_depth != 0 {
                    return self.error("unclosed left parenthesis".to_owned());
                }
                if self.bracket_open {
                    return self.error("unclosed left bracket".to_owned());
                }
                self.emit(Tok::Eof);
                return State::Done;
            }
            Some(',') => self.emit(Tok::Comma),
            Some(' ' | '\t' | '\n' | '\r') => self.skip_spaces(),
            Some('*') => self.emit(Tok::Op(BinaryOp::Mul)),
            Some('/') => self.emit(Tok::Op(BinaryOp::Div)),
            Some('%') => self.emit(Tok::Op(BinaryOp::Mod)),
            Some('+') => self.emit(Tok::Op(BinaryOp::Add)),
            Some('-') => self.emit(Tok::Op(BinaryOp::Sub)),
            Some('^') => self.emit(Tok::Op(BinaryOp::Pow)),
            Some('=') => match self.peek() {
                Some('=') => {
                    self.next();
                    self.emit(Tok::Op(BinaryOp::Equal));
                }
                Some('~') => {
                    return self.error("unexpected character after '=': '~'".to_owned());
                }
                _ => self.emit(Tok::Assign),
            },
            Some('!') => match self.next() {
                Some('=') => self.emit(Tok::Op(BinaryOp::NotEqual)),
                other => {
                    let other = quote_char(other);
                    return self.error(format!("unexpected character after '!': {other}"));
                }
            },
            Some('<') => self.compare(BinaryOp::Less, BinaryOp::LessEqual, BinaryOp::TrimUpper),
            Some('>') => self.compare(
                BinaryOp::Greater,
                BinaryOp::GreaterEqual,
                BinaryOp::TrimLower,
            ),
            Some('"' | '\'') => return self.string(c),
            Some('`') => return self.raw_string(),
            Some('(') => {
                self.emit(Tok::LeftParen);
                self.paren_depth += 1;
            }
            Some(')') => return self.right_paren(State::Statements),
            Some('{') => {
                self.emit(Tok::LeftBrace);
                self.brace_open = true;
                return State::Braces;
            }
            Some('[') => {
                if self.bracket_open {
                    return self.error("unexpected left bracket '['".to_owned());
                }
                self.got_colon = false;
                self.emit(Tok::LeftBracket);
                self.skip_spaces();
                self.bracket_open = true;
                return State::Duration;
            }
            Some(']') => {
                if !self.bracket_open {
                    return self.error("unexpected right bracket ']'".to_owned());
                }
                self.emit(Tok::RightBracket);
                self.bracket_open = false;
            }
            Some('@') => self.emit(Tok::At),
            _ if is_digit(c) || (c == Some('.') && is_digit(self.peek())) => {
                self.back();
                return self.number_or_duration();
            }
            _ if is_alpha(c) || c == Some(':') => {
                if !self.bracket_open {
                    self.back();
                    return self.keyword_or_identifier();
                }
                if c == Some(':') {
                    if self.got_colon {
                        return self.error("unexpected colon ':'".to_owned());
                    }
                    self.emit(Tok::Colon);
                    self.got_colon = true;
                    return State::Statements;
                }
                if starts_duration_keyword(c) && self.scan_duration_keyword() {
                    return State::Statements;
                }
                let c = quote_char(c);
                return self.error(format!("unexpected character: {c}, expected ':'"));
            }
            _ => {
                let c = quote_char(c);
                return self.error(format!("unexpected character: {c}"));
            }
        }
        State::Statements
    }

    /// After `<` or `>`.
    fn compare(&mut self, bare: BinaryOp, equal: BinaryOp, trim: BinaryOp) {
        let op = match self.peek() {
            Some('=') => equal,
            Some('/') => trim,
            _ => return self.emit(Tok::Op(bare)),
        };
        self.next();
        self.emit(Tok::Op(op));
    }

    fn right_paren(&mut self, then: State) -> State {
        self.emit(Tok::RightParen);
        self.paren_depth -= 1;
        if self.paren_depth < 0 {
            return self.error("unexpected right parenthesis ')'".to_owned());
        }
        then
    }

    fn braces(&mut self) -> State {
        if self.peek() == Some('#') {
            return self.comment();
        }
        let c = self.next();
        match c {
            None => return self.error("unexpected end of input inside braces".to_owned()),
            Some(' ' | '\t' | '\n' | '\r') => self.skip_spaces(),
            Some(',') => self.emit(Tok::Comma),
            Some('"' | '\'') => return self.string(c),
            Some('`') => return self.raw_string(),
            Some('=') => {
                if self.accept(|c| c == '~') {
                    self.emit(Tok::MatchRegex);
                } else {
                    self.emit(Tok::Assign);
                }
            }
            Some('!') => match self.next() {
                Some('~') => self.emit(Tok::NotMatchRegex),
                Some('=') => self.emit(Tok::Op(BinaryOp::NotEqual)),
                other => {
                    let other = quote_char(other);
                    return self.error(format!(
                        "unexpected character after '!' inside braces: {other}"
                    ));
                }
            },
            Some('{') => return self.error("unexpected left brace '{'".to_owned()),
            Some('}') => {
                self.emit(Tok::RightBrace);
                self.brace_open = false;
                return if self.series {
                    State::Values
                } else {
                    State::Statements
                };
            }
            _ if is_alpha(c) => {
                while is_alphanumeric(self.peek()) {
                    self.next();
                }
                self.emit(Tok::Identifier);
            }
            _ => {
                let c = quote_char(c);
                return self.error(format!("unexpected character inside braces: {c}"));
            }
        }
        State::Braces
    }

    /// In brackets, before the first number (and after it until the state changes).
    fn duration(&mut self) -> State {
        let c = self.next();
        match c {
            None => {
                return self.error("unexpected end of input in duration expression".to_owned());
            }
            Some(']') => {
                self.emit(Tok::RightBracket);
                self.bracket_open = false;
                self.got_colon = false;
                return State::Statements;
            }
            Some(':') => {
                self.emit(Tok::Colon);
                if !self.got_duration {
                    return self.error(
                        "unexpected colon before duration in duration expression".to_owned(),
                    );
                }
                if self.got_colon {
                    return self
                        .error("unexpected repeated colon in duration expression".to_owned());
                }
                self.got_colon = true;
            }
            Some('(') => {
                self.emit(Tok::LeftParen);
                self.paren_depth += 1;
            }
            Some(')') => return self.right_paren(State::Duration),
            Some(' ' | '\t' | '\n' | '\r') => self.skip_spaces(),
            Some('+') => self.emit(Tok::Op(BinaryOp::Add)),
            Some('-') => self.emit(Tok::Op(BinaryOp::Sub)),
            Some('*') => self.emit(Tok::Op(BinaryOp::Mul)),
            Some('/') => self.emit(Tok::Op(BinaryOp::Div)),
            Some('%') => self.emit(Tok::Op(BinaryOp::Mod)),
            Some('^') => self.emit(Tok::Op(BinaryOp::Pow)),
            Some(',') => self.emit(Tok::Comma),
            _ if starts_duration_keyword(c) && self.scan_duration_keyword() => {}
            _ if is_digit(c) || (c == Some('.') && is_digit(self.peek())) => {
                self.back();
                self.got_duration = true;
                return self.number_or_duration();
            }
            _ => {
                let c = quote_char(c);
                return self.error(format!("unexpected character in duration expression: {c}"));
            }
        }
        State::Duration
    }

    fn scan_duration_keyword(&mut self) -> bool {
        while is_alpha(self.peek()) {
            self.next();
        }
        match duration_keyword(&self.word().to_ascii_lowercase()) {
            Some(tok) => {
                self.emit(tok);
                true
            }
            None => false,
        }
    }

    fn comment(&mut self) -> State {
        while !matches!(self.peek(), None | Some('\r' | '\n')) {
            self.next();
        }
        self.emit(Tok::Comment);
        State::Statements
    }

    /// The rest of a string; its first quote is behind.
    fn string(&mut self, open: Option<char>) -> State {
        loop {
            match self.next() {
                Some('\\') => {
                    if let Err(message) = self.escape(open) {
                        return self.error(message);
                    }
                }
                Some(char::REPLACEMENT_CHARACTER) => {
                    return self.error("invalid UTF-8 rune".to_owned());
                }
                None | Some('\n') => return self.error("unterminated quoted string".to_owned()),
                c if c == open => {
                    self.emit(Tok::String);
                    return State::Statements;
                }
                _ => {}
            }
        }
    }

    fn raw_string(&mut self) -> State {
        loop {
            match self.next() {
                Some(char::REPLACEMENT_CHARACTER) => {
                    return self.error("invalid UTF-8 rune".to_owned());
                }
                None => return self.error("unterminated raw string".to_owned()),
                Some('`') => {
                    self.emit(Tok::String);
                    return State::Statements;
                }
                _ => {}
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, open: Option<char>) -> Result<(), String> {
        let c = self.next();
        let (digits, base, max) = match c {
            None => return Err("escape sequence not terminated".to_owned()),
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => return Ok(()),
            c if c == open => return Ok(()),
            Some('0'..='7') => {
                self.back();
                (3, 8, 255)
            }
            Some('x') => (2, 16, 255),
            Some('u') => (4, 16, char::MAX as u32),
            Some('U') => (8, 16, char::MAX as u32),
            Some(c) => return Err(format!("unknown escape sequence {}", unicode(c))),
        };
        let mut value: u32 = 0;
        for _ in 0..digits {
            let Some(c) = self.next() else {
                return Err("escape sequence not terminated".to_owned());
            };
            let Some(digit) = c.to_digit(base) else {
                return Err(format!(
                    "illegal character {} in escape sequence",
                    unicode(c)
                ));
            };
            value = value.wrapping_mul(base).wrapping_add(digit);
        }
        if value > max || (0xd800..0xe000).contains(&value) {
            return Err("escape sequence is an invalid Unicode code point".to_owned());
        }
        Ok(())
    }

    fn number_or_duration(&mut self) -> State {
        if self.scan_number() {
            self.emit(Tok::Number);
            return State::Statements;
        }
        if self.scan_duration_rest() {
            self.emit(Tok::Duration);
            return State::Statements;
        }
        let text = quote(self.word());
        self.error(format!("bad number or duration syntax: {text}"))
    }

    /// The rest of a duration whose first digits are behind. On failure the character that does
    /// not fit is taken, so that the error shows it.
    fn scan_duration_rest(&mut self) -> bool {
        if !self.accept(|c| "smhdwy".contains(c)) {
            return false;
        }
        // `ms`; wrong units are found when the duration is read.
        self.accept(|c| c == 's');
        while self.accept(|c| c.is_ascii_digit()) {
            while self.accept(|c| c.is_ascii_digit()) {}
            // Years come first or not at all.
            if !self.accept(|c| "smhdw".contains(c)) {
                return false;
            }
            self.accept(|c| c == 's');
        }
        if is_alphanumeric(self.peek()) {
            self.next();
            return false;
        }
        true
    }

    /// Takes a number of any form; whether it can be read is found out later. On failure the
    /// character that does not fit may be taken.
    fn scan_number(&mut self) -> bool {
        let from = self.pos;
        let mut hex = false;
        // Not in series descriptions, where `0x2` means zero, repeated.
        if !self.series && self.accept(|c| c == '0') && self.accept(|c| matches!(c, 'x' | 'X')) {
            self.accept(|c| c == '_');
            hex = true;
        }
        let is_digit_here = |c: char| {
            if hex {
                c.is_ascii_hexdigit()
            } else {
                c.is_ascii_digit()
            }
        };
        let is_exponent = |c: char| matches!(c, 'e' | 'E');
        let cannot_follow = |c: char| matches!(c, '.' | '_' | 'e' | 'E');
        self.accept(|c| c == '.');
        self.accept(is_digit_here);
        let (mut dot, mut exponent) = (false, false);
        while let Some(c) = self.peek() {
            if !is_digit_here(c) && !matches!(c, '.' | '_') && !is_exponent(c) {
                break;
            }
            if c == '.' {
                self.next();
                if dot || self.accept(|c| matches!(c, '_' | '.')) || hex {
                    return false;
                }
                dot = true;
            } else if is_exponent(c) {
                self.next();
                if exponent {
                    return false;
                }
                exponent = true;
                self.accept(|c| matches!(c, '+' | '-'));
                if self.accept(cannot_follow) || self.peek().is_none() {
                    return false;
                }
            } else if c == '_' {
                self.next();
                if self.accept(cannot_follow) || self.peek().is_none() {
                    return false;
                }
            } else {
                while self.accept(is_digit_here) {}
            }
        }
        if self.pos == from {
            return false;
        }
        let next = self.peek();
        (self.series && next == Some('x')) || !is_alphanumeric(next)
    }

    fn keyword_or_identifier(&mut self) -> State {
        while is_alphanumeric(self.peek()) || self.peek() == Some(':') {
            self.next();
        }
        let word = self.word();
        let tok = match keyword(word) {
            // Metrics may be called `fill`: it is a modifier only in front of a parenthesis.
            Some(Tok::Fill | Tok::FillLeft | Tok::FillRight) if !self.paren_follows() => {
                Tok::Identifier
            }
            Some(tok) => tok,
            None if word.contains(':') => Tok::MetricIdentifier,
            None => Tok::Identifier,
        };
        self.emit(tok);
        if self.series && self.peek() != Some('{') {
            return State::Values;
        }
        State::Statements
    }

    fn paren_follows(&self) -> bool {
        let rest = &self.input[self.pos..];
        rest.trim_start_matches([' ', '\t', '\n', '\r'])
            .starts_with('(')
    }
}
