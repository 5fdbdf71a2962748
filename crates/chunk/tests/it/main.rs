//! The in-memory source and sink pass their own suites.

mod golden;

use std::sync::Arc;

use chunk::memory::{MemorySink, MemorySource};
use chunk::suite;

#[test]
fn memory_source_with_cursors() {
    suite::source("memory", |series| Arc::new(MemorySource::new(series)));
}

#[test]
fn memory_source_with_streams() {
    suite::source("memory stream", |series| {
        Arc::new(MemorySource::new(series).answering_streams(true))
    });
}

#[test]
fn memory_sink() {
    suite::sink("memory", MemorySink::new, MemorySink::series);
}

#[test]
fn memory_source_with_histograms() {
    suite::histogram_source("memory", |series| {
        Arc::new(MemorySource::with_histograms(series))
    });
}

#[test]
fn memory_sink_with_histograms() {
    suite::histogram_sink("memory", MemorySink::new, MemorySink::stored);
}
