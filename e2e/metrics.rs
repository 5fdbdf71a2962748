//! The names of our metrics beside those of a real Thanos, role by role.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::fleet::{ours, wait};
use crate::peers::thanos;
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
         http_client_request_total prometheus_tsdb_compaction_chunk_range_seconds \
         prometheus_tsdb_compaction_chunk_samples prometheus_tsdb_compaction_chunk_size_bytes \
         prometheus_tsdb_wal_page_flushes_total prometheus_tsdb_wal_record_bytes_saved_total \
         prometheus_tsdb_wal_record_part_writes_total \
         prometheus_tsdb_wal_record_parts_bytes_written_total \
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

async fn names(process: &Process) -> BTreeSet<String> {
    let text = process.text("/metrics").await;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.filter_map(|line| line.split(' ').next());
    names.filter(|n| !is_of_go(n)).map(String::from).collect()
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
