//! The flag tables of Thanos' roles. Names and defaults are Thanos'.

use crate::kingpin::{Flag, many, many_or, optional, switch, switch_on, value};

const NO_GO: &str = "there is no Go runtime; see --memory.limit";
const NO_TRACING: &str = "tracing is not in this version";
const NO_REQUEST_LOG: &str = "request logging is not in this version";
const ALWAYS: &str = "it is always so";

/// Every role that serves HTTP and gRPC.
pub const COMMON: &[Flag] = &[
    value(
        "http-address",
        "0.0.0.0:10902",
        "Listen host:port for HTTP endpoints.",
    ),
    value(
        "http-grace-period",
        "2m",
        "Time to wait after an interrupt received for HTTP Server.",
    ),
    value(
        "http.config",
        "",
        "Path to the configuration file that can enable TLS or authentication for all HTTP endpoints.",
    ),
    value(
        "grpc-address",
        "0.0.0.0:10901",
        "Listen ip:port address for gRPC endpoints (StoreAPI). Make sure this address is routable from other components.",
    ),
    value(
        "grpc-grace-period",
        "2m",
        "Time to wait after an interrupt received for GRPC Server.",
    ),
    value(
        "grpc-server-tls-cert",
        "",
        "TLS Certificate for gRPC server, leave blank to disable TLS.",
    ),
    value(
        "grpc-server-tls-key",
        "",
        "TLS Key for the gRPC server, leave blank to disable TLS.",
    ),
    value(
        "grpc-server-tls-client-ca",
        "",
        "TLS CA to verify clients against. If no client CA is specified, there is no client verification on server side.",
    ),
    value(
        "grpc-server-tls-min-version",
        "1.3",
        "TLS supported minimum version for gRPC server: 1.2 or 1.3.",
    ),
    many(
        "grpc-server-tls-ciphers",
        "Cipher suites of TLS 1.2, comma separated, by Go's names.",
    ),
    many(
        "grpc-server-tls-curves",
        "Curves, comma separated, by Go's names.",
    ),
    value(
        "grpc-server-max-connection-age",
        "60m",
        "The grpc server max connection age. This controls how often to re-establish connections and redo TLS handshakes.",
    ),
    value("tracing.config", "", "Tracing configuration in YAML.").accepted(NO_TRACING),
    value(
        "tracing.config-file",
        "",
        "Path to YAML file with tracing configuration.",
    )
    .accepted(NO_TRACING),
    value(
        "request.logging-config",
        "",
        "YAML that configures request logging.",
    )
    .accepted(NO_REQUEST_LOG),
    value(
        "request.logging-config-file",
        "",
        "Path to YAML that configures request logging.",
    )
    .accepted(NO_REQUEST_LOG),
    switch("enable-auto-gomemlimit", "Set Go's memory limit.").accepted(NO_GO),
    value(
        "auto-gomemlimit.ratio",
        "0.9",
        "Share of the memory limit for Go's runtime.",
    )
    .accepted(NO_GO),
    value("debug.name", "", "Name to add to log lines.").accepted("log lines carry no name"),
];

/// Limits of StoreAPI requests.
pub const LIMITS: &[Flag] = &[
    value(
        "store.limits.request-series",
        "0",
        "The maximum series allowed for a single Series request. 0 means no limit.",
    ),
    value(
        "store.limits.request-samples",
        "0",
        "The maximum samples allowed for a single Series request; each chunk counts as 120. 0 means no limit.",
    ),
];

/// The bucket.
pub const OBJSTORE: &[Flag] = &[
    optional(
        "objstore.config",
        "YAML that configures the object store, in Thanos' format (see --objstore.config-file).",
    ),
    optional(
        "objstore.config-file",
        "Path to YAML file that contains object store configuration.",
    ),
];

/// Pages.
pub const WEB: &[Flag] = &[
    value(
        "web.external-prefix",
        "",
        "Path under which browsers see the page, if a proxy strips it.",
    ),
    value(
        "web.prefix-header",
        "",
        "Name of HTTP request header used for dynamic prefixing of UI links and redirects. Ignored if --web.external-prefix is given.",
    ),
    switch("web.disable-cors", "Whether to disable CORS headers."),
];

