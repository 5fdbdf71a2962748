//! Tenants behind one querier: none sees what another one has, however it asks.

use std::path::Path;

use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::fleet::{Role, ours, role, wait};
use crate::process::{Process, free_port};

const RULES: &str =
    "groups:\n- name: g\n  interval: 1s\n  rules:\n  - alert: AlwaysFires\n    expr: up == 1\n";

/// A server that scrapes itself; its data is a tenant's.
async fn server(dir: &Path, tenant: &str) -> (Process, u16) {
    let dir = dir.join(tenant);
    std::fs::create_dir_all(&dir).unwrap();
    let (http, grpc) = (free_port(), free_port());
    let text = format!(
        "global:\n  scrape_interval: 500ms\n  scrape_timeout: 500ms\n  evaluation_interval: 1s\n  external_labels: {{tenant_id: {tenant}}}\nrule_files: [rules.yml]\nscrape_configs:\n- job_name: {tenant}-self\n  static_configs:\n  - targets: ['127.0.0.1:{http}']\n"
    );
    std::fs::write(dir.join("prometheus.yml"), text).unwrap();
    std::fs::write(dir.join("rules.yml"), RULES).unwrap();
    let args = [
        "server".to_owned(),
        "--config.file=prometheus.yml".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        format!("--web.listen-address=127.0.0.1:{http}"),
        format!("--grpc-address=127.0.0.1:{grpc}"),
    ];
    let mut server = Process::start(ours(), &dir, http, args);
    server.wait_for("/-/ready").await;
    (server, grpc)
}

/// Asks as a tenant.
async fn ask(role: &Role, tenant: Option<&str>, path: &str, params: &[(&str, &str)]) -> Value {
    let mut headers = HeaderMap::new();
    if let Some(tenant) = tenant {
        headers.insert("thanos-tenant", tenant.parse().unwrap());
    }
    let client = reqwest::Client::builder()
        .default_headers(headers)
        .build()
        .unwrap();
    let mut url = url::Url::parse(&role.process.url(path)).unwrap();
    url.query_pairs_mut().extend_pairs(params);
    let answer = client.get(url).send().await.unwrap();
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_question_shows_the_data_of_another_tenant() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (a, grpc_a) = server(dir, "a").await;
    let (b, grpc_b) = server(dir, "b").await;
    let args = [
        format!("--endpoint=127.0.0.1:{grpc_a}"),
        format!("--endpoint=127.0.0.1:{grpc_b}"),
        "--query.enforce-tenancy".to_owned(),
        "--query.default-tenant-id=nobody".to_owned(),
    ];
    let leaf = role(&ours(), dir, "query", &args).await;
    // A querier before it, which does not enforce anything: the tenant travels with its calls.
    let global = role(
        &ours(),
        dir,
        "query",
        &[format!("--endpoint=127.0.0.1:{}", leaf.grpc)],
    )
    .await;
    let up = [("query", "up")];
    for tenant in ["a", "b"] {
        wait("data", 60, async || {
            let answer = ask(&leaf, Some(tenant), "/api/v1/query", &up).await;
            answer["data"]["result"]
                .as_array()
                .is_some_and(|r| r.len() == 1)
        })
        .await;
        wait("alerts", 60, async || {
            let answer = ask(&leaf, Some(tenant), "/api/v1/alerts", &[]).await;
            answer["data"]["alerts"]
                .as_array()
                .is_some_and(|r| r.len() == 1)
        })
        .await;
    }
    // Whatever `a` asks, nothing of `b` is in the answer.
    let questions: [(&str, &[(&str, &str)]); 14] = [
        ("/api/v1/query", &[("query", "up")]),
        ("/api/v1/query", &[("query", "up{tenant_id=\"b\"}")]),
        ("/api/v1/query", &[("query", "up{tenant_id=~\".*\"}")]),
        ("/api/v1/query", &[("query", "up or up{tenant_id!=\"a\"}")]),
        (
            "/api/v1/query",
            &[(
                "query",
                "count_over_time(up{job=\"b-self\"}[5m]) or vector(0)",
            )],
        ),
        (
            "/api/v1/query",
            &[
                ("query", "up"),
                ("dedup", "true"),
                ("replicaLabels[]", "tenant_id"),
            ],
        ),
        (
            "/api/v1/query",
            &[(
                "query",
                "label_replace(up, \"tenant_id\", \"a\", \"\", \"\")",
            )],
        ),
        (
            "/api/v1/series",
            &[("match[]", "up"), ("match[]", "{tenant_id=\"b\"}")],
        ),
        ("/api/v1/labels", &[("match[]", "{tenant_id=\"b\"}")]),
        ("/api/v1/label/job/values", &[]),
        ("/api/v1/label/tenant_id/values", &[]),
        ("/api/v1/rules", &[]),
        ("/api/v1/targets", &[]),
        (
            "/api/v1/query_exemplars",
            &[
                ("query", "up{tenant_id=\"b\"}"),
                ("start", "0"),
                ("end", "4102444800"),
            ],
        ),
    ];
    for (path, params) in questions {
        for querier in [&leaf, &global] {
            let answer = ask(querier, Some("a"), path, params).await;
            assert_eq!(answer["status"], "success", "{path} {params:?}: {answer}");
            // A question that is repeated in an answer does not count.
            let text = answer["data"].to_string();
            let theirs = ["b-self", "\"tenant_id\":\"b\"", "\"b\""];
            for part in theirs {
                assert!(!text.contains(part), "{path} {params:?}: {text}");
            }
        }
    }
    // Both see their own.
    for (tenant, job) in [("a", "a-self"), ("b", "b-self")] {
        for querier in [&leaf, &global] {
            let answer = ask(querier, Some(tenant), "/api/v1/label/job/values", &[]).await;
            assert_eq!(answer["data"], serde_json::json!([job]));
        }
    }
    let rules = ask(&leaf, Some("b"), "/api/v1/rules", &[]).await;
    assert_eq!(
        rules["data"]["groups"].as_array().map(Vec::len),
        Some(1),
        "{rules}"
    );
    // Whoever names no tenant is one that has nothing.
    for path in ["/api/v1/query", "/api/v1/rules", "/api/v1/targets"] {
        let answer = ask(&leaf, None, path, &up).await;
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        assert!(!answer.to_string().contains("self"), "{path}: {answer}");
    }
    // Only the asked store, by its address.
    let store = format!("{{__address__=\"127.0.0.1:{grpc_b}\"}}");
    let params = [("query", "up"), ("storeMatch[]", store.as_str())];
    let none = ask(&leaf, Some("a"), "/api/v1/query", &params).await;
    assert_eq!(none["data"]["result"], serde_json::json!([]), "{none}");
    let one = ask(&leaf, Some("b"), "/api/v1/query", &params).await;
    assert_eq!(one["data"]["result"].as_array().map(Vec::len), Some(1));
    drop((a, b));
    for mut role in [global, leaf] {
        assert!(role.process.stop(), "a clean stop:\n{}", role.process.log());
    }
}
