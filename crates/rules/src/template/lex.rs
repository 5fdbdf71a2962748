//! Tokens of a template: text, and what stands between `{{` and `}}`.
//!
//! The rules are those of Go's `text/template/parse`.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    LeftDelim,
    RightDelim,
    Space,
    /// `=`
    Assign,
    /// `:=`
    Declare,
    Pipe,
    /// Any other printable ASCII character, a comma among them.
    Char,
    LeftParen,
    RightParen,
    Bool,
    CharConstant,
    Number,
    /// `"..."`, quotes included.
    String,
    /// `` `...` ``, quotes included.
    RawString,
    /// `$x`, dollar included.
    Variable,
    /// `.x`, dot included.
    Field,
    Dot,
    Identifier,
    /// `if`, `range`, ...
    Keyword,
    Nil,
    End,
    /// The text is the message.
    Error,
}

/// A token.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
    /// Byte offset in the template.
    pub(super) pos: usize,
}

impl Token {
    /// As error messages show it.
    pub(super) fn shown(&self) -> String {
        match self.kind {
            Kind::End => "EOF".to_owned(),
            Kind::Error => self.text.clone(),
            Kind::Keyword => format!("<{}>", self.text),
            _ if self.text.chars().count() > 10 => {
                let start: String = self.text.chars().take(10).collect();
                format!("{}...", super::format::quote(&start))
            }
            _ => super::format::quote(&self.text),
        }
    }
}

const KEYWORDS: [&str; 10] = [
    "block", "break", "continue", "define", "else", "end", "if", "range", "template", "with",
];

struct Lexer<'a> {
    input: &'a str,
    pos: usize,
    tokens: Vec<Token>,
    parens: usize,
}

/// The tokens of a template. The last one is [`Kind::End`] or [`Kind::Error`].
pub(super) fn tokens(input: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        input,
        pos: 0,
        tokens: Vec::new(),
        parens: 0,
    };
    if lexer.text().is_none() {
        debug_assert!(lexer.tokens.last().is_some_and(|t| t.kind == Kind::Error));
    } else {
        lexer.push(Kind::End, lexer.pos, lexer.pos);
    }
    lexer.tokens
}

