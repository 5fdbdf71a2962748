//! The flag tables that roles share. Names and defaults are those of Prometheus and Thanos.

pub mod compact;
pub mod thanos;

use crate::kingpin::{Flag, many, many_or, optional, switch, switch_on, value};

/// Where HTTP is served.
pub const WEB: &[Flag] = &[
    many_or(
        "web.listen-address",
        "0.0.0.0:9090",
        "Address to listen on for UI, API, and telemetry. Can be repeated.",
    ),
    optional(
        "web.config.file",
        "Path to a configuration file that can enable TLS or authentication.",
    ),
    value(
        "web.read-timeout",
        "5m",
        "Maximum duration before timing out read of the request, and closing idle connections.",
    ),
    value(
        "web.max-connections",
        "512",
        "Maximum number of simultaneous connections across all listeners.",
    ),
    value(
        "web.max-notifications-subscribers",
        "16",
        "Limits the maximum number of subscribers that can concurrently receive live notifications.",
    ),
    optional(
        "web.external-url",
        "The URL under which this server is externally reachable (for example, if served via a reverse proxy).",
    ),
    optional(
        "web.route-prefix",
        "Prefix for the internal routes of web endpoints. Defaults to the path of --web.external-url.",
    ),
    value(
        "web.cors.origin",
        ".*",
        "Regex for CORS origin. It is fully anchored.",
    ),
    value(
        "web.page-title",
        "Epimetheus",
        "Document title of the web UI.",
    ),
    switch(
        "web.enable-lifecycle",
        "Enable shutdown and reload via HTTP request.",
    ),
    switch(
        "web.enable-admin-api",
        "Enable API endpoints for admin control actions.",
    ),
    switch(
        "web.enable-remote-write-receiver",
        "Enable API endpoint accepting remote write requests.",
    ),
    switch(
        "web.enable-otlp-receiver",
        "Enable API endpoint accepting OTLP write requests.",
    ),
    many(
        "web.remote-write-receiver.accepted-protobuf-messages",
        "Remote write protobuf messages to accept: prometheus.WriteRequest, io.prometheus.write.v2.Request. Both if none is given.",
    ),
    value(
        "web.user-assets",
        "",
        "Path to static asset directory, available at /user.",
    )
    .accepted("user assets are not served"),
    value(
        "web.console.templates",
        "consoles",
        "Path to the console template directory.",
    )
    .accepted("consoles are not served"),
    value(
        "web.console.libraries",
        "console_libraries",
        "Path to the console library directory.",
    )
    .accepted("consoles are not served"),
    value(
        "web.search.max-limit",
        "10000",
        "Largest limit that the search API (--enable-feature=search-api) takes; 0 for any.",
    ),
];

