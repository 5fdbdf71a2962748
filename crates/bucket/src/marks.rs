//! Marks: small files in a block's folder that say what shall happen to it
//! (`pkg/block/metadata/markers.go` of Thanos).

use model::Millis;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::{Bucket, Error, Put};

/// The version that all marks have.
const VERSION: u32 = 1;

/// A mark: its file name and what every one of them says.
pub trait Mark: Serialize + DeserializeOwned + Send + Sync {
    /// The file's name in the block's folder.
    const FILE: &'static str;

    /// The block that it is for, and the format's version.
    fn head(&self) -> (&str, u32);
}

/// The block may be deleted once the mark is old enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionMark {
    /// The block's ULID.
    pub id: String,
    /// The format's version.
    pub version: u32,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// When it was marked, seconds since the Unix epoch.
    pub deletion_time: i64,
}

/// The block must not be compacted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoCompactMark {
    /// The block's ULID.
    pub id: String,
    /// The format's version.
    pub version: u32,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// When it was marked, seconds since the Unix epoch.
    pub no_compact_time: i64,
    /// Why, for machines: `manual`, `index-size-exceeding`, `block-index-out-of-order-chunk`,
    /// `downsample-vertical-compaction`.
    #[serde(default)]
    pub reason: String,
}

/// The block must not be downsampled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoDownsampleMark {
    /// The block's ULID.
    pub id: String,
    /// The format's version.
    pub version: u32,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// When it was marked, seconds since the Unix epoch.
    pub no_downsample_time: i64,
    /// Why, for machines.
    #[serde(default)]
    pub reason: String,
}

impl Mark for DeletionMark {
    const FILE: &'static str = "deletion-mark.json";

    fn head(&self) -> (&str, u32) {
        (&self.id, self.version)
    }
}

impl Mark for NoCompactMark {
    const FILE: &'static str = "no-compact-mark.json";

    fn head(&self) -> (&str, u32) {
        (&self.id, self.version)
    }
}

impl Mark for NoDownsampleMark {
    const FILE: &'static str = "no-downsample-mark.json";

    fn head(&self) -> (&str, u32) {
        (&self.id, self.version)
    }
}

impl DeletionMark {
    /// A mark set at `now` (ms).
    pub fn new(block: Ulid, details: impl Into<String>, now: Millis) -> Self {
        Self {
            id: block.to_string(),
            version: VERSION,
            details: details.into(),
            deletion_time: now.div_euclid(1000),
        }
    }

    /// When it was set, ms.
    pub fn set_at(&self) -> Millis {
        self.deletion_time.saturating_mul(1000)
    }
}

impl NoCompactMark {
    /// A mark set at `now` (ms).
    pub fn new(block: Ulid, reason: &str, details: impl Into<String>, now: Millis) -> Self {
        Self {
            id: block.to_string(),
            version: VERSION,
            details: details.into(),
            no_compact_time: now.div_euclid(1000),
            reason: reason.to_owned(),
        }
    }
}

impl NoDownsampleMark {
    /// A mark set at `now` (ms).
    pub fn new(block: Ulid, reason: &str, details: impl Into<String>, now: Millis) -> Self {
        Self {
            id: block.to_string(),
            version: VERSION,
            details: details.into(),
            no_downsample_time: now.div_euclid(1000),
            reason: reason.to_owned(),
        }
    }
}

/// The key of a file of a block.
pub fn key(block: Ulid, file: &str) -> String {
    format!("{block}/{file}")
}

/// Reads a mark; none if there is none.
pub async fn read<M: Mark>(bucket: &Bucket, block: Ulid) -> Result<Option<M>, Error> {
    let key = key(block, M::FILE);
    let bytes = match bucket.get(&key).await {
        Ok(bytes) => bytes,
        Err(e) if e.is_not_found() => return Ok(None),
        Err(e) => return Err(e),
    };
    parse(&key, &bytes).map(Some)
}

/// Reads what lies at the key of a mark.
pub(crate) fn parse<M: Mark>(key: &str, bytes: &[u8]) -> Result<M, Error> {
    let mark: M = serde_json::from_slice(bytes).map_err(|e| Error::corrupt(key, e))?;
    match mark.head() {
        (_, VERSION) => Ok(mark),
        (_, other) => Err(Error::corrupt(key, format!("unknown version {other}"))),
    }
}

/// Writes a mark, unless there is one already. True if it was written.
pub async fn write<M: Mark>(bucket: &Bucket, block: Ulid, mark: &M) -> Result<bool, Error> {
    let key = key(block, M::FILE);
    let json = serde_json::to_vec(mark).map_err(|e| Error::corrupt(&key, e))?;
    match bucket.put(&key, json.into(), Put::Create).await {
        Ok(_) => Ok(true),
        Err(Error::Conflict { .. }) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes a mark, if there is one.
pub async fn remove<M: Mark>(bucket: &Bucket, block: Ulid) -> Result<(), Error> {
    bucket.delete(&key(block, M::FILE)).await
}

/// Deletes a block: `meta.json` first, so that it is no block any more, its deletion mark last, so
/// that a half-deleted one is still known as such.
pub async fn delete_block(bucket: &Bucket, block: Ulid) -> Result<(), Error> {
    bucket.delete(&key(block, block::meta::FILE)).await?;
    let mut files = Vec::new();
    bucket
        .list(&block.to_string(), |object| files.push(object.key))
        .await?;
    let mark = key(block, DeletionMark::FILE);
    for file in files.iter().filter(|file| **file != mark) {
        bucket.delete(file).await?;
    }
    bucket.delete(&mark).await
}
