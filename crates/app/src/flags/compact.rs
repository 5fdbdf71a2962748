//! The flag tables of Thanos' compactor and of its tools for buckets. Names and defaults are Thanos'.

use crate::kingpin::{Flag, many, switch, switch_on, value};

/// Which blocks are looked at.
pub const SELECT: &[Flag] = &[
    value(
        "min-time",
        "0000-01-01T00:00:00Z",
        "Start of time range limit: RFC 3339, or a duration before now (-1d). Blocks outside are left alone.",
    ),
    value(
        "max-time",
        "9999-12-31T23:59:59Z",
        "End of time range limit: RFC 3339, or a duration before now (-1d). Blocks outside are left alone.",
    ),
    value(
        "selector.relabel-config",
        "",
        "Relabelling that selects blocks by their external labels and __block_id, in YAML.",
    ),
    value(
        "selector.relabel-config-file",
        "",
        "Path to YAML with relabelling that selects blocks.",
    ),
];

/// How the bucket is listed.
pub const DISCOVERY: &[Flag] = &[
    value(
        "block-discovery-strategy",
        "concurrent",
        "How blocks are found: recursive (everything in one listing) or concurrent (the same, unless that takes more requests than the top folders and then a few for each block).",
    ),
    value(
        "block-meta-fetch-concurrency",
        "32",
        "Number of requests at once when fetching block metadata from object storage.",
    ),
];

/// How long blocks are kept.
pub const RETENTION: &[Flag] = &[
    value(
        "retention.resolution-raw",
        "0d",
        "How long to retain raw samples in bucket. Setting this to 0d will retain samples of this resolution forever.",
    ),
    value(
        "retention.resolution-5m",
        "0d",
        "How long to retain samples of resolution 1 (5 minutes) in bucket. Setting this to 0d will retain samples of this resolution forever.",
    ),
    value(
        "retention.resolution-1h",
        "0d",
        "How long to retain samples of resolution 2 (1 hour) in bucket. Setting this to 0d will retain samples of this resolution forever.",
    ),
    value(
        "retention.config",
        "",
        "YAML list of rules: selector (of blocks, by their external labels) or series (in such blocks), raw, 5m, 1h. The first rule that matches counts, then the flags.",
    ),
    value(
        "retention.config-file",
        "",
        "Path to YAML with rules for blocks by their external labels, and for series.",
    ),
    value(
        "delete-delay",
        "48h",
        "Time before a block marked for deletion is deleted from bucket. If it is non zero, blocks will be marked for deletion and the compactor will delete blocks marked for deletion from the bucket. If it is 0, blocks will be deleted straight away, which can cause query failures if a store has the block loaded.",
    ),
];

const DOWNSAMPLING: Flag = switch(
    "downsampling.disable",
    "Disables downsampling. This is not recommended as querying long time ranges without downsampled data is not efficient and useful.",
);

const CONCURRENCY: Flag = value("compact.concurrency", "1", "Number of compactions at once.");

/// The compactor beside everything else, in `all-in-one`.
pub const BESIDE: &[Flag] = &[
    switch_on(
        "compact",
        "Compact, downsample, retain and clean the blocks in the bucket that have the external labels of this process. --no-compact leaves that to a compactor elsewhere.",
    ),
    value(
        "compact.interval",
        "5m",
        "How often to look for blocks to compact.",
    ),
    CONCURRENCY,
    DOWNSAMPLING,
];

/// `compact`.
pub const COMPACT: &[Flag] = &[
    value(
        "data-dir",
        "./data",
        "Data directory in which indexes lie until their blocks are whole.",
    ),
    value(
        "consistency-delay",
        "30m",
        "Minimum age of fresh (non-compacted) blocks before they are being processed. Malformed blocks older than the maximum of consistency-delay and 48h0m0s will be removed.",
    ),
    switch(
        "wait",
        "Do not exit after all compactions have been processed and wait for new work.",
    )
    .short('w'),
    value(
        "wait-interval",
        "5m",
        "Wait interval between consecutive compaction runs and bucket refreshes. Only works when --wait flag specified.",
    ),
    DOWNSAMPLING,
    value(
        "block-files-concurrency",
        "1",
        "Number of files of a block that are fetched or uploaded at once.",
    )
    .accepted("blocks are read where they lie, a part ahead of need"),
    value(
        "block-viewer.global.sync-block-interval",
        "1m",
        "Repeat interval for syncing the blocks between local and remote view for /global Block Viewer UI.",
    ),
    value(
        "block-viewer.global.sync-block-timeout",
        "5m",
        "Maximum time for syncing the blocks between local and remote view for /global Block Viewer UI.",
    ),
    value(
        "compact.cleanup-interval",
        "5m",
        "How often we should clean up partially uploaded blocks and blocks with deletion mark in the background when --wait has been enabled. Setting it to \"0s\" disables it - the cleaning will only happen at the end of an iteration.",
    ),
    value(
        "compact.progress-interval",
        "5m",
        "Frequency of calculating the compaction progress in the background when --wait has been enabled. Setting it to \"0s\" disables it.",
    ),
    CONCURRENCY,
    value(
        "compact.blocks-fetch-concurrency",
        "1",
        "Number of blocks of a compaction that are downloaded at once.",
    )
    .accepted("blocks are read where they lie"),
    value(
        "compact.claim-duration",
        "2m",
        "How long a claim on blocks holds when its compactor does not extend it any more.",
    ),
    value(
        "downsample.concurrency",
        "1",
        "Number of downsamplings at once.",
    ),
    value(
        "deduplication.func",
        "",
        "How overlapping samples of replicas become one: \"\" keeps every timestamp once, penalty follows one replica and changes at gaps.",
    ),
    many(
        "deduplication.replica-label",
        "Label to treat as a replica indicator of blocks that can be deduplicated (repeated). It is removed from the blocks' external labels, and overlapping blocks are compacted.",
    ),
    value(
        "hash-func",
        "",
        "Specify which hash function to use when calculating the hashes of produced files: \"\" or SHA256.",
    ),
    switch("web.disable", "Disable Block Viewer UI."),
    value(
        "bucket-web-label",
        "",
        "External block label to use as group title in the bucket web UI.",
    ),
    switch(
        "disable-admin-operations",
        "Disable UI/API admin operations like marking blocks for deletion and no compaction.",
    ),
    switch_on(
        "debug.halt-on-error",
        "Set a group aside, with its reason, if its data is in the way. Without it the process ends.",
    ),
    switch(
        "debug.accept-malformed-index",
        "Compact blocks whose index has labels out of order.",
    )
    .accepted("labels out of order set their group aside"),
    value(
        "debug.max-compaction-level",
        "4",
        "Maximum compaction level, default is 4: 2h, 8h, 2d, 14d.",
    ),
    switch(
        "compact.enable-vertical-compaction",
        "Compact blocks that overlap. --deduplication.replica-label does that, too.",
    ),
    value(
        "compact.block-max-index-size",
        "64GB",
        "Maximum index size for the resulted block during any compaction. If the blocks of a compaction together would exceed it, the one with the largest index is marked as not to be compacted.",
    ),
    switch(
        "compact.skip-block-with-out-of-order-chunks",
        "Mark blocks with chunks out of order as not to be compacted. Without it their samples are put in order.",
    ),
];
