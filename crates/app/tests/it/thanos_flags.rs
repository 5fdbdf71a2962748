//! Holds `docs/thanos-flags.md`, the table of Thanos' flags and what becomes of each here.
//! `UPDATE_DOCS=1 cargo test -p app --test it` rewrites it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use app::kingpin::{Flag, Standing};

use crate::peers;

/// Flags of every Thanos role with HTTP and gRPC (0.39 to 0.43), hidden ones among them.
const COMMON: &str = "log.level log.format tracing.config tracing.config-file enable-auto-gomemlimit \
    auto-gomemlimit.ratio debug.name http-address http-grace-period http.config grpc-address \
    grpc-grace-period grpc-server-tls-cert grpc-server-tls-key grpc-server-tls-client-ca \
    grpc-server-tls-min-version grpc-server-tls-ciphers grpc-server-tls-curves \
    grpc-server-max-connection-age request.logging-config request.logging-config-file";

const SIDECAR: &str = "prometheus.url prometheus.ready_timeout prometheus.get_config_interval \
    prometheus.get_config_timeout prometheus.http-client prometheus.http-client-file tsdb.path \
    reloader.config-file reloader.config-envsubst-file reloader.rule-dir reloader.watch-interval \
    reloader.retry-interval reloader.method reloader.process-name objstore.config \
    objstore.config-file shipper.upload-compacted shipper.meta-file-name \
    shipper.upload-concurrency hash-func min-time store.limits.request-series \
    store.limits.request-samples shipper.ignore-unequal-block-size \
    shipper.allow-out-of-order-uploads shipper.skip-corrupted-blocks";

const STORE: &str = "data-dir cache-index-header index-cache-size index-cache.config \
    index-cache.config-file chunk-pool-size store.grpc.touched-series-limit \
    store.grpc.series-sample-limit store.grpc.downloaded-bytes-limit \
    store.grpc.series-max-concurrency store.limits.request-series store.limits.request-samples \
    objstore.config objstore.config-file objstore-parquet.config objstore-parquet.config-file \
    sync-block-duration block-discovery-strategy block-sync-concurrency \
    block-meta-fetch-concurrency min-time max-time selector.relabel-config \
    selector.relabel-config-file consistency-delay ignore-deletion-marks-delay \
    store.enable-index-header-lazy-reader store.enable-lazy-expanded-postings \
    store.posting-group-max-key-series-ratio store.index-header-lazy-download-strategy web.disable \
    web.external-prefix web.prefix-header web.disable-cors bucket-web-label matcher-cache-size \
    disable-admin-operations store.caching-bucket.config store.caching-bucket.config-file \
    debug.series-batch-size debug.estimated-max-series-size debug.estimated-max-chunk-size \
    store.index-header-posting-offsets-in-mem-sampling store.index-header-lazy-reader-idle-timeout";

const QUERY: &str = "web.route-prefix web.external-prefix web.prefix-header web.disable-cors \
    query.timeout query.promql-engine query.mode query.max-concurrent query.lookback-delta \
    query.max-concurrent-select query.conn-metric.label deduplication.func query.replica-label \
    query.partition-label query.enable-x-functions query.metadata.default-time-range \
    selector-label query.auto-downsampling query.partial-response query.active-query-path \
    enable-feature query.default-evaluation-interval query.default-step store.response-timeout \
    store.limits.request-series store.limits.request-samples selector.relabel-config \
    selector.relabel-config-file alert.query-url query.telemetry.request-duration-seconds-quantiles \
    query.telemetry.request-samples-quantiles query.telemetry.request-series-seconds-quantiles \
    query.tenant-header query.default-tenant-id query.tenant-certificate-field \
    query.enforce-tenancy query.tenant-label-name store.sd-dns-interval store.unhealthy-timeout \
    endpoint.sd-config endpoint.sd-config-file endpoint.sd-config-reload-interval endpoint \
    endpoint-group endpoint-strict endpoint-group-strict store.sd-files store.sd-interval \
    grpc-client-tls-secure grpc-client-tls-skip-verify grpc-client-tls-cert grpc-client-tls-key \
    grpc-client-tls-ca grpc-client-tls-min-version grpc-client-server-name grpc-compression \
    query.disable-fallback query.dynamic-lookback-delta \
    query.distributed-with-overlapping-interval query.instant.default.max_source_resolution \
    rule.partial-response target.partial-response metric-metadata.partial-response \
    exemplar.partial-response status.partial-response grpc.proxy-strategy \
    query.lazy-retrieval-max-buffered-responses store.sd-dns-resolver endpoint.info-timeout \
    inject-test-addresses store rule metadata exemplar target store-strict";

