//! `prometheus_remote_storage_*`.

use metrics::{Counter, Family, FloatGauge, Gauge, Histogram, Registry};
use tsdb::wal::record::RecordKind;

/// The three kinds of things that are sent.
pub(super) const KINDS: [&str; 3] = ["samples", "exemplars", "histograms"];

/// The families, of all queues.
#[derive(Clone)]
pub(super) struct Families {
    highest: FloatGauge,
    sent: [Family<Counter, 2>; 3],
    failed: [Family<Counter, 2>; 3],
    retried: [Family<Counter, 2>; 3],
    dropped: [Family<Counter, 3>; 3],
    taken: [Family<Counter, 2>; 3],
    pending: [Family<Gauge, 2>; 3],
    metadata: Family<Counter, 2>,
    metadata_failed: Family<Counter, 2>,
    metadata_retried: Family<Counter, 2>,
    bytes: Family<Counter, 2>,
    metadata_bytes: Family<Counter, 2>,
    enqueue_retries: Family<Counter, 2>,
    durations: Family<Histogram, 2>,
    highest_sent: Family<FloatGauge, 2>,
    highest_read: Family<FloatGauge, 2>,
    segment: Family<Gauge, 1>,
    records: Family<Counter, 2>,
    unreadable: Family<Counter, 1>,
    shards: Family<Gauge, 2>,
    shards_max: Family<Gauge, 2>,
    shards_min: Family<Gauge, 2>,
    shards_desired: Family<FloatGauge, 2>,
    capacity: Family<Gauge, 2>,
    most: Family<Gauge, 2>,
}

/// Those of one queue.
#[derive(Clone)]
pub(super) struct Counters {
    name: String,
    url: String,
    families: Families,
    pub(super) highest: FloatGauge,
    pub(super) sent: [Counter; 3],
    pub(super) failed: [Counter; 3],
    pub(super) retried: [Counter; 3],
    pub(super) taken: [Counter; 3],
    pub(super) pending: [Gauge; 3],
    pub(super) metadata: Counter,
    pub(super) metadata_failed: Counter,
    pub(super) metadata_retried: Counter,
    pub(super) bytes: Counter,
    pub(super) metadata_bytes: Counter,
    pub(super) enqueue_retries: Counter,
    pub(super) durations: Histogram,
    pub(super) highest_sent: FloatGauge,
    /// Time of the newest sample that was read from the log.
    pub(super) highest_read: FloatGauge,
    /// The segment of the log that is being read.
    pub(super) segment: Gauge,
    /// Records of the log that could not be read to their end.
    pub(super) unreadable: Counter,
    pub(super) shards: Gauge,
    pub(super) shards_max: Gauge,
    pub(super) shards_min: Gauge,
    pub(super) shards_desired: FloatGauge,
    pub(super) capacity: Gauge,
    pub(super) most: Gauge,
}

const QUEUE: [&str; 2] = ["remote_name", "url"];

