//! A real Prometheus 3 and we look at one cluster, and find the same.

use std::time::{Duration, Instant};

use kubekit::{Cluster, Cut};
use serde_json::{Value, json};

use crate::process::{Process, available, free_port};

#[path = "../crates/discovery/tests/it/kubernetes/objects.rs"]
mod objects;

use objects::{namespace, node, owned, pod, service, small_pod};

/// Whether the Prometheus on `PATH` has what we compare with.
fn is_three() -> bool {
    let out = std::process::Command::new("prometheus")
        .arg("--version")
        .output();
    let text = out
        .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
        .unwrap_or_default();
    // One that was built by hand does not know its version, but has a recent Go.
    text.starts_with("prometheus, version 3.") || text.contains("go version:       go1.2")
}

fn config(cluster: &Cluster) -> String {
    let url = cluster.url();
    let all = "node: true, namespace: true, deployment: true, job: true, cronjob: true";
    let jobs = [
        ("node", String::new()),
        ("pod", format!(", attach_metadata: {{{all}}}")),
        ("service", ", attach_metadata: {namespace: true}".to_owned()),
        ("endpoints", format!(", attach_metadata: {{{all}}}")),
        ("endpointslice", format!(", attach_metadata: {{{all}}}")),
        ("ingress", String::new()),
        (
            "pod",
            ", namespaces: {names: [shop]}, selectors: [{role: pod, label: 'tier=x'}]".to_owned(),
        ),
    ];
    let mut text = "scrape_configs:\n".to_owned();
    for (i, (role, more)) in jobs.iter().enumerate() {
        text += &format!(
            "- job_name: {role}-{i}\n  scrape_interval: 1h\n  \
             kubernetes_sd_configs: [{{api_server: '{url}', role: {role}{more}}}]\n"
        );
    }
    text
}

