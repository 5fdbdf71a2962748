//! The queries that run, in a file of fixed places, as Prometheus keeps them (`queries.active`):
//! what still stands there at a start did not end in the last run.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use model::time::{Clock as _, WallClock};
use parking_lot::Mutex;
use serde_json::json;

/// Bytes of one place.
const PLACE: usize = 1000;

pub(super) struct Active {
    file: File,
    free: Mutex<Vec<usize>>,
}

/// A query that runs, as long as this lives.
pub(super) struct Noted<'a> {
    active: &'a Active,
    at: usize,
}

impl Active {
    pub(super) fn open(folder: &Path, places: usize) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join("queries.active");
        if let Some(queries) = unfinished(&path) {
            tracing::info!(queries, "These queries didn't finish in the last run");
        }
        let file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(true)
            .open(&path)?;
        file.set_len((1 + places * PLACE) as u64)?;
        file.write_all_at(b"[", 0)?;
        Ok(Self {
            file,
            free: Mutex::new((0..places).map(|i| 1 + i * PLACE).collect()),
        })
    }

    /// Notes a query; not if more run than there are places for.
    pub(super) fn note(&self, expr: &str) -> Option<Noted<'_>> {
        let at = self.free.lock().pop()?;
        let mut place = [0; PLACE];
        let entry = entry(expr, WallClock.now() / 1000);
        place.get_mut(..entry.len())?.copy_from_slice(&entry);
        place[PLACE - 1] = b',';
        // A crash is what this is for: the kernel having it is enough.
        let _ = self.file.write_all_at(&place, at as u64);
        Some(Noted { active: self, at })
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        let _ = self.active.file.write_all_at(&[0; PLACE], self.at as u64);
        self.active.free.lock().push(self.at);
    }
}

/// The entry of a query, which is cut until it fits.
fn entry(expr: &str, seconds: i64) -> Vec<u8> {
    let mut end = expr.len().min(PLACE);
    loop {
        while !expr.is_char_boundary(end) {
            end -= 1;
        }
        let entry = json!({"query": &expr[..end], "timestamp_sec": seconds}).to_string();
        match entry.len().checked_sub(PLACE - 1) {
            None | Some(0) => return entry.into_bytes(),
            // Every character takes a byte or more.
            Some(over) => end = end.saturating_sub(over.div_ceil(6)),
        }
    }
}

/// What stands in the file of the last run, as JSON.
fn unfinished(path: &Path) -> Option<String> {
    const MOST: u64 = 16 << 20;
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MOST).read_to_end(&mut bytes).ok()?;
    bytes.retain(|b| *b != 0);
    let text = String::from_utf8_lossy(&bytes);
    let entries = text.trim_start_matches('[').trim_end_matches(',');
    (!entries.is_empty()).then(|| format!("[{entries}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_is_known_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queries.active");
        let active = Active::open(dir.path(), 3).unwrap();
        assert_eq!(unfinished(&path), None);
        let long = "\"ä\\".repeat(2000);
        let (one, two) = (active.note("up"), active.note(&long));
        let three = active.note("gone");
        assert!(active.note("too many").is_none());
        drop(three);
        let text = unfinished(&path).unwrap();
        let queries: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(queries.len(), 2);
        assert!(queries.iter().any(|q| q["query"] == "up"), "{text}");
        assert!(text.len() < 2 * PLACE + 2);
        drop((one, two));
        assert_eq!(unfinished(&path), None);
        assert!(active.note("up").is_some());
    }
}
