//! A query that is cancelled soon takes no processor any more, whatever it is at.
//!
//! Not time is looked at, of which a busy machine gives now more and now less, but what the thread of
//! the pool that works on the query has taken of the processor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chunk::memory::MemorySource;
use model::Cancel;
use promql::value::QueryOptions;
use promql::{Engine, Evaluator, InstantQuery, QueryError, QueryResult, RangeQuery};

use crate::engine::{options, pool};
use crate::large::{END, OPERATORS, STEP, source};

/// What a thread has taken of the processor so far; none where the system does not say.
fn taken(task: &str) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{task}/schedstat")).ok()?;
    let nanos = text.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// An engine of one thread, and what that has taken.
struct Worker {
    engine: Engine,
    pool: Arc<rayon::ThreadPool>,
    task: String,
}

impl Worker {
    fn new(source: MemorySource) -> Self {
        let pool = pool(1);
        let own = || std::fs::read_link("/proc/thread-self").unwrap_or_default();
        let task = pool.install(own).to_string_lossy().into_owned();
        Self {
            engine: Engine::new(Arc::new(source), options(), Arc::clone(&pool)),
            pool,
            task,
        }
    }

    fn taken(&self) -> Duration {
        taken(&self.task).unwrap_or_default()
    }

    fn ask(&self, expr: &str, once: bool, cancel: Cancel) -> Result<QueryResult, QueryError> {
        let options = QueryOptions {
            cancel,
            ..QueryOptions::default()
        };
        let expr = expr.into();
        futures::executor::block_on(match once {
            true => self.engine.instant(InstantQuery {
                expr,
                ts: END,
                options,
            }),
            false => self.engine.range(RangeQuery {
                expr,
                start: 0,
                end: END,
                step: STEP,
                options,
            }),
        })
    }

    /// What a whole query takes of the processor.
    fn whole(&self, expr: &str, once: bool) -> Duration {
        let before = self.taken();
        let answer = self.ask(expr, once, Cancel::default());
        drop(answer.expect("the query is sound"));
        self.idle();
        self.taken() - before
    }

    /// Returns once nothing is worked on.
    fn idle(&self) {
        // A job that goes on by itself stands behind those that were there.
        (0..3).for_each(|_| drop(self.pool.broadcast(|_| ())));
    }

    /// What a query takes that is cancelled after it took `after`, how long it takes until it returns,
    /// and until nothing is worked on; none if it was faster.
    fn cancelled(&self, expr: &str, once: bool, after: Duration) -> Option<[Duration; 3]> {
        let cancel = Cancel::default();
        let begun = self.taken();
        let (result, at, then) = std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let result = self.ask(expr, once, cancel.clone());
                (result, Instant::now())
            });
            while self.taken() - begun < after && !asked.is_finished() {
                std::thread::sleep(Duration::from_micros(100));
            }
            cancel.cancel();
            let (at, then) = (self.taken(), Instant::now());
            (asked.join().expect("it does not panic"), at, then)
        });
        self.idle();
        let idle = then.elapsed();
        let more = self.taken() - at;
        let (result, returned) = result;
        match result {
            Ok(_) => None,
            Err(QueryError::Canceled(_)) => Some([more, returned - then, idle]),
            Err(e) => panic!("{expr}: {e}"),
        }
    }
}

/// So much may be taken after the end, what was held being given back: unoptimized, on a slow machine.
const MOST: Duration = Duration::from_millis(50);
/// How often it is tried before it is too much.
const TIMES: usize = 4;

#[test]
fn no_operator_goes_on_once_it_is_cancelled() {
    let worker = Worker::new(source(8_000));
    if taken(&worker.task).is_none() {
        println!("SKIPPED no_operator_goes_on_once_it_is_cancelled: no /proc/*/schedstat");
        return;
    }
    let mut wrong = Vec::new();
    for (expr, once) in OPERATORS {
        let whole = worker.whole(expr, *once);
        let mut told = Vec::new();
        for part in [0.3, 0.7, 0.9] {
            // The system counts what it takes itself, now and then for something else: the least of
            // some times is the query's.
            let more = |_| worker.cancelled(expr, *once, whole.mul_f64(part));
            let mut times = (0..TIMES).filter_map(more).map(|[more, ..]| more);
            let Some(first) = times.next() else {
                continue;
            };
            let more = match first > MOST {
                true => times.fold(first, Duration::min),
                false => first,
            };
            told.push(more);
            if more > MOST {
                wrong.push(format!(
                    "{expr} takes {more:?} more after {part} of {whole:?}"
                ));
            }
        }
        println!("{expr}: {whole:?}, and cancelled {told:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// By the clock, over many series: `cargo test --release -p promql --test it -- --ignored --nocapture
/// cancelled`.
#[test]
#[ignore = "measures times"]
fn how_long_cancelling_takes() {
    let series = std::env::var("EPIMETHEUS_SERIES").map_or(50_000, |n| n.parse().unwrap());
    let worker = Worker::new(source(series));
    let mut worst = [Duration::ZERO; 3];
    for (expr, once) in OPERATORS {
        let whole = worker.whole(expr, *once);
        let mut of_all = [Duration::ZERO; 3];
        for part in [0.1, 0.3, 0.5, 0.7, 0.9, 0.97] {
            if let Some(took) = worker.cancelled(expr, *once, whole.mul_f64(part)) {
                for (most, took) in of_all.iter_mut().zip(took) {
                    *most = (*most).max(took);
                }
            }
        }
        let [more, returns, idle] = of_all;
        println!(
            "{expr}: {whole:?}; takes {more:?} more, returns in {returns:?}, idle in {idle:?}"
        );
        worst = std::array::from_fn(|i| worst[i].max(of_all[i]));
    }
    println!("at most: {worst:?}");
}
