//! Targets from the objects of a Kubernetes cluster.
//!
//! What is watched in a cluster is watched once, however many sections ask for it; each section
//! makes its own targets of it. A target that other objects describe is made again when one of
//! those changes.

mod around;
mod cluster;
mod labels;
mod listener;
mod object;
mod role;
mod transport;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use self::around::{Around, Lookup};
use self::cluster::Cluster;
use self::listener::Listener;
use self::object::{EndpointSlice, Endpoints, Ingress, Key, Kind, Node, Object, Pod, Service};
use self::role::Primary;
use self::watch::{Asked, Watched};
use super::Discoverer;
use crate::config::{self, Role};
use crate::counters::Counters;
use crate::{Group, Updates};

pub use cluster::ClusterError;
pub(crate) use cluster::Clusters;

/// How many groups are made before other tasks have their turn.
const BATCH: usize = 100;

/// One section.
pub(super) struct Section {
    config: config::Kubernetes,
    cluster: Arc<Cluster>,
    namespaces: Vec<String>,
    counters: Counters,
}

impl Section {
    pub(super) fn new(
        config: &config::Kubernetes,
        clusters: &Clusters,
        counters: &Counters,
    ) -> Result<Self, ClusterError> {
        let cluster = clusters.open(config, counters)?;
        let mut namespaces = config.namespaces.names.clone();
        if config.namespaces.own_namespace {
            namespaces.push(cluster::own_namespace()?);
        }
        namespaces.sort_unstable();
        namespaces.dedup();
        let everywhere = namespaces.is_empty() || config.role == Some(Role::Node);
        if everywhere {
            namespaces = vec![String::new()];
        }
        Ok(Self {
            config: config.clone(),
            cluster,
            namespaces,
            counters: counters.clone(),
        })
    }

    async fn discover(&self, namespace: &str, updates: Updates) -> Result<(), ClusterError> {
        match self.config.role {
            Some(Role::Node) => self.follow::<Node>(namespace, updates).await,
            Some(Role::Pod) => self.follow::<Pod>(namespace, updates).await,
            Some(Role::Service) => self.follow::<Service>(namespace, updates).await,
            Some(Role::Endpoints) => self.follow::<Endpoints>(namespace, updates).await,
            Some(Role::EndpointSlice) => self.follow::<EndpointSlice>(namespace, updates).await,
            Some(Role::Ingress) => self.follow::<Ingress>(namespace, updates).await,
            // A section without a role was refused when it was read.
            None => Ok(()),
        }
    }

    /// Makes targets of one kind in one namespace for ever.
    async fn follow<K: Primary + 'static>(
        &self,
        namespace: &str,
        updates: Updates,
    ) -> Result<(), ClusterError> {
        let listener = Arc::new(Listener::new(K::KIND, self.counters.clone()));
        let primary = self.watch::<K>(namespace, &listener).await?;
        let around = self.around(K::KIND, namespace, &listener).await?;
        primary.listed().await;
        around.listed().await;
        // Everything is looked at now; what changes meanwhile is heard of again.
        listener.take();
        let mut targets = Targets::new(primary, around);
        let mut changed: Vec<Key> = targets.primary.keys();
        loop {
            for batch in changed.chunks(BATCH) {
                let groups = batch.iter().filter_map(|key| targets.group(key));
                updates.send(groups.collect());
                tokio::task::yield_now().await;
            }
            changed = targets.touched(listener.changes().await);
        }
    }

    async fn watch<K: Object + 'static>(
        &self,
        namespace: &str,
        listener: &Arc<Listener>,
    ) -> Result<Arc<Watched<K>>, ClusterError> {
        let role = match K::KIND {
            Kind::Node => Some(Role::Node),
            Kind::Pod => Some(Role::Pod),
            Kind::Service => Some(Role::Service),
            Kind::Endpoints => Some(Role::Endpoints),
            Kind::EndpointSlice => Some(Role::EndpointSlice),
            Kind::Ingress => Some(Role::Ingress),
            Kind::Namespace | Kind::ReplicaSet | Kind::Job => None,
        };
        let mut selectors = self.config.selectors.iter();
        let selector = selectors.find(|s| role.is_some() && s.role == role);
        let asked = Asked {
            namespace: namespace.to_owned(),
            label: selector.map(|s| s.label.clone()).unwrap_or_default(),
            field: selector.map(|s| s.field.clone()).unwrap_or_default(),
        };
        let watched = self.cluster.watch::<K>(asked).await?;
        watched.listen(listener);
        Ok(watched)
    }

    /// Watches what the section wants to know beside the objects themselves.
    async fn around(
        &self,
        primary: Kind,
        namespace: &str,
        listener: &Arc<Listener>,
    ) -> Result<Around, ClusterError> {
        let attach = &self.config.attach_metadata;
        let backed = matches!(primary, Kind::Endpoints | Kind::EndpointSlice);
        let pods = backed || primary == Kind::Pod;
        let mut around = Around {
            job_names: attach.job,
            cron_job_names: attach.cronjob,
            ..Around::default()
        };
        if backed {
            around.services = Some(self.watch(namespace, listener).await?);
            around.pods = Some(self.watch(namespace, listener).await?);
        }
        if pods && attach.node {
            around.nodes = Some(self.watch("", listener).await?);
        }
        if attach.namespace && primary != Kind::Node {
            around.namespaces = Some(self.watch("", listener).await?);
        }
        if pods && attach.deployment {
            around.replica_sets = Some(self.watch(namespace, listener).await?);
        }
        if pods && attach.cronjob {
            around.jobs = Some(self.watch(namespace, listener).await?);
        }
        Ok(around)
    }
}

