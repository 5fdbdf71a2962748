//! Where the programs are found that ours is compared with, beside those of the distribution.

use std::path::PathBuf;

/// A real Thanos: `EPIMETHEUS_THANOS`, or `thanos` on `PATH`; says so where there is none.
pub fn thanos(test: &str) -> Option<PathBuf> {
    let found = match std::env::var_os("EPIMETHEUS_THANOS") {
        Some(path) => Some(PathBuf::from(path)).filter(|p| p.is_file()),
        None => std::env::var_os("PATH").and_then(|path| {
            std::env::split_paths(&path)
                .map(|dir| dir.join("thanos"))
                .find(|p| p.is_file())
        }),
    };
    if found.is_none() {
        println!(
            "SKIPPED {test}: the part with a real thanos, which is neither on PATH nor in EPIMETHEUS_THANOS"
        );
    }
    found
}
