//! Series whose labels are changed, in the order that their labels have then.
//!
//! Changing labels breaks the order in which series come (`{a}` before `{a,b}`, but `{a,c}` after
//! `{a,b,c}`), so all of them are held, within the query's budget, before the first goes on. Their
//! chunks are only references to buffers that somebody holds anyway.

use std::sync::Arc;

use model::source::{Projection, Shard};
use model::{Cursor, Labels, Order, Rows, Scope, Select, SeriesBatch, SourceError, Str, Symbol};
use tokio::runtime::Handle;

use crate::merge::Keyed;
use crate::pack::{Packer, keyed};
use crate::proxy::{Chain, RowsInput};
use crate::{merge::Input as _, stream_of};

type Pair = (Symbol, Symbol);

/// What becomes of the labels, and which series are kept.
#[derive(Clone)]
pub(crate) struct Change {
    /// Laid on top of each series.
    pub(crate) overlay: Labels,
    /// Then removed.
    pub(crate) without: Vec<Str>,
    /// Judged by what is left.
    pub(crate) shard: Option<Shard>,
    pub(crate) projection: Projection,
    pub(crate) limit: usize,
    /// Whether the result must be in order.
    pub(crate) sorted: bool,
}

impl Change {
    /// Splits a question into what can be asked of a source that knows nothing of these labels,
    /// and what is to be done with its answer.
    pub(crate) fn split(mut select: Select, overlay: Labels) -> (Select, Self) {
        let order = std::mem::take(&mut select.order);
        let (sorted, without) = match order {
            Order::Any => (false, Vec::new()),
            Order::ByLabels { without } => (true, without),
        };
        let change = Self {
            overlay,
            without,
            shard: select.hints.shard.take(),
            projection: std::mem::take(&mut select.hints.projection),
            limit: std::mem::take(&mut select.hints.limit),
            sorted,
        };
        (select, change)
    }
}

