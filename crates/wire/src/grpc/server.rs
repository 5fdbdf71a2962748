//! The server shell.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::Registry;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::channel::KeepAlive;
use super::listener::{self, Tls};
use super::observe::{Meters, Observe};
use crate::server::{ServerError, listen};

/// What a gRPC server obeys.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen: `host:port` or `:port`; port 0 takes any.
    pub listen: String,
    /// Certificates; none: no TLS.
    pub tls: Option<TlsFiles>,
    /// Connections are closed after this long, so that clients spread anew.
    pub max_connection_age: Duration,
    /// How long calls in flight may go on after the shutdown began.
    pub grace: Duration,
    /// When a connection is given up whose client is gone.
    pub keep_alive: KeepAlive,
    /// What is logged of calls, if anything is.
    pub log: Option<crate::request_log::Grpc>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:10901".to_owned(),
            tls: None,
            max_connection_age: Duration::from_secs(3600),
            grace: Duration::from_secs(120),
            keep_alive: KeepAlive::SERVER,
            log: None,
        }
    }
}

/// TLS of a server, as Thanos' `--grpc-server-tls-*` flags give it.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// The server's certificate, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Who may sign clients' certificates; none: clients need no certificate.
    pub client_ca: Option<PathBuf>,
    /// The oldest version spoken, `1.2` or `1.3`; empty: 1.3.
    pub min_version: String,
    /// Go's names of the suites of TLS 1.2; empty: all.
    pub ciphers: Vec<String>,
    /// Go's names of curves; empty: all.
    pub curves: Vec<String>,
}

impl TlsFiles {
    pub(super) fn seen(&self) -> Vec<Option<(SystemTime, u64)>> {
        let files = [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()];
        let look = |file: Option<&PathBuf>| {
            let meta = std::fs::metadata(file?).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        };
        files.into_iter().map(look).collect()
    }
}

/// Says to health checks whether the process can answer; clones share it.
#[derive(Clone)]
pub struct Health(HealthReporter);

impl Health {
    /// Says so for the whole server.
    pub async fn set(&self, serving: bool) {
        let status = match serving {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        self.0.set_service_status("", status).await;
    }
}

/// A server whose address is bound, not yet serving.
pub struct Server {
    settings: Settings,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    meters: Meters,
    health: HealthReporter,
}

impl Server {
    /// Binds the address and reads the certificates. Clients that connect before
    /// [`Server::serve`] wait.
    pub async fn bind(settings: Settings, registry: &Registry) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Listen {
            address: settings.listen.clone(),
            source,
        };
        let listener = listen(&settings.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = match &settings.tls {
            Some(files) => Some(Arc::new(Tls::open(files.clone())?)),
            None => None,
        };
        Ok(Self {
            listener,
            address,
            tls,
            meters: Meters::new(registry)?,
            health: HealthReporter::new(),
            settings,
        })
    }

    /// The address with the port that was really taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What health checks are told.
    pub fn health(&self) -> Health {
        Health(self.health.clone())
    }

    /// Serves `routes`, health and reflection until `shutdown` finishes, then lets running calls
    /// finish for at most the grace period.
    pub async fn serve(
        self,
        routes: Routes,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServerError> {
        let health = tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(self.health.clone()),
        );
        let mut routes = routes.add_service(health);
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(crate::proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        // The descriptors are our own, checked in.
        if let (Ok(v1), Ok(alpha)) = (reflection().build_v1(), reflection().build_v1alpha()) {
            routes = routes.add_service(v1).add_service(alpha);
        }
        let (send, streams) = mpsc::channel(64);
        let accepting = tokio::spawn(listener::accept(self.listener, self.tls, send));
        let (stopping, mut stopped) = watch::channel(false);
        let mut router = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(self.settings.keep_alive.interval))
            .http2_keepalive_timeout(Some(self.settings.keep_alive.timeout))
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(8 << 20)
            .max_connection_age(self.settings.max_connection_age)
            .max_connection_age_grace(self.settings.grace)
            .layer(Observe {
                meters: self.meters,
                log: self.settings.log.clone(),
            });
        let health = self.health;
        let serving = router.add_routes(routes).serve_with_incoming_shutdown(
            ReceiverStream::new(streams),
            async move {
                shutdown.await;
                health
                    .set_service_status("", ServingStatus::NotServing)
                    .await;
                accepting.abort();
                let _ = stopping.send(true);
            },
        );
        let late = async {
            let _ = stopped.wait_for(|s| *s).await;
            tokio::time::sleep(self.settings.grace).await;
        };
        tokio::select! {
            served = serving => served.map_err(|e| ServerError::Grpc(e.to_string())),
            () = late => {
                tracing::warn!("gRPC calls still running after the grace period were ended");
                Ok(())
            }
        }
    }
}
