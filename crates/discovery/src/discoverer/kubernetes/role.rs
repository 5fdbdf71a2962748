//! Targets of each role: one group for one object.

mod endpoints;
mod endpointslice;
mod ingress;
mod node;
mod pod;
mod service;

#[cfg(test)]
mod tests;

use model::Labels;

use super::around::Lookup;
use super::labels::{Set, host_port};
use super::object::{Container, Object, Pod, Stored};

/// Objects that become targets.
pub(super) trait Primary: Object {
    /// The first part of a group's source.
    const SOURCE: &'static str;

    /// The labels that all targets of `this` have, and those of each target. Nothing if the object
    /// says too little, which leaves what was known of it.
    fn targets(this: &Stored<Self>, look: &mut Lookup<'_>) -> Option<(Labels, Vec<Labels>)>;
}

/// Containers of a pod with whether each only prepares it; those come last.
fn containers(pod: &Pod) -> impl Iterator<Item = (&Container, bool)> {
    let usual = pod.spec.containers.iter().map(|c| (c, false));
    usual.chain(pod.spec.init_containers.iter().map(|c| (c, true)))
}

/// Pods behind the addresses of a service, each with the ports that became targets.
#[derive(Default)]
struct Backing(Vec<(std::sync::Arc<Stored<Pod>>, Vec<i32>)>);

impl Backing {
    /// Adds what the pod behind `target` says, and that this port is a target already. `protocol`
    /// is what the target says of its protocol, if that goes before what the container says.
    fn describe(
        &mut self,
        target: &mut Set,
        pod: std::sync::Arc<Stored<Pod>>,
        port: Option<i32>,
        protocol: Option<&str>,
        look: &mut Lookup<'_>,
    ) {
        target.add_pod(&pod, look);
        for (container, init) in containers(&pod.object) {
            let same = container
                .ports
                .iter()
                .find(|p| Some(p.container_port) == port);
            if let Some(found) = same {
                target.add("pod_container_name", &*container.name);
                target.add("pod_container_image", &*container.image);
                target.add("pod_container_port_name", &*found.name);
                target.add(
                    "pod_container_port_number",
                    found.container_port.to_string(),
                );
                let protocol = protocol.unwrap_or(&found.protocol);
                target.add("pod_container_port_protocol", protocol);
                target.add("pod_container_init", init.to_string());
            }
        }
        match self
            .0
            .iter_mut()
            .find(|(p, _)| std::sync::Arc::ptr_eq(p, &pod))
        {
            Some((_, ports)) => ports.extend(port),
            None => self.0.push((pod, port.into_iter().collect())),
        }
    }

    /// Targets for the ports of these pods that no service names.
    fn other_ports(self, look: &mut Lookup<'_>) -> Vec<Labels> {
        let mut targets = Vec::new();
        for (pod, seen) in self.0 {
            let ip = &*pod.object.status.pod_ip;
            if ip.is_empty() {
                continue;
            }
            for (container, init) in containers(&pod.object) {
                for port in &container.ports {
                    if seen.contains(&port.container_port) {
                        continue;
                    }
                    let mut target = Set::of_address(host_port(ip, port.container_port));
                    target.add("pod_container_name", &*container.name);
                    target.add("pod_container_image", &*container.image);
                    target.add("pod_container_port_name", &*port.name);
                    target.add("pod_container_port_number", port.container_port.to_string());
                    target.add("pod_container_port_protocol", &*port.protocol);
                    target.add("pod_container_init", init.to_string());
                    target.add_pod(&pod, look);
                    targets.push(target.build());
                }
            }
        }
        targets
    }
}
