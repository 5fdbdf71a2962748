//! Which format is asked for, and which one an answer is written in.

use std::fmt::Write as _;

use model::escaping::EscapingScheme;

use super::Format;

/// A format that can be asked for, under its name in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScrapeProtocol {
    /// `PrometheusProto`: delimited protobuf.
    PrometheusProto,
    /// `PrometheusText0.0.4`.
    PrometheusText004,
    /// `PrometheusText1.0.0`: the text format with quoted names.
    PrometheusText100,
    /// `OpenMetricsText0.0.1`.
    OpenMetricsText001,
    /// `OpenMetricsText1.0.0`.
    OpenMetricsText100,
}

impl ScrapeProtocol {
    /// What is asked for by default, in order of preference.
    pub const DEFAULT: [ScrapeProtocol; 4] = [
        Self::OpenMetricsText100,
        Self::OpenMetricsText001,
        Self::PrometheusText100,
        Self::PrometheusText004,
    ];

    /// Every protocol, sorted by name.
    pub const ALL: [ScrapeProtocol; 5] = [
        Self::OpenMetricsText001,
        Self::OpenMetricsText100,
        Self::PrometheusProto,
        Self::PrometheusText004,
        Self::PrometheusText100,
    ];

    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PrometheusProto => "PrometheusProto",
            Self::PrometheusText004 => "PrometheusText0.0.4",
            Self::PrometheusText100 => "PrometheusText1.0.0",
            Self::OpenMetricsText001 => "OpenMetricsText0.0.1",
            Self::OpenMetricsText100 => "OpenMetricsText1.0.0",
        }
    }

    /// Its media type with parameters, as the `Accept` header names it.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            Self::PrometheusText004 => "text/plain;version=0.0.4",
            Self::PrometheusText100 => "text/plain;version=1.0.0",
            Self::OpenMetricsText001 => "application/openmetrics-text;version=0.0.1",
            Self::OpenMetricsText100 => "application/openmetrics-text;version=1.0.0",
        }
    }

    /// The bare media type.
    fn essence(self) -> &'static str {
        self.media_type().split(';').next().unwrap_or_default()
    }
}

impl std::str::FromStr for ScrapeProtocol {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|p| p.as_str() == name)
            .ok_or_else(|| {
                format!(
                    "unknown scrape protocol {name}, supported: [{}]",
                    Self::ALL.map(Self::as_str).join(" ")
                )
            })
    }
}

/// The `Accept` header for `protocols`, best first, and after them anything.
pub fn accept_header(protocols: &[ScrapeProtocol], escaping: EscapingScheme) -> String {
    let mut header = String::with_capacity(256);
    let mut weight = ScrapeProtocol::ALL.len() + 1;
    for protocol in protocols {
        header.push_str(protocol.media_type());
        // Only the newer versions know escaping.
        if matches!(
            protocol,
            ScrapeProtocol::PrometheusText100 | ScrapeProtocol::OpenMetricsText100
        ) {
            let _ = write!(header, ";escaping={}", escaping.as_str());
        }
        let _ = write!(header, ";q=0.{weight},");
        weight = weight.saturating_sub(1);
    }
    let _ = write!(header, "*/*;q=0.{weight}");
    header
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Written {
    /// In lines of text: see [`super::Parser`].
    Lines(Format),
    /// As delimited protobuf: see [`super::proto`].
    Protobuf,
}

/// The format of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// How the body is to be read.
    pub written: Written,
    /// What was wrong with the header, when the fallback had to be taken.
    pub warning: Option<String>,
}

/// An answer that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// No `Content-Type` that can be used, and no fallback.
    #[error("{0}")]
    NoFormat(String),
}

/// Decides how to read an answer from its `Content-Type` and the configured fallback.
pub fn negotiate(
    content_type: &str,
    fallback: Option<ScrapeProtocol>,
) -> Result<Negotiated, NegotiationError> {
    let (essence, problem) = match media_type(content_type) {
        Ok(essence)
            if matches!(
                essence.as_str(),
                "application/openmetrics-text" | "application/vnd.google.protobuf" | "text/plain"
            ) =>
        {
            (Some(essence), None)
        }
        Ok(_) => (
            None,
            Some(format!(
                "received unsupported Content-Type {content_type:?}"
            )),
        ),
        Err(_) if content_type.is_empty() => (
            None,
            Some("non-compliant scrape target sending blank Content-Type".to_owned()),
        ),
        Err(e) => (
            None,
            Some(format!("cannot parse Content-Type {content_type:?} ({e})")),
        ),
    };
    let (essence, warning) = match (essence, fallback) {
        (Some(essence), _) => (essence, None),
        (None, Some(fallback)) => {
            let essence = fallback.essence();
            let problem = problem.unwrap_or_default();
            let warning = format!("{problem}, using fallback_scrape_protocol {essence:?}");
            (essence.to_owned(), Some(warning))
        }
        (None, None) => {
            let problem = problem.unwrap_or_default();
            return Err(NegotiationError::NoFormat(format!(
                "{problem} and no fallback_scrape_protocol specified for target"
            )));
        }
    };
    let written = match essence.as_str() {
        "application/openmetrics-text" => Written::Lines(Format::OpenMetrics),
        "text/plain" => Written::Lines(Format::Text),
        _ => Written::Protobuf,
    };
    Ok(Negotiated { written, warning })
}

/// The media type without its parameters, in lower case, checked as Go's
/// `mime.ParseMediaType` checks it.
fn media_type(header: &str) -> Result<String, &'static str> {
    let (essence, mut rest) = match header.split_once(';') {
        Some((essence, rest)) => (essence, Some(rest)),
        None => (header, None),
    };
    let essence = essence.trim().to_ascii_lowercase();
    match essence.split_once('/') {
        None if essence.is_empty() => return Err("no media type"),
        None if !is_token(&essence) => return Err("unexpected content in media type"),
        None => {}
        Some(("", _)) => return Err("no media type"),
        Some((kind, sub)) => {
            if !is_token(kind) {
                return Err("expected slash after first token");
            }
            let token = sub.bytes().take_while(|b| is_token_byte(*b)).count();
            if token == 0 {
                return Err("expected token after slash");
            }
            if token < sub.len() {
                return Err("unexpected content after media subtype");
            }
        }
    }
    let mut seen: Vec<String> = Vec::new();
    while let Some(parameter) = rest.map(str::trim_start) {
        if parameter.is_empty() {
            break;
        }
        let (name, value) = parameter.split_once('=').ok_or("invalid media parameter")?;
        let name = name.trim().to_ascii_lowercase();
        if !is_token(&name) {
            return Err("invalid media parameter");
        }
        let after = match value.strip_prefix('"') {
            Some(quoted) => quoted_end(quoted).ok_or("invalid media parameter")?,
            None => {
                let len = value.bytes().take_while(|b| is_token_byte(*b)).count();
                if len == 0 {
                    return Err("invalid media parameter");
                }
                value.get(len..).unwrap_or_default()
            }
        };
        if seen.contains(&name) {
            return Err("duplicate parameter name");
        }
        seen.push(name);
        let after = after.trim_start();
        rest = match after.strip_prefix(';') {
            Some(next) => Some(next),
            None if after.is_empty() => None,
            None => return Err("invalid media parameter"),
        };
    }
    Ok(essence)
}

/// What follows the closing quote.
fn quoted_end(quoted: &str) -> Option<&str> {
    let mut escaped = false;
    for (i, b) in quoted.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return quoted.get(i + 1..),
            _ => {}
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}
