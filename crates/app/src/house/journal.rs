//! What queries ran: those of now in a file that outlives a crash, finished ones in a log.

mod active;
mod counters;
mod line;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use model::Millis;
use parking_lot::Mutex;
use promql::profile::Profiling;
use promql::value::{Origin, QueryOptions};
use promql::{Description, Evaluator, Explain, InstantQuery, QueryError, QueryResult, RangeQuery};
use wire::trace::Ids;

use super::config::Current;
use active::Active;
use counters::Counters;
use line::line;

/// An evaluator whose queries are noted.
pub struct Journal {
    inner: Arc<dyn Evaluator>,
    shared: Arc<Shared>,
}

struct Shared {
    current: Arc<Current>,
    active: Option<Active>,
    log: Mutex<Option<Log>>,
    counters: Counters,
}

/// The file of `query_log_file`, opened anew after every reload, so that it can be rotated.
struct Log {
    path: String,
    since: Millis,
    file: std::fs::File,
}

/// What was asked, and by whom.
struct Asked {
    expr: model::Str,
    origin: Origin,
    start: Millis,
    end: Millis,
    step: Millis,
}

impl Journal {
    /// Notes the queries of `inner`; at most `queries` at a time are noted in `folder`. Says which
    /// did not end in the last run.
    pub fn new(
        inner: Arc<dyn Evaluator>,
        current: Arc<Current>,
        folder: &std::path::Path,
        queries: usize,
        registry: &metrics::Registry,
    ) -> Result<Self, metrics::Error> {
        let active = match Active::open(folder, queries) {
            Ok(active) => Some(active),
            Err(error) => {
                tracing::warn!(%error, "cannot note which queries run");
                None
            }
        };
        let counters = Counters::new(registry, &current)?;
        let shared = Shared {
            current,
            active,
            log: Mutex::default(),
            counters,
        };
        Ok(Self {
            inner,
            shared: Arc::new(shared),
        })
    }

    fn noted(
        &self,
        asked: Asked,
        answer: BoxFuture<'static, Result<QueryResult, QueryError>>,
    ) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        let shared = Arc::clone(&self.shared);
        async move {
            let began = Instant::now();
            let ids = wire::trace::ids(&tracing::Span::current());
            let noted = shared.active.as_ref().and_then(|a| a.note(&asked.expr));
            let answer = answer.await;
            drop(noted);
            shared.counters.ended(&answer);
            shared.log(&asked, began, ids, &answer);
            answer
        }
        .boxed()
    }
}

impl Evaluator for Journal {
    fn instant(
        &self,
        mut query: InstantQuery,
    ) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        self.shared.measure(&mut query.options);
        let asked = Asked {
            expr: query.expr.clone(),
            origin: query.options.origin.clone(),
            start: query.ts,
            end: query.ts,
            step: 0,
        };
        self.noted(asked, self.inner.instant(query))
    }

    fn range(&self, mut query: RangeQuery) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        self.shared.measure(&mut query.options);
        let asked = Asked {
            expr: query.expr.clone(),
            origin: query.options.origin.clone(),
            start: query.start,
            end: query.end,
            step: query.step,
        };
        self.noted(asked, self.inner.range(query))
    }

    fn explain(&self, query: &Explain) -> Option<Result<Description, QueryError>> {
        self.inner.explain(query)
    }
}

impl Shared {
    /// Asks for what the log tells, if there is one.
    fn measure(&self, options: &mut QueryOptions) {
        let loaded = self.current.loaded();
        if !loaded.config.global.query_log_file.is_empty() {
            options.profiling = options.profiling.max(Profiling::Statistics);
        }
    }

    /// Writes one line, if a log is asked for.
    fn log(
        &self,
        asked: &Asked,
        began: Instant,
        ids: Option<Ids>,
        answer: &Result<QueryResult, QueryError>,
    ) {
        let loaded = self.current.loaded();
        let path = loaded.config.global.query_log_file.as_str();
        let mut log = self.log.lock();
        if path.is_empty() {
            *log = None;
            return;
        }
        let line = line(asked, began.elapsed().as_secs_f64(), ids, answer);
        let (since, _) = self.current.last_reload();
        if log
            .as_ref()
            .is_none_or(|l| l.path != path || l.since != since)
        {
            let opened = std::fs::File::options()
                .create(true)
                .append(true)
                .open(path);
            match opened {
                Ok(file) => {
                    *log = Some(Log {
                        path: path.to_owned(),
                        since,
                        file,
                    });
                }
                Err(error) => {
                    self.counters.log_failures.inc();
                    tracing::error!(%error, path, "cannot open query_log_file");
                    *log = None;
                }
            }
        }
        if let Some(log) = log.as_mut()
            && let Err(error) = writeln!(log.file, "{line}")
        {
            self.counters.log_failures.inc();
            tracing::error!(%error, path, "cannot write to query_log_file");
        }
    }
}
