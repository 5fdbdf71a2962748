//! The kinds of objects that are read, field by field as the Kubernetes API names them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kube::core::{DynamicResourceScope, ObjectMeta};
use serde::Deserialize;

use super::{Kind, Object, Travelling, null_is_empty};

/// Structs of fields that may be absent or null.
macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub(in super::super) struct $name {
            $(
                #[serde(deserialize_with = "null_is_empty")]
                $(#[$attr])*
                pub $field: $type,
            )*
        }
    )*};
}

/// Kinds of objects: where they are found, and their fields beside the metadata.
macro_rules! kinds {
    ($($name:ident ($group:literal, $version:literal, $plural:literal, labelled: $labelled:literal)
        { $($(#[$attr:meta])* $field:ident: $type:ty,)* })*) => {$(
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub(in super::super) struct $name {
            metadata: Travelling,
            $(
                #[serde(deserialize_with = "null_is_empty")]
                $(#[$attr])*
                pub $field: $type,
            )*
        }

        impl kube::Resource for $name {
            type DynamicType = ();
            type Scope = DynamicResourceScope;

            fn kind((): &()) -> Cow<'_, str> {
                stringify!($name).into()
            }

            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> Cow<'_, str> {
                $version.into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                self.metadata.get()
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                self.metadata.get_mut()
            }
        }

        impl Object for $name {
            const KIND: Kind = Kind::$name;
            const LABELLED: bool = $labelled;

            fn forget_meta(&mut self) {
                self.metadata = Travelling::default();
            }
        }
    )*};
}

type Text = Box<str>;
type List<T> = Box<[T]>;

kinds! {
    Node ("", "v1", "nodes", labelled: true) {
        spec: NodeSpec,
        status: NodeStatus,
    }
    Namespace ("", "v1", "namespaces", labelled: true) {}
    Pod ("", "v1", "pods", labelled: true) {
        spec: PodSpec,
        status: PodStatus,
    }
    Service ("", "v1", "services", labelled: true) {
        spec: ServiceSpec,
        status: ServiceStatus,
    }
    Endpoints ("", "v1", "endpoints", labelled: true) {
        subsets: List<Subset>,
    }
    EndpointSlice ("discovery.k8s.io", "v1", "endpointslices", labelled: true) {
        address_type: Text,
        endpoints: List<Endpoint>,
        ports: List<EndpointSlicePort>,
    }
    Ingress ("networking.k8s.io", "v1", "ingresses", labelled: true) {
        spec: IngressSpec,
    }
    ReplicaSet ("apps", "v1", "replicasets", labelled: false) {}
    Job ("batch", "v1", "jobs", labelled: false) {}
}

parts! {
    NodeSpec {
        #[serde(rename = "providerID")]
        provider_id: Text,
    }
    NodeStatus {
        addresses: List<NodeAddress>,
        conditions: List<Condition>,
        daemon_endpoints: DaemonEndpoints,
    }
    NodeAddress {
        #[serde(rename = "type")]
        kind: Text,
        address: Text,
    }
    DaemonEndpoints {
        kubelet_endpoint: DaemonEndpoint,
    }
    DaemonEndpoint {
        // As Kubernetes itself spells it.
        #[serde(rename = "Port")]
        port: i32,
    }
    Condition {
        #[serde(rename = "type")]
        kind: Text,
        status: Text,
    }

    PodSpec {
        node_name: Text,
        containers: List<Container>,
        init_containers: List<Container>,
    }
    Container {
        name: Text,
        image: Text,
        ports: List<ContainerPort>,
    }
    ContainerPort {
        name: Text,
        container_port: i32,
        protocol: Text,
    }
    PodStatus {
        phase: Text,
        #[serde(rename = "podIP")]
        pod_ip: Text,
        #[serde(rename = "hostIP")]
        host_ip: Text,
        conditions: List<Condition>,
        container_statuses: List<ContainerStatus>,
        init_container_statuses: List<ContainerStatus>,
    }
    ContainerStatus {
        name: Text,
        #[serde(rename = "containerID")]
        container_id: Text,
    }

    ServiceSpec {
        #[serde(rename = "type")]
        kind: Text,
        #[serde(rename = "clusterIP")]
        cluster_ip: Text,
        external_name: Text,
        #[serde(rename = "loadBalancerIP")]
        load_balancer_ip: Text,
        ip_family_policy: Text,
        ip_families: List<Text>,
        ports: List<ServicePort>,
    }
    ServicePort {
        name: Text,
        port: i32,
        protocol: Text,
    }
    ServiceStatus {
        load_balancer: LoadBalancer,
    }
    LoadBalancer {
        ingress: List<LoadBalancerAddress>,
    }
    LoadBalancerAddress {
        ip: Text,
    }

    Subset {
        addresses: List<EndpointsAddress>,
        not_ready_addresses: List<EndpointsAddress>,
        ports: List<EndpointsPort>,
    }
    EndpointsAddress {
        ip: Text,
        hostname: Text,
        node_name: Option<Text>,
        target_ref: Option<Reference>,
    }
    EndpointsPort {
        name: Text,
        port: i32,
        protocol: Text,
    }
    Reference {
        kind: Text,
        namespace: Text,
        name: Text,
    }

    Endpoint {
        addresses: List<Text>,
        conditions: EndpointConditions,
        hostname: Option<Text>,
        target_ref: Option<Reference>,
        node_name: Option<Text>,
        zone: Option<Text>,
        deprecated_topology: BTreeMap<Text, Text>,
    }
    EndpointConditions {
        ready: Option<bool>,
        serving: Option<bool>,
        terminating: Option<bool>,
    }
    EndpointSlicePort {
        name: Option<Text>,
        port: Option<i32>,
        protocol: Option<Text>,
        app_protocol: Option<Text>,
    }

    IngressSpec {
        ingress_class_name: Text,
        rules: List<IngressRule>,
        tls: List<IngressTls>,
    }
    IngressRule {
        host: Text,
        http: Option<IngressPaths>,
    }
    IngressPaths {
        paths: List<IngressPath>,
    }
    IngressPath {
        path: Text,
    }
    IngressTls {
        hosts: List<Text>,
    }
}
