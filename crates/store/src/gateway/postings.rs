//! From matchers to the ids of a block's series, in one round of fetches.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use block::BlockError;
use block::index::{PostingsAt, decode_postings};
use block::postings::{Index, Plan, Until};
use bytes::Bytes;
use model::{Matcher, Scope, SourceError};
use ulid::Ulid;

use super::Item;
use super::cache::File;
use super::fetch::Query;
use super::header::Header;

/// A list whose end is not known is read with so many bytes at first.
const GUESS: u64 = 4 << 10;
/// A matcher whose lists have so many bytes may be tried on the series instead,
const HEAVY: u64 = 64 << 10;
/// if another one's lists, which bound the number of series, have this much less.
const HEAVIER: u64 = 8;

/// Which series of a block satisfy some matchers.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// Their ids, ascending.
    pub ids: Vec<u32>,
    /// Matchers that are still to be tried on each series' labels.
    pub rest: Vec<Matcher>,
}

struct Lists {
    header: Arc<Header>,
    bytes: HashMap<u64, Bytes>,
}

impl Lists {
    fn decode(&self, at: PostingsAt, out: &mut Vec<u32>) -> Result<(), BlockError> {
        match self.bytes.get(&at.offset) {
            Some(bytes) => decode_postings(bytes, out),
            // The plan named every list that it would ask for.
            None => Err(BlockError::Corrupt("a list was not fetched".into())),
        }
    }
}

impl Index for Lists {
    type Key = PostingsAt;
    type Error = BlockError;

    fn all(&self) -> Result<Vec<u32>, BlockError> {
        let mut ids = Vec::new();
        if let Some(at) = self.header.table.all() {
            self.decode(at, &mut ids)?;
        }
        Ok(ids)
    }

    fn find(&self, name: &str, value: &str) -> Result<Option<PostingsAt>, BlockError> {
        Ok(self.header.table.find(name, value))
    }

    fn values(
        &self,
        name: &str,
        prefix: &str,
        each: &mut dyn FnMut(&str, PostingsAt),
    ) -> Result<(), BlockError> {
        for (value, at) in self.header.table.values(name, prefix) {
            each(value, at);
        }
        Ok(())
    }

    fn postings(
        &self,
        keys: &[PostingsAt],
        each: &mut dyn FnMut(&[u32]),
    ) -> Result<(), BlockError> {
        let mut ids = Vec::new();
        for &at in keys {
            ids.clear();
            self.decode(at, &mut ids)?;
            each(&ids);
        }
        Ok(())
    }
}

/// The bytes that a list takes, as far as the table knows.
fn size(at: PostingsAt) -> u64 {
    match at.end.checked_sub(at.offset) {
        Some(len) if at.end > 0 => len,
        _ => GUESS,
    }
}

/// Puts aside the matchers whose lists are so long that fetching them costs more than trying them
/// on the series that the others leave. Returns the plan for the others.
fn plan(
    lists: &Lists,
    matchers: &[Matcher],
    scope: &Scope,
) -> Result<(Plan<PostingsAt>, Vec<Matcher>), BlockError> {
    let lists = &Until {
        index: lists,
        scope,
    };
    let whole = Plan::new(lists, matchers)?;
    let total: u64 = whole.keys().map(size).sum();
    if matchers.len() < 2 || whole.is_nothing() || whole.needs_all() || total <= HEAVY {
        return Ok((whole, Vec::new()));
    }
    let mut costs = Vec::with_capacity(matchers.len());
    for matcher in matchers {
        let alone = Plan::new(lists, std::slice::from_ref(matcher))?;
        let cost: u64 = alone.keys().map(size).sum();
        // Only one that keeps series bounds their number.
        costs.push((cost, !alone.needs_all()));
    }
    let bound = costs.iter().filter(|(_, keeps)| *keeps).map(|c| c.0).min();
    let Some(bound) = bound else {
        return Ok((whole, Vec::new()));
    };
    let heavy = |cost: u64| cost > HEAVY && cost > bound.saturating_mul(HEAVIER);
    let (mut eager, mut rest) = (Vec::new(), Vec::new());
    for (matcher, (cost, _)) in matchers.iter().zip(costs) {
        let list = if heavy(cost) { &mut rest } else { &mut eager };
        list.push(matcher.clone());
    }
    match rest.is_empty() {
        true => Ok((whole, rest)),
        false => Ok((Plan::new(lists, &eager)?, rest)),
    }
}

impl Query {
    /// The series of a block that satisfy `matchers`.
    pub(super) async fn resolve(
        &self,
        ulid: Ulid,
        header: &Arc<Header>,
        matchers: Arc<[Matcher]>,
    ) -> Result<Resolved, SourceError> {
        let mut lists = Lists {
            header: Arc::clone(header),
            bytes: HashMap::new(),
        };
        let scope = Arc::clone(&self.scope);
        let planned = move || {
            let planned = plan(&lists, &matchers, &scope);
            planned.map(|(plan, rest)| (plan, rest, lists))
        };
        let (plan, rest, back) = self.compute(planned).await??;
        self.scope.check()?;
        lists = back;
        if plan.is_nothing() {
            return Ok(Resolved::default());
        }
        let mut keys: Vec<PostingsAt> = plan.keys().collect();
        if plan.needs_all() {
            keys.extend(header.table.all());
        }
        keys.sort_unstable();
        keys.dedup_by_key(|k| k.offset);
        self.lists(ulid, header, &keys, &mut lists.bytes).await?;
        let scope = Arc::clone(&self.scope);
        let run = move || {
            plan.run(&Until {
                index: &lists,
                scope: &scope,
            })
        };
        let ids = self.compute(run).await??;
        self.scope.check()?;
        Ok(Resolved { ids, rest })
    }

    async fn lists(
        &self,
        ulid: Ulid,
        header: &Header,
        keys: &[PostingsAt],
        out: &mut HashMap<u64, Bytes>,
    ) -> Result<(), SourceError> {
        let end = header.index_len;
        let span = |offset: u64, len: u64| offset.min(end)..offset.saturating_add(len).min(end);
        let mut wanted: Vec<(u64, Range<u64>)> = keys
            .iter()
            .map(|&at| (at.offset, span(at.offset, size(at))))
            .collect();
        // A second round only where the table did not know how long a list is.
        for _ in 0..2 {
            let ranges: Vec<Range<u64>> = wanted.iter().map(|(_, r)| r.clone()).collect();
            let fetched = self
                .fetch(File::Index(ulid), Item::Postings, &ranges, &header.kept, 0)
                .await?;
            let mut longer = Vec::new();
            for (i, (offset, _)) in wanted.iter().enumerate() {
                let (buffer, at) = fetched.places[i];
                let bytes = fetched.buffers[buffer as usize].slice(at..);
                let need = match bytes.first_chunk::<4>() {
                    Some(len) => u64::from(u32::from_be_bytes(*len)) + 8,
                    None => 8,
                };
                match bytes.len() as u64 >= need {
                    true => drop(out.insert(*offset, bytes)),
                    false => longer.push((*offset, span(*offset, need))),
                }
            }
            wanted = longer;
            if wanted.is_empty() {
                break;
            }
        }
        Ok(())
    }
}
