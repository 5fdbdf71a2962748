//! The names of our metrics beside those of a real Prometheus, and of a real Thanos role by role.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::fleet::{ours, wait};
use crate::peers::{prometheus3, thanos};
use crate::process::{Process, available, free_port};

/// What Go's runtime and its libraries tell.
fn is_of_go(name: &str) -> bool {
    ["go_", "promhttp_", "process_network_"]
        .iter()
        .any(|p| name.starts_with(p))
}

/// What Thanos exposes at this point and we do not, since nothing here works so or nobody has missed it
/// yet. A name that we do expose must not stand here.
const MISSING: &[(&str, &str)] = &[
    // Messages are not counted one by one, and a panic ends one call in silence.
    (
        "*",
        "grpc_server_msg_received_total grpc_server_msg_sent_total grpc_client_msg_received_total \
         grpc_client_msg_sent_total grpc_req_panics_recovered_total \
         thanos_objstore_bucket_operation_transferred_bytes",
    ),
    (
        "sidecar",
        "prometheus_store_received_frames thanos_store_selects_dropped_total \
         thanos_sidecar_reloader_info thanos_sidecar_reloader_watch_errors_total \
         thanos_sidecar_reloader_config_environment_variable_expansion_errors",
    ),
    // Index-headers and their cache are other ones: pages, not postings and series.
    (
        "store",
        "thanos_blocks_meta_base_cache_busts_total thanos_blocks_meta_base_syncs_total \
         thanos_blocks_meta_modified thanos_bucket_store_block_load_duration_seconds \
         thanos_bucket_store_blocks_last_loaded_timestamp_seconds \
         thanos_bucket_store_cached_postings_compression_errors_total \
         thanos_bucket_store_cached_postings_compression_time_seconds_total \
         thanos_bucket_store_cached_postings_compressions_total \
         thanos_bucket_store_indexheader_download_duration_seconds \
         thanos_bucket_store_indexheader_lazy_load_duration_seconds \
         thanos_bucket_store_indexheader_lazy_load_failed_total \
         thanos_bucket_store_indexheader_lazy_load_total \
         thanos_bucket_store_indexheader_lazy_unload_failed_total \
         thanos_bucket_store_indexheader_lazy_unload_total \
         thanos_bucket_store_indexheader_load_duration_seconds \
         thanos_bucket_store_lazy_expanded_posting_series_overfetched_size_bytes_total \
         thanos_bucket_store_lazy_expanded_posting_size_bytes_total \
         thanos_bucket_store_lazy_expanded_postings_total thanos_consistency_delay_seconds",
    ),
    // Thanos' other engine, its gate of selects, and what it counts while it asks.
    (
        "query",
        "prometheus_engine_query_log_enabled prometheus_engine_query_log_failures_total \
         prometheus_engine_query_samples_total thanos_engine_queries thanos_engine_queries_total \
         thanos_proxy_store_empty_stream_responses_total \
         thanos_query_concurrent_selects_gate_selects_duration_seconds \
         thanos_query_concurrent_selects_gate_selects_in_flight \
         thanos_query_concurrent_selects_gate_selects_max \
         thanos_query_concurrent_selects_gate_selects_total \
         thanos_query_duplicated_endpoint_addresses_total \
         thanos_query_endpoint_groups_dns_failures_total \
         thanos_query_endpoint_groups_dns_lookups_total \
         thanos_query_range_requested_timespan_duration_seconds thanos_store_selects_dropped_total \
         grpc_server_handled_total grpc_server_handling_seconds grpc_server_started_total",
    ),
    (
        "query-frontend",
        "cortex_frontend_query_range_duration_seconds \
         thanos_frontend_downsampled_extra_queries_total thanos_frontend_split_queries_total",
    ),
    // Nobody calls the ruler here; in Go the names of calls are there before the first one.
    (
        "rule",
        "grpc_server_handled_total grpc_server_handling_seconds grpc_server_started_total \
         http_client_in_flight_requests http_client_request_duration_seconds \
         http_client_request_total \
         thanos_rule_alertmanagers_dns_provider_results thanos_rule_duplicated_query_addresses_total \
         thanos_rule_query_apis_dns_provider_results",
    ),
    // No database compacts the blocks in between.
    (
        "compact",
        "prometheus_tsdb_compaction_chunk_range_seconds prometheus_tsdb_compaction_chunk_samples \
         prometheus_tsdb_compaction_chunk_size_bytes prometheus_tsdb_compaction_duration_seconds \
         prometheus_tsdb_compaction_populating_block prometheus_tsdb_compactions_total \
         prometheus_tsdb_vertical_compactions_total thanos_blocks_meta_base_cache_busts_total \
         thanos_blocks_meta_base_syncs_total thanos_blocks_meta_modified \
         thanos_bucket_uiblocks_meta_modified thanos_bucket_uiblocks_meta_sync_duration_seconds \
         thanos_bucket_uiblocks_meta_sync_failures_total thanos_bucket_uiblocks_meta_synced \
         thanos_bucket_uiblocks_meta_syncs_total thanos_consistency_delay_seconds",
    ),
];

