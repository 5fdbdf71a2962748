//! Where the programs are found that ours is compared with, beside those of the distribution.

use std::path::PathBuf;

/// A real Thanos: `EPIMETHEUS_THANOS`, or `thanos` on `PATH`; says so where there is none.
pub fn thanos(test: &str) -> Option<PathBuf> {
    found("EPIMETHEUS_THANOS", "thanos", test)
}

/// A real Prometheus 3: `EPIMETHEUS_PROMETHEUS3`, or `prometheus3` on `PATH`; says so where there is
/// none.
pub fn prometheus3(test: &str) -> Option<PathBuf> {
    found("EPIMETHEUS_PROMETHEUS3", "prometheus3", test)
}

/// A real MinIO: `EPIMETHEUS_MINIO`, or `minio` on `PATH`; says so where there is none.
pub fn minio(test: &str) -> Option<PathBuf> {
    found("EPIMETHEUS_MINIO", "minio", test)
}

fn found(variable: &str, program: &str, test: &str) -> Option<PathBuf> {
    let found = find(variable, program);
    if found.is_none() {
        println!(
            "SKIPPED {test}: the part with a real {program}, which is neither on PATH nor in {variable}"
        );
    }
    found
}

/// The program that a variable names, else the one on `PATH`.
fn find(variable: &str, program: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(PathBuf::from(path)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}
