//! The flags of `query`.

use crate::kingpin::{Flag, many, switch, switch_on, value};

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
        "PromQL query mode: local or distributed. In distributed mode endpoints that are queriers themselves evaluate aggregations over their part of the data.",
    ),
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
        "Maximum number of select requests made concurrently per a query: more wait until one of these has sent its first series.",
    ),
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
        "Labels that partition the leaf queriers in distributed mode; without any, all external labels do.",
    ),
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
    .accepted("the pages link to themselves, and alerts carry the URL that their rulers set"),
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
    .accepted("queriers whose data may overlap are not sent parts of queries; all of it is evaluated here"),
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