fn fill(cluster: &Cluster) {
    cluster.put("nodes", node());
    cluster.put("namespaces", namespace());
    cluster.put("services", service());
    cluster.put("pods", pod());
    let mut other = small_pod("small", "10.1.0.20");
    other["metadata"]["namespace"] = "shop".into();
    other["metadata"]["labels"] = json!({"tier": "x"});
    other["spec"]["nodeName"] = "worker-1".into();
    cluster.put("pods", other);
    let mut job = small_pod("tick-1-z", "fd00::20");
    job["metadata"]["namespace"] = "shop".into();
    job["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "Job",
        "name": "tick-1", "uid": "u", "controller": true}]);
    job["spec"]["nodeName"] = "worker-1".into();
    cluster.put("pods", job);
    cluster.put("replicasets", owned("web-5d8f", "Deployment", "web"));
    cluster.put("jobs", owned("tick-1", "CronJob", "tick"));
    let to_pod = json!({"kind": "Pod", "namespace": "shop", "name": "web-5d8f-x"});
    cluster.put(
        "endpoints",
        json!({
            "metadata": {"name": "web", "namespace": "shop", "labels": {"team": "b"}},
            "subsets": [{
                "addresses": [{"ip": "10.1.0.7", "nodeName": "worker-1", "targetRef": to_pod}],
                "notReadyAddresses": [{"ip": "10.1.0.8", "hostname": "h"},
                    {"ip": "10.0.0.1", "targetRef": {"kind": "Node", "name": "worker-1"}}],
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"},
                          {"name": "side", "port": 81, "protocol": "UDP"}],
            }],
        }),
    );
    cluster.put(
        "endpointslices",
        json!({
            "metadata": {"name": "web-1", "namespace": "shop",
                         "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.1.0.7"], "nodeName": "worker-1", "zone": "z", "hostname": "h",
                 "conditions": {"ready": true, "serving": true, "terminating": false},
                 "deprecatedTopology": {"a/b": "c"}, "targetRef": to_pod},
                {"addresses": ["10.1.0.9"], "conditions": {"ready": false}},
            ],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "h2c"}],
        }),
    );
    cluster.put(
        "ingresses",
        json!({
            "metadata": {"name": "in", "namespace": "shop", "annotations": {"x.y/z": "1"}},
            "spec": {"ingressClassName": "nginx", "tls": [{"hosts": ["*.a.org"]}], "rules": [
                {"host": "b.a.org", "http": {"paths": [{"path": "/p", "pathType": "Prefix",
                    "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}},
                {"host": "c.org"}]},
        }),
    );
}

/// Labels of all targets before relabelling, sorted.
async fn discovered(process: &Process) -> Vec<Value> {
    let answer = process.get("/api/v1/targets", &[("state", "active")]).await;
    let targets = answer["data"]["activeTargets"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut labels: Vec<Value> = targets
        .into_iter()
        .map(|mut t| t["discoveredLabels"].take())
        .collect();
    labels.sort_by_key(ToString::to_string);
    labels
}

async fn until_equal(
    theirs: &Process,
    ours: &Process,
    is_there: impl Fn(&[Value]) -> bool,
) -> usize {
    let end = Instant::now() + Duration::from_secs(90);
    loop {
        let (want, got) = (discovered(theirs).await, discovered(ours).await);
        if want == got && is_there(&want) {
            return want.len();
        }
        if Instant::now() > end {
            let missing: Vec<_> = want.iter().filter(|t| !got.contains(t)).collect();
            let more: Vec<_> = got.iter().filter(|t| !want.contains(t)).collect();
            panic!("only theirs: {missing:#?}\nonly ours: {more:#?}");
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_are_those_of_prometheus() {
    if !available("prometheus", "targets_are_those_of_prometheus") {
        return;
    }
    if !is_three() {
        println!("SKIPPED targets_are_those_of_prometheus: prometheus is older than 3");
        return;
    }
    let cluster = Cluster::start().await.unwrap();
    fill(&cluster);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p.yml"), config(&cluster)).unwrap();
    let port = free_port();
    let listen = format!("--web.listen-address=127.0.0.1:{port}");
    let throttle = "--scrape.discovery-reload-interval=1s";
    let args = [
        "--config.file=p.yml",
        "--storage.tsdb.path=theirs",
        throttle,
        &listen,
    ];
    let mut theirs = Process::start("prometheus", dir.path(), port, args);
    let args = ["--config.file=p.yml", "--storage.tsdb.path=ours", throttle];
    let mut ours = Process::epimetheus(dir.path(), "server", &args);
    theirs.wait_for("/-/ready").await;
    ours.wait_for("/-/ready").await;
    let roles = |found: &[Value]| {
        let jobs = found.iter().filter_map(|t| t["job"].as_str());
        jobs.collect::<std::collections::BTreeSet<_>>().len()
    };
    let count = until_equal(&theirs, &ours, |found| roles(found) == 7).await;
    println!("{count} targets of 7 jobs are the same");

    // Things change while the watches are cut and the versions forgotten.
    cluster.cut(Cut::Broken);
    let mut ended = pod();
    ended["status"]["phase"] = "Succeeded".into();
    cluster.put("pods", ended);
    cluster.delete("pods", "shop", "small");
    cluster.delete("ingresses", "shop", "in");
    cluster.compact();
    let mut renamed = service();
    renamed["metadata"]["labels"] = json!({"team": "new"});
    cluster.put("services", renamed);
    let changed = |found: &[Value]| {
        let all = Value::from(found.to_vec()).to_string();
        roles(found) == 5 && all.contains("Succeeded") && all.contains(r#"team":"new"#)
    };
    // Prometheus does not look at pods again for the sake of slices.
    let mut slice = json!({
        "metadata": {"name": "web-1", "namespace": "shop",
                     "labels": {"kubernetes.io/service-name": "web", "again": "1"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.1.0.7"], "conditions": {},
            "targetRef": {"kind": "Pod", "namespace": "shop", "name": "web-5d8f-x"}}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    slice["metadata"]["labels"]["again"] = "2".into();
    cluster.put("endpointslices", slice);
    let count = until_equal(&theirs, &ours, changed).await;
    println!("{count} targets are the same after the changes");
}
