//! Cursors at work: what is made of their batches, in order.
//!
//! A job takes the next batch of a cursor and makes something of it at once: a batch is never
//! handed from job to job. Each cursor has a *lane*, where what was made waits until it is asked
//! for. A lane goes on by itself on the CPU pool as long as it is not far ahead; little work is done
//! where the query is polled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

use futures_util::stream::StreamExt as _;
use model::{BoxStream, Cursor, SeriesBatch};
use parking_lot::Mutex;

use super::context::{Context, guarded, of_source};
use crate::value::QueryError;

/// Lanes under way at once.
const LANES: usize = 4;
/// A lane rests once so many results wait,
const AHEAD: usize = 4;
/// or after so many batches in a row, so that other queries get their turn.
const ROW: usize = 4;
/// A cursor with fewer series than this in a batch is asked for the next one in the same job: it is
/// likely to be at its end.
const FEW: usize = 256;

/// Makes `job` of every batch of `cursors`, taking one of each cursor in turn. The order depends on
/// the cursors alone. `steps` is how many values a series will have.
pub(crate) fn each<T, J>(
    cursors: Vec<Box<dyn Cursor>>,
    cx: &Arc<Context>,
    steps: usize,
    job: J,
) -> BoxStream<'static, Result<T, QueryError>>
where
    T: Send + 'static,
    J: Fn(&Arc<Context>, SeriesBatch) -> Result<T, QueryError> + Clone + Send + 'static,
{
    let cx = Arc::clone(cx);
    let lanes = cursors.into_iter().map(move |cursor| {
        let worker = Worker {
            cursor,
            read: None,
            steps,
            cx: Arc::clone(&cx),
            job: job.clone(),
        };
        Arc::new(Lane(Mutex::new(State {
            rests: Some(worker),
            made: VecDeque::new(),
            ended: false,
            waker: None,
        })))
    });
    let mut waiting: VecDeque<_> = lanes.collect();
    let mut under_way: VecDeque<Arc<Lane<T, J>>> = VecDeque::new();
    futures_util::stream::poll_fn(move |task| {
        loop {
            while under_way.len() < LANES
                && let Some(lane) = waiting.pop_front()
            {
                lane.start();
                under_way.push_back(lane);
            }
            let Some(lane) = under_way.front() else {
                return Poll::Ready(None);
            };
            match lane.poll(task.waker()) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(made) => {
                    let lane = under_way.pop_front();
                    match made {
                        Some(Ok(made)) => {
                            under_way.extend(lane);
                            return Poll::Ready(Some(Ok(made)));
                        }
                        Some(Err(e)) => {
                            under_way.clear();
                            waiting.clear();
                            return Poll::Ready(Some(Err(e)));
                        }
                        None => {}
                    }
                }
            }
        }
    })
    .boxed()
}

struct Lane<T, J>(Mutex<State<T, J>>);

struct State<T, J> {
    /// The worker, unless it is at work.
    rests: Option<Worker<J>>,
    made: VecDeque<Result<T, QueryError>>,
    ended: bool,
    waker: Option<Waker>,
}

/// All that work needs; dropped before the last result is told.
struct Worker<J> {
    cursor: Box<dyn Cursor>,
    /// A batch that was read already.
    read: Option<SeriesBatch>,
    steps: usize,
    cx: Arc<Context>,
    job: J,
}

impl<J> Worker<J> {
    /// The next batch, and whether there is another.
    fn pull(&mut self) -> Result<Option<(SeriesBatch, bool)>, QueryError> {
        let mut next = || self.cursor.next().map_err(of_source);
        let batch = match self.read.take() {
            Some(batch) => Some(batch),
            None => next()?,
        };
        let Some(batch) = batch else { return Ok(None) };
        if batch.len() >= FEW {
            return Ok(Some((batch, true)));
        }
        self.read = next()?;
        Ok(Some((batch, self.read.is_some())))
    }

    /// Whether the next batch is so little that it is worked on at once.
    fn is_light(&mut self) -> bool {
        self.read.is_none()
            && self.cursor.ahead().is_some_and(|ahead| {
                let rows = ahead.series.saturating_mul(self.steps * 9);
                self.cx.takes(ahead.bytes.saturating_add(rows))
            })
    }
}

impl<T, J> Lane<T, J>
where
    T: Send + 'static,
    J: Fn(&Arc<Context>, SeriesBatch) -> Result<T, QueryError> + Clone + Send + 'static,
{
    /// Has it work, if it rests.
    fn start(self: &Arc<Self>) {
        let rests = self.0.lock().rests.take();
        if let Some(mut worker) = rests {
            match worker.is_light() {
                true => drop(Arc::clone(self).work(worker, ROW)),
                false => Arc::clone(self).spawn(worker, 1),
            }
        }
    }

    /// What was made next.
    fn poll(self: &Arc<Self>, waker: &Waker) -> Poll<Option<Result<T, QueryError>>> {
        loop {
            let mut state = self.0.lock();
            if let Some(made) = state.made.pop_front() {
                drop(state);
                self.start();
                return Poll::Ready(Some(made));
            }
            if state.ended {
                return Poll::Ready(None);
            }
            if state.rests.is_none() {
                match &mut state.waker {
                    Some(old) => old.clone_from(waker),
                    none => *none = Some(waker.clone()),
                }
                return Poll::Pending;
            }
            drop(state);
            self.start();
        }
    }

    fn spawn(self: Arc<Self>, worker: Worker<J>, row: usize) {
        let pool = Arc::clone(&worker.cx.pool);
        pool.spawn_fifo(move || {
            let Some(worker) = Arc::clone(&self).work(worker, row) else {
                return;
            };
            // Nobody may be asking any more.
            if Arc::strong_count(&self) > 1 {
                self.spawn(worker, row + 1);
            }
        });
    }

    /// Works on one batch, the `row`th in a row; gives the worker back if it is to go on.
    fn work(self: Arc<Self>, mut worker: Worker<J>, row: usize) -> Option<Worker<J>> {
        let made = worker.cx.check().and_then(|()| {
            guarded(|| match worker.pull()? {
                Some((batch, more)) => Ok(Some(((worker.job)(&worker.cx, batch)?, more))),
                None => Ok(None),
            })
        });
        let (made, more) = match made {
            Ok(Some((made, more))) => (Some(Ok(made)), more),
            Ok(None) => (None, false),
            Err(e) => (Some(Err(e)), false),
        };
        let mut worker = Some(worker).filter(|_| more);
        let waker = {
            let mut state = self.0.lock();
            state.made.extend(made);
            state.ended = !more;
            if row >= ROW || state.made.len() >= AHEAD {
                state.rests = worker.take();
            }
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        worker
    }
}
