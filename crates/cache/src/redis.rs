//! Redis, in its own protocol (RESP, version 2).

use std::io;
use std::time::Duration;

use bytes::Bytes;
use metrics::Registry;
use tokio::io::AsyncWriteExt as _;

use crate::lines::Lines;
use crate::remote::{Dial, Io, Protocol, Remote, RemoteOptions, broken};
use crate::{BoxFuture, Cache, Key};

/// Who we are to the server.
#[derive(Clone, Default)]
pub struct RedisLogin {
    /// The user; empty: the default one.
    pub username: String,
    /// The password; empty: none is needed.
    pub password: String,
    /// Which database.
    pub db: u32,
    /// What every key begins with there.
    pub prefix: String,
}

/// A cache on a Redis server.
pub struct Redis(Remote);

impl Redis {
    /// A cache that its metrics call `name`. Must be made within a tokio runtime.
    pub fn new(
        name: &str,
        servers: Vec<String>,
        login: RedisLogin,
        dial: Dial,
        options: RemoteOptions,
        registry: &Registry,
    ) -> Result<Self, metrics::Error> {
        let protocol = Box::new(Resp(login));
        Remote::new(name, protocol, servers, dial, options, registry).map(Self)
    }
}

impl Cache for Redis {
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Vec<Option<Bytes>>> {
        self.0.get_many(keys)
    }

    fn put_many<'a>(&'a self, entries: Vec<(Key, Bytes)>, ttl: Duration) -> BoxFuture<'a, ()> {
        self.0.put_many(entries, ttl)
    }
}

struct Resp(RedisLogin);

impl Resp {
    /// A key as the server knows it.
    fn key(&self, key: &Key) -> Vec<u8> {
        [self.0.prefix.as_bytes(), key.as_bytes()].concat()
    }
}

/// Appends a command: an array of bulk strings.
pub(crate) fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// A line that begins with `kind`: the number behind it.
pub(crate) async fn number(lines: &mut Lines<'_>, kind: u8) -> io::Result<i64> {
    let line = lines.line().await?;
    let number = line
        .strip_prefix(&[kind])
        .and_then(|rest| std::str::from_utf8(rest).ok()?.parse().ok());
    number.ok_or_else(|| unexpected(&line))
}

/// A bulk string; none if it is absent.
pub(crate) async fn bulk(lines: &mut Lines<'_>) -> io::Result<Option<Bytes>> {
    let len = number(lines, b'$').await?;
    match usize::try_from(len) {
        Ok(len) => lines.counted(len).await.map(Some),
        Err(_) => Ok(None),
    }
}

async fn ok(lines: &mut Lines<'_>) -> io::Result<()> {
    let line = lines.line().await?;
    match line.first() {
        Some(b'+') => Ok(()),
        _ => Err(unexpected(&line)),
    }
}

fn unexpected(line: &[u8]) -> io::Error {
    broken(&format!(
        "Redis answered {:?}",
        String::from_utf8_lossy(line)
    ))
}

impl Protocol for Resp {
    fn greet<'a>(&'a self, io: &'a mut dyn Io) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            let login = &self.0;
            let (mut out, mut answers) = (Vec::new(), 0);
            let password = login.password.as_bytes();
            if !login.username.is_empty() {
                command(&mut out, &[b"AUTH", login.username.as_bytes(), password]);
                answers += 1;
            } else if !password.is_empty() {
                command(&mut out, &[b"AUTH", password]);
                answers += 1;
            }
            if login.db > 0 {
                command(&mut out, &[b"SELECT", login.db.to_string().as_bytes()]);
                answers += 1;
            }
            if answers == 0 {
                return Ok(());
            }
            io.write_all(&out).await?;
            let mut lines = Lines::new(io);
            for _ in 0..answers {
                ok(&mut lines).await?;
            }
            Ok(())
        })
    }

    fn get<'a>(
        &'a self,
        io: &'a mut dyn Io,
        keys: &'a [Key],
    ) -> BoxFuture<'a, io::Result<Vec<Option<Bytes>>>> {
        Box::pin(async move {
            let keys_there: Vec<Vec<u8>> = keys.iter().map(|k| self.key(k)).collect();
            let mut words: Vec<&[u8]> = vec![b"MGET"];
            words.extend(keys_there.iter().map(Vec::as_slice));
            let mut out = Vec::new();
            command(&mut out, &words);
            io.write_all(&out).await?;
            let mut lines = Lines::new(io);
            let count = number(&mut lines, b'*').await?;
            if usize::try_from(count) != Ok(keys.len()) {
                return Err(broken("Redis answered with another number of entries"));
            }
            let mut found = Vec::with_capacity(keys.len());
            for _ in keys {
                found.push(bulk(&mut lines).await?);
            }
            Ok(found)
        })
    }

    fn put<'a>(
        &'a self,
        io: &'a mut dyn Io,
        entries: &'a [(Key, Bytes)],
        ttl: Duration,
    ) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            let ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX / 2);
            let ms = ms.clamp(1, i64::MAX as u64 / 2).to_string();
            let mut out = Vec::new();
            for (key, bytes) in entries {
                command(
                    &mut out,
                    &[b"SET", &self.key(key), bytes, b"PX", ms.as_bytes()],
                );
            }
            io.write_all(&out).await?;
            let mut lines = Lines::new(io);
            for _ in entries {
                ok(&mut lines).await?;
            }
            Ok(())
        })
    }
}
