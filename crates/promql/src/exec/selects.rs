//! The questions of a query to its data, each asked once.
//!
//! Selectors with equal matchers whose time ranges overlap share one `select`: batches are kept
//! (as compressed chunks) until every reader has passed them.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::lock::Mutex;
use futures_util::stream::{self, StreamExt as _};
use model::{BoxStream, Rows, Select, SeriesBatch, View};

use super::context::{Context, of_source};
use super::lanes;
use crate::gate::Gate;
use crate::value::QueryError;

/// Batches in a fixed order.
type Batches = BoxStream<'static, Result<Arc<SeriesBatch>, QueryError>>;

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
    /// Lets so many wait for the first of their series; none if all may.
    gate: Option<Arc<Gate>>,
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
    pub(crate) fn new(view: Arc<dyn View>, questions: Vec<Question>, at_once: usize) -> Self {
        let at_once = at_once.max(1);
        let gate = (questions.len() > at_once).then(|| Arc::new(Gate::new(at_once)));
        let shared = questions
            .into_iter()
            .map(|question| {
                Arc::new(Shared {
                    question,
                    state: Mutex::default(),
                })
            })
            .collect();
        Self { view, shared, gate }
    }

    /// What `job` makes of each batch of question `id`, several at once and in order. `steps` is how
    /// many values a series will have. Each reader of the question calls this once.
    pub(crate) fn each<T, J>(
        &self,
        id: usize,
        cx: &Arc<Context>,
        steps: usize,
        job: J,
    ) -> BoxStream<'static, Result<T, QueryError>>
    where
        T: Send + 'static,
        J: Fn(&Arc<Context>, &SeriesBatch) -> Result<T, QueryError> + Clone + Send + 'static,
    {
        let Some(shared) = self.shared.get(id) else {
            return stream::empty().boxed();
        };
        if shared.question.readers > 1 {
            return jobs(self.kept(shared, cx), cx, steps, job);
        }
        let select = shared.question.select.clone();
        let Some(gate) = self.gate.clone() else {
            return of_rows(self.view.select(select), cx, steps, job);
        };
        let (view, cx) = (Arc::clone(&self.view), Arc::clone(cx));
        stream::once(async move {
            // Once its first series are there it may go on: several streams may be read side by side, and
            // none of them must have to wait for the end of another.
            let turn = gate.enter().await;
            let rows = match view.select(select) {
                Rows::Stream(mut rows) => {
                    let first = rows.next().await;
                    drop(turn);
                    Rows::Stream(stream::iter(first).chain(rows).boxed())
                }
                cursors => cursors,
            };
            of_rows(rows, &cx, steps, job)
        })
        .flatten()
        .boxed()
    }

    /// Batches that others read, too.
    fn kept(&self, shared: &Arc<Shared>, cx: &Arc<Context>) -> Batches {
        let (shared, view, cx) = (Arc::clone(shared), Arc::clone(&self.view), Arc::clone(cx));
        let gate = self.gate.clone();
        stream::unfold(0, move |next| {
            let (shared, view, cx) = (Arc::clone(&shared), Arc::clone(&view), Arc::clone(&cx));
            let gate = gate.clone().filter(|_| next == 0);
            async move {
                let _turn = match gate {
                    Some(gate) => Some(gate.enter().await),
                    None => None,
                };
                let batch = shared.batch(next, &*view, &cx).await?;
                Some((batch, next + 1))
            }
        })
        .boxed()
    }
}

/// What `job` makes of what a source gives.
fn of_rows<T, J>(
    rows: Rows,
    cx: &Arc<Context>,
    steps: usize,
    job: J,
) -> BoxStream<'static, Result<T, QueryError>>
where
    T: Send + 'static,
    J: Fn(&Arc<Context>, &SeriesBatch) -> Result<T, QueryError> + Clone + Send + 'static,
{
    match rows {
        Rows::Cursors(cursors) => lanes::each(cursors, cx, steps, move |cx, batch| job(cx, &batch)),
        Rows::Stream(rows) => {
            let batches = rows.map(|b| b.map(Arc::new).map_err(of_source));
            jobs(batches.boxed(), cx, steps, job)
        }
    }
}

/// What `job` makes of each batch, several at once and in order.
fn jobs<T, J>(
    batches: Batches,
    cx: &Arc<Context>,
    steps: usize,
    job: J,
) -> BoxStream<'static, Result<T, QueryError>>
where
    T: Send + 'static,
    J: Fn(&Arc<Context>, &SeriesBatch) -> Result<T, QueryError> + Clone + Send + 'static,
{
    let cx = Arc::clone(cx);
    let credits = cx.credits;
    batches
        .map(move |batch| {
            let (cx, job) = (Arc::clone(&cx), job.clone());
            async move {
                let batch = batch?;
                let bytes = weight(&batch, steps);
                cx.run(bytes, move |cx| job(cx, &batch)).await
            }
        })
        .buffered(credits)
        .boxed()
}

/// Bytes to work on, those of the values included.
fn weight(batch: &SeriesBatch, steps: usize) -> usize {
    let chunks: usize = batch.chunks.iter().map(|c| c.len as usize).sum();
    chunks + batch.len().saturating_mul(128 + steps * 9)
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
        Rows::Cursors(cursors) => lanes::each(cursors, cx, 0, |_, batch| Ok(batch)),
    }
}