const RULE: &str = "web.route-prefix web.external-prefix web.prefix-header web.disable-cors \
    shipper.upload-compacted hash-func shipper.meta-file-name shipper.upload-concurrency \
    shipper.ignore-unequal-block-size query query.config query.config-file query.sd-files query.sd-interval \
    query.sd-dns-interval query.sd-dns-resolver query.http-method query.default-step \
    query.only-prometheus-params alertmanagers.config alertmanagers.config-file alertmanagers.url \
    alertmanagers.send-timeout alertmanagers.sd-dns-interval alert.query-url alert.label-drop \
    alert.relabel-config alert.relabel-config-file alert.query-template \
    store.limits.request-series store.limits.request-samples label tsdb.block-duration \
    tsdb.retention tsdb.no-lockfile tsdb.wal-compression data-dir rule-file resend-delay \
    eval-interval rule-query-offset for-outage-tolerance for-grace-period restore-ignored-label \
    rule-concurrent-evaluation grpc-query-endpoint query.enable-x-functions enable-feature \
    tsdb.enable-native-histograms remote-write.config remote-write.config-file objstore.config \
    objstore.config-file";

type Tables = &'static [&'static [Flag]];

fn roles() -> [(&'static str, &'static str, Tables); 4] {
    [
        ("sidecar", SIDECAR, app::roles::sidecar::FLAGS),
        ("store", STORE, app::roles::store::FLAGS),
        ("query", QUERY, app::roles::query::FLAGS),
        ("rule", RULE, app::roles::rule::FLAGS),
    ]
}

fn known(tables: Tables, name: &str) -> Option<&'static Flag> {
    tables.iter().copied().flatten().find(|f| f.name == name)
}

fn page() -> String {
    let mut out = String::from(
        "# Thanos' flags\n\nEvery flag of Thanos' roles, hidden ones and removed ones included, is taken. *works*: it does what it does there. *no effect*: it is\ntaken, and one warning says why nothing comes of it. An unknown flag ends the process with status 2 and the nearest name.\n",
    );
    for (role, own, tables) in roles() {
        let _ = write!(
            out,
            "\n## `thanos {role}` -> `epimetheus {role}`\n\n| flag | standing |\n|---|---|\n"
        );
        let names: BTreeSet<&str> = own
            .split_whitespace()
            .chain(COMMON.split_whitespace())
            .collect();
        for name in names {
            let standing = match known(tables, name).map(|f| (f.standing, f.help)) {
                None => "MISSING".to_owned(),
                Some((Standing::Accepted(why), _)) => format!("no effect: {why}"),
                Some((_, help)) if help.starts_with("Removed in Thanos: ") => {
                    format!(
                        "works, with a warning: r{}",
                        &help[1..].trim_end_matches('.')
                    )
                }
                Some(_) => "works".to_owned(),
            };
            let _ = writeln!(out, "| `--{name}` | {standing} |");
        }
    }
    out
}

#[test]
fn every_flag_of_thanos_has_its_standing() {
    for (role, own, tables) in roles() {
        let names = own.split_whitespace().chain(COMMON.split_whitespace());
        let missing: Vec<&str> = names.filter(|n| known(tables, n).is_none()).collect();
        assert!(missing.is_empty(), "{role}: {missing:?}");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/thanos-flags.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == page,
        "docs/thanos-flags.md is not what the tables say; run with UPDATE_DOCS=1"
    );
}

#[test]
fn what_a_real_thanos_takes_is_taken() {
    let Some(thanos) = peers::thanos("what_a_real_thanos_takes_is_taken") else {
        return;
    };
    for (role, _, tables) in roles() {
        let taken = taken(&thanos, &[role, "--help"]);
        for name in &taken {
            // Switches that are on by default are shown as what turns them off.
            let plain = name.strip_prefix("no-").unwrap_or(name);
            let found = known(tables, name).or_else(|| known(tables, plain));
            assert!(found.is_some(), "{role}: --{name}");
        }
        assert!(taken.len() > 20, "{role}: {taken:?}");
    }
}

/// The flags that the help of a program of Go lists.
pub(crate) fn taken(program: &Path, args: &[&str]) -> Vec<String> {
    let help = std::process::Command::new(program).args(args).output();
    let help = help.unwrap();
    let text =
        String::from_utf8_lossy(&help.stdout).into_owned() + &String::from_utf8_lossy(&help.stderr);
    let name = |line: &str| {
        // What stands further right is about the flags.
        let text = line.trim_start();
        if line.len() - text.len() > 6 {
            return None;
        }
        let flag = text.strip_prefix("-h, ").unwrap_or(text);
        let flag = flag.strip_prefix("--")?;
        let flag = flag.strip_prefix("[no-]").unwrap_or(flag);
        let end = flag.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)));
        let name = &flag[..end.unwrap_or(flag.len())];
        let own = ["", "help", "help-long", "help-man", "version"];
        (!own.contains(&name)).then(|| name.to_owned())
    };
    text.lines().filter_map(name).collect()
}
