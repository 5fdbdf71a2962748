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

/// Makes `job` of every batch of `cursors`, in the order of the batches' numbers; without numbers,
/// of one batch of each cursor in turn. `steps` is how many values a series will have.
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
    let cursors_in_all = cursors.len() as u64;
    let lanes = (0..).zip(cursors).map(move |(place, cursor)| {
        let worker = Worker {
            cursor,
            next_number: place,
            cursors: cursors_in_all,
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
    let mut under_way: Vec<Arc<Lane<T, J>>> = Vec::new();
    futures_util::stream::poll_fn(move |task| {
        loop {
            while under_way.len() < LANES
                && let Some(lane) = waiting.pop_front()
            {
                lane.start();
                under_way.push(lane);
            }
            // Nothing is told before all lanes have: what is still being made may come first.
            let (mut first, mut pending) = (None, false);
            under_way.retain(|lane| match lane.poll(task.waker()) {
                Poll::Pending => {
                    pending = true;
                    true
                }
                Poll::Ready(Some(number)) => {
                    if first.as_ref().is_none_or(|(least, _)| number < *least) {
                        first = Some((number, Arc::clone(lane)));
                    }
                    true
                }
                Poll::Ready(None) => false,
            });
            if under_way.len() < LANES && !waiting.is_empty() {
                continue;
            }
            if pending {
                return Poll::Pending;
            }
            let made = first.and_then(|(_, lane)| lane.take());
            if matches!(made, Some(Err(_))) {
                under_way.clear();
                waiting.clear();
            }
            return Poll::Ready(made);
        }
    })
    .boxed()
}

struct Lane<T, J>(Mutex<State<T, J>>);

struct State<T, J> {
    /// The worker, unless it is at work.
    rests: Option<Worker<J>>,
    /// By the numbers of their batches.
    made: VecDeque<(u64, Result<T, QueryError>)>,
    ended: bool,
    waker: Option<Waker>,
}

/// All that work needs; dropped before the last result is told.
struct Worker<J> {
    cursor: Box<dyn Cursor>,
    /// The number of the next batch, if the cursor has none, and the least it can have.
    next_number: u64,
    /// How many cursors there are.
    cursors: u64,
    /// A batch that was read already.
    read: Option<(u64, SeriesBatch)>,
    steps: usize,
    cx: Arc<Context>,
    job: J,
}

impl<J> Worker<J> {
    /// The next batch and its number.
    fn read(&mut self) -> Result<Option<(u64, SeriesBatch)>, QueryError> {
        let Some(batch) = self.cursor.next().map_err(of_source)? else {
            return Ok(None);
        };
        let (number, step) = match self.cursor.number() {
            Some(number) => (number, 1),
            None => (self.next_number, self.cursors),
        };
        self.next_number = number + step;
        Ok(Some((number, batch)))
    }

    /// The next batch and its number, and whether there is another.
    fn pull(&mut self) -> Result<Option<(u64, SeriesBatch, bool)>, QueryError> {
        let next = match self.read.take() {
            Some(next) => Some(next),
            None => self.read()?,
        };
        let Some((number, batch)) = next else {
            return Ok(None);
        };
        if batch.len() < FEW {
            self.read = self.read()?;
            return Ok(Some((number, batch, self.read.is_some())));
        }
        Ok(Some((number, batch, true)))
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

    /// The number of what was made next.
    fn poll(self: &Arc<Self>, waker: &Waker) -> Poll<Option<u64>> {
        loop {
            let mut state = self.0.lock();
            if let Some((number, _)) = state.made.front() {
                return Poll::Ready(Some(*number));
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

    /// What was made next.
    fn take(self: &Arc<Self>) -> Option<Result<T, QueryError>> {
        let (_, made) = self.0.lock().made.pop_front()?;
        self.start();
        Some(made)
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
        let mut number = worker.next_number;
        let made = worker.cx.check().and_then(|()| {
            guarded(|| {
                let Some((of_batch, batch, more)) = worker.pull()? else {
                    return Ok(None);
                };
                number = of_batch;
                Ok(Some(((worker.job)(&worker.cx, batch)?, more)))
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
            state.made.extend(made.map(|made| (number, made)));
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
