//! `kubernetes_sd_configs`.

use std::path::Path;

use model::settings;
use model::settings::{Blank, join_folder};
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use wire::client::{HttpSettings, Url};

settings! {
    /// Targets from the objects of a Kubernetes cluster.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Kubernetes ("kubernetes.plain") check(Kubernetes::judge) {
        inline {
            /// How to talk to the API server, if it is named.
            http: HttpSettings = HttpSettings::default(),
        }
        /// The API server; the cluster that we run in if it is empty.
        pub api_server ("api_server"): Url;
        /// Which objects become targets.
        pub role ("role"): Option<Role>;
        /// A file that says how to reach the cluster.
        pub kubeconfig_file ("kubeconfig_file"): String;
        /// Which namespaces to look in; all if none is named.
        pub namespaces ("namespaces"): Namespaces;
        /// Which objects to look at.
        pub selectors ("selectors"): Vec<Selector>;
        /// Whose labels to add.
        pub attach_metadata ("attach_metadata"): AttachMetadata;
    }
}

settings! {
    /// Namespaces to look in.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Namespaces ("kubernetes.plain") {
        /// The one that we run in.
        pub own_namespace ("own_namespace"): bool;
        /// Others by name.
        pub names ("names"): Vec<String>;
    }
}

settings! {
    /// Which objects of one kind to look at.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Selector ("kubernetes.plain") {
        /// The kind.
        pub role ("role"): Option<Role>;
        /// By label.
        pub label ("label"): String;
        /// By field.
        pub field ("field"): String;
    }
}

settings! {
    /// Whose labels and annotations to add to targets.
    #[derive(Clone, Debug, PartialEq)]
    pub struct AttachMetadata ("kubernetes.plain") {
        /// The node that a pod runs on.
        pub node ("node"): bool;
        /// The namespace.
        pub namespace ("namespace"): bool;
        /// The deployment that owns a pod.
        pub deployment ("deployment"): bool;
        /// The job that owns a pod.
        pub job ("job"): bool;
        /// The cron job that owns a pod.
        pub cronjob ("cronjob"): bool;
    }
}

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "Kubernetes' own words")]
pub enum Role {
    Node,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
}

impl Role {
    const ALL: [(Role, &'static str); 6] = [
        (Role::Node, "node"),
        (Role::Pod, "pod"),
        (Role::Service, "service"),
        (Role::Endpoints, "endpoints"),
        (Role::EndpointSlice, "endpointslice"),
        (Role::Ingress, "ingress"),
    ];

    /// The name in a configuration file.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(role, _)| *role == self)
            .map_or("", |(_, name)| name)
    }

    /// The names of all roles.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|(_, name)| *name)
    }

    /// Kinds of objects that discovering this role reads, and that may be selected.
    pub fn selectable(self) -> &'static [Role] {
        match self {
            Role::Node => &[Role::Node],
            Role::Pod => &[Role::Pod, Role::Node],
            Role::Service => &[Role::Service],
            Role::Endpoints => &[Role::Pod, Role::Service, Role::Endpoints],
            Role::EndpointSlice => &[Role::Pod, Role::Service, Role::EndpointSlice],
            Role::Ingress => &[Role::Ingress],
        }
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = Self::ALL
            .iter()
            .find(|(_, n)| *n == name)
            .map(|(role, _)| *role);
        found.ok_or_else(|| de::Error::custom(format_args!("unknown Kubernetes SD role {name:?}")))
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Blank for Role {}

impl Kubernetes {
    /// Makes the paths of files relative to `folder`.
    pub(super) fn set_folder(&mut self, folder: &Path) {
        self.http.set_folder(folder);
        join_folder(folder, &mut self.kubeconfig_file);
    }

    fn judge(&mut self) -> Result<(), String> {
        let Some(role) = self.role else {
            let roles = "pod, service, endpoints, endpointslice, node, ingress";
            return Err(format!("role missing (one of: {roles})"));
        };
        let server = !self.api_server.is_empty();
        let file = !self.kubeconfig_file.is_empty();
        let client = self.http != HttpSettings::default();
        let own = self.namespaces.own_namespace;
        for (wrong, message) in [
            (
                file && server,
                "cannot use 'kubeconfig_file' and 'api_server' simultaneously",
            ),
            (
                file && client,
                "cannot use a custom HTTP client configuration together with 'kubeconfig_file'",
            ),
            (
                !server && client,
                "to use custom HTTP client configuration please provide the 'api_server' URL explicitly",
            ),
            (
                server && own,
                "cannot use 'api_server' and 'namespaces.own_namespace' simultaneously",
            ),
            (
                file && own,
                "cannot use 'kubeconfig_file' and 'namespaces.own_namespace' simultaneously",
            ),
        ] {
            if wrong {
                return Err(message.to_owned());
            }
        }
        let mut seen = Vec::new();
        for selector in &self.selectors {
            let name = selector.role.map_or("", Role::as_str);
            if seen.contains(&selector.role) {
                return Err(format!("duplicated selector role: {name}"));
            }
            seen.push(selector.role);
            if !selector
                .role
                .is_some_and(|r| role.selectable().contains(&r))
            {
                let names: Vec<&str> = role.selectable().iter().map(|r| r.as_str()).collect();
                let (role, names) = (role.as_str(), names.join(", "));
                return Err(format!("{role} role supports only {names} selectors"));
            }
            check_fields(&selector.field)?;
        }
        Ok(())
    }
}

/// A field selector is a list of comparisons with `=`, `==` or `!=`.
fn check_fields(selector: &str) -> Result<(), String> {
    match selector
        .split(',')
        .find(|term| !term.is_empty() && !term.contains('='))
    {
        Some(term) => Err(format!(
            "invalid selector: '{selector}'; can't understand '{term}'"
        )),
        None => Ok(()),
    }
}
