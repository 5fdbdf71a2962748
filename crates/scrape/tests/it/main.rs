//! Behaviour of the scraping room, seen from outside.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod conformance;
mod data;
mod described;
mod never_panics;
mod parsing;
mod scraping;
