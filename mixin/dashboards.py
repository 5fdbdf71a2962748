#!/usr/bin/env python3
"""Writes the Grafana dashboards of the mixin: `mixin/dashboards.py [folder]`.

A dashboard is a list of rows, a row a list of panels, a panel a title, a unit and its queries with their legends.
"""

import json
import pathlib
import sys

JOB = 'job=~"$job"'


def rate(metric, by, labels=JOB):
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def quantile(q, metric, by, labels=JOB):
    return f"histogram_quantile({q}, {rate(metric, by + ', le', labels)})"


HTTP = '__name__=~"(prometheus_)?http_requests_total", ' + JOB
HTTP_BUCKETS = '__name__=~"(prometheus_)?http_request_duration_seconds_bucket", ' + JOB

# title, uid, regex of jobs, rows
DASHBOARDS = [
    ("Overview", "overview", ".+-(server|query|query-frontend|storegateway|ruler|compactor|bucketweb)", [
        ("Is it there", [
            ("Pods up", "none", [(f"sum by (job) (up{{{JOB}}})", "{{job}}")]),
            ("Restarts in an hour", "none", [(f"sum by (job) (changes(process_start_time_seconds{{{JOB}}}[1h]))", "{{job}}")]),
        ]),
        ("What it takes", [
            ("CPU", "none", [(rate("process_cpu_seconds_total", "pod"), "{{pod}}")]),
            ("Memory", "bytes", [(f"sum by (pod) (process_resident_memory_bytes{{{JOB}}})", "{{pod}}")]),
            ("Open files", "none", [(f"sum by (pod) (process_open_fds{{{JOB}}})", "{{pod}}")]),
        ]),
        ("What is asked of it", [
            ("HTTP requests", "reqps", [(rate("", "job, code", HTTP), "{{job}} {{code}}")]),
            ("gRPC calls", "reqps", [(rate("grpc_server_handled_total", "job, grpc_code"), "{{job}} {{grpc_code}}")]),
        ]),
    ]),
    ("Query", "query", ".+-query(-frontend)?", [
        ("Queries", [
            ("Instant", "reqps", [(rate("", "pod, code", HTTP + ', handler=~"(/api/v1/)?query"'), "{{pod}} {{code}}")]),
            ("Range", "reqps", [(rate("", "pod, code", HTTP + ', handler=~"(/api/v1/)?query_range"'), "{{pod}} {{code}}")]),
        ]),
        ("How long they take", [
            ("Instant", "s", [(quantile(q, "", "job", HTTP_BUCKETS + ', handler=~"(/api/v1/)?query"'), f"{q}") for q in (0.5, 0.9, 0.99)]),
            ("Range", "s", [(quantile(q, "", "job", HTTP_BUCKETS + ', handler=~"(/api/v1/)?query_range"'), f"{q}") for q in (0.5, 0.9, 0.99)]),
        ]),
        ("What they wait for", [
            ("Queries at once", "none", [
                (f"sum by (pod) (thanos_query_concurrent_gate_queries_in_flight{{{JOB}}})", "{{pod}}"),
                (f"max(thanos_query_concurrent_gate_queries_max{{{JOB}}})", "most"),
            ]),
            ("Stores", "none", [(f"sum by (store_type) (thanos_store_nodes_grpc_connections{{{JOB}}})", "{{store_type}}")]),
            ("Look-ups that fail", "reqps", [(rate(f"thanos_query_{what}_dns_failures_total", "pod"), "{{pod}}") for what in ("store_apis", "endpoints")]),
        ]),
        ("What makes it grow", [
            ("CPU of what was asked for", "percentunit", [(
                f"{rate('process_cpu_seconds_total', 'pod')} / on (pod) sum by (pod) (kube_pod_container_resource_requests{{resource=\"cpu\"}})", "{{pod}}")]),
            ("Pods", "none", [('kube_horizontalpodautoscaler_status_current_replicas{horizontalpodautoscaler=~".+-query"}', "are"),
                              ('kube_horizontalpodautoscaler_status_desired_replicas{horizontalpodautoscaler=~".+-query"}', "wanted")]),
        ]),
    ]),
    ("Server", "server", ".+-server", [
        ("What it scrapes", [
            ("Targets", "none", [(f"sum by (scrape_job) (prometheus_target_scrape_pool_targets{{{JOB}}})", "{{scrape_job}}")]),
            ("Samples", "wps", [(rate("prometheus_tsdb_head_samples_appended_total", "pod"), "{{pod}}")]),
            ("Rejected", "wps", [(rate(f"prometheus_target_scrapes_sample_{why}_total", "pod"), "{{pod}} " + why)
                                 for why in ("duplicate_timestamp", "out_of_order", "out_of_bounds")]),
        ]),
        ("What it keeps", [
            ("Series", "none", [(f"prometheus_tsdb_head_series{{{JOB}}}", "{{pod}}")]),
            ("Blocks on disk", "bytes", [(f"prometheus_tsdb_storage_blocks_bytes{{{JOB}}}", "{{pod}}")]),
            ("Log", "bytes", [(f"prometheus_tsdb_wal_storage_size_bytes{{{JOB}}}", "{{pod}}")]),
        ]),
        ("What it ships", [
            ("Blocks shipped", "none", [(f"increase(thanos_shipper_uploads_total{{{JOB}}}[1d])", "{{pod}}")]),
            ("Age of the oldest that waits", "s", [(f"epimetheus_tsdb_oldest_unshipped_block_age_seconds{{{JOB}}}", "{{pod}}")]),
            ("Failures", "reqps", [(rate("thanos_objstore_bucket_operation_failures_total", "pod, operation"), "{{pod}} {{operation}}")]),
        ]),
        ("Rules", [
            ("Time of a group", "s", [(f'prometheus_rule_group_duration_seconds{{{JOB}, quantile="0.99"}}', "{{pod}}")]),
            ("Alerts that fire", "none", [('sum by (alertname) (ALERTS{alertstate="firing"})', "{{alertname}}")]),
        ]),
    ]),
    ("Bucket", "bucket", ".+-(storegateway|compactor|ruler|server)", [
        ("Operations", [
            ("Done", "reqps", [(rate("thanos_objstore_bucket_operations_total", "job, operation"), "{{job}} {{operation}}")]),
            ("Failed", "reqps", [(rate("thanos_objstore_bucket_operation_failures_total", "job, operation"), "{{job}} {{operation}}")]),
            ("Time (0.99)", "s", [(quantile(0.99, "thanos_objstore_bucket_operation_duration_seconds_bucket", "job, operation"), "{{job}} {{operation}}")]),
        ]),
        ("Store gateway", [
            ("Blocks", "none", [(f"thanos_bucket_store_blocks_loaded{{{JOB}}}", "{{pod}}")]),
            ("Waiting at the gate (0.99)", "s", [
                (quantile(0.99, f"thanos_bucket_store_series_{gate}_duration_seconds_bucket", "job"), "{{job}}") for gate in ("gate", "gate_queries")]),
            ("Bytes fetched", "Bps", [(rate("epimetheus_bucket_store_fetched_bytes_total", "pod"), "{{pod}}")]),
        ]),
        ("Compactor", [
            ("Compactions", "none", [(f"increase(thanos_compact_group_compactions_total{{{JOB}}}[1h])", "{{job}}")]),
            ("Failures", "none", [(f"increase(thanos_compact_group_compactions_failures_total{{{JOB}}}[1h])", "{{job}}")]),
            ("Halted", "none", [(f"thanos_compact_halted{{{JOB}}}", "{{job}}")]),
        ]),
    ]),
]


