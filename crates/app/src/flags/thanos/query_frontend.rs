//! The flags of `query-frontend`.

use crate::kingpin::{Flag, many, switch, switch_on, value};

const NO_SPLIT: &str = "queries are not split in this version";
const NO_CACHE: &str = "answers are not cached in this version";

/// `query-frontend`.
pub const QUERY_FRONTEND: &[Flag] = &[
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
