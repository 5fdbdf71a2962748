//! What is counted about local blocks: merging, retention, what was set aside and what was lost.

use metrics::{Counter, Error, Family, Gauge, Histogram, Registry};
use ulid::Ulid;

/// What the chunks of blocks cut from the head are like.
pub struct ChunkSizes {
    /// Bytes.
    bytes: Histogram,
    samples: Histogram,
    /// Seconds from the first sample to the last.
    range: Histogram,
}

impl ChunkSizes {
    fn new(r: &Registry) -> Result<Self, Error> {
        use metrics::exponential_buckets as buckets;
        Ok(Self {
            bytes: r.histogram(
                "prometheus_tsdb_compaction_chunk_size_bytes",
                "Final size of chunks on their first compaction",
                &buckets(32.0, 1.5, 12),
            )?,
            samples: r.histogram(
                "prometheus_tsdb_compaction_chunk_samples",
                "Final number of samples on their first compaction",
                &buckets(4.0, 1.5, 12),
            )?,
            range: r.histogram(
                "prometheus_tsdb_compaction_chunk_range_seconds",
                "Final time range of chunks on their first compaction",
                &buckets(100.0, 4.0, 10),
            )?,
        })
    }

    pub(crate) fn observe(&self, chunk: &block::Chunk<'_>) {
        self.bytes.observe(chunk.data.len() as f64);
        // Every encoding begins with the number of samples.
        if let [high, low, ..] = chunk.data {
            self.samples
                .observe(f64::from(u16::from_be_bytes([*high, *low])));
        }
        // Milliseconds, whatever the name says: so it is there.
        self.range.observe((chunk.max - chunk.min) as f64);
    }
}

/// The instruments of the local blocks.
pub struct Storage {
    /// Of the chunks of blocks cut from the head.
    pub chunks: ChunkSizes,
    /// Compactions (head cuts included).
    pub compactions: Counter,
    /// Compactions that failed.
    pub compactions_failed: Counter,
    /// Rounds in which there was something to do.
    pub compactions_triggered: Counter,
    /// Rounds that were not done because compacting is turned off.
    pub compactions_skipped: Counter,
    /// Compactions of overlapping blocks.
    pub vertical: Counter,
    /// 1 while a block is being written.
    pub populating: Gauge,
    /// Time of one compaction, seconds.
    pub compaction_seconds: Histogram,
    /// Time of one cleaning of tombstones, seconds.
    pub cleanup_seconds: Histogram,
    /// Blocks loaded.
    pub blocks: Gauge,
    /// Bytes of the blocks.
    pub bytes: Gauge,
    /// Bytes that the blocks' symbols take in memory.
    pub symbols: Gauge,
    /// Oldest timestamp stored, ms and seconds.
    pub lowest: (Gauge, Gauge),
    /// Reloads of the list of blocks.
    pub reloads: Counter,
    /// Reloads that failed.
    pub reloads_failed: Counter,
    /// Blocks deleted because they are too old.
    pub time_retentions: Counter,
    /// Blocks deleted because there were too many bytes.
    pub size_retentions: Counter,
    /// The limits of retention: seconds, bytes, percent.
    pub limits: (Gauge, Gauge, metrics::FloatGauge),
    /// Blocks that are set aside because they cannot be read.
    pub quarantined: Gauge,
    /// Blocks that are still to be shipped.
    pub unshipped: Gauge,
    /// Seconds since the oldest of them was made.
    pub unshipped_age: metrics::FloatGauge,
    /// Blocks beyond the retention that are kept because they are still to be shipped.
    pub held: Gauge,
    /// Blocks that a full disk took before they were shipped, each by its name.
    lost: Family<Gauge, 1>,
    lost_total: Counter,
}

