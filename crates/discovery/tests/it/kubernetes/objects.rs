//! Objects as a cluster has them: the fields that matter, and some of those that do not.

use serde_json::{Value, json};

pub(super) fn node() -> Value {
    json!({
        "metadata": {
            "name": "worker-1",
            "labels": {"kubernetes.io/os": "linux", "topology.kubernetes.io/zone": "z1"},
            "annotations": {"node.alpha.kubernetes.io/ttl": "0"},
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "managedFields": [{"manager": "kubelet", "operation": "Update", "apiVersion": "v1",
                "time": "2026-01-02T03:04:05Z", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:labels": {".": {}}}}}],
        },
        "spec": {"podCIDR": "10.244.0.0/24", "providerID": "aws:///z1/i-1"},
        "status": {
            "capacity": {"cpu": "4", "memory": "16Gi"},
            "conditions": [
                {"type": "MemoryPressure", "status": "False", "reason": "KubeletHasSufficientMemory"},
                {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-02T03:04:05Z"},
            ],
            "addresses": [
                {"type": "Hostname", "address": "worker-1.local"},
                {"type": "InternalIP", "address": "10.0.0.1"},
                {"type": "InternalIP", "address": "fd00::1"},
                {"type": "ExternalIP", "address": "1.2.3.4"},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "images": [{"names": ["a"], "sizeBytes": 1}],
        },
    })
}

/// A pod with two usual containers and one that prepares it.
pub(super) fn pod() -> Value {
    json!({
        "metadata": {
            "name": "web-5d8f-x", "namespace": "shop", "uid": "abc-123",
            "labels": {"app.kubernetes.io/name": "web"},
            "annotations": {"prometheus.io/scrape": "true"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "x"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d8f", "uid": "y",
                 "controller": true, "blockOwnerDeletion": true},
            ],
        },
        "spec": {
            "nodeName": "worker-1",
            "initContainers": [{"name": "setup", "image": "busybox:1"}],
            "containers": [
                {"name": "web", "image": "web:2", "env": [{"name": "A", "value": "b"}],
                 "ports": [
                    {"name": "http", "containerPort": 8080, "protocol": "TCP"},
                    {"name": "metrics", "containerPort": 9000, "protocol": "TCP"},
                 ]},
                {"name": "aside", "image": "aside:3"},
            ],
        },
        "status": {
            "phase": "Running", "hostIP": "10.0.0.1", "podIP": "10.1.0.7",
            "podIPs": [{"ip": "10.1.0.7"}],
            "conditions": [
                {"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"},
            ],
            "containerStatuses": [
                {"name": "web", "containerID": "containerd://w", "ready": true, "state": {}},
                {"name": "aside", "containerID": "containerd://a", "ready": true},
            ],
            "initContainerStatuses": [{"name": "setup", "containerID": "containerd://s"}],
        },
    })
}

/// The service of the pod.
pub(super) fn service() -> Value {
    json!({
        "metadata": {
            "name": "web", "namespace": "shop",
            "labels": {"team": "a"}, "annotations": {"note": "n"},
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "selector": {"app.kubernetes.io/name": "web"},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}],
        },
        "status": {"loadBalancer": {}},
    })
}

/// A replica set or job that is owned by another object.
pub(super) fn owned(name: &str, owner_kind: &str, owner: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "shop", "labels": {"big": "x"},
            "ownerReferences": [{"kind": owner_kind, "name": owner, "controller": true}],
        },
        "spec": {"replicas": 1},
    })
}

pub(super) fn namespace() -> Value {
    json!({
        "metadata": {"name": "shop", "labels": {"env": "prod"}, "annotations": {"owner": "me"}},
        "status": {"phase": "Active"},
    })
}

/// A small pod with one port.
pub(super) fn small_pod(name: &str, ip: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": "n", "containers": [
            {"name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIP": ip},
    })
}
