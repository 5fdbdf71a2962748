//! The objects: one map under one lock, so that every conditional request is atomic.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use md5::{Digest, Md5};
use parking_lot::Mutex;

/// An object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub bytes: Bytes,
    pub etag: String,
    pub modified: SystemTime,
    pub content_type: Option<String>,
    pub metadata: Option<HashMap<String, String>>,
}

impl Object {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self {
            etag: hex(&Md5::digest(&bytes)),
            bytes,
            modified: SystemTime::now(),
            content_type: None,
            metadata: None,
        }
    }
}

/// What a write asks of what is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Condition {
    /// The ETag that must be there; `*` for any.
    pub if_match: Option<String>,
    /// The ETag that must not be there; `*` for any.
    pub if_none_match: Option<String>,
}

/// Why a request is refused, by S3's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    InvalidPart,
    InvalidPartOrder,
    PreconditionFailed,
}

#[derive(Debug)]
struct Upload {
    bucket: String,
    key: String,
    template: Object,
    parts: BTreeMap<i32, Object>,
}

#[derive(Debug, Default)]
struct Inner {
    buckets: BTreeMap<String, BTreeMap<String, Object>>,
    uploads: BTreeMap<String, Upload>,
    next_upload: u64,
}

/// One page of a listing.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub objects: Vec<(String, Object)>,
    pub prefixes: Vec<String>,
    /// Where to go on: the last key or prefix of this page.
    pub next: Option<String>,
}

#[derive(Debug)]
pub(crate) struct State(Mutex<Inner>);

impl State {
    pub(crate) fn new(buckets: &[String]) -> Self {
        let buckets = buckets.iter().map(|b| (b.clone(), BTreeMap::new()));
        Self(Mutex::new(Inner {
            buckets: buckets.collect(),
            ..Inner::default()
        }))
    }

    pub(crate) fn create_bucket(&self, bucket: &str) -> bool {
        let mut inner = self.0.lock();
        let new = !inner.buckets.contains_key(bucket);
        inner.buckets.entry(bucket.to_owned()).or_default();
        new
    }

    pub(crate) fn has_bucket(&self, bucket: &str) -> bool {
        self.0.lock().buckets.contains_key(bucket)
    }

    pub(crate) fn read(&self, bucket: &str, key: &str) -> Result<Object, Refusal> {
        let inner = self.0.lock();
        let objects = inner.buckets.get(bucket).ok_or(Refusal::NoSuchBucket)?;
        objects.get(key).cloned().ok_or(Refusal::NoSuchKey)
    }

    pub(crate) fn write(
        &self,
        bucket: &str,
        key: &str,
        object: Object,
        condition: &Condition,
    ) -> Result<(), Refusal> {
        self.0.lock().write(bucket, key, object, condition)
    }

    pub(crate) fn delete(
        &self,
        bucket: &str,
        key: &str,
        if_match: Option<&str>,
    ) -> Result<(), Refusal> {
        let mut inner = self.0.lock();
        let objects = inner.buckets.get_mut(bucket).ok_or(Refusal::NoSuchBucket)?;
        if let Some(wanted) = if_match {
            let there = objects.get(key).ok_or(Refusal::NoSuchKey)?;
            if wanted != "*" && wanted != there.etag {
                return Err(Refusal::PreconditionFailed);
            }
        }
        objects.remove(key);
        Ok(())
    }

    pub(crate) fn list(
        &self,
        bucket: &str,
        prefix: &str,
        delimiter: &str,
        after: &str,
        max: usize,
    ) -> Result<Page, Refusal> {
        let inner = self.0.lock();
        let objects = inner.buckets.get(bucket).ok_or(Refusal::NoSuchBucket)?;
        let mut page = Page::default();
        let mut last = String::new();
        for (key, object) in objects.range(prefix.to_owned()..) {
            let Some(rest) = key.strip_prefix(prefix) else {
                break;
            };
            let folder = match delimiter {
                "" => None,
                d => rest.find(d).map(|at| &key[..prefix.len() + at + d.len()]),
            };
            let entry = folder.unwrap_or(key);
            if entry <= after || (folder.is_some() && entry == last) {
                continue;
            }
            if page.objects.len() + page.prefixes.len() == max {
                page.next = Some(last);
                return Ok(page);
            }
            last = entry.to_owned();
            match folder {
                Some(folder) => page.prefixes.push(folder.to_owned()),
                None => page.objects.push((key.clone(), object.clone())),
            }
        }
        Ok(page)
    }