/// The head, its WAL and the local blocks, but for their path.
pub const STORAGE: &[Flag] = &[
    optional(
        "storage.tsdb.min-block-duration",
        "Shortest range of a block before it is persisted (2h).",
    ),
    optional(
        "storage.tsdb.max-block-duration",
        "Longest range of a block after compaction (10% of the retention, 31d at most; the shortest range with --shipper.upload-compacted).",
    ),
    optional(
        "storage.tsdb.retention",
        "Deprecated: use --storage.tsdb.retention.time.",
    ),
    optional(
        "storage.tsdb.retention.time",
        "How long to keep samples on the local disk (15d, unless a size is given). storage.tsdb.retention in the configuration file goes before it.",
    ),
    value(
        "storage.tsdb.retention.size",
        "0",
        "Largest number of bytes of local blocks; a unit is needed (512MB). 0: no limit. storage.tsdb.retention in the configuration file goes before it.",
    ),
    value(
        "storage.tsdb.delay-compact-file.path",
        "",
        "Path to a JSON file with uploaded blocks, such as thanos.shipper.json of a sidecar: blocks of level 1 are compacted only once they stand in it.",
    ),
    switch(
        "storage.tsdb.no-lockfile",
        "Do not create a lock file in the data directory.",
    ),
    switch_on("storage.tsdb.wal-compression", "Compress the WAL."),
    value(
        "storage.tsdb.wal-compression-type",
        "snappy",
        "Compression of the WAL: snappy or zstd.",
    ),
    value(
        "storage.tsdb.wal-segment-size",
        "128MB",
        "Size at which to split the WAL.",
    ),
    value(
        "storage.tsdb.wal-sync-interval",
        "1s",
        "How often the WAL is synced to disk, so that it survives a power loss. 'always' syncs before a write is acknowledged.",
    ),
    switch_on(
        "storage.tsdb.allow-overlapping-compaction",
        "Allow compaction of overlapping blocks.",
    ),
    switch(
        "storage.tsdb.allow-overlapping-blocks",
        "Allow overlapping blocks.",
    )
    .accepted("overlapping blocks are always allowed"),
    value(
        "storage.tsdb.head-chunks-write-queue-size",
        "0",
        "Size of the queue through which head chunks are written.",
    )
    .accepted("head chunks are kept in memory"),
    value(
        "storage.tsdb.samples-per-chunk",
        "120",
        "Target number of samples per chunk.",
    )
    .accepted("the number is fixed at 120"),
    optional(
        "storage.tsdb.max-block-chunk-segment-size",
        "Largest size of a segment of a block's chunks.",
    )
    .accepted("it is 512MB"),
    value(
        "storage.tsdb.block-reload-interval",
        "1m",
        "How often to look for new or removed blocks.",
    )
    .accepted("blocks that others put there are found at the next start"),
    value(
        "storage.tsdb.delayed-compaction.max-percent",
        "10",
        "Share of a block's range by which compaction may be delayed.",
    )
    .accepted("compaction is not delayed"),
    value(
        "storage.remote.flush-deadline",
        "1m",
        "How long to wait flushing samples on shutdown.",
    ),
    value(
        "storage.remote.read-sample-limit",
        "5e7",
        "Largest number of samples returned by remote read.",
    ),
    value(
        "storage.remote.read-concurrent-limit",
        "10",
        "Largest number of concurrent remote reads.",
    ),
    value(
        "storage.remote.read-max-bytes-in-frame",
        "1048576",
        "Largest number of bytes in a frame of streamed remote read.",
    ),
];

/// An agent's storage.
pub const AGENT: &[Flag] = &[
    value(
        "storage.agent.path",
        "data-agent/",
        "Base path for an agent's storage.",
    ),
    switch_on("storage.agent.wal-compression", "Compress the agent's WAL."),
    value(
        "storage.agent.wal-compression-type",
        "snappy",
        "Compression of the agent's WAL: snappy or zstd.",
    ),
    value(
        "storage.agent.wal-segment-size",
        "128MB",
        "Size at which to split the agent's WAL.",
    ),
    value(
        "storage.agent.wal-truncate-frequency",
        "2h",
        "How often to truncate the agent's WAL.",
    ),
    value(
        "storage.agent.retention.min-time",
        "5m",
        "Minimum age samples must have before they are deleted when the WAL is truncated.",
    ),
    value(
        "storage.agent.retention.max-time",
        "4h",
        "Age at which samples are deleted, whether they were sent or not.",
    ),
    switch(
        "storage.agent.no-lockfile",
        "Do not create a lock file in the agent's data directory.",
    ),
    switch(
        "storage.agent.checkpoint-from-in-memory-series",
        "Build checkpoints of the agent's WAL from memory alone.",
    )
    .accepted("a checkpoint is read from the log that it replaces"),
    value(
        "storage.agent.checkpoint-batch-size",
        "1000",
        "Series in a record of such a checkpoint.",
    )
    .accepted("a checkpoint is read from the log that it replaces"),
];

/// Queries.
pub const QUERY: &[Flag] = &[
    value(
        "query.lookback-delta",
        "5m",
        "The maximum lookback duration for retrieving metrics during expression evaluations.",
    ),
    value(
        "query.timeout",
        "2m",
        "Maximum time a query may take before being aborted.",
    ),
    value(
        "query.max-concurrency",
        "20",
        "Maximum number of queries executed concurrently.",
    ),
    value(
        "query.max-samples",
        "50000000",
        "Maximum number of samples a single query can load into memory.",
    ),
    switch(
        "query.enable-x-functions",
        "Whether to enable extended rate functions (xrate, xincrease and xdelta).",
    ),
];