impl Discoverer for Section {
    fn run(
        self: Box<Self>,
        updates: Updates,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let namespaces = self.namespaces.iter();
            let all = namespaces.map(|ns| self.discover(ns, updates.clone()));
            let done = stop.run_until_cancelled(futures_util::future::try_join_all(all));
            if let Some(Err(error)) = done.await {
                let cluster = self.cluster.shown();
                tracing::error!(%error, cluster, "cannot discover targets in the cluster");
                self.counters.kubernetes_failures.inc();
            }
        })
    }
}

/// The objects of one role, and which other objects their targets were made of.
struct Targets<K> {
    primary: Arc<Watched<K>>,
    around: Around,
    /// What each object's targets were made of.
    made_of: HashMap<Key, Vec<(Kind, Key)>>,
    /// Whose targets were made of an object.
    part_of: BTreeMap<(Kind, Key), HashSet<Key>>,
}

impl<K: Primary> Targets<K> {
    fn new(primary: Arc<Watched<K>>, around: Around) -> Self {
        Self {
            primary,
            around,
            made_of: HashMap::new(),
            part_of: BTreeMap::new(),
        }
    }

    /// The group of an object: without targets if there is none, nothing to leave it as it is.
    fn group(&mut self, key: &Key) -> Option<Group> {
        self.forget(key);
        let mut group = Group {
            source: format!("{}/{key}", K::SOURCE),
            ..Group::default()
        };
        if let Some(object) = self.primary.get(key) {
            let mut look = Lookup::new(&self.around);
            let made = K::targets(&object, &mut look);
            self.remember(key, look.into_asked());
            (group.labels, group.targets) = made?;
        }
        Some(group)
    }

    fn forget(&mut self, key: &Key) {
        for part in self.made_of.remove(key).unwrap_or_default() {
            if let Some(objects) = self.part_of.get_mut(&part) {
                objects.remove(key);
                if objects.is_empty() {
                    self.part_of.remove(&part);
                }
            }
        }
    }

    fn remember(&mut self, key: &Key, parts: Vec<(Kind, Key)>) {
        if parts.is_empty() {
            return;
        }
        for part in &parts {
            let objects = self.part_of.entry(part.clone()).or_default();
            objects.insert(key.clone());
        }
        self.made_of.insert(key.clone(), parts);
    }

    /// The objects whose targets these changes touch.
    fn touched(&self, changes: HashSet<(Kind, Key)>) -> Vec<Key> {
        let mut touched = HashSet::new();
        for change in changes {
            touched.extend(self.part_of.get(&change).into_iter().flatten().cloned());
            if change.0 == K::KIND {
                touched.insert(change.1);
            }
        }
        touched.into_iter().collect()
    }
}
