//! Listing the bucket and reading what is new.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use block::Meta;
use futures_util::{StreamExt as _, stream};
use model::Millis;
use ulid::Ulid;

use super::{Catalog, Marks, Partial, Strategy, disk};
use crate::marks::{self, DeletionMark, Mark, NoCompactMark, NoDownsampleMark};
use crate::{Error, Object};

/// Objects of one answer to a listing, at most.
const PAGE: usize = 1000;

/// All blocks of the bucket, unfiltered.
#[derive(Default)]
pub(super) struct Found {
    pub blocks: Vec<(Arc<Meta>, Marks)>,
    pub unreadable: Vec<(Ulid, String)>,
    /// How many of the unreadable ones have a meta.json that is no meta.json.
    pub corrupted: usize,
    /// Why one of the others could not be read.
    pub failed: Option<String>,
    pub partial: Vec<Partial>,
}

/// What a listing tells of one folder.
#[derive(Clone, Default)]
struct Folder {
    /// Whether there is a meta.json; none if nobody looked.
    meta: Option<bool>,
    marks: [Listed; 3],
    modified: Option<Millis>,
}

/// What a listing tells of a mark.
#[derive(Clone, Default)]
enum Listed {
    /// Nobody looked.
    #[default]
    Unknown,
    Absent,
    /// With its entity tag.
    There(Option<String>),
}

enum Read {
    Block(Arc<Meta>, Box<Marks>),
    Partial,
    Corrupted(String),
    Failed(String),
}

impl Catalog {
    pub(super) async fn find(&self) -> Result<Found, Error> {
        let folders = match self.flat.load(Ordering::Relaxed) {
            true => self.list_all().await?,
            false => self.list_top().await?,
        };
        let there: BTreeSet<Ulid> = folders.keys().copied().collect();
        self.metas.lock().retain(|ulid, _| there.contains(ulid));
        let gone = |(ulid, _): &(Ulid, _)| !there.contains(ulid);
        self.marks.lock().retain(|place, _| !gone(place));
        self.remember_from_disk(&there).await;

        let mut reads = Vec::with_capacity(folders.len());
        for (&ulid, folder) in &folders {
            reads.push(async move { (ulid, folder.modified, self.read(ulid, folder).await) });
        }
        let concurrency = self.options.concurrency.max(1);
        let mut reads = stream::iter(reads).buffer_unordered(concurrency);
        let mut found = Found::default();
        let mut done = 0;
        while let Some((ulid, modified, read)) = reads.next().await {
            done += 1;
            if let Some(told) = &self.options.on_read {
                told(done, folders.len());
            }
            match read {
                Read::Block(meta, marks) => found.blocks.push((meta, *marks)),
                Read::Partial => found.partial.push(Partial { ulid, modified }),
                Read::Corrupted(reason) => {
                    found.corrupted += 1;
                    found.unreadable.push((ulid, reason));
                }
                Read::Failed(reason) => {
                    found.failed.get_or_insert_with(|| reason.clone());
                    found.unreadable.push((ulid, reason));
                }
            }
        }
        found.unreadable.sort_unstable();
        found.partial.sort_unstable_by_key(|p| p.ulid);
        Ok(found)
    }

    async fn list_all(&self) -> Result<BTreeMap<Ulid, Folder>, Error> {
        let mut folders: BTreeMap<Ulid, Folder> = BTreeMap::new();
        let known = [
            DeletionMark::FILE,
            NoCompactMark::FILE,
            NoDownsampleMark::FILE,
        ];
        let mut listed = 0;
        let mut indexes = HashMap::new();
        let note = |object: Object| {
            listed += 1;
            let Some((name, file)) = object.key.split_once('/') else {
                return;
            };
            let Ok(ulid) = Ulid::from_string(name) else {
                return;
            };
            let folder = folders.entry(ulid).or_insert(Folder {
                meta: Some(false),
                marks: [Listed::Absent, Listed::Absent, Listed::Absent],
                modified: None,
            });
            folder.modified = folder.modified.max(Some(object.modified));
            if file == block::meta::FILE {
                folder.meta = Some(true);
            } else if file == block::index::FILE {
                indexes.insert(ulid, object.size);
            } else if let Some(i) = known.iter().position(|k| *k == file) {
                folder.marks[i] = Listed::There(object.etag);
            }
        };
        self.bucket.list("", note).await?;
        self.listed.store(listed, Ordering::Relaxed);
        if self.options.strategy == Strategy::Concurrent {
            // Marks are what has to be looked for again at each look.
            let each = if self.options.compaction_marks { 3 } else { 1 };
            let flat = listed.div_ceil(PAGE) <= folders.len().max(1) * each;
            self.flat.store(flat, Ordering::Relaxed);
        }
        *self.indexes.lock() = indexes;
        Ok(folders)
    }

