//! The commands, and which code each runs.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::kingpin::{Flag, Typed, register};
use crate::roles::{all_in_one, query, query_frontend, rule, server, sidecar, store};
use crate::tools;

/// Roles and tools that stand in the plan, but not in this version.
const PLANNED: &[(&str, &str)] = &[
    ("compact", "Compact, downsample, retain and clean a bucket"),
    ("receive", "Take remote write and OTLP"),
];

/// The whole command line.
pub fn command() -> Command {
    let mut command = Command::new("epimetheus")
        .about("Hindsight for Prometheus: scrape, store, ship, query - forever, in one binary")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(role(
            "all-in-one",
            "Everything in one process over a local folder",
            all_in_one::FLAGS,
        ))
        .subcommand(role(
            "server",
            "Scrape, store and answer, with Prometheus' flags and prometheus.yml",
            server::FLAGS,
        ))
        .subcommand(role(
            "sidecar",
            "StoreAPI and block shipping beside a real Prometheus, with Thanos' flags",
            sidecar::FLAGS,
        ))
        .subcommand(role(
            "store",
            "StoreAPI over the blocks in a bucket, with Thanos' flags",
            store::FLAGS,
        ))
        .subcommand(role(
            "query",
            "PromQL over many stores, with Thanos' flags",
            query::FLAGS,
        ))
        .subcommand(role(
            "query-frontend",
            "A proxy in front of a querier that limits and retries, with Thanos' flags",
            query_frontend::FLAGS,
        ))
        .subcommand(role(
            "rule",
            "Recording and alerting rules over queriers, with Thanos' flags",
            rule::FLAGS,
        ))
        .subcommand(tools::command());
    for (name, about) in PLANNED {
        command = command.subcommand(planned(name, about));
    }
    command
}

fn role(name: &'static str, about: &'static str, flags: &[&[Flag]]) -> Command {
    register(Command::new(name).about(about), flags)
}

