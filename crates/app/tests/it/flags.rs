//! Holds `docs/flags.md` against the flag tables. `UPDATE_DOCS=1 cargo test -p app --test it` rewrites it.

use std::fmt::Write as _;
use std::path::Path;

use app::kingpin::{Flag, Kind, Standing};

use crate::peers;

fn page() -> String {
    let mut out = String::from(
        "# Flags\n\nNames and defaults are those of Prometheus and Thanos. A flag \"without effect\" is taken so that existing command lines start; giving it\nlogs one warning with the reason. A switch `--x` is turned off by `--no-x`; `@file` reads arguments from a file, one a line.\n",
    );
    for (role, tables) in [
        ("all-in-one", app::roles::all_in_one::FLAGS),
        ("server", app::roles::server::FLAGS),
        ("sidecar", app::roles::sidecar::FLAGS),
        ("store", app::roles::store::FLAGS),
        ("query", app::roles::query::FLAGS),
        ("compact", app::roles::compact::FLAGS),
        ("query-frontend", app::roles::query_frontend::FLAGS),
        ("rule", app::roles::rule::FLAGS),
    ] {
        let _ = write!(
            out,
            "\n## `epimetheus {role}`\n\n| flag | default | meaning |\n|---|---|---|\n"
        );
        let mut flags: Vec<&Flag> = tables.iter().copied().flatten().collect();
        flags.sort_by_key(|f| f.name);
        for flag in flags {
            let default = match flag.kind {
                Kind::Value(Some(d)) | Kind::Many(Some(d)) if !d.is_empty() => format!("`{d}`"),
                Kind::Switch(on) => if on { "on" } else { "off" }.to_owned(),
                _ => String::new(),
            };
            let note = match flag.standing {
                Standing::Works => String::new(),
                Standing::Accepted(why) => format!(" *Without effect: {why}.*"),
            };
            let help = flag.help.replace('|', "\\|");
            let _ = writeln!(out, "| `--{}` | {default} | {help}{note} |", flag.name);
        }
    }
    out
}

#[test]
fn the_page_of_flags_is_true() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/flags.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == page,
        "docs/flags.md is not what the tables say; run with UPDATE_DOCS=1"
    );
}

#[test]
fn no_flag_stands_twice() {
    for tables in [
        app::roles::all_in_one::FLAGS,
        app::roles::server::FLAGS,
        app::roles::sidecar::FLAGS,
        app::roles::store::FLAGS,
        app::roles::query::FLAGS,
        app::roles::compact::FLAGS,
        app::roles::query_frontend::FLAGS,
        app::roles::rule::FLAGS,
    ]
    .into_iter()
    .chain(app::tools::bucket::tables().map(|(_, tables)| tables))
    {
        let mut names: Vec<&str> = tables.iter().copied().flatten().map(|f| f.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|w| w[0] != w[1]), "{names:?}");
    }
}

/// What Thanos 0.43 takes for every component that serves HTTP, hidden flags included.
const COMMON: &str = "log.level log.format tracing.config tracing.config-file enable-auto-gomemlimit auto-gomemlimit.ratio debug.name http-address http-grace-period http.config request.logging-config request.logging-config-file web.disable-cors enable-feature";

/// And what it takes for `rule` besides.
const RULE: &str = "grpc-address grpc-grace-period grpc-server-tls-cert grpc-server-tls-key grpc-server-tls-client-ca grpc-server-tls-min-version grpc-server-tls-ciphers grpc-server-tls-curves grpc-server-max-connection-age label data-dir rule-file eval-interval rule-query-offset for-outage-tolerance for-grace-period resend-delay restore-ignored-label rule-concurrent-evaluation query query.config query.config-file query.sd-files query.sd-interval query.sd-dns-interval query.sd-dns-resolver query.http-method query.default-step query.only-prometheus-params query.enable-x-functions grpc-query-endpoint alertmanagers.url alertmanagers.config alertmanagers.config-file alertmanagers.send-timeout alertmanagers.sd-dns-interval alert.query-url alert.label-drop alert.relabel-config alert.relabel-config-file alert.query-template remote-write.config remote-write.config-file tsdb.block-duration tsdb.retention tsdb.no-lockfile tsdb.wal-compression tsdb.enable-native-histograms objstore.config objstore.config-file shipper.upload-compacted shipper.upload-concurrency shipper.meta-file-name shipper.ignore-unequal-block-size shipper.allow-out-of-order-uploads shipper.skip-corrupted-blocks hash-func web.route-prefix web.external-prefix web.prefix-header store.limits.request-series store.limits.request-samples";

/// And for `query-frontend`.
const QUERY_FRONTEND: &str = "query-frontend.downstream-url query-frontend.downstream-tripper-config query-frontend.downstream-tripper-config-file query-range.align-range-with-step query-range.request-downsampled query-range.split-interval query-range.min-split-interval query-range.max-split-interval query-range.horizontal-shards query-range.max-retries-per-request query.max-retries-per-request query-range.max-query-length query-range.max-query-parallelism query-range.response-cache-max-freshness query-range.partial-response query-range.response-cache-config query-range.response-cache-config-file labels.split-interval labels.max-retries-per-request labels.max-query-parallelism labels.response-cache-max-freshness labels.partial-response labels.default-time-range labels.response-cache-config labels.response-cache-config-file cache-compression-type query-frontend.compress-responses query-frontend.log-queries-longer-than query-frontend.force-query-stats query-frontend.slow-query-logs-user-header query-frontend.org-id-header query-frontend.forward-header query-frontend.tenant-header query-frontend.default-tenant-id query-frontend.tenant-certificate-field query-frontend.vertical-shards query-frontend.enable-x-functions";

#[test]
fn every_flag_of_thanos_is_taken() {
    for (role, tables, own) in [
        ("rule", app::roles::rule::FLAGS, RULE),
        (
            "query-frontend",
            app::roles::query_frontend::FLAGS,
            QUERY_FRONTEND,
        ),
    ] {
        let known: Vec<&str> = tables.iter().copied().flatten().map(|f| f.name).collect();
        let all = COMMON.split(' ').chain(own.split(' '));
        let missing: Vec<&str> = all.filter(|name| !known.contains(name)).collect();
        assert!(missing.is_empty(), "{role} does not take {missing:?}");
    }
}

#[test]
fn what_a_real_prometheus_takes_is_taken() {
    let Some(prometheus) = peers::prometheus3("what_a_real_prometheus_takes_is_taken") else {
        return;
    };
    let tables = app::roles::server::FLAGS;
    let known: Vec<&str> = tables.iter().copied().flatten().map(|f| f.name).collect();
    let taken = crate::thanos_flags::taken(&prometheus, &["--help"]);
    let missing: Vec<&String> = taken
        .iter()
        .filter(|n| !known.contains(&n.as_str()))
        .collect();
    assert!(taken.len() > 50 && missing.is_empty(), "{missing:?}");
}
