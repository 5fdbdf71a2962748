//! What becomes a target, and with which labels.

use serde_json::json;

use super::Setup;
use super::objects::{namespace, node, owned, pod, service};

/// What the pod says wherever it backs a target.
const POD: &str = "~pod_name=web-5d8f-x ~pod_ip=10.1.0.7 ~pod_ready=true ~pod_phase=Running \
    ~pod_node_name=worker-1 ~pod_host_ip=10.0.0.1 ~pod_uid=abc-123 \
    ~pod_controller_kind=ReplicaSet ~pod_controller_name=web-5d8f \
    ~pod_label_app_kubernetes_io_name=web ~pod_labelpresent_app_kubernetes_io_name=true \
    ~pod_annotation_prometheus_io_scrape=true ~pod_annotationpresent_prometheus_io_scrape=true";
const WEB_8080: &str = "~pod_container_name=web ~pod_container_image=web:2 \
    ~pod_container_port_name=http ~pod_container_port_number=8080 \
    ~pod_container_port_protocol=TCP ~pod_container_init=false";
const WEB_9000: &str = "~pod_container_name=web ~pod_container_image=web:2 \
    ~pod_container_port_name=metrics ~pod_container_port_number=9000 \
    ~pod_container_port_protocol=TCP ~pod_container_init=false";
const SERVICE: &str = "~namespace=shop ~service_name=web ~service_label_team=a \
    ~service_labelpresent_team=true ~service_annotation_note=n ~service_annotationpresent_note=true";
const NODE: &str = "~node_name=worker-1 ~node_label_kubernetes_io_os=linux \
    ~node_labelpresent_kubernetes_io_os=true ~node_label_topology_kubernetes_io_zone=z1 \
    ~node_labelpresent_topology_kubernetes_io_zone=true \
    ~node_annotation_node_alpha_kubernetes_io_ttl=0 \
    ~node_annotationpresent_node_alpha_kubernetes_io_ttl=true";
const NAMESPACE: &str = "~namespace_label_env=prod ~namespace_labelpresent_env=true \
    ~namespace_annotation_owner=me ~namespace_annotationpresent_owner=true";

#[tokio::test]
async fn nodes() {
    let mut setup = Setup::new().await;
    setup.cluster.put("nodes", node());
    setup
        .cluster
        .put("nodes", json!({"metadata": {"name": "lost"}}));
    setup.run("role: node");
    let node = format!(
        "__address__=10.0.0.1:10250 instance=worker-1 {NODE} ~node_provider_id=aws:///z1/i-1 \
         ~node_condition_memorypressure=false ~node_condition_ready=true \
         ~node_address_Hostname=worker-1.local ~node_address_InternalIP=10.0.0.1 \
         ~node_address_ExternalIP=1.2.3.4"
    );
    setup.until(&[&node]).await;
    assert_eq!(
        setup.number("prometheus_sd_kubernetes_events_total", &["node", "add"]),
        2.0
    );
    assert_eq!(
        setup.number("prometheus_sd_kubernetes_failures_total", &[]),
        0.0
    );
}

#[tokio::test]
async fn pods() {
    let mut setup = Setup::new().await;
    setup.cluster.put("pods", pod());
    setup.cluster.put(
        "pods",
        json!({
            "metadata": {"name": "starts", "namespace": "shop"},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 1}]}]},
            "status": {"phase": "Pending"},
        }),
    );
    setup.cluster.put(
        "pods",
        json!({
            "metadata": {"name": "six", "namespace": "shop", "labels": null},
            "spec": {"containers": [{"name": "c", "image": "i",
                "ports": [{"containerPort": 53, "protocol": "UDP"}]}], "initContainers": null},
            "status": {"podIP": "fd00::7"},
        }),
    );
    setup.run("role: pod");
    let common = format!("{POD} ~namespace=shop");
    let http =
        format!("__address__=10.1.0.7:8080 {common} {WEB_8080} ~pod_container_id=containerd://w");
    let metrics =
        format!("__address__=10.1.0.7:9000 {common} {WEB_9000} ~pod_container_id=containerd://w");
    let aside = format!(
        "__address__=10.1.0.7 {common} ~pod_container_name=aside ~pod_container_image=aside:3 \
         ~pod_container_id=containerd://a ~pod_container_init=false"
    );
    let setup_container = format!(
        "__address__=10.1.0.7 {common} ~pod_container_name=setup ~pod_container_image=busybox:1 \
         ~pod_container_id=containerd://s ~pod_container_init=true"
    );
    let six = "__address__=[fd00::7]:53 ~namespace=shop ~pod_name=six ~pod_ip=fd00::7 \
         ~pod_ready=unknown ~pod_uid=pods-shop-six ~pod_container_name=c ~pod_container_image=i \
         ~pod_container_init=false ~pod_container_port_number=53 ~pod_container_port_protocol=UDP";
    setup
        .until(&[&http, &metrics, &aside, &setup_container, six])
        .await;
}