/// `query`.
pub const QUERY: &[Flag] = &[
    value("web.route-prefix", "", "Prefix for API and UI endpoints."),
    value(
        "query.timeout",
        "2m",
        "Maximum time to process query by query node.",
    ),
    value(
        "query.promql-engine",
        "prometheus",
        "Default PromQL engine to use.",
    )
    .accepted("there is one engine"),
    value(
        "query.mode",
        "local",
        "PromQL query mode: local or distributed.",
    )
    .accepted("queries run here over the data of all stores"),
    value(
        "query.max-concurrent",
        "20",
        "Maximum number of queries processed concurrently by query node.",
    ),
    value(
        "query.lookback-delta",
        "5m",
        "The maximum lookback duration for retrieving metrics during expression evaluations.",
    ),
    switch_on(
        "query.dynamic-lookback-delta",
        "Allow for larger lookback duration for queries based on resolution.",
    ),
    value(
        "query.max-concurrent-select",
        "4",
        "Maximum number of select requests made concurrently per a query.",
    )
    .accepted("all selectors of a query are asked at once"),
    value(
        "query.max-samples",
        "50000000",
        "Maximum number of samples a single query can load into memory.",
    ),
    many(
        "query.conn-metric.label",
        "Optional selection of query connection metric labels.",
    )
    .accepted("the metric has no labels"),
    value(
        "deduplication.func",
        "penalty",
        "How replicas are deduplicated: penalty follows one replica and changes at gaps, chain unites all samples.",
    ),
    many(
        "query.replica-label",
        "Labels to treat as a replica indicator along which data is deduplicated. Still you will be able to query without deduplication using 'dedup=false' parameter. Can be repeated, or comma separated.",
    ),
    many(
        "query.partition-label",
        "Labels that partition the leaf queriers.",
    )
    .accepted("queries are not pushed down in this version"),
    switch(
        "query.enable-x-functions",
        "Whether to enable extended rate functions (xrate, xincrease and xdelta).",
    ),
    value(
        "query.metadata.default-time-range",
        "0s",
        "The default metadata time range duration for retrieving labels through Labels and Series API. The zero value means range covers the time since the beginning.",
    ),
    many(
        "selector-label",
        "Query selector labels that will be exposed in info endpoint (repeated), as name=\"value\".",
    )
    .accepted("the labels of the endpoints are what the info endpoint shows"),
    switch(
        "query.auto-downsampling",
        "Enable automatic adjustment (step / 5) to what source of data should be used in store gateways if no max_source_resolution param is specified.",
    ),
    value(
        "query.instant.default.max_source_resolution",
        "0s",
        "Default value for max_source_resolution of instant queries.",
    ),
    switch_on(
        "query.partial-response",
        "Enable partial response for queries if no partial_response param is specified.",
    ),
    switch_on(
        "rule.partial-response",
        "Enable partial response for rules endpoint.",
    ),
    switch_on(
        "target.partial-response",
        "Enable partial response for targets endpoint.",
    ),
    switch_on(
        "metric-metadata.partial-response",
        "Enable partial response for metric metadata endpoint.",
    ),
    switch_on(
        "exemplar.partial-response",
        "Enable partial response for exemplar endpoint.",
    ),
    switch_on(
        "status.partial-response",
        "Enable partial response for status endpoint.",
    ),
    value(
        "query.active-query-path",
        "",
        "Directory to log currently active queries in the queries.active file.",
    )
    .accepted("active queries are not written to a file"),
    many("enable-feature", "Comma separated feature names to enable."),
    value(
        "query.default-evaluation-interval",
        "1m",
        "Set default evaluation interval for sub queries.",
    ),
    value(
        "query.default-step",
        "1s",
        "Set default step for range queries. Default step is only used when step is not set in UI or API.",
    ),
    value(
        "store.response-timeout",
        "0ms",
        "If a Store doesn't send any data in this specified duration then a Store will be ignored and partial data will be returned if it's enabled. 0 disables timeout.",
    ),
    value(
        "selector.relabel-config",
        "",
        "Relabelling that selects stores by their labels.",
    ),
    value(
        "selector.relabel-config-file",
        "",
        "Path to relabelling that selects stores by their labels.",
    ),
    value(
        "alert.query-url",
        "",
        "The external Thanos Query URL that would be set in all alerts 'Source' field.",
    )
    .accepted("alerts are not in this version"),
    many(
        "query.telemetry.request-duration-seconds-quantiles",
        "The quantiles for exporting metrics about the request duration quantiles.",
    )
    .accepted("request metrics have fixed buckets"),
    many(
        "query.telemetry.request-samples-quantiles",
        "The quantiles for exporting metrics about the samples count quantiles.",
    )
    .accepted("request metrics have fixed buckets"),
    many(
        "query.telemetry.request-series-seconds-quantiles",
        "The quantiles for exporting metrics about the series count quantiles.",
    )
    .accepted("request metrics have fixed buckets"),
    value(
        "query.tenant-header",
        "THANOS-TENANT",
        "HTTP header to determine tenant.",
    ),
    value(
        "query.default-tenant-id",
        "default-tenant",
        "Default tenant ID to use if tenant header is not present.",
    ),
    value(
        "query.tenant-certificate-field",
        "",
        "Use TLS client's certificate field to determine the tenant: organization, organizationalUnit or commonName. Overrides --query.tenant-header.",
    ),
    switch(
        "query.enforce-tenancy",
        "Enforce tenancy on Query APIs. Responses are returned only if the label value of the configured tenant-label-name and the value of the tenant header matches.",
    ),
    value(
        "query.tenant-label-name",
        "tenant_id",
        "Label name to use when enforcing tenancy (if --query.enforce-tenancy is enabled).",
    ),
    switch("query.disable-fallback", "No other engine.").accepted("there is one engine"),
    switch(
        "query.distributed-with-overlapping-interval",
        "Allow overlapping leaf queriers.",
    )
    .accepted("queries are not pushed down in this version"),
    value(
        "grpc.proxy-strategy",
        "eager",
        "Strategy to use when proxying Series requests to leaf nodes.",
    )
    .accepted("answers are merged as they come"),
    value(
        "query.lazy-retrieval-max-buffered-responses",
        "20",
        "Responses held of each store.",
    )
    .accepted("answers are merged as they come"),
];