    /// The objects of some blocks as they are now; none of a block that is gone. The bucket is listed once
    /// if that takes fewer requests than to list the folder of each.
    pub async fn objects_of(&self, blocks: &[Ulid]) -> Result<BTreeMap<Ulid, Vec<Object>>, Error> {
        let mut objects: BTreeMap<Ulid, Vec<Object>> =
            blocks.iter().map(|&ulid| (ulid, Vec::new())).collect();
        let pages = match self.flat.load(Ordering::Relaxed) {
            true => self.listed.load(Ordering::Relaxed).div_ceil(PAGE).max(1),
            false => usize::MAX,
        };
        if pages < blocks.len() {
            let note = |object: Object| {
                let name = object.key.split('/').next().unwrap_or_default();
                let ulid = Ulid::from_string(name).ok();
                if let Some(list) = ulid.and_then(|ulid| objects.get_mut(&ulid)) {
                    list.push(object);
                }
            };
            self.bucket.list("", note).await?;
            return Ok(objects);
        }
        let mut each = Vec::with_capacity(blocks.len());
        for &ulid in blocks {
            each.push(async move {
                let mut list = Vec::new();
                let folder = ulid.to_string();
                self.bucket.list(&folder, |o| list.push(o)).await?;
                Ok::<_, Error>((ulid, list))
            });
        }
        let concurrency = self.options.concurrency.max(1);
        let mut each = stream::iter(each).buffer_unordered(concurrency);
        while let Some(listed) = each.next().await {
            let (ulid, list) = listed?;
            objects.insert(ulid, list);
        }
        Ok(objects)
    }

    async fn list_top(&self) -> Result<BTreeMap<Ulid, Folder>, Error> {
        let top = self.bucket.list_folder("").await?;
        let ulids = top.folders.iter().filter_map(|n| Ulid::from_string(n).ok());
        Ok(ulids.map(|ulid| (ulid, Folder::default())).collect())
    }

    /// Fills in what an earlier process read.
    async fn remember_from_disk(&self, there: &BTreeSet<Ulid>) {
        let Some(dir) = self.options.cache_dir.clone() else {
            return;
        };
        let missing: Vec<Ulid> = {
            let metas = self.metas.lock();
            let missing = there.iter().filter(|ulid| !metas.contains_key(ulid));
            missing.copied().collect()
        };
        let there = there.clone();
        let load = move || {
            disk::sweep(&dir, &there);
            let loaded = missing.iter().filter_map(|&ulid| disk::load(&dir, ulid));
            loaded.map(Arc::new).collect::<Vec<_>>()
        };
        // If the task dies, everything is read from the bucket.
        let loaded = tokio::task::spawn_blocking(load).await.unwrap_or_default();
        let mut metas = self.metas.lock();
        metas.extend(loaded.into_iter().map(|meta| (meta.ulid, meta)));
    }

    async fn read(&self, ulid: Ulid, folder: &Folder) -> Read {
        if folder.meta == Some(false) {
            return Read::Partial;
        }
        let known = self.metas.lock().get(&ulid).cloned();
        let meta = match known {
            Some(meta) => meta,
            None => match self.fetch(ulid).await {
                Ok(meta) => meta,
                Err(read) => return read,
            },
        };
        match self.marks(ulid, folder).await {
            Ok(marks) => Read::Block(meta, Box::new(marks)),
            Err(e) => Read::Failed(e.to_string()),
        }
    }

    async fn fetch(&self, ulid: Ulid) -> Result<Arc<Meta>, Read> {
        let key = marks::key(ulid, block::meta::FILE);
        let json = match self.bucket.get(&key).await {
            Ok(json) => json,
            Err(e) if e.is_not_found() => return Err(Read::Partial),
            Err(e) => return Err(Read::Failed(e.to_string())),
        };
        let meta = match Meta::parse(&json) {
            Ok(meta) if meta.ulid == ulid => Arc::new(meta),
            Ok(meta) => {
                let reason = format!("{key}: it is the meta.json of {}", meta.ulid);
                return Err(Read::Corrupted(reason));
            }
            Err(e) => return Err(Read::Corrupted(format!("{key}: {e}"))),
        };
        self.metas.lock().insert(ulid, Arc::clone(&meta));
        if let Some(dir) = self.options.cache_dir.clone() {
            let copy = Arc::clone(&meta);
            let _ = tokio::task::spawn_blocking(move || disk::save(&dir, &copy)).await;
        }
        Ok(meta)
    }

    async fn marks(&self, ulid: Ulid, folder: &Folder) -> Result<Marks, Error> {
        let [deletion, no_compact, no_downsample] = &folder.marks;
        let compaction = self.options.compaction_marks;
        Ok(Marks {
            deletion: self.mark(ulid, deletion, true).await?,
            no_compact: self.mark(ulid, no_compact, compaction).await?,
            no_downsample: self.mark(ulid, no_downsample, compaction).await?,
        })
    }

    /// Reads a mark, unless the one that is listed was read before.
    async fn mark<M: Mark>(
        &self,
        ulid: Ulid,
        listed: &Listed,
        wanted: bool,
    ) -> Result<Option<M>, Error> {
        let tag = match listed {
            _ if !wanted => return Ok(None),
            Listed::Absent => return Ok(None),
            Listed::Unknown | Listed::There(None) => {
                return marks::read(&self.bucket, ulid).await;
            }
            Listed::There(Some(tag)) => bare(tag),
        };
        let (key, place) = (marks::key(ulid, M::FILE), (ulid, M::FILE));
        let known = self.marks.lock().get(&place).cloned();
        if let Some((_, bytes)) = known.filter(|(known, _)| known == tag) {
            return marks::parse(&key, &bytes).map(Some);
        }
        let (bytes, tag) = match self.bucket.get_tagged(&key).await {
            Ok(got) => got,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e),
        };
        let mark = marks::parse(&key, &bytes)?;
        if let Some(tag) = tag {
            let known = (bare(&tag).to_owned(), bytes);
            self.marks.lock().insert(place, known);
        }
        Ok(Some(mark))
    }
}

/// An entity tag without its quotes, which not every answer of every provider has.
fn bare(tag: &str) -> &str {
    tag.trim_matches('"')
}