#[tokio::test]
async fn owners_of_pods_are_named_if_asked() {
    let mut setup = Setup::new().await;
    let mut job_pod = pod();
    job_pod["metadata"]["name"] = "tick".into();
    job_pod["metadata"]["ownerReferences"] =
        json!([{"kind": "Job", "name": "tick-1", "controller": true}]);
    job_pod["spec"]["containers"] = json!([{"name": "t", "image": "t:1"}]);
    job_pod["spec"]["initContainers"] = json!([]);
    setup.cluster.put("pods", job_pod);
    setup
        .cluster
        .put("jobs", owned("tick-1", "CronJob", "tick"));
    setup
        .cluster
        .put("replicasets", owned("web-5d8f", "Deployment", "web"));
    let mut plain = pod();
    plain["spec"]["containers"] = json!([{"name": "t", "image": "t:1"}]);
    plain["spec"]["initContainers"] = json!([]);
    setup.cluster.put("pods", plain);
    setup.run("role: pod, attach_metadata: {deployment: true, job: true, cronjob: true}");
    let container = "__address__=10.1.0.7 ~namespace=shop ~pod_container_name=t \
         ~pod_container_image=t:1 ~pod_container_init=false";
    let web = format!("{container} {POD} ~pod_deployment_name=web");
    let tick = format!("{container} {POD} ~pod_job_name=tick-1 ~pod_cronjob_name=tick")
        .replace("=ReplicaSet", "=Job")
        .replace("controller_name=web-5d8f", "controller_name=tick-1")
        .replace("web-5d8f-x", "tick");
    setup.until(&[&web, &tick]).await;

    // The owner goes, and its name with it.
    setup.cluster.delete("replicasets", "shop", "web-5d8f");
    let web = format!("{container} {POD}");
    setup.until(&[&web, &tick]).await;
}

#[tokio::test]
async fn services() {
    let mut setup = Setup::new().await;
    setup.cluster.put("services", service());
    setup.cluster.put(
        "services",
        json!({
            "metadata": {"name": "out", "namespace": "shop"},
            "spec": {"type": "ExternalName", "externalName": "db.example.com",
                     "ports": [{"port": 5432, "protocol": "TCP"}]},
        }),
    );
    for (name, ingress) in [
        (
            "lb",
            json!([{"ip": "5.6.7.8"}, {"hostname": "h"}, {"ip": "5.6.7.9"}]),
        ),
        ("old", json!(null)),
    ] {
        setup.cluster.put("services", json!({
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.2", "loadBalancerIP": "9.9.9.9",
                     "ports": [{"name": "p", "port": 443, "protocol": "TCP"}]},
            "status": {"loadBalancer": {"ingress": ingress}},
        }));
    }
    setup.cluster.put("namespaces", namespace());
    setup.run("role: service, attach_metadata: {namespace: true}");
    let balanced = |name: &str, ip: &str| {
        format!(
            "__address__={name}.shop.svc:443 ~namespace=shop ~service_name={name} \
             ~service_cluster_ip=10.96.0.2 ~service_loadbalancer_ip={ip} {NAMESPACE} \
             ~service_type=LoadBalancer ~service_port_name=p ~service_port_number=443 \
             ~service_port_protocol=TCP"
        )
    };
    let web = format!(
        "__address__=web.shop.svc:80 {SERVICE} {NAMESPACE} ~service_cluster_ip=10.96.0.9 \
         ~service_type=ClusterIP ~service_port_name=http ~service_port_number=80 \
         ~service_port_protocol=TCP"
    );
    let out = format!(
        "__address__=out.shop.svc:5432 ~namespace=shop ~service_name=out {NAMESPACE} \
         ~service_type=ExternalName ~service_external_name=db.example.com \
         ~service_port_number=5432 ~service_port_protocol=TCP"
    );
    let (lb, old) = (
        balanced("lb", "5.6.7.8,5.6.7.9"),
        balanced("old", "9.9.9.9"),
    );
    setup.until(&[&web, &out, &lb, &old]).await;
}

