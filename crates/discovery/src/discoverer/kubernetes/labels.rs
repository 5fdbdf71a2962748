//! The labels that objects give, each named `__meta_kubernetes_<what>`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use model::Labels;

use super::super::sanitized;
use super::around::Lookup;
use super::object::{Meta, Node, Object, Pod, Stored};

const PREFIX: &str = "__meta_kubernetes_";

/// Labels while they are gathered; later ones win.
#[derive(Clone, Debug, Default)]
pub(super) struct Set(BTreeMap<String, String>);

impl Set {
    /// The labels of one target.
    pub(super) fn of_address(address: impl Into<String>) -> Self {
        let mut set = Self::default();
        set.0.insert("__address__".to_owned(), address.into());
        set
    }

    /// Adds a label that has no prefix.
    pub(super) fn plain(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// Adds `__meta_kubernetes_<name>`.
    pub(super) fn add(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(format!("{PREFIX}{name}"), value.into());
    }

    /// Adds a label whose name ends in a word of the cluster's users.
    pub(super) fn add_named(&mut self, what: &str, word: &str, value: impl Into<String>) {
        let mut name = String::with_capacity(PREFIX.len() + what.len() + word.len());
        let _ = write!(name, "{PREFIX}{what}");
        name.extend(word.chars().map(sanitized));
        self.0.insert(name, value.into());
    }

    /// Adds labels and annotations of an object.
    pub(super) fn add_pairs(&mut self, what: &str, meta: &Meta) {
        for (kind, pairs) in [("label", &meta.labels), ("annotation", &meta.annotations)] {
            for (name, value) in pairs {
                self.add_named(&format!("{what}_{kind}_"), name, &**value);
                self.add_named(&format!("{what}_{kind}present_"), name, "true");
            }
        }
    }

    /// Adds name, labels and annotations of an object.
    pub(super) fn add_meta(&mut self, what: &str, meta: &Meta) {
        self.add(&format!("{what}_name"), &*meta.name);
        self.add_pairs(what, meta);
    }

    /// Adds the labels of a namespace, if they are asked for.
    pub(super) fn add_namespace(&mut self, namespace: &str, look: &mut Lookup<'_>) {
        if let Some(found) = look.namespace(namespace) {
            self.add_pairs("namespace", &found.meta);
        }
    }

    /// Adds the labels of a node, if they are asked for.
    pub(super) fn add_node(&mut self, name: &str, look: &mut Lookup<'_>) {
        if let Some(node) = look.node(name) {
            self.add_meta("node", &node.meta);
        }
    }

    /// Adds what is said about a pod wherever it backs a target.
    pub(super) fn add_pod(&mut self, pod: &Stored<Pod>, look: &mut Lookup<'_>) {
        let Stored { meta, object } = pod;
        let conditions = object.status.conditions.iter();
        let ready = conditions
            .filter(|c| *c.kind == *"Ready")
            .map(|c| c.status.to_lowercase());
        self.add("pod_ip", &*object.status.pod_ip);
        self.add(
            "pod_ready",
            ready.into_iter().next().unwrap_or("unknown".to_owned()),
        );
        self.add("pod_phase", &*object.status.phase);
        self.add("pod_node_name", &*object.spec.node_name);
        self.add("pod_host_ip", &*object.status.host_ip);
        self.add("pod_uid", &*meta.uid);
        self.add_meta("pod", meta);
        let Some(owner) = &meta.controller else {
            return;
        };
        self.add("pod_controller_kind", &*owner.kind);
        self.add("pod_controller_name", &*owner.name);
        match &*owner.kind {
            "ReplicaSet" => {
                let set = look.replica_set(&meta.namespace, &owner.name);
                if let Some(name) = set
                    .as_ref()
                    .and_then(|s| s.meta.controlled_by("Deployment"))
                {
                    self.add("pod_deployment_name", name);
                }
            }
            "Job" => {
                if look.wants_job() {
                    self.add("pod_job_name", &*owner.name);
                }
                let job = look.job(&meta.namespace, &owner.name);
                if let Some(name) = job.as_ref().and_then(|j| j.meta.controlled_by("CronJob")) {
                    self.add("pod_cronjob_name", name);
                }
            }
            _ => {}
        }
    }

    /// Adds what is said about a node as a target.
    pub(super) fn add_node_target(&mut self, node: &Stored<Node>) {
        self.add("node_provider_id", &*node.object.spec.provider_id);
        for condition in &node.object.status.conditions {
            let kind = condition.kind.to_lowercase();
            self.add_named("node_condition_", &kind, condition.status.to_lowercase());
        }
        self.add_meta("node", &node.meta);
    }

    /// Adds namespace, name, labels and annotations.
    pub(super) fn add_object<K: Object>(&mut self, what: &str, object: &Stored<K>) {
        self.add("namespace", &*object.meta.namespace);
        self.add_meta(what, &object.meta);
    }

    /// The finished labels.
    pub(super) fn build(&self) -> Labels {
        let there = self.0.iter().filter(|(_, value)| !value.is_empty());
        Labels::from_sorted(there.map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

/// `host:port`, with brackets around an address of version 6.
pub(super) fn host_port(host: &str, port: i32) -> String {
    match host.contains([':', '%']) {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}
