//! What a query really takes is never much more than its budget allows: every operator's large lists
//! are counted before they are there.
//!
//! The allocations of the process are counted, so the test runs in a process of its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::Budget;
use promql::value::QueryOptions;
use promql::{Engine, EngineOptions, Evaluator, InstantQuery, QueryError, QueryResult, RangeQuery};

use crate::engine::{options, pool};
use crate::large::{END, OPERATORS, STEP, source};

struct Counting {
    live: AtomicUsize,
    peak: AtomicUsize,
}

#[global_allocator]
static COUNTING: Counting = Counting {
    live: AtomicUsize::new(0),
    peak: AtomicUsize::new(0),
};

#[expect(unsafe_code, reason = "it counts, and leaves the rest to the system")]
// SAFETY: all is as in `System`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = self.live.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        self.peak.fetch_max(live, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        self.live.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let live = self.live.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        self.peak.fetch_max(live, Ordering::Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }
}

/// What a query took, and what came of it.
struct Taken {
    result: Result<QueryResult, QueryError>,
    bytes: usize,
}

fn ask(engine: &Engine, expr: &str, once: bool) -> Taken {
    let options = QueryOptions::default();
    let before = COUNTING.live.load(Ordering::Relaxed);
    COUNTING.peak.store(before, Ordering::Relaxed);
    let expr = expr.into();
    let result = futures::executor::block_on(match once {
        true => engine.instant(InstantQuery {
            expr,
            ts: END,
            options,
        }),
        false => engine.range(RangeQuery {
            expr,
            start: 0,
            end: END,
            step: STEP,
            options,
        }),
    });
    let peak = COUNTING.peak.load(Ordering::Relaxed);
    Taken {
        result,
        bytes: peak.saturating_sub(before),
    }
}

const CHILD: &str = "EPIMETHEUS_PROMQL_MEMORY";

/// What is not counted: the batches at hand, plans, stacks of futures, what lists are made of before
/// they grow.
const SLACK: usize = 512 << 10;

#[test]
fn no_operator_takes_more_than_its_budget() {
    if std::env::var_os(CHILD).is_none() {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::no_operator_takes_more_than_its_budget"])
            .args(["--nocapture", "--test-threads=1"])
            .env(CHILD, "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let source = source(2_000);
    let limited = |limit: u64| {
        let memory = Budget::new("all queries", u64::MAX);
        let options = EngineOptions {
            memory: Arc::clone(&memory),
            query_memory: limit,
            ..options()
        };
        let pool = pool(2);
        let source = Arc::new(source.clone());
        let engine = Engine::new(source, options, Arc::clone(&pool));
        // What was begun when a query failed ends soon.
        let idle = move || {
            let mut rounds = 0;
            while memory.used() > 0 && rounds < 1_000 {
                pool.broadcast(|_| ());
                rounds += 1;
            }
            memory.used()
        };
        (engine, idle)
    };
    let (unlimited, idle) = limited(u64::MAX);
    let mut wrong = Vec::new();
    for (expr, once) in OPERATORS {
        // Tables and threads that stay are made by the first.
        drop(ask(&unlimited, expr, *once));
        let Taken { result, bytes } = ask(&unlimited, expr, *once);
        let result = result.unwrap();
        let counted = result.scope.as_ref().unwrap().budget.peak() as usize;
        let answer = result.scope.as_ref().unwrap().budget.used() as usize;
        println!("{expr}: takes {bytes}, counts {counted}, {answer} of it with the answer");
        if bytes > counted + counted / 8 + SLACK {
            wrong.push(format!("{expr} takes {bytes} and counts {counted}"));
        }
        drop(result);
        assert_eq!(idle(), 0, "{expr}: everything was given back");
        for part in [2, 5] {
            let limit = counted / part;
            let (engine, idle) = limited(limit as u64);
            let Taken { result, bytes } = ask(&engine, expr, *once);
            match result {
                Ok(_) => wrong.push(format!("{expr} is answered within {limit} of {counted}")),
                Err(e) => {
                    let said = format!("one query is limited to {limit} bytes");
                    assert!(e.to_string().contains(&said), "{expr}: {e}");
                }
            }
            println!("  within {limit}: {bytes}");
            if bytes > limit + limit / 8 + SLACK {
                wrong.push(format!("{expr} takes {bytes} of {limit}"));
            }
            assert_eq!(idle(), 0, "{expr}: everything was given back");
            assert!(ask(&engine, "vector(1)", true).result.is_ok(), "{expr}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
