use std::collections::BTreeSet;

use model::{LabelSelect, Matcher, SourceError, Str};

use super::list::Pinned;
use crate::postings::{Index, Until, resolve};
use crate::{Block, BlockError};

/// Series are read so many at a time.
const PIECE: usize = 1024;

/// The label names of the series that match, ascending.
pub(super) fn names(pinned: &Pinned, select: &LabelSelect) -> Result<Vec<Str>, SourceError> {
    let mut found: BTreeSet<Str> = BTreeSet::new();
    for b in pinned.overlapping(select.range) {
        pinned.scope.check()?;
        let block = pinned.block(b);
        if select.matchers.is_empty() {
            found.extend(block.index().table().names().map(Str::from));
            continue;
        }
        let ids = matching(pinned, block, &select.matchers)?;
        let mut seen: BTreeSet<u32> = BTreeSet::new();
        each_labels(pinned, block, &ids, |labels| {
            seen.extend(labels.iter().map(|l| l.0));
        })?;
        let text = |o| block.index().symbols().get(o);
        found.extend(seen.into_iter().filter_map(text).map(Str::from));
    }
    Ok(limited(found, select.limit))
}

/// The values of label `name` of the series that match, ascending.
pub(super) fn values(
    pinned: &Pinned,
    name: &str,
    select: &LabelSelect,
) -> Result<Vec<Str>, SourceError> {
    let mut found: BTreeSet<Str> = BTreeSet::new();
    for b in pinned.overlapping(select.range) {
        pinned.scope.check()?;
        let block = pinned.block(b);
        let index = block.index();
        // Conditions on this very label are about its values; the others are about series.
        let (of_values, of_series): (Vec<_>, Vec<_>) = select
            .matchers
            .iter()
            .cloned()
            .partition(|m| *m.name == *name);
        let wanted = |value: &str| of_values.iter().all(|m| m.matches(value));
        if of_series.is_empty() {
            for (i, (value, _)) in index.table().values(name, "").enumerate() {
                if i.is_multiple_of(PIECE) {
                    pinned.scope.check()?;
                }
                if wanted(value) {
                    found.insert(value.into());
                }
            }
            continue;
        }
        let ids = matching(pinned, block, &of_series)?;
        if ids.is_empty() {
            continue;
        }
        if ids.len() / 4 <= index.table().value_count(name) {
            let ordinal = index.symbols().find(name);
            let mut seen: BTreeSet<u32> = BTreeSet::new();
            each_labels(pinned, block, &ids, |labels| {
                seen.extend(labels.iter().filter(|l| Some(l.0) == ordinal).map(|l| l.1));
            })?;
            let text = |o| index.symbols().get(o);
            found.extend(
                seen.into_iter()
                    .filter_map(text)
                    .filter(|v| wanted(v))
                    .map(Str::from),
            );
        } else {
            let lists: Vec<_> = index
                .table()
                .values(name, "")
                .filter(|v| wanted(v.0))
                .collect();
            let keys: Vec<_> = lists.iter().map(|l| l.1).collect();
            let mut values = lists.iter().map(|l| l.0);
            index.postings(&keys, &mut |list| {
                if let Some(value) = values.next()
                    && meets(&ids, list)
                {
                    found.insert(value.into());
                }
            })?;
        }
    }
    Ok(limited(found, select.limit))
}

/// The ids of the series of a block that satisfy all matchers.
fn matching(pinned: &Pinned, block: &Block, matchers: &[Matcher]) -> Result<Vec<u32>, SourceError> {
    let (index, scope) = (block.index(), &*pinned.scope);
    let ids = resolve(&Until { index, scope }, matchers)?;
    scope.check()?;
    Ok(ids)
}

/// Whether two ascending lists have an id in common.
fn meets(a: &[u32], b: &[u32]) -> bool {
    let (short, mut long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    for id in short {
        match long.binary_search(id) {
            Ok(_) => return true,
            Err(at) => long = &long[at..],
        }
    }
    false
}

fn each_labels(
    pinned: &Pinned,
    block: &Block,
    ids: &[u32],
    mut each: impl FnMut(&[(u32, u32)]),
) -> Result<(), SourceError> {
    let mut labels = Vec::new();
    for piece in ids.chunks(PIECE) {
        pinned.scope.check()?;
        let mut reader = block.index().series();
        for (i, &id) in piece.iter().enumerate() {
            labels.clear();
            let read: Result<(), BlockError> = reader.labels(id, &piece[i + 1..], &mut labels);
            read?;
            each(&labels);
        }
    }
    Ok(())
}

fn limited(found: BTreeSet<Str>, limit: usize) -> Vec<Str> {
    let limit = if limit == 0 { usize::MAX } else { limit };
    found.into_iter().take(limit).collect()
}
