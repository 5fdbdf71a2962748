//! Files into the bucket, with bounded memory.

use std::io::Read as _;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{PutMultipartOptions, PutPayload};

use super::{Bucket, Put};
use crate::Error;

/// Parts of one file that are on their way at once.
const PARTS_AT_ONCE: usize = 4;
/// S3 takes at most 10,000 parts.
const MOST_PARTS: u64 = 9_999;

impl Bucket {
    /// Uploads a file, in parts if it is large, and returns its size in bytes. The object is seen
    /// whole or not at all.
    pub async fn upload_file(&self, key: &str, file: &FilePath) -> Result<u64, Error> {
        let size = tokio::fs::metadata(file)
            .await
            .map_err(|e| Error::local(file, e))?
            .len();
        let part_size = self.part_size.max(size.div_ceil(MOST_PARTS));
        if size <= part_size {
            let bytes = read_part(file, 0, size).await?;
            self.put(key, bytes, Put::Overwrite).await?;
            return Ok(size);
        }
        let path = self.path(key)?;
        match &self.multipart {
            Some(store) => {
                self.in_parts(Arc::clone(store), key, &path, file, size, part_size)
                    .await?;
            }
            None => self.streamed(key, &path, file, size, part_size).await?,
        }
        self.meters.uploaded(size as usize);
        Ok(size)
    }

    async fn in_parts(
        &self,
        store: Arc<dyn MultipartStore>,
        key: &str,
        path: &Path,
        file: &FilePath,
        size: u64,
        part_size: u64,
    ) -> Result<(), Error> {
        let options = PutMultipartOptions {
            attributes: self.attributes.clone(),
            ..PutMultipartOptions::default()
        };
        let id = self
            .run("upload", key, 0, || async {
                match options.attributes.is_empty() {
                    true => store.create_multipart(path).await,
                    false => store.create_multipart_opts(path, options.clone()).await,
                }
            })
            .await?;
        let (store_ref, id_ref) = (&store, &id);
        let parts = (0..size.div_ceil(part_size)).map(|n| async move {
            let start = n * part_size;
            let len = part_size.min(size - start);
            let bytes = read_part(file, start, len).await?;
            self.run("upload", key, len, || {
                let payload = PutPayload::from(bytes.clone());
                store_ref.put_part(path, id_ref, n as usize, payload)
            })
            .await
        });
        let done = stream::iter(parts)
            .buffered(PARTS_AT_ONCE)
            .try_collect::<Vec<_>>()
            .await;
        let completed = match done {
            Ok(parts) => {
                self.run("upload", key, 0, || {
                    store.complete_multipart(path, &id, parts.clone())
                })
                .await
            }
            Err(e) => Err(e),
        };
        match completed {
            Ok(_) => Ok(()),
            // The answer to an earlier attempt at completing may have been lost.
            Err(e) if e.is_not_found() && self.is_there(key, size).await => Ok(()),
            Err(e) => {
                let _ = self
                    .run("upload", key, 0, || store.abort_multipart(path, &id))
                    .await;
                Err(e)
            }
        }
    }

    pub(super) async fn is_there(&self, key: &str, size: u64) -> bool {
        self.head(key).await.is_ok_and(|object| object.size == size)
    }

    /// A local directory takes the parts one after the other.
    async fn streamed(
        &self,
        key: &str,
        path: &Path,
        file: &FilePath,
        size: u64,
        part_size: u64,
    ) -> Result<(), Error> {
        let start = self.meters.start("upload");
        let failed = |e| self.error("upload", key, 1, Some(e));
        let options = PutMultipartOptions::default();
        let mut upload = match self.store.put_multipart_opts(path, options).await {
            Ok(upload) => upload,
            Err(e) => {
                start.done(false);
                return Err(failed(e));
            }
        };
        let mut at = 0;
        let moved = loop {
            if at == size {
                break upload.complete().await.map(drop).map_err(failed);
            }
            let len = part_size.min(size - at);
            match read_part(file, at, len).await {
                Ok(bytes) => match upload.put_part(bytes.into()).await {
                    Ok(()) => {
                        at += len;
                        self.sent.fetch_add(len, Ordering::Relaxed);
                    }
                    Err(e) => break Err(failed(e)),
                },
                Err(e) => break Err(e),
            }
        };
        if moved.is_err() {
            let _ = upload.abort().await;
        }
        start.done(moved.is_ok());
        moved
    }
}

/// Reads `len` bytes at `start`; fails if the file ends before.
async fn read_part(file: &FilePath, start: u64, len: u64) -> Result<Bytes, Error> {
    let file = file.to_owned();
    let read = move || {
        use std::io::Seek as _;
        let mut open = std::fs::File::open(&file).map_err(|e| Error::local(&file, e))?;
        let mut read = || {
            open.seek(std::io::SeekFrom::Start(start))?;
            let mut bytes = vec![0; len as usize];
            open.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        read().map(Bytes::from).map_err(|e| Error::local(&file, e))
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result,
        Err(e) => Err(Error::Unsupported(format!("reading was stopped: {e}"))),
    }
}
