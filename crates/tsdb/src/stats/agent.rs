//! What an agent counts, under Prometheus' names.

use std::sync::Arc;

use metrics::{Counter, Error, FloatGauge, Gauge, Registry, Summary};

use super::WalStats;

/// The instruments of an agent.
pub struct AgentStats {
    /// Series that are known.
    pub series: Gauge,
    /// Series that are forgotten, but may stand in the log.
    pub deleted: Gauge,
    /// Floats taken.
    pub floats: Counter,
    /// Native histograms taken.
    pub histograms: Counter,
    /// Exemplars taken.
    pub exemplars: Counter,
    /// Rejected: not newer than the series' newest.
    pub out_of_order: Counter,
    /// Time of one truncation, seconds.
    pub truncate: Summary,
    /// Damaged segments that were met.
    pub corruptions: Counter,
    /// Time of the replay, seconds.
    pub replay_seconds: FloatGauge,
    /// Checkpoints written.
    pub checkpoints: Counter,
    /// Checkpoints that failed.
    pub checkpoints_failed: Counter,
    /// Checkpoints deleted.
    pub checkpoint_deletions: Counter,
    /// Checkpoints that could not be deleted.
    pub checkpoint_deletions_failed: Counter,
    /// Segments that went although not all of them was sent.
    pub unsent: Counter,
    /// The log.
    pub wal: Arc<WalStats>,
}

impl AgentStats {
    /// Registers every instrument.
    pub fn new(r: &Registry) -> Result<Self, Error> {
        let samples = r.counters(
            "prometheus_agent_samples_appended_total",
            "Total number of samples appended to the storage",
            ["type"],
        )?;
        Ok(Self {
            series: r.gauge(
                "prometheus_agent_active_series",
                "Number of active series being tracked by the WAL storage",
            )?,
            deleted: r.gauge(
                "prometheus_agent_deleted_series",
                "Number of series pending deletion from the WAL",
            )?,
            floats: samples.with(&["float"]),
            histograms: samples.with(&["histogram"]),
            exemplars: r.counter(
                "prometheus_agent_exemplars_appended_total",
                "Total number of exemplars appended to the storage",
            )?,
            out_of_order: r.counter(
                "prometheus_agent_out_of_order_samples_total",
                "Total number of out of order samples ingestion failed attempts.",
            )?,
            truncate: r.summary(
                "prometheus_agent_truncate_duration_seconds",
                "Duration of WAL truncation.",
                &[],
            )?,
            corruptions: r.counter(
                "prometheus_agent_corruptions_total",
                "Total number of WAL corruptions.",
            )?,
            replay_seconds: r.float_gauge(
                "prometheus_agent_data_replay_duration_seconds",
                "Time taken to replay the data on disk.",
            )?,
            checkpoints: r.counter(
                "prometheus_agent_checkpoint_creations_total",
                "Total number of checkpoint creations attempted.",
            )?,
            checkpoints_failed: r.counter(
                "prometheus_agent_checkpoint_creations_failed_total",
                "Total number of checkpoint creations that failed.",
            )?,
            checkpoint_deletions: r.counter(
                "prometheus_agent_checkpoint_deletions_total",
                "Total number of checkpoint deletions attempted.",
            )?,
            checkpoint_deletions_failed: r.counter(
                "prometheus_agent_checkpoint_deletions_failed_total",
                "Total number of checkpoint deletions that failed.",
            )?,
            unsent: super::unsent(r)?,
            wal: Arc::new(WalStats::new(r, "prometheus_tsdb_wal_")?),
        })
    }
}

impl Default for AgentStats {
    /// Instruments that nobody reads, for tests.
    fn default() -> Self {
        Self::new(&Registry::new()).unwrap_or_else(|e| {
            unreachable!("names are valid and unique in an empty registry: {e}")
        })
    }
}