/// Changes the labels of `rows`.
pub(crate) fn arrange(rows: Rows, change: Change, scope: &Arc<Scope>, runtime: &Handle) -> Rows {
    let mut work = Work::new(change, Arc::clone(scope));
    match rows {
        Rows::Cursors(cursors) => Rows::Cursors(vec![Box::new(ArrangedCursor {
            chain: Chain::new(cursors),
            work,
        })]),
        Rows::Stream(_) => {
            let mut input = RowsInput::new("".into(), rows, runtime.clone());
            stream_of(runtime, move |send| async move {
                while let Some(batch) = input.next().await? {
                    work.take(batch)?;
                    while let Some(batch) = work.give(false)? {
                        if send.send(Ok(batch)).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                while let Some(batch) = work.give(true)? {
                    if send.send(Ok(batch)).await.is_err() {
                        break;
                    }
                }
                Ok(())
            })
        }
    }
}

struct ArrangedCursor {
    chain: Chain,
    work: Work,
}

impl Cursor for ArrangedCursor {
    fn next(&mut self) -> Result<Option<SeriesBatch>, SourceError> {
        loop {
            if let Some(batch) = self.work.give(false)? {
                return Ok(Some(batch));
            }
            match self.chain.next()? {
                Some(batch) => self.work.take(keyed(batch))?,
                None => return self.work.give(true),
            }
        }
    }
}

/// A series that waits: its labels in the arena, and where its chunks are.
struct Entry {
    start: u32,
    end: u32,
    from: u32,
    row: u32,
}

struct Work {
    change: Change,
    scope: Arc<Scope>,
    overlay: Vec<Pair>,
    without: Vec<Symbol>,
    arena: Vec<Pair>,
    entries: Vec<Entry>,
    batches: Vec<Arc<Keyed>>,
    warnings: Vec<Str>,
    held: Option<model::Reservation>,
    /// How many entries were given; sorting is done when the first is.
    given: usize,
    sorted: bool,
    total: usize,
    scratch: Vec<u8>,
}

impl Work {
    fn new(change: Change, scope: Arc<Scope>) -> Self {
        let mut overlay = Vec::new();
        scope.symbols.intern_labels(&change.overlay, &mut overlay);
        let without = change
            .without
            .iter()
            .map(|n| scope.symbols.intern(n))
            .collect();
        Self {
            overlay,
            without,
            change,
            scope,
            arena: Vec::new(),
            entries: Vec::new(),
            batches: Vec::new(),
            warnings: Vec::new(),
            held: None,
            given: 0,
            sorted: false,
            total: 0,
            scratch: Vec::new(),
        }
    }

    fn take(&mut self, mut batch: Keyed) -> Result<(), SourceError> {
        self.scope.check()?;
        self.warnings.append(&mut batch.batch.warnings);
        let from = self.batches.len() as u32;
        let before = (self.arena.len(), self.entries.len());
        let symbols = Arc::clone(&self.scope.symbols);
        for row in 0..batch.batch.len() {
            let start = self.arena.len();
            let mut over = self.overlay.iter().copied().peekable();
            for &pair in batch.batch.labels_of(row) {
                let name = symbols.get(pair.0);
                while let Some(&(n, v)) = over.peek()
                    && (n == pair.0 || symbols.get(n) < name)
                {
                    self.arena.push((n, v));
                    over.next();
                    if n == pair.0 {
                        break;
                    }
                }
                let last = self.arena[start..].last();
                if last.is_none_or(|l| l.0 != pair.0) {
                    self.arena.push(pair);
                }
            }
            self.arena.extend(over);
            if !self.without.is_empty() {
                let kept: Vec<Pair> = self.arena.drain(start..).collect();
                let without = &self.without;
                self.arena
                    .extend(kept.into_iter().filter(|p| !without.contains(&p.0)));
            }
            let labels = &self.arena[start..];
            let owned = self.change.shard.as_ref().is_none_or(|shard| {
                let pairs = labels.iter().map(|p| (symbols.get(p.0), symbols.get(p.1)));
                shard.owns(pairs, &mut self.scratch)
            });
            if !owned {
                self.arena.truncate(start);
                continue;
            }
            self.entries.push(Entry {
                start: start as u32,
                end: self.arena.len() as u32,
                from,
                row: row as u32,
            });
        }
        let bytes = (self.arena.len() - before.0) * size_of::<Pair>()
            + (self.entries.len() - before.1) * size_of::<Entry>()
            + batch.batch.chunks.len() * size_of::<model::ChunkRef>();
        match &mut self.held {
            Some(held) => held.grow("series in order", bytes as u64)?,
            None => self.held = Some(self.scope.budget.reserve("series in order", bytes as u64)?),
        }
        self.batches.push(Arc::new(batch));
        Ok(())
    }

    /// The next batch, if one can be given: `last` says that nothing more comes in.
    fn give(&mut self, last: bool) -> Result<Option<SeriesBatch>, SourceError> {
        if self.change.sorted && !last {
            return Ok(None);
        }
        if self.change.sorted && !self.sorted {
            let (symbols, arena) = (&self.scope.symbols, &self.arena);
            let labels = |e: &Entry| &arena[e.start as usize..e.end as usize];
            self.entries
                .sort_by(|a, b| symbols.compare(labels(a), labels(b)));
            self.sorted = true;
        }
        let limit = match self.change.limit {
            0 => usize::MAX,
            n => n,
        };
        let mut out = Packer::new(&self.scope)?;
        while let Some(entry) = self.entries.get(self.given)
            && self.total < limit
            && out.batch.len() < 256
            && out.bytes < 1 << 20
        {
            let labels = &self.arena[entry.start as usize..entry.end as usize];
            let keeps = |p: &&Pair| self.change.projection.keeps(self.scope.symbols.get(p.0));
            out.batch.labels.extend(labels.iter().filter(keeps));
            let start = out.batch.chunks.len();
            let from = &self.batches[entry.from as usize];
            for chunk in from.batch.chunks_of(entry.row as usize) {
                out.chunk(from, *chunk);
            }
            out.finish_series(start);
            self.given += 1;
            self.total += 1;
        }
        if !self.change.sorted && self.given == self.entries.len() {
            // Nothing has to wait for anything.
            self.entries.clear();
            self.arena.clear();
            self.batches.clear();
            self.held = None;
            self.given = 0;
        }
        out.batch.warnings.append(&mut self.warnings);
        if out.batch.is_empty() && out.batch.warnings.is_empty() {
            if last {
                self.batches.clear();
                self.held = None;
            }
            return Ok(None);
        }
        out.finish().map(Some)
    }
}
