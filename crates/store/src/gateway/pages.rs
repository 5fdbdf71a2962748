//! Ranges out of a cache that others share: files in pages of equal size.
//!
//! A page that is shorter than a page is the last of its file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ::cache::Key;
use bytes::{Bytes, BytesMut};
use futures_util::future::try_join_all;
use model::SourceError;

use super::cache::File;
use super::fetch::Query;
use super::{Item, ranges};
use crate::tier::Tier;

/// The key of a page. Blocks never change, so a key stands for the same bytes for ever.
fn key(file: File, page: u64, size: u64) -> Key {
    format!("b:{}:{size}:{page}", file.key()).into()
}

/// The pages that ranges cover, ascending.
fn pages(wanted: &[Range<u64>], size: u64) -> Vec<u64> {
    let mut all: Vec<u64> = Vec::new();
    for range in wanted.iter().filter(|r| !r.is_empty()) {
        let first = range.start / size;
        let first = all.last().map_or(first, |last| first.max(last + 1));
        all.extend(first..=(range.end - 1) / size);
    }
    all
}

/// The bytes of a range, as far as there are any.
fn cut(pages: &BTreeMap<u64, Bytes>, range: &Range<u64>, size: u64) -> Bytes {
    let first = range.start / size;
    let skip = (range.start - first * size) as usize;
    let len = (range.end - range.start) as usize;
    let Some(page) = pages.get(&first) else {
        return Bytes::new();
    };
    let rest = page.slice(skip.min(page.len())..);
    if rest.len() >= len {
        return rest.slice(..len);
    }
    let mut out = BytesMut::from(&rest[..]);
    let mut full = page.len() as u64 == size;
    let mut next = first + 1;
    while full
        && out.len() < len
        && let Some(page) = pages.get(&next)
    {
        out.extend_from_slice(&page[..page.len().min(len - out.len())]);
        full = page.len() as u64 == size;
        next += 1;
    }
    out.freeze()
}

impl Query {
    /// Reads ranges of a file, which ascend by start, through a shared cache. What is beyond the end
    /// of the file is left out.
    pub(super) async fn paged(
        &self,
        tier: &Tier,
        file: File,
        item: Item,
        wanted: &[Range<u64>],
    ) -> Result<Vec<Bytes>, SourceError> {
        let size = tier.page;
        let all = pages(wanted, size);
        let held = self
            .scope
            .budget
            .reserve("pages of blocks", all.len() as u64 * size)?;
        let keys: Vec<Key> = all.iter().map(|page| key(file, *page, size)).collect();
        let asked = async { Ok(tier.cache.get_many(&keys).await) };
        let cached = self.wait(asked).await?;
        let mut have: BTreeMap<u64, Bytes> = BTreeMap::new();
        for (page, bytes) in all.iter().zip(cached) {
            // What somebody else left there, if it can be a page.
            if let Some(bytes) = bytes.filter(|b| !b.is_empty() && b.len() as u64 <= size) {
                have.insert(*page, bytes);
            }
        }
        let (hits, misses) = (have.len(), all.len() - have.len());
        self.inner.meters.hits.add(hits as u64);
        self.inner.meters.misses.add(misses as u64);
        let end = have
            .iter()
            .find(|(_, bytes)| (bytes.len() as u64) < size)
            .map(|(page, _)| *page);
        let missing: Vec<Range<u64>> = all
            .iter()
            .filter(|page| !have.contains_key(page) && end.is_none_or(|end| **page < end))
            .map(|page| page * size..(page + 1) * size)
            .collect();
        // Neighbours are one request, and so is what lies close together.
        let parts = ranges::plan(&missing, 0);
        let bodies = try_join_all(parts.iter().map(|part| async move {
            let body = self.body(file, item, part.range.clone()).await;
            let needed = wanted.iter().any(|w| part.range.contains(&w.start));
            match body {
                // It begins behind the end of the file: nothing that is needed begins there.
                Err(e) if !needed => {
                    tracing::debug!(error = %e, "a page that may not exist cannot be read");
                    Ok(Bytes::new())
                }
                body => body,
            }
        }));
        let bodies = self.wait(bodies).await?;
        let mut fresh = Vec::new();
        for (part, body) in parts.iter().zip(bodies) {
            let first = part.range.start / size;
            let mut at = 0;
            let mut page = first;
            while at < body.len() {
                let bytes = body.slice(at..body.len().min(at + size as usize));
                let whole = bytes.len() as u64 == size;
                // A short answer in the middle of a file is no page.
                let last = part.range.end > part.range.start + body.len() as u64;
                if whole || last {
                    // A copy: a slice would keep the whole answer alive in the queue.
                    let copy = Bytes::copy_from_slice(&bytes);
                    fresh.push((key(file, page, size), copy));
                }
                have.insert(page, bytes);
                at += size as usize;
                page += 1;
            }
        }
        if !fresh.is_empty() {
            tier.cache.put_many(fresh, tier.ttl).await;
        }
        let held = Arc::new(held);
        Ok(wanted
            .iter()
            .map(|range| {
                let bytes = cut(&have, range, size);
                super::fetch::shared(bytes, Arc::clone(&held))
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(range: Range<u64>) -> Vec<Range<u64>> {
        std::iter::once(range).collect()
    }

    #[test]
    fn each_page_is_asked_for_once() {
        assert_eq!(pages(&one(0..1), 10), [0]);
        assert_eq!(pages(&one(9..11), 10), [0, 1]);
        assert_eq!(pages(&[0..5, 3..7, 12..13, 45..70], 10), [0, 1, 4, 5, 6]);
        assert_eq!(pages(&[5..5, 10..20], 10), [1]);
    }

    #[test]
    fn ranges_are_put_together_from_pages() {
        let file: Vec<u8> = (0..47).collect();
        let all: BTreeMap<u64, Bytes> = file
            .chunks(10)
            .enumerate()
            .map(|(i, part)| (i as u64, Bytes::copy_from_slice(part)))
            .collect();
        for start in 0..47u64 {
            for end in start..60 {
                let want = &file[start as usize..(end as usize).min(47)];
                assert_eq!(cut(&all, &(start..end), 10), want, "{start}..{end}");
            }
        }
        // A page that is missing ends what can be had.
        let mut holed = all.clone();
        holed.remove(&2);
        assert_eq!(cut(&holed, &(15..45), 10).len(), 5);
    }
}
