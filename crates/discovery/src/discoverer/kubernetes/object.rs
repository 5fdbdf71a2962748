//! Objects of a cluster, with only the fields that become labels: ten thousand pods must stay small.

mod kinds;

use std::fmt;
use std::sync::{Arc, LazyLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::{DynamicResourceScope, ObjectMeta};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};

pub(super) use kinds::{
    Container, Endpoint, EndpointSlice, EndpointSlicePort, Endpoints, EndpointsAddress,
    EndpointsPort, Ingress, Job, Namespace, Node, Pod, Reference, ReplicaSet, Service, ServicePort,
};

/// `namespace/name`, or only the name of what belongs to no namespace.
pub(super) type Key = Arc<str>;

/// Which kind an object is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Node,
    Namespace,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
    ReplicaSet,
    Job,
}

/// An object as the API server writes it.
pub(super) trait Object:
    kube::Resource<DynamicType = (), Scope = DynamicResourceScope>
    + DeserializeOwned
    + Clone
    + fmt::Debug
    + PartialEq
    + Send
    + Sync
{
    const KIND: Kind;
    /// Whether its labels and annotations are asked for; otherwise only its owner is.
    const LABELLED: bool;

    /// Lets go of the metadata, once they are kept elsewhere.
    fn forget_meta(&mut self);
}

/// An object as it is kept.
#[derive(Debug, PartialEq)]
pub(super) struct Stored<K> {
    pub meta: Meta,
    pub object: K,
}

/// What is kept of the metadata of an object.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Meta {
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    pub labels: Pairs,
    pub annotations: Pairs,
    pub controller: Option<Controller>,
}

/// Names and values, sorted by name.
pub(super) type Pairs = Box<[(Box<str>, Box<str>)]>;

/// What created an object and looks after it.
#[derive(Debug, PartialEq)]
pub(super) struct Controller {
    pub kind: Box<str>,
    pub name: Box<str>,
}

impl<K: Object> Stored<K> {
    pub(super) fn new(mut object: K) -> (Key, Self) {
        let meta = Meta::new(std::mem::take(object.meta_mut()), K::LABELLED);
        object.forget_meta();
        (key(&meta.namespace, &meta.name), Self { meta, object })
    }
}

/// The key of the object with this name.
pub(super) fn key(namespace: &str, name: &str) -> Key {
    match namespace {
        "" => name.into(),
        _ => format!("{namespace}/{name}").into(),
    }
}

impl Meta {
    fn new(meta: ObjectMeta, labelled: bool) -> Self {
        let pairs = |map: Option<std::collections::BTreeMap<String, String>>| -> Pairs {
            let map = map.filter(|_| labelled).unwrap_or_default();
            map.into_iter().map(|(n, v)| (n.into(), v.into())).collect()
        };
        let owners = meta.owner_references.unwrap_or_default();
        let controller = owners.into_iter().find(|o| o.controller == Some(true));
        Self {
            namespace: meta.namespace.unwrap_or_default().into(),
            name: meta.name.unwrap_or_default().into(),
            uid: meta.uid.unwrap_or_default().into(),
            labels: pairs(meta.labels),
            annotations: pairs(meta.annotations),
            controller: controller.map(|o| Controller {
                kind: o.kind.into(),
                name: o.name.into(),
            }),
        }
    }

    pub(super) fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.binary_search_by(|(n, _)| (**n).cmp(name)).ok();
        found.and_then(|at| self.labels.get(at)).map(|(_, v)| &**v)
    }

    /// The name of the owner if it is of this kind.
    pub(super) fn controlled_by(&self, kind: &str) -> Option<&str> {
        let owner = self.controller.as_ref().filter(|c| *c.kind == *kind);
        owner.map(|c| &*c.name)
    }
}

/// The metadata of objects that were stored, whose own are kept elsewhere.
static NONE: LazyLock<ObjectMeta> = LazyLock::new(ObjectMeta::default);

/// Metadata while an object travels: boxed, because a stored object has none.
#[derive(Clone, Debug, Default, PartialEq)]
struct Travelling(Option<Box<ObjectMeta>>);

impl Travelling {
    fn get(&self) -> &ObjectMeta {
        self.0.as_deref().unwrap_or(&NONE)
    }

    fn get_mut(&mut self) -> &mut ObjectMeta {
        self.0.get_or_insert_default()
    }
}

impl<'de> Deserialize<'de> for Travelling {
    /// Reads what is kept, and skips the rest: managed fields are often most of an object.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        #[derive(Default)]
        struct Slim {
            name: Option<String>,
            namespace: Option<String>,
            uid: Option<String>,
            resource_version: Option<String>,
            labels: Option<std::collections::BTreeMap<String, String>>,
            annotations: Option<std::collections::BTreeMap<String, String>>,
            owner_references: Option<Vec<Owner>>,
        }
        #[derive(Deserialize)]
        struct Owner {
            #[serde(default)]
            controller: Option<bool>,
            #[serde(default)]
            kind: String,
            #[serde(default)]
            name: String,
        }
        let slim = Option::<Slim>::deserialize(deserializer)?.unwrap_or_default();
        let owners = slim.owner_references.map(|owners| {
            let owners = owners.into_iter().map(|o| OwnerReference {
                controller: o.controller,
                kind: o.kind,
                name: o.name,
                ..OwnerReference::default()
            });
            owners.collect()
        });
        Ok(Self(Some(Box::new(ObjectMeta {
            name: slim.name,
            namespace: slim.namespace,
            uid: slim.uid,
            resource_version: slim.resource_version,
            labels: slim.labels,
            annotations: slim.annotations,
            owner_references: owners,
            ..ObjectMeta::default()
        }))))
    }
}

/// A list, a map or a text that may be written as null.
fn null_is_empty<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