/// A command that takes whatever is typed and says that it is not there yet.
pub fn planned(name: &'static str, about: &str) -> Command {
    Command::new(name)
        .about(format!("{about} [not in this version]"))
        .disable_help_flag(true)
        .arg(
            Arg::new("rest")
                .action(ArgAction::Append)
                .num_args(0..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .hide(true),
        )
}

/// Says in one line that `name` is not there yet.
pub fn not_in_this_version(name: &str) -> ExitCode {
    eprintln!("epimetheus: {name}: not in this version");
    ExitCode::FAILURE
}

/// Runs what was typed.
pub fn dispatch(matches: &ArgMatches) -> Result<ExitCode> {
    match matches.subcommand() {
        Some(("all-in-one", m)) => all_in_one::run(&Typed::new(m, all_in_one::FLAGS)),
        Some(("server", m)) => server::run(&Typed::new(m, server::FLAGS)),
        Some(("sidecar", m)) => sidecar::run(&Typed::new(m, sidecar::FLAGS)),
        Some(("store", m)) => store::run(&Typed::new(m, store::FLAGS)),
        Some(("query", m)) => query::run(&Typed::new(m, query::FLAGS)),
        Some(("query-frontend", m)) => query_frontend::run(&Typed::new(m, query_frontend::FLAGS)),
        Some(("rule", m)) => rule::run(&Typed::new(m, rule::FLAGS)),
        Some(("tools", m)) => tools::dispatch(m),
        Some((name, _)) => Ok(not_in_this_version(name)),
        None => Ok(ExitCode::from(2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn planned_roles_take_any_flags() {
        let typed = [
            "epimetheus",
            "compact",
            "--objstore.config-file=x",
            "--help",
            "y",
        ];
        let matches = command().try_get_matches_from(typed).unwrap();
        assert_eq!(matches.subcommand_name(), Some("compact"));
    }

    #[test]
    fn a_near_miss_names_the_flag() {
        let typed = ["epimetheus", "server", "--storage.tsdb.pth=x"];
        let error = command()
            .try_get_matches_from(typed)
            .unwrap_err()
            .to_string();
        assert!(error.contains("--storage.tsdb.path"), "{error}");
    }

    #[test]
    fn the_arguments_of_charts_are_taken_unchanged() {
        let common = "--log.level=info --log.format=logfmt --grpc-address=0.0.0.0:10901 --http-address=0.0.0.0:10902 --http.config=/conf/http/http-config.yml --grpc-server-tls-cert=/certs/cert.pem --grpc-server-tls-key=/certs/key.pem --grpc-server-tls-client-ca=/certs/ca.pem";
        let query = "--query.replica-label=replica --query.replica-label=prometheus_replica --store.sd-files=/conf/sd/servicediscovery.yml --endpoint=dnssrv+_grpc._tcp.sidecars.ns.svc.cluster.local --endpoint-group=storegateway:10901 --grpc-client-tls-secure --grpc-client-tls-skip-verify --grpc-client-tls-cert=/c --grpc-client-tls-key=/k --grpc-client-tls-ca=/ca --grpc-client-server-name=x --alert.query-url=http://q:9090 --query.auto-downsampling --web.external-prefix=. --query.timeout=5m --query.lookback-delta=15m --query.max-concurrent=20 --rule=dnssrv+_grpc._tcp.rule.ns.svc --store=a:1 --no-query.partial-response";
        let store = "--data-dir=/data --objstore.config-file=/conf/objstore.yml --index-cache.config-file=/conf/cache/config.yml --store.caching-bucket.config-file=/conf/cache/bucket-cache.yml --min-time=-6w --max-time=-2d --ignore-deletion-marks-delay=24h --store.grpc.series-max-concurrency=20 --selector.relabel-config=-";
        let sidecar = "--prometheus.url=http://localhost:9090/ --prometheus.http-client-file=/etc/x --objstore.config-file=/y --tsdb.path=/prometheus --shipper.meta-file-name=t.json --shipper.ignore-unequal-block-size --tracing.config-file=/t --min-time=-2h --prometheus.ready_timeout=10m --prometheus.get_config_interval=30s --prometheus.get_config_timeout=30s";
        let rule = "--data-dir=/thanos/data --eval-interval=15s --tsdb.retention=24h --rule-query-offset=1m --rule-concurrent-evaluation=4 --for-outage-tolerance=1h --for-grace-period=10m --resend-delay=1m --enable-feature=promql-experimental-functions --label=thanos_ruler_replica=\"x\" --alert.label-drop=thanos_ruler_replica --rule-file=/etc/thanos/rules/*/*.yaml --query=dnssrv+_http._tcp.query.ns.svc --alertmanagers.url=dns+http://am:9093 --alertmanagers.config-file=/a --remote-write.config-file=/r --objstore.config-file=/o --tracing.config-file=/t --alert.relabel-config-file=/x --web.external-prefix=/ruler --web.route-prefix=/ --alert.query-url=http://q --query.config-file=/q --no-tsdb.wal-compression";
        for (role, own) in [
            ("query", query),
            ("store", store),
            ("sidecar", sidecar),
            ("rule", rule),
        ] {
            let typed = ["epimetheus", role];
            let typed = typed
                .into_iter()
                .chain(common.split(' '))
                .chain(own.split(' '));
            if let Err(e) = command().try_get_matches_from(typed) {
                panic!("{role}: {e}");
            }
        }
        let frontend = "query-frontend --log.level=info --log.format=logfmt --http-address=0.0.0.0:10902 --http.config=/h --query-frontend.downstream-url=http://query:9090 --query-frontend.downstream-tripper-config-file=/t --query-range.response-cache-config-file=/c --labels.response-cache-config-file=/l --query-frontend.compress-responses --query-range.split-interval=24h --labels.split-interval=24h --query-range.max-retries-per-request=10 --query-frontend.log-queries-longer-than=10s --cache-compression-type=snappy --query-frontend.vertical-shards=4";
        let typed = std::iter::once("epimetheus").chain(frontend.split(' '));
        if let Err(e) = command().try_get_matches_from(typed) {
            panic!("query-frontend: {e}");
        }
        let error = command().try_get_matches_from(["epimetheus", "query", "--endpiont=x"]);
        assert!(error.unwrap_err().to_string().contains("--endpoint"));
    }
}
