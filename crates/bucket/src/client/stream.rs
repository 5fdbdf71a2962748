//! An object that is written while its bytes are being made.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, MultipartUpload, PutMultipartOptions, PutPayload};
use tokio::task::JoinHandle;

use super::{Bucket, Put};
use crate::Error;

/// An object on its way into the bucket. Memory: two parts, one that fills and one that is sent. The
/// object is seen whole, after [`Upload::finish`], or not at all.
pub struct Upload {
    bucket: Arc<Bucket>,
    key: String,
    path: Path,
    buffer: BytesMut,
    size: u64,
    way: Way,
    sending: Option<JoinHandle<Result<Sent, Error>>>,
}

enum Way {
    /// Not enough for a second part yet.
    Small,
    Parts {
        store: Arc<dyn MultipartStore>,
        id: MultipartId,
        begun: usize,
        done: Vec<PartId>,
    },
    /// A local folder.
    Local(Option<Box<dyn MultipartUpload>>),
}

enum Sent {
    Part(PartId),
    Local(Box<dyn MultipartUpload>),
}

impl Bucket {
    /// Begins an object that is written piece by piece.
    pub fn upload(self: &Arc<Self>, key: &str) -> Result<Upload, Error> {
        Ok(Upload {
            path: self.path(key)?,
            bucket: Arc::clone(self),
            key: key.to_owned(),
            buffer: BytesMut::new(),
            size: 0,
            way: Way::Small,
            sending: None,
        })
    }
}

impl Upload {
    /// Adds bytes. Waits only if the part before is still being sent when the next is full.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.size += bytes.len() as u64;
        let part = self.bucket.part_size as usize;
        while !bytes.is_empty() {
            let room = part.saturating_sub(self.buffer.len()).max(1);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() >= part && !bytes.is_empty() {
                self.send().await?;
            }
        }
        Ok(())
    }

    /// How many bytes were added.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Lets the object be seen; gives its size.
    pub async fn finish(mut self) -> Result<u64, Error> {
        if matches!(self.way, Way::Small) {
            let bytes = self.buffer.split().freeze();
            self.bucket.put(&self.key, bytes, Put::Overwrite).await?;
            return Ok(self.size);
        }
        if !self.buffer.is_empty() {
            self.send().await?;
        }
        self.sent().await?;
        let bucket = &self.bucket;
        let key = &self.key;
        let completed = match &mut self.way {
            Way::Small => Ok(()),
            Way::Parts {
                store, id, done, ..
            } => {
                let completed = bucket
                    .run("upload", key, 0, || {
                        store.complete_multipart(&self.path, id, done.clone())
                    })
                    .await;
                match completed {
                    // The answer to an earlier attempt may have been lost.
                    Err(e) if e.is_not_found() && bucket.is_there(key, self.size).await => Ok(()),
                    other => other.map(drop),
                }
            }
            Way::Local(upload) => match upload {
                Some(upload) => match upload.complete().await {
                    Ok(_) => Ok(()),
                    Err(e) => Err(bucket.error("upload", key, 1, Some(e))),
                },
                None => Err(lost()),
            },
        };
        completed?;
        bucket.meters.uploaded(self.size as usize);
        // What was completed cannot be given up any more.
        self.way = Way::Small;
        Ok(self.size)
    }

    /// Lets go of everything that was sent. A dropped upload leaves its parts to the provider's rules.
    pub async fn abort(mut self) {
        // A part that is on its way would come after the end.
        let _ = self.sent().await;
        match std::mem::replace(&mut self.way, Way::Small) {
            Way::Small => {}
            Way::Parts { store, id, .. } => {
                let path = &self.path;
                let _ = self
                    .bucket
                    .run("upload", &self.key, 0, || store.abort_multipart(path, &id))
                    .await;
            }
            Way::Local(upload) => {
                if let Some(mut upload) = upload {
                    let _ = upload.abort().await;
                }
            }
        }
    }

    /// Sends the buffer as a part.
    async fn send(&mut self) -> Result<(), Error> {
        self.sent().await?;
        if matches!(self.way, Way::Small) {
            self.begin().await?;
        }
        let bytes: Bytes = self.buffer.split().freeze();
        let bucket = Arc::clone(&self.bucket);
        let (key, path) = (self.key.clone(), self.path.clone());
        self.sending = Some(match &mut self.way {
            Way::Small => return Err(lost()),
            Way::Parts {
                store, id, begun, ..
            } => {
                let (store, id, n) = (Arc::clone(store), id.clone(), *begun);
                *begun += 1;
                tokio::spawn(async move {
                    let sent = bucket.run("upload", &key, bytes.len() as u64, || {
                        let payload = PutPayload::from(bytes.clone());
                        store.put_part(&path, &id, n, payload)
                    });
                    sent.await.map(Sent::Part)
                })
            }
            Way::Local(upload) => {
                let mut upload = upload.take().ok_or_else(lost)?;
                tokio::spawn(async move {
                    let len = bytes.len() as u64;
                    match upload.put_part(bytes.into()).await {
                        Ok(()) => {
                            bucket.sent.fetch_add(len, Ordering::Relaxed);
                            Ok(Sent::Local(upload))
                        }
                        Err(e) => {
                            let _ = upload.abort().await;
                            Err(bucket.error("upload", &key, 1, Some(e)))
                        }
                    }
                })
            }
        });
        Ok(())
    }

    /// Waits for the part that is being sent.
    async fn sent(&mut self) -> Result<(), Error> {
        let Some(sending) = self.sending.take() else {
            return Ok(());
        };
        let sent = sending.await.map_err(|_| lost())??;
        match (sent, &mut self.way) {
            (Sent::Part(part), Way::Parts { done, .. }) => done.push(part),
            (Sent::Local(upload), Way::Local(place)) => *place = Some(upload),
            _ => return Err(lost()),
        }
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), Error> {
        let options = PutMultipartOptions {
            attributes: self.bucket.attributes.clone(),
            ..PutMultipartOptions::default()
        };
        let path = &self.path;
        self.way = match &self.bucket.multipart {
            Some(store) => {
                let id = self
                    .bucket
                    .run("upload", &self.key, 0, || async {
                        match options.attributes.is_empty() {
                            true => store.create_multipart(path).await,
                            false => store.create_multipart_opts(path, options.clone()).await,
                        }
                    })
                    .await?;
                Way::Parts {
                    store: Arc::clone(store),
                    id,
                    begun: 0,
                    done: Vec::new(),
                }
            }
            None => {
                let begun = self.bucket.store.put_multipart_opts(path, options).await;
                let begun =
                    begun.map_err(|e| self.bucket.error("upload", &self.key, 1, Some(e)))?;
                Way::Local(Some(begun))
            }
        };
        Ok(())
    }
}

/// A task that was ended with its runtime.
fn lost() -> Error {
    Error::Unsupported("an upload was ended before it was done".into())
}
