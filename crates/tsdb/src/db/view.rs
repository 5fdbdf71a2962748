//! The database as a source.
//!
//! A view pins the list of blocks, the time from which the head answers, and the head's isolation.
//! A select that only the head can answer, in any order, becomes a few cursors over its numbers.
//! Any other one first gathers [entries](super::entries) of all parts, unites those of equal labels
//! and then reads chunks batch by batch.

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::Arc;

use block::source::threads;
use model::source::Capabilities;
use model::{
    Answer, BoxFuture, Cursor, Extent, LabelSelect, Labels, Millis, Order, Rows, Scope, Select,
    SeriesBatch, Source, SourceError, Str, TimeRange, View,
};

use super::entries::{Shared, cursors};
use super::local::LocalBlock;
use super::{Db, Inner, Layout};
use crate::head::{ChunkWriter, HeadCursor, Ids, PairSymbols, Reach, Snapshot};

/// Series in a batch of a range query, and of an instant query.
const BATCH: usize = 128;
const INSTANT_BATCH: usize = 2048;
/// A cursor is worth having for so many series.
const CURSOR_SERIES: usize = 512;

/// What a query sees.
#[derive(Clone)]
pub(crate) struct Pin {
    pub(crate) inner: Arc<Inner>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) snapshot: Arc<Snapshot>,
}

impl Pin {
    fn new(inner: &Arc<Inner>) -> Self {
        // The list of blocks first: what is published after this is still in the head for us.
        let layout = Arc::clone(&inner.layout.read());
        Self {
            snapshot: Arc::new(inner.head.snapshot()),
            inner: Arc::clone(inner),
            layout,
        }
    }

    /// The blocks that can have samples in `range`.
    pub(crate) fn blocks(&self, range: TimeRange) -> Vec<Arc<LocalBlock>> {
        let overlapping = self.layout.blocks.iter();
        overlapping
            .filter(|b| b.meta().range().overlaps(range))
            .cloned()
            .collect()
    }

    /// What of `range` the head answers for.
    pub(crate) fn head_reach(&self, range: TimeRange) -> Option<Reach> {
        let head = &self.inner.head;
        let overlaps = |there: Option<TimeRange>, asked| there.is_some_and(|t| t.overlaps(asked));
        let ordered = range.intersect(TimeRange::new(self.layout.floor, Millis::MAX));
        let ordered = match overlaps(head.range(), ordered) {
            true => ordered,
            false => TimeRange::EMPTY,
        };
        // Whatever its time, it lies in no block yet (or in one too, which does no harm).
        let ooo = overlaps(head.ooo_range(), range).then_some((range.min, range.max));
        (!ordered.is_empty() || ooo.is_some()).then_some(Reach {
            ordered: (ordered.min, ordered.max),
            ooo,
        })
    }
}

impl Source for Db {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        Ok(Box::new(DbView {
            pin: Pin::new(&self.inner),
            scope,
        }))
    }

    fn extent(&self) -> Arc<Extent> {
        let layout = Arc::clone(&self.inner.layout.read());
        let blocks = layout.blocks.iter().map(|b| b.meta().range());
        let head = [self.inner.head.range(), self.inner.head.ooo_range()];
        let range = blocks.chain(head.into_iter().flatten());
        // Samples come at any moment, to an empty database too: whoever asks only now and then what is
        // here must not leave them out.
        let to_come = TimeRange::new(self.inner.head.now(), Millis::MAX);
        let range = range.fold(to_come, |all, range| all.union(range));
        Arc::new(Extent {
            parts: vec![(Labels::default(), range)],
            capabilities: Capabilities {
                sharding: true,
                without_labels: true,
                projection: true,
            },
        })
    }
}

struct DbView {
    pin: Pin,
    scope: Arc<Scope>,
}

/// The error that ended a select before it began.
struct Failed(Option<SourceError>);

impl Cursor for Failed {
    fn next(&mut self) -> Result<Option<SeriesBatch>, SourceError> {
        self.0.take().map_or(Ok(None), Err)
    }
}

