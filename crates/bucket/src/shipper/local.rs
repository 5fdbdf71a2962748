//! Blocks on the local disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::meta::{Downsample, File, IndexStats, Thanos};
use block::read_at::FileAt;
use block::{BlockError, Meta};
use model::{Labels, Millis, TimeRange};
use ulid::Ulid;

use crate::Error;

/// A finished block.
pub(super) struct Local {
    pub dir: PathBuf,
    pub meta: Meta,
}

/// What lies in a directory.
#[derive(Default)]
pub(super) struct Found {
    /// Blocks, oldest first.
    pub blocks: Vec<Local>,
    /// Blocks whose meta.json cannot be read, and why.
    pub broken: Vec<(String, String)>,
    /// All folders that are named like blocks.
    pub names: BTreeSet<Ulid>,
}

/// Looks for blocks in `dir`. What is still being written has another name.
pub(super) fn find(dir: &Path) -> Result<Found, Error> {
    let mut found = Found::default();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(Error::local(dir, e)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| Error::local(dir, e))?;
        let name = entry.file_name();
        let Some(ulid) = name.to_str().and_then(|n| Ulid::from_string(n).ok()) else {
            continue;
        };
        let dir = entry.path();
        if !dir.is_dir() {
            continue;
        }
        match Meta::read(&dir) {
            Ok(meta) if meta.ulid == ulid => found.blocks.push(Local { dir, meta }),
            Ok(meta) => {
                let reason = format!("meta.json is that of block {}", meta.ulid);
                found.broken.push((ulid.to_string(), reason));
            }
            // Deleted while we looked.
            Err(_) if !dir.exists() => continue,
            Err(e) => found.broken.push((ulid.to_string(), e.to_string())),
        }
        found.names.insert(ulid);
    }
    found.blocks.sort_by_key(|b| (b.meta.min_time, b.meta.ulid));
    Ok(found)
}

impl Local {
    pub(super) fn ulid(&self) -> Ulid {
        self.meta.ulid
    }

    /// The files that are shipped, by their paths in the block's folder.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let mut files = vec![PathBuf::from(block::meta::FILE)];
        files.extend(
            segments(&self.dir)?
                .into_iter()
                .map(|s| Path::new("chunks").join(s)),
        );
        files.push(PathBuf::from("index"));
        Ok(files)
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> Result<u64, Error> {
        let size = |file: PathBuf| {
            let path = self.dir.join(file);
            let metadata = path.metadata();
            metadata.map(|m| m.len()).map_err(|e| Error::local(path, e))
        };
        self.files()?.into_iter().map(size).sum()
    }
}

/// The names of the chunk segments, ascending.
fn segments(block: &Path) -> Result<Vec<String>, Error> {
    let dir = block.join("chunks");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(|e| Error::local(&dir, e))? {
        let entry = entry.map_err(|e| Error::local(&dir, e))?;
        let name = entry.file_name();
        let digits = name
            .to_str()
            .filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
        names.extend(digits.map(str::to_owned));
    }
    names.sort_unstable();
    Ok(names)
}

/// Makes the meta.json of a block in the bucket.
pub(super) struct Prepare {
    pub dir: PathBuf,
    pub labels: Labels,
    pub source: String,
    pub now: Millis,
}

impl Prepare {
    pub(super) fn meta(&self) -> Result<Meta, Error> {
        let name = self.dir.display().to_string();
        let corrupt = |e: BlockError| Error::corrupt(&name, e);
        let mut meta = Meta::read(&self.dir).map_err(corrupt)?;
        let segment_files = segments(&self.dir)?;
        let size = |path: PathBuf| {
            let file = self.dir.join(&path);
            let size = std::fs::metadata(&file).map_err(|e| Error::local(&file, e))?;
            Ok::<_, Error>(File {
                rel_path: path.display().to_string(),
                size_bytes: size.len(),
                hash: None,
            })
        };
        let mut files = Vec::with_capacity(segment_files.len() + 2);
        for segment in &segment_files {
            files.push(size(Path::new("chunks").join(segment))?);
        }
        let segment_sizes: Vec<u64> = files.iter().map(|f| f.size_bytes).collect();
        files.push(size("index".into())?);
        files.push(File {
            rel_path: block::meta::FILE.to_owned(),
            ..File::default()
        });
        let index_stats = index_stats(&self.dir, &segment_sizes).map_err(corrupt)?;
        // What another shipper or a compactor said before stays where it is of no concern here.
        let before = meta.thanos.take().unwrap_or_default();
        let labels = self.labels.iter();
        meta.thanos = Some(Thanos {
            version: 1,
            labels: labels.map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            downsample: Downsample { resolution: 0 },
            source: self.source.clone(),
            segment_files,
            files,
            index_stats,
            upload_time: Some(rfc3339(self.now)),
            ..before
        });
        Ok(meta)
    }
}

/// Reads the whole index: measures its longest entries, and finds out before anybody relies on the
/// block whether it can be read at all and its chunks can be there.
fn index_stats(dir: &Path, segments: &[u64]) -> Result<IndexStats, BlockError> {
    let path = dir.join("index");
    let io = |source| BlockError::Io {
        what: format!("opening {}", path.display()),
        source,
    };
    let file = FileAt::open(&path).map_err(io)?;
    let reader = block::index::Reader::open(Arc::new(file))?;
    let ids = reader.all_series()?;
    let mut series = reader.series();
    let mut stats = IndexStats::default();
    let (mut labels, mut chunks) = (Vec::new(), Vec::new());
    for (i, &id) in ids.iter().enumerate() {
        let upcoming = ids.get(i + 1..).unwrap_or_default();
        // Its length before it and its checksum behind it.
        let size = series.body(id, upcoming)?.len() as u64 + 10;
        stats.series_max_size = stats.series_max_size.max(size);
        labels.clear();
        chunks.clear();
        series.decode(id, upcoming, TimeRange::ALL, &mut labels, &mut chunks)?;
        for chunk in &chunks {
            let (segment, offset) = block::chunks::split(chunk.reference);
            if segments
                .get(segment)
                .is_none_or(|&size| u64::from(offset) >= size)
            {
                return Err(BlockError::Corrupt(format!(
                    "series {id} has a chunk at {offset} of segment {segment}, which is not there"
                )));
            }
        }
        // Chunks of a series follow each other, so the next one tells where one ends.
        for pair in chunks.windows(2) {
            let [a, b] = [pair[0].reference, pair[1].reference];
            if a >> 32 == b >> 32 && b > a {
                stats.chunk_max_size = stats.chunk_max_size.max(b - a);
            }
        }
    }
    Ok(stats)
}

fn rfc3339(ms: Millis) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => time.to_string(),
        Err(_) => "1970-01-01T00:00:00Z".to_owned(),
    }
}
