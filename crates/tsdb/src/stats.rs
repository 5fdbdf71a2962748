//! What the database counts about itself, under Prometheus' names.

mod agent;
mod head;
mod storage;

use std::sync::Arc;

use metrics::{Counter, Error, Family, Gauge, Histogram, Registry, Summary};

use crate::wal::Compression;

pub use agent::AgentStats;
pub use head::{ChunkFileStats, ExemplarStats, HeadStats};
pub(crate) use storage::ChunkSizes;
pub use storage::Storage;

/// The instruments of one database.
pub struct Stats {
    /// The head, beyond what stands here.
    pub head: HeadStats,
    /// Exemplars.
    pub exemplars: Arc<ExemplarStats>,
    /// Files of finished chunks.
    pub chunk_files: Arc<ChunkFileStats>,
    /// Series that were created.
    pub series_created: Counter,
    /// Series that were dropped by garbage collection.
    pub series_removed: Counter,
    /// Asked for by a reference that no longer exists.
    pub series_not_found: Counter,
    /// Series in the head.
    pub series: Gauge,
    /// Chunks in the head.
    pub chunks: Gauge,
    /// Chunks that were begun.
    pub chunks_created: Counter,
    /// Chunks that were dropped.
    pub chunks_removed: Counter,
    /// Float samples taken.
    pub samples_appended: Counter,
    /// Rejected: older than the series' newest.
    pub out_of_order: Counter,
    /// Rejected: before what the head takes.
    pub out_of_bound: Counter,
    /// Rejected: too far in the future.
    pub far_future: Counter,
    /// Rejected: another value at the same time.
    pub duplicates: Counter,
    /// Batches being appended.
    pub active_appenders: Gauge,
    /// Oldest sample, ms.
    pub head_min: Gauge,
    /// Newest sample, ms.
    pub head_max: Gauge,
    /// Rounds of garbage collection.
    pub head_gc: Summary,
    /// Head truncations.
    pub head_truncations: Counter,
    /// Head truncations that failed.
    pub head_truncations_failed: Counter,
    /// The write-ahead log.
    pub wal: Arc<WalStats>,
    /// The log of out-of-order samples.
    pub wbl: Arc<WalStats>,
    /// Time of one truncation, seconds.
    pub wal_truncate: Summary,
    /// Damaged segments that were met.
    pub wal_corruptions: Counter,
    /// Checkpoints written.
    pub checkpoints: Counter,
    /// Checkpoints that failed.
    pub checkpoints_failed: Counter,
    /// Checkpoints deleted.
    pub checkpoint_deletions: Counter,
    /// Checkpoints that could not be deleted.
    pub checkpoint_deletions_failed: Counter,
    /// Out-of-order samples taken.
    pub ooo_appended: Counter,
    /// Batches that were refused as a whole because of a limit.
    pub appends_refused: Counter,
    /// Rejected: older than the out-of-order window.
    pub too_old: Counter,
    /// By how many seconds samples were behind the head's newest, taken or not.
    pub ooo_delta: Histogram,
    /// Samples in the out-of-order log whose series is not in the log.
    pub wbl_unknown_refs: Counter,
    /// Samples in the log whose series is not.
    pub replay_unknown_refs: Counter,
    /// Segments that went although not all of them was sent.
    pub unsent: Counter,
    /// Time of the replay, seconds.
    pub replay_seconds: metrics::FloatGauge,
    /// Local blocks.
    pub storage: Storage,
    /// Clean starts: 0 means the last stop was not clean.
    pub clean_start: Gauge,
}