impl Storage {
    pub(super) fn new(r: &Registry) -> Result<Self, Error> {
        Ok(Self {
            chunks: ChunkSizes::new(r)?,
            compactions: r.counter(
                "prometheus_tsdb_compactions_total",
                "Total number of compactions that were executed for the partition.",
            )?,
            compactions_failed: r.counter(
                "prometheus_tsdb_compactions_failed_total",
                "Total number of compactions that failed for the partition.",
            )?,
            compactions_triggered: r.counter(
                "prometheus_tsdb_compactions_triggered_total",
                "Total number of triggered compactions for the partition.",
            )?,
            compactions_skipped: r.counter(
                "prometheus_tsdb_compactions_skipped_total",
                "Total number of skipped compactions due to disabled auto compaction.",
            )?,
            vertical: r.counter(
                "prometheus_tsdb_vertical_compactions_total",
                "Total number of compactions done on overlapping blocks.",
            )?,
            populating: r.gauge(
                "prometheus_tsdb_compaction_populating_block",
                "Set to 1 when a block is currently being written to the disk.",
            )?,
            compaction_seconds: r.histogram(
                "prometheus_tsdb_compaction_duration_seconds",
                "Duration of compaction runs",
                &metrics::exponential_buckets(1.0, 2.0, 14),
            )?,
            cleanup_seconds: r.histogram(
                "prometheus_tsdb_tombstone_cleanup_seconds",
                "The time taken to recompact blocks to remove tombstones.",
                &metrics::exponential_buckets(1.0, 2.0, 14),
            )?,
            blocks: r.gauge(
                "prometheus_tsdb_blocks_loaded",
                "Number of currently loaded data blocks",
            )?,
            bytes: r.gauge(
                "prometheus_tsdb_storage_blocks_bytes",
                "The number of bytes that are currently used for local storage by all blocks.",
            )?,
            symbols: r.gauge(
                "prometheus_tsdb_symbol_table_size_bytes",
                "Size of symbol table in memory for loaded blocks",
            )?,
            lowest: (
                r.gauge(
                    "prometheus_tsdb_lowest_timestamp",
                    "Lowest timestamp value stored in the database. The unit is decided by the library consumer.",
                )?,
                r.gauge(
                    "prometheus_tsdb_lowest_timestamp_seconds",
                    "Lowest timestamp value stored in the database.",
                )?,
            ),
            reloads: r.counter(
                "prometheus_tsdb_reloads_total",
                "Number of times the database reloaded block data from disk.",
            )?,
            reloads_failed: r.counter(
                "prometheus_tsdb_reloads_failures_total",
                "Number of times the database failed to reloadBlocks block data from disk.",
            )?,
            time_retentions: r.counter(
                "prometheus_tsdb_time_retentions_total",
                "The number of times that blocks were deleted because the maximum time limit was exceeded.",
            )?,
            size_retentions: r.counter(
                "prometheus_tsdb_size_retentions_total",
                "The number of times that blocks were deleted because the maximum number of bytes was exceeded.",
            )?,
            limits: (
                r.gauge(
                    "prometheus_tsdb_retention_limit_seconds",
                    "How long to retain samples in storage.",
                )?,
                r.gauge(
                    "prometheus_tsdb_retention_limit_bytes",
                    "Max number of bytes to be retained in the tsdb blocks, configured 0 means disabled",
                )?,
                r.float_gauge(
                    "prometheus_tsdb_retention_limit_percentage",
                    "Max percentage of total storage space to be retained in the tsdb blocks, configured 0 means disabled",
                )?,
            ),
            quarantined: r.gauge(
                "epimetheus_tsdb_blocks_quarantined",
                "Number of blocks that are set aside because they cannot be read.",
            )?,
            unshipped: r.gauge(
                "epimetheus_tsdb_unshipped_blocks",
                "Number of local blocks that are still to be shipped.",
            )?,
            unshipped_age: r.float_gauge(
                "epimetheus_tsdb_oldest_unshipped_block_age_seconds",
                "Seconds since the oldest local block was made that is still to be shipped; 0 if there is none.",
            )?,
            held: r.gauge(
                "epimetheus_tsdb_retention_held_blocks",
                "Number of blocks beyond the retention that are kept because they are still to be shipped.",
            )?,
            lost: r.gauges(
                "epimetheus_tsdb_unshipped_block_deleted",
                "1 for each block that was deleted before it was shipped, because the disk was full.",
                ["block"],
            )?,
            lost_total: r.counter(
                "epimetheus_tsdb_unshipped_blocks_deleted_total",
                "Number of blocks that were deleted before they were shipped, because the disk was full.",
            )?,
        })
    }

    /// A full disk took a block that was not shipped.
    pub(crate) fn lost(&self, block: Ulid) {
        self.lost_total.inc();
        self.lost.with(&[&block.to_string()]).set(1);
    }
}
