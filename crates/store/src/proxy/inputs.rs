//! A child's rows as input of a merge.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures_util::StreamExt as _;
use model::{BoxStream, Cursor, Kind, Rows, SeriesBatch, SourceError, Str};
use tokio::runtime::Handle;

use crate::merge::{Input, Keyed, Merge};
use crate::pack::keyed;

/// Cursors, one after the other: as each is sorted and so are they among each other.
pub(crate) struct Chain {
    cursors: std::vec::IntoIter<Box<dyn Cursor>>,
    current: Option<Box<dyn Cursor>>,
}

impl Chain {
    pub(crate) fn new(cursors: Vec<Box<dyn Cursor>>) -> Self {
        let mut cursors = cursors.into_iter();
        Self {
            current: cursors.next(),
            cursors,
        }
    }

    pub(crate) fn next(&mut self) -> Result<Option<SeriesBatch>, SourceError> {
        while let Some(cursor) = &mut self.current {
            if let Some(batch) = cursor.next()? {
                return Ok(Some(batch));
            }
            self.current = self.cursors.next();
        }
        Ok(None)
    }
}

/// Cursors that are run right where the merge runs.
pub(super) struct CursorsInput {
    name: Str,
    chain: Chain,
}

impl CursorsInput {
    pub(super) fn new(name: Str, cursors: Vec<Box<dyn Cursor>>) -> Self {
        Self {
            name,
            chain: Chain::new(cursors),
        }
    }
}

impl Input for CursorsInput {
    async fn next(&mut self) -> Result<Option<Keyed>, SourceError> {
        Ok(self.chain.next()?.map(keyed))
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// A merge of cursors is a cursor: nothing in it ever waits.
pub(super) struct MergedCursor(pub Merge<CursorsInput>);

impl Cursor for MergedCursor {
    fn next(&mut self) -> Result<Option<SeriesBatch>, SourceError> {
        let next = pin!(self.0.next());
        match next.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(batch) => batch,
            Poll::Pending => Err(SourceError::new(Kind::Internal, "a cursor waited")),
        }
    }
}

/// Rows of either kind; cursors run on the pool for work that takes the processor.
pub(crate) struct RowsInput {
    name: Str,
    rows: Either,
    runtime: Handle,
}

enum Either {
    /// None while it runs elsewhere, and after it has failed.
    Cursors(Option<Chain>),
    Stream(BoxStream<'static, Result<SeriesBatch, SourceError>>),
}

impl RowsInput {
    pub(crate) fn new(name: Str, rows: Rows, runtime: Handle) -> Self {
        Self {
            name,
            rows: match rows {
                Rows::Cursors(cursors) => Either::Cursors(Some(Chain::new(cursors))),
                Rows::Stream(stream) => Either::Stream(stream),
            },
            runtime,
        }
    }
}

impl Input for RowsInput {
    async fn next(&mut self) -> Result<Option<Keyed>, SourceError> {
        let batch = match &mut self.rows {
            Either::Stream(stream) => stream.next().await.transpose()?,
            Either::Cursors(slot) => {
                let Some(mut chain) = slot.take() else {
                    return Ok(None);
                };
                let run = move || {
                    let batch = chain.next();
                    (batch, chain)
                };
                match wire::aside_on(&self.runtime, run).await {
                    Ok((batch, chain)) => {
                        *slot = Some(chain);
                        batch?
                    }
                    Err(e) => return Err(SourceError::new(Kind::Internal, e.to_string())),
                }
            }
        };
        Ok(batch.map(keyed))
    }

    fn name(&self) -> &str {
        &self.name
    }

    async fn close(&mut self) {
        self.rows = Either::Cursors(None);
    }
}