/// What a server of Prometheus 3.14 tells and ours does not; `docs/migrate.md` says so, too.
const NOT_OURS: &[(&str, &str)] = &[
    (
        "what Go's libraries count",
        "net_conntrack_dialer_conn_attempted_total net_conntrack_dialer_conn_closed_total \
         net_conntrack_dialer_conn_established_total net_conntrack_dialer_conn_failed_total \
         prometheus_sd_kubernetes_workqueue_depth prometheus_sd_kubernetes_workqueue_items_total \
         prometheus_sd_kubernetes_workqueue_latency_seconds \
         prometheus_sd_kubernetes_workqueue_longest_running_processor_seconds \
         prometheus_sd_kubernetes_workqueue_unfinished_work_seconds \
         prometheus_sd_kubernetes_workqueue_work_duration_seconds \
         prometheus_sd_file_watcher_errors_total \
         prometheus_remote_storage_string_interner_zero_reference_releases_total \
         prometheus_target_scrape_pool_symboltable_items",
    ),
    (
        "mechanisms that are not run here",
        "prometheus_sd_azure_cache_hit_total prometheus_sd_azure_failures_total \
         prometheus_sd_kuma_fetch_duration_seconds prometheus_sd_kuma_fetch_failures_total \
         prometheus_sd_kuma_fetch_skipped_updates_total prometheus_sd_linode_failures_total \
         prometheus_sd_nomad_failures_total prometheus_treecache_watcher_goroutines \
         prometheus_treecache_zookeeper_failures_total \
         prometheus_tsdb_selected_series_compaction_duration_seconds \
         prometheus_tsdb_selected_series_compactions_failed_total \
         prometheus_tsdb_selected_series_compactions_triggered_total \
         prometheus_tsdb_stale_series_compaction_duration_seconds \
         prometheus_tsdb_stale_series_compactions_failed_total \
         prometheus_tsdb_stale_series_compactions_triggered_total",
    ),
    (
        "what cannot happen here",
        "prometheus_target_scrapes_cache_flush_forced_total prometheus_web_federation_warnings_total \
         prometheus_wal_watcher_notifications_skipped_total \
         prometheus_wal_watcher_samples_sent_pre_tailing_total \
         prometheus_api_otlp_appended_samples_without_metadata_total \
         prometheus_api_remote_write_without_metadata_appended_samples_total",
    ),
];

async fn names(process: &Process) -> BTreeSet<String> {
    let mut names = all_names(process).await;
    names.retain(|name| !is_of_go(name));
    names
}

