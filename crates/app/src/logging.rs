//! Logs to standard error: logfmt as Prometheus and Thanos write it, or JSON.

use std::fmt::Write as _;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, Targets, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::kingpin::{Flag, Typed, value};

/// The flags of this room.
pub const FLAGS: &[Flag] = &[
    value(
        "log.level",
        "info",
        "Only log messages with the given severity or above: debug, info, warn, error.",
    ),
    value(
        "log.format",
        "logfmt",
        "Output format of log messages: logfmt or json.",
    ),
];

/// Who speaks for us.
const ROOMS: [&str; 17] = [
    "api",
    "app",
    "epimetheus",
    "block",
    "bucket",
    "cache",
    "chunk",
    "compact",
    "discovery",
    "fleet",
    "ingest",
    "promql",
    "rules",
    "scrape",
    "store",
    "tsdb",
    "wire",
];

/// Whether a target is one of our rooms, or a part of one.
pub(crate) fn is_own(target: &str) -> bool {
    let room = target.split("::").next().unwrap_or(target);
    ROOMS.contains(&room)
}

/// Starts logging as the flags say.
pub fn init(typed: &Typed<'_>) -> anyhow::Result<()> {
    let level = match typed.required("log.level")? {
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" => LevelFilter::WARN,
        "error" => LevelFilter::ERROR,
        other => {
            let message = format!("{other:?} is no level; use debug, info, warn or error");
            return Err(typed.error("log.level", message).into());
        }
    };
    // Libraries below us speak only when something is wrong.
    let libraries = level.min(LevelFilter::WARN);
    let rooms = ROOMS.iter().map(|room| (*room, level));
    let filter = Targets::new().with_default(libraries).with_targets(rooms);
    // Spans are for traces; lines of the log carry what they say themselves.
    let filter = filter.and(filter_fn(|metadata| metadata.is_event()));
    let registry = tracing_subscriber::registry().with(crate::traces::layer());
    let layer = tracing_subscriber::fmt::layer().with_writer(crate::terminal::Lines::default);
    match typed.required("log.format")? {
        "logfmt" => {
            let layer = layer.event_format(Logfmt).with_filter(filter);
            registry.with(layer).try_init()?;
        }
        "json" => {
            let layer = layer.json().flatten_event(true).with_filter(filter);
            registry.with(layer).try_init()?;
        }
        other => {
            let message = format!("{other:?} is no format; use logfmt or json");
            return Err(typed.error("log.format", message).into());
        }
    }
    Ok(())
}

/// `ts=2026-01-02T03:04:05.678Z level=info room=tsdb msg="..." key=value`
struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let now = jiff::Timestamp::now();
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let target = event.metadata().target();
        let room = target.split("::").next().unwrap_or(target);
        write!(out, "ts={now:.3} level={level} room={room}")?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        if !fields.message.is_empty() {
            out.write_str(" msg=")?;
            write_value(&mut out, &fields.message)?;
        }
        out.write_str(&fields.rest)?;
        out.write_char('\n')
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Fields {
    fn add(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            self.message.push_str(text);
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(self.rest, " {}=", field.name());
            let _ = write_value(&mut self.rest, text);
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

fn write_value(out: &mut impl std::fmt::Write, text: &str) -> std::fmt::Result {
    let plain = !text.is_empty()
        && text
            .chars()
            .all(|c| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=');
    if plain {
        out.write_str(text)
    } else {
        model::labels::write_quoted(out, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_where_they_must_be() {
        let mut out = String::new();
        for text in ["plain", "two words", "", "a=b", "say \"x\"\n"] {
            write_value(&mut out, text).unwrap();
            out.push(' ');
        }
        assert_eq!(
            out,
            "plain \"two words\" \"\" \"a=b\" \"say \\\"x\\\"\\n\" "
        );
    }
}
