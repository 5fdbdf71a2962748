//! Where the shared conformance data lies.

use std::path::PathBuf;

/// The folder `name` of the conformance data; none, with a note, when it is not there.
pub fn folder(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("EPIMETHEUS_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    );
    let folder = root.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED: no conformance data at {}", folder.display());
    None
}
