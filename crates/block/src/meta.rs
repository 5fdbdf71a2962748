//! `meta.json`: what a block is. As Prometheus 3 writes it (`tsdb/block.go`), with the `thanos`
//! section of a block in a bucket (`pkg/block/metadata/meta.go` of Thanos).
//!
//! Fields that are not known are kept and written again.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use ulid::Ulid;

use model::{Millis, TimeRange};

use crate::BlockError;
use crate::fs::{Fs, FsExt as _, OsFs};

/// The name of the file in a block's directory.
pub const FILE: &str = "meta.json";

/// The version that is written and read.
const VERSION: u64 = 1;

/// A file larger than this is no meta.json.
const MAX_BYTES: u64 = 64 << 20;

/// What a block is: its time, its size, where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The block's name.
    #[serde(with = "text")]
    pub ulid: Ulid,
    /// First timestamp, ms.
    #[serde(rename = "minTime")]
    pub min_time: Millis,
    /// The timestamp after the last, ms.
    #[serde(rename = "maxTime")]
    pub max_time: Millis,
    /// How much is in it.
    #[serde(default)]
    pub stats: Stats,
    /// Where it comes from.
    #[serde(default)]
    pub compaction: Compaction,
    /// Format version.
    #[serde(default)]
    pub version: u64,
    /// What Thanos says about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thanos: Option<Thanos>,
    /// Everything else that was in the file.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How much is in a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// Samples of all kinds.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_samples: u64,
    /// Float samples.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_float_samples: u64,
    /// Native histograms.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_histogram_samples: u64,
    /// Series.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_series: u64,
    /// Chunks.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_chunks: u64,
    /// Intervals of tombstones.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_tombstones: u64,
}

/// Where a block comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compaction {
    /// How often it was compacted; 1 is cut from a head.
    pub level: u32,
    /// The blocks of level 1 that are in it.
    #[serde(with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Ulid>,
    /// Everything in it was deleted; it may go.
    #[serde(skip_serializing_if = "is_false")]
    pub deletable: bool,
    /// The blocks it was made of directly.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Parent>,
    /// Compacting it has failed.
    #[serde(skip_serializing_if = "is_false")]
    pub failed: bool,
    /// `from-out-of-order` and the like.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// Everything else that was there.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The hint of a block of samples that came out of order.
pub const FROM_OUT_OF_ORDER: &str = "from-out-of-order";

/// Hints of blocks whose end says nothing about how far the ordered data reaches.
const ASIDE: [&str; 3] = [
    FROM_OUT_OF_ORDER,
    "from-stale-series",
    "from-selected-series",
];

impl Compaction {
    /// Whether the block was cut from the head in order: what is older than its end lies in blocks.
    pub fn in_order(&self) -> bool {
        !self.hints.iter().any(|h| ASIDE.contains(&h.as_str()))
    }
}

/// A block that went into another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its name.
    #[serde(with = "text")]
    pub ulid: Ulid,
    /// First timestamp, ms.
    #[serde(rename = "minTime")]
    pub min_time: Millis,
    /// The timestamp after the last, ms.
    #[serde(rename = "maxTime")]
    pub max_time: Millis,
}

/// What Thanos says about a block in a bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thanos {
    /// Version of this section.
    #[serde(skip_serializing_if = "is_zero")]
    pub version: u64,
    /// External labels.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// Whether it is downsampled.
    pub downsample: Downsample,
    /// Who made it: `sidecar`, `receive`, `compactor`, `ruler`, ...
    pub source: String,
    /// Names of the chunk segments.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub segment_files: Vec<String>,
    /// All files of the block with their sizes.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// What was rewritten.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub rewrites: Vec<Value>,
    /// Sizes that help to read ranges.
    pub index_stats: IndexStats,
    /// Whatever others put here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Value>,
    /// When it was uploaded, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_time: Option<String>,
    /// Everything else that was there.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Whether a block is downsampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Downsample {
    /// Distance of samples, ms; 0 is raw data.
    pub resolution: Millis,
}

/// A file of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct File {
    /// Path in the block's directory.
    pub rel_path: String,
    /// Bytes; not said for meta.json.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_bytes: u64,
    /// Its hash, if one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<FileHash>,
}

/// The hash of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileHash {
    /// `SHA256`.
    pub func: String,
    /// Hexadecimal.
    pub value: String,
}

/// Sizes that help to read ranges of an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IndexStats {
    /// Bytes of the longest series entry.
    #[serde(skip_serializing_if = "is_zero")]
    pub series_max_size: u64,
    /// Bytes of the longest chunk.
    #[serde(skip_serializing_if = "is_zero")]
    pub chunk_max_size: u64,
}