/// The endpoints of `query`.
pub const ENDPOINTS: &[Flag] = &[
    many(
        "endpoint",
        "Addresses of statically configured Thanos API servers (repeatable). The scheme may be prefixed with 'dns+', 'dnssrv+', 'dnssrvnoa+' or 'dnsdualstack+' to detect Thanos API servers through respective DNS lookups.",
    ),
    many(
        "endpoint-group",
        "DNS name of statically configured Thanos API server groups (repeatable): servers with equal data, of which one is asked.",
    ),
    many(
        "endpoint-strict",
        "Addresses of only statically configured Thanos API servers that are always used, even if the health check fails.",
    ),
    many(
        "endpoint-group-strict",
        "DNS name of statically configured Thanos API server groups that are always used, even if the health check fails.",
    ),
    many("store", "Removed in Thanos: use --endpoint."),
    many("rule", "Removed in Thanos: use --endpoint."),
    many("metadata", "Removed in Thanos: use --endpoint."),
    many("exemplar", "Removed in Thanos: use --endpoint."),
    many("target", "Removed in Thanos: use --endpoint."),
    many("store-strict", "Removed in Thanos: use --endpoint-strict."),
    value(
        "endpoint.sd-config",
        "",
        "Config with endpoint definitions, in YAML.",
    ),
    value(
        "endpoint.sd-config-file",
        "",
        "Path to YAML file with endpoint definitions.",
    ),
    value(
        "endpoint.sd-config-reload-interval",
        "5m",
        "Interval between endpoint config refreshes.",
    ),
    value(
        "endpoint.info-timeout",
        "5s",
        "Timeout of gRPC Info requests.",
    ),
    many(
        "store.sd-files",
        "Path to files that contain addresses of store API servers. The path can be a glob pattern (repeatable).",
    ),
    value(
        "store.sd-interval",
        "5m",
        "Refresh interval to re-read file SD files. It is used as a resync fallback.",
    ),
    value(
        "store.sd-dns-interval",
        "30s",
        "Interval between DNS resolutions.",
    ),
    value("store.sd-dns-resolver", "miekgdns", "Resolver to use.")
        .accepted("the resolver is built in"),
    value(
        "store.unhealthy-timeout",
        "5m",
        "Timeout before an unhealthy store is cleaned from the store UI page.",
    ),
    switch("inject-test-addresses", "For Thanos' own tests.").accepted("nothing is injected"),
    switch(
        "grpc-client-tls-secure",
        "Use TLS when talking to the gRPC server.",
    ),
    switch(
        "grpc-client-tls-skip-verify",
        "Disable TLS certificate verification i.e self signed, signed by fake CA.",
    ),
    value(
        "grpc-client-tls-cert",
        "",
        "TLS Certificates to use to identify this client to the server.",
    ),
    value(
        "grpc-client-tls-key",
        "",
        "TLS Key for the client's certificate.",
    ),
    value(
        "grpc-client-tls-ca",
        "",
        "TLS CA Certificates to use to verify gRPC servers.",
    ),
    value(
        "grpc-client-tls-min-version",
        "1.3",
        "TLS supported minimum version for gRPC client: 1.2 or 1.3.",
    ),
    value(
        "grpc-client-server-name",
        "",
        "Server name to verify the hostname on the returned gRPC certificates.",
    ),
    value(
        "grpc-compression",
        "none",
        "Compression algorithm to use for gRPC requests to other clients: none or snappy.",
    ),
];