impl Families {
    pub(super) fn new(registry: &Registry) -> Result<Self, metrics::Error> {
        let full = |name: &str| format!("prometheus_remote_storage_{name}");
        let counter = |name: &str, help: &str| registry.counters(&full(name), help, QUEUE);
        let gauge = |name: &str, help: &str| registry.gauges(&full(name), help, QUEUE);
        let each = |name: &str, help: &str| -> Result<[Family<Counter, 2>; 3], metrics::Error> {
            let [a, b, c] = KINDS.map(|kind| {
                let help = help.replace("{}", kind);
                counter(&name.replace("{}", kind), &help)
            });
            Ok([a?, b?, c?])
        };
        let dropped = KINDS.map(|kind| {
            registry.counters(
                &full(&format!("{kind}_dropped_total")),
                &format!("Total number of {kind} which were dropped after being read from the WAL before being sent via remote write, either via relabelling, due to being too old or unintentionally because of an unknown reference ID."),
                ["remote_name", "url", "reason"],
            )
        });
        let pending = KINDS.map(|kind| {
            gauge(
                &format!("{kind}_pending"),
                &format!("The number of {kind} pending in the queues shards to be sent to the remote storage."),
            )
        });
        let [da, db, dc] = dropped;
        let [pa, pb, pc] = pending;
        Ok(Self {
            highest: registry.float_gauge(
                &full("highest_timestamp_in_seconds"),
                "Highest timestamp that has come into the remote storage via the Appender interface, in seconds since epoch. Initialized to 0 when no data has been received yet.",
            )?,
            sent: each("{}_total", "Total number of {} sent to remote storage.")?,
            failed: each("{}_failed_total", "Total number of {} which failed on send to remote storage, non-recoverable errors.")?,
            retried: each("{}_retried_total", "Total number of {} which failed on send to remote storage but were retried because the send error was recoverable.")?,
            dropped: [da?, db?, dc?],
            taken: each("{}_in_total", "{} in to remote storage, compare to {} out for queue managers.")?,
            pending: [pa?, pb?, pc?],
            metadata: counter("metadata_total", "Total number of metadata entries sent to remote storage.")?,
            metadata_failed: counter("metadata_failed_total", "Total number of metadata entries which failed on send to remote storage, non-recoverable errors.")?,
            metadata_retried: counter("metadata_retried_total", "Total number of metadata entries which failed on send to remote storage but were retried because the send error was recoverable.")?,
            bytes: counter("bytes_total", "The total number of bytes of data (not metadata) sent by the queue after compression.")?,
            metadata_bytes: counter("metadata_bytes_total", "The total number of bytes of metadata sent by the queue after compression.")?,
            enqueue_retries: counter("enqueue_retries_total", "Total number of times enqueue has failed because a shards queue was full.")?,
            durations: registry.histograms(
                &full("sent_batch_duration_seconds"),
                "Duration of send calls to the remote storage.",
                QUEUE,
                &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0],
            )?,
            highest_sent: registry.float_gauges(
                &full("queue_highest_sent_timestamp_seconds"),
                "Timestamp from a WAL sample, the highest timestamp successfully sent by this queue, in seconds since epoch. Initialized to 0 when no data has been sent yet.",
                QUEUE,
            )?,
            highest_read: registry.float_gauges(
                &full("queue_highest_timestamp_seconds"),
                "Timestamp of the newest sample that the queue has read from the WAL, in seconds since epoch.",
                QUEUE,
            )?,
            segment: registry.gauges(
                "prometheus_wal_watcher_current_segment",
                "Current segment the WAL watcher is reading records from.",
                ["consumer"],
            )?,
            records: registry.counters(
                "prometheus_wal_watcher_records_read_total",
                "Number of records read by the WAL watcher from the WAL.",
                ["consumer", "type"],
            )?,
            unreadable: registry.counters(
                "prometheus_wal_watcher_record_decode_failures_total",
                "Number of records read by the WAL watcher that resulted in an error when decoding.",
                ["consumer"],
            )?,
            shards: gauge("shards", "The number of shards used for parallel sending to the remote storage.")?,
            shards_max: gauge("shards_max", "The maximum number of shards that the queue is allowed to run.")?,
            shards_min: gauge("shards_min", "The minimum number of shards that the queue is allowed to run.")?,
            shards_desired: registry.float_gauges(
                &full("shards_desired"),
                "The number of shards that the queues shard calculation wants to run based on the rate of samples in vs. samples out.",
                QUEUE,
            )?,
            capacity: gauge("shard_capacity", "The capacity of each shard of the queue used for parallel sending to the remote storage.")?,
            most: gauge("max_samples_per_send", "The maximum number of samples to be sent, in a single request, to the remote storage. Note that, when sending of exemplars over remote write is enabled, exemplars count towards this limt.")?,
        })
    }

    /// Those of a queue.
    pub(super) fn of(&self, name: &str, url: &str) -> Counters {
        let queue = [name, url];
        let counters =
            |families: &[Family<Counter, 2>; 3]| families.each_ref().map(|f| f.with(&queue));
        Counters {
            name: name.to_owned(),
            url: url.to_owned(),
            families: self.clone(),
            highest: self.highest.clone(),
            sent: counters(&self.sent),
            failed: counters(&self.failed),
            retried: counters(&self.retried),
            taken: counters(&self.taken),
            pending: self.pending.each_ref().map(|f| f.with(&queue)),
            metadata: self.metadata.with(&queue),
            metadata_failed: self.metadata_failed.with(&queue),
            metadata_retried: self.metadata_retried.with(&queue),
            bytes: self.bytes.with(&queue),
            metadata_bytes: self.metadata_bytes.with(&queue),
            enqueue_retries: self.enqueue_retries.with(&queue),
            durations: self.durations.with(&queue),
            highest_sent: self.highest_sent.with(&queue),
            highest_read: self.highest_read.with(&queue),
            segment: self.segment.with(&[name]),
            unreadable: self.unreadable.with(&[name]),
            shards: self.shards.with(&queue),
            shards_max: self.shards_max.with(&queue),
            shards_min: self.shards_min.with(&queue),
            shards_desired: self.shards_desired.with(&queue),
            capacity: self.capacity.with(&queue),
            most: self.most.with(&queue),
        }
    }
}

impl Counters {
    /// Counts something that is not sent.
    pub(super) fn dropped(&self, kind: usize, reason: &str) {
        if let Some(family) = self.families.dropped.get(kind) {
            family.with(&[&self.name, &self.url, reason]).inc();
        }
    }

    /// Counts a record of the log that was read.
    pub(super) fn record(&self, kind: RecordKind) {
        let kind = match kind {
            RecordKind::Series => "series",
            RecordKind::Samples => "samples",
            RecordKind::SamplesV2 => "samples_v2",
            RecordKind::Tombstones => "tombstones",
            RecordKind::Exemplars => "exemplars",
            RecordKind::Metadata => "metadata",
            RecordKind::Histograms => "histogram_samples",
            RecordKind::Unknown(_) => "unknown",
        };
        self.families.records.with(&[&self.name, kind]).inc();
    }

    /// Takes the queue's metrics away.
    pub(super) fn forget(&self) {
        let queue = [self.name.as_str(), self.url.as_str()];
        let f = &self.families;
        for family in [&f.sent, &f.failed, &f.retried, &f.taken]
            .into_iter()
            .flatten()
        {
            family.remove(&queue);
        }
        for family in &f.dropped {
            family.retain(|values| *values[0] != *queue[0] || *values[1] != *queue[1]);
        }
        f.pending.iter().for_each(|g| g.remove(&queue));
        for family in [
            &f.metadata,
            &f.metadata_failed,
            &f.metadata_retried,
            &f.bytes,
            &f.metadata_bytes,
            &f.enqueue_retries,
        ] {
            family.remove(&queue);
        }
        f.durations.remove(&queue);
        f.highest_sent.remove(&queue);
        f.highest_read.remove(&queue);
        f.segment.remove(&[queue[0]]);
        f.records.retain(|[name, _]| **name != *queue[0]);
        f.unreadable.remove(&[queue[0]]);
        f.shards_desired.remove(&queue);
        for family in [
            &f.shards,
            &f.shards_max,
            &f.shards_min,
            &f.capacity,
            &f.most,
        ] {
            family.remove(&queue);
        }
    }
}