def target(number, expr, legend):
    return {"refId": chr(ord("A") + number), "expr": expr, "legendFormat": legend, "datasource": {"type": "prometheus", "uid": "$datasource"}}


def dashboard(title, uid, jobs, rows):
    panels, y, number = [], 0, 0
    for row_title, row in rows:
        number += 1
        panels.append({"id": number, "type": "row", "title": row_title, "collapsed": False, "panels": [], "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        width = 24 // len(row)
        for column, (panel_title, unit, queries) in enumerate(row):
            number += 1
            panels.append({
                "id": number,
                "type": "timeseries",
                "title": panel_title,
                "datasource": {"type": "prometheus", "uid": "$datasource"},
                "gridPos": {"x": column * width, "y": y + 1, "w": width, "h": 8},
                "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
                "targets": [target(i, expr, legend) for i, (expr, legend) in enumerate(queries)],
            })
        y += 9
    return {
        "uid": f"epimetheus-{uid}",
        "title": f"Epimetheus / {title}",
        "tags": ["epimetheus"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
            {"name": "job", "type": "query", "label": "Job", "multi": True, "includeAll": True, "allValue": jobs, "refresh": 2, "regex": jobs,
             "datasource": {"type": "prometheus", "uid": "$datasource"}, "query": {"query": "label_values(up, job)", "refId": "job"}},
        ]},
        "panels": panels,
    }


def main():
    default = pathlib.Path(__file__).resolve().parent.parent / "charts/epimetheus/files/dashboards"
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    for title, uid, jobs, rows in DASHBOARDS:
        (folder / f"{uid}.json").write_text(json.dumps(dashboard(title, uid, jobs, rows), indent=1) + "\n")


if __name__ == "__main__":
    main()