/// `store`.
pub const STORE: &[Flag] = &[
    value("data-dir", "./data", "Local data directory used for caching purposes (index-headers and meta files). If removed, no data will be lost, just store will have to rebuild the cache."),
    switch_on("cache-index-header", "Cache index-headers in --data-dir."),
    value("index-cache-size", "250MB", "Maximum size of items held in memory: ranges of index and chunk files."),
    value("index-cache.config", "", "YAML that configures the index cache."),
    value("index-cache.config-file", "", "Path to YAML that configures the index cache."),
    value("store.caching-bucket.config", "", "YAML that configures the caching bucket."),
    value("store.caching-bucket.config-file", "", "Path to YAML that configures the caching bucket."),
    value("chunk-pool-size", "2GB", "Maximum size of concurrently allocatable bytes reserved strictly to reuse for chunks in memory.").accepted("see --memory.limit"),
    value("store.grpc.touched-series-limit", "0", "Deprecated: use --store.limits.request-series."),
    value("store.grpc.series-sample-limit", "0", "Deprecated: use --store.limits.request-samples."),
    value("store.grpc.downloaded-bytes-limit", "0", "Maximum amount of downloaded (either fetched or touched) bytes in a single Series, LabelNames or LabelValues call. 0 means no limit."),
    value("store.grpc.series-max-concurrency", "20", "Maximum number of concurrent Series calls."),
    value("objstore-parquet.config", "", "YAML of a bucket with parquet blocks.").accepted("parquet blocks are not read"),
    value("objstore-parquet.config-file", "", "Path to YAML of a bucket with parquet blocks.").accepted("parquet blocks are not read"),
    value("sync-block-duration", "15m", "Repeat interval for syncing the blocks between local and remote view."),
    value("block-discovery-strategy", "concurrent", "How blocks are found: concurrent or recursive."),
    value("block-sync-concurrency", "20", "Number of goroutines to use when constructing index-cache.json blocks from object storage.").accepted("index-headers are loaded when they are needed"),
    value("block-meta-fetch-concurrency", "32", "Number of requests at once when fetching block metadata from object storage."),
    value("min-time", "0000-01-01T00:00:00Z", "Start of time range limit to serve: RFC 3339, or a duration before now (-1d)."),
    value("max-time", "9999-12-31T23:59:59Z", "End of time range limit to serve: RFC 3339, or a duration before now (-1d)."),
    value("selector.relabel-config", "", "Relabelling that selects blocks by their external labels and __block_id, in YAML."),
    value("selector.relabel-config-file", "", "Path to YAML with relabelling that selects blocks."),
    value("consistency-delay", "0s", "Minimum age of all blocks before they are being read."),
    value("ignore-deletion-marks-delay", "24h", "Duration after which the blocks marked for deletion will be filtered out while fetching blocks."),
    switch("store.enable-index-header-lazy-reader", "Load index-headers when they are needed.").accepted(ALWAYS),
    switch("store.enable-lazy-expanded-postings", "Fetch series instead of long postings.").accepted("postings are planned by their size"),
    value("store.posting-group-max-key-series-ratio", "100", "Mark posting group as lazy if it fetches more keys than R * max series the query should fetch.").accepted("postings are planned by their size"),
    value("store.index-header-lazy-download-strategy", "eager", "When index-headers are downloaded.").accepted("index-headers are loaded when they are needed"),
    value("store.index-header-posting-offsets-in-mem-sampling", "32", "Every how many posting offsets are held in memory.").accepted("fixed"),
    value("store.index-header-lazy-reader-idle-timeout", "5m", "If an index-header was not used for so long, its memory is given back."),
    value("debug.series-batch-size", "10000", "Series in a batch.").accepted("fixed"),
    value("debug.estimated-max-series-size", "65536", "Estimated bytes of a series.").accepted("fixed"),
    value("debug.estimated-max-chunk-size", "16000", "Estimated bytes of a chunk.").accepted("fixed"),
    switch("web.disable", "Disable Block Viewer UI."),
    value("bucket-web-label", "", "External block label to use as group title in the bucket web UI.").accepted("the page has no groups"),
    value("matcher-cache-size", "0", "Max number of cached matchers items.").accepted("matchers are compiled once a query"),
    switch("disable-admin-operations", "Disable UI/API admin operations like marking blocks for deletion and no compaction."),
];

