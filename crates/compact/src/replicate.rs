//! Copying blocks to another bucket.

use std::sync::Arc;

use block::Meta;
use bucket::{Bucket, Put, marks};
use ulid::Ulid;

use crate::Error;

/// So many bytes are on their way at once.
const PIECE: u64 = 8 << 20;

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicated {
    /// It was there.
    Already,
    /// So many objects were copied.
    Copied(u64),
}

/// Copies one object, in pieces; one that is there already with the same size is left alone. True if it
/// was copied.
pub async fn copy_object(
    from: &Bucket,
    to: &Arc<Bucket>,
    key: &str,
    size: u64,
) -> Result<bool, Error> {
    match to.head(key).await {
        Ok(there) if there.size == size => return Ok(false),
        Ok(_) => {}
        Err(e) if e.is_not_found() => {}
        Err(e) => return Err(e.into()),
    }
    let mut upload = to.upload(key)?;
    let mut at = 0;
    while at < size {
        let end = size.min(at + PIECE);
        let piece = match from.get_range(key, at..end).await {
            Ok(piece) if piece.len() as u64 == end - at => piece,
            Ok(_) => {
                upload.abort().await;
                return Err(Error::Refused(format!("{key} ended before its size")));
            }
            Err(e) => {
                upload.abort().await;
                return Err(e.into());
            }
        };
        if let Err(e) = upload.write(&piece).await {
            upload.abort().await;
            return Err(e.into());
        }
        at = end;
    }
    upload.finish().await?;
    Ok(true)
}

/// Copies a block, `meta.json` last, unless the same `meta.json` is there already.
pub async fn replicate(from: &Bucket, to: &Arc<Bucket>, block: Ulid) -> Result<Replicated, Error> {
    let key = marks::key(block, block::meta::FILE);
    let meta = from.get(&key).await?;
    match to.get(&key).await {
        Ok(there) if there == meta => return Ok(Replicated::Already),
        Ok(_) => {}
        Err(e) if e.is_not_found() => {}
        Err(e) => return Err(e.into()),
    }
    let mut objects = Vec::new();
    let folder = block.to_string();
    from.list(&folder, |object| objects.push(object)).await?;
    // Listings may leave things out; a copy without them would pass for a block.
    let parsed = Meta::parse(&meta)?;
    for file in parsed.files().filter(|f| f.rel_path != block::meta::FILE) {
        let key = marks::key(block, &file.rel_path);
        if !objects.iter().any(|object| object.key == key) {
            return Err(Error::Refused(format!(
                "block {block} is not copied: the bucket's listing does not show {key}"
            )));
        }
    }
    let mut copied = 0;
    for object in objects {
        let file = object.key.split_once('/').map_or("", |(_, file)| file);
        // Marks say what shall happen in the bucket where they lie.
        if file == block::index::FILE || file.starts_with("chunks/") {
            copied += u64::from(copy_object(from, to, &object.key, object.size).await?);
        }
    }
    to.put(&key, meta, Put::Overwrite).await?;
    Ok(Replicated::Copied(copied + 1))
}

/// Blocks to be copied: the oldest first, so that a compactor over there never sees gaps.
pub fn in_order(mut blocks: Vec<Meta>) -> Vec<Meta> {
    blocks.sort_by_key(|m| (m.min_time, m.ulid));
    blocks
}
