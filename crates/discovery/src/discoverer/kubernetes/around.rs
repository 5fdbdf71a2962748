//! What stands around the objects of a role: those whose labels are added to its targets.

use std::sync::Arc;

use super::object::{
    Job, Key, Kind, Namespace, Node, Object, Pod, ReplicaSet, Service, Stored, key,
};
use super::watch::Watched;

/// The other objects that a role looks at; none of those that nobody asked for.
#[derive(Default)]
pub(super) struct Around {
    pub(super) nodes: Option<Arc<Watched<Node>>>,
    pub(super) namespaces: Option<Arc<Watched<Namespace>>>,
    pub(super) services: Option<Arc<Watched<Service>>>,
    pub(super) pods: Option<Arc<Watched<Pod>>>,
    pub(super) replica_sets: Option<Arc<Watched<ReplicaSet>>>,
    pub(super) jobs: Option<Arc<Watched<Job>>>,
    /// Whether the job that owns a pod is named, which needs no look at it.
    pub(super) job_names: bool,
    /// Whether cron jobs are.
    pub(super) cron_job_names: bool,
}

/// Looks other objects up for one object, and remembers which: when one of them changes, the
/// object's targets have to be made again.
pub(super) struct Lookup<'a> {
    around: &'a Around,
    asked: Vec<(Kind, Key)>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(around: &'a Around) -> Self {
        Self {
            around,
            asked: Vec::new(),
        }
    }

    /// What was asked for.
    pub(super) fn into_asked(mut self) -> Vec<(Kind, Key)> {
        self.asked.sort_unstable();
        self.asked.dedup();
        self.asked
    }

    /// Whether pods count only if their node does.
    pub(super) fn has_nodes(&self) -> bool {
        self.around.nodes.is_some()
    }

    pub(super) fn wants_job(&self) -> bool {
        self.around.job_names
    }

    pub(super) fn node(&mut self, name: &str) -> Option<Arc<Stored<Node>>> {
        self.find(self.around.nodes.as_ref(), "", name)
    }

    pub(super) fn namespace(&mut self, name: &str) -> Option<Arc<Stored<Namespace>>> {
        self.find(self.around.namespaces.as_ref(), "", name)
    }

    pub(super) fn service(&mut self, namespace: &str, name: &str) -> Option<Arc<Stored<Service>>> {
        self.find(self.around.services.as_ref(), namespace, name)
    }

    pub(super) fn pod(&mut self, namespace: &str, name: &str) -> Option<Arc<Stored<Pod>>> {
        self.find(self.around.pods.as_ref(), namespace, name)
    }

    pub(super) fn replica_set(&mut self, ns: &str, name: &str) -> Option<Arc<Stored<ReplicaSet>>> {
        self.find(self.around.replica_sets.as_ref(), ns, name)
    }

    pub(super) fn job(&mut self, namespace: &str, name: &str) -> Option<Arc<Stored<Job>>> {
        let jobs = self.around.jobs.as_ref();
        self.find(jobs.filter(|_| self.around.cron_job_names), namespace, name)
    }

    fn find<K: Object>(
        &mut self,
        watched: Option<&Arc<Watched<K>>>,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Stored<K>>> {
        let watched = watched?;
        let key = key(namespace, name);
        let found = watched.get(&key);
        self.asked.push((K::KIND, key));
        found
    }
}

impl Around {
    /// Returns once everything was listed.
    pub(super) async fn listed(&self) {
        async fn one<K: Object>(watched: &Option<Arc<Watched<K>>>) {
            if let Some(watched) = watched {
                watched.listed().await;
            }
        }
        one(&self.nodes).await;
        one(&self.namespaces).await;
        one(&self.services).await;
        one(&self.pods).await;
        one(&self.replica_sets).await;
        one(&self.jobs).await;
    }
}