/// `sidecar`.
pub const SIDECAR: &[Flag] = &[
    value(
        "prometheus.url",
        "http://localhost:9090",
        "URL at which to reach Prometheus's API. For better performance use local network.",
    ),
    value(
        "prometheus.ready_timeout",
        "10m",
        "Maximum time to wait for the Prometheus instance to start up.",
    ),
    value(
        "prometheus.get_config_interval",
        "30s",
        "How often to get Prometheus config.",
    ),
    value(
        "prometheus.get_config_timeout",
        "30s",
        "Timeout for getting Prometheus config.",
    ),
    value(
        "prometheus.http-client",
        "",
        "YAML format config for the client that talks to Prometheus.",
    ),
    value(
        "prometheus.http-client-file",
        "",
        "Path to YAML file with config for the client that talks to Prometheus.",
    ),
    value("tsdb.path", "./data", "Data directory of TSDB."),
    value(
        "reloader.config-file",
        "",
        "Config file watched by the reloader.",
    ),
    value(
        "reloader.config-envsubst-file",
        "",
        "Output file for environment variable substituted config file.",
    ),
    many(
        "reloader.rule-dir",
        "Rule directories for the reloader to refresh (repeated field).",
    ),
    value(
        "reloader.watch-interval",
        "3m",
        "Controls how often reloader re-reads config and rules.",
    ),
    value(
        "reloader.retry-interval",
        "5s",
        "Controls how often reloader retries config reload in case of error.",
    ),
    value(
        "reloader.method",
        "http",
        "Method used to reload the configuration: http or signal.",
    ),
    value(
        "reloader.process-name",
        "prometheus",
        "Executable name used to match the process being reloaded when using the signal method.",
    ),
    switch(
        "shipper.upload-compacted",
        "If true shipper will try to upload compacted blocks as well. Useful for migration purposes.",
    ),
    value(
        "shipper.meta-file-name",
        "thanos.shipper.json",
        "The file to store shipper metadata in.",
    ),
    value(
        "shipper.upload-concurrency",
        "0",
        "Number of goroutines to use when uploading block files to object storage.",
    )
    .accepted("chosen by the uploader"),
    value(
        "hash-func",
        "",
        "Specify which hash function to use when calculating the hashes of produced files.",
    )
    .accepted("hashes are not written"),
    value(
        "min-time",
        "0000-01-01T00:00:00Z",
        "Start of time range limit to serve: RFC 3339, or a duration before now (-1d).",
    ),
    switch(
        "shipper.ignore-unequal-block-size",
        "If true the sidecar does not require Prometheus' min and max block size flags to be set to the same value.",
    ),
    switch(
        "shipper.allow-out-of-order-uploads",
        "Upload later blocks although an earlier one cannot be.",
    )
    .accepted("every block is tried"),
    switch("shipper.skip-corrupted-blocks", "Skip corrupted blocks.")
        .accepted("corrupted blocks are always set aside and named"),
    value(
        "shipper.sync-interval",
        "30s",
        "How often to look for blocks to ship.",
    ),
];

