//! Clusters: how to reach one, and what is watched in it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Weak};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use parking_lot::Mutex;
use wire::client::{Authorization, HttpSettings, TlsSettings};

use super::object::Object;
use super::transport;
use super::watch::{Asked, Watched};
use crate::config;
use crate::counters::Counters;

/// Where a pod finds what it needs to talk to its cluster.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How to reach a cluster; equal ways share what they watch.
#[derive(Clone, Debug, PartialEq)]
enum Way {
    /// A server, as the account of our pod or with the settings of the section.
    Server(Box<(String, HttpSettings)>),
    /// As a file says.
    File(String),
}

/// A cluster that somebody looks at.
pub(crate) struct Cluster {
    way: Way,
    client: tokio::sync::OnceCell<Client>,
    /// By kind and what was asked.
    watched: Mutex<HashMap<(TypeId, Asked), Weak<dyn Any + Send + Sync>>>,
    counters: Counters,
}

/// All clusters that somebody looks at.
#[derive(Default)]
pub(crate) struct Clusters(Mutex<Vec<Weak<Cluster>>>);

/// Why a cluster cannot be reached at all.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is none around us.
    #[error(
        "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
    )]
    Outside,
    /// A file of the pod's account cannot be read.
    #[error("cannot read {path}: {error}")]
    Account {
        /// Where it should be.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// `kubeconfig_file` cannot be used.
    #[error("kubeconfig_file {path}: {message}")]
    File {
        /// Where it is.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// The settings of the HTTP client cannot be obeyed.
    #[error(transparent)]
    Client(#[from] wire::client::ClientError),
}

impl Clusters {
    /// The cluster of a section.
    pub(crate) fn open(
        &self,
        config: &config::Kubernetes,
        counters: &Counters,
    ) -> Result<Arc<Cluster>, ClusterError> {
        let way = Way::of(config)?;
        let mut known = self.0.lock();
        known.retain(|cluster| cluster.strong_count() > 0);
        let found = known
            .iter()
            .filter_map(Weak::upgrade)
            .find(|c| c.way == way);
        if let Some(cluster) = found {
            return Ok(cluster);
        }
        let client = match &way {
            Way::Server(server) => {
                let (address, settings) = &**server;
                Some(transport::client(address, settings, counters)?)
            }
            Way::File(_) => None,
        };
        let cluster = Arc::new(Cluster {
            way,
            client: tokio::sync::OnceCell::new_with(client),
            watched: Mutex::default(),
            counters: counters.clone(),
        });
        known.push(Arc::downgrade(&cluster));
        Ok(cluster)
    }
}

impl Way {
    fn of(config: &config::Kubernetes) -> Result<Self, ClusterError> {
        if !config.kubeconfig_file.is_empty() {
            let path = config.kubeconfig_file.clone();
            read(&path)?;
            return Ok(Way::File(path));
        }
        if !config.api_server.is_empty() {
            let server = config.api_server.as_str().to_owned();
            return Ok(Way::Server(Box::new((server, config.http.clone()))));
        }
        let variable = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        let host = variable("KUBERNETES_SERVICE_HOST").ok_or(ClusterError::Outside)?;
        let port = variable("KUBERNETES_SERVICE_PORT").ok_or(ClusterError::Outside)?;
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host,
        };
        let token = format!("{ACCOUNT}/token");
        account_file(&token)?;
        // Both files are read again when they change.
        let settings = HttpSettings {
            authorization: Some(Authorization {
                kind: "Bearer".to_owned(),
                credentials_file: token,
                ..Authorization::default()
            }),
            tls_config: TlsSettings {
                ca_file: format!("{ACCOUNT}/ca.crt"),
                ..TlsSettings::default()
            },
            ..HttpSettings::default()
        };
        Ok(Way::Server(Box::new((
            format!("https://{host}:{port}"),
            settings,
        ))))
    }
}

/// The namespace that our pod is in.
pub(super) fn own_namespace() -> Result<String, ClusterError> {
    account_file(&format!("{ACCOUNT}/namespace")).map(|text| text.trim().to_owned())
}

fn account_file(path: &str) -> Result<String, ClusterError> {
    let failed = |error| ClusterError::Account {
        path: path.to_owned(),
        error,
    };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    match text.trim().is_empty() {
        true => Err(failed(std::io::Error::other("the file is empty"))),
        false => Ok(text),
    }
}

fn read(path: &str) -> Result<Kubeconfig, ClusterError> {
    Kubeconfig::read_from(Path::new(path)).map_err(|error| ClusterError::File {
        path: path.to_owned(),
        message: error.to_string(),
    })
}

impl Cluster {
    /// Where the cluster is, to be shown.
    pub(super) fn shown(&self) -> &str {
        match &self.way {
            Way::Server(server) => &server.0,
            Way::File(path) => path,
        }
    }

    /// What is there of one kind, watched for all that ask for the same.
    pub(super) async fn watch<K: Object + 'static>(
        &self,
        asked: Asked,
    ) -> Result<Arc<Watched<K>>, ClusterError> {
        let client = self.client().await?;
        let mut watched = self.watched.lock();
        watched.retain(|_, w| w.strong_count() > 0);
        let entry = (TypeId::of::<K>(), asked);
        let found = watched.get(&entry).and_then(Weak::upgrade);
        if let Some(found) = found.and_then(|any| any.downcast::<Watched<K>>().ok()) {
            return Ok(found);
        }
        let paced = transport::paced(client);
        let started = Watched::<K>::start(paced, &entry.1, self.counters.clone());
        let any: Arc<dyn Any + Send + Sync> = started.clone();
        watched.insert(entry, Arc::downgrade(&any));
        Ok(started)
    }

    async fn client(&self) -> Result<Client, ClusterError> {
        let made = self.client.get_or_try_init(|| async {
            let Way::File(path) = &self.way else {
                return Err(ClusterError::Outside);
            };
            let failed = |message: String| ClusterError::File {
                path: path.clone(),
                message,
            };
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(read(path)?, &options);
            let mut config = config.await.map_err(|e| failed(e.to_string()))?;
            // A watch is silent while nothing happens.
            config.read_timeout = None;
            Client::try_from(config).map_err(|e| failed(e.to_string()))
        });
        made.await.cloned()
    }
}