/// The six roles over one Prometheus and one bucket.
struct Fleet(Vec<(&'static str, Process)>);

impl Fleet {
    async fn start(program: &Path, dir: &Path, prometheus: u16, objstore: &str) -> Self {
        let mut all = Vec::new();
        let mut add = async |role: &'static str, grpc: Option<u16>, args: &[String]| {
            let http = free_port();
            let mut line = vec![role.to_owned(), format!("--http-address=127.0.0.1:{http}")];
            line.extend(grpc.map(|grpc| format!("--grpc-address=127.0.0.1:{grpc}")));
            line.extend_from_slice(args);
            let mut process = Process::start(program, dir, http, line);
            process.wait_for("/-/ready").await;
            all.push((role, process));
            http
        };
        let data = |role: &str| {
            format!(
                "--data-dir={}",
                dir.join(format!("{role}-{}", free_port())).display()
            )
        };
        let (sidecar, store, query) = (free_port(), free_port(), free_port());
        add(
            "sidecar",
            Some(sidecar),
            &[
                format!("--prometheus.url=http://127.0.0.1:{prometheus}"),
                format!("--tsdb.path={}", dir.join("prometheus").display()),
                "--reloader.config-file=prometheus.yml".to_owned(),
                "--reloader.config-envsubst-file=out.yml".to_owned(),
                objstore.to_owned(),
            ],
        )
        .await;
        add("store", Some(store), &[objstore.to_owned(), data("store")]).await;
        let endpoints = [sidecar, store].map(|p| format!("--endpoint=127.0.0.1:{p}"));
        let querier = add("query", Some(query), &endpoints).await;
        add(
            "query-frontend",
            None,
            &[
                format!("--query-frontend.downstream-url=http://127.0.0.1:{querier}"),
                "--query-range.response-cache-config=type: IN-MEMORY".to_owned(),
            ],
        )
        .await;
        add(
            "rule",
            Some(free_port()),
            &[
                format!("--query=127.0.0.1:{querier}"),
                "--rule-file=rules.yml".to_owned(),
                "--label=r=\"1\"".to_owned(),
                "--alertmanagers.url=http://127.0.0.1:1".to_owned(),
                data("rule"),
                objstore.to_owned(),
            ],
        )
        .await;
        add(
            "compact",
            None,
            &["--wait".to_owned(), data("compact"), objstore.to_owned()],
        )
        .await;
        Self(all)
    }

    /// Asks something of everybody who can be asked.
    async fn ask(&self) {
        for (role, process) in &self.0 {
            if matches!(*role, "query" | "query-frontend") {
                for _ in 0..2 {
                    let params = [
                        ("query", "up"),
                        ("start", "1700000000"),
                        ("end", "1700000600"),
                        ("step", "10"),
                    ];
                    process.status("/api/v1/query_range", &params).await;
                    process.status("/api/v1/query", &[("query", "up")]).await;
                    process.status("/api/v1/labels", &[]).await;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_have_the_names_of_thanos() {
    const NAME: &str = "metrics_have_the_names_of_thanos";
    let Some(thanos) = thanos(NAME) else { return };
    if !available("prometheus", NAME) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(
        dir.join("prometheus.yml"),
        "global: {external_labels: {p: x}}\n",
    )
    .unwrap();
    std::fs::write(
        dir.join("rules.yml"),
        "groups: [{name: g, interval: 1s, rules: [{record: a, expr: 'vector(1)'}, {alert: b, expr: 'vector(1)'}]}]",
    )
    .unwrap();
    let port = free_port();
    let mut prometheus = Process::start(
        "prometheus",
        dir,
        port,
        [
            "--config.file=prometheus.yml".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--storage.tsdb.path=prometheus".to_owned(),
            "--storage.tsdb.min-block-duration=2h".to_owned(),
            "--storage.tsdb.max-block-duration=2h".to_owned(),
            "--web.enable-lifecycle".to_owned(),
        ],
    );
    prometheus.wait_for("/-/ready").await;
    let mut fleets = Vec::new();
    for (program, bucket) in [(ours(), "ours"), (thanos, "theirs")] {
        std::fs::create_dir(dir.join(bucket)).unwrap();
        let objstore = format!(
            "--objstore.config=type: FILESYSTEM\nconfig: {{directory: {}}}\n",
            dir.join(bucket).display()
        );
        fleets.push(Fleet::start(&program, dir, port, &objstore).await);
    }
    // A tick of the rules, and a poll of the endpoints.
    for fleet in &fleets {
        let (_, ruler) = &fleet.0[4];
        wait("an evaluation", 60, async || {
            let text = ruler.text("/metrics").await;
            let mut lines = text.lines();
            lines.any(|l| l.starts_with("prometheus_rule_evaluations_total{") && !l.ends_with(" 0"))
        })
        .await;
    }
    for fleet in &fleets {
        fleet.ask().await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut wrong = Vec::new();
    for ((role, own), (_, theirs)) in fleets[0].0.iter().zip(&fleets[1].0) {
        let (own, theirs) = (names(own).await, names(theirs).await);
        let listed: BTreeSet<String> = MISSING
            .iter()
            .filter(|(of, _)| *of == "*" || of == role)
            .flat_map(|(_, names)| names.split_whitespace())
            .map(String::from)
            .collect();
        assert!(theirs.len() > 10, "{role}: {theirs:?}");
        for name in theirs.difference(&own).filter(|n| !listed.contains(*n)) {
            wrong.push(format!("{role} misses {name}"));
        }
        for name in own.intersection(&listed) {
            wrong.push(format!("{role} has {name}, which is listed as missing"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A server with a bit of everything, and a Prometheus with the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_have_the_names_of_prometheus() {
    let Some(theirs) = prometheus3("metrics_have_the_names_of_prometheus") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(
        dir.join("rules.yml"),
        "groups: [{name: g, interval: 1s, rules: [{record: a, expr: up}, {alert: b, expr: up, annotations: {v: '{{ $value }}'}}]}]\n",
    )
    .unwrap();
    std::fs::write(
        dir.join("targets.json"),
        "[{\"targets\": [\"127.0.0.1:1\"]}]",
    )
    .unwrap();
    let mut servers = Vec::new();
    for (program, data) in [(ours(), "ours"), (theirs, "theirs")] {
        let port = free_port();
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nrule_files: [rules.yml]\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:1']}}]}}]}}\n\
             scrape_configs:\n\
             - {{job_name: s, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n\
             - {{job_name: f, file_sd_configs: [{{files: [targets.json]}}]}}\n\
             - {{job_name: d, dns_sd_configs: [{{names: [localhost], type: A, port: 1}}]}}\n\
             - {{job_name: h, http_sd_configs: [{{url: 'http://127.0.0.1:1/'}}]}}\n\
             - {{job_name: c, consul_sd_configs: [{{server: '127.0.0.1:1'}}]}}\n\
             - {{job_name: k, kubernetes_sd_configs: [{{api_server: 'http://127.0.0.1:1', role: pod}}]}}\n\
             remote_write: [{{name: w, url: 'http://127.0.0.1:1/'}}]\n\
             remote_read: [{{name: r, url: 'http://127.0.0.1:1/'}}]\n"
        );
        std::fs::write(dir.join(format!("{data}.yml")), text).unwrap();
        let mut args = vec![
            format!("--config.file={data}.yml"),
            format!("--storage.tsdb.path={data}"),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--web.enable-remote-write-receiver".to_owned(),
            "--web.enable-otlp-receiver".to_owned(),
        ];
        if data == "ours" {
            args.insert(0, "server".to_owned());
        }
        let mut server = Process::start(program, dir, port, args);
        server.wait_for("/-/ready").await;
        servers.push(server);
    }
    for server in &servers {
        server
            .wait_until("up{job=\"s\"}", |r| !r[0].is_null())
            .await;
        server
            .wait_until("ALERTS{alertstate=\"firing\"}", |r| !r[0].is_null())
            .await;
    }
    let listed: BTreeSet<&str> = NOT_OURS
        .iter()
        .flat_map(|(_, names)| names.split_whitespace())
        .collect();
    // Some members come with the first of something: a notice, a request, a lookup.
    wait("the same names", 60, async || {
        let (own, theirs) = (all_names(&servers[0]).await, all_names(&servers[1]).await);
        assert!(theirs.len() > 200, "{theirs:?}");
        let missing: Vec<&String> = theirs
            .difference(&own)
            .filter(|name| !listed.contains(name.as_str()))
            .collect();
        let there: Vec<&String> = own
            .iter()
            .filter(|name| listed.contains(name.as_str()))
            .collect();
        assert!(there.is_empty(), "listed as missing: {there:?}");
        if !missing.is_empty() {
            println!("missing: {missing:?}");
        }
        missing.is_empty()
    })
    .await;
}

/// The names of all metrics but those of Go's runtime.
async fn all_names(process: &Process) -> BTreeSet<String> {
    let text = process.text("/metrics").await;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.filter_map(|line| line.split(' ').next());
    names
        .filter(|n| !n.starts_with("go_"))
        .map(String::from)
        .collect()
}
