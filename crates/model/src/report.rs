//! What rooms report about themselves: targets, metadata, rules, head statistics.
//!
//! Each report is a plain struct behind a one-method trait. The room that knows implements it,
//! `store` fans it out, `api` takes each as an option.

use std::sync::Arc;

use crate::{BoxFuture, Labels, Matcher, Millis, Str, TimeRange};

mod reports;
mod united;

pub use reports::{
    DEFAULT_TENANT, ExemplarsBySeries, MetadataByName, Own, Reported, Reports, Served,
    label_exemplars, label_rules, label_targets, without_external,
};

/// Knows the scrape targets.
pub trait Targets: Send + Sync {
    /// All targets as they are now.
    fn targets(&self) -> TargetsReport;
}

/// The scrape targets of a process.
#[derive(Clone, Debug, Default)]
pub struct TargetsReport {
    /// Those that are scraped.
    pub active: Vec<ActiveTarget>,
    /// Those that relabelling dropped (at most as many as are kept).
    pub dropped: Vec<DroppedTarget>,
    /// How many were dropped, by scrape pool.
    pub dropped_counts: Vec<(Str, usize)>,
}

/// A target that is scraped.
#[derive(Clone, Debug)]
pub struct ActiveTarget {
    /// Labels before relabelling.
    pub discovered_labels: Labels,
    /// Labels after it.
    pub labels: Labels,
    /// The job.
    pub scrape_pool: Str,
    /// The URL that is asked.
    pub scrape_url: String,
    /// The same with `localhost` replaced by the outside name.
    pub global_url: String,
    /// Error of the last scrape; empty when it worked.
    pub last_error: String,
    /// When it was, ms; 0 before the first.
    pub last_scrape: Millis,
    /// How long it took, seconds.
    pub last_duration: f64,
    /// How it went.
    pub health: Health,
    /// Interval, ms.
    pub interval: Millis,
    /// Timeout, ms.
    pub timeout: Millis,
}

/// A target that relabelling dropped.
#[derive(Clone, Debug)]
pub struct DroppedTarget {
    /// Labels before relabelling.
    pub discovered_labels: Labels,
    /// The job.
    pub scrape_pool: Str,
}

/// How the last scrape of a target went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// Not scraped yet.
    #[default]
    Unknown,
    /// It worked.
    Up,
    /// It failed.
    Down,
}

impl Health {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        }
    }
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the exposition formats' own words")]
pub enum MetricType {
    #[default]
    Unknown,
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
}

impl MetricType {
    /// The kind that is written so; anything else is unknown.
    pub fn named(text: &str) -> Self {
        use MetricType::*;
        [
            Counter,
            Gauge,
            Histogram,
            GaugeHistogram,
            Summary,
            Info,
            StateSet,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .unwrap_or_default()
    }

    /// As OpenMetrics and the API write it.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricType::Unknown => "unknown",
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::GaugeHistogram => "gaugehistogram",
            MetricType::Summary => "summary",
            MetricType::Info => "info",
            MetricType::StateSet => "stateset",
        }
    }
}

/// Type, help and unit of a metric.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Metadata {
    /// Its kind.
    pub kind: MetricType,
    /// Its description.
    pub help: Str,
    /// Its unit.
    pub unit: Str,
}

/// Knows type, help and unit of metrics.
pub trait MetadataReport: Send + Sync {
    /// Metadata by metric name, ascending; each different metadata once.
    fn metadata(&self, metric: Option<&str>) -> Vec<(Str, Vec<Metadata>)>;

    /// Metadata by target, for targets whose labels match.
    fn target_metadata(
        &self,
        matchers: &[Matcher],
        metric: Option<&str>,
    ) -> Vec<(Labels, Str, Metadata)>;
}

/// Knows the rules.
pub trait RulesReport: Send + Sync {
    /// All groups by file and name, as they are now.
    fn rule_groups(&self) -> Vec<RuleGroupStatus>;
}

