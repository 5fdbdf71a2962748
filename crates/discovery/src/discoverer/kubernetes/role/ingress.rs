//! Ingresses: one target for each path of each host.

use model::Labels;

use super::Primary;
use crate::discoverer::kubernetes::around::Lookup;
use crate::discoverer::kubernetes::labels::Set;
use crate::discoverer::kubernetes::object::{Ingress, Stored};

impl Primary for Ingress {
    const SOURCE: &'static str = "ingress";

    fn targets(this: &Stored<Self>, look: &mut Lookup<'_>) -> Option<(Labels, Vec<Labels>)> {
        let Stored { meta, object } = this;
        let mut labels = Set::default();
        labels.add_object("ingress", this);
        labels.add("ingress_class_name", &*object.spec.ingress_class_name);
        labels.add_namespace(&meta.namespace, look);

        let mut targets = Vec::new();
        for rule in &object.spec.rules {
            let mut covered = object.spec.tls.iter().flat_map(|tls| &tls.hosts);
            let scheme = match covered.any(|pattern| covers(pattern, &rule.host)) {
                true => "https",
                false => "http",
            };
            let paths: Vec<&str> = match &rule.http {
                None => vec![""],
                Some(http) => http.paths.iter().map(|p| &*p.path).collect(),
            };
            for path in paths {
                let mut target = Set::of_address(&*rule.host);
                target.add("ingress_scheme", scheme);
                target.add("ingress_host", &*rule.host);
                target.add("ingress_path", if path.is_empty() { "/" } else { path });
                targets.push(target.build());
            }
        }
        Some((labels.build(), targets))
    }
}

/// Whether a certificate for `pattern`, which may begin with `*.`, is one for `host`.
fn covers(pattern: &str, host: &str) -> bool {
    let wild = || {
        let (_, rest) = host.split_once('.')?;
        Some(pattern.strip_prefix("*.")? == rest)
    };
    pattern == host || wild() == Some(true)
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_star_stands_for_one_part() {
        assert!(covers("a.b", "a.b") && covers("*.b", "a.b"));
        assert!(!covers("*.b", "x.a.b") && !covers("*.b", "b") && !covers("b", "a.b"));
        assert!(!covers("a.*", "a.b"));
    }
}
