//! One bucket: reading, writing and listing objects, with retries, time limits and metrics.

mod connect;
mod meters;
mod stream;
mod upload;

pub use stream::Upload;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    Attributes, GetOptions, GetRange, ObjectMeta, ObjectStore, PutMode, PutOptions, PutPayload,
    UpdateVersion,
};

use crate::retry::{Dice, RetryBudget, RetryPolicy};
use crate::{Config, Error};
use meters::Meters;

/// The largest object that is read whole, bytes: metas, marks, small indexes.
pub const WHOLE_LIMIT: u64 = 64 << 20;

/// An object storage bucket.
pub struct Bucket {
    name: Arc<str>,
    store: Arc<dyn ObjectStore>,
    /// The part-wise interface, which lets one part be tried again; local directories have none.
    multipart: Option<Arc<dyn MultipartStore>>,
    prefix: Path,
    attributes: Attributes,
    part_size: u64,
    /// Lists come in the order of keys, so that a broken one can go on where it broke.
    sorted: bool,
    /// Ranges can be asked for by their distance from the end.
    suffixes: bool,
    policy: RetryPolicy,
    budget: RetryBudget,
    dice: Dice,
    meters: Meters,
    /// Bytes of objects and of parts that arrived over there.
    sent: AtomicU64,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bucket({})", self.name)
    }
}

/// What a listing or a HEAD tells of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its key, without the bucket's prefix.
    pub key: String,
    /// Its size, bytes.
    pub size: u64,
    /// When it was written, ms since the Unix epoch.
    pub modified: model::Millis,
    /// Its entity tag, for conditional writes.
    pub etag: Option<String>,
}

/// What one level of keys holds.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    /// Names of folders, without slashes, ascending.
    pub folders: Vec<String>,
    /// Objects right here.
    pub objects: Vec<Object>,
}

/// Under which condition an object is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// Always.
    Overwrite,
    /// Only if there is none.
    Create,
    /// Only if the one that is there has this entity tag.
    Update(String),
}

/// Opens the bucket that `config` names. Nothing is asked of it yet, except that a local
/// directory is made.
pub fn open(config: &Config, registry: &metrics::Registry) -> Result<Arc<Bucket>, Error> {
    open_with(config, RetryPolicy::default(), registry)
}

/// [`open`] with another retry policy (`max_retries` of the configuration still wins).
pub fn open_with(
    config: &Config,
    policy: RetryPolicy,
    registry: &metrics::Registry,
) -> Result<Arc<Bucket>, Error> {
    for warning in &config.warnings {
        tracing::warn!(bucket = config.name(), "objstore configuration: {warning}");
    }
    let connected = connect::connect(config)?;
    let name: Arc<str> = config.name().into();
    let policy = connected.adjust(policy);
    Ok(Arc::new(Bucket {
        meters: Meters::new(registry, &name)?,
        name,
        store: connected.store,
        multipart: connected.multipart,
        prefix: parse_path(&config.prefix)?,
        attributes: connected.attributes,
        part_size: connected.part_size,
        sorted: connected.sorted,
        suffixes: connected.suffixes,
        budget: RetryBudget::new(&policy),
        policy,
        dice: Dice::default(),
        sent: AtomicU64::new(0),
    }))
}

impl Bucket {
    /// A bucket in memory, for tests.
    pub fn in_memory() -> Arc<Self> {
        let store = Arc::new(object_store::memory::InMemory::new());
        let policy = RetryPolicy::default();
        let registry = metrics::Registry::new();
        Arc::new(Self {
            name: "memory".into(),
            // The registry is fresh, so no name is taken.
            meters: Meters::new(&registry, "memory").expect("a fresh registry"),
            multipart: Some(store.clone()),
            store,
            prefix: Path::default(),
            attributes: Attributes::new(),
            part_size: 16 << 20,
            sorted: true,
            suffixes: true,
            budget: RetryBudget::new(&policy),
            policy,
            dice: Dice::default(),
            sent: AtomicU64::new(0),
        })
    }