/// Rules that are evaluated together.
#[derive(Clone, Debug)]
pub struct RuleGroupStatus {
    /// Its name, unique in the file.
    pub name: Str,
    /// The file.
    pub file: Str,
    /// How often it is evaluated, ms.
    pub interval: Millis,
    /// Most series or alerts of a rule; 0: any number.
    pub limit: usize,
    /// The rules in their order.
    pub rules: Vec<RuleStatus>,
    /// How long the last evaluation took, seconds.
    pub evaluation_time: f64,
    /// When it was, ms; 0 before the first.
    pub last_evaluation: Millis,
    /// Whether partial data is taken with a warning.
    pub partial_response: crate::scope::PartialResponse,
}

/// A rule and how its last evaluation went.
#[derive(Clone, Debug)]
pub struct RuleStatus {
    /// The metric or the alert.
    pub name: Str,
    /// The expression.
    pub query: String,
    /// Labels that it adds.
    pub labels: Labels,
    /// How it is.
    pub health: RuleHealth,
    /// Why the last evaluation failed; empty when it worked.
    pub last_error: String,
    /// How long it took, seconds.
    pub evaluation_time: f64,
    /// When it was, ms; 0 before the first.
    pub last_evaluation: Millis,
    /// What it does.
    pub kind: RuleKind,
}

/// What a rule does.
#[derive(Clone, Debug)]
pub enum RuleKind {
    /// It records series.
    Recording,
    /// It raises alerts.
    Alerting {
        /// The most urgent state of its alerts.
        state: AlertState,
        /// How long alerts are pending, ms.
        hold: Millis,
        /// How long they go on, ms.
        keep_firing_for: Millis,
        /// What people read, before it is filled in.
        annotations: Labels,
        /// Those that are pending or fire.
        alerts: Vec<AlertStatus>,
    },
}

/// An alert.
#[derive(Clone, Debug)]
pub struct AlertStatus {
    /// Who it is.
    pub labels: Labels,
    /// What people read.
    pub annotations: Labels,
    /// How it is.
    pub state: AlertState,
    /// Since when, ms.
    pub active_at: Millis,
    /// Since when it fires only because it is kept, ms.
    pub keep_firing_since: Option<Millis>,
    /// The value of its expression.
    pub value: f64,
}

/// How an alert is; the more urgent, the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertState {
    /// Not active.
    #[default]
    Inactive,
    /// Active for a shorter time than the rule wants.
    Pending,
    /// It fires.
    Firing,
}

impl AlertState {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            AlertState::Inactive => "inactive",
            AlertState::Pending => "pending",
            AlertState::Firing => "firing",
        }
    }
}

/// How the last evaluation of a rule went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RuleHealth {
    /// Not evaluated yet.
    #[default]
    Unknown,
    /// It worked.
    Good,
    /// It failed.
    Bad,
}

impl RuleHealth {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            RuleHealth::Unknown => "unknown",
            RuleHealth::Good => "ok",
            RuleHealth::Bad => "err",
        }
    }
}

/// Knows the Alertmanagers.
pub trait AlertmanagersReport: Send + Sync {
    /// URLs of those that are told, and of those that relabelling dropped.
    fn alertmanagers(&self) -> (Vec<String>, Vec<String>);
}

/// Knows exemplars.
pub trait ExemplarReport: Send + Sync {
    /// Exemplars of the series that match any of the matcher lists.
    fn exemplars(
        &self,
        matchers: Vec<Vec<Matcher>>,
        range: TimeRange,
    ) -> BoxFuture<'static, Vec<(Labels, Vec<crate::sink::Exemplar>)>>;
}

/// Knows how big the head is.
pub trait HeadReport: Send + Sync {
    /// Cardinality statistics, the `limit` biggest of each.
    fn head(&self, limit: usize) -> HeadStatistics;

    /// Blocks on the local disk, oldest first.
    fn local_blocks(&self) -> Vec<LocalBlock>;

    /// Blocks that do not answer any more though they should.
    fn absent_blocks(&self) -> AbsentBlocks {
        AbsentBlocks::default()
    }
}

/// Blocks that do not answer any more though they should.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AbsentBlocks {
    /// Those that are set aside because they cannot be read.
    pub quarantined: Vec<QuarantinedBlock>,
    /// Those that a full disk took before they were shipped, since the start; newest last.
    pub lost: Vec<LostBlock>,
}

