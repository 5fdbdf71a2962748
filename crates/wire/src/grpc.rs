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
//! server.serve(wire::grpc::Routes::default(), async {}).await.unwrap(); // stops at once
//! # });
//! ```

mod channel;
mod listener;
mod observe;
mod server;
mod snappy;
mod status;

pub use channel::{Channel, ChannelSettings, KeepAlive};
pub use listener::Peer;
pub use observe::Meters;
pub use server::{Health, Server, Settings, TlsFiles};
pub use snappy::Reframed;
pub use status::{from_status, to_status};

// What rooms need to implement a service or to call one, so that only this room knows tonic.
pub use tonic::metadata::MetadataMap;
pub use tonic::service::Routes;
pub use tonic::{Code, Request, Response, Status, Streaming, async_trait};

/// No message may be larger, bytes: what the peers set, less what no honest peer sends.
pub const MAX_MESSAGE: usize = 1 << 30;

/// The metadata key that carries the tenant between Thanos' components.
pub const TENANT: &str = "thanos-tenant";

/// When the caller gives up, as its `grpc-timeout` header says.
pub fn timeout_of(metadata: &MetadataMap) -> Option<std::time::Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    // The specification allows eight digits.
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => std::time::Duration::from_secs(number * 3600),
        "M" => std::time::Duration::from_secs(number * 60),
        "S" => std::time::Duration::from_secs(number),
        "m" => std::time::Duration::from_millis(number),
        "u" => std::time::Duration::from_micros(number),
        "n" => std::time::Duration::from_nanos(number),
        _ => return None,
    })
}

/// The tenant that a call is for.
pub fn tenant_of(metadata: &MetadataMap) -> Option<&str> {
    metadata
        .get(TENANT)?
        .to_str()
        .ok()
        .filter(|t| !t.is_empty())
}

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