    /// The bucket's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many bytes of objects were read so far.
    pub fn fetched_bytes(&self) -> u64 {
        self.meters.all_fetched()
    }

    /// How many bytes of objects were written so far; those of large ones are counted part by part.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether it is a local directory.
    pub fn is_local(&self) -> bool {
        self.multipart.is_none()
    }

    /// The bytes of a whole object of at most [`WHOLE_LIMIT`].
    pub async fn get(&self, key: &str) -> Result<Bytes, Error> {
        Ok(self.get_tagged(key).await?.0)
    }

    /// [`Bucket::get`], with the entity tag of what was read.
    pub async fn get_tagged(&self, key: &str) -> Result<(Bytes, Option<String>), Error> {
        let path = self.path(key)?;
        let got = self
            .run("get", key, WHOLE_LIMIT, || async {
                let got = self
                    .soon(self.store.get_opts(&path, GetOptions::default()))
                    .await?;
                if got.meta.size > WHOLE_LIMIT {
                    return Ok(Err(got.meta.size));
                }
                let tag = got.meta.e_tag.clone();
                Ok(Ok((got.bytes().await?, tag)))
            })
            .await?;
        match got {
            Ok((bytes, tag)) => {
                self.meters.fetched("get", bytes.len());
                Ok((bytes, tag))
            }
            Err(size) => Err(Error::TooLarge {
                bucket: Arc::clone(&self.name),
                key: key.to_owned(),
                size,
                limit: WHOLE_LIMIT,
            }),
        }
    }