impl Stats {
    /// Registers every instrument.
    pub fn new(r: &Registry) -> Result<Self, Error> {
        let float = |name, help| Ok::<_, Error>(r.counters(name, help, ["type"])?.with(&["float"]));
        Ok(Self {
            head: HeadStats::new(r)?,
            exemplars: Arc::new(ExemplarStats::new(r)?),
            chunk_files: Arc::new(ChunkFileStats::new(r)?),
            series_created: r.counter(
                "prometheus_tsdb_head_series_created_total",
                "Total number of series created in the head",
            )?,
            series_removed: r.counter(
                "prometheus_tsdb_head_series_removed_total",
                "Total number of series removed in the head",
            )?,
            series_not_found: r.counter(
                "prometheus_tsdb_head_series_not_found_total",
                "Total number of requests for series that were not found.",
            )?,
            series: r.gauge(
                "prometheus_tsdb_head_series",
                "Total number of series in the head block.",
            )?,
            chunks: r.gauge(
                "prometheus_tsdb_head_chunks",
                "Total number of chunks in the head block.",
            )?,
            chunks_created: r.counter(
                "prometheus_tsdb_head_chunks_created_total",
                "Total number of chunks created in the head",
            )?,
            chunks_removed: r.counter(
                "prometheus_tsdb_head_chunks_removed_total",
                "Total number of chunks removed in the head",
            )?,
            samples_appended: float(
                "prometheus_tsdb_head_samples_appended_total",
                "Total number of appended samples.",
            )?,
            out_of_order: float(
                "prometheus_tsdb_out_of_order_samples_total",
                "Total number of out of order samples ingestion failed attempts due to out of order being disabled.",
            )?,
            out_of_bound: float(
                "prometheus_tsdb_out_of_bound_samples_total",
                "Total number of out of bound samples ingestion failed attempts with out of order support disabled.",
            )?,
            appends_refused: r.counter(
                "epimetheus_tsdb_appends_refused_total",
                "Total number of batches that were refused because of a limit, before the WAL was written.",
            )?,
            far_future: float(
                "prometheus_tsdb_far_future_samples_total",
                "Total number of samples refused because their time was too far in the future.",
            )?,
            duplicates: float(
                "prometheus_tsdb_duplicate_samples_total",
                "Total number of samples refused because another value was there at that time.",
            )?,
            active_appenders: r.gauge(
                "prometheus_tsdb_head_active_appenders",
                "Number of currently active appender transactions",
            )?,
            head_min: r.gauge(
                "prometheus_tsdb_head_min_time",
                "Minimum time bound of the head block. The unit is decided by the library consumer.",
            )?,
            head_max: r.gauge(
                "prometheus_tsdb_head_max_time",
                "Maximum timestamp of the head block. The unit is decided by the library consumer.",
            )?,
            head_gc: r.summary(
                "prometheus_tsdb_head_gc_duration_seconds",
                "Runtime of garbage collection in the head block.",
                &[],
            )?,
            head_truncations: r.counter(
                "prometheus_tsdb_head_truncations_total",
                "Total number of head truncations attempted.",
            )?,
            head_truncations_failed: r.counter(
                "prometheus_tsdb_head_truncations_failed_total",
                "Total number of head truncations that failed.",
            )?,
            wal: Arc::new(WalStats::new(r, "prometheus_tsdb_wal_")?),
            wbl: Arc::new(WalStats::new(r, "prometheus_tsdb_out_of_order_wbl_")?),
            wal_truncate: r.summary(
                "prometheus_tsdb_wal_truncate_duration_seconds",
                "Duration of WAL truncation.",
                &[],
            )?,
            wal_corruptions: r.counter(
                "prometheus_tsdb_wal_corruptions_total",
                "Total number of WAL corruptions.",
            )?,
            checkpoints: r.counter(
                "prometheus_tsdb_checkpoint_creations_total",
                "Total number of checkpoint creations attempted.",
            )?,
            checkpoints_failed: r.counter(
                "prometheus_tsdb_checkpoint_creations_failed_total",
                "Total number of checkpoint creations that failed.",
            )?,
            checkpoint_deletions: r.counter(
                "prometheus_tsdb_checkpoint_deletions_total",
                "Total number of checkpoint deletions attempted.",
            )?,
            checkpoint_deletions_failed: r.counter(
                "prometheus_tsdb_checkpoint_deletions_failed_total",
                "Total number of checkpoint deletions that failed.",
            )?,
            ooo_appended: float(
                "prometheus_tsdb_head_out_of_order_samples_appended_total",
                "Total number of appended out of order samples.",
            )?,
            too_old: float(
                "prometheus_tsdb_too_old_samples_total",
                "Total number of out of order samples ingestion failed attempts with out of support enabled, but sample outside of time window.",
            )?,
            ooo_delta: r.histogram(
                "prometheus_tsdb_sample_ooo_delta",
                "Delta in seconds by which a sample is considered out of order (reported regardless of OOO time window and whether sample is accepted or not).",
                &[600.0, 1800.0, 3600.0, 7200.0, 10800.0, 21600.0, 43200.0],
            )?,
            wbl_unknown_refs: r
                .counters(
                    "prometheus_tsdb_wbl_replay_unknown_refs_total",
                    "Total number of unknown series references encountered during WBL replay.",
                    ["type"],
                )?
                .with(&["samples"]),
            replay_unknown_refs: r
                .counters(
                    "prometheus_tsdb_wal_replay_unknown_refs_total",
                    "Total number of unknown series references encountered during WAL replay.",
                    ["type"],
                )?
                .with(&["samples"]),
            unsent: unsent(r)?,
            replay_seconds: r.float_gauge(
                "prometheus_tsdb_data_replay_duration_seconds",
                "Time taken to replay the data on disk.",
            )?,
            storage: Storage::new(r)?,
            clean_start: r.gauge(
                "prometheus_tsdb_clean_start",
                "-1: lockfile is disabled. 0: a lockfile from a previous execution was replaced. 1: lockfile creation was clean",
            )?,
        })
    }
}

