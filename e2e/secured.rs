//! A real Alertmanager behind TLS and a password, found in Kubernetes by our ruler and in a file by our
//! server, that is killed in the middle of it all.

use std::path::Path;

use kubekit::Cluster;
use serde_json::json;

use crate::alerts::ALERTMANAGER;
use crate::clusters::Authority;
use crate::continuity::{Webhook, telling_with};
use crate::fleet::{ours, role, wait};
use crate::process::{Process, available, free_port};

/// What amtool says, which knows the password; none while nobody answers.
fn amtool(dir: &Path, port: u16, args: &[&str]) -> Option<String> {
    let done = std::process::Command::new("amtool")
        .current_dir(dir)
        .arg(format!("--alertmanager.url=https://127.0.0.1:{port}"))
        .arg("--http.config.file=client.yml")
        .args(args)
        .output()
        .unwrap();
    done.status
        .success()
        .then(|| String::from_utf8_lossy(&done.stdout).into_owned())
}

/// A pod that is an Alertmanager on this machine.
fn pod(name: &str, port: u16) -> serde_json::Value {
    json!({
        "metadata": {"name": name, "namespace": "monitoring", "labels": {"app": name}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i", "ports": [
            {"name": "web", "containerPort": port, "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alertmanager_behind_tls_and_a_password_is_told_over_its_crash() {
    const NAME: &str = "an_alertmanager_behind_tls_and_a_password_is_told_over_its_crash";
    if !available(ALERTMANAGER, NAME) || !available("amtool", NAME) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    Authority::new(dir).issue("127.0.0.1");
    // The password is `secret`.
    write(
        "web.yml",
        "tls_server_config: {cert_file: 127.0.0.1.pem, key_file: 127.0.0.1.key}\n\
         basic_auth_users: {ada: '$2b$04$jhxbF8YX8Kvw.VaZl4pFTufyMwvuO35MlSwTdqSQOEtBd6lzUNO6G'}\n",
    );
    let client =
        "basic_auth: {username: ada, password_file: password}, tls_config: {ca_file: ca.pem}";
    write("password", "secret\n");
    write("client.yml", &format!("{{{client}}}"));

    let webhook = Webhook::default();
    let hook = webhook.listen().await;
    let port = free_port();
    let start = || {
        // What it knows of silences and of what it told is to survive its death.
        let flags = [
            "--web.config.file=web.yml",
            "--data.maintenance-interval=200ms",
        ];
        telling_with(dir, port, hook, &flags)
    };
    let answers = || async { amtool(dir, port, &["alert", "query"]).is_some() };
    let mut manager = start();
    wait("the Alertmanager", 30, answers).await;

    let rules = |name: &str, on: &[&str], off: &[&str]| {
        let mut text = "groups:\n- name: g\n  interval: 500ms\n  rules:\n".to_owned();
        for (alerts, value) in [(on, 1), (off, -1)] {
            for alert in alerts {
                text += &format!("  - {{alert: {alert}, expr: vector({value}) > 0}}\n");
            }
        }
        write(name, &text);
    };
    rules("served.yml", &["Served", "Ends"], &["Late"]);
    rules("ruled.yml", &["Ruled"], &[]);
    write(
        "alertmanagers.json",
        &format!("[{{\"targets\": [\"127.0.0.1:{port}\"]}}]"),
    );
    write(
        "prometheus.yml",
        &format!(
            "rule_files: [served.yml]\nalerting: {{alertmanagers: [{{scheme: https, {client}, file_sd_configs: [{{files: [alertmanagers.json]}}]}}]}}\n"
        ),
    );
    let flags = [
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=tsdb",
        "--web.enable-lifecycle",
        "--rules.alert.resend-delay=1s",
    ];
    let mut server = Process::epimetheus(dir, "server", &flags);
    server.wait_for("/-/ready").await;

    let cluster = Cluster::start().await.unwrap();
    cluster.put("pods", pod("alertmanager", port));
    cluster.put("pods", pod("other", free_port()));
    write(
        "telling-rule.yml",
        &format!(
            "alertmanagers:\n- scheme: https\n  http_config: {{{client}}}\n  kubernetes_sd_configs: [{{api_server: '{}', role: pod, namespaces: {{names: [monitoring]}}}}]\n  relabel_configs: [{{source_labels: [__meta_kubernetes_pod_label_app], regex: alertmanager, action: keep}}]\n",
            cluster.url()
        ),
    );
    let ruler = role(
        &ours(),
        dir,
        "rule",
        &[
            format!("--query=127.0.0.1:{}", server.port),
            "--alertmanagers.config-file=telling-rule.yml".to_owned(),
            "--rule-file=ruled.yml".to_owned(),
            "--data-dir=ruler".to_owned(),
            "--resend-delay=1s".to_owned(),
        ],
    )
    .await;

    let told = |alert: &str| webhook.about(alert);
    for alert in ["Served", "Ends", "Ruled"] {
        wait(alert, 60, async || !told(alert).is_empty()).await;
    }
    let known = ruler.process.get("/api/v1/alertmanagers", &[]).await;
    assert_eq!(
        known["data"]["activeAlertmanagers"],
        json!([{"url": format!("https://127.0.0.1:{port}/api/v2/alerts")}])
    );
    let silence = [
        "silence",
        "add",
        "alertname=Late",
        "--comment=c",
        "--author=a",
    ];
    assert!(amtool(dir, port, &silence).is_some());
    // What is told and silenced is written down within two rounds of this.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;

    // Killed; meanwhile one alert ends and another begins, and nobody is there to be told.
    manager.kill();
    rules("served.yml", &["Served", "Late"], &["Ends"]);
    let reload = reqwest::Client::new().post(server.url("/-/reload")).send();
    assert!(reload.await.unwrap().status().is_success());
    wait("refused alerts", 30, async || {
        let name = "prometheus_notifications_errors_total";
        crate::rule::metric(&server, name, "").await > 0.0
    })
    .await;
    let mut manager = start();
    wait("the Alertmanager again", 30, answers).await;

    wait("the end of one alert", 60, async || {
        told("Ends").iter().any(|(status, ..)| status == "resolved")
    })
    .await;
    wait("the silenced one", 30, async || {
        amtool(dir, port, &["alert", "query", "--silenced"]).is_some_and(|t| t.contains("Late"))
    })
    .await;
    assert_eq!(told("Late"), []);
    for alert in ["Served", "Ruled"] {
        wait(alert, 30, async || {
            amtool(dir, port, &["alert", "query"]).is_some_and(|t| t.contains(alert))
        })
        .await;
        let all = told(alert);
        // Never resolved, never begun anew.
        assert!(
            all.iter().all(|one| one == &all[0] && one.0 == "firing"),
            "{alert}: {all:?}"
        );
    }
    // A password that is no longer right ends at the door.
    write("password", "wrong\n");
    let errors = crate::rule::metric(&server, "prometheus_notifications_errors_total", "").await;
    wait("a refused password", 30, async || {
        let name = "prometheus_notifications_errors_total";
        crate::rule::metric(&server, name, "").await > errors
    })
    .await;
    assert!(server.log().contains("401"), "{}", server.log());
    assert!(server.stop());
    manager.kill();
}
