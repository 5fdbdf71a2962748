//! The compactor's metrics, under Thanos' names.

use metrics::{Counter, Family, FloatGauge, Gauge, Histogram, Registry};
use model::Millis;

/// The compactor's metrics.
pub struct Meters {
    pub(crate) halted: Gauge,
    pub(crate) halted_groups: Gauge,
    pub(crate) retries: Counter,
    pub(crate) iterations: Counter,
    pub(crate) cleanups: Counter,
    pub(crate) partial_attempts: Counter,
    pub(crate) cleaned: Counter,
    pub(crate) cleanup_failures: Counter,
    pub(crate) marked: Family<Counter, 2>,
    pub(crate) garbage_blocks: Counter,
    pub(crate) garbage: Counter,
    pub(crate) garbage_failures: Counter,
    pub(crate) garbage_duration: Histogram,
    pub(crate) compactions: Family<Counter, 1>,
    pub(crate) runs_started: Family<Counter, 1>,
    pub(crate) runs_completed: Family<Counter, 1>,
    pub(crate) failures: Family<Counter, 1>,
    pub(crate) vertical: Family<Counter, 1>,
    pub(crate) outdated: Family<Counter, 1>,
    pub(crate) downsamples: Family<Counter, 1>,
    pub(crate) downsample_failures: Family<Counter, 1>,
    pub(crate) downsample_duration: Family<Histogram, 1>,
    pub(crate) todo_compactions: Gauge,
    pub(crate) todo_compaction_blocks: Gauge,
    pub(crate) todo_downsample_blocks: Gauge,
    pub(crate) todo_deletion_blocks: Gauge,
    pub(crate) read_bytes: Counter,
    pub(crate) claims_lost: Counter,
    pub(crate) delete_delay: FloatGauge,
}

/// What Thanos calls a resolution in labels of metrics.
pub fn resolution(ms: Millis) -> String {
    format!("{ms}")
}

impl Meters {
    /// Registers them.
    pub fn new(registry: &Registry) -> Result<Self, metrics::Error> {
        let counter = |name, help| registry.counter(name, help);
        let gauge = |name, help| registry.gauge(name, help);
        let by_resolution = |name, help| registry.counters(name, help, ["resolution"]);
        let meters = Self {
            halted: gauge(
                "thanos_compact_halted",
                "Set to 1 if the compactor halted due to an unexpected error. Here: if any group is set aside.",
            )?,
            halted_groups: gauge(
                "epimetheus_compact_halted_groups",
                "Number of groups that are set aside until somebody has looked at them.",
            )?,
            retries: counter(
                "thanos_compact_retries_total",
                "Total number of retries after retriable compactor error.",
            )?,
            iterations: counter(
                "thanos_compact_iterations_total",
                "Total number of iterations that were executed successfully.",
            )?,
            cleanups: counter(
                "thanos_compact_block_cleanup_loops_total",
                "Total number of concurrent cleanup loops of partially uploaded blocks and marked blocks that were executed successfully.",
            )?,
            partial_attempts: counter(
                "thanos_compact_aborted_partial_uploads_deletion_attempts_total",
                "Total number of started deletions of blocks that are assumed aborted and only partially uploaded.",
            )?,
            cleaned: counter(
                "thanos_compact_blocks_cleaned_total",
                "Total number of blocks deleted in compactor.",
            )?,
            cleanup_failures: counter(
                "thanos_compact_block_cleanup_failures_total",
                "Failures encountered while deleting blocks in compactor.",
            )?,
            marked: registry.counters(
                "thanos_compact_blocks_marked_total",
                "Total number of blocks marked in compactor.",
                ["marker", "reason"],
            )?,
            garbage_blocks: counter(
                "thanos_compact_garbage_collected_blocks_total",
                "Total number of blocks marked for deletion by compactor.",
            )?,
            garbage: counter(
                "thanos_compact_garbage_collection_total",
                "Total number of garbage collection operations.",
            )?,
            garbage_failures: counter(
                "thanos_compact_garbage_collection_failures_total",
                "Total number of failed garbage collection operations.",
            )?,
            garbage_duration: registry.histogram(
                "thanos_compact_garbage_collection_duration_seconds",
                "Time it took to perform garbage collection iteration.",
                &[
                    0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0, 240.0,
                    360.0, 720.0,
                ],
            )?,
            compactions: by_resolution(
                "thanos_compact_group_compactions_total",
                "Total number of group compaction attempts that resulted in a new block.",
            )?,
            runs_started: by_resolution(
                "thanos_compact_group_compaction_runs_started_total",
                "Total number of group compaction attempts.",
            )?,
            runs_completed: by_resolution(
                "thanos_compact_group_compaction_runs_completed_total",
                "Total number of group completed compaction runs. This also includes compactor group runs that resulted with no compaction.",
            )?,
            failures: by_resolution(
                "thanos_compact_group_compactions_failures_total",
                "Total number of failed group compactions.",
            )?,
            vertical: by_resolution(
                "thanos_compact_group_vertical_compactions_total",
                "Total number of group compaction attempts that resulted in a new block based on overlapping blocks.",
            )?,
            outdated: by_resolution(
                "epimetheus_compact_outdated_series_rewrites_total",
                "Total number of blocks that were written again without series whose retention is over.",
            )?,
            downsamples: by_resolution(
                "thanos_compact_downsample_total",
                "Total number of downsampling attempts.",
            )?,
            downsample_failures: by_resolution(
                "thanos_compact_downsample_failures_total",
                "Total number of failed downsampling attempts.",
            )?,
            downsample_duration: registry.histograms(
                "thanos_compact_downsample_duration_seconds",
                "Duration of downsample runs",
                ["resolution"],
                &[60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0],
            )?,
            todo_compactions: gauge(
                "thanos_compact_todo_compactions",
                "number of compactions to be done",
            )?,
            todo_compaction_blocks: gauge(
                "thanos_compact_todo_compaction_blocks",
                "number of blocks planned to be compacted",
            )?,
            todo_downsample_blocks: gauge(
                "thanos_compact_todo_downsample_blocks",
                "number of blocks to be downsampled",
            )?,
            todo_deletion_blocks: gauge(
                "thanos_compact_todo_deletion_blocks",
                "number of blocks that have crossed their retention period",
            )?,
            read_bytes: counter(
                "epimetheus_compact_read_chunk_bytes_total",
                "Bytes of chunks that compaction and downsampling have read through.",
            )?,
            claims_lost: counter(
                "epimetheus_compact_claims_lost_total",
                "Blocks that were made and given up because their claim had run out or somebody else was at work.",
            )?,
            delete_delay: registry.float_gauge(
                "thanos_delete_delay_seconds",
                "Configured delete delay in seconds.",
            )?,
        };
        for (marker, reason) in [
            ("deletion-mark.json", ""),
            ("no-compact-mark.json", "block-index-out-of-order-chunk"),
            ("no-compact-mark.json", "index-size-exceeding"),
            ("no-compact-mark.json", "downsample-vertical-compaction"),
        ] {
            meters.marked.with(&[marker, reason]);
        }
        Ok(meters)
    }
}