/// Go's `%#U`.
fn code_point(c: char) -> String {
    if c.is_control() {
        format!("U+{:04X}", c as u32)
    } else {
        format!("U+{:04X} '{c}'", c as u32)
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.input.get(self.pos..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, valid: &str) -> bool {
        let yes = self.peek().is_some_and(|c| valid.contains(c));
        if yes {
            self.bump();
        }
        yes
    }

    fn accept_run(&mut self, valid: &str) {
        while self.accept(valid) {}
    }

    fn push(&mut self, kind: Kind, from: usize, to: usize) {
        self.tokens.push(Token {
            kind,
            text: self.input.get(from..to).unwrap_or("").to_owned(),
            pos: from,
        });
    }

    /// Ends with an error.
    fn fail<T>(&mut self, pos: usize, message: impl Into<String>) -> Option<T> {
        self.tokens.push(Token {
            kind: Kind::Error,
            text: message.into(),
            pos,
        });
        None
    }

    /// Text and actions, to the end.
    fn text(&mut self) -> Option<()> {
        loop {
            let start = self.pos;
            let Some(at) = self.rest().find("{{") else {
                let end = self.input.len();
                if end > start {
                    self.push(Kind::Text, start, end);
                }
                self.pos = end;
                return Some(());
            };
            let delim = start + at;
            let after = self.input.get(delim + 2..).unwrap_or("");
            let trims = after.starts_with('-') && after[1..].starts_with(is_space);
            let before = self.input.get(start..delim).unwrap_or("");
            let before = if trims {
                before.trim_end_matches(is_space)
            } else {
                before
            };
            if !before.is_empty() {
                self.push(Kind::Text, start, start + before.len());
            }
            // The marker and the space that it needs are not part of the action.
            self.pos = delim + 2 + usize::from(trims);
            let body = self.rest();
            let comment = body.trim_start_matches(if trims { is_space } else { |_| false });
            if comment.starts_with("/*") {
                self.pos += body.len() - comment.len();
                self.comment(delim)?;
            } else {
                self.push(Kind::LeftDelim, delim, delim + 2);
                if trims {
                    self.bump();
                }
                self.parens = 0;
                self.action(delim)?;
            }
        }
    }

    fn comment(&mut self, delim: usize) -> Option<()> {
        let Some(end) = self.rest().find("*/") else {
            return self.fail(delim, "unclosed comment");
        };
        self.pos += end + 2;
        match self.right_delim() {
            Some(trims) => {
                self.close(trims);
                Some(())
            }
            None => self.fail(self.pos, "comment ends before closing delimiter"),
        }
    }

    /// Whether the action ends here, and whether it trims the text that follows.
    fn right_delim(&self) -> Option<bool> {
        let rest = self.rest();
        let trimmed = rest
            .strip_prefix(is_space)
            .and_then(|r| r.strip_prefix('-'))
            .is_some_and(|r| r.starts_with("}}"));
        if trimmed {
            return Some(true);
        }
        rest.starts_with("}}").then_some(false)
    }

    fn close(&mut self, trims: bool) {
        self.pos += if trims { 4 } else { 2 };
        if trims {
            let rest = self.rest();
            self.pos += rest.len() - rest.trim_start_matches(is_space).len();
        }
    }

    fn action(&mut self, delim: usize) -> Option<()> {
        loop {
            let start = self.pos;
            if let Some(trims) = self.right_delim() {
                if self.parens > 0 {
                    return self.fail(start, "unclosed left paren");
                }
                let at = start + if trims { 2 } else { 0 };
                self.push(Kind::RightDelim, at, at + 2);
                self.close(trims);
                return Some(());
            }
            let Some(c) = self.bump() else {
                return self.fail(delim, "unclosed action");
            };
            match c {
                c if is_space(c) => {
                    while self.right_delim().is_none() && self.peek().is_some_and(is_space) {
                        self.bump();
                    }
                    self.push(Kind::Space, start, self.pos);
                }
                '=' => self.push(Kind::Assign, start, self.pos),
                ':' => {
                    if self.bump() != Some('=') {
                        return self.fail(start, "expected :=");
                    }
                    self.push(Kind::Declare, start, self.pos);
                }
                '|' => self.push(Kind::Pipe, start, self.pos),
                '(' => {
                    self.parens += 1;
                    self.push(Kind::LeftParen, start, self.pos);
                }
                ')' => {
                    if self.parens == 0 {
                        return self.fail(start, "unexpected right paren");
                    }
                    self.parens -= 1;
                    self.push(Kind::RightParen, start, self.pos);
                }
                '"' => self.quoted('"', Kind::String, "unterminated quoted string")?,
                '\'' => {
                    self.quoted('\'', Kind::CharConstant, "unterminated character constant")?;
                }
                '`' => {
                    let Some(end) = self.rest().find('`') else {
                        return self.fail(start, "unterminated raw quoted string");
                    };
                    self.pos += end + 1;
                    self.push(Kind::RawString, start, self.pos);
                }
                '$' => self.name(start, Kind::Variable)?,
                '.' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => {
                    if self.peek().is_some_and(is_word) {
                        self.name(start, Kind::Field)?;
                    } else {
                        self.terminated(start)?;
                        self.push(Kind::Dot, start, self.pos);
                    }
                }
                '+' | '-' | '.' | '0'..='9' => {
                    self.pos = start;
                    self.number(start)?;
                }
                c if is_word(c) => self.word(start)?,
                '!'..='~' => self.push(Kind::Char, start, self.pos),
                c => {
                    let shown = code_point(c);
                    return self.fail(start, format!("unrecognized character in action: {shown}"));
                }
            }
        }
    }

    fn quoted(&mut self, quote: char, kind: Kind, message: &str) -> Option<()> {
        let start = self.pos - 1;
        loop {
            match self.bump() {
                Some('\\') if self.peek().is_some_and(|c| c != '\n') => {
                    self.bump();
                }
                Some('\n') | None => return self.fail(start, message),
                Some(c) if c == quote => {
                    self.push(kind, start, self.pos);
                    return Some(());
                }
                Some(_) => {}
            }
        }
    }

    /// What follows a name must not look like a part of it.
    fn terminated(&mut self, start: usize) -> Option<()> {
        let ends = match self.peek() {
            None => true,
            Some(c) => {
                is_space(c)
                    || matches!(c, '.' | ',' | '|' | ':' | '=' | ')' | '(')
                    || self.rest().starts_with("}}")
            }
        };
        match self.peek() {
            Some(c) if !ends => self.fail(start, format!("bad character {}", code_point(c))),
            _ => Some(()),
        }
    }

    fn name(&mut self, start: usize, kind: Kind) -> Option<()> {
        while self.peek().is_some_and(is_word) {
            self.bump();
        }
        self.terminated(start)?;
        self.push(kind, start, self.pos);
        Some(())
    }

    fn word(&mut self, start: usize) -> Option<()> {
        while self.peek().is_some_and(is_word) {
            self.bump();
        }
        self.terminated(start)?;
        let kind = match self.input.get(start..self.pos).unwrap_or("") {
            "true" | "false" => Kind::Bool,
            "nil" => Kind::Nil,
            word if KEYWORDS.contains(&word) => Kind::Keyword,
            _ => Kind::Identifier,
        };
        self.push(kind, start, self.pos);
        Some(())
    }

    fn number(&mut self, start: usize) -> Option<()> {
        self.accept("+-");
        let mut digits = "0123456789_";
        if self.accept("0") {
            if self.accept("xX") {
                digits = "0123456789abcdefABCDEF_";
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        self.accept_run(digits);
        if self.accept(".") {
            self.accept_run(digits);
        }
        if digits.len() == 11 && self.accept("eE") || digits.len() == 23 && self.accept("pP") {
            self.accept("+-");
            self.accept_run("0123456789_");
        }
        if self.peek().is_some_and(is_word) {
            self.bump();
            let text = self.input.get(start..self.pos).unwrap_or("");
            let message = format!("bad number syntax: {}", super::format::quote(text));
            return self.fail(start, message);
        }
        self.push(Kind::Number, start, self.pos);
        Some(())
    }
}
