//! The questions of a query to its data, each asked once.
//!
//! Selectors with equal matchers whose time ranges overlap share one `select`: batches are kept
//! (as compressed chunks) until every reader has passed them.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::lock::Mutex;
use futures_util::stream::{self, StreamExt as _};
use model::{BoxStream, Cursor, Rows, Select, SeriesBatch, SourceError, View};

use super::context::{Context, of_source};
use crate::value::QueryError;

/// Batches in a fixed order.
pub(crate) type Batches = BoxStream<'static, Result<Arc<SeriesBatch>, QueryError>>;

/// A `select` and how many selectors read it.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) select: Select,
    pub(crate) readers: usize,
}

/// All questions of a query over one view.
pub(crate) struct Selects {
    view: Arc<dyn View>,
    shared: Vec<Arc<Shared>>,
}

struct Shared {
    question: Question,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: Option<BoxStream<'static, Result<SeriesBatch, QueryError>>>,
    /// Batches some reader still wants, the first of them being number `base`.
    kept: VecDeque<(Arc<SeriesBatch>, usize)>,
    base: usize,
    /// Nothing more comes: the end, or the error every reader gets.
    end: Option<Option<QueryError>>,
}

impl Selects {
    pub(crate) fn new(view: Arc<dyn View>, questions: Vec<Question>) -> Self {
        let shared = questions
            .into_iter()
            .map(|question| {
                Arc::new(Shared {
                    question,
                    state: Mutex::default(),
                })
            })
            .collect();
        Self { view, shared }
    }

    /// The batches of question `id`. Each of its readers calls this once.
    pub(crate) fn read(&self, id: usize, cx: &Arc<Context>) -> Batches {
        let Some(shared) = self.shared.get(id) else {
            return stream::empty().boxed();
        };
        let cx = Arc::clone(cx);
        if shared.question.readers <= 1 {
            let rows = rows(&*self.view, shared.question.select.clone(), &cx);
            return rows.map(|b| b.map(Arc::new)).boxed();
        }
        let (shared, view) = (Arc::clone(shared), Arc::clone(&self.view));
        stream::unfold(0, move |next| {
            let (shared, view, cx) = (Arc::clone(&shared), Arc::clone(&view), Arc::clone(&cx));
            async move {
                let batch = shared.batch(next, &*view, &cx).await?;
                Some((batch, next + 1))
            }
        })
        .boxed()
    }
}

impl Shared {
    /// Batch number `next`, from what is kept or from the source.
    async fn batch(
        &self,
        next: usize,
        view: &dyn View,
        cx: &Arc<Context>,
    ) -> Option<Result<Arc<SeriesBatch>, QueryError>> {
        let mut state = self.state.lock().await;
        if let Some(i) = next.checked_sub(state.base)
            && let Some((batch, left)) = state.kept.get_mut(i)
        {
            let batch = Arc::clone(batch);
            *left -= 1;
            while state.kept.front().is_some_and(|(_, left)| *left == 0) {
                state.kept.pop_front();
                state.base += 1;
            }
            return Some(Ok(batch));
        }
        if let Some(end) = &state.end {
            return end.clone().map(Err);
        }
        let select = self.question.select.clone();
        let batch = state
            .rows
            .get_or_insert_with(|| rows(view, select, cx))
            .next()
            .await;
        match batch {
            Some(Ok(batch)) => {
                let batch = Arc::new(batch);
                let left = self.question.readers - 1;
                state.kept.push_back((Arc::clone(&batch), left));
                Some(Ok(batch))
            }
            Some(Err(e)) => {
                state.end = Some(Some(e.clone()));
                Some(Err(e))
            }
            None => {
                state.end = Some(None);
                state.rows = None;
                None
            }
        }
    }
}

/// The batches of a `select`, wherever they come from.
fn rows(
    view: &dyn View,
    select: Select,
    cx: &Arc<Context>,
) -> BoxStream<'static, Result<SeriesBatch, QueryError>> {
    match view.select(select) {
        Rows::Stream(rows) => rows.map(|b| b.map_err(of_source)).boxed(),
        Rows::Cursors(cursors) => from_cursors(cursors, cx),
    }
}

/// A cursor with fewer series than this in a batch is asked for the next one in the same job: it is
/// likely to be at its end.
const FEW: usize = 256;

struct Puller {
    cursor: Box<dyn Cursor>,
    ahead: Option<SeriesBatch>,
}

impl Puller {
    /// The next batch, and whether there is another.
    fn pull(&mut self) -> Result<Option<(SeriesBatch, bool)>, QueryError> {
        let mut next = || self.cursor.next().map_err(|e: SourceError| of_source(e));
        let batch = match self.ahead.take() {
            Some(batch) => Some(batch),
            None => next()?,
        };
        let Some(batch) = batch else { return Ok(None) };
        if batch.len() >= FEW {
            return Ok(Some((batch, true)));
        }
        self.ahead = next()?;
        Ok(Some((batch, self.ahead.is_some())))
    }
}

type Pulled = Result<(Puller, Option<(SeriesBatch, bool)>), QueryError>;

/// Takes one batch of each cursor in turn; several cursors work at once on the CPU pool. The order
/// depends on the cursors alone.
fn from_cursors(
    cursors: Vec<Box<dyn Cursor>>,
    cx: &Arc<Context>,
) -> BoxStream<'static, Result<SeriesBatch, QueryError>> {
    let cx = Arc::clone(cx);
    let pull = move |mut puller: Puller| {
        let cx = Arc::clone(&cx);
        async move {
            let pulled: Pulled = cx
                .run(move |_| {
                    let batch = puller.pull()?;
                    Ok((puller, batch))
                })
                .await;
            pulled
        }
    };
    let waiting: VecDeque<_> = cursors.into();
    let at_once = waiting.len().min(4);
    // Futures under way, in turn. They are boxed so that the queue has one type.
    let under_way: VecDeque<model::BoxFuture<'static, Pulled>> = VecDeque::new();
    stream::unfold(Some((waiting, under_way)), move |state| {
        let pull = pull.clone();
        async move {
            let (mut waiting, mut under_way) = state?;
            loop {
                while under_way.len() < at_once
                    && let Some(cursor) = waiting.pop_front()
                {
                    let puller = Puller {
                        cursor,
                        ahead: None,
                    };
                    under_way.push_back(Box::pin(start(pull(puller)).await));
                }
                match under_way.pop_front()?.await {
                    Ok((puller, Some((batch, more)))) => {
                        if more {
                            under_way.push_back(Box::pin(start(pull(puller)).await));
                        }
                        return Some((Ok(batch), Some((waiting, under_way))));
                    }
                    Ok((_, None)) => {}
                    Err(e) => return Some((Err(e), None)),
                }
            }
        }
    })
    .boxed()
}

/// Polls `future` once, so that its job is on the pool before anyone waits for it.
async fn start(
    future: impl Future<Output = Pulled> + Send + 'static,
) -> impl Future<Output = Pulled> + Send + 'static {
    let mut future: model::BoxFuture<'static, Pulled> = Box::pin(future);
    let mut early = None;
    std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(v) = future.as_mut().poll(cx) {
            early = Some(v);
        }
        std::task::Poll::Ready(())
    })
    .await;
    async move {
        match early {
            Some(v) => v,
            None => future.await,
        }
    }
}
