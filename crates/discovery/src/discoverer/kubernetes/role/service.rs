//! Services: one target for each port, at the service's name.

use model::Labels;

use super::Primary;
use crate::discoverer::kubernetes::around::Lookup;
use crate::discoverer::kubernetes::labels::{Set, host_port};
use crate::discoverer::kubernetes::object::{Service, ServicePort, Stored};

impl Primary for Service {
    const SOURCE: &'static str = "svc";

    fn targets(this: &Stored<Self>, look: &mut Lookup<'_>) -> Option<(Labels, Vec<Labels>)> {
        let Stored { meta, object } = this;
        let mut labels = Set::default();
        labels.add_object("service", this);
        labels.add_namespace(&meta.namespace, look);

        let host = format!("{}.{}.svc", meta.name, meta.namespace);
        let target = |port: &ServicePort| {
            let mut target = Set::of_address(host_port(&host, port.port));
            target.add("service_port_name", &*port.name);
            target.add("service_port_number", port.port.to_string());
            target.add("service_port_protocol", &*port.protocol);
            target.add("service_type", &*object.spec.kind);
            match &*object.spec.kind {
                "ExternalName" => target.add("service_external_name", &*object.spec.external_name),
                _ => target.add("service_cluster_ip", &*object.spec.cluster_ip),
            }
            if *object.spec.kind == *"LoadBalancer" {
                target.add("service_loadbalancer_ip", load_balancer(object));
            }
            target.build()
        };
        Some((
            labels.build(),
            object.spec.ports.iter().map(target).collect(),
        ))
    }
}

/// The addresses that balance, or else the one that was asked for.
fn load_balancer(service: &Service) -> String {
    let given = service.status.load_balancer.ingress.iter();
    let ips: Vec<&str> = given.map(|i| &*i.ip).filter(|ip| !ip.is_empty()).collect();
    match ips.is_empty() {
        true => service.spec.load_balancer_ip.to_string(),
        false => ips.join(","),
    }
}
