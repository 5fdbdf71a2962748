//! `scrape_failure_log_file`: a line of JSON for every scrape that failed.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, Weak};

use model::time::Clock;
use parking_lot::Mutex;

use crate::error::ScrapeError;

/// One file; jobs that name the same one share it.
pub(crate) struct FailureLog {
    path: String,
    file: Mutex<File>,
}

impl FailureLog {
    /// Adds a line. It is small and goes to the page cache.
    pub(crate) fn write(&self, clock: &dyn Clock, job: &str, target: &str, error: &ScrapeError) {
        let now = jiff::Timestamp::from_millisecond(clock.now()).unwrap_or_default();
        let line = serde_json::json!({
            "time": now.to_string(),
            "level": "ERROR",
            "msg": error.to_string(),
            "job_name": job,
            "target": target,
        });
        if let Err(error) = self.file.lock().write_all(format!("{line}\n").as_bytes()) {
            tracing::warn!(path = self.path, %error, "a failed scrape could not be logged");
        }
    }
}

/// The files that are open.
#[derive(Default)]
pub(crate) struct FailureLogs(Mutex<HashMap<String, Weak<FailureLog>>>);

impl FailureLogs {
    /// The file at `path`; none if none is named.
    pub(crate) fn open(&self, path: &str) -> Result<Option<Arc<FailureLog>>, String> {
        if path.is_empty() {
            return Ok(None);
        }
        let mut open = self.0.lock();
        open.retain(|_, log| log.strong_count() > 0);
        if let Some(log) = open.get(path).and_then(Weak::upgrade) {
            return Ok(Some(log));
        }
        let file = File::options()
            .append(true)
            .create(true)
            .open(path)
            .map_err(|e| format!("scrape_failure_log_file {path}: {e}"))?;
        let log = Arc::new(FailureLog {
            path: path.to_owned(),
            file: Mutex::new(file),
        });
        open.insert(path.to_owned(), Arc::downgrade(&log));
        Ok(Some(log))
    }
}
