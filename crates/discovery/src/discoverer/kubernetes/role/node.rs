//! Nodes: one target each, the kubelet.

use model::Labels;

use super::Primary;
use crate::discoverer::kubernetes::around::Lookup;
use crate::discoverer::kubernetes::labels::{Set, host_port};
use crate::discoverer::kubernetes::object::{Node, Stored};

/// Addresses of a node, the one to be taken first first.
const ADDRESSES: [&str; 6] = [
    "InternalIP",
    "InternalDNS",
    "ExternalIP",
    "ExternalDNS",
    "LegacyHostIP",
    "Hostname",
];

impl Primary for Node {
    const SOURCE: &'static str = "node";

    fn targets(this: &Stored<Self>, _: &mut Lookup<'_>) -> Option<(Labels, Vec<Labels>)> {
        let status = &this.object.status;
        let named = |kind: &&str| status.addresses.iter().find(|a| *a.kind == **kind);
        let Some(address) = ADDRESSES.iter().find_map(named) else {
            tracing::warn!(
                node = &*this.meta.name,
                "a node of the cluster has no address"
            );
            return None;
        };
        let mut labels = Set::default();
        labels.add_node_target(this);

        let port = status.daemon_endpoints.kubelet_endpoint.port;
        let mut target = Set::of_address(host_port(&address.address, port));
        target.plain("instance", &this.meta.name);
        // The first of each kind is said.
        for address in status.addresses.iter().rev() {
            target.add_named("node_address_", &address.kind, &*address.address);
        }
        Some((labels.build(), vec![target.build()]))
    }
}
