//! What changed in a cluster since somebody looked.

use std::collections::HashSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::object::{Key, Kind};
use crate::counters::Counters;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Added,
    Updated,
    Deleted,
}

/// Hears of changes, counts those that Prometheus counts for its role, and keeps which objects
/// are no longer what they were.
pub(super) struct Listener {
    /// The kind that becomes targets.
    primary: Kind,
    counters: Counters,
    changed: Mutex<HashSet<(Kind, Key)>>,
    some: Notify,
}

impl Listener {
    pub(super) fn new(primary: Kind, counters: Counters) -> Self {
        Self {
            primary,
            counters,
            changed: Mutex::default(),
            some: Notify::new(),
        }
    }

    /// An object changed; `differs` says whether in anything that we look at.
    pub(super) fn tell(&self, kind: Kind, change: Change, key: &Key, differs: bool) {
        if let Some(role) = self.counted(kind, change) {
            let event = match change {
                Change::Added => "add",
                Change::Updated => "update",
                Change::Deleted => "delete",
            };
            self.counters.kubernetes_events.with(&[role, event]).inc();
        }
        if differs {
            self.changed.lock().insert((kind, key.clone()));
            self.some.notify_one();
        }
    }

    /// The role under which a change counts.
    fn counted(&self, kind: Kind, change: Change) -> Option<&'static str> {
        let backed = matches!(self.primary, Kind::Endpoints | Kind::EndpointSlice);
        let counts = kind == self.primary
            || (backed && kind == Kind::Service)
            || (self.primary == Kind::Endpoints && kind == Kind::Pod && change == Change::Updated);
        match kind {
            Kind::Node if counts => Some("node"),
            Kind::Pod if counts => Some("pod"),
            Kind::Service if counts => Some("service"),
            Kind::Endpoints if counts => Some("endpoints"),
            Kind::EndpointSlice if counts => Some("endpointslice"),
            Kind::Ingress if counts => Some("ingress"),
            _ => None,
        }
    }

    /// Waits for changes and takes them.
    pub(super) async fn changes(&self) -> HashSet<(Kind, Key)> {
        loop {
            self.some.notified().await;
            let changed = self.take();
            if !changed.is_empty() {
                return changed;
            }
        }
    }

    /// Takes the changes that there are.
    pub(super) fn take(&self) -> HashSet<(Kind, Key)> {
        std::mem::take(&mut *self.changed.lock())
    }
}
