//! Where the conformance data lies.

use std::path::PathBuf;

/// The text of a file of the corpora, or `None` (and a line that says so) if there are none.
pub fn read(name: &str) -> Option<String> {
    let path = root().join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            eprintln!("SKIPPED: {}: {error}", path.display());
            None
        }
    }
}

/// Names and texts of all `.test` scripts, or none.
pub fn scripts() -> Vec<(String, String)> {
    let folder = root().join("promqltest");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("SKIPPED: {} is not there", folder.display());
        return Vec::new();
    };
    let mut scripts: Vec<(String, String)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?.to_owned();
            let text = std::fs::read_to_string(&path).ok()?;
            name.ends_with(".test").then_some((name, text))
        })
        .collect();
    scripts.sort();
    scripts
}

pub(crate) fn root() -> PathBuf {
    match std::env::var_os("EPIMETHEUS_DATA") {
        Some(path) => path.into(),
        None => concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data").into(),
    }
}
