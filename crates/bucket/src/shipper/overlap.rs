//! Compacted blocks must not overlap what the bucket has under the same labels: the compactor there
//! made the same samples into blocks of its own, or their sources were shipped one by one.

use block::Meta;
use model::Labels;
use ulid::Ulid;

use crate::{Bucket, Error, marks};

/// What the bucket has under some labels; asked for when it is first needed.
#[derive(Default)]
pub(super) struct Overlaps {
    known: Option<Vec<Meta>>,
}

impl Overlaps {
    /// Fails if `meta` overlaps a block of the bucket.
    pub(super) async fn check(
        &mut self,
        bucket: &Bucket,
        labels: &Labels,
        meta: &Meta,
    ) -> Result<(), Error> {
        let known = match &mut self.known {
            Some(known) => known,
            slot => slot.insert(all(bucket, labels).await?),
        };
        let over = known.iter().find(|other| {
            other.ulid != meta.ulid
                && other.min_time < meta.max_time
                && meta.min_time < other.max_time
        });
        match over {
            None => Ok(()),
            Some(other) => Err(Error::Refused(format!(
                "shipping compacted block {} is blocked: it overlaps block {} of the bucket ({} to {} ms); if that has the same samples, this one need not be shipped",
                meta.ulid, other.ulid, other.min_time, other.max_time
            ))),
        }
    }

    /// A block that was just shipped.
    pub(super) fn add(&mut self, meta: &Meta) {
        if let Some(known) = &mut self.known {
            known.push(meta.clone());
        }
    }
}

async fn all(bucket: &Bucket, labels: &Labels) -> Result<Vec<Meta>, Error> {
    let folder = bucket.list_folder("").await?;
    let ulids = folder
        .folders
        .iter()
        .filter_map(|name| Ulid::from_string(name.trim_end_matches('/')).ok());
    let mut metas = Vec::new();
    for ulid in ulids {
        let key = marks::key(ulid, block::meta::FILE);
        let bytes = match bucket.get(&key).await {
            Ok(bytes) => bytes,
            // A partial upload, or one that is being deleted.
            Err(Error::NotFound { .. }) => continue,
            Err(e) => return Err(e),
        };
        // One that cannot be read is not ours to judge.
        if let Ok(meta) = Meta::parse(&bytes)
            && meta.thanos.as_ref().is_some_and(|t| {
                let theirs = t.labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                Labels::from_pairs(theirs) == *labels
            })
        {
            metas.push(meta);
        }
    }
    Ok(metas)
}
