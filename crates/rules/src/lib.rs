//! Rules: expressions that are evaluated again and again, to be recorded or to raise alerts.
//!
//! A [`file::RuleFile`] is what people write; the [`Manager`] evaluates its groups at their ticks
//! over any [`promql::Evaluator`], gives what is recorded to a [`model::Sink`] and what fires to a
//! [`Notify`]; [`notify::Notifier`] takes it to Alertmanagers. [`template`] fills labels and
//! annotations.
//!
//! ```
//! use std::path::Path;
//! use rules::file::{ReadOptions, parse};
//!
//! let text = "groups: [{name: g, rules: [{alert: Down, expr: up == 0, for: 5m}]}]";
//! let read = parse(Path::new("rules.yml"), text, ReadOptions::default()).unwrap();
//! assert_eq!(read.file.groups[0].rules[0].name(), "Down");
//! ```
//!
//! Useful for: rule files with Prometheus' meaning. Not useful for: what an expression means
//! (`promql`), or where targets are found (`discovery`).

mod alerting;
pub mod file;
mod group;
mod link;
mod manager;
mod metrics;
pub mod notify;
mod order;
mod recording;
mod rule;
pub mod template;
#[cfg(test)]
mod tests;
pub mod unit_test;

pub use alerting::Alert;
pub use link::Link;
pub use manager::{History, Manager, Notify, Options, Update, load};

/// The expression as Prometheus shows it: printed from what was understood.
fn pretty(expr: &str) -> String {
    match promql::parse::parse(expr, &promql::features::Features::ALL) {
        Ok(parsed) => parsed.to_string(),
        Err(_) => expr.to_owned(),
    }
}