    /// The bytes of `range`; fewer only where the object ends before it does.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let moved = range.end - range.start;
        let (bytes, _) = self.ranged(key, moved, GetRange::Bounded(range)).await?;
        Ok(bytes)
    }

    /// The last `n` bytes (all, if there are fewer) and the size of the whole object.
    pub async fn get_suffix(&self, key: &str, n: u64) -> Result<(Bytes, u64), Error> {
        if self.suffixes {
            return self.ranged(key, n, GetRange::Suffix(n)).await;
        }
        // Azure has no such ranges.
        let size = self.head(key).await?.size;
        let bytes = self.get_range(key, size.saturating_sub(n)..size).await?;
        Ok((bytes, size))
    }

    async fn ranged(&self, key: &str, moved: u64, range: GetRange) -> Result<(Bytes, u64), Error> {
        let path = self.path(key)?;
        let (bytes, size) = self
            .run("get_range", key, moved, || async {
                let options = GetOptions {
                    range: Some(range.clone()),
                    ..GetOptions::default()
                };
                let got = self.soon(self.store.get_opts(&path, options)).await?;
                let size = got.meta.size;
                Ok((got.bytes().await?, size))
            })
            .await?;
        self.meters.fetched("get_range", bytes.len());
        Ok((bytes, size))
    }

    /// What there is to know of an object without reading it.
    pub async fn head(&self, key: &str) -> Result<Object, Error> {
        let path = self.path(key)?;
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let meta = self
            .run("attributes", key, 0, || async {
                let got = self.store.get_opts(&path, options.clone()).await?;
                Ok(got.meta)
            })
            .await?;
        Ok(self.object(meta))
    }

    /// Whether an object exists.
    pub async fn exists(&self, key: &str) -> Result<bool, Error> {
        match self.head(key).await {
            Ok(_) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Writes an object, whole or not at all; returns its entity tag.
    ///
    /// A conditional write whose answer was lost is tried again; if it then finds exactly what it
    /// was to write, it was its own doing. So let conditional objects name their writer.
    pub async fn put(&self, key: &str, bytes: Bytes, how: Put) -> Result<Option<String>, Error> {
        let path = self.path(key)?;
        let mode = match &how {
            Put::Overwrite => PutMode::Overwrite,
            Put::Create => PutMode::Create,
            Put::Update(etag) => PutMode::Update(UpdateVersion {
                e_tag: Some(etag.clone()),
                version: None,
            }),
        };
        let mut tries = 0;
        let written = self
            .run("upload", key, bytes.len() as u64, || {
                tries += 1;
                let options = PutOptions {
                    mode: mode.clone(),
                    attributes: self.attributes.clone(),
                    ..PutOptions::default()
                };
                self.store
                    .put_opts(&path, PutPayload::from(bytes.clone()), options)
            })
            .await;
        let etag = match written {
            Ok(result) => result.e_tag,
            Err(e @ Error::Conflict { .. }) if tries > 1 => match self.get_tagged(key).await? {
                (there, etag) if there == bytes => etag,
                _ => return Err(e),
            },
            Err(e) => return Err(e),
        };
        self.meters.uploaded(bytes.len());
        Ok(etag)
    }

    /// Removes an object; that it is not there is no error.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        let path = self.path(key)?;
        let deleted = self
            .run("delete", key, 0, || async {
                let one = futures_util::stream::iter([Ok(path.clone())]).boxed();
                let mut gone = self.store.delete_stream(one);
                while let Some(result) = gone.next().await {
                    result?;
                }
                Ok(())
            })
            .await;
        match deleted {
            Err(e) if e.is_not_found() => Ok(()),
            other => other,
        }
    }

    /// All objects whose keys lie under the folder `prefix` (`""` for all), handed to `each` as
    /// they come; on most providers in the order of keys.
    pub async fn list(&self, prefix: &str, mut each: impl FnMut(Object)) -> Result<(), Error> {
        let path = self.path(prefix)?;
        let mut attempt = 0;
        let mut last: Option<Path> = None;
        let timer = self.meters.start("iter");
        loop {
            attempt += 1;
            let mut items = match &last {
                Some(last) => self.store.list_with_offset(Some(&path), last),
                None => self.store.list(Some(&path)),
            };
            let failed = loop {
                let time = self.policy.timeout(0);
                match tokio::time::timeout(time, items.next()).await {
                    Ok(None) => {
                        self.budget.earn();
                        timer.done(true);
                        return Ok(());
                    }
                    Ok(Some(Ok(meta))) => {
                        last = Some(meta.location.clone());
                        each(self.object(meta));
                    }
                    // A local directory that vanished while it was walked.
                    Ok(Some(Err(object_store::Error::NotFound { .. }))) if !self.sorted => {}
                    Ok(Some(Err(e))) => break Some(e),
                    Err(_) => break None,
                }
            };
            let again = self.sorted && failed.as_ref().is_none_or(may_pass);
            if !again || attempt >= self.policy.attempts || !self.budget.spend() {
                timer.done(false);
                return Err(self.error("iter", prefix, attempt, failed));
            }
            self.meters.retried("iter");
            tokio::time::sleep(self.policy.pause(attempt + 1, &self.dice)).await;
        }
    }

    /// What lies right in the folder `prefix` (`""` for the top).
    pub async fn list_folder(&self, prefix: &str) -> Result<Folder, Error> {
        let path = self.path(prefix)?;
        let listed = self
            .run("iter", prefix, 8 << 20, || {
                self.store.list_with_delimiter(Some(&path))
            })
            .await?;
        let name = |p: &Path| p.filename().map(str::to_owned);
        let mut folders: Vec<String> = listed.common_prefixes.iter().filter_map(name).collect();
        folders.sort_unstable();
        Ok(Folder {
            folders,
            objects: listed.objects.into_iter().map(|m| self.object(m)).collect(),
        })
    }

    fn path(&self, key: &str) -> Result<Path, Error> {
        let path = parse_path(key)?;
        Ok(self.prefix.parts().chain(path.parts()).collect())
    }

    fn object(&self, meta: ObjectMeta) -> Object {
        let whole = meta.location.as_ref();
        let key = match self.prefix.as_ref() {
            "" => whole,
            prefix => whole
                .strip_prefix(prefix)
                .unwrap_or(whole)
                .trim_start_matches('/'),
        };
        Object {
            key: key.to_owned(),
            size: meta.size,
            modified: meta.last_modified.timestamp_millis(),
            etag: meta.e_tag,
        }
    }

    /// Tries `attempt` until it works, cannot work, or has been tried enough. `moved` says how
    /// many bytes it may move, for its time limit.
    async fn run<T, F>(
        &self,
        operation: &'static str,
        key: &str,
        moved: u64,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let timer = self.meters.start(operation);
        let limit = self.policy.timeout(moved);
        let mut n = 0;
        loop {
            n += 1;
            let failed = match tokio::time::timeout(limit, attempt()).await {
                Ok(Ok(value)) => {
                    self.budget.earn();
                    timer.done(true);
                    if operation == "upload" {
                        self.sent.fetch_add(moved, Ordering::Relaxed);
                    }
                    return Ok(value);
                }
                Ok(Err(e)) => Some(e),
                Err(_) => None,
            };
            let again = failed.as_ref().is_none_or(may_pass);
            if !again || n >= self.policy.attempts || !self.budget.spend() {
                let e = self.error(operation, key, n, failed);
                // That an object is missing or somebody was faster is an answer, not a failure.
                timer.done(matches!(e, Error::NotFound { .. } | Error::Conflict { .. }));
                return Err(e);
            }
            self.meters.retried(operation);
            tokio::time::sleep(self.policy.pause(n + 1, &self.dice)).await;
        }
    }

    /// Limits the time until an answer begins, however long the rest of it may take.
    async fn soon<T>(
        &self,
        begun: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        let limit = self.policy.attempt_timeout;
        match tokio::time::timeout(limit, begun).await {
            Ok(result) => result,
            Err(_) => Err(object_store::Error::Generic {
                store: "bucket",
                source: format!("no answer within {limit:?}").into(),
            }),
        }
    }

    fn error(
        &self,
        operation: &'static str,
        key: &str,
        attempts: u32,
        error: Option<object_store::Error>,
    ) -> Error {
        use object_store::Error as E;
        let (bucket, key) = (Arc::clone(&self.name), key.to_owned());
        match error {
            None => Error::Timeout {
                bucket,
                operation,
                key,
                attempts,
            },
            Some(E::NotFound { .. }) => Error::NotFound { bucket, key },
            Some(E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. }) => {
                Error::Conflict { bucket, key }
            }
            Some(E::PermissionDenied { source, .. } | E::Unauthenticated { source, .. }) => {
                Error::Denied {
                    bucket,
                    key,
                    reason: one_line(&source.to_string()),
                }
            }
            Some(E::NotSupported { .. } | E::NotImplemented { .. }) => {
                Error::Unsupported(format!("{operation} {key} in bucket {bucket}"))
            }
            Some(e) => Error::Unavailable {
                bucket,
                operation,
                key,
                attempts,
                reason: with_causes(&e),
            },
        }
    }
}

