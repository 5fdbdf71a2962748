//! Targets in files, read again when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::{Discoverer, glob};
use crate::config;
use crate::counters::Counters;
use crate::{Group, Updates, group};

/// How often the files are looked at: cheap, and right on every file system, which a watch that
/// the kernel offers is not.
const POLL: Duration = Duration::from_secs(3);
/// Not more often than this, however short the interval that was asked for.
const MIN_POLL: Duration = Duration::from_millis(50);
/// No file may be larger, bytes.
const MAX_SIZE: u64 = 256 << 20;

pub(super) struct Files {
    config: config::File,
    counters: Counters,
    /// What each file looked like when it was read last, well or not.
    seen: BTreeMap<PathBuf, Stamp>,
    /// How many groups came from each file that is there.
    groups: BTreeMap<PathBuf, usize>,
    refreshed: Option<Instant>,
}

/// What shows that a file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    /// A file that is moved into the place of another may be as old and as large.
    inode: u64,
}

impl Files {
    pub(super) fn new(config: config::File, counters: Counters) -> Self {
        Self {
            config,
            counters,
            seen: BTreeMap::new(),
            groups: BTreeMap::new(),
            refreshed: None,
        }
    }

    /// Looks at the files, and reads those that have changed, or all if it is time to.
    fn look(&mut self) -> Vec<Group> {
        let began = Instant::now();
        let interval = self.config.refresh_interval.as_std();
        let all = self.refreshed.is_none_or(|at| at.elapsed() >= interval);
        let mut found = Vec::new();
        let mut there = BTreeSet::new();
        for pattern in &self.config.files {
            match glob::expand(pattern) {
                Ok(paths) => there.extend(paths),
                Err(error) => {
                    // Not knowing what is there, keep what was.
                    if all {
                        tracing::error!(%error, pattern, "cannot list the files of service discovery");
                        self.counters.file_errors.inc();
                    }
                    there.extend(
                        self.groups
                            .keys()
                            .filter(|p| in_folder_of(p, pattern))
                            .cloned(),
                    );
                }
            }
        }
        for path in &there {
            let stamp = match Stamp::of(path) {
                Ok(stamp) => Some(stamp),
                Err(error) => {
                    if all {
                        tracing::error!(%error, path = %path.display(), "cannot read the file of service discovery");
                        self.counters.file_errors.inc();
                    }
                    self.seen.remove(path);
                    None
                }
            };
            if let Some(stamp) = stamp
                && (all || self.seen.get(path) != Some(&stamp))
            {
                self.seen.insert(path.clone(), stamp);
                found.extend(self.read(path, stamp));
            }
        }
        // Whatever is gone is meant to be: a file is replaced in one step.
        let gone: Vec<PathBuf> = self
            .groups
            .keys()
            .filter(|path| !there.contains(*path))
            .cloned()
            .collect();
        for path in gone {
            self.seen.remove(&path);
            let count = self.groups.remove(&path).unwrap_or(0);
            found.extend((0..count).map(|i| emptied(&path, i)));
            self.counters.file_mtime.remove(&[&path.to_string_lossy()]);
        }
        if all {
            self.refreshed = Some(Instant::now());
        }
        self.counters.file_scans.observe_duration(began.elapsed());
        found
    }

    /// The groups in one file, and empty ones in the place of those that it no longer has. A file
    /// that cannot be understood leaves everything as it was.
    fn read(&mut self, path: &Path, stamp: Stamp) -> Vec<Group> {
        let written = match read(path, stamp) {
            Ok(written) => written,
            Err(error) => {
                tracing::error!(error, path = %path.display(), "cannot read the file of service discovery; keeping what it said before");
                self.counters.file_errors.inc();
                return Vec::new();
            }
        };
        let name = path.to_string_lossy();
        let modified = stamp
            .modified
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let seconds = modified.map_or(0.0, |d| d.as_secs_f64());
        self.counters.file_mtime.with(&[&name]).set(seconds);
        let count = written.len();
        let before = self.groups.insert(path.to_owned(), count).unwrap_or(0);
        let whence = [("__meta_filepath", &*name)];
        let groups = written.into_iter().enumerate();
        let groups = groups.map(|(i, w)| Group::new(source(path, i), w, &whence));
        groups
            .chain((count..before).map(|i| emptied(path, i)))
            .collect()
    }
}

impl Discoverer for Files {
    fn run(
        mut self: Box<Self>,
        updates: Updates,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let interval = self.config.refresh_interval.as_std();
            let mut pause = tokio::time::interval(interval.clamp(MIN_POLL, POLL));
            pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = pause.tick() => {}
                }
                let looked = tokio::task::spawn_blocking(move || {
                    let found = self.look();
                    (self, found)
                });
                // The thread is only lost when the runtime ends.
                let Ok((files, found)) = looked.await else {
                    return;
                };
                self = files;
                if !found.is_empty() {
                    updates.send(found);
                }
            }
        })
    }
}

impl Stamp {
    fn of(path: &Path) -> std::io::Result<Self> {
        let meta = std::fs::metadata(path)?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&meta);
        #[cfg(not(unix))]
        let inode = 0;
        Ok(Self {
            modified: meta.modified().ok(),
            size: meta.len(),
            inode,
        })
    }
}

fn in_folder_of(path: &Path, pattern: &str) -> bool {
    path.parent() == Path::new(pattern).parent()
}

fn source(path: &Path, index: usize) -> String {
    format!("{}:{index}", path.display())
}

fn emptied(path: &Path, index: usize) -> Group {
    Group {
        source: source(path, index),
        ..Group::default()
    }
}

/// Reads a file of targets.
pub fn read_file(path: &Path) -> Result<Vec<config::Static>, String> {
    let stamp = Stamp::of(path).map_err(|e| e.to_string())?;
    read(path, stamp)
}

fn read(path: &Path, stamp: Stamp) -> Result<Vec<config::Static>, String> {
    if stamp.size > MAX_SIZE {
        return Err(format!("larger than {MAX_SIZE} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    if extension.eq_ignore_ascii_case("json") {
        group::from_json(text.as_bytes())
    } else {
        group::from_yaml(&text)
    }
}