/// Rules and alerts.
pub const RULES: &[Flag] = &[
    value(
        "rules.alert.for-outage-tolerance",
        "1h",
        "Max time to tolerate an outage for restoring 'for' state of an alert.",
    ),
    value(
        "rules.alert.for-grace-period",
        "10m",
        "Minimum duration between an alert and its restored 'for' state.",
    ),
    value(
        "rules.alert.resend-delay",
        "1m",
        "Minimum time to wait before resending an alert.",
    ),
    value(
        "rules.max-concurrent-evals",
        "4",
        "Global concurrency limit for independent rules that can run concurrently. When set, \"query.max-concurrency\" may need to be adjusted accordingly. Needs --enable-feature=concurrent-rule-eval.",
    ),
    value(
        "alertmanager.notification-queue-capacity",
        "10000",
        "Capacity of the queue of pending notifications.",
    ),
    value(
        "alertmanager.notification-batch-size",
        "256",
        "Most notifications in one request to an Alertmanager.",
    ),
    switch_on(
        "alertmanager.drain-notification-queue-on-shutdown",
        "Send all queued notifications before shutting down.",
    ),
    value("alertmanager.timeout", "10s", "Timeout for sending alerts.")
        .accepted("set timeout in the alertmanagers section"),
];

/// Scraping and discovery.
pub const SCRAPE: &[Flag] = &[
    switch_on(
        "scrape.adjust-timestamps",
        "Adjust scrape timestamps by up to --scrape.timestamp-tolerance to align them to the schedule.",
    ),
    value("scrape.timestamp-tolerance", "2ms", "Timestamp tolerance."),
    optional(
        "scrape.name-escaping-scheme",
        "How names are escaped that a target cannot send as UTF-8.",
    )
    .accepted("set metric_name_escaping_scheme in the configuration file"),
    value(
        "scrape.discovery-reload-interval",
        "5s",
        "Interval used by scrape manager to throttle target groups updates.",
    ),
    value(
        "discovery-reload-interval",
        "5s",
        "Interval used by scrape manager to throttle target groups updates.",
    )
    .accepted("use --scrape.discovery-reload-interval"),
];

/// Features and the configuration's handling.
pub const CONFIG: &[Flag] = &[
    many(
        "enable-feature",
        "Comma separated feature names to enable, named as Prometheus names them.",
    ),
    switch(
        "config.allow-unsupported",
        "Start although the configuration uses mechanisms that are not in this version; the rest runs, and a metric and a warning say what does not.",
    ),
    switch(
        "config.auto-reload",
        "Reload the configuration when its file, or one of rules or jobs that it names, changes.",
    ),
    value(
        "config.auto-reload-interval",
        "30s",
        "How often to look for changes of the configuration.",
    ),
    switch(
        "agent",
        "Run in agent mode: scrape, receive and send on; nothing is queried or evaluated.",
    ),
    value(
        "auto-gomemlimit.ratio",
        "0.9",
        "Share of the memory limit for Go's runtime.",
    )
    .accepted("there is no Go runtime; see --memory.limit"),
    value(
        "auto-gomemlimit.refresh-interval",
        "0s",
        "How often to look for a new memory limit.",
    )
    .accepted("there is no Go runtime; see --memory.limit"),
    switch_on("auto-gomemlimit", "Set Go's memory limit.")
        .accepted("there is no Go runtime; see --memory.limit"),
    switch_on("auto-gomaxprocs", "Set Go's processor limit.").accepted("there is no Go runtime"),
];

/// Object storage, as every Thanos component takes it.
pub const OBJSTORE: &[Flag] = &[
    optional(
        "objstore.config",
        "YAML that configures the object store (see --objstore.config-file).",
    ),
    optional(
        "objstore.config-file",
        "Path to YAML that configures the object store, in Thanos' format.",
    ),
    value(
        "shipper.sync-interval",
        "30s",
        "How often to look for blocks to ship.",
    ),
    switch(
        "shipper.upload-compacted",
        "Ship compacted blocks too. Useful for a history that was compacted locally.",
    ),
    value(
        "store.sync-interval",
        "30s",
        "How often to look for new blocks in the bucket.",
    ),
];

/// gRPC, as every Thanos component takes it; off unless an address is given.
pub const GRPC: &[Flag] = &[optional(
    "grpc-address",
    "Address to serve StoreAPI on, for a querier: 0.0.0.0:10901 where every component is asked. Off by default.",
)];
