//! Endpoints: one target for each port of each address, and for the other ports of their pods.

use model::Labels;

use super::{Backing, Primary};
use crate::discoverer::kubernetes::around::Lookup;
use crate::discoverer::kubernetes::labels::{Set, host_port};
use crate::discoverer::kubernetes::object::{
    Endpoints, EndpointsAddress, EndpointsPort, Reference, Stored,
};

impl Primary for Endpoints {
    const SOURCE: &'static str = "endpoints";

    fn targets(this: &Stored<Self>, look: &mut Lookup<'_>) -> Option<(Labels, Vec<Labels>)> {
        let Stored { meta, object } = this;
        let mut labels = Set::default();
        labels.add("namespace", &*meta.namespace);
        if let Some(service) = look.service(&meta.namespace, &meta.name) {
            labels.add_object("service", &service);
        }
        labels.add_meta("endpoints", meta);
        labels.add_namespace(&meta.namespace, look);
        if let Some(what) = meta.label("endpoints.kubernetes.io/over-capacity") {
            tracing::warn!(
                endpoints = &*meta.name,
                "over capacity ({what}): use the role endpointslice, which names all addresses"
            );
        }

        let mut targets = Vec::new();
        let mut backing = Backing::default();
        for subset in &object.subsets {
            for port in &subset.ports {
                let ready = subset.addresses.iter().map(|a| (a, true));
                let unready = subset.not_ready_addresses.iter().map(|a| (a, false));
                for (address, ready) in ready.chain(unready) {
                    targets.push(target(address, port, ready, &mut backing, look));
                }
            }
        }
        targets.extend(backing.other_ports(look));
        Some((labels.build(), targets))
    }
}

fn target(
    address: &EndpointsAddress,
    port: &EndpointsPort,
    ready: bool,
    backing: &mut Backing,
    look: &mut Lookup<'_>,
) -> Labels {
    let mut target = Set::of_address(host_port(&address.ip, port.port));
    target.add("endpoint_port_name", &*port.name);
    target.add("endpoint_port_protocol", &*port.protocol);
    target.add("endpoint_ready", ready.to_string());
    target.add("endpoint_hostname", &*address.hostname);
    if let Some(node) = &address.node_name {
        target.add("endpoint_node_name", &**node);
    }
    let reference = address.target_ref.as_ref();
    let mut node = address.node_name.as_deref();
    if let Some(Reference { kind, name, .. }) = reference {
        target.add("endpoint_address_target_kind", &**kind);
        target.add("endpoint_address_target_name", &**name);
        node = node.or_else(|| (**kind == *"Node").then_some(&**name));
    }
    if let Some(node) = node {
        target.add_node(node, look);
    }
    let pod = reference.filter(|r| *r.kind == *"Pod");
    if let Some(pod) = pod.and_then(|r| look.pod(&r.namespace, &r.name)) {
        backing.describe(
            &mut target,
            pod,
            Some(port.port),
            Some(&port.protocol),
            look,
        );
    }
    target.build()
}
