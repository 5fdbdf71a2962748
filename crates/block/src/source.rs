//! Blocks as a `model::Source`.
//!
//! A select goes through two steps. First series are *listed*: ids from the postings, entries from
//! the index, equal series of several blocks united (all blocks have their series in the order of
//! labels, so this is a merge), labels removed and entries sorted again where an order asks for it.
//! Then, batch by batch, the chunks of what was listed are *fetched*: a few reads for many chunks,
//! checksums verified, deleted samples taken out.

mod fetch;
mod found;
mod labels;
mod list;
mod order;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use model::source::Capabilities;
use model::{
    Answer, BoxFuture, Cursor, Extent, LabelSelect, Labels, Order, Rows, Scope, Select, Source,
    SourceError, Str, TimeRange, View,
};

use crate::Block;
use list::{Listing, Pinned};

/// One or several blocks, which may overlap. A series that lies in several of them comes once.
#[derive(Clone, Debug)]
pub struct BlockSource {
    blocks: Vec<Arc<Block>>,
    extent: Arc<Extent>,
}

/// No select is divided into more parts than this.
const MAX_PARTS: usize = 8;

impl BlockSource {
    /// A source over `blocks`. Where two have a sample for the same time, the chunk that begins
    /// earlier wins.
    pub fn new(mut blocks: Vec<Arc<Block>>) -> Self {
        blocks.sort_by_key(|b| (b.meta().min_time, b.meta().ulid));
        let parts: Vec<(Labels, TimeRange)> = blocks
            .iter()
            .map(|b| (Labels::default(), b.range()))
            .collect();
        // An extent without parts would mean that nothing is known.
        let nothing = (Labels::default(), TimeRange::EMPTY);
        let extent = Extent {
            parts: match parts.is_empty() {
                true => vec![nothing],
                false => parts,
            },
            capabilities: Capabilities {
                sharding: true,
                without_labels: true,
                projection: true,
            },
        };
        Self {
            blocks,
            extent: Arc::new(extent),
        }
    }

    /// The blocks.
    pub fn blocks(&self) -> &[Arc<Block>] {
        &self.blocks
    }

    fn pin(&self, scope: &Arc<Scope>) -> Arc<Pinned> {
        Arc::new(Pinned::new(self.blocks.clone(), Arc::clone(scope)))
    }

    /// The series that match, by one cursor.
    pub(crate) fn cursor(&self, select: Select, scope: &Arc<Scope>) -> Box<dyn Cursor> {
        let mut cursors = cursors(&self.pin(scope), select, 1);
        match cursors.pop() {
            Some(cursor) => cursor,
            None => Box::new(Nothing),
        }
    }
}

struct Nothing;

impl Cursor for Nothing {
    fn next(&mut self) -> Result<Option<model::SeriesBatch>, SourceError> {
        Ok(None)
    }
}

impl Source for BlockSource {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        Ok(Box::new(BlockView {
            pinned: self.pin(&scope),
        }))
    }

    fn extent(&self) -> Arc<Extent> {
        Arc::clone(&self.extent)
    }
}

/// How many threads may run at once.
pub fn threads() -> usize {
    // Asking the system reads files.
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

struct BlockView {
    pinned: Arc<Pinned>,
}

impl View for BlockView {
    fn select(&self, select: Select) -> Rows {
        Rows::Cursors(cursors(&self.pinned, select, threads().min(MAX_PARTS)))
    }

    fn label_names(
        &self,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        let pinned = Arc::clone(&self.pinned);
        Box::pin(async move { Ok(labels::names(&pinned, &select)?.into()) })
    }

    fn label_values(
        &self,
        name: Str,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        let pinned = Arc::clone(&self.pinned);
        Box::pin(async move { Ok(labels::values(&pinned, &name, &select)?.into()) })
    }
}

/// The cursors of a select: several only where no order is asked for.
fn cursors(pinned: &Arc<Pinned>, select: Select, parts: usize) -> Vec<Box<dyn Cursor>> {
    let parts = match select.order {
        Order::Any => parts,
        Order::ByLabels { .. } => 1,
    };
    let without: &[Str] = match &select.order {
        Order::Any => &[],
        Order::ByLabels { without } => without,
    };
    let sorted = !without.is_empty();
    let shared = Arc::new(list::Shared {
        pinned: Arc::clone(pinned),
        blocks: pinned.overlapping(select.range),
        select,
        parts,
        listing: OnceLock::<Result<Listing, SourceError>>::new(),
    });
    if shared.blocks.is_empty() {
        return vec![Box::new(order::Checked::new(shared))];
    }
    (0..parts)
        .map(|part| -> Box<dyn Cursor> {
            let lister = list::Lister::new(Arc::clone(&shared), part);
            match sorted {
                true => Box::new(order::Sorting::new(lister)),
                false => Box::new(order::Plain::new(lister)),
            }
        })
        .collect()
}