/// `rule`.
pub const RULE: &[Flag] = &[
    many(
        "label",
        "Labels to be applied to all generated metrics (repeated), as name=\"value\". Similar to external labels for Prometheus, used to identify ruler and its blocks as unique source.",
    ),
    value("data-dir", "data/", "Data directory: the database of what is recorded."),
    many_or(
        "rule-file",
        "rules/",
        "Rule files that should be used by rule manager. Can be in glob format (repeated). Note that rules are not automatically detected, use SIGHUP or do HTTP POST /-/reload to re-read them.",
    ),
    value(
        "resend-delay",
        "1m",
        "Minimum amount of time to wait before resending an alert to Alertmanager.",
    ),
    value("eval-interval", "1m", "The default evaluation interval to use."),
    value(
        "rule-query-offset",
        "0s",
        "The default rule group query_offset duration to use.",
    ),
    value(
        "for-outage-tolerance",
        "1h",
        "Max time to tolerate an outage for restoring \"for\" state of an alert.",
    ),
    value(
        "for-grace-period",
        "10m",
        "Minimum duration between alert and restored \"for\" state. This is maintained only for alerts with configured \"for\" time greater than grace period.",
    ),
    many(
        "restore-ignored-label",
        "Label names to be ignored when restoring alerts from the remote storage. This is only used in stateless mode.",
    ),
    value(
        "rule-concurrent-evaluation",
        "1",
        "How many independent rules can be evaluated concurrently. 1: the rules of a group follow each other.",
    ),
    many(
        "query",
        "Addresses of statically configured query API servers (repeatable). They may be prefixed with 'dns+', 'dnssrv+' or 'dnssrvnoa+' to detect query API servers through respective DNS lookups.",
    ),
    value(
        "query.config",
        "",
        "YAML that contains query API servers configuration. It takes the place of --query and --query.sd-files.",
    ),
    value(
        "query.config-file",
        "",
        "Path to YAML file that contains query API servers configuration. It takes the place of --query and --query.sd-files.",
    ),
    many(
        "query.sd-files",
        "Path to file that contains addresses of query API servers. The path can be a glob pattern (repeatable).",
    ),
    value(
        "query.sd-interval",
        "5m",
        "Refresh interval to re-read file SD files. (used as a fallback)",
    ),
    value("query.sd-dns-interval", "30s", "Interval between DNS resolutions."),
    value("query.sd-dns-resolver", "miekgdns", "Resolver to use.")
        .accepted("the resolver is built in"),
    value(
        "query.http-method",
        "POST",
        "HTTP method to use when sending queries: GET or POST.",
    ),
    value(
        "query.default-step",
        "1s",
        "Default range query step to use. This is only used in stateless Ruler and alert state restoration.",
    )
    .accepted("the state of alerts is restored with instant queries"),
    switch(
        "query.only-prometheus-params",
        "Disable adding Thanos parameters (e.g dedup, partial_response) when querying metrics. Some non-Thanos systems have strict API validation.",
    ),
    switch(
        "query.enable-x-functions",
        "Whether rules may use extended rate functions (xrate, xincrease and xdelta), which the queriers must know.",
    ),
    many(
        "grpc-query-endpoint",
        "Addresses of Thanos gRPC query API servers (repeatable). They may be prefixed with 'dns+', 'dnssrv+' or 'dnssrvnoa+'. They are asked if no server of --query answers; times are whole seconds there.",
    ),
    many(
        "alertmanagers.url",
        "Alertmanager replica URLs to push firing alerts (repeatable). The scheme may be prefixed with 'dns+', 'dnssrv+' or 'dnssrvnoa+' to detect Alertmanager IPs through respective DNS lookups. The port defaults to 9093 or the SRV record's value. The URL path is used as a prefix for the regular Alertmanager API path.",
    ),
    value(
        "alertmanagers.config",
        "",
        "YAML that contains alerting configuration. It takes the place of --alertmanagers.url and --alertmanagers.send-timeout.",
    ),
    value(
        "alertmanagers.config-file",
        "",
        "Path to YAML file that contains alerting configuration. It takes the place of --alertmanagers.url and --alertmanagers.send-timeout.",
    ),
    value(
        "alertmanagers.send-timeout",
        "10s",
        "Timeout for sending alerts to Alertmanager.",
    ),
    value(
        "alertmanagers.sd-dns-interval",
        "30s",
        "Interval between DNS resolutions of Alertmanager hosts.",
    ),
    value(
        "alert.query-url",
        "",
        "The external Thanos Query URL that would be set in all alerts 'Source' field.",
    ),
    many(
        "alert.label-drop",
        "Labels by name to drop before sending to alertmanager. This allows alert to be deduplicated on replica label (repeated).",
    ),
    value(
        "alert.relabel-config",
        "",
        "YAML that contains alert relabelling configuration.",
    ),
    value(
        "alert.relabel-config-file",
        "",
        "Path to YAML file that contains alert relabelling configuration.",
    ),
    value(
        "alert.query-template",
        "/graph?g0.expr={{.Expr}}&g0.tab=1",
        "Template to use in alerts source field. {{.Expr}} is the only action it may have.",
    ),
    value(
        "remote-write.config",
        "",
        "YAML config for the remote-write configurations, that specify servers where samples should be sent to (see https://prometheus.io/docs/prometheus/latest/configuration/configuration/#remote_write). This automatically enables stateless mode for the ruler and no series will be answered from its own database.",
    ),
    value(
        "remote-write.config-file",
        "",
        "Path to YAML config for the remote-write configurations, that specify servers where samples should be sent to. This automatically enables stateless mode for the ruler.",
    ),
    value("tsdb.block-duration", "2h", "Block duration for TSDB block."),
    value("tsdb.retention", "48h", "Block retention time on local disk."),
    switch(
        "tsdb.no-lockfile",
        "Do not create lockfile in TSDB data directory.",
    ),
    switch_on("tsdb.wal-compression", "Compress the tsdb WAL."),
    switch_on(
        "tsdb.enable-native-histograms",
        "Deprecated: the ingestion of native histograms is always enabled.",
    )
    .accepted(ALWAYS),
    switch(
        "shipper.upload-compacted",
        "If true shipper will try to upload compacted blocks as well. Useful for migration purposes.",
    ),
    value(
        "shipper.meta-file-name",
        "thanos.shipper.json",
        "The file to store shipper metadata in.",
    ),
    value(
        "shipper.upload-concurrency",
        "0",
        "Number of goroutines to use when uploading block files to object storage.",
    )
    .accepted("chosen by the uploader"),
    switch(
        "shipper.ignore-unequal-block-size",
        "Ignore that blocks are of different sizes.",
    )
    .accepted("the ruler's own blocks are of one size"),
    switch(
        "shipper.allow-out-of-order-uploads",
        "Upload later blocks although an earlier one cannot be.",
    )
    .accepted("every block is tried"),
    switch("shipper.skip-corrupted-blocks", "Skip corrupted blocks.")
        .accepted("corrupted blocks are always set aside and named"),
    value(
        "shipper.sync-interval",
        "30s",
        "How often to look for blocks to ship.",
    ),
    value(
        "hash-func",
        "",
        "Specify which hash function to use when calculating the hashes of produced files.",
    )
    .accepted("hashes are not written"),
    many(
        "enable-feature",
        "Comma separated feature names to enable: promql-experimental-functions.",
    ),
    value("web.route-prefix", "", "Prefix for API and UI endpoints."),
];

