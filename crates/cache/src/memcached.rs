//! memcached, in its text protocol.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use metrics::Registry;
use tokio::io::AsyncWriteExt as _;

use crate::lines::Lines;
use crate::remote::{Dial, Io, Protocol, Remote, RemoteOptions, broken};
use crate::{BoxFuture, Cache, Key};

/// No key may be longer, bytes.
const MOST_KEY: usize = 250;
/// Longer times are taken for dates, seconds.
const MOST_TTL: u64 = 60 * 60 * 24 * 30;

/// A cache on memcached servers.
pub struct Memcached(Remote);

impl Memcached {
    /// A cache that its metrics call `name`, on these servers. Must be made within a tokio runtime.
    pub fn new(
        name: &str,
        servers: Vec<String>,
        dial: Dial,
        options: RemoteOptions,
        registry: &Registry,
    ) -> Result<Self, metrics::Error> {
        let protocol = Box::new(Text);
        Remote::new(name, protocol, servers, dial, options, registry).map(Self)
    }

    /// Takes over other servers.
    pub fn set_servers(&self, servers: Vec<String>) {
        self.0.set_servers(servers);
    }
}

impl Cache for Memcached {
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Vec<Option<Bytes>>> {
        self.0.get_many(keys)
    }

    fn put_many<'a>(&'a self, entries: Vec<(Key, Bytes)>, ttl: Duration) -> BoxFuture<'a, ()> {
        self.0.put_many(entries, ttl)
    }
}

struct Text;

/// Whether the protocol can carry a key.
fn fits(key: &str) -> bool {
    !key.is_empty() && key.len() <= MOST_KEY && key.bytes().all(|b| b > b' ' && b != 0x7f)
}

impl Protocol for Text {
    fn greet<'a>(&'a self, _: &'a mut dyn Io) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn get<'a>(
        &'a self,
        io: &'a mut dyn Io,
        keys: &'a [Key],
    ) -> BoxFuture<'a, io::Result<Vec<Option<Bytes>>>> {
        Box::pin(async move {
            let mut found = vec![None; keys.len()];
            let mut ask = String::from("get");
            for key in keys.iter().filter(|k| fits(k)) {
                ask.push(' ');
                ask.push_str(key);
            }
            if ask.len() == 3 {
                return Ok(found);
            }
            ask.push_str("\r\n");
            io.write_all(ask.as_bytes()).await?;
            let mut reader = Lines::new(io);
            // Values come in the order of the keys, those that are absent left out.
            let mut next = 0;
            loop {
                let line = reader.line().await?;
                if &*line == b"END" {
                    return Ok(found);
                }
                let text = std::str::from_utf8(&line).map_err(|_| broken("no text"))?;
                let mut words = text.split(' ');
                let ("VALUE", Some(key), Some(_), Some(len)) = (
                    words.next().unwrap_or_default(),
                    words.next(),
                    words.next(),
                    words.next().and_then(|n| n.parse::<usize>().ok()),
                ) else {
                    return Err(broken(&format!("memcached answered {text:?}")));
                };
                let (key, data) = (key.to_owned(), reader.counted(len).await?);
                let place = keys
                    .get(next..)
                    .and_then(|k| k.iter().position(|k| **k == *key));
                let Some(place) = place else {
                    return Err(broken("memcached answered with another key"));
                };
                found[next + place] = Some(data);
                next += place + 1;
            }
        })
    }

    fn put<'a>(
        &'a self,
        io: &'a mut dyn Io,
        entries: &'a [(Key, Bytes)],
        ttl: Duration,
    ) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            let seconds = ttl.as_secs().clamp(1, MOST_TTL);
            let mut sent = 0;
            for (key, bytes) in entries.iter().filter(|(key, _)| fits(key)) {
                let head = format!("set {key} 0 {seconds} {}\r\n", bytes.len());
                io.write_all(head.as_bytes()).await?;
                io.write_all(bytes).await?;
                io.write_all(b"\r\n").await?;
                sent += 1;
            }
            let mut reader = Lines::new(io);
            for _ in 0..sent {
                let line = reader.line().await?;
                // What is too large for the server is no failure of it.
                let known: [&[u8]; 2] = [b"STORED", b"SERVER_ERROR object too large for cache"];
                if !known.contains(&&*line) {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    return Err(broken(&format!("memcached answered {text:?}")));
                }
            }
            Ok(())
        })
    }
}
