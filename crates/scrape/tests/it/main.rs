//! Behaviour of the scraping room, seen from outside.

mod conformance;
mod data;
mod never_panics;
mod parsing;
