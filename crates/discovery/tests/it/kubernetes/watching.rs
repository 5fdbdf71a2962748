//! Lists, watches, and everything that goes wrong with them.

use std::time::Duration;

use discovery::config::Discovery;
use kubekit::Cut;
use serde_json::json;

use super::objects::{node, pod, service, small_pod};
use super::{Setup, read, targets};

#[tokio::test]
async fn a_watch_is_taken_up_where_it_was_cut() {
    let mut setup = Setup::new().await;
    setup.cluster.put("pods", small_pod("a", "1.0.0.1"));
    setup.run("role: pod");
    setup.until_at(&["1.0.0.1:80"]).await;
    let mut want = vec!["1.0.0.1:80".to_owned()];
    for (i, how) in [Cut::Clean, Cut::MidLine, Cut::Broken]
        .into_iter()
        .enumerate()
    {
        setup.until_watched(1).await;
        setup.cluster.cut(how);
        // It happens while nobody watches.
        setup
            .cluster
            .put("pods", small_pod(&format!("b{i}"), &format!("2.0.0.{i}")));
        want.push(format!("2.0.0.{i}:80"));
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        setup.until_at(&want).await;
    }
    setup.until_watched(1).await;
    setup.cluster.delete("pods", "default", "a");
    setup
        .until_at(&["2.0.0.0:80", "2.0.0.1:80", "2.0.0.2:80"])
        .await;
    // Nothing was listed again.
    assert_eq!(setup.asked("/api/v1/pods?") - setup.asked("watch=true"), 1);
}

#[tokio::test]
async fn a_bookmark_saves_listing_again() {
    let mut setup = Setup::new().await;
    setup.cluster.put("pods", small_pod("a", "1.0.0.1"));
    setup.run("role: pod");
    setup.until_at(&["1.0.0.1:80"]).await;
    setup.until_watched(1).await;
    // Much happens that does not concern pods; then the server forgets.
    setup.cluster.put("nodes", node());
    setup.cluster.compact();
    setup.cluster.bookmark();
    tokio::time::sleep(Duration::from_millis(50)).await;
    setup.cluster.cut(Cut::Clean);
    setup.cluster.put("pods", small_pod("b", "1.0.0.2"));
    setup.until_at(&["1.0.0.1:80", "1.0.0.2:80"]).await;
    assert_eq!(setup.asked("/api/v1/pods?") - setup.asked("watch=true"), 1);
    assert_eq!(
        setup.number("prometheus_sd_kubernetes_failures_total", &[]),
        0.0
    );
}

/// The server forgot where the watch was: everything is listed again, and what is gone is seen.
async fn forgotten(by_status: bool) {
    let mut setup = Setup::new().await;
    if by_status {
        setup.cluster.refuse_old_versions();
    }
    setup.cluster.put("pods", small_pod("a", "1.0.0.1"));
    setup.cluster.put("pods", small_pod("b", "1.0.0.2"));
    setup.run("role: pod");
    setup.until_at(&["1.0.0.1:80", "1.0.0.2:80"]).await;
    setup.until_watched(1).await;
    setup.cluster.cut(Cut::Clean);
    setup.cluster.delete("pods", "default", "a");
    setup.cluster.put("pods", small_pod("c", "1.0.0.3"));
    setup.cluster.compact();
    setup.until_at(&["1.0.0.2:80", "1.0.0.3:80"]).await;
    assert!(setup.number("prometheus_sd_kubernetes_failures_total", &[]) >= 1.0);
    let count = |event| setup.number("prometheus_sd_kubernetes_events_total", &["pod", event]);
    assert_eq!((count("add"), count("delete")), (3.0, 1.0));
}

#[tokio::test]
async fn gone_as_an_event() {
    forgotten(false).await;
}

#[tokio::test]
async fn gone_as_a_status() {
    forgotten(true).await;
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let mut setup = Setup::new().await;
    let address = |i: usize| format!("10.{}.{}.1", i / 250, i % 250);
    for i in 0..1100 {
        setup
            .cluster
            .put("pods", small_pod(&format!("p{i}"), &address(i)));
    }
    // The first attempt is told on its second page that the list is too old.
    setup.cluster.fail("continue=", 410, 1);
    setup.run("role: pod");
    let want: Vec<String> = (0..1100).map(|i| format!("{}:80", address(i))).collect();
    setup
        .until_at(&want.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    assert_eq!(setup.asked("limit=500"), 2 + 3);
    assert_eq!(setup.asked("continue="), 1 + 2);
}

#[tokio::test]
async fn refusals_are_counted_and_waited_for() {
    for status in [403, 429, 500] {
        let mut setup = Setup::new().await;
        setup.cluster.put("pods", small_pod("a", "1.0.0.1"));
        setup.cluster.fail("limit=500", status, 1);
        setup.cluster.fail("watch=true", status, 1);
        setup.run("role: pod");
        setup.until_at(&["1.0.0.1:80"]).await;
        setup.cluster.put("pods", small_pod("b", "1.0.0.2"));
        setup.until_at(&["1.0.0.1:80", "1.0.0.2:80"]).await;
        assert_eq!(
            setup.number("prometheus_sd_kubernetes_failures_total", &[]),
            2.0,
            "{status}"
        );
    }
}

#[tokio::test]
async fn nothing_is_said_before_everything_was_listed() {
    let mut setup = Setup::new().await;
    setup.cluster.put("pods", pod());
    setup.cluster.put(
        "endpoints",
        json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "subsets": [{"addresses": [{"ip": "9.9.9.9"}], "ports": [{"port": 1}]}],
        }),
    );
    setup.cluster.put("services", service());
    setup.cluster.fail("/api/v1/services?", 403, 1);
    setup.run("role: endpoints");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(targets(&setup.found.borrow(), "0"), [""; 0]);
    setup.until_at(&["9.9.9.9:1"]).await;
    let got = targets(&setup.found.borrow(), "0");
    assert!(got[0].contains("~service_name=web"), "{got:?}");
}

