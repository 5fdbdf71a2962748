//! The flag tables of Thanos' programs. Names and defaults are Thanos'.

mod query;
mod query_frontend;
mod rule;
mod sidecar;
mod store;

use crate::kingpin::{Flag, many, optional, switch, value};

pub use query::{ENDPOINTS, QUERY};
pub use query_frontend::QUERY_FRONTEND;
pub use rule::RULE;
pub use sidecar::SIDECAR;
pub use store::STORE;

const NO_GO: &str = "there is no Go runtime; see --memory.limit";
const ALWAYS: &str = "it is always so";

/// HTTP.
pub const HTTP: &[Flag] = &[
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
];

/// What every program of Thanos takes.
pub const GLOBAL: &[Flag] = &[
    value(
        "tracing.config",
        "",
        "Tracing configuration in YAML: type OTLP, and how its collector is reached.",
    ),
    value(
        "tracing.config-file",
        "",
        "Path to YAML file with tracing configuration.",
    ),
    switch("enable-auto-gomemlimit", "Set Go's memory limit.").accepted(NO_GO),
    value(
        "auto-gomemlimit.ratio",
        "0.9",
        "Share of the memory limit for Go's runtime.",
    )
    .accepted(NO_GO),
    value("debug.name", "", "Name to add to log lines.").accepted("log lines carry no name"),
];

/// gRPC.
pub const GRPC: &[Flag] = &[
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
];

/// What is logged of requests.
pub const REQUESTS: &[Flag] = &[
    value(
        "request.logging-config",
        "",
        "YAML that says which requests are logged, in Thanos' format.",
    ),
    value(
        "request.logging-config-file",
        "",
        "Path to YAML that says which requests are logged.",
    ),
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

/// Shipping blocks.
pub const SHIPPER: &[Flag] = &[
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