const NO_SPLIT: &str = "queries are not split in this version";
const NO_CACHE: &str = "answers are not cached in this version";

/// `query-frontend`.
pub const QUERY_FRONTEND: &[Flag] = &[
    value("http-address", "0.0.0.0:10902", "Listen host:port for HTTP endpoints."),
    value("http-grace-period", "2m", "Time to wait after an interrupt received for HTTP Server."),
    value("http.config", "", "Path to the configuration file that can enable TLS or authentication for all HTTP endpoints."),
    value("tracing.config", "", "Tracing configuration in YAML.").accepted(NO_TRACING),
    value("tracing.config-file", "", "Path to YAML file with tracing configuration.").accepted(NO_TRACING),
    value("request.logging-config", "", "YAML that configures request logging.").accepted(NO_REQUEST_LOG),
    value("request.logging-config-file", "", "Path to YAML that configures request logging.").accepted(NO_REQUEST_LOG),
    switch("enable-auto-gomemlimit", "Set Go's memory limit.").accepted(NO_GO),
    value("auto-gomemlimit.ratio", "0.9", "Share of the memory limit for Go's runtime.").accepted(NO_GO),
    value("debug.name", "", "Name to add to log lines.").accepted("log lines carry no name"),
    switch("web.disable-cors", "Whether to take CORS headers out of answers."),
    value("query-frontend.downstream-url", "http://localhost:9090", "URL of downstream Prometheus Query compatible API."),
    value("query-frontend.downstream-tripper-config", "", "YAML that contains downstream tripper configuration: tls_config and response_header_timeout are obeyed."),
    value("query-frontend.downstream-tripper-config-file", "", "Path to YAML file that contains downstream tripper configuration: tls_config and response_header_timeout are obeyed."),
    switch_on("query-range.align-range-with-step", "Mutate incoming queries to align their start and end with their step for better cache-ability. Note: Grafana dashboards do that by default."),
    switch_on("query-range.request-downsampled", "Make additional query for downsampled data in case of empty or incomplete response to range request.").accepted("the querier is asked once"),
    value("query-range.split-interval", "24h", "Split query range requests by an interval and execute in parallel.").accepted(NO_SPLIT),
    value("query-range.min-split-interval", "0", "Split query range requests above this interval in query-range.horizontal-shards requests of equal range.").accepted(NO_SPLIT),
    value("query-range.max-split-interval", "0", "Split query range below this interval in query-range.horizontal-shards.").accepted(NO_SPLIT),
    value("query-range.horizontal-shards", "0", "Split queries in this many requests when query duration is below query-range.max-split-interval.").accepted(NO_SPLIT),
    value("query-range.max-retries-per-request", "5", "Maximum number of tries for a single query range request; beyond this, the downstream error is returned."),
    value("query.max-retries-per-request", "5", "Maximum number of tries for a single instant query request; beyond this, the downstream error is returned."),
    value("query-range.max-query-length", "0", "Limit the query time range (end - start time) in the query-frontend, 0 disables it."),
    value("query-range.max-query-parallelism", "14", "Maximum number of query range requests will be scheduled in parallel by the Frontend.").accepted(NO_SPLIT),
    value("query-range.response-cache-max-freshness", "1m", "Most recent allowed cacheable result for query range requests.").accepted(NO_CACHE),
    switch_on("query-range.partial-response", "Enable partial response for queries if no partial_response param is specified."),
    value("query-range.response-cache-config", "", "YAML that contains response cache configuration.").accepted(NO_CACHE),
    value("query-range.response-cache-config-file", "", "Path to YAML file that contains response cache configuration.").accepted(NO_CACHE),
    value("labels.split-interval", "24h", "Split labels requests by an interval and execute in parallel.").accepted(NO_SPLIT),
    value("labels.max-retries-per-request", "5", "Maximum number of tries for a single label/series API request; beyond this, the downstream error is returned."),
    value("labels.max-query-parallelism", "14", "Maximum number of labels requests will be scheduled in parallel by the Frontend.").accepted(NO_SPLIT),
    value("labels.response-cache-max-freshness", "1m", "Most recent allowed cacheable result for labels requests.").accepted(NO_CACHE),
    switch_on("labels.partial-response", "Enable partial response for labels requests if no partial_response param is specified."),
    value("labels.default-time-range", "24h", "The default metadata time range duration for retrieving labels through Labels and Series API when the range parameters are not specified."),
    value("labels.response-cache-config", "", "YAML that contains response cache configuration.").accepted(NO_CACHE),
    value("labels.response-cache-config-file", "", "Path to YAML file that contains response cache configuration.").accepted(NO_CACHE),
    value("cache-compression-type", "", "Use compression in results cache.").accepted(NO_CACHE),
    switch("query-frontend.compress-responses", "Compress HTTP responses.").accepted("answers are compressed for whoever takes that"),
    value("query-frontend.log-queries-longer-than", "0", "Log queries that are slower than the specified duration. Set to 0 to disable. Set to < 0 to enable on all queries."),
    switch("query-frontend.force-query-stats", "Asks for statistics with every query, and logs every query."),
    value("query-frontend.slow-query-logs-user-header", "", "Set the value of the field remote_user in the slow query logs to the value of the given HTTP header. Falls back to reading the user from the basic auth header."),
    many("query-frontend.org-id-header", "Request header names used to identify the source of slow queries (repeated flag). The first that is there stands in the field org_id of the slow query log; 'anonymous' without one."),
    many("query-frontend.forward-header", "List of headers forwarded by the query-frontend to downstream queriers.").accepted("all headers of a request are forwarded"),
    value("query-frontend.tenant-header", "THANOS-TENANT", "HTTP header to determine tenant; it goes on as THANOS-TENANT."),
    value("query-frontend.default-tenant-id", "default-tenant", "Default tenant ID to use if tenant header is not present.").accepted("the querier has a default of its own"),
    value("query-frontend.tenant-certificate-field", "", "Use TLS client's certificate field to determine tenant for requests.").accepted("tenants come from the header in this version"),
    value("query-frontend.vertical-shards", "0", "Number of shards to use when distributing shardable PromQL queries.").accepted(NO_SPLIT),
    switch("query-frontend.enable-x-functions", "Enable experimental x-functions in query-frontend.").accepted("expressions are the querier's affair"),
    many("enable-feature", "Comma separated feature names to enable.").accepted("expressions are the querier's affair"),
];