    pub(crate) fn begin_upload(
        &self,
        bucket: &str,
        key: &str,
        template: Object,
    ) -> Result<String, Refusal> {
        let mut inner = self.0.lock();
        if !inner.buckets.contains_key(bucket) {
            return Err(Refusal::NoSuchBucket);
        }
        inner.next_upload += 1;
        let id = format!("upload-{}", inner.next_upload);
        let upload = Upload {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            template,
            parts: BTreeMap::new(),
        };
        inner.uploads.insert(id.clone(), upload);
        Ok(id)
    }

    pub(crate) fn put_part(&self, id: &str, number: i32, part: Object) -> Result<(), Refusal> {
        let mut inner = self.0.lock();
        let upload = inner.uploads.get_mut(id).ok_or(Refusal::NoSuchUpload)?;
        upload.parts.insert(number, part);
        Ok(())
    }

    /// Puts the listed parts (number, ETag) together; returns the object's ETag.
    pub(crate) fn complete_upload(
        &self,
        id: &str,
        listed: &[(i32, String)],
        condition: &Condition,
    ) -> Result<String, Refusal> {
        let mut inner = self.0.lock();
        let upload = inner.uploads.get(id).ok_or(Refusal::NoSuchUpload)?;
        if listed.is_empty() || !listed.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(Refusal::InvalidPartOrder);
        }
        let mut bytes = BytesMut::new();
        let mut digests = Md5::new();
        for (number, etag) in listed {
            let part = upload.parts.get(number).ok_or(Refusal::InvalidPart)?;
            if part.etag != *etag {
                return Err(Refusal::InvalidPart);
            }
            bytes.extend_from_slice(&part.bytes);
            digests.update(part.etag.as_bytes());
        }
        let etag = format!("{}-{}", hex(&digests.finalize()), listed.len());
        let object = Object {
            bytes: bytes.freeze(),
            etag: etag.clone(),
            modified: SystemTime::now(),
            ..upload.template.clone()
        };
        let (bucket, key) = (upload.bucket.clone(), upload.key.clone());
        inner.write(&bucket, &key, object, condition)?;
        inner.uploads.remove(id);
        Ok(etag)
    }

    pub(crate) fn abort_upload(&self, id: &str) -> Result<(), Refusal> {
        let gone = self.0.lock().uploads.remove(id);
        gone.map(drop).ok_or(Refusal::NoSuchUpload)
    }

    pub(crate) fn open_uploads(&self) -> usize {
        self.0.lock().uploads.len()
    }

    pub(crate) fn peek(&self, bucket: &str, key: &str) -> Option<Bytes> {
        self.read(bucket, key).ok().map(|o| o.bytes)
    }

    pub(crate) fn poke(&self, bucket: &str, key: &str, bytes: Bytes) {
        let mut inner = self.0.lock();
        let objects = inner.buckets.entry(bucket.to_owned()).or_default();
        objects.insert(key.to_owned(), Object::new(bytes));
    }

    pub(crate) fn erase(&self, bucket: &str, key: &str) -> bool {
        let mut inner = self.0.lock();
        let objects = inner.buckets.get_mut(bucket);
        objects.is_some_and(|o| o.remove(key).is_some())
    }

    pub(crate) fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let inner = self.0.lock();
        let Some(objects) = inner.buckets.get(bucket) else {
            return Vec::new();
        };
        let from_there = objects.range(prefix.to_owned()..).map(|(key, _)| key);
        from_there
            .take_while(|key| key.starts_with(prefix))
            .cloned()
            .collect()
    }
}

impl Inner {
    fn write(
        &mut self,
        bucket: &str,
        key: &str,
        object: Object,
        condition: &Condition,
    ) -> Result<(), Refusal> {
        let objects = self.buckets.get_mut(bucket).ok_or(Refusal::NoSuchBucket)?;
        let there = objects.get(key).map(|o| o.etag.as_str());
        match (condition.if_match.as_deref(), there) {
            (None, _) | (Some("*"), Some(_)) => {}
            (Some(_), None) => return Err(Refusal::NoSuchKey),
            (Some(wanted), Some(there)) if wanted == there => {}
            (Some(_), Some(_)) => return Err(Refusal::PreconditionFailed),
        }
        match (condition.if_none_match.as_deref(), there) {
            (Some("*"), Some(_)) => return Err(Refusal::PreconditionFailed),
            (Some(unwanted), Some(there)) if unwanted == there => {
                return Err(Refusal::PreconditionFailed);
            }
            _ => {}
        }
        objects.insert(key.to_owned(), object);
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        let _ = write!(text, "{b:02x}");
    }
    text
}
