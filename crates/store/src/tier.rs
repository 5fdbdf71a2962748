//! Caches behind the memory of a gateway, as Thanos' YAML names them: `--index-cache.config` and
//! `--store.caching-bucket.config`.
//!
//! What lies in them are pages: pieces of equal size of the files of blocks, by block, file and place.
//! Sources of the keys: `pkg/store/cache/factory.go`, `pkg/store/cache/caching_bucket_factory.go` and
//! `pkg/cacheutil` of Thanos.

use std::sync::Arc;
use std::time::Duration;

use cache::{Cache, Memcached, Redis, RedisLogin, RemoteOptions};
use discovery::dns::{Dns, is_dynamic};
use metrics::Registry;
use model::text::parse_bytes;
use model::time::{parse_duration, span};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use wire::client::{Dialer, TlsSettings, TlsVersion};

/// A cache behind the memory.
#[derive(Clone)]
pub struct Tier {
    /// Where pages lie.
    pub cache: Arc<dyn Cache>,
    /// Bytes of a page.
    pub page: u64,
    /// How long they are kept.
    pub ttl: Duration,
}

/// What a YAML asks for.
#[derive(Clone, Debug)]
pub struct TierConfig {
    place: Place,
    page: u64,
    ttl: Duration,
    /// What was asked for but will not be done.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug)]
enum Place {
    Memory(u64),
    Memcached {
        addresses: Vec<String>,
        interval: Duration,
        options: RemoteOptions,
    },
    Redis {
        address: String,
        /// Who know where the master called so is; then the address is this name.
        sentinels: Vec<String>,
        login: Login,
        tls: Option<Box<TlsSettings>>,
        options: RemoteOptions,
    },
}

/// As [`RedisLogin`], but not shown.
#[derive(Clone)]
struct Login(RedisLogin);

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexCache<T> {
    r#type: String,
    config: Option<T>,
    #[serde(default)]
    enabled_items: Vec<String>,
    #[serde(default, deserialize_with = "duration")]
    ttl: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CachingBucket<T> {
    r#type: String,
    config: Option<T>,
    chunk_subrange_size: Option<u64>,
    #[serde(default, deserialize_with = "duration")]
    chunk_subrange_ttl: Option<Duration>,
    // Listings and metas are kept by the catalog, which knows when they can change.
    max_chunks_get_range_requests: Option<IgnoredAny>,
    chunk_object_attrs_ttl: Option<IgnoredAny>,
    blocks_iter_ttl: Option<IgnoredAny>,
    metafile_exists_ttl: Option<IgnoredAny>,
    metafile_doesnt_exist_ttl: Option<IgnoredAny>,
    metafile_content_ttl: Option<IgnoredAny>,
    metafile_max_size: Option<IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct InMemory {
    #[serde(deserialize_with = "bytes")]
    max_size: Option<u64>,
    #[serde(deserialize_with = "bytes")]
    max_item_size: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct MemcachedConfig {
    addresses: Vec<String>,
    #[serde(deserialize_with = "duration")]
    timeout: Option<Duration>,
    max_idle_connections: Option<usize>,
    max_async_concurrency: Option<usize>,
    max_async_buffer_size: Option<usize>,
    max_get_multi_concurrency: Option<usize>,
    #[serde(deserialize_with = "bytes")]
    max_item_size: Option<u64>,
    max_get_multi_batch_size: Option<usize>,
    #[serde(deserialize_with = "duration")]
    dns_provider_update_interval: Option<Duration>,
    auto_discovery: bool,
    set_async_circuit_breaker_config: Breaker,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Breaker {
    enabled: bool,
    half_open_max_requests: Option<u64>,
    #[serde(deserialize_with = "duration")]
    open_duration: Option<Duration>,
    min_requests: Option<u64>,
    consecutive_failures: Option<u32>,
    failure_percent: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RedisConfig {
    addr: String,
    prefix: String,
    username: String,
    password: String,
    db: u32,
    #[serde(deserialize_with = "duration")]
    dial_timeout: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    read_timeout: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    write_timeout: Option<Duration>,
    max_get_multi_concurrency: Option<usize>,
    get_multi_batch_size: Option<usize>,
    max_set_multi_concurrency: Option<usize>,
    set_multi_batch_size: Option<usize>,
    tls_enabled: bool,
    tls_config: RedisTls,
    cache_size: Option<IgnoredAny>,
    master_name: String,
    max_async_buffer_size: Option<usize>,
    max_async_concurrency: Option<usize>,
    set_async_circuit_breaker_config: Breaker,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RedisTls {
    ca_file: String,
    cert_file: String,
    key_file: String,
    server_name: String,
    insecure_skip_verify: bool,
    min_version: String,
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else {
        return Ok(None);
    };
    let ms = parse_duration(&text).map_err(serde::de::Error::custom)?;
    Ok(Some(span(ms)))
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else {
        return Ok(None);
    };
    // A bare number is one of bytes, as in Thanos.
    let size = match text.parse() {
        Ok(number) => number,
        Err(_) => parse_bytes(&text).map_err(serde::de::Error::custom)?,
    };
    Ok(Some(size))
}

/// What Thanos keeps in memory where the YAML does not say, bytes.
const MEMORY: u64 = 250 << 20;
/// Pages of index and chunk files, unless a YAML says otherwise, bytes: `chunk_subrange_size`.
const PAGE: u64 = 16_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Breaker {
    fn apply(&self, options: &mut RemoteOptions) {
        // These shape the half-open state, which here is one call.
        let _ = (
            self.half_open_max_requests,
            self.min_requests,
            self.failure_percent,
        );
        if !self.enabled {
            return;
        }
        options.failures = self.consecutive_failures.unwrap_or(options.failures).max(1);
        options.pause = self.open_duration.unwrap_or(options.pause);
    }
}

fn memcached(config: MemcachedConfig) -> Result<Place, String> {
    if config.addresses.is_empty() {
        return Err("memcached: no addresses are given".to_owned());
    }
    if config.auto_discovery {
        let why =
            "memcached: auto_discovery is not supported; name the nodes, or a DNS name with dns+";
        return Err(why.to_owned());
    }
    let default = RemoteOptions::default();
    let mut options = RemoteOptions {
        timeout: config.timeout.unwrap_or(default.timeout),
        max_idle: config.max_idle_connections.unwrap_or(default.max_idle),
        writers: config.max_async_concurrency.unwrap_or(default.writers),
        queue: config.max_async_buffer_size.unwrap_or(default.queue),
        max_entry_bytes: config.max_item_size.unwrap_or(default.max_entry_bytes),
        ..default.clone()
    };
    // 0 means without a limit there.
    let positive = |n: Option<usize>, otherwise| n.filter(|n| *n > 0).unwrap_or(otherwise);
    options.concurrency = positive(config.max_get_multi_concurrency, default.concurrency);
    options.batch = positive(config.max_get_multi_batch_size, default.batch);
    config.set_async_circuit_breaker_config.apply(&mut options);
    let interval = config.dns_provider_update_interval;
    Ok(Place::Memcached {
        addresses: config.addresses,
        interval: interval.unwrap_or(Duration::from_secs(10)),
        options,
    })
}

fn redis(config: RedisConfig) -> Result<Place, String> {
    if config.addr.is_empty() {
        return Err("redis: no addr is given".to_owned());
    }
    let (address, sentinels) = match config.master_name.is_empty() {
        true if config.addr.contains(',') => {
            let why = "redis: a cluster of servers is not supported; give one address, or those of sentinels and a master_name";
            return Err(why.to_owned());
        }
        true => (config.addr, Vec::new()),
        false => {
            let sentinels = config.addr.split(',').map(|a| a.trim().to_owned());
            (config.master_name, sentinels.collect())
        }
    };
    let default = RemoteOptions::default();
    let slower = |a: Option<Duration>, b: Option<Duration>| a.into_iter().chain(b).max();
    let mut options = RemoteOptions {
        dial_timeout: config.dial_timeout.unwrap_or(Duration::from_secs(5)),
        timeout: slower(config.read_timeout, config.write_timeout)
            .unwrap_or(Duration::from_secs(3)),
        concurrency: config.max_get_multi_concurrency.unwrap_or(100).max(1),
        batch: config.get_multi_batch_size.unwrap_or(100).max(1),
        writers: config.max_async_concurrency.unwrap_or(default.writers),
        queue: config.max_async_buffer_size.unwrap_or(default.queue),
        max_entry_bytes: 0,
        ..default
    };
    let _ = (
        config.max_set_multi_concurrency,
        config.set_multi_batch_size,
    );
    config.set_async_circuit_breaker_config.apply(&mut options);
    let tls = config.tls_config;
    let min_version = match tls.min_version.as_str() {
        "" => None,
        number => Some(TlsVersion::numbered(number).ok_or_else(|| {
            format!("redis: min_version {number:?} is none of 1.0, 1.1, 1.2, 1.3")
        })?),
    };
    Ok(Place::Redis {
        address,
        sentinels,
        login: Login(RedisLogin {
            username: config.username,
            password: config.password,
            db: config.db,
            prefix: config.prefix,
        }),
        tls: config.tls_enabled.then(|| {
            Box::new(TlsSettings {
                ca_file: tls.ca_file,
                cert_file: tls.cert_file,
                key_file: tls.key_file,
                server_name: tls.server_name,
                insecure_skip_verify: tls.insecure_skip_verify,
                min_version,
                ..TlsSettings::default()
            })
        }),
        options,
    })
}

/// The place that a YAML of either kind names. `inner` reads its `config` as one of the types.
fn place(kind: &str, yaml: &str, of: Kind) -> Result<Place, String> {
    match kind.to_ascii_uppercase().as_str() {
        "IN-MEMORY" => {
            let config: InMemory = of.config(yaml)?;
            let _ = config.max_item_size;
            Ok(Place::Memory(config.max_size.unwrap_or(MEMORY)))
        }
        "MEMCACHED" => memcached(of.config(yaml)?),
        "REDIS" => redis(of.config(yaml)?),
        "GROUPCACHE" => Err(
            "type GROUPCACHE is not supported: stores do not cache for each other; use MEMCACHED or REDIS, which all of them share, or IN-MEMORY"
                .to_owned(),
        ),
        _ => Err(format!(
            "cache with type {kind:?} is not supported; use IN-MEMORY, MEMCACHED or REDIS"
        )),
    }
}

/// Which of the two YAMLs it is.
#[derive(Clone, Copy)]
enum Kind {
    Index,
    Bucket,
}

impl Kind {
    fn config<T: DeserializeOwned + Default>(self, yaml: &str) -> Result<T, String> {
        Ok(match self {
            Kind::Index => wire::yaml::<IndexCache<T>>(yaml)?.config,
            Kind::Bucket => wire::yaml::<CachingBucket<T>>(yaml)?.config,
        }
        .unwrap_or_default())
    }
}

impl TierConfig {
    /// What `--index-cache.config` says.
    pub fn index_cache(yaml: &str) -> Result<Self, String> {
        let outer: IndexCache<IgnoredAny> = wire::yaml(yaml)?;
        let mut warnings = Vec::new();
        for item in &outer.enabled_items {
            if !["Postings", "Series", "ExpandedPostings"].contains(&item.as_str()) {
                return Err(format!(
                    "unsupported item type {item:?}; use Postings, Series and ExpandedPostings"
                ));
            }
        }
        if !outer.enabled_items.is_empty() && outer.enabled_items.len() < 3 {
            warnings.push(
                "enabled_items is not honoured: pages of the index are kept, whatever is in them"
                    .to_owned(),
            );
        }
        Ok(Self {
            place: place(&outer.r#type, yaml, Kind::Index)?,
            page: PAGE,
            ttl: outer.ttl.unwrap_or(DAY),
            warnings,
        })
    }

    /// What `--store.caching-bucket.config` says.
    pub fn caching_bucket(yaml: &str) -> Result<Self, String> {
        let outer: CachingBucket<IgnoredAny> = wire::yaml(yaml)?;
        let _ = (
            &outer.max_chunks_get_range_requests,
            &outer.chunk_object_attrs_ttl,
            &outer.blocks_iter_ttl,
            &outer.metafile_exists_ttl,
            &outer.metafile_doesnt_exist_ttl,
            &outer.metafile_content_ttl,
            &outer.metafile_max_size,
        );
        let page = outer.chunk_subrange_size.unwrap_or(PAGE);
        if !(1024..=16 << 20).contains(&page) {
            return Err(format!(
                "chunk_subrange_size is {page}; use 1024 to 16777216 bytes"
            ));
        }
        Ok(Self {
            place: place(&outer.r#type, yaml, Kind::Bucket)?,
            page,
            ttl: outer.chunk_subrange_ttl.unwrap_or(DAY),
            warnings: Vec::new(),
        })
    }

    /// Bytes that it adds to the memory of the gateway.
    pub fn memory(&self) -> u64 {
        match self.place {
            Place::Memory(bytes) => bytes,
            _ => 0,
        }
    }

    /// Opens it; none if it is the memory of the gateway. Must be called within a tokio runtime.
    pub fn open(&self, name: &str, registry: &Registry) -> Result<Option<Tier>, String> {
        let text = |e: metrics::Error| e.to_string();
        let cache: Arc<dyn Cache> = match &self.place {
            Place::Memory(_) => return Ok(None),
            Place::Memcached {
                addresses,
                interval,
                options,
            } => {
                let fixed = addresses.iter().filter(|a| !is_dynamic(a)).cloned();
                let dial = cache::plain();
                let cache = Memcached::new(name, fixed.collect(), dial, options.clone(), registry);
                let cache = Arc::new(cache.map_err(text)?);
                if addresses.iter().any(|a| is_dynamic(a)) {
                    let follow = follow(Arc::downgrade(&cache), addresses.clone(), *interval);
                    tokio::spawn(follow);
                }
                cache
            }
            Place::Redis {
                address,
                sentinels,
                login,
                tls,
                options,
            } => {
                let dialer = match tls {
                    None => Dialer::default(),
                    Some(tls) => {
                        Dialer::secure(tls).map_err(|e| format!("redis: tls_config: {e}"))?
                    }
                };
                let dial: cache::Dial = Arc::new(move |address| {
                    let dialer = dialer.clone();
                    Box::pin(async move {
                        let io = dialer.dial(&address).await?;
                        Ok(Box::new(io) as Box<dyn cache::Io>)
                    })
                });
                let dial = match sentinels.len() {
                    0 => dial,
                    count => {
                        let each = options.dial_timeout / (count as u32 + 1);
                        // As with Thanos' client, TLS is spoken with the master alone.
                        let (name, all) = (address.clone(), sentinels.clone());
                        cache::sentinel(name, all, each, cache::plain(), dial)
                    }
                };
                let servers = vec![address.clone()];
                let login = login.0.clone();
                let cache = Redis::new(name, servers, login, dial, options.clone(), registry);
                Arc::new(cache.map_err(text)?)
            }
        };
        Ok(Some(Tier {
            cache,
            page: self.page,
            ttl: self.ttl,
        }))
    }
}

/// Looks up where the servers are, again and again, until nobody has the cache any more.
async fn follow(cache: std::sync::Weak<Memcached>, addresses: Vec<String>, interval: Duration) {
    let dns = Dns::default();
    loop {
        let mut found = Vec::new();
        let mut whole = true;
        for address in &addresses {
            if !is_dynamic(address) {
                found.push(address.clone());
                continue;
            }
            match dns.lookup(address).await {
                Ok(servers) => found.extend(servers),
                Err(error) => {
                    whole = false;
                    tracing::warn!(%error, "servers of a cache cannot be looked up; those known stay");
                }
            }
        }
        let Some(cache) = cache.upgrade() else {
            return;
        };
        if whole {
            cache.set_servers(found);
        }
        drop(cache);
        tokio::time::sleep(interval.max(Duration::from_secs(1))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thanos_yaml_of_both_kinds_is_read() {
        let memory = "type: IN-MEMORY\nconfig:\n  max_size: 100MB\n  max_item_size: 5MiB\n";
        let config = TierConfig::index_cache(memory).unwrap();
        assert_eq!(config.memory(), 100 << 20);
        let config = TierConfig::caching_bucket("type: in-memory\n").unwrap();
        assert_eq!(config.memory(), MEMORY);
        let memcached = "type: MEMCACHED\nconfig:\n  addresses: [\"dnssrv+_m._tcp.cache\", \"a:11211\"]\n  timeout: 2s\n  max_idle_connections: 7\n  max_async_concurrency: 3\n  max_async_buffer_size: 10000\n  max_get_multi_concurrency: 0\n  max_get_multi_batch_size: 0\n  max_item_size: 0\n  dns_provider_update_interval: 10s\n  auto_discovery: false\n  set_async_circuit_breaker_config: {enabled: true, open_duration: 9s, consecutive_failures: 4, min_requests: 50, half_open_max_requests: 10, failure_percent: 0.05}\nenabled_items: [Postings, Series]\nttl: 1h\n";
        let config = TierConfig::index_cache(memcached).unwrap();
        assert_eq!((config.memory(), config.warnings.len()), (0, 1));
        assert_eq!(config.ttl, Duration::from_secs(3600));
        let Place::Memcached {
            addresses, options, ..
        } = config.place
        else {
            panic!("no memcached");
        };
        assert_eq!(addresses.len(), 2);
        assert_eq!(options.timeout, Duration::from_secs(2));
        assert_eq!((options.failures, options.batch), (4, 100));
        let redis = "type: REDIS\nconfig:\n  addr: 'r:6379'\n  prefix: 'thanos:'\n  password: pw\n  db: 2\n  read_timeout: 1s\n  tls_enabled: true\n  tls_config: {server_name: x, min_version: '1.2'}\nchunk_subrange_size: 32000\nchunk_subrange_ttl: 2h\nmetafile_max_size: 1MiB\nblocks_iter_ttl: 5m\n";
        let config = TierConfig::caching_bucket(redis).unwrap();
        assert_eq!((config.page, config.ttl.as_secs()), (32_000, 7200));
        assert!(!format!("{config:?}").contains("pw"));
        let Place::Redis { login, tls, .. } = config.place else {
            panic!("no redis");
        };
        assert_eq!(login.0.prefix, "thanos:");
        assert_eq!(tls.unwrap().min_version, Some(TlsVersion::Tls12));
    }

    #[test]
    fn sentinels_are_named_beside_their_master() {
        let yaml = "type: REDIS\nconfig: {addr: 'a:26379, b:26379', master_name: main}";
        let Place::Redis {
            address, sentinels, ..
        } = TierConfig::caching_bucket(yaml).unwrap().place
        else {
            panic!("no redis");
        };
        assert_eq!(address, "main");
        assert_eq!(sentinels, ["a:26379", "b:26379"]);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let said = |yaml: &str| TierConfig::caching_bucket(yaml).unwrap_err();
        assert!(said("type: GROUPCACHE\nconfig: {self_url: x}").contains("MEMCACHED or REDIS"));
        assert!(said("type: DISK").contains("IN-MEMORY, MEMCACHED or REDIS"));
        assert!(said("type: MEMCACHED").contains("no addresses"));
        assert!(said("type: REDIS\nconfig: {addr: 'x,y'}").contains("master_name"));
        assert!(said("type: REDIS\nconfig: {adr: x}").contains("adr"));
        assert!(said("type: IN-MEMORY\nchunk_subrange_size: 5").contains("1024"));
        assert!(TierConfig::index_cache("type: IN-MEMORY\nenabled_items: [Chunks]").is_err());
        assert!(TierConfig::index_cache("nonsense").is_err());
    }
}
