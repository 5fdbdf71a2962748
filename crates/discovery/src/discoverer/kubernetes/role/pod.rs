//! Pods: one target for each port of each container, and one for a container without ports.

use model::Labels;

use super::{Primary, containers};
use crate::discoverer::kubernetes::around::Lookup;
use crate::discoverer::kubernetes::labels::{Set, host_port};
use crate::discoverer::kubernetes::object::{Pod, Stored};

impl Primary for Pod {
    const SOURCE: &'static str = "pod";

    fn targets(this: &Stored<Self>, look: &mut Lookup<'_>) -> Option<(Labels, Vec<Labels>)> {
        let Pod { spec, status, .. } = &this.object;
        // It starts, or was evicted.
        if status.pod_ip.is_empty() {
            return Some(Default::default());
        }
        // Selecting nodes selects their pods.
        if look.has_nodes() && look.node(&spec.node_name).is_none() {
            return Some(Default::default());
        }
        let mut labels = Set::default();
        labels.add_pod(this, look);
        labels.add("namespace", &*this.meta.namespace);
        labels.add_node(&spec.node_name, look);
        labels.add_namespace(&this.meta.namespace, look);

        let mut targets = Vec::new();
        for (container, init) in containers(&this.object) {
            let statuses = match init {
                true => &status.init_container_statuses,
                false => &status.container_statuses,
            };
            let found = statuses.iter().find(|s| s.name == container.name);
            let mut common = Set::of_address(&*status.pod_ip);
            common.add("pod_container_name", &*container.name);
            common.add("pod_container_id", found.map_or("", |s| &s.container_id));
            common.add("pod_container_image", &*container.image);
            common.add("pod_container_init", init.to_string());
            if container.ports.is_empty() {
                targets.push(common.build());
            }
            for port in &container.ports {
                let mut target = common.clone();
                let address = host_port(&status.pod_ip, port.container_port);
                target.plain("__address__", &address);
                target.add("pod_container_port_number", port.container_port.to_string());
                target.add("pod_container_port_name", &*port.name);
                target.add("pod_container_port_protocol", &*port.protocol);
                targets.push(target.build());
            }
        }
        Some((labels.build(), targets))
    }
}