impl Meta {
    /// The files that Thanos' section lists; none where there is no such section.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.thanos.iter().flat_map(|t| &t.files)
    }

    /// Bytes of all its files, as far as they are listed.
    pub fn bytes(&self) -> u64 {
        self.files().map(|f| f.size_bytes).sum()
    }

    /// Bytes of its index, if that is listed.
    pub fn index_bytes(&self) -> u64 {
        let mut files = self.files();
        let index = files.find(|f| f.rel_path == crate::index::FILE);
        index.map_or(0, |f| f.size_bytes)
    }

    /// The meta of a new block of level 1, with itself as its source. `range` is closed.
    pub fn new(ulid: Ulid, range: TimeRange) -> Self {
        Self {
            ulid,
            min_time: range.min,
            max_time: range.max.saturating_add(1),
            stats: Stats::default(),
            compaction: Compaction {
                level: 1,
                sources: vec![ulid],
                ..Compaction::default()
            },
            version: VERSION,
            thanos: None,
            extra: Map::new(),
        }
    }

    /// The timestamps that can be in the block.
    pub fn range(&self) -> TimeRange {
        TimeRange::new(self.min_time, self.max_time.saturating_sub(1))
    }

    /// Distance of its samples, ms; 0 is raw data.
    pub fn resolution(&self) -> Millis {
        self.thanos.as_ref().map_or(0, |t| t.downsample.resolution)
    }

    /// Reads the JSON text.
    pub fn parse(json: &[u8]) -> Result<Self, BlockError> {
        let meta: Meta = serde_json::from_slice(json)
            .map_err(|e| BlockError::corrupt(format!("meta.json: {e}")))?;
        if meta.version != VERSION {
            return Err(BlockError::Version {
                what: FILE,
                version: meta.version,
            });
        }
        Ok(meta)
    }

    /// The JSON text, laid out as Prometheus lays it out.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut to = serde_json::Serializer::with_formatter(&mut out, tabs);
        // Strings, numbers and maps with string keys into a vector: nothing can fail.
        let _ = self.serialize(&mut to);
        out
    }

    /// Reads the file in the block directory `dir`.
    pub fn read(dir: &Path) -> Result<Self, BlockError> {
        Self::read_on(&OsFs, dir)
    }

    /// Like [`Meta::read`], on any files.
    pub fn read_on(fs: &dyn Fs, dir: &Path) -> Result<Self, BlockError> {
        let path = dir.join(FILE);
        let len = std::fs::metadata(&path)
            .map_err(BlockError::io("reading", &path))?
            .len();
        if len > MAX_BYTES {
            return Err(BlockError::corrupt(format!("meta.json of {len} bytes")));
        }
        let json = fs.read(&path).map_err(BlockError::io("reading", &path))?;
        Self::parse(&json)
    }

    /// Writes the file into the block directory `dir`: complete or not at all.
    pub fn write(&self, dir: &Path) -> Result<(), BlockError> {
        self.write_on(&OsFs, dir)
    }

    /// Like [`Meta::write`], on any files.
    pub fn write_on(&self, fs: &dyn Fs, dir: &Path) -> Result<(), BlockError> {
        let path = dir.join(FILE);
        fs.replace(&path, &self.to_json())
            .map_err(BlockError::io("writing", &path))
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_false(b: &bool) -> bool {
    !*b
}

/// Go writes `null` for a list or map that was never made.
fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// A ULID as its 26 letters.
mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use ulid::Ulid;

    pub(super) fn serialize<S: Serializer>(id: &Ulid, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Ulid, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        Ulid::from_string(&text).map_err(|e| D::Error::custom(format!("ulid {text:?}: {e}")))
    }
}

/// A list of ULIDs.
mod texts {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use ulid::Ulid;

    pub(super) fn serialize<S: Serializer>(ids: &[Ulid], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(ids.iter().map(Ulid::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Ulid>, D::Error> {
        Option::<Vec<String>>::deserialize(from)?
            .unwrap_or_default()
            .iter()
            .map(|t| Ulid::from_string(t).map_err(|e| D::Error::custom(format!("ulid {t:?}: {e}"))))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"{
	"ulid": "01M83373T6A2J79QZ1V7RA5WS6",
	"minTime": 1700006400250,
	"maxTime": 1700013587943,
	"stats": {
		"numSamples": 3373,
		"numSeries": 8,
		"numChunks": 29
	},
	"compaction": {
		"level": 1,
		"sources": [
			"01M83373T6A2J79QZ1V7RA5WS6"
		]
	},
	"version": 1
}"#;

    #[test]
    fn the_text_is_prometheus_own() {
        let meta = Meta::parse(PLAIN.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(meta.to_json()).unwrap(), PLAIN);
        assert_eq!(meta.range(), TimeRange::new(1700006400250, 1700013587942));
    }

    #[test]
    fn thanos_section_and_unknown_fields_survive() {
        let text = r#"{"version":1,"ulid":"01M83373T6A2J79QZ1V7RA5WS6","minTime":-5,"maxTime":7,
            "stats":{},"compaction":{"level":2,"sources":null,"parents":[{"ulid":"01M83373T6A2J79QZ1V7RA5WS6","minTime":1,"maxTime":2}],"new":1},
            "thanos":{"version":1,"labels":{"a":"b"},"downsample":{"resolution":300000},"source":"compactor",
            "segment_files":["000001"],"files":[{"rel_path":"index","size_bytes":5},{"rel_path":"meta.json"}],
            "index_stats":{"series_max_size":9},"extensions":{"x":[1]},"upload_time":"2026-01-01T00:00:00Z","future":true},
            "other":{"deep":[null]}}"#;
        let meta = Meta::parse(text.as_bytes()).unwrap();
        let again = Meta::parse(&meta.to_json()).unwrap();
        assert_eq!(meta, again);
        assert_eq!(meta.resolution(), 300_000);
        assert_eq!(meta.extra["other"]["deep"][0], Value::Null);
        assert_eq!(meta.compaction.extra["new"], 1);
        assert_eq!(meta.thanos.unwrap().extra["future"], true);
    }

    #[test]
    fn what_is_no_meta_is_refused() {
        for bad in [
            "",
            "{}",
            "[]",
            "null",
            &PLAIN.replace("\"version\": 1", "\"version\": 2"),
        ] {
            assert!(Meta::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let bad_ulid = PLAIN.replace("01M83373T6A2J79QZ1V7RA5WS6", "01M8");
        assert!(Meta::parse(bad_ulid.as_bytes()).is_err());
    }

    #[test]
    fn it_is_written_whole() {
        let dir = tempfile::tempdir().unwrap();
        let meta = Meta::new(Ulid::generate(), TimeRange::new(0, 9));
        meta.write(dir.path()).unwrap();
        assert_eq!(Meta::read(dir.path()).unwrap(), meta);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
