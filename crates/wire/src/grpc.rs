//! The shells of gRPC: a server that puts services on the network, a channel that calls them.
//!
//! Both speak Thanos' dialect: TLS and client certificates after its flags, the `snappy` message
//! encoding, health and reflection, keepalive, and messages that may be large.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use wire::grpc::{Channel, ChannelSettings, Server, Settings};
//!
//! let settings = Settings { listen: "127.0.0.1:0".to_owned(), ..Settings::default() };
//! let server = Server::bind(settings, &metrics::Registry::new()).await.unwrap();
//! let channel = Channel::new(&server.address().to_string(), &ChannelSettings::default()).unwrap();
//! # let _ = channel;
//! server.serve(tonic::service::Routes::default(), async {}).await.unwrap(); // stops at once
//! # });
//! ```

mod channel;
mod listener;
mod observe;
mod server;
mod snappy;
mod status;

pub use channel::{Channel, ChannelSettings};
pub use listener::Peer;
pub use server::{Health, Server, Settings, TlsFiles};
pub use snappy::Reframed;
pub use status::{from_status, to_status};

/// No message may be larger, bytes: what the peers set, less what no honest peer sends.
pub const MAX_MESSAGE: usize = 1 << 30;

/// The metadata key that carries the tenant between Thanos' components.
pub const TENANT: &str = "thanos-tenant";

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
