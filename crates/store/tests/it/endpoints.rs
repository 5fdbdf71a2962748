//! Endpoints that go and come back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chunk::memory::MemorySource;
use model::{Cancel, Scope, Source, TimeRange};
use store::{EndpointSpec, Endpoints, EndpointsOptions, Serve, ServeOptions};
use tokio::sync::oneshot;
use wire::grpc::{Routes, Server, Settings};

use crate::kit::{RUNTIME, fleet};

/// A store at this address until the sender is dropped; gives the address.
async fn start(listen: &str) -> (String, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let registry = metrics::Registry::new();
    let source = Arc::new(MemorySource::new(fleet("up", 1, 0, 10)));
    let runtime = RUNTIME.handle().clone();
    let serve = Serve::new(source, ServeOptions::default(), runtime, &registry).unwrap();
    let settings = Settings {
        listen: listen.to_owned(),
        ..Settings::default()
    };
    let server = Server::bind(settings, &registry).await.unwrap();
    let address = server.address().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let routes = Routes::new(serve.store()).add_service(serve.info());
    let running = async move {
        let _ = server.serve(routes, async { drop(stopped.await) }).await;
    };
    (address, stop, tokio::spawn(running))
}

fn answers(endpoints: &Endpoints) -> bool {
    endpoints.status()[0].last_error.is_empty()
}

#[test]
fn one_that_was_started_anew_is_found_at_once() {
    RUNTIME.block_on(async {
        let (address, stop, running) = start("127.0.0.1:0").await;
        let spec = EndpointSpec {
            address: address.clone(),
            ..EndpointSpec::default()
        };
        // So seldom that only the questions in between can find it.
        let options = EndpointsOptions {
            info_interval: Duration::from_secs(3600),
            ..EndpointsOptions::default()
        };
        let runtime = RUNTIME.handle().clone();
        let endpoints = Endpoints::new(vec![spec], options, runtime, &metrics::Registry::new());
        let endpoints = Arc::new(endpoints.unwrap());
        endpoints.update().await;
        assert!(answers(&endpoints));
        drop(stop);
        running.await.unwrap();
        endpoints.update().await;
        assert!(!answers(&endpoints));
        let (_, stop, running) = start(&address).await;
        let cancel = Cancel::default();
        let run = (Arc::clone(&endpoints), cancel.clone());
        let rounds = tokio::spawn(async move { run.0.run(run.1).await });
        let since = Instant::now();
        while !answers(&endpoints) {
            assert!(since.elapsed() < Duration::from_secs(20), "it is not found");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let view = endpoints.open(Scope::unbounded(TimeRange::ALL));
        assert!(view.is_ok());
        drop(stop);
        running.await.unwrap();
        cancel.cancel();
        rounds.await.unwrap();
    });
}
