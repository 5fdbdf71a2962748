//! A foreign shipper's list of what it has uploaded, such as a Thanos sidecar's
//! `thanos.shipper.json`: blocks that do not stand in it are not merged yet.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Deserialize;

/// So long the list is not read again.
const FRESH: Duration = Duration::from_secs(60);

/// Whether a block is missing from the list in `file`. While the file cannot be read none is.
pub fn missing_from(file: PathBuf) -> tsdb::Hold {
    let read: Mutex<Option<(Instant, HashSet<String>)>> = Mutex::default();
    Arc::new(move |ulid| {
        let mut read = read.lock();
        if read.as_ref().is_none_or(|(at, _)| at.elapsed() >= FRESH) {
            *read = uploaded(&file).map(|list| (Instant::now(), list));
        }
        let list = read.as_ref();
        list.is_some_and(|(_, list)| !list.contains(&ulid.to_string()))
    })
}

fn uploaded(file: &Path) -> Option<HashSet<String>> {
    #[derive(Deserialize)]
    struct List {
        #[serde(default)]
        uploaded: Option<HashSet<String>>,
    }
    let read = || -> anyhow::Result<List> { Ok(serde_json::from_slice(&std::fs::read(file)?)?) };
    match read() {
        Ok(list) => Some(list.uploaded.unwrap_or_default()),
        Err(e) => {
            tracing::warn!(file = %file.display(), error = %e, "what was uploaded cannot be read; blocks are compacted without it");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_list_waits() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("thanos.shipper.json");
        let (a, b) = (ulid::Ulid::generate(), ulid::Ulid::generate());
        let waits = missing_from(file.clone());
        assert!(!waits(a), "there is no file");
        std::fs::write(&file, format!("{{\"version\":1,\"uploaded\":[\"{a}\"]}}")).unwrap();
        assert!(!waits(a) && waits(b));
        std::fs::write(&file, "{\"version\":1,\"uploaded\":null}").unwrap();
        assert!(!waits(a), "a minute has not passed");
        assert!(missing_from(file.clone())(a));
        std::fs::write(&file, "rubbish").unwrap();
        assert!(!missing_from(file)(a));
    }
}
