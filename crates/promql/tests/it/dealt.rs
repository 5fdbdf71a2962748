//! A source whose series several cursors share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use chunk::memory::MemorySource;
use model::source::Ahead;
use model::{
    Answer, BoxFuture, Cursor, Extent, Kind, LabelSelect, Rows, Scope, Select, SeriesBatch, Source,
    SourceError, Str, View,
};

const CURSORS: usize = 6;
const BATCH: usize = 3;

/// What was found in memory, for several cursors in batches of a few series.
pub struct Dealt {
    pub source: MemorySource,
    /// What cursors say that is ahead.
    pub ahead: fn(usize) -> Option<Ahead>,
    /// The number of the cursor that fails after its last batch.
    pub fails: Option<usize>,
    /// Whether cursors take batches, with their numbers, off one list, each as it comes to it; else
    /// each has batches of its own.
    pub in_turn: bool,
}

struct DealtView {
    inner: Box<dyn View>,
    ahead: fn(usize) -> Option<Ahead>,
    fails: Option<usize>,
    in_turn: bool,
}

type Batches = VecDeque<(u64, SeriesBatch)>;

struct DealtCursor {
    batches: Arc<Mutex<Batches>>,
    number: Option<u64>,
    in_turn: bool,
    ahead: Option<Ahead>,
    fails: bool,
}

impl Cursor for DealtCursor {
    fn next(&mut self) -> Result<Option<SeriesBatch>, SourceError> {
        let next = self.batches.lock().expect("nobody panics").pop_front();
        if self.in_turn {
            // Sometimes another is faster.
            static CALLS: AtomicU64 = AtomicU64::new(0);
            let call = CALLS.fetch_add(1, Ordering::Relaxed);
            let pause = call.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62;
            (0..pause).for_each(|_| std::thread::yield_now());
        }
        match next {
            None if self.fails => Err(SourceError::new(Kind::Corrupt, "torn")),
            None => Ok(None),
            Some((number, batch)) => {
                self.number = self.in_turn.then_some(number);
                Ok(Some(batch))
            }
        }
    }

    fn ahead(&mut self) -> Option<Ahead> {
        self.ahead
    }

    fn number(&self) -> Option<u64> {
        self.number
    }
}

impl Source for Dealt {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        Ok(Box::new(DealtView {
            inner: self.source.open(scope)?,
            ahead: self.ahead,
            fails: self.fails,
            in_turn: self.in_turn,
        }))
    }

    fn extent(&self) -> Arc<Extent> {
        self.source.extent()
    }
}

impl View for DealtView {
    fn select(&self, select: Select) -> Rows {
        let Rows::Cursors(mut cursors) = self.inner.select(select) else {
            panic!("memory has cursors");
        };
        let mut lists: Vec<Batches> = (0..CURSORS).map(|_| Batches::new()).collect();
        let mut count = 0;
        while let Some(batch) = cursors[0].next().expect("memory does not fail") {
            for start in (0..batch.len()).step_by(BATCH) {
                let mut part = SeriesBatch {
                    buffers: batch.buffers.clone(),
                    ..SeriesBatch::default()
                };
                for i in start..batch.len().min(start + BATCH) {
                    part.labels.extend_from_slice(batch.labels_of(i));
                    part.chunks.extend_from_slice(batch.chunks_of(i));
                    part.finish_series();
                }
                let list = if self.in_turn { 0 } else { count % CURSORS };
                lists[list].push_back((count as u64, part));
                count += 1;
            }
        }
        let lists: Vec<_> = lists.into_iter().map(|l| Arc::new(Mutex::new(l))).collect();
        let cursor = |i: usize| -> Box<dyn Cursor> {
            Box::new(DealtCursor {
                batches: Arc::clone(&lists[if self.in_turn { 0 } else { i }]),
                number: None,
                in_turn: self.in_turn,
                ahead: (self.ahead)(i),
                fails: self.fails == Some(i),
            })
        };
        Rows::Cursors((0..CURSORS).map(cursor).collect())
    }

    fn label_names(
        &self,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        self.inner.label_names(select)
    }

    fn label_values(
        &self,
        name: Str,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        self.inner.label_values(name, select)
    }
}

/// Series that never end: each batch is all that was found in memory.
pub struct Endless {
    pub source: MemorySource,
    /// How many batches were given.
    pub given: Arc<AtomicU64>,
}

struct EndlessView {
    inner: Arc<dyn View>,
    given: Arc<AtomicU64>,
}

struct EndlessCursor {
    inner: Arc<dyn View>,
    select: Select,
    given: Arc<AtomicU64>,
}

impl Cursor for EndlessCursor {
    fn next(&mut self) -> Result<Option<SeriesBatch>, SourceError> {
        let Rows::Cursors(mut cursors) = self.inner.select(self.select.clone()) else {
            panic!("memory has cursors");
        };
        self.given.fetch_add(1, Ordering::Relaxed);
        cursors[0].next()
    }
}

impl Source for Endless {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        Ok(Box::new(EndlessView {
            inner: Arc::from(self.source.open(scope)?),
            given: Arc::clone(&self.given),
        }))
    }

    fn extent(&self) -> Arc<Extent> {
        self.source.extent()
    }
}

impl View for EndlessView {
    fn select(&self, select: Select) -> Rows {
        let cursor = |_| -> Box<dyn Cursor> {
            Box::new(EndlessCursor {
                inner: Arc::clone(&self.inner),
                select: select.clone(),
                given: Arc::clone(&self.given),
            })
        };
        Rows::Cursors((0..2).map(cursor).collect())
    }

    fn label_names(
        &self,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        self.inner.label_names(select)
    }

    fn label_values(
        &self,
        name: Str,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        self.inner.label_values(name, select)
    }
}
