//! A Kubernetes API server for tests: in memory, in this process, on a port of its own.
//!
//! It lists in pages (`limit`, `continue`), watches from a resource version, sends bookmarks and
//! the initial events of streaming lists, selects by labels and fields, and answers as the real
//! one does when it forgot a version (410), does not know or like the caller (401, 403), is asked
//! too often (429) or is ill (500). Watches can be cut in the middle of a line.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use kubekit::Cluster;
//! use serde_json::json;
//!
//! let cluster = Cluster::start().await?;
//! cluster.put("pods", json!({"metadata": {"namespace": "default", "name": "a"}}));
//! assert!(cluster.url().starts_with("http://127.0.0.1:"));
//! # Ok(()) }
//! ```
//!
//! Useful for: tests of whatever watches a cluster. Not useful for: writing through the API,
//! schemas, admission, or any kind beside those in [`KINDS`].

mod select;
mod serve;
mod state;

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::state::{Fault, State};

/// Kinds of objects: plural, name, group and version, and whether they live in namespaces.
pub const KINDS: [(&str, &str, &str, bool); 9] = [
    ("nodes", "Node", "v1", false),
    ("namespaces", "Namespace", "v1", false),
    ("pods", "Pod", "v1", true),
    ("services", "Service", "v1", true),
    ("endpoints", "Endpoints", "v1", true),
    (
        "endpointslices",
        "EndpointSlice",
        "discovery.k8s.io/v1",
        true,
    ),
    ("ingresses", "Ingress", "networking.k8s.io/v1", true),
    ("replicasets", "ReplicaSet", "apps/v1", true),
    ("jobs", "Job", "batch/v1", true),
];

/// A cluster with its API server, which ends when this is dropped.
pub struct Cluster {
    state: Arc<State>,
    address: SocketAddr,
    serving: tokio::task::JoinHandle<()>,
}

/// How a watch is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The answer ends as it should.
    Clean,
    /// The answer ends in the middle of a line.
    MidLine,
    /// The connection breaks in the middle of a line.
    Broken,
}

impl Cluster {
    /// A cluster without objects.
    pub async fn start() -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let router = serve::router(Arc::clone(&state));
        let serving = tokio::spawn(async move {
            // It ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            state,
            address,
            serving,
        })
    }

    /// Where the API server listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Creates an object or puts it in the place of the one with its name.
    ///
    /// # Panics
    /// If the kind is not known or the object has no name.
    pub fn put(&self, plural: &str, object: Value) {
        self.state.put(plural, object);
    }

    /// Deletes an object if it is there.
    pub fn delete(&self, plural: &str, namespace: &str, name: &str) {
        self.state.delete(plural, namespace, name);
    }

    /// Forgets what happened so far: who goes on from an older version is told 410.
    pub fn compact(&self) {
        self.state.compact();
    }

    /// Tells 410 to who starts to watch from a forgotten version with the answer's status, not
    /// with an event.
    pub fn refuse_old_versions(&self) {
        self.state.settings().gone_by_status = true;
    }

    /// Ends all watches that run.
    pub fn cut(&self, how: Cut) {
        self.state.cut(how);
    }

    /// Sends an error event with this code to all watches that run, and ends them.
    pub fn send_error(&self, code: u16) {
        self.state.send_error(code);
    }

    /// Sends a bookmark to all watches that asked for some.
    pub fn bookmark(&self) {
        self.state.bookmark();
    }

    /// Answers the next `times` requests whose path and query contain `part` with this status.
    pub fn fail(&self, part: &str, status: u16, times: usize) {
        self.state.settings().faults.push(Fault {
            part: part.to_owned(),
            status,
            times,
        });
    }

    /// Asks for this bearer token from now on.
    pub fn require_token(&self, token: &str) {
        self.state.settings().token = Some(token.to_owned());
    }

    /// Paths and queries that were asked so far.
    pub fn requests(&self) -> Vec<String> {
        self.state.settings().requests.clone()
    }

    /// How many watches run.
    pub fn watches(&self) -> usize {
        self.state.watches()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.serving.abort();
        self.state.cut(Cut::Clean);
    }
}
