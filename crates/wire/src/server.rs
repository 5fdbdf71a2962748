//! The HTTP server shell: listeners, TLS, authentication, limits, draining.
//!
//! A room exports an [`axum::Router`]; the shell puts it on the network. It binds every listen
//! address first (so a port of 0 becomes a known number before anything is served), reads
//! Prometheus' web configuration file if there is one and follows its changes, counts requests,
//! answers a panic with 500 instead of dying of it, and drains when it is told to stop.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use wire::server::{Server, Settings};
//!
//! let settings = Settings { listen: vec!["127.0.0.1:0".to_owned()], ..Settings::default() };
//! let server = Server::bind(settings, &metrics::Registry::default()).await.unwrap();
//! println!("listening on {}", server.addresses()[0]);
//! let app = axum::Router::new().route("/", axum::routing::get(|| async { "hello" }));
//! server.serve(app, async {}).await.unwrap(); // this one stops at once
//! # });
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

mod auth;
mod connection;
pub mod cors;
mod observe;
pub mod prefix;
mod san;
mod targets;
#[cfg(test)]
mod tests;
mod tls;
pub mod web_config;

pub use auth::user_of;
pub use cors::Cors;
pub use observe::Names;
pub use san::{ClientCertificate, SubjectField};
pub(crate) use tls::grpc_tls;
pub use web_config::WebConfig;

/// What a server obeys.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen: `host:port`, `:port` (all addresses), `[::1]:port`; port 0 takes any.
    pub listen: Vec<String>,
    /// Prometheus' web configuration file.
    pub web_config: Option<PathBuf>,
    /// Connections at once, over all addresses; further ones wait in the kernel.
    pub max_connections: usize,
    /// How long a request's head, and then its body, may take to arrive; also how long an idle
    /// connection is kept.
    pub read_timeout: Duration,
    /// How long requests in flight may go on after the shutdown began.
    pub grace: Duration,
    /// Bytes a request's body may have.
    pub body_limit: usize,
    /// How often the web configuration and its files are looked at for changes.
    pub reload_interval: Duration,
    /// As whose requests are counted.
    pub names: Names,
    /// What is logged of requests, if anything is.
    pub log: Option<crate::request_log::Http>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec!["0.0.0.0:9090".to_owned()],
            web_config: None,
            max_connections: 512,
            read_timeout: Duration::from_secs(300),
            grace: Duration::from_secs(30),
            body_limit: 10 << 20,
            reload_interval: Duration::from_secs(1),
            names: Names::default(),
            log: None,
        }
    }
}

/// Why a server could not start, or a setting was refused.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No address was given.
    #[error("no listen address given; see --web.listen-address")]
    NoAddress,
    /// An address cannot be listened on.
    #[error("cannot listen on {address:?}: {source}")]
    Listen {
        /// As it was given.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {what} {path}: {source}")]
    Read {
        /// What the file is for.
        what: &'static str,
        /// Which file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The web configuration is wrong.
    #[error("web configuration {path}: {message}")]
    WebConfig {
        /// Which file.
        path: String,
        /// What is wrong, and where.
        message: String,
    },
    /// The registry has other metrics under our names.
    #[error(transparent)]
    Metrics(#[from] metrics::Error),
    /// A URL or prefix flag is wrong.
    #[error("{0}")]
    Url(String),
    /// Serving gRPC failed.
    #[error("gRPC server: {0}")]
    Grpc(String),
}

/// A server whose addresses are bound, not yet serving.
pub struct Server {
    settings: Settings,
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    web: Option<Arc<web_config::Watched>>,
    metrics: observe::HttpMetrics,
}

impl Server {
    /// Binds all addresses and reads the web configuration. Nothing is answered before
    /// [`Server::serve`]; clients that connect earlier wait.
    pub async fn bind(
        settings: Settings,
        registry: &metrics::Registry,
    ) -> Result<Self, ServerError> {
        if settings.listen.is_empty() {
            return Err(ServerError::NoAddress);
        }
        let names = settings.names;
        let web = match &settings.web_config {
            Some(path) => Some(Arc::new(web_config::Watched::open(path)?)),
            None => None,
        };
        let mut listeners = Vec::with_capacity(settings.listen.len());
        let mut addresses = Vec::with_capacity(settings.listen.len());
        for address in &settings.listen {
            let failed = |source| ServerError::Listen {
                address: address.clone(),
                source,
            };
            let listener = listen(address).await.map_err(failed)?;
            addresses.push(listener.local_addr().map_err(failed)?);
            listeners.push(listener);
        }
        Ok(Self {
            settings,
            listeners,
            addresses,
            web,
            metrics: observe::HttpMetrics::new(names, registry)?,
        })
    }

    /// The addresses in the order they were given, with the ports that were really taken.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether clients must speak TLS.
    pub fn is_tls(&self) -> bool {
        self.web.as_ref().is_some_and(|w| w.current().is_tls())
    }

    /// Serves until `shutdown` finishes, then takes no new connection and lets running requests
    /// finish for at most the grace period. Dropping the future ends everything at once.
    pub async fn serve(
        self,
        app: Router,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServerError> {
        self.serve_changing(watch::channel(app).1, shutdown).await
    }

    /// The same with routes that may be replaced as a whole: a process that is still starting can
    /// answer for its health before the rooms behind its other routes are open. Requests that run
    /// go on with the routes they found.
    pub async fn serve_changing(
        self,
        mut apps: watch::Receiver<Router>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServerError> {
        let wrap = |app: Router| {
            let (limit, log) = (self.settings.body_limit, self.settings.log.clone());
            let app = observe::wrap(app, self.metrics.clone(), limit, log);
            match &self.web {
                Some(web) => auth::wrap(app, Arc::clone(web)),
                None => app,
            }
        };
        let app = wrap(apps.borrow_and_update().clone());
        let (stop, stopped) = watch::channel(false);
        let shell = Arc::new(connection::Shell {
            app: parking_lot::RwLock::new(app),
            web: self.web.clone(),
            slots: Arc::new(Semaphore::new(
                self.settings
                    .max_connections
                    .clamp(1, Semaphore::MAX_PERMITS),
            )),
            read_timeout: self.settings.read_timeout,
            grace: self.settings.grace,
            metrics: self.metrics.clone(),
        });
        let accepting = futures_util::future::join_all(
            self.listeners
                .into_iter()
                .map(|l| connection::accept(l, Arc::clone(&shell), stopped.clone())),
        );
        let reloading = async {
            if let Some(web) = &self.web {
                web.follow(self.settings.reload_interval).await;
            }
            std::future::pending::<()>().await;
        };
        let changing = async {
            while apps.changed().await.is_ok() {
                let app = wrap(apps.borrow_and_update().clone());
                *shell.app.write() = app;
            }
            std::future::pending::<()>().await;
        };
        let stopping = async {
            shutdown.await;
            // The receivers live as long as the accept loops.
            let _ = stop.send(true);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = accepting => {}
            () = reloading => {}
            () = changing => {}
            () = stopping => {}
        }
        Ok(())
    }
}

/// Binds Go's way of writing addresses: no host means all addresses of both families.
pub(crate) async fn listen(address: &str) -> std::io::Result<TcpListener> {
    let Some(port) = address.strip_prefix(':') else {
        return TcpListener::bind(address).await;
    };
    let port: u16 = port
        .parse()
        .map_err(|_| std::io::Error::other(format!("port {port:?} is no number up to 65535")))?;
    match TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        // A kernel without IPv6 says so in several ways; IPv4 decides what the error is.
        Err(_) => TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await,
    }
}
