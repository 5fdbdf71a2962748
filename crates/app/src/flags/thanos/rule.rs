//! The flags of `rule`.

use super::ALWAYS;
use crate::kingpin::{Flag, many, many_or, switch, switch_on, value};

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
        "shipper.ignore-unequal-block-size",
        "Ignore that blocks are of different sizes.",
    )
    .accepted("the ruler's own blocks are of one size"),
    many(
        "enable-feature",
        "Comma separated feature names to enable: promql-experimental-functions.",
    ),
    value("web.route-prefix", "", "Prefix for API and UI endpoints."),
];