fn parse_path(key: &str) -> Result<Path, Error> {
    Path::parse(key).map_err(|e| Error::corrupt(key, format!("not a key: {e}")))
}

/// Whether an error may be gone at the next attempt.
fn may_pass(e: &object_store::Error) -> bool {
    match e {
        object_store::Error::Generic { source, .. } => {
            let text = source.to_string();
            let status = text.split("status code: ").nth(1);
            let code = status
                .and_then(|s| s.get(..3))
                .and_then(|s| s.parse::<u16>().ok());
            // Timeouts, conflicts under a race and throttling pass; other 4xx do not.
            code.is_none_or(|c| !(400..500).contains(&c) || matches!(c, 408 | 409 | 425 | 429))
        }
        object_store::Error::JoinError { .. } => true,
        _ => false,
    }
}

/// What an error says and, where it does not say them itself, what its causes say: that a certificate is not trusted or
/// a connection was refused stands in the innermost one.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = one_line(&error.to_string());
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = one_line(&inner.to_string());
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}

/// An error's text without line breaks and of a bounded length.
fn one_line(text: &str) -> String {
    let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(400) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// Times one operation.
struct Timer<'a> {
    meters: &'a Meters,
    operation: &'static str,
    start: Instant,
}

#[cfg(test)]
mod tests;