#[tokio::test]
async fn namespaces_and_selectors_are_asked_for() {
    let mut setup = Setup::new().await;
    let mut other = small_pod("a", "1.0.0.1");
    other["metadata"]["namespace"] = "other".into();
    other["metadata"]["labels"] = json!({"app": "x"});
    let mut third = other.clone();
    third["metadata"]["namespace"] = "third".into();
    third["status"]["podIP"] = "1.0.0.3".into();
    let mut unlabelled = small_pod("b", "1.0.0.2");
    unlabelled["metadata"]["namespace"] = "other".into();
    for pod in [other, third, unlabelled, small_pod("c", "1.0.0.4")] {
        setup.cluster.put("pods", pod);
    }
    setup.run(
        "role: pod, namespaces: {names: [other, default, other]},
         selectors: [{role: pod, label: 'app in (x,y)', field: 'status.phase=Running'}]",
    );
    setup.until_at(&["1.0.0.1:80"]).await;
    setup.until_watched(2).await;
    assert_eq!(setup.asked("/api/v1/namespaces/other/pods?"), 2);
    assert_eq!(setup.asked("/api/v1/namespaces/default/pods?"), 2);
    // A pod that is no longer selected is gone.
    let mut relabelled = small_pod("a", "1.0.0.1");
    relabelled["metadata"]["namespace"] = "other".into();
    setup.cluster.put("pods", relabelled);
    setup.until_at(&[]).await;
}

#[tokio::test]
async fn selected_nodes_select_their_pods() {
    let mut setup = Setup::new().await;
    let mut elsewhere = small_pod("b", "1.0.0.2");
    elsewhere["spec"]["nodeName"] = "worker-1".into();
    setup.cluster.put("pods", small_pod("a", "1.0.0.1"));
    setup.cluster.put("pods", elsewhere);
    setup.cluster.put("nodes", node());
    let mut second = node();
    second["metadata"]["name"] = "n".into();
    second["metadata"]["labels"] = json!({});
    setup.cluster.put("nodes", second);
    setup.run(
        "role: pod, attach_metadata: {node: true},
         selectors: [{role: node, label: 'kubernetes.io/os=linux'}]",
    );
    setup.until_at(&["1.0.0.2:80"]).await;
    setup.cluster.delete("nodes", "", "worker-1");
    setup.until_at(&[]).await;
}

#[tokio::test]
async fn jobs_that_ask_for_the_same_share_a_watch() {
    let mut setup = Setup::new().await;
    setup.cluster.put("pods", pod());
    setup.cluster.put("services", service());
    setup.cluster.put(
        "endpoints",
        json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "subsets": [{"addresses": [{"ip": "9.9.9.9"}], "ports": [{"port": 1}]}],
        }),
    );
    let jobs = [
        "role: pod",
        "role: service",
        "role: endpoints",
        "role: endpoints, namespaces: {names: []}",
    ];
    setup.run_all(&jobs);
    setup
        .until_job(
            "2",
            &["__address__=9.9.9.9:1 ~namespace=shop ~endpoints_name=web \
        ~service_name=web ~service_label_team=a ~service_labelpresent_team=true \
        ~service_annotation_note=n ~service_annotationpresent_note=true ~endpoint_ready=true"],
        )
        .await;
    setup.until_watched(3).await;
    for kind in ["pods", "services", "endpoints"] {
        assert_eq!(
            setup.asked(&format!("/api/v1/{kind}?")),
            2,
            "a list and a watch of {kind}"
        );
    }
    // Without jobs nothing is watched.
    setup.run_all(&[]);
    setup.until_watched(0).await;
}

#[tokio::test]
async fn the_caller_is_known_by_token_and_by_file() {
    let mut setup = Setup::new().await;
    setup.cluster.require_token("hush");
    setup.cluster.put("pods", small_pod("a", "1.0.0.1"));
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "wrong").unwrap();
    setup.run(&format!(
        "role: pod, authorization: {{credentials_file: {}}}",
        token.display()
    ));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(setup.number("prometheus_sd_kubernetes_failures_total", &[]) >= 1.0);
    // A rotated token is taken up.
    std::fs::write(&token, "hush\n").unwrap();
    setup.until_at(&["1.0.0.1:80"]).await;

    let file = folder.path().join("kubeconfig");
    let url = setup.cluster.url();
    std::fs::write(
        &file,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
         clusters: [{{name: k, cluster: {{server: '{url}'}}}}]\n\
         users: [{{name: u, user: {{token: hush}}}}]\n"
        ),
    )
    .unwrap();
    let section = format!(
        "kubernetes_sd_configs: [{{role: node, kubeconfig_file: {}}}]",
        file.display()
    );
    let job = read(&section);
    setup.cluster.put("nodes", node());
    setup.manager.apply([("0", &job)]);
    setup.until_at(&["10.0.0.1:10250"]).await;
}

#[tokio::test]
async fn what_cannot_be_reached_is_counted() {
    let setup = Setup::new().await;
    let missing: Discovery =
        read("kubernetes_sd_configs: [{role: pod, kubeconfig_file: /nowhere/at/all}]");
    // Tests run outside of any cluster.
    let inside: Discovery = read("kubernetes_sd_configs: [{role: pod}]");
    setup.manager.apply([("0", &missing), ("1", &inside)]);
    assert_eq!(
        setup.number("prometheus_sd_failed_configs", &["scrape"]),
        2.0
    );
}
