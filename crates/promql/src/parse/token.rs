//! Tokens and how error texts call them.

use crate::ast::{AggregateOp, BinaryOp};
use model::text::{quote, quote_prefix};

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tok {
    /// Its text is the error message.
    Error,
    Eof,
    Comment,
    Identifier,
    /// An identifier with a colon in it.
    MetricIdentifier,
    String,
    Number,
    Duration,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`
    Assign,
    /// `=~`
    MatchRegex,
    /// `!~`
    NotMatchRegex,
    At,
    Op(BinaryOp),
    Aggregate(AggregateOp),
    Bool,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Offset,
    Anchored,
    Smoothed,
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
    // Series descriptions only.
    Blank,
    Times,
    Space,
    OpenHistogram,
    CloseHistogram,
    HistogramKey(HistogramKey),
    ResetHint(ResetHint),
}

/// Keys of a histogram literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HistogramKey {
    Sum,
    Count,
    Schema,
    Offset,
    NegativeOffset,
    Buckets,
    NegativeBuckets,
    ZeroBucket,
    ZeroBucketWidth,
    CustomValues,
    CounterResetHint,
}

/// Values of `counter_reset_hint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResetHint {
    Unknown,
    Reset,
    NotReset,
    Gauge,
}

/// A token and its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    pub(crate) tok: Tok,
    /// First byte.
    pub(crate) start: u32,
    /// As it was written (nothing for an error).
    pub(crate) text: &'a str,
}

impl Item<'_> {
    /// One past the last byte.
    pub(crate) fn end(&self) -> u32 {
        self.start + self.text.len() as u32
    }

    /// What an error text calls it.
    pub(crate) fn describe(&self) -> String {
        match self.tok {
            Tok::Eof => "end of input".to_owned(),
            Tok::Error => "error".to_owned(),
            Tok::Comment => format!("comment {}", self.short()),
            Tok::Identifier => format!("identifier {}", quote(self.text)),
            Tok::MetricIdentifier => format!("metric identifier {}", quote(self.text)),
            Tok::String => format!("string {}", self.short()),
            Tok::Number => format!("number {}", self.short()),
            Tok::Duration => format!("duration {}", self.short()),
            Tok::Op(_) | Tok::MatchRegex | Tok::NotMatchRegex | Tok::At => {
                format!("<op:{}>", self.text)
            }
            Tok::Aggregate(_) => format!("<aggr:{}>", self.text),
            Tok::Bool
            | Tok::By
            | Tok::Without
            | Tok::On
            | Tok::Ignoring
            | Tok::GroupLeft
            | Tok::GroupRight
            | Tok::Fill
            | Tok::FillLeft
            | Tok::FillRight
            | Tok::Offset
            | Tok::Anchored
            | Tok::Smoothed => format!("<{}>", self.text),
            _ => self.short(),
        }
    }

    /// The text in quotes, cut after ten characters.
    fn short(&self) -> String {
        if self.text.len() > 10 {
            format!("{}...", quote_prefix(self.text, 10))
        } else {
            quote(self.text)
        }
    }
}

/// The keyword that `word` is, whatever its case.
pub(crate) fn keyword(word: &str) -> Option<Tok> {
    /// Longer than every keyword.
    const MAX: usize = 12;
    if word.len() > MAX {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    Some(match lower.as_str() {
        "and" => Tok::Op(BinaryOp::And),
        "or" => Tok::Op(BinaryOp::Or),
        "unless" => Tok::Op(BinaryOp::Unless),
        "atan2" => Tok::Op(BinaryOp::Atan2),
        "sum" => Tok::Aggregate(AggregateOp::Sum),
        "avg" => Tok::Aggregate(AggregateOp::Avg),
        "count" => Tok::Aggregate(AggregateOp::Count),
        "min" => Tok::Aggregate(AggregateOp::Min),
        "max" => Tok::Aggregate(AggregateOp::Max),
        "group" => Tok::Aggregate(AggregateOp::Group),
        "stddev" => Tok::Aggregate(AggregateOp::Stddev),
        "stdvar" => Tok::Aggregate(AggregateOp::Stdvar),
        "topk" => Tok::Aggregate(AggregateOp::Topk),
        "bottomk" => Tok::Aggregate(AggregateOp::Bottomk),
        "count_values" => Tok::Aggregate(AggregateOp::CountValues),
        "quantile" => Tok::Aggregate(AggregateOp::Quantile),
        "limitk" => Tok::Aggregate(AggregateOp::Limitk),
        "limit_ratio" => Tok::Aggregate(AggregateOp::LimitRatio),
        "offset" => Tok::Offset,
        "smoothed" => Tok::Smoothed,
        "anchored" => Tok::Anchored,
        "by" => Tok::By,
        "without" => Tok::Without,
        "on" => Tok::On,
        "ignoring" => Tok::Ignoring,
        "group_left" => Tok::GroupLeft,
        "group_right" => Tok::GroupRight,
        "fill" => Tok::Fill,
        "fill_left" => Tok::FillLeft,
        "fill_right" => Tok::FillRight,
        "bool" => Tok::Bool,
        "start" => Tok::Start,
        "end" => Tok::End,
        "inf" | "nan" => Tok::Number,
        _ => return duration_keyword(&lower),
    })
}

/// Words that are calls inside durations; `lower` in lower case.
pub(crate) fn duration_keyword(lower: &str) -> Option<Tok> {
    Some(match lower {
        "step" => Tok::Step,
        "range" => Tok::Range,
        "max_of" => Tok::MaxOf,
        "min_of" => Tok::MinOf,
        _ => return None,
    })
}

/// The histogram key or counter-reset hint that `word` is, whatever its case.
pub(crate) fn histogram_key(word: &str) -> Option<HistogramKey> {
    Some(match word.to_ascii_lowercase().as_str() {
        "sum" => HistogramKey::Sum,
        "count" => HistogramKey::Count,
        "schema" => HistogramKey::Schema,
        "offset" => HistogramKey::Offset,
        "n_offset" => HistogramKey::NegativeOffset,
        "buckets" => HistogramKey::Buckets,
        "n_buckets" => HistogramKey::NegativeBuckets,
        "z_bucket" => HistogramKey::ZeroBucket,
        "z_bucket_w" => HistogramKey::ZeroBucketWidth,
        "custom_values" => HistogramKey::CustomValues,
        "counter_reset_hint" => HistogramKey::CounterResetHint,
        _ => return None,
    })
}

/// The counter-reset hint that `word` is, whatever its case.
pub(crate) fn reset_hint(word: &str) -> Option<ResetHint> {
    Some(match word.to_ascii_lowercase().as_str() {
        "unknown" => ResetHint::Unknown,
        "reset" => ResetHint::Reset,
        "not_reset" => ResetHint::NotReset,
        "gauge" => ResetHint::Gauge,
        _ => return None,
    })
}
