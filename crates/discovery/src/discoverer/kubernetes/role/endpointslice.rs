//! Endpoint slices: as endpoints, in pieces that say more.

use model::Labels;

use super::{Backing, Primary};
use crate::discoverer::kubernetes::around::Lookup;
use crate::discoverer::kubernetes::labels::{Set, host_port};
use crate::discoverer::kubernetes::object::{
    Endpoint, EndpointSlice, EndpointSlicePort, Service, Stored,
};

impl Primary for EndpointSlice {
    const SOURCE: &'static str = "endpointslice";

    fn targets(this: &Stored<Self>, look: &mut Lookup<'_>) -> Option<(Labels, Vec<Labels>)> {
        let Stored { meta, object } = this;
        let mut labels = Set::default();
        labels.add("namespace", &*meta.namespace);
        labels.add("endpointslice_address_type", &*object.address_type);
        labels.add_meta("endpointslice", meta);
        let service = meta.label("kubernetes.io/service-name");
        let service = service.and_then(|name| look.service(&meta.namespace, name));
        if let Some(service) = &service {
            labels.add_object("service", service);
        }
        labels.add_namespace(&meta.namespace, look);

        let mut targets = Vec::new();
        let mut backing = Backing::default();
        if service.is_none_or(|s| is_first_family(&s.object, &object.address_type)) {
            for endpoint in &object.endpoints {
                for port in &object.ports {
                    for address in &endpoint.addresses {
                        targets.push(target(address, endpoint, port, &mut backing, look));
                    }
                }
            }
        }
        targets.extend(backing.other_ports(look));
        Some((labels.build(), targets))
    }
}

/// Whether a service of two families of addresses has this one as its first; the slices of the
/// second name the same pods again.
fn is_first_family(service: &Service, family: &str) -> bool {
    let both = ["PreferDualStack", "RequireDualStack"].contains(&&*service.spec.ip_family_policy);
    let first = service.spec.ip_families.first();
    !both || first.is_none_or(|first| **first == *family)
}

fn target(
    address: &str,
    endpoint: &Endpoint,
    port: &EndpointSlicePort,
    backing: &mut Backing,
    look: &mut Lookup<'_>,
) -> Labels {
    let mut target = Set::of_address(match port.port {
        Some(port) => host_port(address, port),
        None => address.to_owned(),
    });
    let mut add = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            target.add(&format!("endpointslice_{name}"), value);
        }
    };
    let number = port.port.map(|p| p.to_string());
    let said = |flag: Option<bool>| flag.map(|f| if f { "true" } else { "false" });
    let conditions = &endpoint.conditions;
    let reference = endpoint.target_ref.as_ref();
    add("port_name", port.name.as_deref());
    add("port_protocol", port.protocol.as_deref());
    add("port", number.as_deref());
    add("port_app_protocol", port.app_protocol.as_deref());
    add("endpoint_conditions_ready", said(conditions.ready));
    add("endpoint_conditions_serving", said(conditions.serving));
    add(
        "endpoint_conditions_terminating",
        said(conditions.terminating),
    );
    add("endpoint_hostname", endpoint.hostname.as_deref());
    add("endpoint_node_name", endpoint.node_name.as_deref());
    add("endpoint_zone", endpoint.zone.as_deref());
    add("address_target_kind", reference.map(|r| &*r.kind));
    add("address_target_name", reference.map(|r| &*r.name));
    for (name, value) in &endpoint.deprecated_topology {
        let what = "endpointslice_endpoint_topology_";
        target.add_named(what, name, &**value);
        target.add_named(&format!("{what}present_"), name, "true");
    }
    let node = reference.filter(|r| *r.kind == *"Node").map(|r| &*r.name);
    if let Some(node) = node.or(endpoint.node_name.as_deref()) {
        target.add_node(node, look);
    }
    let pod = reference.filter(|r| *r.kind == *"Pod");
    if let Some(pod) = pod.and_then(|r| look.pod(&r.namespace, &r.name)) {
        backing.describe(&mut target, pod, port.port, None, look);
    }
    target.build()
}
