//! Tests with other processes and with data that real Prometheus wrote.

#![expect(clippy::unwrap_used, reason = "a test ends where something fails")]

mod blocks;
mod durability;
mod faults;
mod fixture;
mod handover;
mod interop;
mod kinds;
mod ooo;
mod prometheus;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Labels, Sample, Scope, Select, Source, TimeRange};
use tsdb::Db;

type Series = BTreeMap<Labels, Vec<Sample>>;

/// All samples, as a query gets them.
fn all(db: &Db) -> Series {
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = db.open(Arc::clone(&scope)).unwrap();
    let rows = view.select(Select::new(vec![], TimeRange::ALL));
    chunk::suite::collect(rows, &scope, TimeRange::ALL).unwrap()
}

/// The folder of the conformance data.
fn data() -> PathBuf {
    match std::env::var_os("EPIMETHEUS_DATA") {
        Some(path) => path.into(),
        None => concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data").into(),
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => std::fs::write(&to, std::fs::read(entry.path()).unwrap()).unwrap(),
        }
    }
}
