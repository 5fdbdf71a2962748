//! A connection whose other end is gone without a word, and pings that are no attack.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use wire::grpc::{Channel, ChannelSettings, KeepAlive, Server, Settings};
use wire::proto::thanos::info::info_client::InfoClient;
use wire::proto::thanos::info::info_server::{Info, InfoServer};
use wire::proto::thanos::info::{InfoRequest, InfoResponse};

const QUICK: KeepAlive = KeepAlive {
    interval: Duration::from_millis(200),
    timeout: Duration::from_millis(300),
};
/// What a test waits for that would take forever.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers after a while.
#[derive(Default)]
struct Slow {
    takes: Duration,
    asked: Notify,
    /// A call was given up before it was answered.
    dropped: Arc<Notify>,
}

struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tonic::async_trait]
impl Info for Slow {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let dropped = Dropped(Arc::clone(&self.dropped));
        self.asked.notify_one();
        tokio::time::sleep(self.takes).await;
        std::mem::forget(dropped);
        Ok(Response::new(InfoResponse::default()))
    }
}

async fn serve(service: &Arc<Slow>, keep_alive: KeepAlive) -> u16 {
    let settings = Settings {
        listen: "127.0.0.1:0".into(),
        keep_alive,
        ..Settings::default()
    };
    let server = Server::bind(settings, &metrics::Registry::new()).await;
    let server = server.unwrap();
    let port = server.address().port();
    let routes = Routes::new(InfoServer::from_arc(Arc::clone(service)));
    tokio::spawn(server.serve(routes, std::future::pending()));
    port
}

/// What lies between: it can swallow all that is sent from then on over the connections that there are.
#[derive(Default)]
struct Between {
    connections: AtomicUsize,
    /// How many of the first connections are dead.
    dead: AtomicUsize,
    /// The server has closed a connection.
    closed: Notify,
}

impl Between {
    async fn listen(self: &Arc<Self>, server: u16) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let between = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = between.connections.fetch_add(1, Ordering::SeqCst);
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(Arc::clone(&between).pass(number, from_client, to_server, false));
                tokio::spawn(Arc::clone(&between).pass(number, from_server, to_client, true));
            }
        });
        format!("localhost:{}", address.port())
    }

    async fn pass(
        self: Arc<Self>,
        number: usize,
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut to: tokio::net::tcp::OwnedWriteHalf,
        of_server: bool,
    ) {
        let mut bytes = vec![0; 1 << 14];
        while let Ok(n @ 1..) = from.read(&mut bytes).await {
            let dead = number < self.dead.load(Ordering::SeqCst);
            if !dead && to.write_all(&bytes[..n]).await.is_err() {
                break;
            }
        }
        if of_server {
            self.closed.notify_one();
        }
        if number < self.dead.load(Ordering::SeqCst) {
            // The other end learns nothing of it.
            std::future::pending::<()>().await;
        }
    }

    fn swallow(&self) {
        let there = self.connections.load(Ordering::SeqCst);
        self.dead.store(there, Ordering::SeqCst);
    }
}

fn call(channel: &Channel) -> tokio::task::JoinHandle<Result<Response<InfoResponse>, Status>> {
    let mut client = InfoClient::new(channel.clone());
    tokio::spawn(async move { client.info(InfoRequest {}).await })
}

fn channel(address: &str, keep_alive: KeepAlive) -> Channel {
    let settings = ChannelSettings {
        keep_alive,
        ..ChannelSettings::default()
    };
    Channel::new(address, &settings).unwrap()
}

#[tokio::test]
async fn a_call_to_nobody_ends_and_the_next_one_connects_again() {
    let service = Arc::new(Slow {
        takes: Duration::from_millis(100),
        ..Slow::default()
    });
    let port = serve(&service, KeepAlive::SERVER).await;
    let between = Arc::new(Between::default());
    let channel = channel(&between.listen(port).await, QUICK);
    call(&channel).await.unwrap().unwrap();
    service.asked.notified().await;

    let waiting = call(&channel);
    service.asked.notified().await;
    between.swallow();
    let begun = Instant::now();
    let ended = tokio::time::timeout(PATIENCE, waiting).await;
    let status = ended.expect("it is noticed").unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(begun.elapsed() >= QUICK.timeout, "{:?}", begun.elapsed());

    let again = tokio::time::timeout(PATIENCE, call(&channel)).await;
    again.unwrap().unwrap().unwrap();
    assert_eq!(between.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_server_lets_go_of_a_client_that_is_gone() {
    let service = Arc::new(Slow {
        takes: Duration::from_secs(3600),
        ..Slow::default()
    });
    let port = serve(&service, QUICK).await;
    let between = Arc::new(Between::default());
    let channel = channel(&between.listen(port).await, KeepAlive::CLIENT);
    let waiting = call(&channel);
    service.asked.notified().await;
    between.swallow();
    let gone = tokio::time::timeout(PATIENCE, between.closed.notified()).await;
    gone.expect("the connection is closed");
    let dropped = tokio::time::timeout(PATIENCE, service.dropped.notified()).await;
    dropped.expect("and what was done for the client ends");
    waiting.abort();
}

#[tokio::test]
async fn pings_while_a_call_is_in_flight_are_no_attack() {
    let service = Arc::new(Slow {
        takes: Duration::from_millis(1500),
        ..Slow::default()
    });
    let port = serve(&service, KeepAlive::SERVER).await;
    let between = Arc::new(Between::default());
    // A hundred times what Thanos' clients do, with nothing said in between.
    let often = KeepAlive {
        interval: Duration::from_millis(10),
        timeout: Duration::from_secs(5),
    };
    let channel = channel(&between.listen(port).await, often);
    for _ in 0..2 {
        call(&channel).await.unwrap().unwrap();
    }
    assert_eq!(between.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn channels_ask_as_thanos_clients_do() {
    let settings = ChannelSettings::default();
    assert_eq!(settings.keep_alive.interval, Duration::from_secs(10));
    assert_eq!(settings.keep_alive.timeout, Duration::from_secs(5));
    let server = Settings::default().keep_alive;
    assert!(server.interval + server.timeout <= Duration::from_secs(60));
}
