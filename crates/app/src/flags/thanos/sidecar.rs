//! The flags of `sidecar`.

use crate::kingpin::{Flag, many, switch, value};

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
    value(
        "min-time",
        "0000-01-01T00:00:00Z",
        "Start of time range limit to serve: RFC 3339, or a duration before now (-1d).",
    ),
    switch(
        "shipper.ignore-unequal-block-size",
        "If true the sidecar does not require Prometheus' min and max block size flags to be set to the same value.",
    ),
];
