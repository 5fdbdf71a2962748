//! A block on its way into the bucket: chunk segments go there while they are written, the index lies on
//! the local disk until it is whole, and `meta.json` comes last.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::Meta;
use block::fs::{Fs, LogFile, OsFs};
use block::meta::{File, FileHash};
use bucket::{Bucket, Put, Upload, marks};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use ulid::Ulid;

use crate::Error;

/// Whether files get a hash in `meta.json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashFunc {
    /// They do not.
    #[default]
    None,
    /// SHA-256.
    Sha256,
}

/// The files of one block that is being written, for [`block::Writer::create_on`].
pub struct Output {
    bucket: Arc<Bucket>,
    runtime: Handle,
    ulid: Ulid,
    /// Below this folder the block is written.
    parent: PathBuf,
    hash: HashFunc,
    segments: Arc<Mutex<Vec<File>>>,
}

impl Output {
    /// A block that is written below the folder `parent`. Whoever writes must not be on a thread of the
    /// async runtime.
    pub fn new(
        bucket: Arc<Bucket>,
        runtime: Handle,
        ulid: Ulid,
        parent: &Path,
        hash: HashFunc,
    ) -> Arc<Self> {
        Arc::new(Self {
            bucket,
            runtime,
            ulid,
            parent: parent.to_owned(),
            hash,
            segments: Arc::default(),
        })
    }

    /// Uploads the index. What is left to do then is [`Output::publish`].
    pub async fn upload_index(&self, meta: &mut Meta) -> Result<(), Error> {
        let path = self.parent.join(self.ulid.to_string());
        let path = path.join(block::index::FILE);
        let key = marks::key(self.ulid, block::index::FILE);
        let size = self.bucket.upload_file(&key, &path).await?;
        let hash = match self.hash {
            HashFunc::None => None,
            HashFunc::Sha256 => Some(hash_of_file(&path).await?),
        };
        let mut files = self.segments.lock().clone();
        files.sort_by(|a, b| a.rel_path.cmp(&b.rel_path));
        let thanos = meta.thanos.get_or_insert_default();
        thanos.segment_files = files
            .iter()
            .filter_map(|f| f.rel_path.strip_prefix("chunks/").map(str::to_owned))
            .collect();
        files.push(File {
            rel_path: block::index::FILE.to_owned(),
            size_bytes: size,
            hash,
        });
        files.push(File {
            rel_path: block::meta::FILE.to_owned(),
            ..File::default()
        });
        thanos.files = files;
        Ok(())
    }

    /// Writes `meta.json`: from then on it is a block.
    pub async fn publish(&self, meta: &mut Meta) -> Result<(), Error> {
        let thanos = meta.thanos.get_or_insert_default();
        thanos.upload_time = Some(jiff::Timestamp::now().to_string());
        let key = marks::key(self.ulid, block::meta::FILE);
        let json = meta.to_json().into();
        self.bucket.put(&key, json, Put::Overwrite).await?;
        Ok(())
    }

    /// Removes what was uploaded of a block that will not be.
    pub async fn discard(&self) {
        if let Err(error) = marks::delete_block(&self.bucket, self.ulid).await {
            tracing::warn!(block = %self.ulid, %error, "a block that was given up is still in the bucket; it is removed as a partial upload");
        }
    }
}

async fn hash_of_file(path: &Path) -> Result<FileHash, Error> {
    let owned = path.to_owned();
    let read = move || {
        let mut file = std::fs::File::open(owned)?;
        let mut hash = Sha256::new();
        io::copy(&mut file, &mut hash)?;
        Ok(hash)
    };
    let hash = tokio::task::spawn_blocking(read)
        .await
        .map_err(|_| Error::Stopped)?;
    hash.map(sha256).map_err(|source| Error::Local {
        path: path.display().to_string(),
        source,
    })
}

fn sha256(hash: Sha256) -> FileHash {
    use std::fmt::Write as _;
    let mut value = String::new();
    for byte in hash.finalize() {
        let _ = write!(value, "{byte:02x}");
    }
    FileHash {
        func: "SHA256".to_owned(),
        value,
    }
}

impl Fs for Output {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let name = path.file_name().and_then(|n| n.to_str());
        let folder = path.parent().and_then(Path::file_name);
        match name {
            Some(name) if folder.is_some_and(|f| f == block::chunks::DIR) => {
                let rel_path = format!("{}/{name}", block::chunks::DIR);
                let key = marks::key(self.ulid, &rel_path);
                let upload = self.bucket.upload(&key).map_err(io::Error::other)?;
                Ok(Arc::new(Segment {
                    runtime: self.runtime.clone(),
                    rel_path,
                    segments: Arc::clone(&self.segments),
                    hash: Mutex::new((self.hash == HashFunc::Sha256).then(Sha256::new)),
                    upload: Mutex::new(Some(upload)),
                }))
            }
            _ => OsFs.create(path),
        }
    }
}

/// A chunk segment.
struct Segment {
    runtime: Handle,
    rel_path: String,
    segments: Arc<Mutex<Vec<File>>>,
    hash: Mutex<Option<Sha256>>,
    upload: Mutex<Option<Upload>>,
}

impl LogFile for Segment {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        if let Some(hash) = &mut *self.hash.lock() {
            hash.update(bytes);
        }
        let mut upload = self.upload.lock();
        let upload = upload.as_mut().ok_or_else(finished)?;
        self.runtime
            .block_on(upload.write(bytes))
            .map_err(io::Error::other)
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        let upload = self.upload.lock().take().ok_or_else(finished)?;
        let size = self.runtime.block_on(upload.finish());
        self.segments.lock().push(File {
            rel_path: self.rel_path.clone(),
            size_bytes: size.map_err(io::Error::other)?,
            hash: self.hash.lock().take().map(sha256),
        });
        Ok(())
    }
}

fn finished() -> io::Error {
    io::Error::other("the segment is finished")
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.get_mut().take() {
            self.runtime.spawn(upload.abort());
        }
    }
}