fn rows(cursors: Result<Vec<Box<dyn Cursor>>, SourceError>) -> Rows {
    Rows::Cursors(match cursors {
        Ok(cursors) => cursors,
        Err(e) => vec![Box::new(Failed(Some(e)))],
    })
}

impl View for DbView {
    fn select(&self, select: Select) -> Rows {
        let blocks = self.pin.blocks(select.range);
        let head = self.pin.head_reach(select.range);
        let batch_series = match select.hints.step {
            0 => INSTANT_BATCH,
            _ => BATCH,
        };
        if blocks.is_empty() && head.is_none() {
            return rows(self.scope.check().map(|()| Vec::new()).map_err(Into::into));
        }
        if let Some(reach) = head
            && blocks.is_empty()
            && select.order == Order::Any
            && select.hints.limit == 0
        {
            return rows(self.head_cursors(select, reach, batch_series));
        }
        rows(Ok(cursors(Shared::new(
            self.pin.clone(),
            Arc::clone(&self.scope),
            select,
            blocks,
            head,
            batch_series,
        ))))
    }

    fn label_names(
        &self,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        Box::pin(ready(self.labels(&select, None)))
    }

    fn label_values(
        &self,
        name: Str,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        Box::pin(ready(self.labels(&select, Some(&name))))
    }
}

impl DbView {
    fn head_cursors(
        &self,
        select: Select,
        reach: Reach,
        batch_series: usize,
    ) -> Result<Vec<Box<dyn Cursor>>, SourceError> {
        self.scope.check()?;
        let head = &self.pin.inner.head;
        let mut ids = head.matching_for(&self.scope, &select.matchers)?;
        head.keep_shard(&mut ids, &select);
        let select = Arc::new(select);
        let parts = (ids.len() / CURSOR_SERIES).clamp(1, threads());
        let ids = Arc::new(Ids::new(ids, batch_series, &self.scope)?);
        let cursor = |_| -> Box<dyn Cursor> {
            Box::new(HeadCursor {
                head: Arc::clone(head),
                snapshot: Arc::clone(&self.pin.snapshot),
                pin: Some(Arc::clone(&self.pin.layout)),
                scope: Arc::clone(&self.scope),
                select: Arc::clone(&select),
                reach,
                ids: Arc::clone(&ids),
                number: 0,
                symbols: PairSymbols::default(),
                chunks: ChunkWriter::default(),
            })
        };
        Ok((0..parts).map(cursor).collect())
    }

    fn labels(
        &self,
        select: &LabelSelect,
        name: Option<&str>,
    ) -> Result<Answer<Vec<Str>>, SourceError> {
        self.scope.check()?;
        let mut of_head = BTreeSet::new();
        let matchers = &select.matchers;
        if let Some(reach) = self.pin.head_reach(select.range) {
            let head = &self.pin.inner.head;
            match name {
                None if matchers.is_empty() => head.all_names(&mut of_head),
                Some(name) if matchers.is_empty() => head.all_values(name, &mut of_head),
                _ => {
                    let ids = head.matching_for(&self.scope, matchers)?;
                    let (snapshot, scope) = (&self.pin.snapshot, &*self.scope);
                    head.names_of(&ids, &reach, snapshot, name, scope, &mut of_head)?;
                }
            }
        }
        let blocks = self.pin.blocks(select.range);
        let mut found: Vec<&str> = of_head.iter().map(String::as_str).collect();
        for block in &blocks {
            self.scope.check()?;
            match name {
                None => block.names(matchers, &self.scope, &mut found)?,
                Some(name) => block.values(name, matchers, &self.scope, &mut found)?,
            }
        }
        // Mostly a few lists that are sorted already, which this sort merges.
        found.sort();
        found.dedup();
        let limit = match select.limit {
            0 => usize::MAX,
            n => n,
        };
        let found: Vec<Str> = found.into_iter().take(limit).map(Str::from).collect();
        Ok(found.into())
    }
}