/// What a log of records counts about itself.
pub struct WalStats {
    /// Time of one fsync, seconds.
    pub fsync: Summary,
    /// Pages that were completed.
    pub pages: Counter,
    /// Writes, of one batch of records each.
    pub flushes: Counter,
    /// Fragments of records.
    pub parts: Counter,
    /// Bytes given to the kernel.
    pub part_bytes: Counter,
    /// Bytes that compression saved: snappy, zstd.
    saved: Family<Counter, 1>,
    /// Truncations.
    pub truncations: Counter,
    /// Truncations that failed.
    pub truncations_failed: Counter,
    /// Writes that failed.
    pub writes_failed: Counter,
    /// The segment that is written to.
    pub segment: Gauge,
    /// Bytes of all segments and checkpoints.
    pub bytes: Gauge,
}

/// Segments of the log that went unsent.
fn unsent(r: &Registry) -> Result<Counter, Error> {
    r.counter(
        "epimetheus_wal_segments_removed_unsent_total",
        "Segments of the WAL that were removed although remote write had not read them to their end.",
    )
}

impl WalStats {
    /// Registers every instrument under names that begin with `prefix`.
    fn new(r: &Registry, prefix: &str) -> Result<Self, Error> {
        let name = |rest: &str| format!("{prefix}{rest}");
        Ok(Self {
            fsync: r.summary(
                &name("fsync_duration_seconds"),
                "Duration of write log fsync.",
                &[0.5, 0.9, 0.99],
            )?,
            pages: r.counter(
                &name("completed_pages_total"),
                "Total number of completed pages.",
            )?,
            flushes: r.counter(
                &name("page_flushes_total"),
                "Total number of page flushes.",
            )?,
            parts: r.counter(
                &name("record_part_writes_total"),
                "Total number of record parts written before flushing.",
            )?,
            part_bytes: r.counter(
                &name("record_parts_bytes_written_total"),
                "Total number of record part bytes written before flushing, including CRC and compression headers.",
            )?,
            saved: r.counters(
                &name("record_bytes_saved_total"),
                "Total number of bytes saved by the optional record compression. Use this metric to learn about the effectiveness compression.",
                ["compression"],
            )?,
            truncations: r.counter(
                &name("truncations_total"),
                "Total number of write log truncations attempted.",
            )?,
            truncations_failed: r.counter(
                &name("truncations_failed_total"),
                "Total number of write log truncations that failed.",
            )?,
            writes_failed: r.counter(
                &name("writes_failed_total"),
                "Total number of write log writes that failed.",
            )?,
            segment: r.gauge(
                &name("segment_current"),
                "Write log segment index that TSDB is currently writing to.",
            )?,
            bytes: r.gauge(
                &name("storage_size_bytes"),
                "Size of the write log directory.",
            )?,
        })
    }

    /// Compression has saved so many bytes.
    pub(crate) fn saved(&self, compression: Compression, bytes: u64) {
        let name = match compression {
            Compression::None => return,
            Compression::Snappy => "snappy",
            Compression::Zstd => "zstd",
        };
        self.saved.with(&[name]).add(bytes);
    }
}

impl Default for WalStats {
    /// Instruments that nobody reads.
    fn default() -> Self {
        Self::new(&Registry::new(), "log_").unwrap_or_else(|e| {
            unreachable!("names are valid and unique in an empty registry: {e}")
        })
    }
}

impl Default for Stats {
    /// Instruments that nobody reads, for tools and tests.
    fn default() -> Self {
        Self::new(&Registry::new()).unwrap_or_else(|e| {
            unreachable!("names are valid and unique in an empty registry: {e}")
        })
    }
}
