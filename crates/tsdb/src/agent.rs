//! The log alone, as Prometheus' agent has it: samples are written down until they have been sent on,
//! and never asked for.
//!
//! In memory stand the labels of each series and the time of its newest sample. From time to time the
//! older two thirds of the log make way for a checkpoint: what no reader of the log needs any more, or
//! what is older than the longest time that samples are kept.

mod append;
mod replay;
mod series;
#[cfg(test)]
mod tests;
mod truncate;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use model::time::{Clock, WallClock};
use model::{Appended, Batch, BoxFuture, Labels, Millis, SeriesRef, SeriesRows, Sink, SinkError};
use parking_lot::{Mutex, RwLock};

use crate::fs::{Fs, FsExt as _, OsFs};
use crate::head::Starts;
use crate::keeper::Keepers;
use crate::lock::Lock;
use crate::options::Readers;
use crate::wal::{Records, SyncMode, Wal, WalOptions};
use crate::{AgentStats, Error, OnProgress, Replayed};
use series::Table;
pub(crate) use truncate::last_to_go;

/// How an agent's log is opened and kept.
#[derive(Clone)]
pub struct AgentOptions {
    /// The log.
    pub wal: WalOptions,
    /// How often it is truncated; none: never by itself.
    pub truncate_every: Option<Duration>,
    /// So long a series stays after its newest sample was sent, ms.
    pub min_time: Millis,
    /// After this time a sample goes, sent or not, ms.
    pub max_time: Millis,
    /// Take the lock file.
    pub lock: bool,
    /// What is done with start timestamps.
    pub starts: Starts,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where it counts.
    pub stats: Arc<AgentStats>,
    /// Hears how far the replay is.
    pub progress: Option<OnProgress>,
    /// Files of the log.
    pub fs: Arc<dyn Fs>,
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self {
            wal: WalOptions::default(),
            truncate_every: Some(Duration::from_secs(2 * 3600)),
            min_time: 5 * 60_000,
            max_time: 4 * 3_600_000,
            lock: true,
            starts: Starts::Ignore,
            clock: Arc::new(WallClock),
            stats: Arc::default(),
            progress: None,
            fs: Arc::new(OsFs),
        }
    }
}

/// An agent's data folder, opened for writing by this process alone: `wal/` and nothing else.
pub struct Agent {
    // Dropped in this order: threads end first, the lock goes last.
    _keepers: Keepers,
    inner: Arc<Inner>,
    replayed: Replayed,
    _lock: Option<Lock>,
}

struct Inner {
    dir: PathBuf,
    options: AgentOptions,
    wal: Wal,
    /// Series, and the buffer that their records are made in.
    table: Mutex<(Table, Records)>,
    window: AtomicI64,
    readers: RwLock<Option<Arc<dyn Readers>>>,
    closed: AtomicBool,
    /// One truncation at a time.
    truncating: Mutex<()>,
}

impl Agent {
    /// Opens the data folder `dir`, creating it if need be, and reads the log.
    pub fn open(dir: impl Into<PathBuf>, options: AgentOptions) -> Result<Self, Error> {
        let dir = dir.into();
        let options = AgentOptions {
            // As Prometheus corrects them.
            max_time: options.max_time.max(options.min_time).max(
                options.truncate_every.map_or(0, |every| {
                    Millis::try_from(every.as_millis()).unwrap_or(Millis::MAX)
                }),
            ),
            ..options
        };
        let fs = Arc::clone(&options.fs);
        fs.create_dir_all(&dir)
            .map_err(Error::io("creating", &dir))?;
        let lock = options.lock.then(|| Lock::take(&fs, &dir)).transpose()?;
        let wal_dir = dir.join("wal");
        let mut table = Table::default();
        let replayed = replay::replay(&wal_dir, &mut table, &options)?;
        let wal = Wal::open(
            &wal_dir,
            options.wal.clone(),
            fs,
            Arc::clone(&options.stats.wal),
        )?;
        options.stats.series.set(table.len() as i64);
        let records = Records::new(options.wal.compression);
        let inner = Arc::new(Inner {
            dir,
            wal,
            table: Mutex::new((table, records)),
            window: AtomicI64::new(0),
            readers: RwLock::default(),
            closed: AtomicBool::new(false),
            truncating: Mutex::default(),
            options,
        });
        let mut keepers = Keepers::default();
        let sync_every = match inner.options.wal.sync {
            SyncMode::Interval(every) => every,
            SyncMode::Always => Duration::from_secs(1),
        };
        keepers.spawn("wal-sync", &inner, sync_every, |inner| {
            if let Err(e) = inner.wal.sync() {
                tracing::error!(error = %e, "the log could not be made power-safe");
            }
        });
        if let Some(every) = inner.options.truncate_every {
            keepers.spawn("wal-truncate", &inner, every, |inner| {
                if let Err(e) = inner.truncate() {
                    tracing::error!(error = %e, "the log could not be truncated");
                }
            });
        }
        Ok(Self {
            _keepers: keepers,
            inner,
            replayed,
            _lock: lock,
        })
    }

    /// The data folder.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// What the replay found.
    pub fn replayed(&self) -> &Replayed {
        &self.replayed
    }

    /// How far behind its series' newest a sample may be and still be taken, ms.
    pub fn set_out_of_order_window(&self, window: Millis) {
        self.inner.window.store(window.max(0), Ordering::Relaxed);
    }

    /// Who reads the log on: what they still need stays.
    pub fn set_readers(&self, readers: Arc<dyn Readers>) {
        *self.inner.readers.write() = Some(readers);
    }

    /// The references of these series, in order; new ones are made.
    pub fn resolve_now(&self, labels: &[Labels]) -> Result<Vec<SeriesRef>, SinkError> {
        self.inner.resolve(labels)
    }

    /// Appends a batch.
    pub fn append_now(&self, batch: Batch) -> Result<Appended, SinkError> {
        self.inner.append(batch)
    }

    /// Forgets series without samples of late and truncates the log, as the thread does from time to
    /// time.
    pub fn truncate(&self) -> Result<(), Error> {
        self.inner.truncate()
    }

    /// Refuses appends from now on, and makes the log power-safe.
    pub fn close(&self) -> Result<(), Error> {
        self.inner.closed.store(true, Ordering::Release);
        self.inner.wal.sync()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Err(e) = self.close() {
            tracing::error!(error = %e, "the log could not be synced");
        }
    }
}

impl Sink for Agent {
    fn resolve(&self, rows: SeriesRows) -> BoxFuture<'static, Result<Vec<SeriesRef>, SinkError>> {
        Box::pin(std::future::ready(self.resolve_now(&rows.labels)))
    }

    fn append(&self, batch: Batch) -> BoxFuture<'static, Result<Appended, SinkError>> {
        Box::pin(std::future::ready(self.append_now(batch)))
    }
}
