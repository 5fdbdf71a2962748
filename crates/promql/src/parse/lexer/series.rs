//! The lexer's states for series descriptions: `metric{..} 1+1x5 {{schema:0 buckets:[1 2]}}`.

use super::{InHistogram, Lexer, State, is_alpha, is_digit};
use crate::ast::BinaryOp;
use crate::parse::token::{Tok, histogram_key, keyword, reset_hint};
use model::text::{quote, quote_char};

impl Lexer<'_> {
    pub(super) fn values(&mut self) -> State {
        if self.histogram != InHistogram::No {
            return State::Histogram;
        }
        let c = self.next();
        match c {
            None => return State::Statements,
            Some('{') if self.peek() == Some('{') => {
                self.histogram = InHistogram::Open;
                self.next();
                self.emit(Tok::OpenHistogram);
                return State::Histogram;
            }
            Some(' ' | '\t' | '\n' | '\r') => self.space(),
            Some('+') => self.emit(Tok::Op(BinaryOp::Add)),
            Some('-') => self.emit(Tok::Op(BinaryOp::Sub)),
            Some('x') => self.emit(Tok::Times),
            Some('_') => self.emit(Tok::Blank),
            _ if is_digit(c) || (c == Some('.') && is_digit(self.peek())) => {
                self.back();
                return self.number(State::Values);
            }
            _ if is_alpha(c) => {
                self.back();
                return self.keyword_or_identifier();
            }
            _ => {
                let c = quote_char(c);
                return self.error(format!("unexpected character in series sequence: {c}"));
            }
        }
        State::Values
    }

    /// A run of blanks, which separates values and so is a token here.
    fn space(&mut self) {
        self.emit(Tok::Space);
        self.skip_spaces();
    }

    fn number(&mut self, then: State) -> State {
        if !self.scan_number() {
            let text = quote(self.word());
            return self.error(format!("bad number syntax: {text}"));
        }
        self.emit(Tok::Number);
        then
    }

    pub(super) fn histogram(&mut self) -> State {
        if let InHistogram::Operator(tok) = self.histogram {
            self.histogram = InHistogram::No;
            self.next();
            self.emit(tok);
            return State::Values;
        }
        if self.bracket_open {
            return State::Buckets;
        }
        let c = self.next();
        match c {
            Some(' ' | '\t' | '\n' | '\r') => self.space(),
            Some(':') => self.emit(Tok::Colon),
            Some('-') => self.emit(Tok::Op(BinaryOp::Sub)),
            Some('[') => {
                self.bracket_open = true;
                self.got_colon = false;
                self.got_duration = false;
                self.emit(Tok::LeftBracket);
                return State::Buckets;
            }
            Some('}') if self.peek() == Some('}') => {
                self.next();
                self.emit(Tok::CloseHistogram);
                self.histogram = match self.peek() {
                    Some('x') => InHistogram::Operator(Tok::Times),
                    Some('+') => InHistogram::Operator(Tok::Op(BinaryOp::Add)),
                    Some('-') => InHistogram::Operator(Tok::Op(BinaryOp::Sub)),
                    _ => InHistogram::No,
                };
                return State::Values;
            }
            _ if is_digit(c) => {
                self.back();
                return self.number(State::Histogram);
            }
            _ if is_alpha(c) => {
                self.back();
                return self.histogram_word();
            }
            _ => {
                let c = quote_char(c);
                return self.error(format!("histogram description incomplete unexpected: {c}"));
            }
        }
        State::Histogram
    }

    fn histogram_word(&mut self) -> State {
        while is_alpha(self.peek()) {
            self.next();
        }
        let word = self.word();
        if let Some(key) = histogram_key(word) {
            if self.peek() != Some(':') {
                return self.error("missing `:` for histogram descriptor".to_owned());
            }
            self.emit(Tok::HistogramKey(key));
        } else if keyword(word) == Some(Tok::Number) {
            self.emit(Tok::Number);
        } else if let Some(hint) = reset_hint(word) {
            self.emit(Tok::ResetHint(hint));
        } else {
            let word = quote(word);
            return self.error(format!("bad histogram descriptor found: {word}"));
        }
        State::Histogram
    }

    pub(super) fn buckets(&mut self) -> State {
        let c = self.next();
        match c {
            Some(' ' | '\t' | '\n' | '\r') => self.space(),
            Some('-') => self.emit(Tok::Op(BinaryOp::Sub)),
            Some(']') => {
                self.bracket_open = false;
                self.emit(Tok::RightBracket);
                return State::Histogram;
            }
            _ if is_digit(c) => {
                self.back();
                return self.number(State::Buckets);
            }
            _ if is_alpha(c) => {
                if keyword(self.word()) == Some(Tok::Number) {
                    self.emit(Tok::Number);
                }
            }
            _ => {
                let c = quote_char(c);
                return self.error(format!("invalid character in buckets description: {c}"));
            }
        }
        State::Buckets
    }
}