/// A block that was set aside because it cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedBlock {
    /// Its folder's name.
    pub folder: String,
    /// What is wrong with it; empty if that was not written down.
    pub reason: String,
    /// When it was set aside, ms; 0 if that was not written down.
    pub since: Millis,
}

/// A block that a full disk took before it was shipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostBlock {
    /// Its ULID.
    pub ulid: Str,
    /// First timestamp, ms.
    pub min: Millis,
    /// The timestamp after the last, ms.
    pub max: Millis,
    /// When it was deleted, ms.
    pub at: Millis,
}

/// Cardinality of the head.
#[derive(Clone, Debug, Default)]
pub struct HeadStatistics {
    /// Active series.
    pub series: u64,
    /// Distinct label pairs.
    pub label_pairs: u64,
    /// Chunks in memory.
    pub chunks: u64,
    /// Oldest and newest sample, ms.
    pub range: Option<TimeRange>,
    /// Series by metric name.
    pub series_by_metric: Vec<(Str, u64)>,
    /// Values by label name.
    pub values_by_label: Vec<(Str, u64)>,
    /// Bytes of values by label name.
    pub bytes_by_label: Vec<(Str, u64)>,
    /// Series by label pair (`name=value`).
    pub series_by_pair: Vec<(Str, u64)>,
}

/// A block on the local disk.
#[derive(Clone, Debug)]
pub struct LocalBlock {
    /// Its ULID.
    pub ulid: Str,
    /// First and last+1 timestamp, ms, as `meta.json` gives them.
    pub min: Millis,
    /// Exclusive.
    pub max: Millis,
    /// Series, samples, chunks.
    pub counts: (u64, u64, u64),
    /// Compaction level.
    pub level: u32,
    /// The blocks cut from a head that it was made of: ULIDs.
    pub sources: Vec<Str>,
    /// Bytes on disk.
    pub bytes: u64,
    /// Whether it lies in the bucket too; none when nothing is shipped.
    pub shipped: Option<bool>,
}

/// Knows what lies in the bucket.
pub trait BucketReport: Send + Sync {
    /// The bucket as it was last seen.
    fn bucket(&self) -> BucketStatus;
}

/// The bucket as it was last seen.
#[derive(Clone, Debug, Default)]
pub struct BucketStatus {
    /// Which bucket, for people (`filesystem ./data/bucket`, `s3 metrics at minio:9000`); no secrets.
    pub location: String,
    /// Complete blocks, oldest first.
    pub blocks: Vec<BucketBlock>,
    /// Uploads that have no `meta.json` yet.
    pub partial: usize,
    /// When the blocks were last listed, ms; 0 before the first time.
    pub last_sync: Millis,
    /// Why the last listing or upload failed; empty when it worked.
    pub last_error: String,
    /// When the next block is due to be cut and shipped, ms, if this process ships.
    pub next_block_due: Option<Millis>,
}

/// A block in the bucket.
#[derive(Clone, Debug)]
pub struct BucketBlock {
    /// Its ULID.
    pub ulid: Str,
    /// First and last+1 timestamp, ms, as `meta.json` gives them.
    pub min: Millis,
    /// Exclusive.
    pub max: Millis,
    /// Series, samples, chunks.
    pub counts: (u64, u64, u64),
    /// Compaction level.
    pub level: u32,
    /// Downsampled resolution, ms; 0 for raw samples.
    pub resolution: Millis,
    /// Bytes in the bucket, if the block says.
    pub bytes: Option<u64>,
    /// External labels.
    pub labels: Labels,
    /// Who made it (`sidecar`, `compactor`, ...).
    pub source: Str,
}

/// Changes what is stored. Off unless the admin API is on.
pub trait Admin: Send + Sync {
    /// Marks samples as deleted.
    fn delete_series(
        &self,
        matchers: Vec<Matcher>,
        range: TimeRange,
    ) -> BoxFuture<'static, Result<(), crate::SourceError>>;

    /// Removes what was marked from disk.
    fn clean_tombstones(&self) -> BoxFuture<'static, Result<(), crate::SourceError>>;

    /// Writes a snapshot and returns its folder's name.
    fn snapshot(&self, skip_head: bool) -> BoxFuture<'static, Result<String, crate::SourceError>>;
}

/// A report that several rooms share.
pub type Shared<T> = Arc<T>;