#[tokio::test]
async fn endpoints_with_all_that_stands_behind_them() {
    let mut setup = Setup::new().await;
    setup.cluster.put("nodes", node());
    setup.cluster.put("namespaces", namespace());
    setup.cluster.put("services", service());
    setup.cluster.put("pods", pod());
    setup.cluster.put(
        "endpoints",
        json!({
            "metadata": {"name": "web", "namespace": "shop", "labels": {"team": "b"},
                         "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "t"}},
            "subsets": [{
                "addresses": [{"ip": "10.1.0.7", "nodeName": "worker-1",
                    "targetRef": {"kind": "Pod", "namespace": "shop", "name": "web-5d8f-x"}}],
                "notReadyAddresses": [
                    {"ip": "10.1.0.8", "hostname": "other"},
                    {"ip": "10.0.0.1", "targetRef": {"kind": "Node", "name": "worker-1"}},
                ],
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            }],
        }),
    );
    setup.cluster.put(
        "endpoints",
        json!({"metadata": {"name": "none"}, "subsets": null}),
    );
    setup.run("role: endpoints, attach_metadata: {node: true, namespace: true}");
    let common = format!(
        "{SERVICE} {NAMESPACE} ~endpoints_name=web ~endpoints_label_team=b \
         ~endpoints_labelpresent_team=true \
         ~endpoints_annotation_endpoints_kubernetes_io_last_change_trigger_time=t \
         ~endpoints_annotationpresent_endpoints_kubernetes_io_last_change_trigger_time=true"
    );
    let port = "~endpoint_port_name=http ~endpoint_port_protocol=TCP";
    let backed = format!(
        "__address__=10.1.0.7:8080 {common} {port} ~endpoint_ready=true {NODE} {POD} {WEB_8080} \
         ~endpoint_node_name=worker-1 ~endpoint_address_target_kind=Pod \
         ~endpoint_address_target_name=web-5d8f-x"
    );
    let bare = format!(
        "__address__=10.1.0.8:8080 {common} {port} ~endpoint_ready=false ~endpoint_hostname=other"
    );
    let host = format!(
        "__address__=10.0.0.1:8080 {common} {port} ~endpoint_ready=false {NODE} \
         ~endpoint_address_target_kind=Node ~endpoint_address_target_name=worker-1"
    );
    // The pod's other port is a target too.
    let other = format!("__address__=10.1.0.7:9000 {common} {POD} {WEB_9000}");
    setup.until(&[&backed, &bare, &host, &other]).await;

    // The service goes: its labels do too.
    setup.cluster.delete("services", "shop", "web");
    let without = |target: &str| {
        let mut kept: Vec<&str> = target.split_whitespace().collect();
        kept.retain(|label| !label.starts_with("~service_"));
        kept.join(" ")
    };
    let gone: Vec<String> = [&backed, &bare, &host, &other].map(|t| without(t)).to_vec();
    let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
    setup.until(&gone).await;

    // A pod that ends changes only its phase.
    let mut ended = pod();
    ended["status"]["phase"] = "Succeeded".into();
    setup.cluster.put("pods", ended);
    let ended: Vec<String> = gone
        .iter()
        .map(|t| t.replace("=Running", "=Succeeded"))
        .collect();
    setup
        .until(&ended.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let count = |role, event| setup.number("prometheus_sd_kubernetes_events_total", &[role, event]);
    assert_eq!(count("endpoints", "add"), 2.0);
    assert_eq!(
        (count("service", "add"), count("service", "delete")),
        (1.0, 1.0)
    );
    assert_eq!((count("pod", "add"), count("pod", "update")), (0.0, 1.0));
}

#[tokio::test]
async fn endpoint_slices() {
    let mut setup = Setup::new().await;
    setup.cluster.put("nodes", node());
    setup.cluster.put("pods", pod());
    let mut both = service();
    both["spec"]["ipFamilyPolicy"] = "PreferDualStack".into();
    both["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]);
    setup.cluster.put("services", both);
    let slice = |name: &str, family: &str, address: &str| {
        json!({
            "metadata": {"name": name, "namespace": "shop",
                         "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": family,
            "endpoints": [{
                "addresses": [address],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "hostname": "h", "nodeName": "worker-1", "zone": "z1",
                "deprecatedTopology": {"topology.kubernetes.io/region": "r"},
                "targetRef": {"kind": "Pod", "namespace": "shop", "name": "web-5d8f-x"},
            }, {
                "addresses": ["10.1.0.9"], "conditions": {},
                "targetRef": {"kind": "Node", "name": "worker-1"},
            }],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"},
                      {"name": ""}],
        })
    };
    setup
        .cluster
        .put("endpointslices", slice("web-4", "IPv4", "10.1.0.7"));
    setup
        .cluster
        .put("endpointslices", slice("web-6", "IPv6", "fd00::7"));
    setup.run("role: endpointslice, attach_metadata: {node: true}");
    let common = format!(
        "{SERVICE} ~endpointslice_name=web-4 ~endpointslice_address_type=IPv4 \
         ~endpointslice_label_kubernetes_io_service_name=web \
         ~endpointslice_labelpresent_kubernetes_io_service_name=true"
    );
    let http = "~endpointslice_port=8080 ~endpointslice_port_name=http \
         ~endpointslice_port_protocol=TCP ~endpointslice_port_app_protocol=http";
    let conditions = "~endpointslice_endpoint_conditions_ready=true \
         ~endpointslice_endpoint_conditions_serving=true \
         ~endpointslice_endpoint_conditions_terminating=false";
    let endpoint = format!(
        "{conditions} {NODE} {POD} ~endpointslice_endpoint_hostname=h \
         ~endpointslice_endpoint_node_name=worker-1 ~endpointslice_endpoint_zone=z1 \
         ~endpointslice_endpoint_topology_topology_kubernetes_io_region=r \
         ~endpointslice_endpoint_topology_present_topology_kubernetes_io_region=true \
         ~endpointslice_address_target_kind=Pod ~endpointslice_address_target_name=web-5d8f-x"
    );
    let on_node = format!(
        "{NODE} ~endpointslice_address_target_kind=Node \
         ~endpointslice_address_target_name=worker-1"
    );
    setup
        .until(&[
            &format!("__address__=10.1.0.7:8080 {common} {http} {endpoint} {WEB_8080}"),
            &format!("__address__=10.1.0.7 {common} {endpoint}"),
            &format!("__address__=10.1.0.9:8080 {common} {http} {on_node}"),
            &format!("__address__=10.1.0.9 {common} {on_node}"),
            &format!("__address__=10.1.0.7:9000 {common} {POD} {WEB_9000}"),
        ])
        .await;
}

#[tokio::test]
async fn ingresses() {
    let mut setup = Setup::new().await;
    setup.cluster.put(
        "ingresses",
        json!({
            "metadata": {"name": "in", "namespace": "shop", "annotations": {"a/b": "c"}},
            "spec": {
                "ingressClassName": "nginx",
                "tls": [{"hosts": ["*.example.com", "exact.org"], "secretName": "s"}],
                "rules": [
                    {"host": "a.example.com", "http": {"paths": [
                        {"path": "/x", "pathType": "Prefix", "backend": {}}, {"path": ""}]}},
                    {"host": "exact.org"},
                    {"host": "plain.net", "http": {"paths": []}},
                    {"host": "a.b.example.com"},
                ],
            },
        }),
    );
    setup.run("role: ingress");
    let target = |scheme: &str, host: &str, path: &str| {
        format!(
            "__address__={host} ~namespace=shop ~ingress_name=in ~ingress_class_name=nginx \
             ~ingress_annotation_a_b=c ~ingress_annotationpresent_a_b=true \
             ~ingress_scheme={scheme} ~ingress_host={host} ~ingress_path={path}"
        )
    };
    setup
        .until(&[
            &target("https", "a.example.com", "/x"),
            &target("https", "a.example.com", "/"),
            &target("https", "exact.org", "/"),
            &target("http", "a.b.example.com", "/"),
        ])
        .await;
}
