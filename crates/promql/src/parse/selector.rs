//! Selectors, label lists and label sets.

use model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, Str};

use super::number::unquote;
use super::parser::{Abort, Parsed, Parser, span};
use super::token::{Item, Tok};
use crate::ast::{BinaryOp, Span, TimeShift, VectorSelector};
use model::text::quote_bytes;

/// Whether a metric may be called so without quotes.
pub(super) fn is_metric_name(tok: Tok) -> bool {
    matches!(
        tok,
        Tok::Identifier
            | Tok::MetricIdentifier
            | Tok::Aggregate(_)
            | Tok::Op(BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
            | Tok::By
            | Tok::Without
            | Tok::Fill
            | Tok::FillLeft
            | Tok::FillRight
            | Tok::Offset
            | Tok::Anchored
            | Tok::Smoothed
            | Tok::Start
            | Tok::End
            | Tok::Step
            | Tok::Range
            | Tok::MaxOf
            | Tok::MinOf
    )
}

/// Whether a label in `by`, `on` and the like may be called so without quotes.
fn is_grouping_label(tok: Tok) -> bool {
    match tok {
        Tok::Without => false,
        Tok::Bool
        | Tok::On
        | Tok::Ignoring
        | Tok::GroupLeft
        | Tok::GroupRight
        | Tok::Op(BinaryOp::Atan2) => true,
        other => is_metric_name(other),
    }
}

/// The match operator that a token is.
fn match_op(tok: Tok) -> Option<MatchOp> {
    Some(match tok {
        Tok::Assign => MatchOp::Equal,
        Tok::Op(BinaryOp::NotEqual) => MatchOp::NotEqual,
        Tok::MatchRegex => MatchOp::Regex,
        Tok::NotMatchRegex => MatchOp::NotRegex,
        _ => return None,
    })
}

impl Parser<'_> {
    /// `name`, `name{...}` or `{...}`.
    pub(super) fn selector(&mut self) -> Parsed<(VectorSelector, Span)> {
        let first = self.peek();
        if is_metric_name(first.tok) {
            self.take();
            return self.selector_of(first);
        }
        if first.tok != Tok::LeftBrace {
            return Err(Abort::Fresh);
        }
        let matchers = self.matchers()?;
        Ok((
            VectorSelector {
                name: None,
                matchers,
                at: TimeShift::default(),
                extension: None,
            },
            Span {
                start: first.start,
                end: self.taken_end,
            },
        ))
    }

    /// A selector whose name is behind.
    pub(super) fn selector_of(&mut self, name: Item<'_>) -> Parsed<(VectorSelector, Span)> {
        let mut matchers = if self.peek().tok == Tok::LeftBrace {
            self.matchers()?
        } else {
            Vec::new()
        };
        let text: Str = name.text.into();
        matchers.push(Matcher::equal(METRIC_NAME, text.clone()));
        Ok((
            VectorSelector {
                name: Some(text),
                matchers,
                at: TimeShift::default(),
                extension: None,
            },
            Span {
                start: name.start,
                end: self.taken_end,
            },
        ))
    }

    /// `{a="b", "c"}`
    fn matchers(&mut self) -> Parsed<Vec<Matcher>> {
        const CONTEXT: &str = "label matching";
        self.expect(Tok::LeftBrace)?;
        let mut matchers = Vec::new();
        if self.take_if(Tok::RightBrace) {
            return Ok(matchers);
        }
        loop {
            let name = self.peek();
            match name.tok {
                Tok::Identifier => {
                    self.take();
                    let Some(op) = match_op(self.peek().tok) else {
                        return Err(self.unexpected(CONTEXT, "label matching operator"));
                    };
                    self.take();
                    self.matcher(name.text.into(), name, op, &mut matchers)?;
                }
                Tok::String => {
                    self.take();
                    let text: Str = unquote(name.text).as_str().into();
                    if let Some(op) = match_op(self.peek().tok) {
                        self.take();
                        self.matcher(text, name, op, &mut matchers)?;
                    } else {
                        matchers.push(Matcher::equal(METRIC_NAME, text));
                    }
                }
                _ => return Err(self.unexpected(CONTEXT, "identifier or \"}\"")),
            }
            if self.take_if(Tok::RightBrace) {
                return Ok(matchers);
            }
            if !self.take_if(Tok::Comma) {
                return Err(self.unexpected(CONTEXT, "\",\" or \"}\""));
            }
            if self.take_if(Tok::RightBrace) {
                return Ok(matchers);
            }
        }
    }

    /// The value of a matcher whose name and operator are behind.
    fn matcher(
        &mut self,
        name: Str,
        name_item: Item<'_>,
        op: MatchOp,
        matchers: &mut Vec<Matcher>,
    ) -> Parsed<()> {
        let result = self.expect(Tok::String);
        let value = self.catch(result, "label matching", "string")?;
        match Matcher::new(op, name, unquote(value.text).as_str()) {
            Ok(matcher) => matchers.push(matcher),
            Err(error) => self.report(
                Span {
                    start: name_item.start,
                    end: value.end(),
                },
                error.to_string(),
            ),
        }
        Ok(())
    }

    /// `(a, b, "c.d")` after `by`, `on` and the like.
    pub(super) fn grouping_labels(&mut self) -> Parsed<Vec<Str>> {
        const CONTEXT: &str = "grouping opts";
        let open = self.expect(Tok::LeftParen);
        self.catch(open, CONTEXT, "\"(\"")?;
        let mut labels = Vec::new();
        if self.take_if(Tok::RightParen) {
            return Ok(labels);
        }
        loop {
            let item = self.peek();
            if item.tok == Tok::String {
                self.take();
                let text = unquote(item.text);
                if text.is_empty() || !text.is_utf8() {
                    let shown = quote_bytes(text.as_bytes());
                    self.report(
                        span(&item),
                        format!("invalid label name for grouping: {shown}"),
                    );
                }
                labels.push(text.as_str().into());
            } else if is_grouping_label(item.tok) {
                self.take();
                labels.push(item.text.into());
            } else {
                return Err(self.unexpected(CONTEXT, "label"));
            }
            if self.take_if(Tok::RightParen) {
                return Ok(labels);
            }
            if !self.take_if(Tok::Comma) {
                return Err(self.unexpected(CONTEXT, "\",\" or \")\""));
            }
            if self.take_if(Tok::RightParen) {
                return Ok(labels);
            }
        }
    }

    /// A label set: `name{a="b"}`, `{a="b"}`, `name` or nothing.
    pub(super) fn metric(&mut self) -> Parsed<Labels> {
        let mut labels = LabelsBuilder::default();
        let name = self.peek();
        let named = is_metric_name(name.tok);
        if named {
            self.take();
        }
        if self.peek().tok == Tok::LeftBrace {
            self.label_set(&mut labels)?;
        }
        if named {
            labels.set(METRIC_NAME, name.text);
        }
        Ok(labels.build())
    }

    fn label_set(&mut self, labels: &mut LabelsBuilder) -> Parsed<()> {
        const CONTEXT: &str = "label set";
        self.expect(Tok::LeftBrace)?;
        if self.take_if(Tok::RightBrace) {
            return Ok(());
        }
        loop {
            let item = self.peek();
            match item.tok {
                Tok::Identifier => {
                    self.take();
                    let assign = self.expect(Tok::Assign);
                    self.catch(assign, CONTEXT, "\"=\"")?;
                    let value = self.expect(Tok::String);
                    let value = self.catch(value, CONTEXT, "string")?;
                    labels.set(item.text, unquote(value.text).as_str());
                }
                Tok::String => {
                    self.take();
                    let text = unquote(item.text);
                    if self.take_if(Tok::Assign) {
                        let value = self.expect(Tok::String);
                        let value = self.catch(value, CONTEXT, "string")?;
                        labels.set(text.as_str(), unquote(value.text).as_str());
                    } else {
                        labels.set(METRIC_NAME, text.as_str());
                    }
                }
                _ => return Err(self.unexpected(CONTEXT, "identifier or \"}\"")),
            }
            if self.take_if(Tok::RightBrace) {
                return Ok(());
            }
            if !self.take_if(Tok::Comma) {
                return Err(self.unexpected(CONTEXT, "\",\" or \"}\""));
            }
            if self.take_if(Tok::RightBrace) {
                return Ok(());
            }
        }
    }
}
